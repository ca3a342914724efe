//! `hearth bench`: what it measures, and what it refuses.

mod support;

use serde_json::Value;
use support::{TempFile, hearth, refused, stdout_of, tiny_model};

const QUICK: [&str; 8] = ["-p", "16", "-n", "4", "-t", "1", "--reps", "2"];

fn report(arguments: &[&str]) -> Value {
    let text = stdout_of(hearth(["bench"]).args(arguments).arg("--json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn is_speed(speed: &Value, tokens: u64) -> bool {
    let at = |key: &str| speed[key].as_f64().unwrap_or(0.0);
    speed["tokens"] == tokens
        && at("tok_s_min") > 0.0
        && at("tok_s_min") <= at("tok_s")
        && at("tok_s") <= at("tok_s_max")
}

#[test]
fn both_speeds_and_the_limits() {
    let report = report(&[&["spark"], &QUICK[..]].concat());
    assert!(
        is_speed(&report["pp"], 16) && is_speed(&report["tg"], 4),
        "{report}"
    );
    for key in ["load_ms", "first_token_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!(
        (&report["threads"], &report["depth"]),
        (&1.into(), &0.into())
    );
    assert!(
        report["limits"]["float_g_s"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert_eq!(report["batch"].as_array().map(Vec::len), Some(0));
    let table = stdout_of(hearth(["bench", "spark"]).args(QUICK));
    for part in ["read", "write", "tokens/s", "% of limit", "limits here:"] {
        assert!(table.contains(part), "no {part} in:\n{table}");
    }
}

#[test]
fn a_part_of_no_tokens_is_left_out() {
    let only_read = report(&["spark", "-p", "8", "-n", "0", "--reps", "1", "-t", "1"]);
    assert!(
        is_speed(&only_read["pp"], 8) && only_read["tg"].is_null(),
        "{only_read}"
    );
    let nothing = report(&["spark", "-p", "0", "-n", "0", "--reps", "1", "-t", "1"]);
    assert!(
        nothing["pp"].is_null() && nothing["tg"].is_null(),
        "{nothing}"
    );
}

#[test]
fn depth_counts_against_the_context_but_not_as_tokens() {
    let file = TempFile::new("bench-depth.gguf", &tiny_model().build());
    let at_depth = report(&[&[file.path(), "-d", "100"], &QUICK[..]].concat());
    assert!(
        is_speed(&at_depth["pp"], 16) && is_speed(&at_depth["tg"], 4),
        "{at_depth}"
    );
    assert_eq!(at_depth["depth"], 100);
    let output = hearth(["bench", file.path(), "-d", "113", "-p", "16", "-n", "0"])
        .output()
        .unwrap();
    refused(
        &output,
        "129 tokens do not fit the model's context of 128",
        "-d",
    );
}

#[test]
fn batches_read_and_write_together() {
    let file = TempFile::new("bench-batch.gguf", &tiny_model().build());
    let flags = [
        "--batch", "1,3", "--ragged", "--beside", "5", "--chunk", "7",
    ];
    let both = report(&[&[file.path()], &QUICK[..], &flags].concat());
    assert!(both["pp"].is_null() && both["tg"].is_null(), "{both}");
    for (batch, n) in both["batch"].as_array().unwrap().iter().zip([1, 3]) {
        assert_eq!(
            (&batch["sequences"], &batch["beside"]),
            (&n.into(), &5.into())
        );
        assert!(
            is_speed(&batch["pp"], 16 * n) && is_speed(&batch["tg"], 4 * n),
            "{batch}"
        );
        assert!(is_speed(&batch["beside_pp"], 4 * 5), "{batch}");
    }
    let table = stdout_of(hearth(["bench", file.path()]).args(QUICK).args(flags));
    for part in [
        "3 ragged sequences read",
        "3 ragged sequences write",
        "a prompt beside",
    ] {
        assert!(table.contains(part), "no {part} in:\n{table}");
    }
}

#[test]
fn operations_share_the_time() {
    let report = report(&[&["spark", "--ops"], &QUICK[..]].concat());
    for part in ["pp", "tg"] {
        let ops = report[part]["ops"].as_array().unwrap();
        let names: Vec<&str> = ops.iter().map(|op| op["op"].as_str().unwrap()).collect();
        assert!(
            names.contains(&"attend") && names.contains(&"matmul ffn_gate ffn_up"),
            "{names:?}"
        );
        let sum: f64 = ops.iter().map(|op| op["share"].as_f64().unwrap()).sum();
        assert!(sum > 0.0 && sum <= 1.0, "{sum}");
        let times: Vec<f64> = ops.iter().map(|op| op["ms"].as_f64().unwrap()).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    }
    let table = stdout_of(hearth(["bench", "spark", "--ops"]).args(QUICK));
    assert!(
        table.contains("% of time") && table.contains("matmul"),
        "{table}"
    );
}

#[test]
fn ratios_to_an_earlier_run() {
    let earlier = report(&[&["spark"], &QUICK[..]].concat());
    let mut doubled = earlier.clone();
    doubled["level"] = "another".into();
    doubled["tg"]["tok_s"] = 1e-3.into();
    let file = TempFile::new("bench-earlier.json", doubled.to_string().as_bytes());
    let compared = report(&[&["spark", "--compare", file.path()], &QUICK[..]].concat());
    let ratio = compared["compare"]["tg"].as_f64().unwrap();
    let expected = compared["tg"]["tok_s"].as_f64().unwrap() / 1e-3;
    assert!((ratio / expected - 1.0).abs() < 1e-9, "{ratio} {expected}");
    let note = compared["compare"]["notes"][0].as_str().unwrap();
    assert!(note.starts_with("level was another, is "), "{note}");
    let table = stdout_of(hearth(["bench", "spark", "--compare", file.path()]).args(QUICK));
    assert!(
        table.contains("ratio") && table.contains("level was another"),
        "{table}"
    );
}

#[test]
fn figures_of_another_model_or_other_work_are_refused() {
    let earlier = report(&[&["spark"], &QUICK[..]].concat());
    let file = TempFile::new("bench-refused.json", earlier.to_string().as_bytes());
    let model = TempFile::new("bench-other.gguf", &tiny_model().build());
    let compare = |arguments: &[&str]| {
        let mut command = hearth(["bench"]);
        command
            .args(arguments)
            .args(["--compare", file.path()])
            .output()
            .unwrap()
    };
    refused(&compare(&[model.path()]), "'tiny llama' of", "same file");
    refused(
        &compare(&["spark", "-p", "16", "-n", "5"]),
        "16 read and 4 written at depth 0, this is 16 read and 5 written at depth 0",
        "-p, -n, -d",
    );
    refused(
        &compare(&["spark", "--batch", "2"]),
        "by 2 sequences",
        "--batch",
    );
}

#[test]
fn a_file_that_holds_no_figures_is_refused() {
    let compare = |path: &str| {
        hearth(["bench", "spark", "--compare", path])
            .output()
            .unwrap()
    };
    refused(
        &compare("/nowhere/at/all.json"),
        "'/nowhere/at/all.json'",
        "--json",
    );
    for (name, content) in [
        ("text", "fast"),
        ("list", "[1]"),
        ("partial", "{\"model\":\"x\"}"),
    ] {
        let file = TempFile::new(&format!("bench-{name}.json"), content.as_bytes());
        refused(
            &compare(file.path()),
            "holds no figures of 'hearth bench'",
            "--json",
        );
    }
    let file = TempFile::new("bench-long.json", &vec![b' '; (1 << 20) + 1]);
    refused(&compare(file.path()), "more than 1048576 bytes", "--json");
}

#[test]
fn flags_out_of_range_are_refused() {
    let cases: [(&[&str], &str); 9] = [
        (&["-p", "1048577"], "more than 1048576 tokens"),
        (&["-d", "-1"], "--depth"),
        (&["-n", "some"], "not a whole number"),
        (&["--batch", "0"], "--batch"),
        (&["--batch", "1025"], "more than 1024 sequences"),
        (&["--batch", "2,x"], "'x'"),
        (&["--reps", "0"], "--reps"),
        (&["--ragged"], "--batch"),
        (&["--beside", "3"], "--batch"),
    ];
    for (flags, error) in cases {
        refused(
            &hearth(["bench", "spark"]).args(flags).output().unwrap(),
            error,
            "",
        );
    }
    let file = TempFile::new("bench-room.gguf", &tiny_model().build());
    let cases: [(&[&str], &str); 3] = [
        (&["-p", "129"], "129 tokens do not fit"),
        (
            &["--batch", "2", "-p", "100", "-n", "29"],
            "129 tokens do not fit",
        ),
        (
            &["--batch", "2", "-p", "80", "-n", "9", "--ragged"],
            "129 tokens do not fit",
        ),
    ];
    for (flags, error) in cases {
        refused(
            &hearth(["bench", file.path()]).args(flags).output().unwrap(),
            error,
            "-p",
        );
    }
}

/// The keys and values of a batch must fit in memory, or the system would end the process.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_beyond_memory_is_refused() {
    let mut model = tiny_model();
    model.n_ctx_train = 1 << 20;
    let file = TempFile::new("bench-memory.gguf", &model.build());
    let flags = ["--batch", "1024", "-p", "524288", "-n", "1", "--kv", "f32"];
    let output = hearth(["bench", file.path()]).args(flags).output().unwrap();
    refused(&output, "of memory are free", "--batch");
}
