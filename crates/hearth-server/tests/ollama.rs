//! Ollama's dialect over a socket: what only the whole way shows. What bodies and lines look like is tested beside the code.

mod support;

use serde_json::{Value, json};
use support::{Server, Setup};

async fn server() -> Server {
    Setup::default().serve().await
}

fn with(base: Value, more: Value) -> Value {
    let mut body = base;
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn chat(more: Value) -> Value {
    let messages = json!([{"role": "user", "content": "the fire"}]);
    with(
        json!({"model": "tiny", "messages": messages, "options": {"temperature": 0, "num_predict": 12}}),
        more,
    )
}

fn generate(more: Value) -> Value {
    with(
        json!({"model": "tiny", "prompt": "the fire", "options": {"temperature": 0, "num_predict": 12}}),
        more,
    )
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What `path` answers to the body streamed and not, both of them.
async fn both(server: &Server, path: &str, body: Value) -> (Vec<Value>, Value) {
    let streamed = server.post(path, &body).await;
    assert_eq!(streamed.status, 200, "{}", streamed.text());
    assert_eq!(
        streamed.header("content-type"),
        Some("application/x-ndjson")
    );
    let whole = server
        .post(path, &with(body, json!({"stream": false})))
        .await;
    assert_eq!(whole.header("content-type"), Some("application/json"));
    (lines(&streamed.text()), whole.json())
}

#[tokio::test]
async fn lines_of_a_chat_are_its_answer() {
    let server = server().await;
    let (lines, whole) = both(&server, "/api/chat", chat(json!({}))).await;
    let text: String = lines
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, whole["message"]["content"]);
    let last = lines.last().unwrap();
    assert_eq!(last["done"], true);
    assert_eq!(last["done_reason"], whole["done_reason"]);
    for name in [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ] {
        assert!(last[name].is_u64() && whole[name].is_u64(), "{name}");
    }
    assert_eq!(last["eval_count"], 12);
    assert!(
        lines[..lines.len() - 1]
            .iter()
            .all(|line| line["done"] == false && line.get("eval_count").is_none())
    );
}

#[tokio::test]
async fn a_prompt_is_a_turn_and_its_context_goes_on() {
    let server = server().await;
    let (lines, first) = both(&server, "/api/generate", generate(json!({}))).await;
    let text: String = lines
        .iter()
        .map(|line| line["response"].as_str().unwrap())
        .collect();
    assert_eq!(text, first["response"]);
    let chat = server
        .post("/api/chat", &chat(json!({"stream": false})))
        .await
        .json();
    assert_eq!(chat["message"]["content"], first["response"]);
    assert_eq!(chat["prompt_eval_count"], first["prompt_eval_count"]);
    let context = first["context"].as_array().unwrap();
    let second = server
        .post(
            "/api/generate",
            &generate(json!({"stream": false, "context": context})),
        )
        .await
        .json();
    let (n_before, n) = (
        context.len() as u64,
        first["prompt_eval_count"].as_u64().unwrap(),
    );
    let n_second = second["prompt_eval_count"].as_u64().unwrap();
    assert!(
        n_second > n_before && n_second <= n_before + n,
        "{n_second} tokens after {n_before}"
    );
    let continued = second["context"].as_array().unwrap();
    assert_eq!(continued[..context.len()], context[..]);
}

#[tokio::test]
async fn without_a_prompt_the_model_is_loaded_or_unloaded() {
    let server = server().await;
    let load = json!({"model": "tiny", "stream": false});
    assert_eq!(
        server.post("/api/generate", &load).await.json()["done_reason"],
        "load"
    );
    let ps = server.ask("GET", "/api/ps", &[], "").await.json();
    assert_eq!(ps["models"][0]["name"], "tiny");
    assert!(ps["models"][0]["context_length"].as_u64().unwrap() > 0);
    let unload = json!({"model": "tiny", "messages": [], "keep_alive": 0});
    let answer = server.post("/api/chat", &unload).await;
    assert_eq!(lines(&answer.text())[0]["done_reason"], "unload");
    let ps = server.ask("GET", "/api/ps", &[], "").await.json();
    assert_eq!(ps["models"], json!([]));
}

#[tokio::test]
async fn the_context_is_the_models_own_and_not_a_token_is_cut() {
    let server = server().await;
    let first = server
        .post("/api/generate", &generate(json!({"stream": false})))
        .await
        .json();
    let ps = server.ask("GET", "/api/ps", &[], "").await.json();
    let n_ctx = ps["models"][0]["context_length"].as_u64().unwrap();
    assert_eq!(n_ctx, 4096, "what the file says");
    let n_prompt = first["prompt_eval_count"].as_u64().unwrap();
    let ask = async |n: u64| {
        let context = vec![first["context"][0].clone(); (n - n_prompt) as usize];
        let body = generate(json!({"stream": false, "context": context}));
        server.post("/api/generate", &body).await
    };
    let longest = ask(n_ctx - 1).await;
    assert_eq!(longest.status, 200, "{}", longest.text());
    let longest = longest.json();
    assert_eq!(longest["prompt_eval_count"], n_ctx - 1);
    assert_eq!(longest["eval_count"], 1);
    let one_more = ask(n_ctx).await;
    assert_eq!(one_more.status, 400);
    let words = format!("prompt is too long: {n_ctx} tokens > {} maximum", n_ctx - 1);
    assert!(one_more.text().contains(&words), "{}", one_more.text());
}

#[tokio::test]
async fn a_limit_of_no_tokens_is_an_answer_of_none() {
    let server = server().await;
    let options = json!({"num_predict": 0});
    let (lines, whole) = both(&server, "/api/chat", chat(json!({"options": options}))).await;
    for answer in [&whole, lines.last().unwrap()] {
        assert_eq!(
            (&answer["message"]["content"], &answer["eval_count"]),
            (&json!(""), &json!(0))
        );
        assert_eq!(answer["done_reason"], "length");
    }
}

/// FIELD-NOTES 21: what binds the answer neither binds nor lets through the thought.
#[tokio::test]
async fn a_thought_never_gets_past_a_schema() {
    let setup = Setup {
        model: hearth_testing::tiny_chat::tiny_thinker().build(),
        ..Setup::default()
    };
    let server = setup.serve().await;
    let format = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": false});
    for seed in 0..6 {
        let options = json!({"temperature": 1, "seed": seed, "num_predict": 600});
        let body = chat(json!({"think": true, "format": format, "options": options}));
        let (lines, whole) = both(&server, "/api/chat", body).await;
        let content: String = lines
            .iter()
            .map(|line| line["message"]["content"].as_str().unwrap())
            .collect();
        assert_eq!(content, whole["message"]["content"]);
        match whole["done_reason"].as_str().unwrap() {
            "stop" => {
                let value: Value = serde_json::from_str(&content).expect(&content);
                assert!(value["n"].as_u64().unwrap() <= 9, "{value}");
            }
            _ => assert!(
                content
                    .chars()
                    .all(|c| "{}\"n:0123456789 \n\r\t".contains(c)),
                "{content}"
            ),
        }
    }
}

#[tokio::test]
async fn models_are_shown() {
    let server = server().await;
    let tags = server.ask("GET", "/api/tags", &[], "").await.json();
    let model = &tags["models"][0];
    assert_eq!(
        (&model["name"], &model["model"]),
        (&json!("tiny"), &json!("tiny"))
    );
    assert!(model["size"].as_u64().unwrap() > 0);
    let digest = model["digest"].as_str().unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(model["details"]["format"], "gguf");
    for name in ["tiny", "tiny:latest"] {
        let shown = server
            .post("/api/show", &json!({"model": name}))
            .await
            .json();
        assert_eq!(shown["details"], model["details"]);
        let architecture = shown["model_info"]["general.architecture"]
            .as_str()
            .unwrap();
        assert!(shown["model_info"][format!("{architecture}.context_length")].is_u64());
        assert!(shown["model_info"]["tokenizer.ggml.tokens"].is_null());
        assert!(
            shown["capabilities"]
                .as_array()
                .unwrap()
                .contains(&json!("completion"))
        );
        assert!(shown["template"].is_string());
    }
    let verbose = server
        .post("/api/show", &json!({"name": "tiny", "verbose": true}))
        .await
        .json();
    assert!(verbose["model_info"]["tokenizer.ggml.tokens"].is_array());
    let version = server.ask("GET", "/api/version", &[], "").await.json();
    assert!(version["version"].as_str().unwrap().starts_with("0."));
}

#[tokio::test]
async fn vectors_have_length_one_and_long_texts_are_cut_only_here() {
    let server = server().await;
    let embed = |input: Value| json!({"model": "tiny", "input": input});
    let answer = server
        .post("/api/embed", &embed(json!(["the", "fire"])))
        .await
        .json();
    let vectors: Vec<Vec<f64>> = serde_json::from_value(answer["embeddings"].clone()).unwrap();
    for vector in &vectors {
        let length: f64 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    let alone = server
        .post("/api/embed", &embed(json!("fire")))
        .await
        .json();
    assert_eq!(
        alone["embeddings"][0], answer["embeddings"][1],
        "a batch changes nothing"
    );
    let old = server
        .post(
            "/api/embeddings",
            &json!({"model": "tiny", "prompt": "fire"}),
        )
        .await
        .json();
    assert_eq!(old["embedding"], answer["embeddings"][1]);
    let none = server.post("/api/embed", &embed(json!([]))).await.json();
    assert_eq!(none["embeddings"], json!([]));
    let long = " fire".repeat(5000);
    let cut = server.post("/api/embed", &embed(json!(long))).await;
    assert_eq!(cut.status, 200);
    assert!(
        cut.header("hearth-notice")
            .unwrap()
            .contains("was cut from")
    );
    let refused = server
        .post(
            "/api/embed",
            &with(embed(json!(long)), json!({"truncate": false})),
        )
        .await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn errors_are_a_string() {
    let server = server().await;
    let long = " fire".repeat(5000);
    let cases = [
        (
            "/api/chat",
            chat(json!({"model": "nowhere"})),
            404,
            "model 'nowhere' not found",
        ),
        (
            "/api/chat",
            chat(json!({"model": "../../etc/passwd"})),
            404,
            "not found",
        ),
        (
            "/api/generate",
            generate(json!({"model": "nowhere", "stream": true})),
            404,
            "model 'nowhere' not found",
        ),
        (
            "/api/show",
            json!({"model": "nowhere"}),
            404,
            "model 'nowhere' not found",
        ),
        (
            "/api/embed",
            json!({"model": "nowhere", "input": "a"}),
            404,
            "model 'nowhere' not found",
        ),
        ("/api/chat", json!({}), 400, "'model'"),
        (
            "/api/chat",
            chat(json!({"think": true})),
            400,
            "\"tiny\" does not support thinking",
        ),
        (
            "/api/chat",
            chat(json!({"format": {"type": "array", "uniqueItems": true}})),
            400,
            "uniqueItems",
        ),
        (
            "/api/generate",
            generate(json!({"prompt": long})),
            400,
            "prompt is too long",
        ),
        (
            "/api/generate",
            generate(json!({"prompt": long, "truncate": true})),
            400,
            "prompt is too long",
        ),
        (
            "/api/generate",
            generate(json!({"context": [99_999_999]})),
            400,
            "99999999",
        ),
        ("/api/nowhere", json!({}), 404, "/api/nowhere"),
        ("/api/tags", json!({}), 405, "POST"),
        ("/api/pull", json!({"model": "nowhere"}), 403, "--manage"),
        (
            "/api/push",
            json!({"model": "tiny"}),
            403,
            "sends none away",
        ),
        (
            "/api/create",
            json!({"model": "x", "from": "tiny"}),
            403,
            "makes no models",
        ),
        (
            "/api/copy",
            json!({"source": "tiny", "destination": "x"}),
            403,
            "--manage",
        ),
    ];
    for (path, body, status, words) in cases {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, status, "{path} {}", answer.text());
        let json = answer.json();
        let message = json["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {json}"));
        assert!(message.contains(words), "{path}: {message}");
    }
    let answer = server
        .ask("DELETE", "/api/delete", &[], "{\"model\": \"tiny\"}")
        .await;
    assert_eq!(answer.status, 403);
    for body in ["", "[]", "{", "null"] {
        let answer = server.ask("POST", "/api/chat", &[], body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].is_string());
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn a_model_that_is_there_needs_no_pull() {
    let server = server().await;
    let answer = server.post("/api/pull", &json!({"model": "tiny"})).await;
    assert_eq!(lines(&answer.text()), [json!({"status": "success"})]);
}

#[tokio::test]
async fn bodies_are_json_whatever_their_type_says() {
    let server = server().await;
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = chat(json!({"stream": false})).to_string();
    assert_eq!(
        server.ask("POST", "/api/chat", &form, &body).await.status,
        200
    );
}

#[tokio::test]
async fn notices_and_strict_mode() {
    let server = server().await;
    let body = chat(json!({"wings": 2, "options": {"num_gpu": 1, "num_predict": 1}}));
    let answer = server.post("/api/chat", &body).await;
    assert_eq!(
        answer.header("hearth-notice"),
        Some("ignored=options.num_gpu; ignored=wings")
    );
    let strict = with(body, json!({"hearth": {"strict": true}}));
    assert_eq!(server.post("/api/chat", &strict).await.status, 400);
}
