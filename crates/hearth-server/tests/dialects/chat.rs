//! `/v1/chat/completions` as its clients see it, on tiny models.

use serde_json::{Value, json};

use crate::{
    client::{Server, with},
    talk::{CHAT, content, flat, joined, message, request, tool},
};

#[tokio::test]
async fn an_answer_has_the_form_of_the_books() {
    let server = Server::new();
    let body = server.ok(CHAT, request("chat")).await;
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "chat");
    assert!(body["created"].as_u64().unwrap() > 1_600_000_000);
    let choice = &body["choices"][0];
    assert_eq!(
        (&choice["index"], &choice["logprobs"]),
        (&json!(0), &Value::Null)
    );
    assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
    let message = &choice["message"];
    assert_eq!(
        (&message["role"], &message["refusal"]),
        (&json!("assistant"), &Value::Null)
    );
    assert!(
        message["content"].is_string()
            && message.get("tool_calls").is_none()
            && message.get("reasoning_content").is_none()
    );
    let usage = &body["usage"];
    let n = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!(
        n("total_tokens"),
        n("prompt_tokens") + n("completion_tokens")
    );
    assert!(n("completion_tokens") >= 1 && n("completion_tokens") <= 24);
    assert_eq!(
        usage["prompt_tokens_details"],
        json!({"cached_tokens": 0, "audio_tokens": 0})
    );
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0);
}

#[tokio::test]
async fn models_are_named_and_unknown_ones_are_a_404() {
    let server = Server::new();
    let (status, error) = server.refused(CHAT, request("nobody")).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("nobody"));
    let (status, error) = server.refused(CHAT, request("")).await;
    assert_eq!((status, &error["param"]), (400, &json!("model")));
    let (status, error) = server.refused(CHAT, request("plain")).await;
    assert_eq!(status, 400);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("no chat template"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stop_string_is_never_part_of_the_answer() {
    let server = Server::new();
    let answer = content(&server.ok(CHAT, request("chat")).await);
    let characters: Vec<char> = answer.chars().collect();
    assert!(characters.len() > 8, "{answer}");
    for (from, length) in [(0, 1), (2, 3), (4, 2), (characters.len() - 3, 3)] {
        let stop: String = characters[from..from + length].iter().collect();
        let body = server
            .ok(
                CHAT,
                with(&request("chat"), json!({"stop": [stop, "never comes"]})),
            )
            .await;
        let found = answer.find(&stop).unwrap();
        assert_eq!(content(&body), answer[..found], "{stop:?}");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn seeds_repeat_and_their_absence_varies() {
    let server = Server::new();
    let free = with(&request("chat"), json!({"temperature": 1.5}));
    let seeded = with(&free, json!({"seed": 11}));
    let first = content(&server.ok(CHAT, seeded.clone()).await);
    assert_eq!(content(&server.ok(CHAT, seeded.clone()).await), first);
    let three = server.ok(CHAT, with(&seeded, json!({"n": 3}))).await;
    assert_eq!(
        content(&three),
        first,
        "the first of several is the only one alone"
    );
    let indexes: Vec<u64> = three["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert_ne!(message(&three, 1)["content"], message(&three, 0)["content"]);
    let one = server.ok(CHAT, seeded.clone()).await;
    assert_eq!(
        three["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"],
        "one prompt"
    );
    assert!(
        three["usage"]["completion_tokens"].as_u64() > one["usage"]["completion_tokens"].as_u64()
    );
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(content(&server.ok(CHAT, free.clone()).await));
    }
    answers.dedup();
    assert!(answers.len() > 1, "without a seed answers vary");
}

#[tokio::test]
async fn a_limit_past_the_context_ends_in_length() {
    let server = Server::new();
    let body = server
        .ok(
            CHAT,
            with(
                &request("chat"),
                json!({"max_tokens": 1_000_000, "logit_bias": never_end(&server).await}),
            ),
        )
        .await;
    let usage = &body["usage"];
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(
        usage["total_tokens"], 4096,
        "the whole context was used: {usage}"
    );
}

/// Biases that forbid every token which ends an answer.
async fn never_end(server: &Server) -> Value {
    let loaded = server.app.models.get("chat").await.unwrap();
    let ends = loaded.engine.tokenizer().end_of_generation().iter();
    ends.map(|id| (id.to_string(), json!(-100)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn biases_forbid_and_force() {
    let server = Server::new();
    let body = server
        .ok(
            CHAT,
            with(
                &request("chat"),
                json!({"logit_bias": {"65": 100}, "max_tokens": 5}),
            ),
        )
        .await;
    assert_eq!(content(&body), "AAAAA");
    let (status, error) = server
        .refused(
            CHAT,
            with(&request("chat"), json!({"logit_bias": {"999999": 1}})),
        )
        .await;
    assert_eq!((status, &error["param"]), (400, &json!("logit_bias")));
}

#[tokio::test]
async fn log_probabilities_are_complete_and_ordered() {
    let server = Server::new();
    let body = with(
        &request("chat"),
        json!({"logprobs": true, "top_logprobs": 4, "max_tokens": 60}),
    );
    let body = server.ok(CHAT, body).await;
    let entries = body["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(
        entries.len() as u64,
        body["usage"]["completion_tokens"].as_u64().unwrap()
    );
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(String::from_utf8_lossy(&bytes), content(&body));
    for entry in entries {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        assert_eq!(
            (&top[0]["id"], &top[0]["token"]),
            (&entry["id"], &entry["token"]),
            "greedy takes the best"
        );
        let values: Vec<f64> = top
            .iter()
            .map(|top| top["logprob"].as_f64().unwrap())
            .collect();
        assert!(
            values.is_sorted_by(|a, b| a >= b) && values[0] <= 0.0,
            "{values:?}"
        );
    }
    let bare = server
        .ok(CHAT, with(&request("chat"), json!({"logprobs": true})))
        .await;
    assert_eq!(
        bare["choices"][0]["logprobs"]["content"][0]["top_logprobs"],
        json!([])
    );
}

#[tokio::test]
async fn a_stream_has_about_one_piece_a_token() {
    let server = Server::new();
    let chunks = server.stream(CHAT, request("chat")).await;
    let has_text = |chunk: &&Value| {
        chunk["choices"][0]["delta"]["content"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    };
    let n = chunks.iter().filter(has_text).count();
    // Halves of characters wait for each other.
    assert!((16..=24).contains(&n), "{n} pieces of 24 tokens");
}

#[tokio::test]
async fn every_token_has_its_entry_whatever_it_became_part_of() {
    let server = Server::new();
    let logprobs = json!({"logprobs": true, "top_logprobs": 2, "temperature": 1, "seed": 3, "max_tokens": 200});
    let schema = json!({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    for (model, more) in [
        ("think", json!({"max_tokens": 30})),
        ("chat", json!({"response_format": format})),
        (
            "chat",
            json!({"tools": [tool("look")], "tool_choice": "required", "parallel_tool_calls": false}),
        ),
        ("chat", json!({"stop": ["e", "a", "t"]})),
    ] {
        let body = with(&with(&request(model), logprobs.clone()), more.clone());
        let whole = server.ok(CHAT, body.clone()).await;
        let entries = whole["choices"][0]["logprobs"]["content"]
            .as_array()
            .unwrap();
        assert_eq!(
            json!(entries.len()),
            whole["usage"]["completion_tokens"],
            "{model} {more}"
        );
        assert!(
            entries
                .iter()
                .all(|entry| entry["top_logprobs"].as_array().unwrap().len() == 2)
        );
        let chunks = server.stream(CHAT, body).await;
        assert_eq!(joined(&chunks), flat(&whole), "{model} {more}");
    }
}

#[tokio::test]
async fn cve_2026_21869_every_number_is_range_checked() {
    let server = Server::new();
    let fields = [
        "n",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "typical_p",
        "frequency_penalty",
        "presence_penalty",
        "repeat_penalty",
        "repetition_penalty",
        "repeat_last_n",
        "top_logprobs",
    ];
    for field in fields {
        for value in [
            json!(-2.5),
            json!(-9_000_000_000_i64),
            json!(1e300),
            json!("1"),
            json!([1]),
            json!({}),
        ] {
            let (status, error) = server
                .refused(CHAT, with(&request("chat"), json!({field: value})))
                .await;
            assert_eq!((status, &error["param"]), (400, &json!(field)), "{value}");
        }
    }
    let (status, _) = server
        .refused(CHAT, with(&request("chat"), json!({"n": 16384})))
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn thinking_is_told_apart_and_can_be_switched_off() {
    let server = Server::new();
    let body = server.ok(CHAT, request("think")).await;
    let usage = &body["usage"];
    assert!(
        !message(&body, 0)["reasoning_content"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    let n_reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
        .as_u64()
        .unwrap();
    assert!(
        n_reasoning > 0 && n_reasoning <= usage["completion_tokens"].as_u64().unwrap(),
        "{usage}"
    );
    for off in [
        json!({"reasoning_effort": "none"}),
        json!({"chat_template_kwargs": {"enable_thinking": false}}),
    ] {
        let body = server.ok(CHAT, with(&request("think"), off)).await;
        assert!(
            message(&body, 0).get("reasoning_content").is_none(),
            "{body}"
        );
        assert_eq!(
            body["usage"]["completion_tokens_details"]["reasoning_tokens"],
            0
        );
    }
    for effort in ["none", "minimal", "low", "medium", "high", "xhigh", "max"] {
        server
            .ok(
                CHAT,
                with(
                    &request("chat"),
                    json!({"reasoning_effort": effort, "max_tokens": 1}),
                ),
            )
            .await;
    }
}

#[tokio::test]
async fn thinking_goes_back_to_a_template_that_takes_it() {
    let server = Server::new();
    let count = async |more: Value| {
        let mut answer = json!({"role": "assistant", "content": "Warm."});
        answer
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let turns = json!([{"role": "user", "content": "Fire?"}, answer, {"role": "user", "content": "So?"}]);
        let body = json!({"model": "think", "messages": turns});
        server.ok("/v1/chat/completions/input_tokens", body).await["input_tokens"]
            .as_u64()
            .unwrap()
    };
    let bare = count(json!({})).await;
    let full = count(json!({"reasoning_content": "It burns."})).await;
    assert!(full > bare, "{full} after {bare}");
    assert_eq!(count(json!({"reasoning": "It burns."})).await, full);
    let items = json!([{"role": "user", "content": "Fire?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "It burns."}]},
        {"role": "assistant", "content": "Warm."}, {"role": "user", "content": "So?"}]);
    let body = json!({"model": "think", "input": items});
    let answer = server.ok("/v1/responses/input_tokens", body).await;
    assert_eq!(answer["input_tokens"], full);
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_and_still_counted() {
    let server = Server::new();
    let long =
        json!({"model": "chat", "messages": [{"role": "user", "content": "x1".repeat(6000)}]});
    let (status, error) = server
        .refused(CHAT, with(&long, json!({"stream": true})))
        .await;
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("messages"))
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("prompt is too long"),
        "{error}"
    );
    let count = server.ok("/v1/chat/completions/input_tokens", long).await;
    assert_eq!(count["object"], "response.input_tokens");
    assert!(count["input_tokens"].as_u64().unwrap() > 4096);
}

#[tokio::test]
async fn counts_agree_and_a_second_request_finds_its_prefix() {
    let server = Server::new();
    let text = "Tell me of the fire while snow falls outside. ".repeat(12);
    let body = json!({"model": "chat", "messages": [{"role": "system", "content": text}, {"role": "user", "content": "Now."}],
        "tools": [tool("look")], "tool_choice": "none", "temperature": 0, "max_tokens": 8});
    let first = server.ok(CHAT, body.clone()).await;
    let second = server.ok("/chat/completions", body.clone()).await;
    let count = server.ok("/v1/chat/completions/input_tokens", body).await;
    assert_eq!(content(&first), content(&second));
    assert_eq!(first["usage"]["prompt_tokens"], count["input_tokens"]);
    assert_eq!(second["usage"]["prompt_tokens"], count["input_tokens"]);
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert!(
        cached >= 64 && cached < count["input_tokens"].as_u64().unwrap(),
        "{cached}"
    );
}

#[tokio::test]
async fn a_changing_line_for_the_provider_does_not_defeat_the_cache() {
    let server = Server::new();
    let text = "We sit by the fire and someone tells an old story. ".repeat(12);
    let body = |checksum: &str| {
        let system = format!("x-anthropic-billing-header: cc_version=2.1; cch={checksum};\n{text}");
        json!({"model": "chat", "messages": [{"role": "system", "content": system}, {"role": "user", "content": "Now."}],
            "temperature": 0, "max_tokens": 8})
    };
    let first = server.post(CHAT, body("00a1b")).await;
    assert_eq!(
        first.headers["hearth-notice"],
        "ignored=x-anthropic-billing-header"
    );
    let second = server.ok(CHAT, body("ffe2c")).await;
    assert!(
        second["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
            >= 64
    );
    assert_eq!(content(&first.body), content(&second));
}

#[tokio::test]
async fn the_assistants_last_message_is_continued() {
    let server = Server::new();
    let whole = content(&server.ok(CHAT, request("chat")).await);
    let cut = whole.char_indices().nth(6).unwrap().0;
    // A cut between tokens of one character each; the rest must be what greedy would have said.
    let mut body = request("chat");
    body["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "assistant", "content": whole[..cut]}));
    let continued = server.ok(CHAT, body.clone()).await;
    let turned = server
        .ok("/v1/chat/completions/input_tokens", request("chat"))
        .await["input_tokens"]
        .as_u64()
        .unwrap();
    let n_prompt = continued["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(
        n_prompt > turned && n_prompt <= turned + cut as u64,
        "no turn was closed and none opened: {n_prompt} after {turned}"
    );
}

#[tokio::test]
async fn nothing_is_ignored_in_silence() {
    let server = Server::new();
    let body = with(
        &request("chat"),
        json!({"user": "u", "odd": 1, "tools": [{"type": "web_search"}], "max_tokens": 1}),
    );
    let answer = server.post(CHAT, body.clone()).await;
    assert_eq!(
        answer.headers["hearth-notice"],
        "dropped-tool=web_search; ignored=user; ignored=odd"
    );
    let (status, _) = server
        .refused(CHAT, with(&body, json!({"hearth": {"strict": true}})))
        .await;
    assert_eq!(status, 400);
    let quiet = server
        .post(
            CHAT,
            with(
                &request("chat"),
                json!({"hearth": {"strict": true}, "max_tokens": 1}),
            ),
        )
        .await;
    assert_eq!(quiet.status, 200);
    assert!(!quiet.headers.contains_key("hearth-notice"));
}

#[tokio::test]
async fn whoever_goes_away_frees_the_place() {
    let server = Server::new();
    let body = with(
        &request("chat"),
        json!({"max_tokens": 4000, "n": 4, "logit_bias": never_end(&server).await}),
    );
    let stream = server.open(CHAT, body).await;
    drop(stream);
    let loaded = server.app.models.get("chat").await.unwrap();
    for _ in 0..600 {
        let snapshot = loaded.engine.snapshot();
        if snapshot.n_running == 0 && snapshot.n_waiting == 0 && snapshot.n_cancelled > 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("still at work: {:?}", loaded.engine.snapshot());
}
