//! What the tests of chats share: a request, and what its answer says however it came.

use serde_json::{Value, json};

pub const CHAT: &str = "/v1/chat/completions";

/// A greedy request that does not take long.
pub fn request(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Tell me of the fire."}], "temperature": 0, "max_tokens": 24})
}

pub fn message(body: &Value, choice: usize) -> &Value {
    &body["choices"][choice]["message"]
}

pub fn content(body: &Value) -> String {
    message(body, 0)["content"].as_str().unwrap().to_owned()
}

pub fn tool(name: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"], "additionalProperties": false});
    json!({"type": "function", "function": {"name": name, "description": "d", "parameters": schema}})
}

/// What a client puts together from chunks: the choices of an answer that is not streamed.
pub fn joined(chunks: &[Value]) -> Vec<Value> {
    let n = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let n = n
        .map(|choice| choice["index"].as_u64().unwrap() as usize + 1)
        .max()
        .unwrap();
    (0..n).map(|index| join_choice(chunks, index)).collect()
}

fn join_choice(chunks: &[Value], index: usize) -> Value {
    let mut whole = json!({"content": "", "reasoning_content": "", "calls": [], "logprobs": [], "finish_reason": null, "n_roles": 0});
    let choices = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    for choice in choices.filter(|choice| choice["index"] == index) {
        assert!(
            whole["finish_reason"].is_null(),
            "nothing comes after the reason"
        );
        let delta = &choice["delta"];
        for field in ["content", "reasoning_content"] {
            whole[field] = json!(
                whole[field].as_str().unwrap().to_owned()
                    + delta[field].as_str().unwrap_or_default()
            );
        }
        whole["n_roles"] =
            json!(whole["n_roles"].as_u64().unwrap() + u64::from(delta["role"] == "assistant"));
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let calls = whole["calls"].as_array_mut().unwrap();
            let at = call["index"].as_u64().unwrap() as usize;
            if at == calls.len() {
                calls.push(json!({"name": call["function"]["name"], "arguments": ""}));
            }
            let known = calls[at]["arguments"].as_str().unwrap().to_owned();
            calls[at]["arguments"] = json!(known + call["function"]["arguments"].as_str().unwrap());
        }
        let entries = choice["logprobs"]["content"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        whole["logprobs"].as_array_mut().unwrap().extend(entries);
        whole["finish_reason"] = choice["finish_reason"].clone();
    }
    assert_eq!(whole["n_roles"], 1, "the role comes once");
    whole
}

/// The same of an answer that is not streamed.
pub fn flat(body: &Value) -> Vec<Value> {
    let choices = body["choices"].as_array().unwrap();
    let one = |choice: &Value| {
        let message = &choice["message"];
        let calls: Vec<Value> = message["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| call["function"].clone())
            .collect();
        json!({
            "content": message["content"].as_str().unwrap_or_default(),
            "reasoning_content": message["reasoning_content"].as_str().unwrap_or_default(),
            "calls": calls,
            "logprobs": choice["logprobs"]["content"].as_array().cloned().unwrap_or_default(),
            "finish_reason": choice["finish_reason"],
            "n_roles": 1,
        })
    };
    choices.iter().map(one).collect()
}
