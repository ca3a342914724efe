//! How bodies are read: whatever carries them, whatever numbers look like, and nothing in silence.

use serde_json::{Value, json};

use crate::{
    support::{Answer, CHAT, Server, dialect_of, expected_dialect, merge},
    table::{Case, cases, messages, setup},
};

pub async fn ask(server: &Server, case: &Case, body: &Value) -> Answer {
    server
        .ask(case.method, case.path, &[], &body.to_string())
        .await
}

/// A refusal of what a client sent, in the words of the route's dialect.
fn check_refused(answer: &Answer, path: &str, what: &str) {
    assert_eq!(answer.status, 400, "{path}: {what}: {}", answer.text());
    assert_eq!(dialect_of(answer), expected_dialect(path), "{path}: {what}");
}

/// What an error says, whichever dialect it is in.
pub fn message(answer: &Answer) -> String {
    let error = &answer.json()["error"];
    let text = error["message"].as_str().or(error.as_str());
    text.expect("an error has a message").to_owned()
}

#[tokio::test]
async fn every_body_of_the_table_is_good() {
    let server = setup().serve().await;
    for case in cases() {
        let answer = ask(&server, &case, &case.body).await;
        assert_eq!(
            answer.status,
            case.status,
            "{}: {}",
            case.path,
            answer.text()
        );
        assert_eq!(answer.header("hearth-notice"), None, "{}", case.path);
    }
}

#[tokio::test]
async fn a_content_type_changes_nothing() {
    let server = setup().serve().await;
    let form = "application/x-www-form-urlencoded";
    for case in cases() {
        for kind in [
            form,
            "text/plain",
            "application/json; charset=utf-8",
            "multipart/form-data",
        ] {
            let headers = [("content-type", kind)];
            let body = case.body.to_string();
            let answer = server.ask(case.method, case.path, &headers, &body).await;
            assert_eq!(answer.status, case.status, "{} as {kind}", case.path);
        }
    }
}

#[tokio::test]
async fn a_body_may_come_in_chunks_on_every_route() {
    let server = setup().serve().await;
    for case in cases() {
        let (method, path) = (case.method, case.path);
        let mut client = server.connect().await;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        client.write(head.as_bytes()).await;
        for piece in case.body.to_string().as_bytes().chunks(7) {
            let length = format!("{:x}\r\n", piece.len());
            client
                .write(&[length.as_bytes(), piece, b"\r\n"].concat())
                .await;
        }
        client.write(b"0\r\n\r\n").await;
        let answer = client.answer(false).await.expect("an answer");
        assert_eq!(answer.status, case.status, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_query_and_more_slashes_change_nothing() {
    let server = setup().serve().await;
    for case in cases() {
        let path = case.path;
        let mut others = vec![
            format!("{path}?beta=true"),
            format!("{path}/"),
            format!("/{path}/?a=b&c"),
        ];
        if let Some(rest) = path
            .strip_prefix("/v1/")
            .filter(|rest| !rest.starts_with("messages"))
        {
            others.push(format!("/{rest}"));
            others.push(format!("/v1//{rest}"));
        }
        for other in others {
            let body = case.body.to_string();
            let answer = server.ask(case.method, &other, &[], &body).await;
            assert_eq!(answer.status, case.status, "{other}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let server = setup().serve().await;
    for case in cases().iter().filter(|case| case.status != 403) {
        let mut client = server.connect().await;
        for bytes in [
            &b"{\"model\": \"tiny\xff\"}"[..],
            b"\xfe\xff",
            b"{\"\xc3\x28\": 1}",
            b"\0",
        ] {
            client.send_bytes(case.method, case.path, &[], bytes).await;
            let answer = client.answer(false).await.expect("an answer");
            check_refused(&answer, case.path, "no UTF-8");
        }
    }
}

#[tokio::test]
async fn null_is_absent() {
    let server = setup().serve().await;
    for case in cases().iter().filter(|case| case.is_read()) {
        let mut body = case.body.clone();
        for name in case.optional {
            body[*name] = Value::Null;
        }
        let answer = ask(&server, case, &body).await;
        assert_eq!(answer.status, 200, "{}: {}", case.path, answer.text());
        assert_eq!(answer.header("hearth-notice"), None, "{}", case.path);
        for name in case.optional {
            let mut body = case.body.clone();
            body[*name] = Value::Null;
            // `stream` is true without a word in one dialect; here it is the form that counts.
            let answer = ask(&server, case, &body).await;
            let is_dependent = matches!(*name, "logprobs" | "tools");
            let is_fine = answer.status == 200 || (is_dependent && answer.status == 400);
            assert!(is_fine, "{} {name}: {}", case.path, answer.text());
        }
    }
}

#[tokio::test]
async fn a_whole_number_may_have_a_point_and_nothing_behind_it() {
    let server = setup().serve().await;
    for case in cases().iter().filter(|case| case.is_read()) {
        for place in case.integers {
            let name = place.rsplit('/').find(|part| part.parse::<u8>().is_err());
            let name = name.expect("the name of a field");
            let with = |value: Value| {
                let mut body = case.body.clone();
                *body.pointer_mut(place).expect("the field is there") = value;
                body
            };
            let number = case
                .body
                .pointer(place)
                .and_then(Value::as_f64)
                .expect("a number");
            let answer = ask(&server, case, &with(json!(number))).await;
            assert_eq!(
                answer.status,
                200,
                "{} {place}: {}",
                case.path,
                answer.text()
            );
            for wrong in [
                json!(number + 0.5),
                json!(number.to_string()),
                json!(true),
                json!([number]),
            ] {
                let answer = ask(&server, case, &with(wrong.clone())).await;
                check_refused(&answer, case.path, &format!("{place} = {wrong}"));
                let message = message(&answer);
                assert!(message.contains(name), "{}: {message}", case.path);
                if dialect_of(&answer) == "openai" {
                    let param = answer.json()["error"]["param"].to_string();
                    assert!(param.contains(name), "{}: {param}", case.path);
                }
            }
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_named_and_in_strict_mode_refused() {
    let server = setup().serve().await;
    for case in cases().iter().filter(|case| case.is_read()) {
        let mut body = case.body.clone();
        merge(&mut body, json!({"wings": 2}));
        let answer = ask(&server, case, &body).await;
        assert_eq!(answer.status, 200, "{}: {}", case.path, answer.text());
        let notice = answer.header("hearth-notice").unwrap_or_default();
        assert!(notice.contains("ignored=wings"), "{}: {notice}", case.path);
        merge(&mut body, json!({"hearth": {"strict": true}}));
        let answer = ask(&server, case, &body).await;
        check_refused(&answer, case.path, "strict");
        assert!(message(&answer).contains("wings"), "{}", answer.text());
        let mut body = case.body.clone();
        merge(&mut body, json!({"hearth": {"strict": true}}));
        let answer = ask(&server, case, &body).await;
        assert_eq!(answer.status, 200, "{}: {}", case.path, answer.text());
        for wrong in [json!("strict"), json!({"strict": 1})] {
            merge(&mut body, json!({"hearth": wrong}));
            check_refused(&ask(&server, case, &body).await, case.path, "hearth");
        }
    }
}

#[tokio::test]
async fn stop_strings_are_bounded_in_every_dialect() {
    let server = setup().serve().await;
    for case in cases().iter().filter(|case| case.is_read()) {
        for place in ["/stop", "/stop_sequences", "/options/stop"] {
            for wrong in [
                json!(["x".repeat(4097)]),
                json!(vec!["x"; 65]),
                json!([""]),
                json!([1]),
                json!({}),
            ] {
                let mut body = case.body.clone();
                let Some(stop) = body.pointer_mut(place) else {
                    continue;
                };
                *stop = wrong;
                let answer = ask(&server, case, &body).await;
                check_refused(&answer, case.path, place);
                assert!(message(&answer).contains("stop"), "{}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_model_is_named_on_every_route() {
    let server = setup().serve().await;
    for case in cases()
        .iter()
        .filter(|case| case.status != 403 && case.path != "/api/pull")
    {
        let mut body = case.body.clone();
        merge(&mut body, json!({"model": "nobody"}));
        let answer = ask(&server, case, &body).await;
        assert_eq!(answer.status, 404, "{}: {}", case.path, answer.text());
        assert_eq!(dialect_of(&answer), expected_dialect(case.path));
        assert!(
            message(&answer).contains("'nobody' not found"),
            "{}",
            answer.text()
        );
        if dialect_of(&answer) == "openai" {
            assert_eq!(answer.json()["error"]["code"], "model_not_found");
        }
    }
}

#[tokio::test]
async fn a_model_without_a_ranking_head_says_so() {
    let server = setup().serve().await;
    for path in ["/v1/rerank", "/rerank", "/v1/reranking", "/reranking"] {
        let body = json!({"model": "tiny", "query": "fire", "documents": ["snow"]});
        let answer = server.post(path, &body).await;
        check_refused(&answer, path, "no head");
        assert!(
            message(&answer).contains("ranking head"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn streams_have_the_head_of_a_stream() {
    let server = setup().serve().await;
    for case in cases()
        .iter()
        .filter(|case| case.body.get("stream").is_some())
    {
        let is_counted = case.path.ends_with("_tokens") || case.path == "/api/pull";
        let mut body = case.body.clone();
        body["stream"] = json!(true);
        body["user"] = json!("u");
        let answer = ask(&server, case, &body).await;
        assert_eq!(answer.status, 200, "{}: {}", case.path, answer.text());
        if is_counted {
            continue;
        }
        let is_ollama = case.path.starts_with("/api/");
        let kind = if is_ollama {
            "application/x-ndjson"
        } else {
            "text/event-stream"
        };
        assert_eq!(answer.header("content-type"), Some(kind), "{}", case.path);
        assert_eq!(answer.header("content-length"), None, "{}", case.path);
        assert_eq!(
            answer.header("hearth-notice"),
            Some("ignored=user"),
            "{}",
            case.path
        );
        if is_ollama {
            continue;
        }
        assert_eq!(
            answer.header("cache-control"),
            Some("no-cache"),
            "{}",
            case.path
        );
        let text = answer.text();
        for event in text
            .split_terminator("\n\n")
            .filter(|event| !event.starts_with(':'))
        {
            let n_data = event
                .lines()
                .filter(|line| line.starts_with("data: "))
                .count();
            let n_names = event
                .lines()
                .filter(|line| line.starts_with("event: "))
                .count();
            assert_eq!(
                (n_data, n_data + n_names),
                (1, event.lines().count()),
                "{}: {event}",
                case.path
            );
        }
    }
}

#[tokio::test]
async fn messages_of_every_kind_are_read_without_tools_in_the_request() {
    let server = setup().serve().await;
    let body = json!({"model": "tiny", "messages": messages(), "max_tokens": 2});
    assert_eq!(server.post(CHAT, &body).await.status, 200);
}
