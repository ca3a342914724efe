//! Bodies as clients send them, and bodies that are wrong.

use proptest::prelude::*;

use super::*;
use crate::{
    exchange::{Tool, ToolChoice},
    strategies,
};

fn read_value(body: Value) -> Result<Request, ApiError> {
    let Value::Object(body) = body else {
        unreachable!("a body is an object")
    };
    let mut request = read(&body, &Limits::default())?;
    request.ask(&[])?;
    Ok(request)
}

/// A smallest body with one field set.
fn with(name: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "input": "hi"});
    body[name] = value;
    body
}

fn chat(request: &mut Request) -> Chat {
    match request.ask(&[]).unwrap().prompt {
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

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object"}, "strict": true})
}

#[test]
fn a_smallest_body_has_the_dialects_defaults() {
    let mut request = read_value(with("stream", Value::Null)).unwrap();
    assert!(!request.is_streamed && request.notices.is_empty() && request.echo.is_stored);
    assert_eq!(
        (
            request.echo.temperature,
            request.echo.top_p,
            request.echo.is_parallel
        ),
        (1.0, 1.0, true)
    );
    assert_eq!(
        (&request.echo.tool_choice, &request.echo.format),
        (&json!("auto"), &json!({"type": "text"}))
    );
    let ask = request.ask(&[]).unwrap();
    assert_eq!(
        (
            ask.sampling.temperature,
            ask.max_tokens,
            ask.n,
            ask.n_logprobs
        ),
        (1.0, None, 1, None)
    );
    assert_eq!(
        json!(chat(&mut request).messages),
        json!([{"role": "user", "content": "hi"}])
    );
}

#[test]
fn an_agents_body_is_read() {
    let mut request = read_value(json!({
        "model": "m", "instructions": "You are an agent.", "stream": true, "store": false, "parallel_tool_calls": false,
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions/>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
        ],
        "tools": [
            function("exec"),
            {"type": "namespace", "name": "agents", "description": "Others.", "tools": [function("spawn"), {"type": "custom", "name": "raw"}]},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "local_shell"}, {"type": "web_search", "external_web_access": true},
        ],
        "tool_choice": "auto", "reasoning": {"effort": null, "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k", "client_metadata": {"session": "s"}, "text": {"verbosity": "low"},
    }))
    .unwrap();
    assert_eq!(
        header(&request),
        "dropped-tool=custom; dropped-tool=local_shell; dropped-tool=web_search; ignored=text.verbosity; \
         ignored=reasoning.summary; ignored=include[reasoning.encrypted_content]; ignored=client_metadata; ignored=prompt_cache_key"
    );
    let chat = chat(&mut request);
    let expected = json!([
        {"role": "system", "content": "You are an agent.\n<permissions/>"},
        {"role": "user", "content": "Fix it."},
    ]);
    assert_eq!(json!(chat.messages), expected);
    let names: Vec<_> = chat.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["exec", "spawn"]);
    assert_eq!(
        request.namespaces,
        HashMap::from([("spawn".to_owned(), "agents".to_owned())])
    );
    assert!(request.is_streamed && !request.echo.is_stored && !chat.is_parallel);
    let kinds: Vec<_> = request
        .echo
        .tools
        .iter()
        .map(|tool| tool["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["function", "namespace"]);
}

#[test]
fn functions_whose_name_does_not_say_which_are_left_out() {
    let namespace = |name: &str, tools: Value| json!({"type": "namespace", "name": name, "description": "", "tools": tools});
    let mut request = read_value(with(
        "tools",
        json!([
            function("a"),
            namespace("x", json!([function("a"), function("b")])),
            namespace("y", json!([function("b"), function("c")])),
        ]),
    ))
    .unwrap();
    let names: Vec<_> = chat(&mut request)
        .tools
        .into_iter()
        .map(|tool| tool.name)
        .collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(
        header(&request),
        "dropped-tool=x.a; dropped-tool=x.b; dropped-tool=y.b"
    );
}

#[test]
fn choices_of_tools() {
    let cases = [
        (json!("none"), ToolChoice::None),
        (json!("auto"), ToolChoice::Auto),
        (json!("required"), ToolChoice::Required),
        (
            json!({"type": "function", "name": "g"}),
            ToolChoice::RequiredOf(vec!["g".into()]),
        ),
        (
            json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
            ToolChoice::AutoOf(vec!["f".into()]),
        ),
        (
            json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}),
            ToolChoice::RequiredOf(vec!["f".into()]),
        ),
    ];
    for (choice, expected) in cases {
        let mut body = with("tool_choice", choice.clone());
        body["tools"] = json!([function("f"), function("g")]);
        let mut request = read_value(body).unwrap();
        assert_eq!(request.echo.tool_choice, choice, "as given");
        let chat = chat(&mut request);
        assert_eq!(chat.tool_choice, expected);
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
    let cases = [
        (json!({"type": "text"}), Format::Text),
        (json!({"type": "json_object"}), Format::JsonObject),
        (
            json!({"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}),
            Format::JsonSchema(json!({"type": "object"})),
        ),
    ];
    for (format, expected) in cases {
        let mut request = read_value(with("text", json!({"format": format}))).unwrap();
        assert_eq!(request.ask(&[]).unwrap().format, expected);
        assert_eq!(request.echo.format, format);
    }
}

#[test]
fn effort_switches_thinking() {
    let cases = [
        ("none", Some(false), None),
        ("minimal", Some(true), Some("low")),
        ("medium", Some(true), Some("medium")),
        ("max", Some(true), Some("high")),
    ];
    for (word, is_on, effort) in cases {
        let mut request = read_value(with("reasoning", json!({"effort": word}))).unwrap();
        assert_eq!(
            chat(&mut request).thinking,
            Thinking {
                is_on,
                effort: effort.map(str::to_owned),
                budget: None
            }
        );
        assert_eq!(request.echo.effort.as_deref(), Some(word));
    }
}

#[test]
fn what_was_stored_comes_between_instructions_and_input() {
    let Value::Object(body) = json!({"model": "m", "instructions": "new", "input": "more", "previous_response_id": "resp_1"})
    else {
        unreachable!()
    };
    let mut request = read(&body, &Limits::default()).unwrap();
    let history = [
        json!({"type": "message", "id": "msg_1", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}),
        json!({"type": "message", "id": "msg_2", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "ho", "annotations": [], "logprobs": []}]}),
    ];
    let Prompt::Chat(chat) = request.ask(&history).unwrap().prompt else {
        unreachable!()
    };
    let expected = json!([
        {"role": "system", "content": "new"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "more"},
    ]);
    assert_eq!(json!(chat.messages), expected);
    assert!(request.notices.is_empty());
}

#[test]
fn log_probabilities_are_asked_for_in_two_ways() {
    let cases = [
        (
            json!({"include": ["message.output_text.logprobs"]}),
            Some(0),
        ),
        (
            json!({"include": ["message.output_text.logprobs"], "top_logprobs": 3}),
            Some(3),
        ),
        (json!({"top_logprobs": 2}), Some(2)),
        (json!({"top_logprobs": 0}), None),
    ];
    for (fields, expected) in cases {
        let mut body = json!({"model": "m", "input": "hi"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        assert_eq!(
            read_value(body).unwrap().ask(&[]).unwrap().n_logprobs,
            expected
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("model", with("model", Value::Null)),
        ("model", with("model", json!(""))),
        ("input", with("input", Value::Null)),
        ("input", with("input", json!(5))),
        ("input", with("input", json!([]))),
        ("input[0].type", with("input", json!([{"type": "banana"}]))),
        ("instructions", with("instructions", json!(5))),
        ("max_output_tokens", with("max_output_tokens", json!(0))),
        ("max_output_tokens", with("max_output_tokens", json!(-1))),
        ("temperature", with("temperature", json!(2.5))),
        ("top_p", with("top_p", json!(2))),
        ("top_logprobs", with("top_logprobs", json!(21))),
        ("include[0]", with("include", json!(["banana"]))),
        ("tools", with("tools", json!({}))),
        ("tools[0]", with("tools", json!([5]))),
        ("tools[0].type", with("tools", json!([{"name": "f"}]))),
        (
            "tools[0].name",
            with("tools", json!([{"type": "function"}])),
        ),
        (
            "tools[0].name",
            with("tools", json!([{"type": "function", "name": ""}])),
        ),
        (
            "tools[0].parameters",
            with(
                "tools",
                json!([{"type": "function", "name": "f", "parameters": 5}]),
            ),
        ),
        (
            "tools[1].name",
            with("tools", json!([function("f"), function("f")])),
        ),
        (
            "tools[0].tools[0].name",
            with(
                "tools",
                json!([{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]),
            ),
        ),
        ("tool_choice", with("tool_choice", json!("banana"))),
        ("tool_choice", with("tool_choice", json!("required"))),
        (
            "tool_choice.name",
            with("tool_choice", json!({"type": "function", "name": "f"})),
        ),
        (
            "tool_choice.type",
            with("tool_choice", json!({"type": "web_search"})),
        ),
        (
            "parallel_tool_calls",
            with("parallel_tool_calls", json!("yes")),
        ),
        (
            "text.format.type",
            with("text", json!({"format": {"type": "banana"}})),
        ),
        (
            "text.format.schema",
            with(
                "text",
                json!({"format": {"type": "json_schema", "name": "n", "schema": 5}}),
            ),
        ),
        (
            "text.format.schema",
            with(
                "text",
                json!({"format": {"type": "json_schema", "name": "n"}}),
            ),
        ),
        (
            "reasoning.effort",
            with("reasoning", json!({"effort": "banana"})),
        ),
        ("background", with("background", json!(true))),
        ("conversation", with("conversation", json!("conv_1"))),
        ("prompt", with("prompt", json!({"id": "pmpt_1"}))),
        ("truncation", with("truncation", json!("banana"))),
        ("stream", with("stream", json!(1))),
        ("store", with("store", json!(1))),
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
fn what_has_no_effect_is_named() {
    for name in NO_EFFECT.iter().chain(&["unknown_field"]) {
        let request = read_value(with(name, json!({"a": 1}))).unwrap();
        assert_eq!(header(&request), format!("ignored={name}"));
    }
    for (field, header_of) in [
        (json!({"service_tier": "flex"}), "ignored=service_tier"),
        (
            json!({"stream_options": {"odd": 1}}),
            "ignored=stream_options.odd",
        ),
        (
            json!({"tools": [{"type": "namespace", "name": "n", "tools": [], "odd": 1}]}),
            "ignored=tools[0].odd",
        ),
        (
            json!({"tools": [function("f")], "tool_choice": {"type": "function", "name": "f", "odd": 1}}),
            "ignored=tool_choice.odd",
        ),
    ] {
        let mut body = json!({"model": "m", "input": "hi"});
        body.as_object_mut()
            .unwrap()
            .extend(field.as_object().unwrap().clone());
        assert_eq!(header(&read_value(body).unwrap()), header_of);
    }
    for quiet in [
        json!({"background": false}),
        json!({"service_tier": "auto"}),
        json!({"stream_options": {"include_obfuscation": false}}),
        json!({"truncation": "auto"}),
        json!({"metadata": {"k": "v"}}),
    ] {
        let mut body = json!({"model": "m", "input": "hi"});
        body.as_object_mut()
            .unwrap()
            .extend(quiet.as_object().unwrap().clone());
        assert_eq!(header(&read_value(body).unwrap()), "");
    }
}

const WORDS: &[&str] = &[
    "input",
    "role",
    "user",
    "assistant",
    "developer",
    "content",
    "message",
    "input_text",
    "output_text",
    "text",
    "reasoning",
    "summary",
    "function_call",
    "function_call_output",
    "call_id",
    "id",
    "name",
    "arguments",
    "output",
    "item_reference",
    "custom_tool_call",
    "tools",
    "function",
    "namespace",
    "parameters",
    "tool_choice",
    "allowed_tools",
    "mode",
    "auto",
    "required",
    "format",
    "schema",
    "json_schema",
    "effort",
    "include",
    "metadata",
    "instructions",
    "previous_response_id",
];

proptest! {
    #[test]
    fn no_value_of_any_field_is_more_than_a_refusal(name in prop::sample::select(WORDS), value in strategies::json(WORDS)) {
        if let Err(error) = read_value(with(name, value)) {
            prop_assert_eq!(error.status.as_u16(), 400);
        }
    }
}
