//! One test for each class of attack that other servers fell to, named after it. Each ends with the server alive.

mod support;

use std::time::Duration;

use hearth_gguf::Value as Meta;
use serde_json::{Value, json};
use support::{Answer, CHAT, Server, Setup, chat};
use tokio::{net::TcpListener, time::timeout};

/// A template in place of the model's own.
async fn with_template(template: &str) -> Server {
    let mut model = hearth_testing::tiny_chat::tiny_chat();
    let key = "tokenizer.chat_template".to_owned();
    model.keys.retain(|(known, _)| *known != key);
    model.keys.push((key, Some(Meta::String(template.into()))));
    Setup {
        model: model.build(),
        ..Setup::default()
    }
    .serve()
    .await
}

/// A port that nobody should ever connect to.
struct Trap(TcpListener);

impl Trap {
    async fn new() -> (Trap, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        (Trap(listener), address)
    }

    async fn was_touched(&self) -> bool {
        timeout(Duration::from_millis(300), self.0.accept())
            .await
            .is_ok()
    }
}

fn is_refused(answer: &Answer) -> bool {
    (400..500).contains(&answer.status)
}

// Templates, grammars, fields of requests

#[tokio::test]
async fn cve_2024_34359_and_2026_5760_a_template_runs_no_code() {
    for template in [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('id') }}",
        "{{ self._TemplateReference__context }}",
    ] {
        let server = with_template(template).await;
        let answer = server.post(CHAT, &chat(json!({}))).await;
        assert!(
            answer.status < 500,
            "{template}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(!answer.text().contains("root:"), "{}", answer.text());
        assert!(server.is_alive().await);
    }
}

#[tokio::test]
async fn a_template_cannot_run_for_ever() {
    let server = with_template(
        "{% for a in range(99999999) %}{% for b in range(99999999) %}x{% endfor %}{% endfor %}",
    )
    .await;
    let body = chat(json!({}));
    let slow = server.post(CHAT, &body);
    let (answer, is_alive) = tokio::join!(slow, server.is_alive());
    assert!(is_refused(&answer), "{} {}", answer.status, answer.text());
    assert!(is_alive);
}

#[tokio::test]
async fn cve_2025_62426_template_variables_override_nothing() {
    let server = Setup::default().serve().await;
    let plain = server.post(CHAT, &chat(json!({"seed": 1}))).await;
    assert_eq!(plain.status, 200, "{}", plain.text());
    for (name, value) in [
        ("messages", json!([])),
        ("tools", json!([{"type": "function"}])),
        ("chat_template", json!("{{ 1/0 }}")),
        ("add_generation_prompt", json!(false)),
        ("tokenize", json!(true)),
        ("bos_token", json!("<|im_end|>")),
        ("documents", json!("x")),
    ] {
        let answer = server
            .post(
                CHAT,
                &chat(json!({"seed": 1, "chat_template_kwargs": {name: value}})),
            )
            .await;
        if answer.status == 200 {
            assert_eq!(
                answer.json()["usage"],
                plain.json()["usage"],
                "{name} changed the prompt"
            );
            assert!(
                answer
                    .header("hearth-notice")
                    .is_some_and(|notice| notice.contains(name)),
                "{name} without a notice"
            );
        } else {
            assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        }
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn cve_2025_48944_a_broken_schema_kills_nothing() {
    let server = Setup::default().serve().await;
    let many: Vec<String> = (0..100_000).map(|n| format!("{n:06}")).collect();
    let mut deep = json!({"type": "string"});
    for _ in 0..80 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    for schema in [
        json!({"type": "string", "pattern": "("}),
        json!({"type": "string", "pattern": "[z-a]"}),
        json!({"type": "string", "pattern": "(a+)+\\1"}),
        json!({"type": "strng"}),
        json!({"type": ["string", 5]}),
        json!({"type": {}}),
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/nothing"}),
        json!({"$ref": "http://127.0.0.1:1/schema"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        json!({"enum": []}),
        json!({"enum": many}),
        json!({"minimum": 5, "maximum": 1, "type": "integer"}),
        deep,
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let answer = server
            .post(CHAT, &chat(json!({"response_format": format})))
            .await;
        assert_eq!(
            answer.status,
            400,
            "{:.100}: {}",
            schema.to_string(),
            answer.text()
        );
        let tool = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": schema}}]);
        let answer = server
            .post(
                CHAT,
                &chat(json!({"tools": tool, "tool_choice": "required"})),
            )
            .await;
        assert_eq!(
            answer.status,
            400,
            "tool {:.100}: {}",
            schema.to_string(),
            answer.text()
        );
    }
    assert_eq!(server.post(CHAT, &chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn cve_2026_21869_numbers_out_of_range_are_refused() {
    let server = Setup::default().serve().await;
    for field in [
        "max_tokens",
        "max_completion_tokens",
        "n",
        "temperature",
        "top_p",
        "frequency_penalty",
        "presence_penalty",
        "top_logprobs",
    ] {
        for value in [
            "-1000000",
            "-9223372036854775808",
            "18446744073709551615",
            "1e300",
            "-1e300",
            "\"1\"",
            "[1]",
            "{}",
            "true",
        ] {
            // Larger than the room left is fine for a number of tokens.
            if field.starts_with("max_") && value == "18446744073709551615" {
                continue;
            }
            let body = format!(
                r#"{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}],"logprobs":true,"{field}":{value}}}"#
            );
            let answer = server.ask("POST", CHAT, &[], &body).await;
            assert_eq!(answer.status, 400, "{field}={value}: {}", answer.text());
            assert!(
                answer.json()["error"]["param"]
                    .as_str()
                    .is_some_and(|param| param.contains(field)),
                "{field}: {}",
                answer.text()
            );
        }
    }
    for body in [
        json!({"model": "tiny", "prompt": "x", "n_discard": -1}),
        json!({"model": "tiny", "prompt": [-1]}),
        json!({"model": "tiny", "prompt": [4_294_967_295_u32]}),
        json!({"model": "tiny", "prompt": "x", "logit_bias": {"-1": 1}}),
        json!({"model": "tiny", "prompt": "x", "logit_bias": {"99999999": 1}}),
    ] {
        let answer = server.post("/v1/completions", &body).await;
        assert!(
            answer.status == 400 || (answer.status == 200 && body["n_discard"].is_i64()),
            "{body}: {}",
            answer.text()
        );
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn grammar_and_sampler_settings_meet_without_harm() {
    let server = Setup::default().serve().await;
    let forbid_all: Value = (0..2000)
        .map(|id| (id.to_string(), json!(-100)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for more in [
        json!({"response_format": {"type": "json_object"}, "top_k": 1, "temperature": 2}),
        json!({"response_format": {"type": "json_object"}, "min_p": 1.0, "temperature": 1}),
        json!({"grammar": "root ::= \"a\" | root", "max_tokens": 2}),
        json!({"grammar": "root ::= ", "max_tokens": 2}),
        json!({"grammar": "x", "max_tokens": 2}),
        json!({"logit_bias": forbid_all}),
    ] {
        let answer = server.post(CHAT, &chat(more.clone())).await;
        assert!(
            answer.status == 200 || answer.status == 400,
            "{:.80}: {} {}",
            more.to_string(),
            answer.status,
            answer.text()
        );
    }
    assert_eq!(server.post(CHAT, &chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn amplification_is_bounded() {
    let server = Setup::default().serve().await;
    let words: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let bias: serde_json::Map<String, Value> =
        (0..100_000).map(|id| (id.to_string(), json!(1))).collect();
    for more in [
        json!({"n": 16_384}),
        json!({"stop": words}),
        json!({"stop": "x".repeat(1 << 20)}),
        json!({"logit_bias": bias}),
        json!({"logprobs": true, "top_logprobs": 200_000}),
        json!({"model": "x".repeat(1 << 20)}),
    ] {
        let answer = server.post(CHAT, &chat(more)).await;
        assert!(
            is_refused(&answer),
            "{} {:.200}",
            answer.status,
            answer.text()
        );
        assert!(
            answer.body.len() < 10_000,
            "an error does not repeat what it was sent"
        );
    }
    let prompts: Vec<&str> = vec!["x"; 100_000];
    assert!(is_refused(
        &server
            .post(
                "/v1/completions",
                &json!({"model": "tiny", "prompt": prompts, "n": 128})
            )
            .await
    ));
    assert!(is_refused(
        &server
            .post(
                "/v1/embeddings",
                &json!({"model": "tiny", "input": prompts})
            )
            .await
    ));
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn cve_2025_48956_large_heads_are_refused() {
    let server = Setup::default().serve().await;
    for head in [
        format!("x: {}\r\n", "y".repeat(1 << 20)),
        "x: y\r\n".repeat(100_000),
        format!("{}: y\r\n", "x".repeat(1 << 20)),
    ] {
        let mut client = server.connect().await;
        client
            .write(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes())
            .await;
        let status = client.answer(false).await.map(|answer| answer.status);
        assert!(matches!(status, None | Some(400 | 414 | 431)), "{status:?}");
        assert!(server.is_alive().await);
    }
    let mut client = server.connect().await;
    client
        .write(
            format!(
                "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "x".repeat(1 << 20)
            )
            .as_bytes(),
        )
        .await;
    let status = client.answer(false).await.map(|answer| answer.status);
    assert!(matches!(status, None | Some(400 | 414 | 431)), "{status:?}");
    assert!(server.is_alive().await);
}

// Files, registries, updates: what of it a server without a downloader can be made to do

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
async fn nothing_is_deleted_copied_or_pulled_unless_management_is_on() {
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
async fn cve_2025_51471_and_2026_5530_no_request_makes_the_server_connect() {
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

// Browsers, networks, keys, neighbours

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
async fn cors_is_never_reflected() {
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
async fn cve_2025_32444_and_2026_3059_bytes_of_other_protocols_are_noise() {
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
