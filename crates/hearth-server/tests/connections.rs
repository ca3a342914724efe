//! Connections that are slow, broken or many, and a server that ends while some are open.

mod support;

use hearth_server::{limits::Limits, models::Loaded};
use serde_json::{Value, json};
use support::{CHAT, PATIENCE, Setup, chat, dialect_of, expected_dialect, merge};
use tokio::time::timeout;

#[tokio::test]
async fn half_sent_requests_hold_nobody_up() {
    let server = Setup {
        limits: Limits {
            connections: 8,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .serve()
    .await;
    let mut halves = Vec::new();
    for n in 0..20 {
        let mut client = server.connect().await;
        client
            .write(if n % 2 == 0 { b"GET /hea" } else { b"" })
            .await;
        halves.push(client);
    }
    for _ in 0..10 {
        assert!(server.is_alive().await);
    }
    assert!(
        halves[0].is_closed().await,
        "the one that has idled longest made room"
    );
}

#[tokio::test]
async fn a_client_that_reads_nothing_locks_nobody_out() {
    let mut model = hearth_testing::tiny_chat::tiny_chat();
    model.n_ctx_train = 1 << 16;
    let server = Setup {
        model: model.build(),
        limits: Limits {
            connections: 1,
            body_pause_s: 1,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .serve()
    .await;
    let never = never_end(&server.app.models.get("tiny").await.expect("it loads"));
    let long = json!({"stream": true, "max_tokens": 60_000, "logprobs": true, "top_logprobs": 20, "logit_bias": never});
    let mut silent = server.connect().await;
    silent
        .send("POST", CHAT, &[], &chat(long).to_string())
        .await;
    let mut word = [0; 12];
    let begun = silent.stream.peek(&mut word);
    timeout(PATIENCE, begun)
        .await
        .expect("an answer")
        .expect("it begins");
    let is_served = async {
        loop {
            let mut client = server.connect().await;
            client.send("GET", "/health", &[], "").await;
            if client
                .answer(false)
                .await
                .is_some_and(|answer| answer.status == 200)
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, is_served).await.expect("it makes room");
}

#[tokio::test]
async fn a_head_must_come_in_time() {
    let server = Setup {
        limits: Limits {
            head_s: 1,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .serve()
    .await;
    let mut client = server.connect().await;
    client.write(b"GET /health HTTP/1.1\r\nHost: local").await;
    let answer = client.answer(false).await.map(|answer| answer.status);
    assert!(matches!(answer, None | Some(408)), "{answer:?}");
}

#[tokio::test]
async fn a_body_must_go_on_coming() {
    let server = Setup {
        limits: Limits {
            body_pause_s: 1,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .serve()
    .await;
    let mut client = server.connect().await;
    client
        .write(
            format!(
                "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{\"mod"
            )
            .as_bytes(),
        )
        .await;
    let answer = client.answer(false).await.expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn the_connection_stays_usable_after_a_4xx() {
    let server = Setup::default().serve().await;
    let mut client = server.connect().await;
    let large = format!("{{\"model\": \"{}\"", "x".repeat(1 << 20));
    for round in 0..3 {
        for (method, path, body, status) in [
            ("POST", CHAT, "{", 400),
            ("POST", "/nowhere", large.as_str(), 404),
            ("GET", "/v1/models/nobody", "", 404),
            ("PUT", CHAT, large.as_str(), 405),
            ("POST", CHAT, large.as_str(), 400),
            ("GET", "/health", "", 200),
        ] {
            let answer = client.ask(method, path, &[], body).await;
            assert_eq!(answer.status, status, "{round}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn bodies_may_come_in_chunks_and_be_large() {
    let server = Setup::default().serve().await;
    let mut client = server.connect().await;
    client
        .write(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for piece in ["{\"content\"", ": \"the fi", "re\"}"] {
        client
            .write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
            .await;
    }
    client.write(b"0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.expect("an answer").status, 200);
    // Spaces are body, but no work for anybody.
    let large = format!("{{\"content\": \"x\"{}}}", " ".repeat(32 << 20));
    assert_eq!(
        client.ask("POST", "/tokenize", &[], &large).await.status,
        200
    );
}

#[tokio::test]
async fn a_body_past_the_limit_is_a_413_or_a_closed_connection() {
    let server = Setup {
        limits: Limits {
            body_bytes: 1 << 20,
            drain_bytes: 1 << 20,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .serve()
    .await;
    let mut client = server.connect().await;
    let body = "x".repeat((1 << 20) + 1);
    assert_eq!(client.ask("POST", CHAT, &[], &body).await.status, 413);
    assert_eq!(
        client.ask("GET", "/health", &[], "").await.status,
        200,
        "little is left over, so it was thrown away"
    );
    let mut client = server.connect().await;
    client.send("POST", CHAT, &[], &"x".repeat(64 << 20)).await;
    let status = client.answer(false).await.map(|answer| answer.status);
    assert!(matches!(status, None | Some(413)), "{status:?}");
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn uploads_that_break_off_leave_nothing_behind() {
    let server = Setup::default().serve().await;
    for _ in 0..50 {
        let mut client = server.connect().await;
        client.write(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{\"model\"").as_bytes()).await;
    }
    assert!(server.is_alive().await);
    assert_eq!(server.post(CHAT, &chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn smuggled_requests_are_refused() {
    let server = Setup::default().serve().await;
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 99999999999999999999\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: gzip, chunked, gzip\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client
            .write(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{head}").as_bytes())
            .await;
        let status = client.answer(false).await.map(|answer| answer.status);
        assert!(
            matches!(status, None | Some(400..=499)),
            "{head:?}: {status:?}"
        );
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn a_server_ends_in_order_while_streams_run() {
    let mut server = Setup::default().serve().await;
    let mut client = server.connect().await;
    let body = chat(json!({"stream": true, "max_tokens": 100_000, "ignore_eos": true})).to_string();
    client.send("POST", CHAT, &[], &body).await;
    timeout(PATIENCE, server.stop())
        .await
        .expect("the server ends");
    let answer = client.answer(false).await;
    assert!(
        answer.is_none_or(|answer| answer.status == 200 || answer.status == 503),
        "a whole stream or none"
    );
}

#[tokio::test]
async fn a_client_may_wait_for_our_word_before_it_sends_a_body() {
    let server = Setup::default().serve().await;
    let body = chat(json!({})).to_string();
    for (path, status) in [(CHAT, 200), ("/nowhere", 404)] {
        let mut client = server.connect().await;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        client.write(head.as_bytes()).await;
        let mut word = [0; 12];
        let read = client.stream.peek(&mut word);
        timeout(PATIENCE, read)
            .await
            .expect("a word")
            .expect("it is readable");
        let is_wanted = word.ends_with(b"100");
        assert_eq!(is_wanted, status == 200, "{path}: {word:?}");
        if is_wanted {
            client.write(body.as_bytes()).await;
        }
        let answer = client.answer(false).await.expect("an answer");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn whoever_hangs_up_frees_the_place_on_every_route() {
    let mut model = hearth_testing::tiny_chat::tiny_chat();
    model.n_ctx_train = 1 << 16;
    let server = Setup {
        model: model.build(),
        ..Setup::default()
    }
    .serve()
    .await;
    let loaded = server.app.models.get("tiny").await.expect("it loads");
    let text = format!("NUMBER {}", "x1".repeat(25_000));
    let mut n_asked = 0;
    let turns = json!([{"role": "user", "content": text}]);
    for (path, body) in [
        (CHAT, json!({"model": "tiny", "messages": turns})),
        ("/v1/completions", json!({"model": "tiny", "prompt": text})),
        ("/v1/responses", json!({"model": "tiny", "input": text})),
        ("/v1/embeddings", json!({"model": "tiny", "input": text})),
        (
            "/v1/messages",
            json!({"model": "tiny", "messages": turns, "max_tokens": 9}),
        ),
        ("/api/chat", json!({"model": "tiny", "messages": turns})),
        ("/api/generate", json!({"model": "tiny", "prompt": text})),
    ] {
        for is_streamed in [false, true] {
            let mut body = body.clone();
            merge(&mut body, json!({"stream": is_streamed}));
            // Each text is another, so that nothing of it is in the cache.
            n_asked += 1;
            let body = body.to_string().replace("NUMBER", &n_asked.to_string());
            let before = loaded.engine.snapshot();
            let mut client = server.connect().await;
            client.send("POST", path, &[], &body).await;
            let is_at_work = async {
                while loaded.engine.snapshot().n_steps == before.n_steps {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, is_at_work).await.expect("it is read");
            drop(client);
            let is_free = async {
                while loaded.engine.snapshot().n_running + loaded.engine.snapshot().n_waiting > 0 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, is_free).await.expect("the place is free");
            let after = loaded.engine.snapshot();
            assert!(
                after.n_read - before.n_read < 40_000,
                "{path}: it was read to the end"
            );
        }
    }
}

/// Biases that forbid every token which ends an answer.
fn never_end(loaded: &Loaded) -> serde_json::Map<String, Value> {
    let ends = loaded.engine.tokenizer().end_of_generation().iter();
    ends.map(|id| (id.to_string(), json!(-100))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_finished_says_so() {
    let mut model = hearth_testing::tiny_chat::tiny_chat();
    model.n_ctx_train = 1 << 16;
    let mut server = Setup {
        model: model.build(),
        ..Setup::default()
    }
    .serve()
    .await;
    let never = never_end(&server.app.models.get("tiny").await.expect("it loads"));
    let more = json!({"stream": true, "max_tokens": 60_000, "logit_bias": never});
    let mut streams = Vec::new();
    for (path, mut body, last) in [
        (CHAT, chat(json!({})), "data: {\"error\":{"),
        (
            "/v1/completions",
            json!({"model": "tiny", "prompt": "a"}),
            "data: {\"error\":{",
        ),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": "a", "max_output_tokens": 60_000}),
            "event: response.failed\ndata: {",
        ),
    ] {
        merge(&mut body, more.clone());
        let mut client = server.connect().await;
        client.send("POST", path, &[], &body.to_string()).await;
        streams.push((path, last, client));
    }
    let is_busy = async {
        while server
            .app
            .models
            .get("tiny")
            .await
            .expect("it is there")
            .engine
            .snapshot()
            .n_running
            < 3
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_busy).await.expect("all three run");
    let (mut answers, stopped) = (Vec::new(), server.stop());
    let all = async {
        for (path, last, client) in &mut streams {
            answers.push((
                *path,
                *last,
                client.answer(false).await.expect("a whole stream"),
            ));
        }
    };
    tokio::join!(all, stopped);
    for (path, last, answer) in answers {
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text();
        let end = text.trim_end().rsplit("\n\n").next().expect("an event");
        assert!(
            end.starts_with(last) && end.contains("shutting down"),
            "{path}: {end}"
        );
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let server = Setup {
        limits: Limits {
            sequences: 1,
            queue: 1,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .serve()
    .await;
    let loaded = server.app.models.get("tiny").await.expect("it loads");
    let never = never_end(&loaded);
    let long = chat(json!({"stream": true, "max_tokens": 4000, "logit_bias": never})).to_string();
    let mut busy = Vec::new();
    for n in 0..2 {
        let mut client = server.connect().await;
        client.send("POST", CHAT, &[], &long).await;
        busy.push(client);
        let is_there = async {
            loop {
                let snapshot = loaded.engine.snapshot();
                if (snapshot.n_running, snapshot.n_waiting) == (1, n) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, is_there).await.expect("it is taken");
    }
    let turns = json!([{"role": "user", "content": "hi"}]);
    for (path, body) in [
        (CHAT, chat(json!({"stream": true}))),
        ("/v1/completions", json!({"model": "tiny", "prompt": "a"})),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": "a", "stream": true}),
        ),
        (
            "/v1/messages",
            json!({"model": "tiny", "max_tokens": 4, "messages": turns}),
        ),
        ("/api/chat", json!({"model": "tiny", "messages": turns})),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, 429, "{path}: {}", answer.text());
        assert_eq!(dialect_of(&answer), expected_dialect(path));
        let seconds = answer.header("retry-after").expect("a time");
        assert!(seconds.parse::<u32>().expect("seconds") > 0);
    }
    drop(busy);
}

#[tokio::test]
async fn concurrent_first_requests_load_a_model_once() {
    let server = Setup::default().serve().await;
    let asks = (0..16).map(|_| async { server.app.models.get("tiny").await.expect("it loads") });
    let loaded = futures_util::future::join_all(asks).await;
    assert!(
        loaded
            .iter()
            .all(|one| std::sync::Arc::ptr_eq(one, &loaded[0]))
    );
    assert!(
        !server.app.models.unload("tiny").await.expect("it is known"),
        "in use, so it stays"
    );
    drop(loaded);
    assert!(
        server
            .app
            .models
            .unload("tiny:latest")
            .await
            .expect("it is known")
    );
}
