//! Where stop strings count: in an answer's text, not in its thought or its calls; and what a cut JSON text is called.

use serde_json::{Value, json};

use crate::{
    client::{Server, with},
    talk::{CHAT, content, flat, joined, message, request, tool},
};

fn format() -> Value {
    let schema = json!({"type": "object", "properties": {"warm": {"type": "boolean"}, "n": {"enum": [17]}},
        "required": ["warm", "n"], "additionalProperties": false});
    json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
}

#[tokio::test]
async fn json_that_a_stop_string_cuts_does_not_end_with_stop() {
    let server = Server::new();
    for model in ["chat", "think"] {
        let body =
            json!({"response_format": format(), "max_tokens": 200, "reasoning_effort": "none"});
        let body = with(&request(model), body);
        let whole = server.ok(CHAT, body.clone()).await;
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        let body = with(&body, json!({"stop": ["never", "\"n\""]}));
        let cut = server.post(CHAT, body.clone()).await;
        let choice = &cut.body["choices"][0];
        assert_eq!(choice["finish_reason"], "length", "{}", cut.body);
        let (whole, text) = (content(&whole), content(&cut.body));
        assert_eq!(text, whole[..whole.find("\"n\"").unwrap()]);
        let notice = cut.headers["hearth-notice"].to_str().unwrap();
        assert!(notice.contains("stop string"), "{notice}");
        let chunks = server.stream(CHAT, body).await;
        assert_eq!(joined(&chunks), flat(&cut.body));
    }
    let body = json!({"model": "chat", "prompt": "The fire", "guided_json": format()["json_schema"]["schema"], "stop": "1", "max_tokens": 200, "temperature": 0});
    let cut = server.ok("/v1/completions", body).await;
    assert_eq!(cut["choices"][0]["finish_reason"], "length", "{cut}");
    let body = json!({"model": "chat", "messages": request("chat")["messages"], "format": format()["json_schema"]["schema"],
        "options": {"stop": ["1"], "temperature": 0}, "stream": false});
    assert_eq!(server.ok("/api/chat", body).await["done_reason"], "length");
    let body = json!({"model": "chat", "messages": request("chat")["messages"], "max_tokens": 200, "stop_sequences": ["1"],
        "output_config": {"format": {"type": "json_schema", "schema": format()["json_schema"]["schema"]}}});
    let cut = server.ok("/v1/messages", body).await;
    assert_eq!(
        (&cut["stop_reason"], &cut["stop_sequence"]),
        (&json!("stop_sequence"), &json!("1"))
    );
}

#[tokio::test]
async fn a_thought_is_not_searched() {
    let server = Server::new();
    let body = with(&request("think"), json!({"max_tokens": 40}));
    let whole = server.ok(CHAT, body.clone()).await;
    let thought = message(&whole, 0)["reasoning_content"].as_str().unwrap();
    let stop: String = thought.chars().skip(4).take(2).collect();
    let body = with(&body, json!({"stop": stop.as_str()}));
    let again = server.ok(CHAT, body.clone()).await;
    assert_eq!(message(&again, 0)["reasoning_content"], thought);
    let content = |body: &Value| flat(body)[0]["content"].as_str().unwrap().to_owned();
    let text = content(&whole);
    let expected = text.split(&stop).next().unwrap();
    assert_eq!(
        content(&again),
        expected,
        "{stop:?} ends the text behind it"
    );
    assert_eq!(joined(&server.stream(CHAT, body).await), flat(&again));
}

#[tokio::test]
async fn arguments_of_a_call_are_not_searched() {
    let server = Server::new();
    for model in ["chat", "think"] {
        let body = json!({"tools": [tool("look")], "tool_choice": "required", "parallel_tool_calls": false, "max_tokens": 300,
            "reasoning_effort": "none"});
        let body = with(&request(model), body);
        let whole = server.ok(CHAT, body.clone()).await;
        let body = with(&body, json!({"stop": ["\"n\"", "tool_call", "look"]}));
        let again = server.ok(CHAT, body.clone()).await;
        assert_eq!(again["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(flat(&again), flat(&whole), "{model}");
        assert_eq!(joined(&server.stream(CHAT, body).await), flat(&again));
    }
}
