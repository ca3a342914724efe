//! Requests put together at random, the same ones on every machine: streamed, whole and repeated they give the same.

use serde_json::{Value, json};

use crate::{
    client::{Server, with},
    completions::{self, COMPLETIONS, check_lists},
    responses::{self, RESPONSES, anonymous},
    talk::{CHAT, flat, joined, request, tool},
};

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }

    /// Fields that are sent now and then, each with one of its values.
    fn some(&mut self, fields: &[(&str, &[Value])], body: &mut Value) {
        for (name, values) in fields {
            if self.below(4) == 0 {
                body[*name] = self.one(values);
            }
        }
    }
}

/// What binds an answer: at most one of these.
fn bounds() -> Vec<Value> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 12}, "b": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["a", "b"], "additionalProperties": false});
    let named = json!({"type": "function", "function": {"name": "look"}});
    let tools = json!([tool("look"), tool("go")]);
    vec![
        json!({}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"guided_regex": "[a-z]{3,20}[0-9é]+"}),
        json!({"tools": tools, "tool_choice": "auto"}),
        json!({"tools": tools, "tool_choice": "none"}),
        json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false}),
        json!({"tools": tools, "tool_choice": named}),
    ]
}

fn chat(number: u64, random: &mut Random) -> Value {
    let model = random.one(&["chat", "think"]);
    let mut body = with(&request(model), random.one(&bounds()));
    body["seed"] = json!(number);
    body["temperature"] = json!(random.one(&[0.0, 0.7, 1.0, 1.5]));
    body["max_tokens"] = json!(1 + random.below(90));
    body["messages"][0]["content"] = json!(format!(
        "{number} {}",
        "fire ".repeat(random.below(30) as usize)
    ));
    let fields: &[(&str, &[Value])] = &[
        (
            "stop",
            &[
                json!("e"),
                json!(["th", "zz"]),
                json!([" a", "\n"]),
                json!(["}", "\""]),
                json!(["<", "</"]),
            ],
        ),
        ("n", &[json!(2), json!(3)]),
        ("logprobs", &[json!(true)]),
        ("top_k", &[json!(1), json!(20)]),
        ("top_p", &[json!(0.8)]),
        ("min_p", &[json!(0.05)]),
        ("frequency_penalty", &[json!(1.5), json!(-1)]),
        ("repeat_penalty", &[json!(1.3)]),
        ("reasoning_effort", &[json!("none"), json!("low")]),
    ];
    random.some(fields, &mut body);
    body
}

#[tokio::test]
async fn any_chat_streamed_or_repeated_gives_the_same() {
    let server = Server::new();
    let mut random = Random(12345);
    for number in 0..60 {
        let body = chat(number, &mut random);
        let whole = server.ok(CHAT, body.clone()).await;
        let again = server.ok(CHAT, body.clone()).await;
        let streamed = with(&body, json!({"stream_options": {"include_usage": true}}));
        let chunks = server.stream(CHAT, streamed).await;
        assert_eq!(joined(&chunks), flat(&whole), "{body}");
        assert_eq!(flat(&again), flat(&whole), "{body}");
        for usage in [&again["usage"], &chunks[chunks.len() - 1]["usage"]] {
            for key in [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "completion_tokens_details",
            ] {
                assert_eq!(usage[key], whole["usage"][key], "{key} of {body}");
            }
        }
        if body["logprobs"] == true {
            let choices = whole["choices"].as_array().unwrap().iter();
            let entries =
                choices.map(|choice| choice["logprobs"]["content"].as_array().unwrap().len());
            assert_eq!(
                json!(entries.sum::<usize>()),
                whole["usage"]["completion_tokens"],
                "{body}"
            );
        }
    }
}

fn completion(number: u64, random: &mut Random) -> Value {
    let prompts = [
        json!(""),
        json!(["The é 🔥", " a", "語"]),
        json!([[5, 6, 7], [300]]),
        json!([10, 200, 255, 240]),
        json!(format!("{number} — 日本")),
    ];
    let mut body = json!({"model": "chat", "prompt": random.one(&prompts), "seed": number, "max_tokens": random.below(60),
        "temperature": random.one(&[0.0, 0.7, 1.0, 1.6])});
    let fields: &[(&str, &[Value])] = &[
        ("echo", &[json!(true)]),
        ("logprobs", &[json!(0), json!(2), json!(5)]),
        ("echo", &[json!(true)]),
        (
            "stop",
            &[json!("e"), json!(["th", "zz"]), json!(["é", "\n"])],
        ),
        ("n", &[json!(2), json!(3)]),
        ("guided_regex", &[json!("[a-z]{3,20}[0-9é]+")]),
    ];
    random.some(fields, &mut body);
    if body["prompt"].is_string() {
        random.some(&[("suffix", &[json!(" and é")])], &mut body);
    }
    body
}

#[tokio::test]
async fn any_text_streamed_or_repeated_gives_the_same() {
    let server = Server::new();
    let mut random = Random(777);
    for number in 0..80 {
        let body = completion(number, &mut random);
        let whole = server.ok(COMPLETIONS, body.clone()).await;
        let again = server.ok(COMPLETIONS, body.clone()).await;
        let streamed = with(&body, json!({"stream_options": {"include_usage": true}}));
        let chunks = server.stream(COMPLETIONS, streamed).await;
        let (last, pieces) = chunks.split_last().unwrap();
        assert_eq!(again["choices"], whole["choices"], "{body}");
        for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
            let joined = completions::joined(pieces, index);
            for key in ["text", "finish_reason"] {
                assert_eq!(joined[key], choice[key], "{key} of {body}");
            }
            let tokens = choice["logprobs"]["tokens"].as_array();
            if tokens.is_some_and(|tokens| !tokens.is_empty()) {
                check_lists(choice);
                assert_eq!(joined["logprobs"], choice["logprobs"], "{body}");
            }
        }
        for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][key], whole["usage"][key], "{key} of {body}");
        }
    }
}

fn response(number: u64, random: &mut Random) -> Value {
    let (call, other) = (responses::tool(), json!({"type": "function", "name": "go"}));
    let tools = json!([call, {"type": "namespace", "name": "far", "tools": [other]}, {"type": "custom", "name": "raw"}]);
    let schema = json!({"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"], "additionalProperties": false});
    let bounds = [
        json!({}),
        json!({"text": {"format": {"type": "json_object"}}}),
        json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}),
        json!({"tools": tools}),
        json!({"tools": tools, "tool_choice": "none"}),
        json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false}),
        json!({"tools": tools, "tool_choice": {"type": "function", "name": "go"}}),
    ];
    let input = [
        json!(format!("Tell {number}.")),
        json!([{"role": "user", "content": "Look."}, {"type": "function_call", "call_id": "c", "name": "go", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "snow"}]),
        json!([{"role": "developer", "content": "Brief."}, {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
            {"role": "assistant", "content": "It"}]),
    ];
    let mut body = with(
        &json!({"model": random.one(&["chat", "think"]), "input": random.one(&input), "max_output_tokens": 1 + random.below(90),
            "temperature": random.one(&[0.0, 1.0, 1.5]), "seed": number}),
        random.one(&bounds),
    );
    let fields: &[(&str, &[Value])] = &[
        ("instructions", &[json!("Be brief.")]),
        ("top_logprobs", &[json!(2)]),
        (
            "reasoning",
            &[json!({"effort": "none"}), json!({"effort": "low"})],
        ),
        ("metadata", &[json!({"k": "v"})]),
        ("top_p", &[json!(0.9)]),
    ];
    random.some(fields, &mut body);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn any_response_streamed_or_gone_on_from_gives_the_same() {
    let server = Server::new();
    let mut random = Random(4242);
    for number in 0..40 {
        let body = response(number, &mut random);
        let whole = server.ok(RESPONSES, body.clone()).await;
        let events = responses::stream(&server, body.clone()).await;
        let last = &events[events.len() - 1]["response"];
        assert_eq!(anonymous(last.clone()), anonymous(whole.clone()), "{body}");
        let count = server.ok("/v1/responses/input_tokens", body.clone()).await;
        assert_eq!(
            count["input_tokens"], whole["usage"]["input_tokens"],
            "{body}"
        );
        // Going on from what was stored is the same as sending it back.
        let mut items = match &body["input"] {
            Value::String(text) => vec![json!({"role": "user", "content": text})],
            list => list.as_array().unwrap().clone(),
        };
        items.extend(whole["output"].as_array().unwrap().clone());
        items.push(json!({"role": "user", "content": "So?"}));
        let next =
            json!({"input": "So?", "previous_response_id": whole["id"], "max_output_tokens": 3});
        let stored = server.ok(RESPONSES, with(&body, next)).await;
        let by_hand = json!({"input": items, "store": false, "max_output_tokens": 3});
        let by_hand = server.ok(RESPONSES, with(&body, by_hand)).await;
        assert_eq!(
            stored["usage"]["input_tokens"], by_hand["usage"]["input_tokens"],
            "{body}"
        );
        assert_eq!(
            anonymous(stored)["output"],
            anonymous(by_hand)["output"],
            "{body}"
        );
    }
}
