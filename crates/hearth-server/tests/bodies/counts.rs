//! Counts of tokens that must agree: between dialects, with the routes that count, and with what was drawn.

use serde_json::{Value, json};

use crate::{
    support::{CHAT, chat, merge},
    table::setup,
};

/// One conversation in four dialects: chat, responses, Anthropic, Ollama.
fn plain_talk() -> [Value; 4] {
    let turns = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look at the fire."},
        {"role": "assistant", "content": "It is warm."}, {"role": "user", "content": "And the snow?"}]);
    let rest = &turns.as_array().expect("a list")[1..];
    [
        json!({"messages": turns}),
        json!({"input": turns}),
        json!({"system": "Be brief.", "messages": rest}),
        json!({"messages": turns}),
    ]
}

/// The same with a tool, a call of it, and its result.
fn talk_with_tools() -> [Value; 4] {
    let schema = json!({"type": "object", "properties": {"place": {"type": "string"}, "n": {"type": "integer"}}, "required": ["place"]});
    let tool = json!({"name": "look", "description": "Looks.", "parameters": schema});
    let arguments = json!({"place": "outside", "n": 2});
    let text = arguments.to_string();
    let chat_tool = json!({"type": "function", "function": tool});
    let mut flat_tool = tool;
    merge(&mut flat_tool, json!({"type": "function"}));
    let ask = json!({"role": "user", "content": "What falls?"});
    [
        json!({"tools": [chat_tool], "messages": [
            ask, {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": text}}]},
            {"role": "tool", "tool_call_id": "c", "content": "snow"}]}),
        json!({"tools": [flat_tool], "input": [
            ask, {"role": "assistant", "content": "I look."}, {"type": "function_call", "call_id": "c", "name": "look", "arguments": text},
            {"type": "function_call_output", "call_id": "c", "output": "snow"}]}),
        json!({"tools": [{"name": "look", "description": "Looks.", "input_schema": schema}], "messages": [
            ask, {"role": "assistant", "content": [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "c", "name": "look", "input": arguments}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "snow"}]}]}),
        json!({"tools": [chat_tool], "messages": [
            ask, {"role": "assistant", "content": "I look.", "tool_calls": [{"function": {"name": "look", "arguments": arguments}}]},
            {"role": "tool", "tool_name": "look", "content": "snow"}]}),
    ]
}

#[tokio::test]
async fn a_prompt_has_one_number_of_tokens_in_every_dialect_and_every_count() {
    let server = setup().serve().await;
    for [mut chat, mut responses, mut anthropic, mut ollama] in [plain_talk(), talk_with_tools()] {
        merge(&mut chat, json!({"model": "tiny", "max_tokens": 2}));
        merge(
            &mut responses,
            json!({"model": "tiny", "max_output_tokens": 2}),
        );
        merge(&mut anthropic, json!({"model": "tiny", "max_tokens": 2}));
        merge(
            &mut ollama,
            json!({"model": "tiny", "stream": false, "options": {"num_predict": 2}}),
        );
        let rendered = server.post("/apply-template", &chat).await.json();
        let cut = json!({"content": rendered["prompt"]});
        let cut = server.post("/tokenize", &cut).await.json();
        let three = [
            "/usage/input_tokens",
            "/usage/cache_read_input_tokens",
            "/usage/cache_creation_input_tokens",
        ];
        // What each route says of the prompt; the second time it is in the cache.
        let counts: [(&str, &Value, &[&str]); 9] = [
            (CHAT, &chat, &["/usage/prompt_tokens"]),
            (CHAT, &chat, &["/usage/prompt_tokens"]),
            (
                "/v1/chat/completions/input_tokens",
                &chat,
                &["/input_tokens"],
            ),
            ("/v1/responses", &responses, &["/usage/input_tokens"]),
            ("/v1/responses/input_tokens", &responses, &["/input_tokens"]),
            ("/v1/messages", &anthropic, &three),
            ("/v1/messages/count_tokens", &anthropic, &["/input_tokens"]),
            ("/api/chat", &ollama, &["/prompt_eval_count"]),
            ("/tokenize", &chat, &["/count"]),
        ];
        for (path, body, fields) in counts {
            let answer = server.post(path, body).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let json = answer.json();
            let counts = fields
                .iter()
                .map(|field| json.pointer(field).and_then(Value::as_u64));
            let n: Option<u64> = counts.sum();
            assert_eq!(n, cut["count"].as_u64(), "{path}: {json}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_by_itself_has_one_number_of_tokens_in_every_dialect() {
    let server = setup().serve().await;
    let schema = json!({"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "x", "schema": schema});
    let turns = json!([{"role": "user", "content": "Which?"}]);
    let mut found = Vec::new();
    for (path, body, text, count) in [
        (
            CHAT,
            json!({"messages": turns, "response_format": {"type": "json_schema", "json_schema": format}, "temperature": 0}),
            "/choices/0/message/content",
            "/usage/completion_tokens",
        ),
        (
            "/v1/responses",
            json!({"input": turns, "text": {"format": format}, "temperature": 0}),
            "/output/0/content/0/text",
            "/usage/output_tokens",
        ),
        (
            "/v1/messages",
            json!({"messages": turns, "output_config": {"format": {"type": "json_schema", "schema": schema}}, "temperature": 0, "max_tokens": 200}),
            "/content/0/text",
            "/usage/output_tokens",
        ),
        (
            "/api/chat",
            json!({"messages": turns, "format": schema, "stream": false, "options": {"temperature": 0}}),
            "/message/content",
            "/eval_count",
        ),
    ] {
        let mut body = body;
        merge(&mut body, json!({"model": "tiny"}));
        let answer = server.post(path, &body).await.json();
        let text = answer.pointer(text).and_then(Value::as_str);
        let count = answer.pointer(count).and_then(Value::as_u64);
        found.push((text.expect("a text").to_owned(), count.expect("a count")));
    }
    assert!(found[0].0.contains("colour"), "{found:?}");
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn counts_of_an_answer_hold_every_token_of_it() {
    let server = setup().serve().await;
    let whole = chat(json!({"temperature": 0, "max_tokens": 20, "logprobs": true}));
    let answer = server.post(CHAT, &whole).await.json();
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text")
        .to_owned();
    let entries = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("a list");
    // A string of three tokens, all of which are drawn before it is whole.
    let mut at = vec![0];
    for entry in entries {
        at.push(at[at.len() - 1] + entry["bytes"].as_array().expect("bytes").len());
    }
    let stop = (4..at.len() - 3).find_map(|n| text.get(at[n]..at[n + 3]));
    let stop = stop.expect("a place between characters");
    let mut stopped = whole.clone();
    merge(&mut stopped, json!({"stop": stop}));
    let stopped = server.post(CHAT, &stopped).await.json();
    let n_drawn = stopped["choices"][0]["logprobs"]["content"]
        .as_array()
        .map(Vec::len);
    let n_told = stopped["usage"]["completion_tokens"]
        .as_u64()
        .map(|n| n as usize);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop", "{stopped}");
    assert_eq!(n_told, n_drawn, "{stopped}");
    let before = text.find(stop).expect("it is part of the text");
    let n_before = at.iter().take_while(|at| **at <= before).count() - 1;
    assert!(
        n_told > Some(n_before + 1),
        "those of the stop string are counted: {stopped}"
    );
}
