//! Browsers, networks, keys, neighbours.

use hearth_engine::Priority;
use hearth_server::keys::KeyFile;
use serde_json::{Value, json};

use crate::{
    Trap, is_refused,
    support::{Answer, CHAT, Server, Setup, TempFile, chat},
};

/// What is asked with a key.
async fn ask(server: &Server, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let body = match method {
        "POST" => body.to_string(),
        _ => String::new(),
    };
    server.ask(method, path, &[("x-api-key", key)], &body).await
}

#[tokio::test]
async fn cve_2024_28224_dns_rebinding() {
    let server = Setup::default().serve().await;
    for (method, path) in [
        ("GET", "/api/tags"),
        ("POST", "/api/chat"),
        ("OPTIONS", "/"),
        ("GET", "/health"),
        ("GET", "/nowhere"),
        ("TRACE", "/"),
    ] {
        let answer = server
            .ask(method, path, &[("host", "rebound.example:4327")], "")
            .await;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    let absolute = server
        .ask(
            "GET",
            "http://rebound.example/api/tags",
            &[("host", "localhost")],
            "",
        )
        .await;
    assert_eq!(absolute.status, 403, "also when the request line names it");
}

#[tokio::test]
async fn llama_cpp_25655_cors_is_never_reflected() {
    let server = Setup::default().serve().await;
    for origin in ["https://evil.example", "null", "http://localhost:3000"] {
        // A form that needs no preflight.
        let headers = [("origin", origin), ("content-type", "text/plain")];
        let answer = server
            .ask("POST", CHAT, &headers, &chat(json!({})).to_string())
            .await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn cve_2025_59425_an_almost_right_key_is_as_wrong_as_any() {
    let key = "correct-horse-battery-staple";
    let server = Setup {
        keys: vec![key.into(), "another-key".into()],
        ..Setup::default()
    }
    .serve()
    .await;
    let mut wrong: Vec<String> = (0..key.len()).map(|n| key[..n].to_owned()).collect();
    wrong.extend((0..key.len()).map(|n| format!("{}X{}", &key[..n], &key[n + 1..])));
    wrong.extend([format!("{key}x"), key.repeat(100), key.to_uppercase()]);
    let mut answers = Vec::new();
    for wrong in wrong {
        let answer = ask(&server, &wrong, "GET", "/v1/models", &Value::Null).await;
        answers.push((answer.status, answer.text()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "all are told the same: {answers:?}");
    assert_eq!(answers[0].0, 401);
    let right = ask(&server, key, "GET", "/v1/models", &Value::Null).await;
    assert_eq!(right.status, 200);
}

/// A response and an item of it that somebody else knows the ids of are not there for them.
async fn check_hidden(server: &Server, key: &str, response: &Value) {
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("GET", format!("{path}/input_items")),
    ] {
        let answer = ask(server, key, method, &path, &Value::Null).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
    let reference = json!([{"type": "item_reference", "id": response["output"][0]["id"]}]);
    for more in [
        json!({"input": "And?", "previous_response_id": response["id"]}),
        json!({"input": reference}),
    ] {
        for path in ["/v1/responses", "/v1/responses/input_tokens"] {
            let mut body = json!({"model": "tiny", "max_output_tokens": 2});
            crate::support::merge(&mut body, more.clone());
            let answer = ask(server, key, "POST", path, &body).await;
            assert_eq!(answer.status, 400, "{path} {more}: {}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_responses_are_their_keys_alone() {
    let server = Setup {
        keys: vec!["first-users-key".into(), "second-users-key".into()],
        ..Setup::default()
    }
    .serve()
    .await;
    let body = json!({"model": "tiny", "input": "hi", "max_output_tokens": 2});
    let response = ask(&server, "first-users-key", "POST", "/v1/responses", &body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let response = response.json();
    check_hidden(&server, "second-users-key", &response).await;
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    let own = ask(&server, "first-users-key", "GET", &path, &Value::Null).await;
    assert_eq!(own.json(), response, "nothing of it was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_given_again_finds_nothing_of_who_had_it_before() {
    let path = TempFile::new(b"");
    let file = KeyFile::open(&path.0).expect("a file of keys");
    let first = file.add("anna", 1, Priority::Interactive).expect("a key");
    let server = Setup {
        key_file: Some(path.0.clone()),
        ..Setup::default()
    }
    .serve()
    .await;
    let prompt = "the fire is warm and every child knows the old story ".repeat(20);
    let long = chat(json!({"messages": [{"role": "user", "content": prompt}], "temperature": 0}));
    let cached = |answer: Answer| {
        let json = answer.json();
        json["usage"]["prompt_tokens_details"]["cached_tokens"].clone()
    };
    ask(&server, &first, "POST", CHAT, &long).await;
    assert_ne!(cached(ask(&server, &first, "POST", CHAT, &long).await), 0);
    let body = json!({"model": "tiny", "input": "hi", "max_output_tokens": 2});
    let response = ask(&server, &first, "POST", "/v1/responses", &body).await;
    file.revoke("anna").expect("it is there");
    let second = file.add("anna", 1, Priority::Interactive).expect("a key");
    check_hidden(&server, &second, &response.json()).await;
    assert_eq!(cached(ask(&server, &second, "POST", CHAT, &long).await), 0);
}

#[tokio::test]
async fn cve_2025_46570_nobody_learns_anothers_prompt_from_the_cache() {
    let server = Setup {
        keys: vec!["first-users-key".into(), "second-users-key".into()],
        ..Setup::default()
    }
    .serve()
    .await;
    let prompt = "the fire is warm and every child knows the old story ".repeat(20);
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": prompt}], "max_tokens": 2, "seed": 1}).to_string();
    let mut cached = Vec::new();
    for key in [
        "first-users-key",
        "first-users-key",
        "second-users-key",
        "second-users-key",
    ] {
        let answer = server.ask("POST", CHAT, &[("x-api-key", key)], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        cached.push(
            answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
                .as_u64()
                .expect("a count"),
        );
    }
    assert!(
        cached[1] > 0 && cached[3] > 0,
        "an owner's own prompt is found: {cached:?}"
    );
    assert_eq!(
        (cached[0], cached[2]),
        (0, 0),
        "another's is not: {cached:?}"
    );
}

#[tokio::test]
async fn cve_2025_32444_2026_3059_3060_and_103041_bytes_of_other_protocols_are_noise() {
    let server = Setup::default().serve().await;
    let pickle = b"\x80\x04\x95\x20\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.";
    for bytes in [
        &pickle[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
        b"GET\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.write(bytes).await;
        client.write(b"\r\n\r\n").await;
        let status = client.answer(false).await.map(|answer| answer.status);
        assert!(
            matches!(status, None | Some(400..=499 | 505)),
            "{bytes:?}: {status:?}"
        );
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn cve_2026_30623_and_42271_no_request_runs_a_command() {
    let server = Setup::default().serve().await;
    let (trap, address) = Trap::new().await;
    let marker = std::env::temp_dir().join(format!("hearth-pwned-{}", std::process::id()));
    let command = format!("touch {}", marker.display());
    for (method, path) in [
        ("POST", "/tools"),
        ("POST", "/mcp"),
        ("POST", "/mcp-rest/test/connection"),
        ("POST", "/v1/mcp/server"),
        ("GET", "/tools"),
        ("POST", "/v1/tools/execute"),
    ] {
        let body = json!({"command": "sh", "args": ["-c", command], "transport": "stdio"});
        let answer = server.ask(method, path, &[], &body.to_string()).await;
        assert!(is_refused(&answer), "{method} {path}: {}", answer.status);
    }
    let tool = json!([{"type": "mcp", "server_label": "x", "server_url": format!("http://{address}"), "command": "sh", "args": ["-c", command]}]);
    let answer = server
        .post(
            "/v1/responses",
            &json!({"model": "tiny", "input": "hi", "max_output_tokens": 2, "tools": tool}),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer
            .header("hearth-notice")
            .is_some_and(|notice| notice.contains("dropped-tool=mcp"))
    );
    assert!(!trap.was_touched().await && !marker.exists());
}
