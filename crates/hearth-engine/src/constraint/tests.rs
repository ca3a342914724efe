//! Answers drawn at random under grammars, without a model: whatever is allowed may be drawn.

mod grammars;
mod mutations;
mod real;
mod thinking;
mod tools;
mod vocabulary;

use serde_json::{Value, json};

use super::*;
pub(super) use vocabulary::grammars;
use vocabulary::{Draw, write};

const GOLDEN: &str = include_str!("../../tests/golden/constraint/schemas.json");

fn schema_grammar(schema: &Value) -> Grammar {
    Grammar {
        thinking: None,
        answer: AnswerGrammar::JsonSchema(schema.clone()),
    }
}

fn entries(list: &str) -> Vec<Value> {
    let golden: Value = serde_json::from_str(GOLDEN).expect("the file is JSON");
    golden[list].as_array().expect("a list").clone()
}

#[test]
fn what_ends_satisfies_its_schema() {
    let grammars = grammars();
    let mut failures = Vec::new();
    let (mut n_ended, mut n_all) = (0, 0);
    for entry in entries("enforced") {
        let (name, schema) = (&entry["name"], &entry["schema"]);
        let constraint = match grammars.compile(&schema_grammar(schema)) {
            Ok(constraint) => constraint,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(schema)
            .expect("the validator reads every schema of the list");
        for (seed, draw) in [
            (1, Draw::Any),
            (2, Draw::Any),
            (3, Draw::Short),
            (4, Draw::Long),
            (5, Draw::Quotes),
        ] {
            n_all += 1;
            let (text, is_complete) = match write(constraint.clone(), draw, seed, 600) {
                Ok(answer) => answer,
                Err(error) => {
                    failures.push(format!("{name} {draw:?}: {error}"));
                    continue;
                }
            };
            if !is_complete {
                continue;
            }
            n_ended += 1;
            if let Err(problem) = check(&validator, &text) {
                failures.push(format!("{name} {draw:?}: {problem}: {text}"));
            }
        }
    }
    println!("{n_ended} of {n_all} answers ended");
    assert!(
        failures.is_empty(),
        "{}\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        n_ended * 10 > n_all * 8,
        "{n_ended} of {n_all} answers ended"
    );
}

fn check(validator: &jsonschema::Validator, text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if text.trim() != text {
        return Err("blanks around the answer".to_owned());
    }
    if !names::Names::new(true).push(text.as_bytes()) {
        return Err("a name twice".to_owned());
    }
    validator
        .validate(&value)
        .map_err(|error| format!("{error} at {}", error.instance_path()))
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    let grammars = grammars();
    let mut failures = Vec::new();
    for entry in entries("refused") {
        let (name, keyword) = (&entry["name"], entry["keyword"].as_str().expect("a word"));
        match grammars.compile(&schema_grammar(&entry["schema"])) {
            Ok(_) => failures.push(format!("{name}: it was taken")),
            Err(
                ConstraintError::Keyword { keyword: named, .. }
                | ConstraintError::Malformed { keyword: named, .. }
                | ConstraintError::Unsatisfiable { keyword: named, .. },
            ) if named == keyword => {}
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The longest run of blanks outside of strings.
fn longest_blank(text: &str) -> usize {
    let outside = regex::Regex::new(r#""(\\.|[^"\\])*""#).expect("a pattern");
    let outside = outside.replace_all(text, "\"\"");
    let runs = outside.split(|c: char| !c.is_ascii_whitespace());
    runs.map(str::len).max().unwrap_or(0)
}

#[test]
fn blanks_are_few_however_much_a_model_likes_them() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "array", "items": {"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 1}, "minItems": 2},
        "b": {"type": "object", "maxProperties": 0},
        "c": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    }, "required": ["a", "b", "c"]});
    let constraint = compile(AnswerGrammar::JsonSchema(schema)).expect("it compiles");
    let mut longest = 0;
    for seed in 0..20 {
        let (text, is_complete) =
            write(constraint.clone(), Draw::Blanks, seed, 2000).expect("a way on");
        assert!(is_complete, "{text}");
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        longest = longest.max(longest_blank(&text));
    }
    // A line feed and an indentation; in brackets without content there are two of both.
    assert!((9..=18).contains(&longest), "{longest}");
}

#[test]
fn errors_name_the_place() {
    let schema = json!({"type": "object", "properties": {"a/b": {"items": [{"type": "string", "pattern": "("}]}}});
    let error = grammars()
        .compile(&schema_grammar(&schema))
        .expect_err("the pattern is broken");
    let expected = "\"pattern\" at #/properties/a~1b/items/0 is no regular expression: a \"(\" that is not closed";
    assert_eq!(error.to_string(), expected);
}

fn compile(answer: AnswerGrammar) -> Result<Constraint, ConstraintError> {
    grammars().compile(&Grammar {
        thinking: None,
        answer,
    })
}

/// Answers drawn under a grammar, those that ended.
fn answers(constraint: &Constraint) -> Vec<String> {
    let draws = [
        Draw::Any,
        Draw::Any,
        Draw::Short,
        Draw::Long,
        Draw::Quotes,
        Draw::Any,
        Draw::Any,
        Draw::Short,
    ];
    let drawn = draws.into_iter().enumerate().map(|(seed, draw)| {
        write(constraint.clone(), draw, seed as u64, 800).expect("there is always a way on")
    });
    drawn
        .filter(|(_, is_complete)| *is_complete)
        .map(|(text, _)| text)
        .collect()
}

#[test]
fn any_object_is_one_object() {
    let constraint = compile(AnswerGrammar::JsonObject).expect("it is a grammar");
    let answers = answers(&constraint);
    assert!(!answers.is_empty());
    for text in answers {
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(value.is_object(), "{text}");
        assert!(
            names::Names::new(true).push(text.as_bytes()),
            "a name twice: {text}"
        );
    }
}

#[test]
fn a_form_is_known_by_its_text() {
    let schema = |text: &str| AnswerGrammar::JsonSchema(serde_json::from_str(text).expect("JSON"));
    let one = compile(schema(r#"{"properties": {"a": {}, "b": {}}}"#)).expect("it compiles");
    let again = compile(schema(r#"{"properties": {"a": {}, "b": {}}}"#)).expect("it compiles");
    let other = compile(schema(r#"{"properties": {"b": {}, "a": {}}}"#)).expect("it compiles");
    assert!(one.has_grammar_of(&again));
    assert!(
        !one.has_grammar_of(&other),
        "its properties come in another order"
    );
    // What is kept gives what was compiled.
    for seed in 0..5 {
        let [first, second] =
            [&one, &again].map(|constraint| write(constraint.clone(), Draw::Any, seed, 100));
        assert_eq!(first.expect("a way on"), second.expect("a way on"));
    }
}

#[test]
fn a_text_matches_from_beginning_to_end() {
    for pattern in [
        "[a-c]{3}",
        "^(yes|no)$",
        r"\d{4}-\d\d",
        "a*b",
        "x?",
        r"\w+@\w+\.com",
    ] {
        let constraint = compile(AnswerGrammar::Regex(pattern.to_owned())).expect(pattern);
        let whole = regex::Regex::new(&format!("^(?:{pattern})$")).expect(pattern);
        let answers = answers(&constraint);
        assert!(!answers.is_empty(), "{pattern}");
        for text in answers {
            assert!(whole.is_match(&text), "{pattern}: {text:?}");
        }
    }
}

#[test]
fn broken_expressions_are_refused() {
    for pattern in ["(", "[z-a]", "(?=a)b", r"(a)\1", "a{2,1}", "[]"] {
        let error = compile(AnswerGrammar::Regex(pattern.to_owned())).expect_err(pattern);
        assert!(
            matches!(error, ConstraintError::Grammar { .. }),
            "{pattern}: {error}"
        );
    }
}

#[test]
fn one_of_several_texts() {
    let texts: Vec<String> = ["yes", "yes, but", "no", "\u{e9}\"\\", "a b"]
        .map(str::to_owned)
        .into();
    let constraint = compile(AnswerGrammar::Choice(texts.clone())).expect("there are choices");
    let answers = answers(&constraint);
    assert_eq!(answers.len(), 8);
    assert!(
        answers.iter().all(|text| texts.contains(text)),
        "{answers:?}"
    );
    assert!(compile(AnswerGrammar::Choice(Vec::new())).is_err());
}
