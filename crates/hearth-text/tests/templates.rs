//! Recorded conversations rendered by published templates, compared byte for byte.

use std::path::{Path, PathBuf};

use hearth_text::{ChatTemplate, TemplateError};
use serde_json::Value;

/// Runs every case of every NAME.json beside its NAME.jinja; returns how many there were.
fn check_folder(folder: &Path) -> usize {
    let mut failures = Vec::new();
    let mut n_cases = 0;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    for file in files {
        let record: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let source = std::fs::read_to_string(file.with_extension("jinja")).unwrap();
        let template = ChatTemplate::from_source(&source)
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for case in record["cases"].as_array().unwrap() {
            n_cases += 1;
            if let Err(reason) = check_case(&template, case) {
                failures.push(format!(
                    "{} {}: {reason}",
                    file.file_stem().unwrap().display(),
                    case["id"]
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {n_cases} cases differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    n_cases
}

fn check_case(template: &ChatTemplate, case: &Value) -> Result<(), String> {
    let now = case["now"].as_str().map(|text| text.parse().unwrap());
    let result = template.render(&case["context"], now);
    match (case["expected"].as_str(), result) {
        (Some(expected), Ok(text)) if text == expected => Ok(()),
        (Some(expected), Ok(text)) => Err(format!("expected {expected:?}\n     found {text:?}")),
        (Some(_), Err(error)) => Err(format!("expected text, found the error {error}")),
        (None, Ok(text)) => Err(format!("expected an error, found {text:?}")),
        (None, Err(TemplateError::Raised { message })) => {
            let expected = &case["error"]["message"];
            if case["error"]["by_template"] == true && *expected == *message {
                Ok(())
            } else {
                Err(format!("raised {message:?}, expected {expected}"))
            }
        }
        (None, Err(error)) if case["error"]["by_template"] == true => {
            Err(format!("not raised: {error}"))
        }
        (None, Err(_)) => Ok(()),
    }
}

#[test]
fn golden_templates_render_exactly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/templates");
    assert!(check_folder(&folder) >= 18);
}

#[test]
fn all_fixture_templates_render_exactly() {
    let Some(fixtures) = std::env::var_os("HEARTH_FIXTURES") else {
        println!(
            "skipped: HEARTH_FIXTURES is unset, the published templates beyond tests/golden were not rendered"
        );
        return;
    };
    let n_cases = check_folder(&Path::new(&fixtures).join("parity/templates"));
    println!("{n_cases} recorded conversations rendered");
}
