//! Calls in every notation, read back by the parser of answers and judged by their schemas.

use hearth_text::parse::{
    AnswerFormat, AnswerParser, OfferedTool, ParseOptions, Piece, ToolFormat,
};
use serde_json::{Value, json};

use super::{
    super::*,
    compile,
    vocabulary::{Draw, allowed, token, write, write_behind},
};

const DRAWS: [Draw; 5] = [Draw::Any, Draw::Short, Draw::Long, Draw::Quotes, Draw::Any];

fn specs(is_strict: bool) -> Vec<ToolSpec> {
    let spec = |name: &str, schema: Option<Value>| ToolSpec {
        name: name.to_owned(),
        schema,
        is_strict,
    };
    vec![
        spec(
            "get",
            Some(json!({
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 6},
                    "days": {"type": "integer", "minimum": 0, "maximum": 9},
                    "unit": {"type": "string", "enum": ["C", "F", "a \"b\""]},
                    "note": {"type": ["string", "null"], "maxLength": 3},
                },
                "required": ["city", "days"],
                "additionalProperties": false,
            })),
        ),
        spec(
            "get_all",
            Some(json!({
                "type": "object",
                "properties": {
                    "ids": {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 3},
                    "deep": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"], "additionalProperties": false},
                },
                "required": ["ids"],
                "additionalProperties": false,
            })),
        ),
        spec("ping", None),
    ]
}

fn tools_grammar(
    format: ToolFormat,
    choice: ToolGrammarChoice,
    is_parallel: bool,
) -> AnswerGrammar {
    AnswerGrammar::Tools {
        format,
        tools: specs(true),
        choice,
        is_parallel,
    }
}

/// Text and calls of an answer, as a client gets them.
fn parse(format: ToolFormat, answer: &str) -> (String, Vec<(String, Value)>, Vec<String>) {
    let format = AnswerFormat {
        thinking: None,
        tools: Some(format),
    };
    let offered = specs(true).into_iter().map(|tool| OfferedTool {
        name: tool.name,
        parameters: tool.schema,
    });
    let options = ParseOptions {
        tools: offered.collect(),
        is_thinking_open: false,
    };
    let mut parser = AnswerParser::new(&format, options);
    let mut pieces = Vec::new();
    parser.push(answer, &mut pieces);
    parser.finish(&mut pieces);
    let (mut text, mut calls, mut notices) = (String::new(), Vec::new(), Vec::new());
    let (mut name, mut arguments) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Text(more) | Piece::Reasoning(more) => text.push_str(&more),
            Piece::CallBegin { name: begun } => (name, arguments) = (begun, String::new()),
            Piece::CallArguments(more) => arguments.push_str(&more),
            Piece::CallEnd => {
                let value = serde_json::from_str(&arguments)
                    .unwrap_or_else(|error| panic!("{error}: {arguments}"));
                calls.push((std::mem::take(&mut name), value));
            }
            Piece::Notice(notice) => notices.push(notice),
        }
    }
    (text, calls, notices)
}

fn check_calls(calls: &[(String, Value)], answer: &str) {
    let none = json!({"type": "object", "maxProperties": 0});
    for (name, arguments) in calls {
        let tool = specs(true).into_iter().find(|tool| tool.name == *name);
        let schema = tool
            .unwrap_or_else(|| panic!("no tool {name:?}: {answer}"))
            .schema;
        let validator =
            jsonschema::validator_for(&schema.unwrap_or_else(|| none.clone())).expect("a schema");
        if let Err(error) = validator.validate(arguments) {
            panic!("{error} in {arguments}: {answer}");
        }
    }
}

#[test]
fn a_required_call_is_the_whole_answer() {
    for format in ToolFormat::ALL {
        for is_parallel in [false, true] {
            let grammar = tools_grammar(format, ToolGrammarChoice::Required, is_parallel);
            let constraint = compile(grammar).unwrap_or_else(|error| panic!("{format:?}: {error}"));
            let (mut n_ended, mut n_calls) = (0, 0);
            for (seed, draw) in DRAWS.into_iter().enumerate() {
                let (answer, is_complete) =
                    write(constraint.clone(), draw, seed as u64, 4000).expect("a way on");
                let (text, calls, notices) = parse(format, &answer);
                check_calls(&calls, &answer);
                if is_complete {
                    n_ended += 1;
                    n_calls += calls.len();
                    assert_eq!(
                        (text.trim(), notices.as_slice()),
                        ("", &[][..]),
                        "{format:?}: {answer}"
                    );
                    assert!(!calls.is_empty(), "{format:?}: {answer}");
                    assert!(is_parallel || calls.len() == 1, "{format:?}: {answer}");
                }
            }
            assert!(n_ended >= 4, "{format:?}: {n_ended} ended");
            let may_be_more = is_parallel && format.syntax().is_parallel;
            assert!(
                !may_be_more || n_calls > n_ended,
                "{format:?}: never two calls"
            );
        }
    }
}

#[test]
fn what_begins_like_a_call_is_one() {
    for format in ToolFormat::ALL {
        let constraint =
            compile(tools_grammar(format, ToolGrammarChoice::Auto, true)).expect("it compiles");
        for trigger in format.syntax().trigger.texts() {
            for (seed, draw) in DRAWS.into_iter().enumerate() {
                let beginning = format!("Well. {trigger}");
                let answer = write_behind(constraint.clone(), &beginning, draw, seed as u64, 2000);
                let (answer, is_complete) =
                    answer.unwrap_or_else(|error| panic!("{format:?}: {error}"));
                let (text, calls, notices) = parse(format, &answer);
                check_calls(&calls, &answer);
                assert!(text.trim_start().starts_with("Well."), "{answer}");
                assert!(
                    !is_complete || !calls.is_empty(),
                    "{format:?} {notices:?}: {answer}"
                );
            }
        }
    }
}

#[test]
fn an_object_at_the_beginning_is_a_call_to_a_model_that_writes_it_so() {
    let format = ToolFormat::Llama3Json;
    let constraint =
        compile(tools_grammar(format, ToolGrammarChoice::Auto, true)).expect("it compiles");
    for beginning in ["{", "{\""] {
        let (answer, is_complete) =
            write_behind(constraint.clone(), beginning, Draw::Short, 7, 2000).expect("a way on");
        let (text, calls, _) = parse(format, &answer);
        assert!(
            is_complete && text.is_empty() && calls.len() == 1,
            "{answer}"
        );
        check_calls(&calls, &answer);
    }
    let mut free = constraint.clone();
    let first = allowed(&mut free).expect("a way on");
    assert!(!first.contains(&token("{}")), "an empty object is no call");
    assert!(
        !first.contains(&token(" {")),
        "the call would begin behind its beginning"
    );
    free.take(token("a")).expect("text");
    assert!(
        allowed(&mut free).expect("a way on").contains(&token("{}")),
        "behind text it is text"
    );
}

#[test]
fn text_without_a_call_is_free() {
    for format in ToolFormat::ALL {
        let constraint =
            compile(tools_grammar(format, ToolGrammarChoice::Auto, false)).expect("it compiles");
        let (answer, is_complete) = write_behind(
            constraint,
            "It is <tool but no> call: [TOOL {\"name\": 1}",
            Draw::Short,
            3,
            10,
        )
        .expect("free");
        assert!(is_complete, "{format:?}: {answer}");
        assert_eq!(parse(format, &answer).1, [], "{format:?}: {answer}");
    }
}

#[test]
fn one_call_at_most_when_they_are_not_parallel() {
    let constraint = compile(tools_grammar(
        ToolFormat::Hermes,
        ToolGrammarChoice::Auto,
        false,
    ))
    .expect("it compiles");
    let beginning = "<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>";
    let (answer, is_complete) =
        write_behind(constraint, beginning, Draw::Long, 1, 5).expect("a way on");
    assert!(is_complete);
    assert_eq!(answer, beginning);
}

#[test]
fn a_schema_beyond_us_binds_only_who_asked_for_it() {
    let tool = |is_strict| ToolSpec {
        name: "f".to_owned(),
        schema: Some(json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}})),
        is_strict,
    };
    let grammar = |is_strict| AnswerGrammar::Tools {
        format: ToolFormat::Hermes,
        tools: vec![tool(is_strict)],
        choice: ToolGrammarChoice::Required,
        is_parallel: false,
    };
    let error = compile(grammar(true)).expect_err("\"not\" cannot be enforced");
    assert!(
        error
            .to_string()
            .starts_with("tool \"f\": \"not\" at #/properties/a"),
        "{error}"
    );
    let constraint = compile(grammar(false)).expect("any object is taken");
    assert_eq!(constraint.notices().len(), 1);
    assert!(
        constraint.notices()[0].contains("\"not\""),
        "{:?}",
        constraint.notices()
    );
}

#[test]
fn bad_tools_are_refused() {
    let tool = |name: &str, schema: Value| ToolSpec {
        name: name.to_owned(),
        schema: Some(schema),
        is_strict: false,
    };
    let cases = [
        vec![],
        vec![tool("a\"b", json!({}))],
        vec![tool("", json!({}))],
        vec![tool("f", json!({"type": "banana"}))],
        vec![tool("f", json!({"type": "string"}))],
        vec![tool("f", json!(5))],
        vec![tool("f", json!({"$ref": "https://example.com"}))],
    ];
    for tools in cases {
        let grammar = AnswerGrammar::Tools {
            format: ToolFormat::Hermes,
            tools: tools.clone(),
            choice: ToolGrammarChoice::Auto,
            is_parallel: true,
        };
        assert!(compile(grammar).is_err(), "{tools:?}");
    }
}
