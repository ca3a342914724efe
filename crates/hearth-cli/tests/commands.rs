//! What the commands print when all is well.

mod support;

use std::process::Stdio;

use serde_json::Value;
use support::{TempFile, hearth, run_with_input, stdout_of, tiny_model};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn spark_answers_in_a_pipe_and_the_same_seed_gives_the_same_words() {
    let ask = || run_with_input(&mut hearth([""; 0]), b"Hello, who are you?\n");
    let answer = ask();
    assert!(
        answer.status.success(),
        "{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(
        text.split_whitespace().count() >= 3 && text.ends_with('\n'),
        "{text:?}"
    );
    let seeded = || {
        stdout_of(&mut hearth([
            "run",
            "spark",
            "Tell me something.",
            "--seed",
            "7",
            "--max-tokens",
            "24",
        ]))
    };
    assert_eq!(seeded(), seeded());
}

#[test]
fn argument_and_input_are_one_prompt() {
    let file = TempFile::new("both.gguf", &tiny_model().build());
    let flags = ["--temperature", "0", "--max-tokens", "8"];
    let both = run_with_input(hearth(["run", file.path(), "ask"]).args(flags), b"text\n");
    let joined = stdout_of(hearth(["run", file.path(), "ask\n\ntext"]).args(flags));
    assert_eq!(String::from_utf8(both.stdout).unwrap(), joined);
}

#[test]
fn a_model_without_a_template_completes_and_says_so() {
    let mut model = tiny_model();
    model
        .keys
        .retain(|(key, _)| key != "tokenizer.chat_template");
    let file = TempFile::new("plain.gguf", &model.build());
    let flags = ["the fire", "--temperature", "0", "--max-tokens", "8"];
    let output = hearth(["run", file.path()]).args(flags).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no chat template"));
    let raw = hearth(["run", file.path(), "--raw"])
        .args(flags)
        .output()
        .unwrap();
    assert!(
        raw.stderr.is_empty(),
        "asked for, so not worth a note: {}",
        String::from_utf8_lossy(&raw.stderr)
    );
    assert_eq!(output.stdout, raw.stdout);
}

#[test]
fn statistics_go_to_standard_error() {
    let output = hearth(["run", "spark", "Hello", "--stats", "--max-tokens", "4"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    for word in ["prompt", "answer", "tokens/s", "seed"] {
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn guesses_change_no_byte_of_an_answer() {
    let prompt = "The fox sees the fire. The dog sees the fire. The fox sees the fire. The dog";
    let answer = |flags: &[&str]| {
        let run = [
            "run",
            "spark",
            prompt,
            "--raw",
            "--seed",
            "3",
            "--max-tokens",
            "60",
        ];
        let output = hearth(run).args(["--stats"]).args(flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (
            output.stdout,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (plain, stats) = answer(&["--speculate", "off"]);
    assert!(!plain.is_empty() && !stats.contains("guesses"), "{stats}");
    assert_eq!(answer(&[]).0, plain);
    assert_eq!(answer(&["--draft", "spark"]).0, plain);
}

#[test]
fn logits_are_the_same_bytes_however_they_are_computed() {
    let file = TempFile::new("logits.gguf", &tiny_model().build());
    let tokens: Vec<String> = (0..70).map(|i| (3 + i * 7 % 250).to_string()).collect();
    let tokens = tokens.join(",");
    for kv in ["f16", "f32", "q8_0"] {
        let all = |level: &str, flags: &[&str]| {
            let mut command = hearth([
                "logits",
                file.path(),
                "--tokens",
                &tokens,
                "--all",
                "--json",
                "--kv",
                kv,
            ]);
            stdout_of(command.args(flags).env("HEARTH_CPU", level))
        };
        let expected = all("scalar", &["-t", "1"]);
        for level in hearth_kernels::Level::available() {
            for flags in [
                &["-t", "1"][..],
                &["-t", "3"],
                &["-t", "2", "--chunk", "1"],
                &["-t", "2", "--chunk", "7"],
            ] {
                assert_eq!(
                    all(level.name(), flags),
                    expected,
                    "kv {kv}, level {level}, {flags:?}"
                );
            }
        }
        let rows = json(&expected)["logits"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 70);
        let last = json(&stdout_of(&mut hearth([
            "logits",
            file.path(),
            "--tokens",
            &tokens,
            "--json",
            "--kv",
            kv,
        ])));
        assert_eq!(last["logits"], rows[69]);
    }
}

#[test]
fn tokens_go_there_and_back() {
    let text = "the fire is warm, caf\u{e9} \u{1f525}";
    let tokenized = run_with_input(
        &mut hearth(["tokenize", "spark", "--json", "--no-special"]),
        text.as_bytes(),
    );
    let tokenized = json(&String::from_utf8(tokenized.stdout).unwrap());
    let ids: Vec<String> = tokenized["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(tokenized["pieces"].as_array().unwrap().len(), ids.len());
    let back = stdout_of(&mut hearth([
        "detokenize",
        "spark",
        "--json",
        "--tokens",
        &ids.join(","),
    ]));
    assert_eq!(json(&back)["text"].as_str().unwrap().trim_start(), text);
}

#[test]
fn templates_render_from_a_file_and_from_a_model() {
    let context =
        br#"{"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": true}"#;
    let model = TempFile::new("template.gguf", &tiny_model().build());
    let file = TempFile::new("template.jinja", support::TEMPLATE.as_bytes());
    for source in [
        vec!["template", model.path()],
        vec!["template", "--file", file.path()],
    ] {
        let plain = run_with_input(&mut hearth(&source), context);
        assert_eq!(
            String::from_utf8(plain.stdout).unwrap(),
            "[user]hi\n[assistant]"
        );
        let output = run_with_input(hearth(&source).arg("--json"), context);
        assert_eq!(
            json(&String::from_utf8(output.stdout).unwrap())["text"],
            "[user]hi\n[assistant]"
        );
    }
}

#[test]
fn the_time_of_a_template_can_be_given() {
    let file = TempFile::new("now.jinja", b"{{ strftime_now('%Y-%m-%d') }}");
    let output = run_with_input(
        &mut hearth(["template", "--file", file.path(), "--json"]),
        br#"{"context": {"messages": []}, "now": "2026-01-15T09:30:00"}"#,
    );
    assert_eq!(
        json(&String::from_utf8(output.stdout).unwrap())["text"],
        "2026-01-15"
    );
}

#[test]
fn a_template_that_raises_is_an_answer_for_a_program_and_an_error_for_a_person() {
    let file = TempFile::new("raise.jinja", b"{{ raise_exception('no system role') }}");
    let output = run_with_input(
        &mut hearth(["template", "--file", file.path(), "--json"]),
        b"{}",
    );
    assert!(output.status.success());
    assert_eq!(
        json(&String::from_utf8(output.stdout).unwrap())["error"],
        "no system role"
    );
    let output = run_with_input(&mut hearth(["template", "--file", file.path()]), b"{}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn show_for_people_and_for_programs() {
    let mut model = tiny_model();
    model.keys.push((
        "general.name".into(),
        Some(hearth_gguf::Value::String("evil\x1b[2Jname".into())),
    ));
    let file = TempFile::new("show.gguf", &model.build());
    let text = stdout_of(&mut hearth(["show", file.path(), "--tensors", "--plan"]));
    for part in [
        "general.architecture",
        "blk.0.attn_q.weight",
        "runs",
        "plan",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(
        !text.contains('\x1b'),
        "a control sequence of the file reached the output"
    );
    let object = json(&stdout_of(&mut hearth([
        "show",
        file.path(),
        "--json",
        "--plan",
    ])));
    assert!(object["runs"]["n_ctx"].is_u64(), "{}", object["runs"]);
    assert_eq!(
        object["n_tensors"],
        object["tensors"].as_array().unwrap().len()
    );
    assert_eq!(object["metadata"]["general.architecture"], "llama");
    assert!(
        object["metadata"]["tokenizer.ggml.tokens"]
            .as_array()
            .unwrap()
            .len()
            > 256
    );
    assert!(object["tensors"][0]["bytes"].as_u64().unwrap() > 0 && object["plan"].is_string());
}

#[test]
fn completions_and_the_manual_page_know_the_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            stdout_of(&mut hearth(["completions", shell])).contains("temperature"),
            "{shell}"
        );
    }
    let page = stdout_of(&mut hearth(["man"]));
    assert!(
        page.contains("HEARTH RUN") && page.contains("temperature"),
        "{page}"
    );
    assert!(stdout_of(&mut hearth(["--version"])).contains(env!("CARGO_PKG_VERSION")));
    assert!(stdout_of(&mut hearth(["run", "--help"])).contains("--temperature"));
}

/// The reader is gone before the first byte, on either stream: success without a word.
#[test]
fn a_closed_pipe_is_silent_success() {
    for arguments in [
        &["show", "spark", "--tensors"][..],
        &["--help"],
        &["man"],
        &["run", "spark", "Hello"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = hearth(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            output.stderr.is_empty(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = hearth(["run", "spark", "Hello", "--stats", "--max-tokens", "4"])
        .stdout(Stdio::null())
        .stderr(writer)
        .status();
    assert_eq!(status.unwrap().code(), Some(0));
}

/// Ctrl-C while text comes: what there is stays, the line ends, exit code 130.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_cleanly() {
    use std::io::Read;
    let flags = [
        "--seed",
        "1",
        "--logit-bias",
        "2=-inf",
        "--temperature",
        "3",
    ];
    let file = TempFile::new("endless.gguf", &{
        let mut model = tiny_model();
        model.n_ctx_train = 100_000;
        model.build()
    });
    let mut command = hearth(["run", file.path(), "the fire", "--raw"]);
    let mut child = command
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; 16];
    stdout.read_exact(&mut text).unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    stdout.read_to_end(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text.ends_with(b"\n") && text.len() > 16);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The context is the model's own, or what memory holds of it, and then it is said; a longer one is taken as asked for.
#[cfg(target_os = "linux")]
#[test]
fn a_context_beyond_memory_is_cut_and_said() {
    let mut model = tiny_model();
    model.n_ctx_train = 1 << 27;
    let file = TempFile::new("endless.gguf", &model.build());
    let flags = ["the fire", "--kv", "f32", "--max-tokens", "2", "-t", "1"];
    // A position is two layers of four heads, 20 keys and 20 values each.
    let pool_kilobytes: u64 = 2 * 4 * 40 * 4 * (1 << 17);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    let output = hearth(["run", file.path()]).args(flags).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let is_said = stderr.contains("note: the model's own context of 134217728 tokens needs more");
    if total < pool_kilobytes {
        assert!(is_said && stderr.contains("--context"), "{stderr}");
    }
    let output = hearth(["run", file.path(), "--context", "1048576"])
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("own context"));
    // Commands with a known number of tokens never make room for more.
    stdout_of(&mut hearth(["logits", file.path(), "--tokens", "5,6,7"]));
    stdout_of(&mut hearth([
        "bench",
        file.path(),
        "-p",
        "8",
        "-n",
        "2",
        "--reps",
        "1",
    ]));
}
