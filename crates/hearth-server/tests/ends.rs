//! Answers that do not end by themselves: the context is full, the server goes down, or the client does.

mod support;

use std::time::Duration;

use hearth_engine::EngineSnapshot;
use serde_json::{Value, json};
use support::{CHAT, PATIENCE, Server, Setup, merge};
use tokio::time::{sleep, timeout};

/// Requests of every dialect that take long, and how each says that it broke off.
fn requests() -> Vec<(&'static str, Value, &'static str)> {
    let messages = json!([{"role": "user", "content": "the fire"}]);
    let n = 60_000;
    vec![
        (
            CHAT,
            json!({"messages": messages, "temperature": 0, "max_tokens": n, "stream": true}),
            "",
        ),
        (
            "/v1/completions",
            json!({"prompt": "the fire", "temperature": 0, "max_tokens": n, "stream": true}),
            "",
        ),
        (
            "/v1/responses",
            json!({"input": "the fire", "temperature": 0, "max_output_tokens": n, "stream": true}),
            "",
        ),
        (
            "/v1/messages",
            json!({"messages": messages, "temperature": 0, "max_tokens": n, "stream": true}),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"",
        ),
        (
            "/api/chat",
            json!({"messages": messages, "options": {"temperature": 0}}),
            "{\"error\":\"",
        ),
        (
            "/api/generate",
            json!({"prompt": "the fire", "options": {"temperature": 0}}),
            "{\"error\":\"",
        ),
    ]
}

async fn server() -> Server {
    with_context(65_536).await
}

async fn with_context(n_ctx: u32) -> Server {
    let mut model = hearth_testing::tiny_chat::tiny_chat();
    model.n_ctx_train = n_ctx;
    let setup = Setup {
        model: model.build(),
        ..Setup::default()
    };
    setup.serve().await
}

async fn figures(server: &Server) -> EngineSnapshot {
    let loaded = server.app.models.get("tiny").await.expect("it loads");
    loaded.engine.snapshot()
}

/// Waits until the engine's figures are as they should be.
async fn until(server: &Server, what: &str, is_so: impl Fn(&EngineSnapshot) -> bool) {
    let wait = async {
        while !is_so(&figures(server).await) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: it never came to that"));
}

fn of(body: Value, more: Value) -> String {
    let mut body = body;
    merge(&mut body, json!({"model": "tiny"}));
    merge(&mut body, more);
    body.to_string()
}

#[tokio::test]
async fn an_answer_without_more_room_ends_with_the_context_in_every_dialect() {
    let server = with_context(192).await;
    for (path, body, _) in requests() {
        let before = figures(&server).await.n_written;
        let body = of(body, json!({"stream": false}));
        let answer = server.ask("POST", path, &[], &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let answer = answer.json();
        let reason = [
            &answer["choices"][0]["finish_reason"],
            &answer["incomplete_details"]["reason"],
            &answer["stop_reason"],
            &answer["done_reason"],
        ];
        let reason = reason.iter().find_map(|reason| reason.as_str());
        let known = ["length", "max_output_tokens", "max_tokens"];
        assert!(
            reason.is_some_and(|reason| known.contains(&reason)),
            "{path}: {reason:?}"
        );
        let n_written = figures(&server).await.n_written - before;
        assert!(
            (100..192).contains(&n_written),
            "{path}: {n_written} tokens"
        );
    }
}

#[tokio::test]
async fn a_stream_that_the_servers_end_cuts_off_says_so_in_its_dialect() {
    // Those of OpenAI's dialect end so in `connections.rs`, all at once.
    let is_other = |path: &str| path.starts_with("/api") || path == "/v1/messages";
    for (path, body, sign) in requests().into_iter().filter(|(path, ..)| is_other(path)) {
        let mut server = server().await;
        let mut client = server.connect().await;
        client.send("POST", path, &[], &of(body, json!({}))).await;
        until(&server, path, |figures| figures.n_written > 2).await;
        let ((), answer) = tokio::join!(server.stop(), client.answer(false));
        let answer = answer.expect("the whole stream");
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text();
        let last = text.trim_end().rsplit("\n\n").next().expect("an event");
        let last = match path.starts_with("/api") {
            true => last.lines().last().expect("a line"),
            false => last,
        };
        assert!(last.starts_with(sign), "{path}: {last}");
        assert!(last.contains("shutting down"), "{path}: {last}");
    }
}

#[tokio::test]
async fn an_answer_that_the_servers_end_cuts_off_is_a_503_in_its_dialect() {
    for (path, body, _) in requests() {
        let mut server = server().await;
        let mut client = server.connect().await;
        let body = of(body, json!({"stream": false}));
        client.send("POST", path, &[], &body).await;
        until(&server, path, |figures| figures.n_written > 2).await;
        let ((), answer) = tokio::join!(server.stop(), client.answer(false));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert!(answer.text().contains("shutting down"), "{path}");
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_in_every_dialect() {
    let server = server().await;
    for is_streamed in [true, false] {
        for (path, body, _) in requests() {
            let before = figures(&server).await;
            let mut client = server.connect().await;
            let body = of(body, json!({"stream": is_streamed}));
            client.send("POST", path, &[], &body).await;
            until(&server, path, |figures| {
                figures.n_written > before.n_written + 2
            })
            .await;
            drop(client);
            until(&server, path, |figures| {
                (figures.n_running, figures.n_waiting) == (0, 0)
            })
            .await;
            let after = figures(&server).await;
            assert_eq!(after.n_cancelled, before.n_cancelled + 1, "{path}");
            assert!(after.n_written < before.n_written + 60_000, "{path}");
        }
    }
}
