//! Bodies as clients send them, and bodies that are wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    exchange::{Tool, ToolChoice},
    strategies,
};

fn read_value(body: Value) -> Result<Request, ApiError> {
    let Value::Object(body) = body else {
        unreachable!("a body is an object")
    };
    read(&body, &Limits::default(), false)
}

/// A smallest body with one field set.
fn with(name: &str, value: Value) -> Value {
    let mut body =
        json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    body
}

fn chat(request: &Request) -> &Chat {
    match &request.ask.prompt {
        Prompt::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn header(request: &Request) -> String {
    request
        .notices
        .header()
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

#[test]
fn a_smallest_body_has_the_dialects_defaults() {
    let request = read_value(with("stream", Value::Null)).unwrap();
    assert!(!request.is_streamed && request.notices.is_empty());
    assert_eq!(
        (request.ask.max_tokens, request.ask.sampling.temperature),
        (Some(5), 1.0)
    );
    let chat = chat(&request);
    assert_eq!(
        json!(chat.messages),
        json!([{"role": "user", "content": "hi"}])
    );
    assert_eq!(
        (&chat.tool_choice, chat.is_parallel, chat.continues_last),
        (&ToolChoice::Auto, true, false)
    );
    assert_eq!(chat.thinking, Thinking::default());
}

#[test]
fn a_coding_agents_body_becomes_a_conversation() {
    let request = read_value(json!({
        "model": "m", "max_tokens": 32000, "stream": true, "temperature": 1,
        "system": [
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<reminder/>"}, {"type": "text", "text": "Fix it."}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Look first.", "signature": "whatever it was"},
                {"type": "redacted_thinking", "data": "AAAA"},
                {"type": "text", "text": "I look.", "citations": null},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}, "caller": {"type": "direct"}},
                {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such file", "is_error": true},
                {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}},
            ]},
        ],
        "tools": [
            {"name": "Read", "description": "Reads.", "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        ],
        "thinking": {"type": "adaptive"}, "output_config": {"effort": "max"},
        "metadata": {"user_id": "u"}, "context_management": {"edits": []},
    }))
    .unwrap();
    let chat = chat(&request);
    let expected = json!([
        {"role": "system", "content": "You are an agent.\nBe brief."},
        {"role": "user", "content": "<reminder/>\nFix it."},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Look first.", "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "Read", "arguments": {"path": "a"}}},
            {"id": "toolu_2", "type": "function", "function": {"name": "Read", "arguments": {}}},
        ]},
        {"role": "tool", "content": "one\ntwo", "tool_call_id": "toolu_1", "name": "Read"},
        {"role": "tool", "content": "Error: no such file", "tool_call_id": "toolu_2", "name": "Read"},
        {"role": "user", "content": "Go on."},
    ]);
    assert_eq!(json!(chat.messages), expected);
    let names: Vec<_> = chat.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["Read"]);
    assert_eq!(
        chat.thinking,
        Thinking {
            is_on: Some(true),
            effort: Some("high".into()),
            budget: None
        }
    );
    assert!(request.is_streamed);
    assert_eq!(
        header(&request),
        "ignored=cache_control; ignored=redacted_thinking; dropped-tool=web_search_20250305; ignored=metadata; ignored=context_management"
    );
}

#[test]
fn messages_of_one_role_are_one_turn() {
    let request = read_value(with("messages", json!([
        {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"}, {"role": "assistant", "content": "d"},
    ])))
    .unwrap();
    let chat = chat(&request);
    assert_eq!(
        json!(chat.messages),
        json!([{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c\nd"}])
    );
    assert!(
        chat.continues_last,
        "a last message of the assistant is continued"
    );
}

#[test]
fn system_messages_may_come_later() {
    let messages = json!([
        {"role": "user", "content": "a"}, {"role": "system", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"},
    ]);
    let mut body = with("messages", messages);
    body["system"] = json!("first");
    let request = read_value(body).unwrap();
    let roles: Vec<_> = chat(&request)
        .messages
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "system", "assistant", "user"]);
    assert_eq!(chat(&request).messages[2]["content"], "b");
    let image = json!({"role": "system", "content": [{"type": "image"}]});
    let error = read_value(with(
        "messages",
        json!([{"role": "user", "content": "a"}, image]),
    ))
    .unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages[1].content[0].type"));
}

#[test]
fn results_may_be_empty_or_absent() {
    for content in [json!(""), json!([]), Value::Null] {
        let request = read_value(with("messages", json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}]},
        ])))
        .unwrap();
        let last = &chat(&request).messages[2];
        assert_eq!(
            json!(last),
            json!({"role": "tool", "content": "", "tool_call_id": "t", "name": "f"})
        );
    }
}

#[test]
fn documents_of_plain_text_are_read() {
    let request = read_value(with("messages", json!([{"role": "user", "content": [
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}, "citations": {"enabled": true}},
        {"type": "search_result", "title": "S", "source": "example", "content": [{"type": "text", "text": "found"}]},
    ]}])))
    .unwrap();
    assert_eq!(
        chat(&request).messages[0]["content"],
        "T\nD\nS\nexample\nfound"
    );
    assert_eq!(header(&request), "ignored=citations");
}

#[test]
fn thinking_has_four_forms() {
    let cases = [
        (
            json!({"type": "enabled", "budget_tokens": 1024}),
            Some(true),
            Some(1024),
        ),
        (json!({"type": "disabled"}), Some(false), None),
        (json!({"type": "adaptive"}), Some(true), None),
        (json!({"type": "between_tools"}), Some(false), None),
    ];
    for (thinking, is_on, budget) in cases {
        let request = read_value(with("thinking", thinking)).unwrap();
        assert_eq!(
            chat(&request).thinking,
            Thinking {
                is_on,
                effort: None,
                budget
            }
        );
    }
    let mut body = with("thinking", json!({"type": "between_tools"}));
    body["messages"] = json!([
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]);
    assert_eq!(
        chat(&read_value(body).unwrap()).thinking.is_on,
        Some(true),
        "a result stands last"
    );
}

#[test]
fn choices_of_tools() {
    let tool =
        |name: &str| json!({"name": name, "input_schema": {"type": "object"}, "strict": true});
    let cases = [
        (json!({"type": "auto"}), ToolChoice::Auto, true),
        (
            json!({"type": "any", "disable_parallel_tool_use": true}),
            ToolChoice::Required,
            false,
        ),
        (
            json!({"type": "tool", "name": "g"}),
            ToolChoice::RequiredOf(vec!["g".into()]),
            true,
        ),
        (json!({"type": "none"}), ToolChoice::None, true),
    ];
    for (choice, expected, is_parallel) in cases {
        let mut body = with("tool_choice", choice);
        body["tools"] = json!([tool("f"), tool("g")]);
        let request = read_value(body).unwrap();
        let chat = chat(&request);
        assert_eq!(
            (&chat.tool_choice, chat.is_parallel),
            (&expected, is_parallel)
        );
        let offered = Tool {
            name: "f".into(),
            description: None,
            parameters: Some(json!({"type": "object"})),
            is_strict: true,
        };
        assert_eq!(chat.tools[0], offered);
    }
}

#[test]
fn a_format_binds_the_answer() {
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    let schema = Format::JsonSchema(json!({"type": "object"}));
    assert_eq!(
        read_value(with("output_config", json!({"format": format})))
            .unwrap()
            .ask
            .format,
        schema
    );
    assert_eq!(
        read_value(with("output_format", format))
            .unwrap()
            .ask
            .format,
        schema
    );
}

#[test]
fn what_is_wrong_is_named() {
    let message = |content: Value| json!([{"role": "user", "content": content}]);
    let block = |block: Value| message(json!([block]));
    let tool = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let cases = [
        ("model", with("model", Value::Null)),
        ("model", with("model", json!(""))),
        ("max_tokens", with("max_tokens", Value::Null)),
        ("max_tokens", with("max_tokens", json!(0))),
        ("max_tokens", with("max_tokens", json!("5"))),
        ("messages", with("messages", json!([]))),
        ("messages", with("messages", json!("hi"))),
        ("messages", with("messages", Value::Null)),
        ("messages[0]", with("messages", json!(["hi"]))),
        (
            "messages[0].role",
            with("messages", json!([{"role": "system", "content": "x"}])),
        ),
        (
            "messages[1].role",
            with(
                "messages",
                json!([{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]),
            ),
        ),
        (
            "messages[0].role",
            with("messages", json!([{"role": "developer", "content": "x"}])),
        ),
        (
            "messages[0].content",
            with("messages", message(Value::Null)),
        ),
        ("messages[0].content", with("messages", message(json!(5)))),
        (
            "messages[0].content[0]",
            with("messages", block(json!("x"))),
        ),
        (
            "messages[0].content[0].type",
            with("messages", block(json!({"type": "banana"}))),
        ),
        (
            "messages[0].content[0].type",
            with("messages", block(json!({"text": "x"}))),
        ),
        (
            "messages[0].content[0].text",
            with("messages", block(json!({"type": "text"}))),
        ),
        (
            "messages[0].content[0].type",
            with(
                "messages",
                block(json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
            ),
        ),
        (
            "messages[0].content[0].type",
            with(
                "messages",
                block(
                    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}),
                ),
            ),
        ),
        (
            "messages[0].content[0].type",
            with(
                "messages",
                block(
                    json!({"type": "image", "source": {"type": "url", "url": "http://example/"}}),
                ),
            ),
        ),
        (
            "messages[0].content[0].source.type",
            with(
                "messages",
                block(
                    json!({"type": "document", "source": {"type": "url", "url": "file:///etc/passwd"}}),
                ),
            ),
        ),
        (
            "messages[0].content[0].tool_use_id",
            with(
                "messages",
                block(json!({"type": "tool_result", "content": "x"})),
            ),
        ),
        (
            "messages[0].content[0].content[0].type",
            with(
                "messages",
                block(
                    json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}),
                ),
            ),
        ),
        ("system", with("system", json!(5))),
        ("system[0].type", with("system", json!([{"type": "image"}]))),
        ("temperature", with("temperature", json!(1.1))),
        ("top_p", with("top_p", json!(-0.1))),
        ("top_k", with("top_k", json!(-1))),
        ("stop_sequences[0]", with("stop_sequences", json!([5]))),
        ("stream", with("stream", json!("yes"))),
        ("tools", with("tools", json!({}))),
        ("tools[0]", with("tools", json!(["f"]))),
        (
            "tools[0].name",
            with("tools", json!([{"input_schema": {}}])),
        ),
        (
            "tools[0].name",
            with("tools", json!([{"name": "a b", "input_schema": {}}])),
        ),
        (
            "tools[0].input_schema",
            with("tools", json!([{"name": "f"}])),
        ),
        ("tools[1].name", with("tools", json!([tool[0], tool[0]]))),
        (
            "tool_choice.type",
            with("tool_choice", json!({"type": "banana"})),
        ),
        (
            "tool_choice.type",
            with("tool_choice", json!({"type": "any"})),
        ),
        (
            "tool_choice.name",
            with("tool_choice", json!({"type": "tool", "name": "f"})),
        ),
        (
            "tool_choice.name",
            with("tool_choice", json!({"type": "tool"})),
        ),
        ("thinking.type", with("thinking", json!({"type": "banana"}))),
        (
            "thinking.budget_tokens",
            with("thinking", json!({"type": "enabled"})),
        ),
        (
            "thinking.budget_tokens",
            with(
                "thinking",
                json!({"type": "enabled", "budget_tokens": 1023}),
            ),
        ),
        (
            "output_config.effort",
            with("output_config", json!({"effort": "banana"})),
        ),
        (
            "output_config.format.type",
            with("output_config", json!({"format": {"type": "xml"}})),
        ),
        (
            "output_config.format.schema",
            with("output_config", json!({"format": {"type": "json_schema"}})),
        ),
    ];
    for (param, body) in cases {
        match read_value(body.clone()) {
            Ok(_) => panic!("accepted: {body}"),
            Err(error) => assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(param)),
                "{body}: {error}"
            ),
        }
    }
}

#[test]
fn a_count_needs_no_limit() {
    let Value::Object(body) = with("max_tokens", Value::Null) else {
        unreachable!()
    };
    assert!(read(&body, &Limits::default(), true).is_ok());
}

#[test]
fn what_has_no_effect_is_named() {
    for name in NO_EFFECT.iter().chain(&["unknown_field"]) {
        let request = read_value(with(name, json!({"a": 1}))).unwrap();
        assert_eq!(header(&request), format!("ignored={name}"));
    }
}

const WORDS: &[&str] = &[
    "messages",
    "role",
    "user",
    "assistant",
    "content",
    "text",
    "thinking",
    "tool_use",
    "tool_result",
    "tool_use_id",
    "id",
    "name",
    "input",
    "source",
    "data",
    "document",
    "image",
    "system",
    "tools",
    "input_schema",
    "tool_choice",
    "any",
    "tool",
    "enabled",
    "budget_tokens",
    "output_config",
    "format",
    "schema",
    "json_schema",
    "cache_control",
    "stop_sequences",
];

proptest! {
    #[test]
    fn no_value_of_any_field_is_more_than_a_refusal(name in prop::sample::select(WORDS), value in strategies::json(WORDS)) {
        if let Err(error) = read_value(with(name, value)) {
            prop_assert_eq!(error.status.as_u16(), 400);
        }
    }
}
