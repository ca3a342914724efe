//! What binds an answer of `/v1/chat/completions`: tools, schemas and grammars; and that streams give the same.

use serde_json::{Value, json};

use crate::{
    client::{Server, with},
    talk::{CHAT, content, flat, joined, message, request, tool},
};

#[tokio::test]
async fn the_pieces_of_a_stream_are_the_answer() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 12}, "b": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["a", "b"], "additionalProperties": false});
    let answer = content(&server.ok(CHAT, request("chat")).await);
    let end: String = answer
        .chars()
        .skip(answer.chars().count().saturating_sub(2))
        .collect();
    let middle: String = answer.chars().skip(3).take(2).collect();
    let variants = [
        json!({}),
        json!({"temperature": 1, "seed": 7}),
        json!({"temperature": 1.3, "seed": 8, "max_tokens": 60, "top_p": 0.95}),
        json!({"temperature": 1, "seed": 9, "n": 3}),
        json!({"temperature": 1, "seed": 10, "logprobs": true, "top_logprobs": 3}),
        // Held back at the limit, and delivered.
        json!({"stop": [format!("{end}never")]}),
        json!({"stop": middle}),
        json!({"tools": [tool("look"), tool("go")], "tool_choice": "required", "max_tokens": 200, "temperature": 1, "seed": 3}),
        json!({"tools": [tool("look")], "tool_choice": "required", "max_tokens": 9}),
        json!({"tools": [tool("look")], "temperature": 1, "seed": 4}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, "max_tokens": 300, "temperature": 1, "seed": 5}),
        json!({"response_format": {"type": "json_object"}, "max_tokens": 12, "temperature": 1, "seed": 6}),
    ];
    for model in ["chat", "think"] {
        for variant in &variants {
            let body = with(&request(model), variant.clone());
            let whole = server.ok(CHAT, body.clone()).await;
            let chunks = server
                .stream(
                    CHAT,
                    with(&body, json!({"stream_options": {"include_usage": true}})),
                )
                .await;
            assert_eq!(joined(&chunks), flat(&whole), "{model} {variant}");
            let (last, others) = chunks.split_last().unwrap();
            assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
            assert_eq!(last["choices"], json!([]));
            for key in [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "completion_tokens_details",
            ] {
                assert_eq!(
                    last["usage"][key], whole["usage"][key],
                    "{model} {variant} {key}"
                );
            }
        }
    }
}

#[tokio::test]
async fn forced_calls_are_valid_and_nothing_else() {
    let server = Server::new();
    let tools = json!([tool("look"), tool("go_on")]);
    let choices = [
        (json!("required"), None),
        (
            json!({"type": "function", "function": {"name": "go_on"}}),
            Some("go_on"),
        ),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]}}),
            Some("look"),
        ),
    ];
    for model in ["chat", "think"] {
        for (seed, (choice, name)) in choices.iter().enumerate() {
            for is_parallel in [true, false] {
                let body = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": is_parallel, "temperature": 1.2,
                    "seed": seed, "max_tokens": 600, "reasoning_effort": "none"});
                let body = server.ok(CHAT, with(&request(model), body)).await;
                let choice = &body["choices"][0];
                let calls = choice["message"]["tool_calls"].as_array().unwrap();
                assert!(
                    !calls.is_empty() && (is_parallel || calls.len() == 1),
                    "{body}"
                );
                if choice["finish_reason"] == "length" {
                    continue;
                }
                assert_eq!(choice["finish_reason"], "tool_calls");
                assert_eq!(choice["message"]["content"], Value::Null);
                let mut ids: Vec<&str> = calls
                    .iter()
                    .map(|call| call["id"].as_str().unwrap())
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), calls.len(), "ids are unique");
                for call in calls {
                    assert!(
                        call["id"].as_str().unwrap().starts_with("call_")
                            && call["type"] == "function"
                    );
                    assert!(
                        name.is_none_or(|name| call["function"]["name"] == name),
                        "{call}"
                    );
                    check_arguments(&call["function"]["arguments"]);
                }
            }
        }
    }
}

fn check_arguments(arguments: &Value) {
    let arguments: Value = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    let object = arguments.as_object().unwrap();
    assert_eq!(object.len(), 2, "{arguments}");
    assert!(
        object["ok"].is_boolean() && (0..=9).contains(&object["n"].as_i64().unwrap()),
        "{arguments}"
    );
}

#[tokio::test]
async fn what_turns_out_late_is_told_in_the_last_object() {
    let server = Server::new();
    let more = json!({"tools": [tool("look")], "tool_choice": "required", "max_tokens": 9, "n": 2, "seed": 1, "temperature": 1});
    let body = with(&request("chat"), more);
    let whole = server.post(CHAT, body.clone()).await;
    let notices = whole.body["hearth"]["notices"].as_array().unwrap();
    assert_eq!(notices.len(), 2, "both calls were cut: {}", whole.body);
    let header = whole.headers["hearth-notice"].to_str().unwrap();
    assert!(
        header.starts_with("note=") && header.contains("call"),
        "{header}"
    );
    let chunks = server.stream(CHAT, body).await;
    let told: Vec<&Value> = chunks
        .iter()
        .filter(|chunk| chunk.get("hearth").is_some())
        .inspect(|chunk| assert_eq!(chunk["choices"][0]["finish_reason"], "length"))
        .flat_map(|chunk| chunk["hearth"]["notices"].as_array().unwrap())
        .collect();
    assert_eq!(json!(told), whole.body["hearth"]["notices"]);
    let quiet = server.ok(CHAT, request("chat")).await;
    assert!(quiet.get("hearth").is_none(), "{quiet}");
}

#[tokio::test]
async fn the_old_form_of_tools_is_answered_in_kind() {
    let server = Server::new();
    let body = json!({"functions": [tool("look")["function"]], "function_call": {"name": "look"}, "max_tokens": 400});
    let body = server.ok(CHAT, with(&request("chat"), body)).await;
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "function_call", "{body}");
    assert_eq!(choice["message"]["function_call"]["name"], "look");
    check_arguments(&choice["message"]["function_call"]["arguments"]);
}

#[tokio::test]
async fn with_no_choice_everything_is_content() {
    let server = Server::new();
    let loaded = server.app.models.get("chat").await.unwrap();
    let tokenizer = loaded.engine.tokenizer();
    let marker = (0..tokenizer.n_vocab() as u32)
        .find(|id| tokenizer.piece(*id) == Some(b"<tool_call>"))
        .unwrap();
    let bias = json!({marker.to_string(): 100});
    for more in [
        json!({}),
        json!({"tools": [tool("look")], "tool_choice": "none"}),
    ] {
        let body = with(
            &request("chat"),
            with(&json!({"logit_bias": bias, "max_tokens": 3}), more),
        );
        let body = server.ok(CHAT, body).await;
        assert_eq!(content(&body), "<tool_call><tool_call><tool_call>");
        assert!(message(&body, 0).get("tool_calls").is_none());
    }
}

#[tokio::test]
async fn answers_validate_against_their_schema() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"colour": {"enum": ["red", "gr\"ün", 3]}, "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
        "required": ["colour", "list"], "additionalProperties": false});
    for model in ["chat", "think"] {
        for seed in 0..4 {
            let format =
                json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
            let body = json!({"response_format": format, "temperature": 1, "seed": seed, "max_tokens": 400, "reasoning_effort": "none"});
            let body = server.ok(CHAT, with(&request(model), body)).await;
            assert_eq!(body["choices"][0]["finish_reason"], "stop", "{body}");
            let value: Value = serde_json::from_str(&content(&body)).unwrap();
            assert!(
                [json!("red"), json!("gr\"ün"), json!(3)].contains(&value["colour"]),
                "{value}"
            );
            assert!(
                value["list"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(Value::is_boolean)
            );
        }
    }
    let other = [
        (
            json!({"guided_choice": ["fire", "snow"]}),
            vec!["fire", "snow"],
        ),
        (
            json!({"guided_regex": "[ab]{3}"}),
            vec!["aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"],
        ),
        (
            json!({"grammar": "root ::= \"yes\" | \"no\""}),
            vec!["yes", "no"],
        ),
    ];
    for (field, allowed) in other {
        let body = server.ok(CHAT, with(&request("chat"), field)).await;
        assert!(allowed.contains(&content(&body).as_str()), "{body}");
    }
}

#[tokio::test]
async fn where_tools_are_on_offer_the_text_is_bound_and_calls_are_valid() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let (mut n_texts, mut n_calls) = (0, 0);
    for seed in 0..12 {
        let body = json!({"response_format": format, "tools": [tool("look"), tool("go_on")], "temperature": 1.5, "seed": seed,
            "max_tokens": 600, "parallel_tool_calls": false});
        let body = server.ok(CHAT, with(&request("chat"), body)).await;
        match body["choices"][0]["finish_reason"].as_str().unwrap() {
            "stop" => {
                let value: Value = serde_json::from_str(&content(&body)).unwrap();
                assert!(["red", "blue"].contains(&value["colour"].as_str().unwrap()));
                n_texts += 1;
            }
            "tool_calls" => {
                let calls = message(&body, 0)["tool_calls"].as_array().unwrap();
                check_arguments(&calls[0]["function"]["arguments"]);
                n_calls += 1;
            }
            other => assert_eq!(other, "length"),
        }
    }
    assert!(
        n_texts > 0 && n_calls > 0,
        "{n_texts} texts, {n_calls} calls"
    );
}

#[tokio::test]
async fn what_cannot_be_enforced_is_refused_before_anything_is_drawn() {
    let server = Server::new();
    for schema in [
        json!({"type": "banana"}),
        json!({"$ref": "#/nowhere"}),
        json!({"type": "string", "pattern": "("}),
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let (status, error) = server
            .refused(
                CHAT,
                with(
                    &request("chat"),
                    json!({"response_format": format, "stream": true}),
                ),
            )
            .await;
        assert_eq!(
            (status, &error["type"]),
            (400, &json!("invalid_request_error")),
            "{schema}"
        );
    }
    for (field, value) in [
        ("grammar", json!("root ::= nowhere")),
        ("guided_regex", json!("(")),
        ("json_schema", json!({"type": "banana"})),
        (
            "response_format",
            json!({"type": "json_object", "schema": {"type": "banana"}}),
        ),
        (
            "functions",
            json!([{"name": "f", "parameters": {"type": "banana"}}]),
        ),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "banana"}}}]),
        ),
    ] {
        let (status, error) = server
            .refused(CHAT, with(&request("chat"), json!({field: value})))
            .await;
        assert_eq!((status, &error["param"]), (400, &json!(field)), "{error}");
    }
    let mut deep = json!({});
    for _ in 0..70 {
        deep = json!({"not": deep});
    }
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": deep}});
    let (status, _) = server
        .refused(
            CHAT,
            with(&request("chat"), json!({"response_format": format})),
        )
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn cve_2025_48944_a_tools_malformed_schema_is_a_400_and_the_server_lives() {
    let server = Server::new();
    let bad = [
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
        json!({"type": "object", "properties": {"a": {"type": "banana"}}}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
        json!({"type": "object", "properties": {"a": {"enum": []}}}),
    ];
    for schema in bad {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": schema}});
        let body = json!({"tools": [tool], "tool_choice": "required"});
        let (status, _) = server.refused(CHAT, with(&request("chat"), body)).await;
        assert_eq!(status, 400, "{tool}");
    }
    server.ok(CHAT, request("chat")).await;
}
