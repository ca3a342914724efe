//! `/v1/messages` as its clients see it, on tiny models.

use serde_json::{Value, json};

use crate::client::{Server, with};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// A greedy request that does not take long.
fn request(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Tell me of the fire."}], "temperature": 0, "max_tokens": 24})
}

fn tool() -> Value {
    json!({"name": "light", "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"], "additionalProperties": false}})
}

fn forced() -> Value {
    let choice = json!({"type": "any", "disable_parallel_tool_use": true});
    with(
        &request("chat"),
        json!({"max_tokens": 400, "tools": [tool()], "tool_choice": choice}),
    )
}

/// What is made anew for each answer, taken out.
fn anonymous(mut message: Value) -> Value {
    message["id"].take();
    for block in message["content"].as_array_mut().unwrap() {
        if block["type"] == "tool_use" {
            block["id"].take();
        }
    }
    for name in ["input_tokens", "cache_read_input_tokens"] {
        message["usage"][name].take();
    }
    message
}

fn prompt_tokens(usage: &Value) -> u64 {
    let count = |name: &str| usage[name].as_u64().unwrap();
    count("input_tokens") + count("cache_read_input_tokens") + count("cache_creation_input_tokens")
}

/// The events of a stream, whose names are their types.
async fn stream(server: &Server, body: Value) -> Vec<Value> {
    let events = server.events(MESSAGES, body).await;
    assert!(
        events
            .iter()
            .all(|(name, event)| event["type"] == name.as_str())
    );
    events
        .into_iter()
        .map(|(_, event)| event)
        .filter(|event| event["type"] != "ping")
        .collect()
}

/// What a client puts together from events.
fn assembled(events: &[Value]) -> Value {
    let mut message = events[0]["message"].clone();
    let mut arguments = String::new();
    for event in &events[1..] {
        let content = message["content"].as_array_mut().unwrap();
        match event["type"].as_str().unwrap() {
            "content_block_start" => content.push(event["content_block"].clone()),
            "content_block_delta" => {
                let block = content.last_mut().unwrap();
                for (name, piece) in event["delta"].as_object().unwrap().iter().skip(1) {
                    let piece = piece.as_str().unwrap();
                    match name.as_str() {
                        "partial_json" => arguments += piece,
                        name => {
                            block[name] = (block[name].as_str().unwrap().to_owned() + piece).into()
                        }
                    }
                }
            }
            "content_block_stop" if !arguments.is_empty() => {
                content.last_mut().unwrap()["input"] =
                    serde_json::from_str(&std::mem::take(&mut arguments)).unwrap();
            }
            "message_delta" => {
                message["usage"] = event["usage"].clone();
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
            }
            _ => {}
        }
    }
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_put_together_is_the_answer() {
    let server = Server::new();
    for body in [request("chat"), request("think"), forced()] {
        let whole = server.ok(MESSAGES, body.clone()).await;
        let events = stream(&server, body).await;
        assert_eq!(events.last().unwrap()["type"], "message_stop");
        assert_eq!(
            prompt_tokens(&events[0]["message"]["usage"]),
            prompt_tokens(&whole["usage"])
        );
        assert_eq!(anonymous(assembled(&events)), anonymous(whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_what_the_answer_costs() {
    let server = Server::new();
    let body = with(&forced(), json!({"system": "Be brief.", "max_tokens": 1}));
    let usage = server.ok(MESSAGES, body.clone()).await["usage"].clone();
    let mut counted = body;
    counted.as_object_mut().unwrap().remove("max_tokens");
    let count = server.ok(COUNT, counted).await;
    assert_eq!(count, json!({"input_tokens": prompt_tokens(&usage)}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_time_comes_from_the_cache_and_is_the_same() {
    let server = Server::new();
    let content = "Tell me of the fire. ".repeat(40);
    let body = with(
        &request("chat"),
        json!({"messages": [{"role": "user", "content": content}]}),
    );
    let first = server.ok(MESSAGES, body.clone()).await;
    let second = server.ok(MESSAGES, body).await;
    assert_eq!(first["usage"]["cache_read_input_tokens"], 0);
    assert!(second["usage"]["cache_read_input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(
        prompt_tokens(&first["usage"]),
        prompt_tokens(&second["usage"])
    );
    assert_eq!(anonymous(first), anonymous(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_to_stop() {
    let server = Server::new();
    let cut = server
        .ok(MESSAGES, with(&request("chat"), json!({"max_tokens": 1})))
        .await;
    assert_eq!(
        (&cut["stop_reason"], &cut["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(1))
    );
    let whole = server.ok(MESSAGES, request("chat")).await;
    let text = whole["content"][0]["text"].as_str().unwrap();
    let stop: String = text.chars().skip(6).take(2).collect();
    let body = with(&request("chat"), json!({"stop_sequences": ["never", stop]}));
    let stopped = server.ok(MESSAGES, body).await;
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!(stop))
    );
    let before = text.split(&stop).next().unwrap();
    assert_eq!(
        stopped["content"],
        json!([{"type": "text", "text": before}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_call_validates_and_its_result_goes_back() {
    let server = Server::new();
    for choice in [
        json!({"type": "any", "disable_parallel_tool_use": true}),
        json!({"type": "tool", "name": "light", "disable_parallel_tool_use": true}),
    ] {
        let body = with(&forced(), json!({"tool_choice": choice, "temperature": 1}));
        let call = server.ok(MESSAGES, body.clone()).await;
        assert_eq!(call["stop_reason"], "tool_use", "{call}");
        assert_eq!(call["content"].as_array().unwrap().len(), 1);
        let block = &call["content"][0];
        assert_eq!(
            (&block["type"], &block["name"]),
            (&json!("tool_use"), &json!("light"))
        );
        assert!(block["id"].as_str().unwrap().starts_with("toolu_"));
        assert!(block["input"]["n"].as_u64().unwrap() <= 9 && block["input"]["ok"].is_boolean());
        let result = json!({"type": "tool_result", "tool_use_id": block["id"], "content": "lit"});
        let messages = json!([body["messages"][0], {"role": "assistant", "content": call["content"]}, {"role": "user", "content": [result]}]);
        let answer = server
            .ok(
                MESSAGES,
                with(
                    &body,
                    json!({"messages": messages, "tool_choice": {"type": "none"}, "max_tokens": 4}),
                ),
            )
            .await;
        assert_eq!(answer["content"][0]["type"], "text");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thinking_is_a_signed_block_of_its_own() {
    let server = Server::new();
    let body = with(
        &request("think"),
        json!({"max_tokens": 40, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
    );
    let message = server.ok(MESSAGES, body.clone()).await;
    let thought = &message["content"][0];
    assert_eq!(thought["type"], "thinking");
    assert!(!thought["signature"].as_str().unwrap().is_empty());
    // It goes back, whatever is left of its signature.
    let mut block = thought.clone();
    block["signature"] = json!("");
    let messages = json!([body["messages"][0], {"role": "assistant", "content": [block, {"type": "text", "text": "So."}]}, {"role": "user", "content": "On."}]);
    server
        .ok(MESSAGES, with(&body, json!({"messages": messages})))
        .await;
    let off = server
        .ok(
            MESSAGES,
            with(&body, json!({"thinking": {"type": "disabled"}})),
        )
        .await;
    assert_eq!(off["content"][0]["type"], "text", "{off}");
    for thinking in [
        json!({"type": "adaptive"}),
        json!({"type": "enabled", "budget_tokens": 1024}),
        json!({"type": "disabled"}),
    ] {
        let without = server
            .ok(
                MESSAGES,
                with(
                    &request("chat"),
                    json!({"thinking": thinking, "max_tokens": 2}),
                ),
            )
            .await;
        assert_eq!(without["content"][0]["type"], "text");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_binds_the_answer() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": false});
    for model in ["chat", "think"] {
        let format = json!({"format": {"type": "json_schema", "schema": schema}});
        let thinking = json!({"type": "disabled"});
        let body = with(
            &request(model),
            json!({"output_config": format, "max_tokens": 200, "temperature": 1, "thinking": thinking}),
        );
        let message = server.ok(MESSAGES, body).await;
        assert_eq!(message["stop_reason"], "end_turn", "{message}");
        let value: Value =
            serde_json::from_str(message["content"][0]["text"].as_str().unwrap()).unwrap();
        assert!(value["n"].as_u64().unwrap() <= 9);
    }
    let body = with(
        &request("chat"),
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "if": {}}}}}),
    );
    let answer = server.post(MESSAGES, body).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("if"),
        "{}",
        answer.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_message_of_the_assistant_is_continued() {
    let server = Server::new();
    let whole = server.ok(MESSAGES, request("chat")).await;
    let text = whole["content"][0]["text"].as_str().unwrap();
    let begun: String = text.chars().take(8).collect();
    let messages = json!([request("chat")["messages"][0], {"role": "assistant", "content": begun}]);
    let plain = prompt_tokens(&whole["usage"]);
    let more = server
        .ok(
            MESSAGES,
            with(&request("chat"), json!({"messages": messages})),
        )
        .await;
    // The prompt grew by what was begun, and no turn was closed or opened.
    assert!(prompt_tokens(&more["usage"]) - plain <= begun.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_dialects_form() {
    let server = Server::new();
    let cases = [
        (
            404,
            "not_found_error",
            with(&request("chat"), json!({"model": "nowhere"})),
        ),
        (
            404,
            "not_found_error",
            with(
                &request("chat"),
                json!({"model": "nowhere", "stream": true}),
            ),
        ),
        (
            400,
            "invalid_request_error",
            with(&request("chat"), json!({"messages": []})),
        ),
        (
            400,
            "invalid_request_error",
            with(&request("chat"), json!({"max_tokens": null})),
        ),
        (
            400,
            "invalid_request_error",
            with(&request("plain"), json!({})),
        ),
        (
            400,
            "invalid_request_error",
            with(
                &request("chat"),
                json!({"hearth": {"strict": true}, "metadata": {}}),
            ),
        ),
        (
            400,
            "invalid_request_error",
            with(
                &request("chat"),
                json!({"messages": [{"role": "user", "content": "fire ".repeat(9000)}]}),
            ),
        ),
    ];
    for (status, kind, body) in cases {
        let answer = server.post(MESSAGES, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let error = &answer.body;
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!(kind))
        );
        assert!(error["request_id"].as_str().unwrap().starts_with("req_"));
        assert_eq!(
            answer.headers["request-id"],
            error["request_id"].as_str().unwrap()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_refuses_what_answering_refuses() {
    let server = Server::new();
    let cases = [
        (404, json!({"model": "nowhere"})),
        (400, json!({"model": null})),
        (400, json!({"messages": []})),
        (
            400,
            json!({"messages": [{"role": "user", "content": [{"type": "banana"}]}]}),
        ),
        (400, json!({"tools": [{"name": "f"}]})),
        (400, json!({"hearth": {"strict": true}, "metadata": {}})),
        (400, json!({"model": "plain"})),
    ];
    for (status, more) in cases {
        let answer = server.post(COUNT, with(&request("chat"), more)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.body["type"], "error");
        assert!(answer.body["request_id"].is_string());
    }
}

/// FIELD-NOTES 11: a line with a checksum that changes with every request stands in front of one agent's system prompt.
#[tokio::test(flavor = "multi_thread")]
async fn a_changing_line_in_front_of_the_system_prompt_does_not_defeat_the_cache() {
    let server = Server::new();
    let ask = async |checksum: &str| {
        let header = format!("x-anthropic-billing-header: cc_version=2.1; cch={checksum};");
        let text = "Tell of the fire and of the snow. ".repeat(20);
        let system = json!([{"type": "text", "text": header}, {"type": "text", "text": text}]);
        let answer = server
            .post(MESSAGES, with(&request("chat"), json!({"system": system})))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    };
    let (first, second) = (ask("a1b2c").await, ask("defa0").await);
    let cached = &second.body["usage"]["cache_read_input_tokens"];
    assert!(cached.as_u64().unwrap() > 64, "{cached}");
    assert_eq!(first.body["content"], second.body["content"]);
    let notice = second.headers["hearth-notice"].to_str().unwrap();
    assert!(
        notice.contains("ignored=x-anthropic-billing-header"),
        "{notice}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_over_long_prompt_is_counted_and_refused() {
    let server = Server::new();
    let body = with(
        &request("chat"),
        json!({"messages": [{"role": "user", "content": "fire ".repeat(9000)}]}),
    );
    let count = server.ok(COUNT, body.clone()).await["input_tokens"]
        .as_u64()
        .unwrap();
    let message = server.post(MESSAGES, body).await.body["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains(&format!("prompt is too long: {count} tokens > ")),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_sends_works_and_what_has_no_effect_is_named() {
    let server = Server::new();
    let body = json!({
        "model": "chat", "max_tokens": 1, "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "quota"}]}], "metadata": {"user_id": "u"},
        "tools": [tool(), {"type": "web_search_20250305", "name": "web_search"}], "thinking": {"type": "adaptive"},
        "context_management": {"edits": []},
    });
    let answer = server.post("/v1/messages?beta=true", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let notice = answer.headers["hearth-notice"].to_str().unwrap();
    for part in [
        "ignored=cache_control",
        "ignored=metadata",
        "dropped-tool=web_search_20250305",
        "ignored=context_management",
    ] {
        assert!(notice.contains(part), "{notice}");
    }
}
