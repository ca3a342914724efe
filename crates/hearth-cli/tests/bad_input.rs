//! Every mistake a user can make ends the same way: one `error:` line that names it, one `hint:` line that helps, exit
//! code 2, and nothing on standard output.

mod support;

use std::process::{Command, Output};

use hearth_gguf::Value;
use support::{TempFile, hearth, refused, run_with_input, tiny_model, with_integer_weights};

fn output(command: &mut Command) -> Output {
    command.output().expect("hearth runs")
}

/// Runs `hearth run FILE hello` on a file with this content.
fn run_file(name: &str, bytes: &[u8]) -> Output {
    let file = TempFile::new(name, bytes);
    output(&mut hearth(["run", file.path(), "hello"]))
}

#[test]
fn missing_file() {
    refused(
        &output(&mut hearth(["run", "/nowhere/at/all.gguf", "hello"])),
        "'/nowhere/at/all.gguf'",
        "check the path",
    );
}

#[test]
fn a_draft_that_cannot_guess() {
    let file = TempFile::new("draft.gguf", &tiny_model().build());
    let run = ["run", "spark", "hello", "--draft"];
    refused(
        &output(hearth(run).arg(file.path())),
        "the draft model's vocabulary has",
        "the same family",
    );
    refused(
        &output(hearth(run).args(["spark", "--speculate", "off"])),
        "--draft",
        "leave one of them out",
    );
}

#[test]
fn a_misspelt_file_shows_its_neighbours() {
    let file = TempFile::new("neighbour.gguf", b"GGUF");
    let missing = format!("{}.not.gguf", file.path());
    let folder = std::env::temp_dir();
    let output = output(hearth(["run", &missing, "hello"]).current_dir(folder));
    refused(&output, "there is no file", ".gguf");
}

#[test]
fn directory() {
    let folder = std::env::temp_dir();
    refused(
        &output(
            hearth(["run"])
                .arg(format!("{}/", folder.display()))
                .arg("hello"),
        ),
        "is a directory",
        "GGUF file",
    );
}

#[test]
fn cut_file() {
    let whole = tiny_model().build();
    refused(
        &run_file("cut-head.gguf", &whole[..200]),
        "ends too soon",
        "",
    );
    refused(
        &run_file("cut-data.gguf", &whole[..whole.len() - 64]),
        "tensor",
        "",
    );
}

#[test]
fn text_file() {
    refused(
        &run_file("text.gguf", b"Dear diary, today I was a text file.\n"),
        "not a GGUF file",
        "",
    );
}

#[test]
fn empty_file() {
    refused(&run_file("empty.gguf", b""), "empty", "");
}

#[test]
fn unsupported_family() {
    let mut model = tiny_model();
    model.keys.push((
        "general.architecture".into(),
        Some(Value::String("mamba2".into())),
    ));
    refused(
        &run_file("family.gguf", &model.build()),
        "mamba2",
        "hearth show",
    );
}

#[test]
fn unsupported_tensor_type() {
    let file = with_integer_weights(tiny_model().build());
    refused(
        &run_file("type.gguf", &file),
        "type I32, which is not supported",
        "another type",
    );
}

#[test]
fn prompt_longer_than_the_context_names_both_numbers() {
    let output = output(&mut hearth([
        "run",
        "spark",
        "one two three four five six",
        "--context",
        "8",
    ]));
    refused(&output, "the context holds 8", "--context");
    let file = TempFile::new("context.gguf", &tiny_model().build());
    let tokens = ["3"; 129].join(",");
    let output = self::output(&mut hearth(["logits", file.path(), "--tokens", &tokens]));
    refused(
        &output,
        "129 tokens do not fit the context of 128",
        "--tokens",
    );
}

#[test]
fn unknown_flag_and_command() {
    refused(
        &output(&mut hearth(["run", "spark", "hi", "--tempratur", "1"])),
        "'--tempratur'",
        "'--temperature'",
    );
    refused(&output(&mut hearth(["bake", "spark"])), "'bake'", "--help");
}

#[test]
fn unknown_level() {
    let output = output(hearth(["run", "spark", "hi"]).env("HEARTH_CPU", "sse9"));
    refused(
        &output,
        "HEARTH_CPU has the unknown value 'sse9'",
        "scalar, portable, avx2, avxvnni, avx512",
    );
}

#[test]
fn a_level_this_machine_lacks() {
    let lacking = hearth_kernels::Level::ALL
        .into_iter()
        .find(|level| !level.is_available());
    let Some(level) = lacking else {
        println!("skipped: this machine has every level, so none can be refused");
        return;
    };
    let output = output(hearth(["run", "spark", "hi"]).env("HEARTH_CPU", level.name()));
    refused(&output, "this machine lacks", "unset HEARTH_CPU");
}

#[test]
fn bad_numbers() {
    let cases = [
        (["--threads", "0"], "--threads"),
        (["--temperature", "-1"], "--temperature"),
        (["--top-p", "1.5"], "between 0 and 1"),
        (["--top-k", "many"], "--top-k"),
        (["--logit-bias", "5"], "ID=BIAS"),
        (["--logit-bias", "99999999=1"], "99999999"),
        (["--seed", "x"], "--seed"),
        (["--kv", "q4"], "'q4'"),
        (["--stop", ""], "stop"),
        (["--chunk", "0"], "--chunk"),
        (["--context", "99999999999"], "99999999999"),
    ];
    for (flags, error) in cases {
        refused(
            &output(hearth(["run", "spark", "hi"]).args(flags)),
            error,
            "",
        );
    }
}

#[test]
fn empty_prompt() {
    refused(
        &output(&mut hearth(["run", "spark", ""])),
        "the prompt is empty",
        "standard input",
    );
    refused(
        &run_with_input(&mut hearth(["run", "spark"]), b"\n"),
        "the prompt is empty",
        "standard input",
    );
    refused(
        &output(&mut hearth([""; 0])),
        "the prompt is empty",
        "standard input",
    );
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let word = OsStr::from_bytes(b"caf\xe9");
    refused(
        &output(hearth(["run", "spark"]).arg(word)),
        "UTF-8",
        "--help",
    );
    // A path may be any bytes; this one only does not exist.
    refused(
        &output(
            hearth(["run"])
                .arg(OsStr::from_bytes(b"./caf\xe9.gguf"))
                .arg("hi"),
        ),
        "there is no file",
        "",
    );
}

#[test]
fn input_that_is_not_utf8() {
    refused(
        &run_with_input(&mut hearth(["run", "spark"]), b"caf\xe9"),
        "not UTF-8 text: byte 3",
        "iconv",
    );
}

#[test]
fn names_of_models_that_the_store_does_not_have() {
    refused(
        &output(&mut hearth(["run", "qwen3", "hi"])),
        "no model is called 'qwen3' in the store",
        "path of a GGUF file",
    );
}

#[test]
fn tokens_outside_the_vocabulary() {
    refused(
        &output(&mut hearth(["logits", "spark", "--tokens", "4000000000"])),
        "4000000000",
        "hearth tokenize",
    );
    refused(
        &output(&mut hearth([
            "detokenize",
            "spark",
            "--tokens",
            "4000000000",
        ])),
        "4000000000",
        "hearth tokenize",
    );
    refused(
        &output(&mut hearth(["logits", "spark", "--tokens", "1,,2"])),
        "--tokens",
        "",
    );
}

#[test]
fn templates() {
    refused(
        &output(&mut hearth(["template", "--file", "/nowhere.jinja"])),
        "/nowhere.jinja",
        "--file",
    );
    let broken = TempFile::new("broken.jinja", b"{% for %}");
    refused(
        &run_with_input(&mut hearth(["template", "--file", broken.path()]), b"{}"),
        "does not parse",
        "Jinja",
    );
    let good = TempFile::new("good.jinja", b"{{ x }}");
    refused(
        &run_with_input(
            &mut hearth(["template", "--file", good.path()]),
            b"not json",
        ),
        "not JSON",
        "messages",
    );
}

#[test]
fn the_system_flag_needs_a_template() {
    let mut model = tiny_model();
    model
        .keys
        .retain(|(key, _)| key != "tokenizer.chat_template");
    let file = TempFile::new("no-template.gguf", &model.build());
    refused(
        &output(&mut hearth([
            "run",
            file.path(),
            "hi",
            "--system",
            "be kind",
        ])),
        "no chat template",
        "--system",
    );
}

#[test]
fn verbose_shows_the_causes_between_the_two_lines() {
    let output = output(&mut hearth([
        "--verbose",
        "run",
        "/nowhere/at/all.gguf",
        "hello",
    ]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(
        lines[0].starts_with("error: ") && lines[1].starts_with("  cause: "),
        "{stderr}"
    );
    assert!(
        lines.last().is_some_and(|line| line.starts_with("hint: ")),
        "{stderr}"
    );
}

#[test]
fn a_prompt_far_beyond_the_context_is_refused_before_its_tokens_are_made() {
    let mut command = hearth(["run", "spark"]);
    let output = run_with_input(&mut command, &[b'x'; 1 << 20]);
    refused(&output, "bytes is at least", "larger --context");
}

#[test]
fn input_without_an_end() {
    let zeros = std::fs::File::open("/dev/zero");
    let Ok(zeros) = zeros else {
        println!("skipped: this system has no /dev/zero");
        return;
    };
    let output = output(hearth(["tokenize", "spark"]).stdin(zeros));
    refused(&output, "more than 16777216 bytes", "in parts");
}

#[test]
fn a_prompt_that_begins_with_a_dash_is_told_the_way() {
    refused(
        &output(&mut hearth(["run", "spark", "--not-a-flag-but-a-prompt"])),
        "unexpected argument",
        "after --",
    );
}
