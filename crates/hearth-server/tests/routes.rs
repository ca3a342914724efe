//! What holds for every route, walked along the table: keys, hosts, origins, errors in the dialect of the path, paths in
//! other forms.

mod support;

use serde_json::{Value, json};
use support::{CHAT, Server, Setup, chat, dialect_of, expected_dialect};

const KEY: &str = "correct-horse-battery-staple";

async fn with_key() -> Server {
    Setup {
        keys: vec![KEY.into()],
        ..Setup::default()
    }
    .serve()
    .await
}

/// A path that the route answers.
fn example(path: &str) -> String {
    path.replace("{*id}", "tiny").replace("{id}", "x_1")
}

#[tokio::test]
async fn every_route_but_health_needs_a_key() {
    let server = with_key().await;
    let table = hearth_server::app::routes();
    assert!(table.list().len() > 20, "the dialects are plugged in");
    for route in table.list() {
        let path = example(route.path);
        let answer = server.ask(route.method, &path, &[], "").await;
        if path == "/health" {
            assert_eq!(answer.status, 200);
            continue;
        }
        assert_eq!(answer.status, 401, "{} {path}", route.method);
        assert_eq!(dialect_of(&answer), expected_dialect(&path), "{path}");
        for wrong in ["", "x", &KEY[1..], &format!("{KEY}x")] {
            let bearer = format!("Bearer {wrong}");
            let answer = server
                .ask(route.method, &path, &[("authorization", &bearer)], "")
                .await;
            assert_eq!(answer.status, 401, "{path} with key '{wrong}'");
        }
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_need_a_key_too() {
    let server = with_key().await;
    for (method, path) in [
        ("GET", "/nowhere"),
        ("GET", "/metrics"),
        ("POST", "/health"),
        ("OPTIONS", "/v1/models"),
        ("PUT", "/v1/chat/completions"),
        ("GET", "/health/../v1/models"),
        ("GET", "/invocations"),
        ("POST", "/pause"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_opens_in_both_forms() {
    let server = with_key().await;
    let bearer = format!("bearer {KEY}");
    for header in [("authorization", bearer.as_str()), ("x-api-key", KEY)] {
        let answer = server.ask("GET", "/v1/models", &[header], "").await;
        assert_eq!(answer.status, 200, "{header:?}");
    }
}

#[tokio::test]
async fn the_key_is_asked_for_before_the_body_is_read() {
    let server = with_key().await;
    let mut client = server.connect().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 1000000\r\n\r\n",
        server.port
    );
    client.write(head.as_bytes()).await;
    let answer = client
        .answer(false)
        .await
        .expect("an answer without the body");
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn without_keys_any_key_and_none_are_accepted() {
    let server = Setup::default().serve().await;
    for headers in [
        &[][..],
        &[("authorization", "Bearer whatever")],
        &[("x-api-key", "")],
    ] {
        assert_eq!(
            server.ask("GET", "/v1/models", headers, "").await.status,
            200
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_dialect_of_the_path() {
    let server = Setup::default().serve().await;
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("GET", "/api/nowhere", 404),
        ("POST", "/v1/messages/nowhere", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/messages", 405),
        ("POST", "/", 405),
        ("GET", "/v1/models/nobody", 404),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(
            dialect_of(&answer),
            expected_dialect(path),
            "{method} {path}"
        );
    }
    let unknown = server.ask("GET", "/v1/models/nobody", &[], "").await.json();
    assert_eq!(unknown["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn bodies_that_are_none_are_a_400_on_every_route_that_takes_one() {
    let server = Setup::default().serve().await;
    let table = hearth_server::app::routes();
    let deep = "[".repeat(100_000);
    for route in table.list().iter().filter(|route| route.method == "POST") {
        let path = example(route.path);
        for body in [
            "",
            "null",
            "[]",
            "{",
            "\"x\"",
            "{\"a\": NaN}",
            "{\"model\": \"\\ud800\"}",
            &deep,
        ] {
            let answer = server.ask("POST", &path, &[], body).await;
            let is_refused =
                answer.status == 400 || (answer.status == 403 && path.starts_with("/api/"));
            assert!(is_refused, "{path} with {:.20}: {}", body, answer.status);
            assert_eq!(dialect_of(&answer), expected_dialect(&path), "{path}");
        }
    }
}

#[tokio::test]
async fn a_path_may_have_more_slashes_or_lack_v1() {
    let server = Setup::default().serve().await;
    for path in [
        "/v1/models",
        "/v1/models/",
        "//v1//models",
        "/models",
        "/v1/models?x=1",
        "/v1/models/tiny",
        "/models/tiny",
        "/v1/models/tiny:latest",
    ] {
        assert_eq!(server.ask("GET", path, &[], "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_front_door() {
    let server = Setup::default().serve().await;
    let text = server.ask("GET", "/", &[], "").await;
    assert_eq!(
        (text.status, text.text().as_str()),
        (200, "Ollama is running")
    );
    assert_eq!(server.ask("HEAD", "/", &[], "").await.status, 200);
    let page = server
        .ask("GET", "/", &[("accept", "text/html,*/*")], "")
        .await;
    assert!(
        page.text().contains("/v1") && page.text().contains("tiny"),
        "{}",
        page.text()
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .starts_with("default-src 'none'")
    );
}

#[tokio::test]
async fn foreign_hosts_are_refused_on_every_route() {
    let server = Setup::default().serve().await;
    for route in hearth_server::app::routes().list() {
        let path = example(route.path);
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:4327",
        ] {
            let answer = server.ask(route.method, &path, &[("host", host)], "").await;
            assert_eq!(answer.status, 403, "{} {path} at {host}", route.method);
            assert_eq!(dialect_of(&answer), expected_dialect(&path), "{path}");
        }
    }
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:4327"] {
        assert_eq!(
            server
                .ask("GET", "/health", &[("host", host)], "")
                .await
                .status,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_a_400() {
    let server = Setup::default().serve().await;
    for request in [
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /v1/models HTTP/1.0\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.write(request.as_bytes()).await;
        assert_eq!(
            client.answer(false).await.expect("an answer").status,
            400,
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn foreign_origins_are_refused_and_get_no_cors_headers() {
    let server = Setup {
        origins: vec!["https://chat.example"],
        ..Setup::default()
    }
    .serve()
    .await;
    for origin in [
        "https://evil.example",
        "null",
        "file://",
        "https://chat.example.evil.example",
        "http://chat.example",
    ] {
        for (method, path) in [
            ("GET", "/v1/models"),
            ("POST", "/api/chat"),
            ("OPTIONS", "/v1/chat/completions"),
            ("GET", "/health"),
        ] {
            let headers = [
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("content-type", "text/plain"),
            ];
            let answer = server.ask(method, path, &headers, "").await;
            assert_eq!(answer.status, 403, "{method} {path} from {origin}");
            let is_silent = !answer
                .headers
                .iter()
                .any(|(name, _)| name.starts_with("access-control-"));
            assert!(is_silent, "{:?}", answer.headers);
        }
    }
    let answer = server
        .ask(
            "GET",
            "/v1/models",
            &[("origin", "https://chat.example")],
            "",
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://chat.example")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let own = format!("http://127.0.0.1:{}", server.port);
    assert_eq!(
        server
            .ask("GET", "/v1/models", &[("origin", &own)], "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_configured_origin_gets_its_preflight_without_a_key() {
    let server = Setup {
        origins: vec!["https://chat.example"],
        keys: vec![KEY.into()],
        ..Setup::default()
    }
    .serve()
    .await;
    let headers = [
        ("origin", "https://chat.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization, x-stainless-os",
        ),
    ];
    let answer = server
        .ask("OPTIONS", "/v1/chat/completions", &headers, "")
        .await;
    assert_eq!(answer.status, 204);
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(
        allowed.contains("anthropic-version") && allowed.contains("x-stainless-os"),
        "{allowed}"
    );
    let request = server
        .ask(
            "GET",
            "/v1/models",
            &[("origin", "https://chat.example")],
            "",
        )
        .await;
    assert_eq!(request.status, 401, "the request itself needs the key");
    assert_eq!(
        request.header("access-control-allow-origin"),
        Some("https://chat.example"),
        "so that the page can read why"
    );
}

#[tokio::test]
async fn models_are_listed_for_both_sdks() {
    let server = Setup::default().serve().await;
    let list = server.ask("GET", "/v1/models", &[], "").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(
        (&list["first_id"], &list["last_id"], &list["has_more"]),
        (&json!("tiny"), &json!("tiny"), &json!(false))
    );
    let model = &list["data"][0];
    for key in ["id", "owned_by", "display_name", "created_at", "lifecycle"] {
        assert!(model[key].is_string(), "{key}: {model}");
    }
    assert_eq!(
        (&model["object"], &model["type"]),
        (&json!("model"), &json!("model"))
    );
    assert!(
        model["created"].is_u64() && model["max_model_len"].is_u64(),
        "{model}"
    );
    assert_eq!(
        server.ask("GET", "/v1/models/tiny", &[], "").await.json()["id"],
        "tiny"
    );
}

#[tokio::test]
async fn an_id_with_a_slash_may_be_written_in_both_ways() {
    let server = Setup {
        name: "org/tiny",
        ..Setup::default()
    }
    .serve()
    .await;
    for (path, id) in [
        ("/v1/models/org/tiny", "org/tiny"),
        ("/v1/models/org%2Ftiny", "org/tiny"),
        ("/v1/models/org%2ftiny?x=1", "org/tiny"),
        ("/models/org%2Ftiny/", "org/tiny"),
        ("/v1/models/org%2Ftiny%3Alatest", "org/tiny:latest"),
    ] {
        let answer = server.ask("GET", path, &[], "").await;
        assert_eq!(
            (answer.status, &answer.json()["id"]),
            (200, &json!(id)),
            "{path}"
        );
    }
    for path in [
        "/v1/models/org",
        "/v1/models/tiny",
        "/v1/models/org%252Ftiny",
        "/v1/models/org/x/../tiny",
    ] {
        let answer = server.ask("GET", path, &[], "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["code"], "model_not_found", "{path}");
    }
    let body = chat(json!({"model": "org/tiny", "max_tokens": 1}));
    let answer = server.post(CHAT, &body).await;
    assert_eq!(answer.json()["model"], "org/tiny", "{}", answer.text());
}

#[tokio::test]
async fn the_openapi_document_has_every_route() {
    let server = Setup::default().serve().await;
    let document: Value = server.ask("GET", "/openapi.json", &[], "").await.json();
    for route in hearth_server::app::routes().list() {
        let path = route.path.replace("{*", "{");
        let operation = &document["paths"][&path][route.method.to_ascii_lowercase()];
        assert_eq!(
            operation["summary"], route.summary,
            "{} {path}",
            route.method
        );
    }
}

#[tokio::test]
async fn figures_tell_of_requests_and_models_and_nothing_of_prompts() {
    let server = Setup::default().serve().await;
    let body = json!({"content": "a very secret sentence"});
    assert_eq!(server.post("/tokenize", &body).await.status, 200);
    server.ask("GET", "/a/very/secret/path", &[], "").await;
    let text = server.ask("GET", "/metrics", &[], "").await.text();
    for line in [
        r#"hearth_requests_total{route="/tokenize",status="200"} 1"#,
        r#"hearth_requests_total{route="unmatched",status="404"} 1"#,
        r#"hearth_running{model="tiny"} 0"#,
        "hearth_connections",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn tokens_and_texts_go_both_ways() {
    let server = Setup::default().serve().await;
    for text in [
        "",
        "the fire is warm",
        " caf\u{e9} \u{1f525}\n",
        "<|im_start|>user",
        "a<tool_call>b",
    ] {
        let cut = server.post("/tokenize", &json!({"content": text})).await;
        assert_eq!(cut.status, 200, "{}", cut.text());
        let tokens = &cut.json()["tokens"];
        let back = server
            .post("/detokenize", &json!({"tokens": tokens}))
            .await
            .json();
        assert_eq!(back["content"], text);
    }
    let pieces = server
        .post("/tokenize", &json!({"content": "the", "with_pieces": true}))
        .await
        .json();
    assert!(pieces["tokens"][0]["id"].is_u64(), "{pieces}");
    for bad in [
        json!({}),
        json!({"content": 1}),
        json!({"content": "x", "model": "nobody"}),
    ] {
        let answer = server.post("/tokenize", &bad).await;
        assert!(
            matches!(answer.status, 400 | 404),
            "{bad}: {}",
            answer.status
        );
    }
    for bad in [
        json!({"tokens": [-1]}),
        json!({"tokens": [999_999_999]}),
        json!({"tokens": "1"}),
        json!({}),
    ] {
        assert_eq!(server.post("/detokenize", &bad).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn texts_are_cut_in_the_words_of_both_servers() {
    let server = Setup::default().serve().await;
    let cut = async |body: Value| server.post("/tokenize", &body).await.json();
    let llama = cut(json!({"content": "<|im_start|>"})).await;
    let plain = cut(json!({"content": "<|im_start|>", "parse_special": false})).await;
    let vllm = cut(json!({"prompt": "<|im_start|>"})).await;
    assert_eq!(llama["count"], 1, "one token of the model's own: {llama}");
    assert_eq!(plain["tokens"], vllm["tokens"]);
    assert!(vllm["count"].as_u64() > Some(1), "{vllm}");
    assert_eq!(vllm["max_model_len"], 4096);
    let pieces = cut(json!({"content": "the \u{1f98a}", "with_pieces": true})).await;
    let mut bytes = Vec::new();
    for entry in pieces["tokens"].as_array().unwrap() {
        match &entry["piece"] {
            Value::String(text) => bytes.extend(text.bytes()),
            list => bytes.extend(
                list.as_array()
                    .unwrap()
                    .iter()
                    .map(|byte| byte.as_u64().unwrap() as u8),
            ),
        }
    }
    assert_eq!(String::from_utf8(bytes).unwrap(), "the \u{1f98a}");
    let is_split = |entry: &Value| entry["piece"].is_array();
    assert!(
        pieces["tokens"].as_array().unwrap().iter().any(is_split),
        "{pieces}"
    );
    let back = json!({"tokens": llama["tokens"]});
    let back = server.post("/detokenize", &back).await.json();
    assert_eq!(
        (&back["content"], &back["prompt"]),
        (&json!("<|im_start|>"), &json!("<|im_start|>"))
    );
}

#[tokio::test]
async fn a_template_is_applied_and_says_what_the_model_reads() {
    let server = Setup::default().serve().await;
    let turns = json!([{"role": "user", "content": "hi"}]);
    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    let body = json!({"messages": turns, "tools": tools});
    let prompt = server.post("/apply-template", &body).await.json()["prompt"].clone();
    let prompt = prompt.as_str().unwrap();
    assert!(
        prompt.contains("\"look\"") && prompt.contains("<|im_start|>user\nhi<|im_end|>"),
        "{prompt}"
    );
    assert!(prompt.ends_with("<|im_start|>assistant\n"), "{prompt}");
    let answer = server
        .post("/apply-template", &json!({"messages": []}))
        .await;
    assert_eq!(answer.status, 400);
}
