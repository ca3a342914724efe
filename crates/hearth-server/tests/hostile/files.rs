//! Files, registries, updates: what of it a server without a downloader can be made to do.

use serde_json::json;

use crate::{
    Trap, is_refused,
    support::{CHAT, Setup, chat},
};

const ODD_NAMES: [&str; 12] = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows\\win.ini",
    "C:\\windows\\win.ini",
    "tiny\0.gguf",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x",
    "%2e%2e%2fetc%2fpasswd",
    "~/.ssh/id_rsa",
    "\\\\host\\share",
    "tiny/../tiny",
    "hf.co/../../x",
];

#[tokio::test]
async fn cve_2024_37032_and_2026_103663_names_and_digests_are_no_paths() {
    let server = Setup::default().serve().await;
    for name in ODD_NAMES {
        let answer = server.post(CHAT, &chat(json!({"model": name}))).await;
        assert!(
            matches!(answer.status, 400 | 404),
            "{name:?}: {}",
            answer.status
        );
        let answer = server.post("/api/show", &json!({"model": name})).await;
        assert!(
            matches!(answer.status, 400 | 404),
            "{name:?}: {}",
            answer.status
        );
        let path = format!("/v1/models/{}", name.replace(['\0', '\\', '%', ' '], "x"));
        assert!(
            is_refused(&server.ask("GET", &path, &[], "").await),
            "{path}"
        );
    }
    for path in [
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%00",
        "/v1/models/%ff",
        "/api/blobs/sha256:../../../etc/passwd",
    ] {
        for method in ["GET", "POST", "HEAD"] {
            assert!(
                is_refused(&server.ask(method, path, &[], "").await),
                "{method} {path}"
            );
        }
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn cve_2024_45436_nothing_is_imported_or_unpacked() {
    let server = Setup::default().serve().await;
    for (method, path) in [
        ("POST", "/api/create"),
        ("POST", "/api/push"),
        ("POST", "/api/blobs/sha256:00"),
        ("PUT", "/slots/0"),
        ("POST", "/slots/0?action=save"),
        ("POST", "/lora-adapters"),
        ("POST", "/models/load"),
    ] {
        let body = json!({"model": "x", "path": "/etc/passwd", "files": {"../x": "sha256:00"}, "filename": "../x"});
        let answer = server.ask(method, path, &[], &body.to_string()).await;
        assert!(is_refused(&answer), "{method} {path}: {}", answer.status);
    }
}

#[tokio::test]
async fn ollama_0_1_33_nothing_is_deleted_copied_or_pulled_unless_management_is_on() {
    let server = Setup::default().serve().await;
    for (method, path, body) in [
        ("POST", "/api/pull", json!({"model": "../../../../tmp/x"})),
        ("POST", "/api/pull", json!({"model": "llama3"})),
        ("DELETE", "/api/delete", json!({"model": "tiny"})),
        ("DELETE", "/api/delete", json!({"model": "../tiny"})),
        (
            "POST",
            "/api/copy",
            json!({"source": "tiny", "destination": "../../x"}),
        ),
        (
            "POST",
            "/api/copy",
            json!({"source": "tiny", "destination": "copy"}),
        ),
    ] {
        let answer = server.ask(method, path, &[], &body.to_string()).await;
        assert!(
            is_refused(&answer),
            "{method} {path} {body}: {}",
            answer.status
        );
        assert!(answer.json()["error"].is_string());
    }
    let list = server.ask("GET", "/api/tags", &[], "").await.json();
    assert_eq!(list["models"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(
        server.post(CHAT, &chat(json!({}))).await.status,
        200,
        "the file is still there"
    );
}

#[tokio::test]
async fn go_2025_3824_cve_2025_51471_2026_5530_and_108836_no_request_makes_the_server_connect() {
    let server = Setup::default().serve().await;
    let (trap, address) = Trap::new().await;
    let url = format!("http://{address}/x");
    for (path, body) in [
        (
            "/api/pull",
            json!({"model": format!("{address}/library/x"), "insecure": true}),
        ),
        ("/api/pull", json!({"model": url, "insecure": true})),
        (CHAT, chat(json!({"model": url}))),
        (
            CHAT,
            chat(
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}),
            ),
        ),
        (
            CHAT,
            chat(
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}),
            ),
        ),
        (
            CHAT,
            chat(
                json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": url}}]}]}),
            ),
        ),
        (
            CHAT,
            chat(
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": url}}}}),
            ),
        ),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": [{"role": "user", "content": [{"type": "input_file", "file_url": "file:///etc/passwd"}]}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": "x", "text": {"format": {"type": "json_schema", "name": "x", "schema": {"$ref": url}}}}),
        ),
        (
            "/v1/messages",
            json!({"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}]}),
        ),
        (
            "/api/chat",
            json!({"model": "tiny", "messages": [{"role": "user", "content": "x", "images": [url]}]}),
        ),
    ] {
        let answer = server.post(path, &body).await;
        assert!(
            is_refused(&answer),
            "{path} {body}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert!(!trap.was_touched().await);
}

#[tokio::test]
async fn cve_2024_12886_compressed_bodies_are_not_unpacked() {
    let server = Setup::default().serve().await;
    // The head of a gzip file: as JSON it is nothing.
    let body = "\u{1f}\u{8b}\u{8}\0\0\0\0\0";
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let answer = server
            .ask("POST", CHAT, &[("content-encoding", encoding)], body)
            .await;
        assert!(is_refused(&answer), "{encoding}: {}", answer.status);
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn cve_2026_42248_and_42249_there_is_no_updater() {
    let server = Setup::default().serve().await;
    let (trap, address) = Trap::new().await;
    let body = json!({"url": format!("http://{address}/hearth"), "version": "99.0.0"});
    for path in [
        "/update",
        "/api/update",
        "/api/upgrade",
        "/v1/update",
        "/api/install",
        "/restart",
    ] {
        for method in ["GET", "POST", "PUT"] {
            let answer = server.ask(method, path, &[], &body.to_string()).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    let table = hearth_server::app::routes();
    for word in ["update", "upgrade", "install", "restart"] {
        let is_there = table.list().iter().any(|route| route.path.contains(word));
        assert!(!is_there, "a route for '{word}'");
    }
    assert!(!trap.was_touched().await);
}
