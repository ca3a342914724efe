//! Properties of the parser, and published templates: what they write for a call in the history is read back.

use std::path::Path;

use hearth_text::{
    ChatTemplate,
    parse::{
        AnswerFormat, AnswerParser, ArgumentSyntax, CallSyntax, OfferedTool, ParseOptions, Piece,
        ThinkingTags, ToolFormat,
    },
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn offered() -> ParseOptions {
    let tool = |name: &str| OfferedTool {
        name: name.to_owned(),
        parameters: Some(json!({"type": "object", "properties": {"s": {"type": "string"}}})),
    };
    ParseOptions {
        tools: [tool("look"), tool("stop")].into(),
        is_thinking_open: false,
    }
}

/// The pieces with neighbours of one kind joined.
fn parse(format: &AnswerFormat, options: &ParseOptions, texts: &[String]) -> Vec<Piece> {
    let mut parser = AnswerParser::new(format, options.clone());
    let mut out: Vec<Piece> = Vec::new();
    for text in texts {
        let mut pieces = Vec::new();
        parser.push(text, &mut pieces);
        pieces.into_iter().for_each(|piece| join(&mut out, piece));
    }
    let mut pieces = Vec::new();
    parser.finish(&mut pieces);
    pieces.into_iter().for_each(|piece| join(&mut out, piece));
    out
}

fn join(out: &mut Vec<Piece>, piece: Piece) {
    match (out.last_mut(), piece) {
        (Some(Piece::Text(last)), Piece::Text(text))
        | (Some(Piece::Reasoning(last)), Piece::Reasoning(text))
        | (Some(Piece::CallArguments(last)), Piece::CallArguments(text)) => last.push_str(&text),
        (_, piece) => out.push(piece),
    }
}

fn text_of(pieces: &[Piece]) -> String {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) | Piece::Reasoning(text) => text.as_str(),
        _ => "",
    });
    texts.collect()
}

/// Bits that answers and their mistakes are made of.
const BITS: [&str; 52] = [
    "<tool_call>",
    "</tool_call>",
    "<tool",
    "_call>",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\\"",
    ":",
    ",",
    ";",
    " ",
    "\n",
    "\"name\"",
    "\"arguments\"",
    "\"parameters\"",
    "\"look\"",
    "\"stop\"",
    "{\"name\": \"look\", \"arguments\": ",
    "{\"name\": \"stop\", \"parameters\": {}}",
    "{}",
    "{\"a\": 1}",
    "null",
    "12",
    "é",
    "🌲",
    "\u{7}",
    "look",
    "x",
    "<function=",
    "look>",
    "<parameter=",
    "s>",
    "</parameter>",
    "</function>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
    "<think>",
    "</think>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    "\n```json\n",
    "```",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "</",
    "<",
];

fn answer() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&BITS[..]), 0..24)
        .prop_map(|bits| bits.concat())
}

fn any_format() -> impl Strategy<Value = AnswerFormat> {
    let tags = ThinkingTags {
        open: "<think>".into(),
        close: "</think>".into(),
    };
    (
        proptest::option::of(Just(tags)),
        proptest::option::of(proptest::sample::select(&ToolFormat::ALL[..])),
    )
        .prop_map(|(thinking, tools)| AnswerFormat { thinking, tools })
}

/// Cuts a text after as many characters as each number says.
fn cut(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut characters = text.chars().peekable();
    let mut parts = Vec::new();
    for &size in sizes.iter().cycle() {
        if characters.peek().is_none() {
            break;
        }
        parts.push(characters.by_ref().take(size).collect());
    }
    parts
}

fn json_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![answer(), any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let pairs = (text.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(pairs, 0..4)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A call as the format's data says it is written.
fn written(syntax: &CallSyntax, calls: &[(&str, Map<String, Value>)]) -> String {
    let calls: Vec<String> = calls
        .iter()
        .map(|(name, arguments)| {
            let arguments = match syntax.arguments {
                ArgumentSyntax::Json => Value::from(arguments.clone()).to_string(),
                ArgumentSyntax::Elements { begin, middle, end } => arguments
                    .iter()
                    .map(|(key, value)| match value {
                        Value::String(text) if key == "s" => {
                            format!("{begin}{key}{middle}{text}{end}")
                        }
                        value => format!("{begin}{key}{middle}{value}{end}"),
                    })
                    .collect(),
            };
            format!(
                "{}{name}{}{arguments}{}",
                syntax.begin, syntax.middle, syntax.end
            )
        })
        .collect();
    format!(
        "{}{}{}",
        syntax.open,
        calls.join(syntax.between),
        syntax.close
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn cuts_change_nothing(
        format in any_format(), answer in answer(), is_thinking_open: bool,
        sizes in proptest::collection::vec(1usize..7, 1..9),
    ) {
        let options = ParseOptions { is_thinking_open, ..offered() };
        let whole = parse(&format, &options, std::slice::from_ref(&answer));
        prop_assert_eq!(parse(&format, &options, &cut(&answer, &sizes)), whole);
    }

    #[test]
    fn text_is_never_lost(format in any_format(), answer in answer()) {
        let format = AnswerFormat { thinking: None, ..format };
        let pieces = parse(&format, &offered(), std::slice::from_ref(&answer));
        let has_calls = pieces.iter().any(|piece| matches!(piece, Piece::CallBegin { .. }));
        if !has_calls {
            prop_assert_eq!(text_of(&pieces), answer.clone());
        }
        let pieces = parse(&format, &ParseOptions::default(), std::slice::from_ref(&answer));
        prop_assert_eq!(text_of(&pieces), answer);
    }

    #[test]
    fn what_a_format_writes_it_reads(
        format in proptest::sample::select(&ToolFormat::ALL[..]),
        values in proptest::collection::vec(proptest::collection::vec(json_value(), 0..3), 1..4),
        before in "[a-z ]{0,5}",
        sizes in proptest::collection::vec(1usize..7, 1..9),
    ) {
        let syntax = format.syntax();
        let is_elements = syntax.arguments != ArgumentSyntax::Json;
        let calls: Vec<(&str, Map<String, Value>)> = values.into_iter().enumerate().map(|(i, values)| {
            let arguments = values.into_iter().enumerate().map(|(k, value)| match value {
                // Elements give strings without quotes to parameters that are strings, and only to them.
                Value::String(text) if is_elements => ("s".to_owned(), Value::from(without_ends(&text))),
                value if is_elements => (format!("k{k}"), serde_json::from_str(&without_ends(&value.to_string())).unwrap()),
                value => (format!("k{k}"), value),
            });
            (["look", "stop"][i % 2], arguments.collect())
        }).collect();
        let before = if syntax.trigger.is_object() { "" } else { before.as_str() };
        let answer = format!("{before}{}", written(syntax, &calls));
        let format = AnswerFormat { thinking: None, tools: Some(format) };
        let pieces = parse(&format, &offered(), &cut(&answer, &sizes));
        let mut expected = Vec::new();
        if !before.trim_end().is_empty() {
            expected.push(Piece::Text(before.trim_end().to_owned()));
        }
        let mut found = Vec::new();
        for piece in pieces {
            match piece {
                Piece::CallArguments(text) => found.push(Err(serde_json::from_str::<Value>(&text).unwrap())),
                other => found.push(Ok(other)),
            }
        }
        let mut expected: Vec<Result<Piece, Value>> = expected.into_iter().map(Ok).collect();
        for (name, arguments) in calls {
            expected.push(Ok(Piece::CallBegin { name: name.to_owned() }));
            expected.push(Err(Value::from(arguments)));
            expected.push(Ok(Piece::CallEnd));
        }
        prop_assert_eq!(found, expected);
    }
}

/// What elements can carry: a text without the end of a value.
fn without_ends(text: &str) -> String {
    text.replace("</parameter>", "")
}

/// Renders a history with a call and parses what stands where an answer would.
fn read_back(source: &str, thinking_off: &str) -> Vec<Piece> {
    let template = ChatTemplate::from_source(source).unwrap();
    let tool = json!({"type": "function", "function": {"name": "look", "description": "Looks.",
        "parameters": {"type": "object", "properties": {"s": {"type": "string"}}}}});
    let question = json!({"role": "user", "content": "Well?"});
    let call = json!({"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", "type": "function",
        "function": {"name": "look", "arguments": {"s": "a \"b\" </tool_call> é\n2"}}}]});
    let context = |messages: Value, is_prompt: bool| {
        json!({"messages": messages, "tools": [tool], "add_generation_prompt": is_prompt,
            "bos_token": "<s>", "eos_token": "</s>"})
    };
    let prompt = template
        .render(&context(json!([question]), true), None)
        .unwrap();
    let history = template
        .render(&context(json!([question, call]), false), None)
        .unwrap();
    let prompt = prompt.strip_suffix(thinking_off).unwrap_or(&prompt);
    let answer = history
        .strip_prefix(prompt)
        .unwrap_or_else(|| panic!("{history:?} does not begin with {prompt:?}"));
    let format = AnswerFormat::detect(source);
    parse(&format, &offered(), &[answer.to_owned()])
}

fn check_template(folder: &Path, name: &str, format: ToolFormat, thinking_off: &str) {
    let source = std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(AnswerFormat::detect(&source).tools, Some(format), "{name}");
    let pieces = read_back(&source, thinking_off);
    assert_eq!(
        pieces[0],
        Piece::CallBegin {
            name: "look".into()
        },
        "{name}: {pieces:?}"
    );
    let Piece::CallArguments(arguments) = &pieces[1] else {
        panic!("{name}: {pieces:?}");
    };
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(
        arguments,
        json!({"s": "a \"b\" </tool_call> é\n2"}),
        "{name}"
    );
    assert_eq!(pieces[2], Piece::CallEnd, "{name}");
}

#[test]
fn a_published_template_is_read_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/templates");
    check_template(&folder, "Qwen-Qwen3-0.6B.jinja", ToolFormat::Hermes, "");
}

#[test]
fn all_fixture_templates_are_read_back() {
    let Some(fixtures) = std::env::var_os("HEARTH_FIXTURES") else {
        println!(
            "skipped: HEARTH_FIXTURES is unset, the published templates beyond tests/golden were not read back"
        );
        return;
    };
    let folder = Path::new(&fixtures).join("parity/templates");
    let cases = [
        ("Qwen-Qwen2.5-7B-Instruct.jinja", ToolFormat::Hermes, ""),
        ("Qwen-Qwen3-0.6B.jinja", ToolFormat::Hermes, ""),
        ("ibm-granite-granite-4.0.jinja", ToolFormat::Hermes, ""),
        (
            "meta-llama-Llama-3.1-8B-Instruct.jinja",
            ToolFormat::Llama3Json,
            "",
        ),
        (
            "mistralai-Mistral-Nemo-Instruct-2407.jinja",
            ToolFormat::MistralList,
            "",
        ),
        (
            "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
            ToolFormat::DeepSeek,
            "<think>\n</think>",
        ),
    ];
    for (name, format, thinking_off) in cases {
        check_template(&folder, name, format, thinking_off);
    }
    for name in [
        "google-gemma-2-2b-it.jinja",
        "microsoft-Phi-3.5-mini-instruct.jinja",
        "HuggingFaceTB-SmolLM3-3B.jinja",
    ] {
        let source = std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(AnswerFormat::detect(&source).tools, None, "{name}");
    }
    for name in ["HuggingFaceTB-SmolLM3-3B.jinja", "Qwen-Qwen3-0.6B.jinja"] {
        let source = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(AnswerFormat::detect(&source).thinking.is_some(), "{name}");
    }
}
