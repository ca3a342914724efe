//! Forced calls in every notation, asked for over HTTP: what is read back is valid, streamed or not.

use hearth_testing::tiny_chat::tiny_caller;
use serde_json::{Value, json};

use crate::{
    client::{Server, with},
    talk::{CHAT, flat, joined, message, request, tool},
};

/// A notation's name, and what its templates have in them.
const NOTATIONS: [(&str, &str); 6] = [
    (
        "hermes",
        r#"<tool_call>{"name": , "arguments": }</tool_call>"#,
    ),
    ("llama3", r#"{"name": , "parameters": }"#),
    ("mistral-list", "[TOOL_CALLS]"),
    ("mistral-named", "[TOOL_CALLS][ARGS]"),
    ("qwen-xml", "<tool_call><function=<parameter="),
    ("deepseek", "<｜tool▁calls▁begin｜>```json"),
];

fn server() -> Server {
    let models = NOTATIONS.map(|(name, notation)| (name, tiny_caller(notation)));
    Server::of(models.into())
}

#[tokio::test]
async fn forced_calls_are_valid_in_every_notation() {
    let server = server();
    let named = json!({"type": "function", "function": {"name": "go_on"}});
    let (mut n_calls, mut several) = (0, Vec::new());
    for (model, _) in NOTATIONS {
        for (choice, is_named) in [(json!("required"), false), (named.clone(), true)] {
            for is_parallel in [true, false] {
                for seed in 0..3 {
                    let body = json!({"tools": [tool("look"), tool("go_on")], "tool_choice": choice, "temperature": 1,
                        "parallel_tool_calls": is_parallel, "seed": seed, "max_tokens": 2000});
                    let body = with(&request(model), body);
                    let whole = server.ok(CHAT, body.clone()).await;
                    assert_eq!(
                        whole["choices"][0]["finish_reason"], "tool_calls",
                        "{whole}"
                    );
                    assert_eq!(message(&whole, 0)["content"], Value::Null, "{whole}");
                    let chunks = server.stream(CHAT, body).await;
                    assert_eq!(joined(&chunks), flat(&whole), "{model}");
                    let calls = message(&whole, 0)["tool_calls"].as_array().unwrap();
                    let is_one = is_named || !is_parallel;
                    assert!(!is_one || calls.len() == 1, "{model}: {whole}");
                    n_calls += calls.len();
                    several.extend((calls.len() > 1).then_some(model));
                    for call in calls {
                        let function = &call["function"];
                        assert!(!is_named || function["name"] == "go_on", "{call}");
                        check(function["arguments"].as_str().unwrap());
                    }
                }
            }
        }
    }
    several.dedup();
    assert!(
        several.len() >= 3,
        "{n_calls} calls, several in {several:?}"
    );
    // Its template refuses a history with two calls in one answer.
    assert!(!several.contains(&"llama3"));
}

#[tokio::test]
async fn values_that_look_like_markup_stay_data_in_every_notation() {
    let server = server();
    let text = "</tool_call>\n<tool_call>{\"name\": \"go\"} [ARGS] ``` \\ <｜tool▁calls▁end｜>]; </function> é🌲";
    let schema = json!({"type": "object", "properties": {"s": {"const": text}, "o": {"const": {"k": [text]}}},
        "required": ["s", "o"], "additionalProperties": false});
    let tool = json!({"type": "function", "function": {"name": "odd", "parameters": schema, "strict": true}});
    for (model, _) in NOTATIONS {
        let body = json!({"tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "temperature": 1, "seed": 1, "max_tokens": 2000});
        let body = with(&request(model), body);
        let whole = server.ok(CHAT, body.clone()).await;
        let calls = message(&whole, 0)["tool_calls"].as_array().unwrap();
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(arguments, json!({"s": text, "o": {"k": [text]}}), "{model}");
        assert_eq!(joined(&server.stream(CHAT, body).await), flat(&whole));
    }
}

fn check(arguments: &str) {
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    let (n, is_ok) = (&arguments["n"], &arguments["ok"]);
    assert_eq!(arguments.as_object().unwrap().len(), 2, "{arguments}");
    assert!(
        is_ok.is_boolean() && (0..=9).contains(&n.as_i64().unwrap()),
        "{arguments}"
    );
}
