//! `/v1/completions` and `/v1/embeddings` as their clients see them, on tiny models.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::client::{Server, with};

pub const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

fn request() -> Value {
    json!({"model": "chat", "prompt": "The fire is", "temperature": 0, "max_tokens": 12})
}

fn text(body: &Value, choice: usize) -> &str {
    body["choices"][choice]["text"].as_str().unwrap()
}

/// Chunks put together: text, the four lists, the reason.
pub fn joined(chunks: &[Value], index: usize) -> Value {
    let mut whole = json!({"text": "", "logprobs": {}, "finish_reason": null});
    let choices = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    for choice in choices.filter(|choice| choice["index"] == index) {
        assert!(
            whole["finish_reason"].is_null(),
            "nothing comes after the reason"
        );
        whole["text"] =
            json!(whole["text"].as_str().unwrap().to_owned() + choice["text"].as_str().unwrap());
        for (key, list) in choice["logprobs"].as_object().into_iter().flatten() {
            let entry = &mut whole["logprobs"][key];
            if entry.is_null() {
                *entry = json!([]);
            }
            entry
                .as_array_mut()
                .unwrap()
                .extend(list.as_array().unwrap().clone());
        }
        whole["finish_reason"] = choice["finish_reason"].clone();
    }
    whole
}

/// The four lists agree with each other and with the text.
pub fn check_lists(choice: &Value) {
    let logprobs = &choice["logprobs"];
    let list = |key: &str| logprobs[key].as_array().unwrap();
    let tokens: Vec<&str> = list("tokens")
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    assert_eq!(tokens.concat(), choice["text"].as_str().unwrap());
    for key in ["token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(list(key).len(), tokens.len(), "{key}");
    }
    let mut offset = 0;
    for (token, found) in tokens.iter().zip(list("text_offset")) {
        assert_eq!(found, offset);
        offset += token.chars().count();
    }
}

#[tokio::test]
async fn an_answer_has_the_form_of_the_books() {
    let server = Server::new();
    let body = server
        .ok(
            COMPLETIONS,
            json!({"model": "chat", "prompt": "The fire", "temperature": 0}),
        )
        .await;
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("text_completion"), &json!("chat"))
    );
    let choice = &body["choices"][0];
    assert_eq!(
        (&choice["index"], &choice["logprobs"]),
        (&json!(0), &Value::Null)
    );
    assert!(
        body["usage"]["completion_tokens"].as_u64().unwrap() <= 16,
        "the default is 16 tokens"
    );
    let other = server
        .ok(
            "/completions",
            json!({"model": "plain", "prompt": "The fire", "max_tokens": 1}),
        )
        .await;
    assert_eq!(
        other["choices"].as_array().unwrap().len(),
        1,
        "a model without turns can continue text"
    );
}

#[tokio::test]
async fn the_prompt_is_repeated_on_request_and_usage_stays() {
    let server = Server::new();
    let bare = server.ok(COMPLETIONS, request()).await;
    let echoed = server
        .ok(COMPLETIONS, with(&request(), json!({"echo": true})))
        .await;
    assert_eq!(text(&echoed, 0), format!("The fire is{}", text(&bare, 0)));
    for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(echoed["usage"][key], bare["usage"][key]);
    }
}

#[tokio::test]
async fn a_prompt_can_be_scored() {
    let server = Server::new();
    let body = json!({"model": "chat", "prompt": "The fire is warm — and 🔥 語", "max_tokens": 0, "echo": true, "logprobs": 2});
    let body = server.ok(COMPLETIONS, body).await;
    let choice = &body["choices"][0];
    check_lists(choice);
    assert_eq!(choice["text"], "The fire is warm — and 🔥 語");
    assert_eq!(
        (
            &body["usage"]["completion_tokens"],
            &choice["finish_reason"]
        ),
        (&json!(0), &json!("length"))
    );
    let logprobs = &choice["logprobs"];
    let values = logprobs["token_logprobs"].as_array().unwrap();
    assert_eq!(
        values.len() as u64,
        body["usage"]["prompt_tokens"].as_u64().unwrap()
    );
    assert_eq!(
        (&values[0], &logprobs["top_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    assert!(
        values[1..]
            .iter()
            .all(|value| value.as_f64().unwrap() <= 0.0)
    );
}

#[tokio::test]
async fn a_score_is_what_generation_would_have_told() {
    let server = Server::new();
    let written = server
        .ok(
            COMPLETIONS,
            with(&request(), json!({"logprobs": 3, "max_tokens": 6})),
        )
        .await;
    check_lists(&written["choices"][0]);
    let both = server
        .ok(
            COMPLETIONS,
            with(
                &request(),
                json!({"logprobs": 3, "max_tokens": 6, "echo": true}),
            ),
        )
        .await;
    check_lists(&both["choices"][0]);
    let n = written["choices"][0]["logprobs"]["tokens"]
        .as_array()
        .unwrap()
        .len();
    for key in ["tokens", "token_logprobs", "top_logprobs"] {
        let all = both["choices"][0]["logprobs"][key].as_array().unwrap();
        assert_eq!(
            Value::Array(all[all.len() - n..].to_vec()),
            written["choices"][0]["logprobs"][key],
            "{key}"
        );
    }
    // Greedy: the drawn token is the best of the alternatives.
    let logprobs = &written["choices"][0]["logprobs"];
    for (at, top) in logprobs["top_logprobs"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let best = top
            .as_object()
            .unwrap()
            .values()
            .map(|value| value.as_f64().unwrap())
            .fold(f64::MIN, f64::max);
        assert_eq!(logprobs["token_logprobs"][at].as_f64().unwrap(), best);
    }
}

#[tokio::test]
async fn prompts_are_texts_or_tokens_one_or_many() {
    let server = Server::new();
    let loaded = server.app.models.get("chat").await.unwrap();
    let encode = |text: &str| {
        loaded
            .engine
            .tokenizer()
            .encode(text, hearth_text::Encode::default())
    };
    let prompts = ["The fire is", " warm and", "snow"];
    let mut alone = Vec::new();
    let mut usage = [0, 0];
    for prompt in prompts {
        let body = server
            .ok(COMPLETIONS, with(&request(), json!({"prompt": prompt})))
            .await;
        alone.push(text(&body, 0).to_owned());
        usage[0] += body["usage"]["prompt_tokens"].as_u64().unwrap();
        usage[1] += body["usage"]["completion_tokens"].as_u64().unwrap();
        let tokens = server
            .ok(
                COMPLETIONS,
                with(&request(), json!({"prompt": encode(prompt)})),
            )
            .await;
        assert_eq!(text(&tokens, 0), text(&body, 0));
    }
    let many = [json!(prompts), json!(prompts.map(encode))];
    for prompt in many {
        let body = server
            .ok(
                COMPLETIONS,
                with(&request(), json!({"prompt": prompt, "n": 2})),
            )
            .await;
        let choices = body["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 6);
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!(choice["index"], index);
            assert_eq!(
                choice["text"],
                json!(alone[index / 2]),
                "index = prompt times n and choice"
            );
        }
        assert_eq!(body["usage"]["prompt_tokens"], usage[0]);
        assert_eq!(body["usage"]["completion_tokens"], 2 * usage[1]);
    }
}

#[tokio::test]
async fn the_pieces_of_a_stream_are_the_answer() {
    let server = Server::new();
    let variants = [
        json!({}),
        json!({"temperature": 1.3, "seed": 1, "max_tokens": 80}),
        json!({"temperature": 1, "seed": 2, "n": 2, "prompt": ["a", "b"], "echo": true}),
        json!({"temperature": 1, "seed": 3, "logprobs": 2, "echo": true, "n": 2, "max_tokens": 50}),
        json!({"logprobs": 0, "max_tokens": 40, "temperature": 1.2, "seed": 4}),
        json!({"max_tokens": 0, "echo": true, "logprobs": 1}),
        json!({"suffix": " snow", "temperature": 1, "seed": 5}),
        json!({"suffix": " snow", "echo": true, "logprobs": 1, "max_tokens": 5}),
    ];
    for variant in variants {
        let body = with(&request(), variant.clone());
        let whole = server.ok(COMPLETIONS, body.clone()).await;
        let chunks = server
            .stream(
                COMPLETIONS,
                with(&body, json!({"stream_options": {"include_usage": true}})),
            )
            .await;
        let (last, pieces) = chunks.split_last().unwrap();
        for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
            let joined = joined(pieces, index);
            assert_eq!(joined["text"], choice["text"], "{variant}");
            assert_eq!(
                joined["finish_reason"], choice["finish_reason"],
                "{variant}"
            );
            if !choice["logprobs"].is_null() {
                check_lists(choice);
                assert_eq!(joined["logprobs"], choice["logprobs"], "{variant}");
            }
        }
        assert_eq!(last["choices"], json!([]));
        for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][key], whole["usage"][key], "{variant}");
        }
    }
}

#[tokio::test]
async fn a_suffix_is_used_or_refused() {
    let server = Server::new();
    let plain = server.ok(COMPLETIONS, request()).await;
    let filled = server
        .ok(
            COMPLETIONS,
            with(&request(), json!({"suffix": " outside."})),
        )
        .await;
    assert!(filled["usage"]["prompt_tokens"].as_u64() > plain["usage"]["prompt_tokens"].as_u64());
    assert_ne!(text(&filled, 0), text(&plain, 0));
    let (status, error) = server
        .refused(
            COMPLETIONS,
            with(&request(), json!({"model": "plain", "suffix": "x"})),
        )
        .await;
    assert_eq!((status, &error["param"]), (400, &json!("suffix")));
}

#[tokio::test]
async fn bad_prompts_are_a_400() {
    let server = Server::new();
    for prompt in [
        json!([]),
        json!([[]]),
        json!([1, 999_999]),
        json!({}),
        json!(null),
        json!([1, "a"]),
    ] {
        let (status, error) = server
            .refused(COMPLETIONS, with(&request(), json!({"prompt": prompt})))
            .await;
        assert_eq!(status, 400);
        assert!(
            error["param"].as_str().unwrap().starts_with("prompt"),
            "{error}"
        );
    }
    let long = json!({"prompt": "x1".repeat(6000)});
    let (status, error) = server.refused(COMPLETIONS, with(&request(), long)).await;
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("prompt"))
    );
    let many = json!({"prompt": vec!["a"; 1000], "n": 2});
    assert_eq!(
        server.refused(COMPLETIONS, with(&request(), many)).await.0,
        400
    );
}

fn floats(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}

fn length(vector: &[f32]) -> f64 {
    vector
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[tokio::test]
async fn vectors_have_unit_length_and_do_not_depend_on_their_neighbours() {
    let server = Server::new();
    let texts = [
        "The fire is warm.",
        "snow",
        "Someone tells an old story while wood burns slowly.",
    ];
    let body = server
        .ok(EMBEDDINGS, json!({"model": "chat", "input": texts}))
        .await;
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("list"), &json!("chat"))
    );
    let mut n_tokens = 0;
    for (index, text) in texts.iter().enumerate() {
        let data = &body["data"][index];
        assert_eq!(
            (&data["object"], &data["index"]),
            (&json!("embedding"), &json!(index))
        );
        let vector = floats(&data["embedding"]);
        assert!((length(&vector) - 1.0).abs() < 1e-5);
        let alone = server
            .ok("/embeddings", json!({"model": "chat", "input": text}))
            .await;
        assert_eq!(alone["data"][0]["embedding"], data["embedding"]);
        n_tokens += alone["usage"]["prompt_tokens"].as_u64().unwrap();
    }
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens})
    );
    assert_ne!(body["data"][0]["embedding"], body["data"][1]["embedding"]);
}

#[tokio::test]
async fn vectors_come_as_base64_and_cut() {
    let server = Server::new();
    let request = json!({"model": "chat", "input": "The fire"});
    let plain = server.ok(EMBEDDINGS, request.clone()).await;
    let vector = floats(&plain["data"][0]["embedding"]);
    let coded = server
        .ok(
            EMBEDDINGS,
            with(&request, json!({"encoding_format": "base64"})),
        )
        .await;
    let bytes = BASE64_STANDARD
        .decode(coded["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let decoded: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(decoded, vector);
    let cut = server
        .ok(EMBEDDINGS, with(&request, json!({"dimensions": 8})))
        .await;
    let cut = floats(&cut["data"][0]["embedding"]);
    assert_eq!(cut.len(), 8);
    assert!((length(&cut) - 1.0).abs() < 1e-5);
    assert!(
        (cut[0] / cut[1] - vector[0] / vector[1]).abs() < 1e-3,
        "the same direction"
    );
    let (status, error) = server
        .refused(
            EMBEDDINGS,
            with(&request, json!({"dimensions": vector.len() + 1})),
        )
        .await;
    assert_eq!((status, &error["param"]), (400, &json!("dimensions")));
}

#[tokio::test]
async fn texts_that_cannot_be_read_are_refused() {
    let server = Server::new();
    for input in [
        json!(""),
        json!([]),
        json!(["a", ""]),
        json!(null),
        json!([[]]),
        json!([-1]),
        json!([999_999]),
        json!({}),
    ] {
        let (status, error) = server
            .refused(EMBEDDINGS, json!({"model": "chat", "input": input}))
            .await;
        assert_eq!(status, 400);
        assert!(
            error["param"].as_str().unwrap().starts_with("input"),
            "{error}"
        );
    }
    let long = json!({"model": "chat", "input": "x1".repeat(6000)});
    let (status, error) = server.refused(EMBEDDINGS, long).await;
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("context_length_exceeded"), &json!("input"))
    );
    let (status, _) = server
        .refused(EMBEDDINGS, json!({"model": "nobody", "input": "a"}))
        .await;
    assert_eq!(status, 404);
}
