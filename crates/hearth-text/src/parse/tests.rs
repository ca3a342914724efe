//! Answers and what they consist of, each cut at every place.

mod mutations;

use serde_json::{Value, json};

use super::{
    AnswerFormat, AnswerParser, OfferedTool, ParseOptions, Piece, ThinkingTags, ToolFormat,
};

/// Two tools, as all cases have them.
fn tools() -> Vec<OfferedTool> {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "deep": {"type": "boolean"},
        "where": {"type": "object"}, "note": {"type": ["string", "null"]}, "any": {},
        "kind": {"enum": ["1", "2"]}, "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    }});
    let look = OfferedTool {
        name: "look".into(),
        parameters: Some(parameters),
    };
    let stop = OfferedTool {
        name: "stop".into(),
        parameters: None,
    };
    vec![look, stop]
}

fn format(tools: ToolFormat) -> AnswerFormat {
    AnswerFormat {
        thinking: None,
        tools: Some(tools),
    }
}

fn thinker() -> AnswerFormat {
    AnswerFormat {
        thinking: Some(ThinkingTags {
            open: "<think>".into(),
            close: "</think>".into(),
        }),
        tools: Some(ToolFormat::Hermes),
    }
}

fn parse_pieces(format: &AnswerFormat, options: &ParseOptions, texts: &[&str]) -> Vec<Piece> {
    let mut parser = AnswerParser::new(format, options.clone());
    let mut out = Vec::new();
    for text in texts {
        parser.push(text, &mut out);
    }
    parser.finish(&mut out);
    out
}

/// Pieces in short: `r:`, `t:`, `name(arguments)`, `!` for a notice; a call that broke off has no `)`.
fn short(pieces: &[Piece]) -> String {
    let mut out = String::new();
    let mut last = None;
    for piece in pieces {
        let kind = std::mem::discriminant(piece);
        let is_new = last.replace(kind) != Some(kind);
        match piece {
            Piece::Reasoning(text) if is_new => out += &format!("|r:{text}"),
            Piece::Text(text) if is_new => out += &format!("|t:{text}"),
            Piece::Reasoning(text) | Piece::Text(text) | Piece::CallArguments(text) => out += text,
            Piece::CallBegin { name } => out += &format!("|{name}("),
            Piece::CallEnd => out += ")",
            Piece::Notice(_) => out += "|!",
        }
    }
    out
}

/// Parses whole, by characters and in two parts at every place, and compares.
#[track_caller]
fn check_with(format: &AnswerFormat, options: &ParseOptions, answer: &str, expected: &str) {
    let whole = short(&parse_pieces(format, options, &[answer]));
    assert_eq!(whole, expected, "for {answer:?}");
    let characters: Vec<String> = answer.chars().map(String::from).collect();
    let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
    assert_eq!(short(&parse_pieces(format, options, &characters)), whole);
    for (cut, _) in answer.char_indices() {
        let (before, after) = answer.split_at(cut);
        let parts = short(&parse_pieces(format, options, &[before, after]));
        assert_eq!(parts, whole, "cut between {before:?} and {after:?}");
    }
}

#[track_caller]
fn check(format: &AnswerFormat, answer: &str, expected: &str) {
    let options = ParseOptions {
        tools: tools().into(),
        is_thinking_open: false,
    };
    check_with(format, &options, answer, expected);
}

#[test]
fn hermes_calls() {
    let format = &format(ToolFormat::Hermes);
    let cases = [
        ("", ""),
        ("just text, a < b \n", "|t:just text, a < b \n"),
        (
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>",
            "|look({\"city\": \"Bonn\"})",
        ),
        (
            "Let me see.\n\n<tool_call>{\"name\":\"stop\",\"arguments\":{}}</tool_call>\n",
            "|t:Let me see.|stop({})",
        ),
        (
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {\"a\": [1, {}]}}\n</tool_call>",
            "|look({})|stop({\"a\": [1, {}]})",
        ),
        // Arguments before the name, a name alone, none at all, arguments as text.
        (
            "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"look\"}</tool_call>",
            "|look({\"a\": 1})",
        ),
        ("<tool_call>{\"name\": \"stop\"}</tool_call>", "|stop({})"),
        (
            "<tool_call>{\"name\": \"stop\", \"arguments\": null}</tool_call>",
            "|stop({})",
        ),
        (
            r#"<tool_call>{"name": "look", "arguments": "{\"city\": \"B\\u00f6n\"}"}</tool_call>"#,
            r#"|look({"city": "B\u00f6n"})"#,
        ),
        (
            r#"<tool_call>{"type": "function", "id": 7, "name": "stop", "arguments": {}, "x": [1, "}"]}</tool_call>"#,
            "|stop({})",
        ),
        // Text after a call.
        (
            "<tool_call>{\"name\": \"stop\", \"arguments\": {}}</tool_call> Done.\n",
            "|stop({})|t: Done.\n",
        ),
    ];
    for (answer, expected) in cases {
        check(format, answer, expected);
    }
}

#[test]
fn markup_in_values_is_data() {
    let value =
        r#"{"a": "</tool_call><tool_call>{\"name\": \"x\"}", "b": "}]\\\" \u00e9 é 🌲 </think>"}"#;
    let hermes = format!("<tool_call>{{\"name\": \"look\", \"arguments\": {value}}}</tool_call>");
    check(
        &format(ToolFormat::Hermes),
        &hermes,
        &format!("|look({value})"),
    );
    let named = format!("[TOOL_CALLS]look[ARGS]{value}[TOOL_CALLS]stop[ARGS]{{}}");
    check(
        &format(ToolFormat::MistralNamed),
        &named,
        &format!("|look({value})|stop({{}})"),
    );
    let value = "if a < b:\n  print(\"</parameter>\\n\")\n\n</function> é🌲\n";
    let answer = format!(
        "<tool_call>\n<function=look>\n<parameter=city>\n{value}\n</parameter>\n</function>\n</tool_call>"
    );
    let expected = format!("|look({{\"city\": {}}})", Value::from(value));
    check(&format(ToolFormat::QwenXml), &answer, &expected);
}

#[test]
fn what_is_no_call_is_content() {
    let format = &format(ToolFormat::Hermes);
    let cases = [
        ("Use <tool_call> tags", "|t:Use|!|t: <tool_call> tags"),
        ("a </tool_call> b", "|t:a </tool_call> b"),
        ("<tool_cal", "|t:<tool_cal"),
        ("<tool_call>", "|!|t:<tool_call>"),
        (
            "<tool_call>{\"name\": 5}</tool_call>",
            "|!|t:<tool_call>{\"name\": 5}</tool_call>",
        ),
        (
            "<tool_call>{\"a\": {}}</tool_call>",
            "|!|t:<tool_call>{\"a\": {}}</tool_call>",
        ),
        (
            "<tool_call>{\"name\": \"look\", \"arguments\": [1]}</tool_call>",
            "|!|t:<tool_call>{\"name\": \"look\", \"arguments\": [1]}</tool_call>",
        ),
        (
            "<tool_call><tool_call>{\"name\": \"stop\"}</tool_call>",
            "|!|t:<tool_call>|stop({})",
        ),
        // The end is missing, or garbled.
        (
            "<tool_call>{\"name\": \"stop\", \"arguments\": {}} and so on",
            "|stop({})|t: and so on",
        ),
        (
            "<tool_call>{\"name\": \"stop\", \"arguments\": {}}</tool_x",
            "|stop({})|!|t:</tool_x",
        ),
        // The limit came first.
        (
            "<tool_call>{\"name\": \"look\", \"arguments\": {\"a\": \"b",
            "|look({\"a\": \"b|!",
        ),
        (
            "hm <tool_call>{\"name\": \"loo",
            "|t:hm|!|t: <tool_call>{\"name\": \"loo",
        ),
        // Brackets match, JSON does not.
        (
            "<tool_call>{\"name\": \"look\", \"arguments\": {city: 1}}</tool_call>",
            "|look({city: 1})|!",
        ),
    ];
    for (answer, expected) in cases {
        check(format, answer, expected);
    }
}

#[test]
fn without_tools_everything_is_content() {
    let answer = "<tool_call>{\"name\": \"look\", \"arguments\": {}}</tool_call>\n";
    for tools in ToolFormat::ALL {
        let options = ParseOptions::default();
        check_with(&format(tools), &options, answer, &format!("|t:{answer}"));
    }
    let options = ParseOptions {
        tools: tools().into(),
        is_thinking_open: false,
    };
    let answer = "<think>x</think>";
    check_with(
        &AnswerFormat::default(),
        &options,
        answer,
        &format!("|t:{answer}"),
    );
}

#[test]
fn thinking() {
    let cases = [
        (true, "hm\n</think>\n\nyes", "|r:hm|t:yes"),
        (
            true,
            "\n<think>\nhm\n\nso</think>yes\n",
            "|r:hm\n\nso|t:yes\n",
        ),
        (true, "</think>\n\nyes", "|t:yes"),
        (true, "all of it </thin", "|r:all of it </thin"),
        (true, "a\n", "|r:a\n"),
        (true, "<thin", "|r:<thin"),
        (false, "<think>\n\n</think>\n\nyes", "|t:yes"),
        (false, " \n<think>hm</think> yes", "|r:hm|t: yes"),
        (
            false,
            "no</think> yes <think> b",
            "|t:no</think> yes <think> b",
        ),
        (false, "\n <thin", "|t:\n <thin"),
        (false, " x", "|t: x"),
        (
            true,
            "a <tool_call>{}</tool_call></think>\n<tool_call>{\"name\": \"stop\"}</tool_call>",
            "|r:a <tool_call>{}</tool_call>|stop({})",
        ),
    ];
    for (is_thinking_open, answer, expected) in cases {
        let options = ParseOptions {
            tools: tools().into(),
            is_thinking_open,
        };
        check_with(&thinker(), &options, answer, expected);
    }
}

#[test]
fn llama3_calls() {
    let format = &format(ToolFormat::Llama3Json);
    let call = r#"{"name": "look", "parameters": {"city": "Bonn"}}"#;
    let cases = [
        (call.to_owned(), r#"|look({"city": "Bonn"})"#.to_owned()),
        (
            format!("\n<|python_tag|>{call}"),
            r#"|look({"city": "Bonn"})"#.to_owned(),
        ),
        (
            format!("{call}; {{\"name\": \"stop\", \"parameters\": {{}}}}\n"),
            r#"|look({"city": "Bonn"})|stop({})"#.to_owned(),
        ),
        // JSON that is an answer.
        (
            r#"{"name": "Ada", "parameters": {}}"#.to_owned(),
            r#"|!|t:{"name": "Ada", "parameters": {}}"#.to_owned(),
        ),
        (
            r#"{"age": 3, "pets": []}"#.to_owned(),
            r#"|!|t:{"age": 3, "pets": []}"#.to_owned(),
        ),
        (format!("It is {call}"), format!("|t:It is {call}")),
        (
            "<|python_tag|>brave_search.call(query=\"x\")".to_owned(),
            "|!|t:<|python_tag|>brave_search.call(query=\"x\")".to_owned(),
        ),
    ];
    for (answer, expected) in cases {
        check(format, &answer, &expected);
    }
}

#[test]
fn mistral_calls() {
    let list = &format(ToolFormat::MistralList);
    check(
        list,
        r#"[TOOL_CALLS][{"name": "look", "arguments": {"city": "Bonn"}, "id": "abcdefghi"}, {"name": "stop", "arguments": {}}]"#,
        r#"|look({"city": "Bonn"})|stop({})"#,
    );
    check(
        list,
        r#"Yes. [TOOL_CALLS] [{"arguments": {}, "name": "stop"}] ok"#,
        "|t:Yes.|stop({})|t: ok",
    );
    check(list, "[TOOL_CALLS] none", "|!|t:[TOOL_CALLS] none");
    let named = &format(ToolFormat::MistralNamed);
    check(
        named,
        "ok[TOOL_CALLS]look[ARGS]{\"city\": \"[ARGS]\"}[TOOL_CALLS]stop[CALL_ID]123456789[ARGS] {}",
        "|t:ok|look({\"city\": \"[ARGS]\"})|stop({})",
    );
    check(named, "[TOOL_CALLS]two words", "|!|t:[TOOL_CALLS]two words");
    check(
        named,
        "[TOOL_CALLS]look[ARGS]5",
        "|!|t:[TOOL_CALLS]look[ARGS]5",
    );
}

#[test]
fn deepseek_calls() {
    let call = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{\"city\": \"Bonn\"}\n```<｜tool▁call▁end｜>";
    let format = &format(ToolFormat::DeepSeek);
    check(
        format,
        &format!("hm<｜tool▁calls▁begin｜>{call}\n{call}<｜tool▁calls▁end｜>"),
        "|t:hm|look({\"city\": \"Bonn\"})|look({\"city\": \"Bonn\"})",
    );
    check(
        format,
        &format!("<｜tool▁calls▁begin｜>{call} so"),
        "|look({\"city\": \"Bonn\"})|t: so",
    );
    check(
        format,
        "<｜tool▁calls▁begin｜>no",
        "|!|t:<｜tool▁calls▁begin｜>no",
    );
}

#[test]
fn xml_values_have_the_types_of_the_schema() {
    let cases = [
        ("city", "5", "\"5\""),
        ("city", "", "\"\""),
        ("city", "true\nfalse", "\"true\\nfalse\""),
        ("days", "5", "5"),
        ("days", "many", "\"many\""),
        ("deep", "True", "true"),
        ("deep", "false", "false"),
        (
            "where",
            "{\"a\": [1, \"</parameter>\"]}",
            "{\"a\": [1, \"</parameter>\"]}",
        ),
        ("note", "null", "null"),
        ("note", "5", "\"5\""),
        ("kind", "1", "\"1\""),
        ("count", "12345678901234567890", "12345678901234567890"),
        ("any", "[]", "[]"),
        ("unknown", "x", "\"x\""),
        ("unknown", "1.50", "1.50"),
    ];
    for (key, value, json) in cases {
        let answer = format!(
            "<tool_call>\n<function=look>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"
        );
        let expected = format!("|look({{\"{key}\": {json}}})");
        check(&format(ToolFormat::QwenXml), &answer, &expected);
    }
}

#[test]
fn xml_calls() {
    let format = &format(ToolFormat::QwenXml);
    let cases = [
        (
            "a\n<tool_call>\n<function=look>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call><function=stop></function></tool_call>",
            "|t:a|look({\"city\": \"Bonn\", \"days\": 3})|stop({})",
        ),
        (
            "<function=look><parameter=city>Bonn</parameter></function> so",
            "|look({\"city\": \"Bonn\"})|t: so",
        ),
        ("<tool_call>\n{}", "|!|t:<tool_call>\n{}"),
        ("<function=look> I think", "|!|t:<function=look> I think"),
        (
            "<function=look><parameter=city>Bo\n</para",
            "|look({\"city\": \"Bo\\n</para|!",
        ),
        (
            "<function=look><parameter=city>B</parameter><parameter=days>1",
            "|look({\"city\": \"B\", \"days\": 1|!",
        ),
    ];
    for (answer, expected) in cases {
        check(format, answer, expected);
    }
}

#[test]
fn names_come_before_arguments_and_arguments_as_they_are_written() {
    let options = ParseOptions {
        tools: tools().into(),
        is_thinking_open: false,
    };
    let mut parser = AnswerParser::new(&format(ToolFormat::Hermes), options);
    let mut out = Vec::new();
    parser.push("<tool_call>{\"name\": \"look\", \"arguments\": {", &mut out);
    assert_eq!(short(&out), "|look({");
    parser.push("\"city\": \"Bo", &mut out);
    assert_eq!(short(&out), "|look({\"city\": \"Bo");
}

#[test]
fn endless_names_and_keys_are_not_kept() {
    let long = "x".repeat(5000);
    let cases = [
        (ToolFormat::Hermes, format!("<tool_call>{{\"{long}")),
        (
            ToolFormat::Hermes,
            format!("<tool_call>{{\"name\": \"{long}"),
        ),
        (ToolFormat::MistralNamed, format!("[TOOL_CALLS]{long}")),
        (ToolFormat::QwenXml, format!("<function={long}")),
    ];
    for (tools_format, answer) in cases {
        let options = ParseOptions {
            tools: tools().into(),
            is_thinking_open: false,
        };
        let mut parser = AnswerParser::new(&format(tools_format), options);
        let mut out = Vec::new();
        parser.push(&answer, &mut out);
        assert!(out.iter().any(|piece| matches!(piece, Piece::Notice(_))));
        parser.finish(&mut out);
        assert_eq!(short(&out), format!("|!|t:{answer}"));
    }
}

#[test]
fn formats_are_read_from_templates() {
    let cases = [
        (
            "{{ '<tool_call>\\n{\"name\": \"' }}, \"arguments\": ",
            Some(ToolFormat::Hermes),
        ),
        (
            "<tool_call><function=x><parameter=y> \"arguments\"",
            Some(ToolFormat::QwenXml),
        ),
        ("<tool_call>x<arg_key>y</arg_key> \"arguments\"", None),
        ("[TOOL_CALLS][", Some(ToolFormat::MistralList)),
        ("[TOOL_CALLS]x[ARGS]", Some(ToolFormat::MistralNamed)),
        ("{# <tool_call> \"arguments\" #}{{ x }}", None),
        ("{# [TOOL_CALLS]", None),
        ("", None),
    ];
    for (template, expected) in cases {
        assert_eq!(AnswerFormat::detect(template).tools, expected, "{template}");
    }
    let format = AnswerFormat::detect("[THINK]x[/THINK][TOOL_CALLS]");
    assert_eq!(
        format.marker_texts(),
        ["[THINK]", "[/THINK]", "[TOOL_CALLS]"]
    );
    let tags = format.thinking.unwrap();
    assert!(tags.is_open_in("so [THINK]\n") && !tags.is_open_in("[THINK]\n\n[/THINK]\n\n"));
}
