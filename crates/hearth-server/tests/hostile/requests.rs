//! Templates, grammars, fields of requests: what a body can do.

use hearth_gguf::Value as Meta;
use serde_json::{Value, json};

use crate::{
    is_refused,
    support::{CHAT, Server, Setup, chat},
};

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
async fn cve_2025_62426_a_template_that_never_ends_holds_up_nobody() {
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
async fn llama_cpp_22234_grammar_and_sampler_settings_meet_without_harm() {
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
async fn vllm_n_and_other_amplification_is_bounded() {
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
