//! Real vocabularies: the ids of recorded texts, equal to the last one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hearth_gguf::Gguf;
use hearth_text::{Detokenizer, Encode, Tokenizer};
use serde_json::Value;

const PLAIN: Encode = Encode {
    add_special: false,
    parse_special: false,
};
const WHOLE: Encode = Encode {
    add_special: true,
    parse_special: false,
};

fn tokenizer(path: &Path) -> Tokenizer {
    let gguf = Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tokenizer::from_metadata(gguf.metadata()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("HEARTH_FIXTURES");
    if folder.is_none() {
        println!(
            "skipped: HEARTH_FIXTURES is unset, only the small vocabularies in tests/golden are compared"
        );
    }
    folder.map(|folder| PathBuf::from(folder).join("parity"))
}

/// Collects differences so that one run shows them all.
#[derive(Default)]
struct Report {
    n_checked: usize,
    differences: String,
}

impl Report {
    fn compare(&mut self, what: &str, text: &str, expected: &[u32], found: &[u32]) {
        self.n_checked += 1;
        if expected != found {
            writeln!(
                self.differences,
                "{what} {text:?}\n  expected {expected:?}\n     found {found:?}"
            )
            .unwrap();
        }
    }

    /// All bytes come back, from the whole and from the stream.
    fn round_trip(&mut self, what: &str, tokenizer: &Tokenizer, text: &str, tokens: &[u32]) {
        let whole = tokenizer.decode(tokens);
        let mut streamed = String::new();
        let mut stream = Detokenizer::new(tokenizer);
        for &id in tokens {
            streamed.push_str(stream.push(id));
        }
        streamed.push_str(stream.finish());
        if whole != text.as_bytes() || streamed != text {
            writeln!(
                self.differences,
                "{what} {text:?} came back as {:?}",
                String::from_utf8_lossy(&whole)
            )
            .unwrap();
        }
    }

    fn finish(self, least: usize) {
        assert!(self.differences.is_empty(), "{}", self.differences);
        assert!(
            self.n_checked >= least,
            "only {} texts compared",
            self.n_checked
        );
        println!("{} texts compared", self.n_checked);
    }
}

/// Models beside their records: the `texts` of each record.
fn check_models(folder: &Path, report: &mut Report) {
    for path in files(folder, ".json") {
        let model = path.with_extension("gguf");
        let record = json(&path);
        let Some(texts) = record["texts"].as_array() else {
            continue;
        };
        let tokenizer = tokenizer(&model);
        let name = model.file_name().unwrap().to_string_lossy().into_owned();
        for case in texts {
            let text = case["text"].as_str().unwrap();
            let expected = case.get("ids").or_else(|| case.get("tokens")).unwrap();
            report.compare(&name, text, &ids(expected), &tokenizer.encode(text, WHOLE));
            if !name.contains("bert") {
                report.round_trip(&name, &tokenizer, text, &tokenizer.encode(text, PLAIN));
            }
        }
    }
}

#[test]
fn small_vocabularies_give_the_recorded_ids() {
    let mut report = Report::default();
    check_models(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers"),
        &mut report,
    );
    report.finish(8);
}

#[test]
fn every_fixture_model_gives_the_recorded_ids() {
    let Some(parity) = fixtures() else { return };
    let mut report = Report::default();
    check_models(&parity.join("lm"), &mut report);
    report.finish(100);
}

/// Loading is strict about keys; none in use may be refused or unknown.
#[test]
fn every_fixture_has_only_known_keys() {
    let Some(parity) = fixtures() else { return };
    let mut n_files = 0;
    for folder in ["../api", "lm", "quant", "tokenizers", "../real"] {
        for path in files(&parity.join(folder), ".gguf") {
            let tokenizer = tokenizer(&path);
            let notices = tokenizer.notices();
            assert!(
                !notices.iter().any(|n| n.contains("ignored: ")),
                "{}: {notices:?}",
                path.display()
            );
            n_files += 1;
        }
    }
    assert!(n_files >= 80, "only {n_files} files");
}

#[test]
fn every_line_of_the_vocabulary_pairs_is_exact() {
    let Some(parity) = fixtures() else { return };
    let folder = parity.join("tokenizers");
    let mut report = Report::default();
    for model in files(&folder, ".gguf") {
        let tokenizer = tokenizer(&model);
        let name = model.file_name().unwrap().to_string_lossy().into_owned();
        let beside =
            |suffix: &str| std::fs::read_to_string(folder.join(format!("{name}{suffix}"))).unwrap();
        let (input, output) = (beside(".inp"), beside(".out"));
        let texts: Vec<&str> = input.split("\n__ggml_vocab_test__\n").collect();
        let lines: Vec<&str> = output.lines().collect();
        for (text, line) in texts.iter().zip(&lines) {
            let expected: Vec<u32> = line
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            report.compare(&name, text, &expected, &tokenizer.encode(text, PLAIN));
        }
        assert!(
            texts.len() == lines.len() || texts.len() == lines.len() + 1,
            "{name}: pairs do not match"
        );
    }
    report.finish(250);
}

#[test]
fn every_recorded_text_of_the_vocabularies_is_exact() {
    let Some(parity) = fixtures() else { return };
    let folder = parity.join("tokenizers");
    let mut report = Report::default();
    for path in files(&folder, ".json") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let tokenizer = tokenizer(&folder.join(format!("ggml-vocab-{name}.gguf")));
        let record = json(&path);
        let cases = ["cases", "texts"]
            .iter()
            .find_map(|key| record[*key].as_array())
            .unwrap();
        for case in cases {
            let text = case["text"].as_str().unwrap();
            report.compare(
                &name,
                text,
                &ids(&case["ids"]),
                &tokenizer.encode(text, PLAIN),
            );
            let whole = format!("{name} with special tokens");
            report.compare(
                &whole,
                text,
                &ids(&case["ids_with_special"]),
                &tokenizer.encode(text, WHOLE),
            );
            if !name.contains("bert") {
                report.round_trip(&name, &tokenizer, text, &tokenizer.encode(text, PLAIN));
            }
        }
    }
    report.finish(300);
}
