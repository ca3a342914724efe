//! How bodies are read: whatever carries them, whatever numbers look like, and nothing in silence.

use serde_json::{Value, json};

use crate::{
    support::{Answer, CHAT, Server, chat, dialect_of, expected_dialect, merge},
    table::{Case, cases, messages, setup},
};

async fn ask(server: &Server, case: &Case, body: &Value) -> Answer {
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
fn message(answer: &Answer) -> String {
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

/// One conversation in four dialects: chat, responses, Anthropic, Ollama.
fn plain_talk() -> [Value; 4] {
    let turns = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look at the fire."},
        {"role": "assistant", "content": "It is warm."}, {"role": "user", "content": "And the snow?"}]);
    let rest = &turns.as_array().expect("a list")[1..];
    [
        json!({"messages": turns}),
        json!({"input": turns}),
        json!({"system": "Be brief.", "messages": rest}),
        json!({"messages": turns}),
    ]
}

/// The same with a tool, a call of it, and its result.
fn talk_with_tools() -> [Value; 4] {
    let schema = json!({"type": "object", "properties": {"place": {"type": "string"}, "n": {"type": "integer"}}, "required": ["place"]});
    let tool = json!({"name": "look", "description": "Looks.", "parameters": schema});
    let arguments = json!({"place": "outside", "n": 2});
    let text = arguments.to_string();
    let chat_tool = json!({"type": "function", "function": tool});
    let mut flat_tool = tool;
    merge(&mut flat_tool, json!({"type": "function"}));
    let ask = json!({"role": "user", "content": "What falls?"});
    [
        json!({"tools": [chat_tool], "messages": [
            ask, {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": text}}]},
            {"role": "tool", "tool_call_id": "c", "content": "snow"}]}),
        json!({"tools": [flat_tool], "input": [
            ask, {"role": "assistant", "content": "I look."}, {"type": "function_call", "call_id": "c", "name": "look", "arguments": text},
            {"type": "function_call_output", "call_id": "c", "output": "snow"}]}),
        json!({"tools": [{"name": "look", "description": "Looks.", "input_schema": schema}], "messages": [
            ask, {"role": "assistant", "content": [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "c", "name": "look", "input": arguments}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "snow"}]}]}),
        json!({"tools": [chat_tool], "messages": [
            ask, {"role": "assistant", "content": "I look.", "tool_calls": [{"function": {"name": "look", "arguments": arguments}}]},
            {"role": "tool", "tool_name": "look", "content": "snow"}]}),
    ]
}

#[tokio::test]
async fn a_prompt_has_one_number_of_tokens_in_every_dialect_and_every_count() {
    let server = setup().serve().await;
    for [mut chat, mut responses, mut anthropic, mut ollama] in [plain_talk(), talk_with_tools()] {
        merge(&mut chat, json!({"model": "tiny", "max_tokens": 2}));
        merge(
            &mut responses,
            json!({"model": "tiny", "max_output_tokens": 2}),
        );
        merge(&mut anthropic, json!({"model": "tiny", "max_tokens": 2}));
        merge(
            &mut ollama,
            json!({"model": "tiny", "stream": false, "options": {"num_predict": 2}}),
        );
        let rendered = server.post("/apply-template", &chat).await.json();
        let cut = json!({"content": rendered["prompt"]});
        let cut = server.post("/tokenize", &cut).await.json();
        let three = [
            "/usage/input_tokens",
            "/usage/cache_read_input_tokens",
            "/usage/cache_creation_input_tokens",
        ];
        // What each route says of the prompt; the second time it is in the cache.
        let counts: [(&str, &Value, &[&str]); 9] = [
            (CHAT, &chat, &["/usage/prompt_tokens"]),
            (CHAT, &chat, &["/usage/prompt_tokens"]),
            (
                "/v1/chat/completions/input_tokens",
                &chat,
                &["/input_tokens"],
            ),
            ("/v1/responses", &responses, &["/usage/input_tokens"]),
            ("/v1/responses/input_tokens", &responses, &["/input_tokens"]),
            ("/v1/messages", &anthropic, &three),
            ("/v1/messages/count_tokens", &anthropic, &["/input_tokens"]),
            ("/api/chat", &ollama, &["/prompt_eval_count"]),
            ("/tokenize", &chat, &["/count"]),
        ];
        for (path, body, fields) in counts {
            let answer = server.post(path, body).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let json = answer.json();
            let counts = fields
                .iter()
                .map(|field| json.pointer(field).and_then(Value::as_u64));
            let n: Option<u64> = counts.sum();
            assert_eq!(n, cut["count"].as_u64(), "{path}: {json}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_by_itself_has_one_number_of_tokens_in_every_dialect() {
    let server = setup().serve().await;
    let schema = json!({"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "x", "schema": schema});
    let turns = json!([{"role": "user", "content": "Which?"}]);
    let mut found = Vec::new();
    for (path, body, text, count) in [
        (
            CHAT,
            json!({"messages": turns, "response_format": {"type": "json_schema", "json_schema": format}, "temperature": 0}),
            "/choices/0/message/content",
            "/usage/completion_tokens",
        ),
        (
            "/v1/responses",
            json!({"input": turns, "text": {"format": format}, "temperature": 0}),
            "/output/0/content/0/text",
            "/usage/output_tokens",
        ),
        (
            "/v1/messages",
            json!({"messages": turns, "output_config": {"format": {"type": "json_schema", "schema": schema}}, "temperature": 0, "max_tokens": 200}),
            "/content/0/text",
            "/usage/output_tokens",
        ),
        (
            "/api/chat",
            json!({"messages": turns, "format": schema, "stream": false, "options": {"temperature": 0}}),
            "/message/content",
            "/eval_count",
        ),
    ] {
        let mut body = body;
        merge(&mut body, json!({"model": "tiny"}));
        let answer = server.post(path, &body).await.json();
        let text = answer.pointer(text).and_then(Value::as_str);
        let count = answer.pointer(count).and_then(Value::as_u64);
        found.push((text.expect("a text").to_owned(), count.expect("a count")));
    }
    assert!(found[0].0.contains("colour"), "{found:?}");
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn counts_of_an_answer_hold_every_token_of_it() {
    let server = setup().serve().await;
    let whole = chat(json!({"temperature": 0, "max_tokens": 20, "logprobs": true}));
    let answer = server.post(CHAT, &whole).await.json();
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text")
        .to_owned();
    let entries = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("a list");
    // A string of three tokens, all of which are drawn before it is whole.
    let mut at = vec![0];
    for entry in entries {
        at.push(at[at.len() - 1] + entry["bytes"].as_array().expect("bytes").len());
    }
    let stop = (4..at.len() - 3).find_map(|n| text.get(at[n]..at[n + 3]));
    let stop = stop.expect("a place between characters");
    let mut stopped = whole.clone();
    merge(&mut stopped, json!({"stop": stop}));
    let stopped = server.post(CHAT, &stopped).await.json();
    let n_drawn = stopped["choices"][0]["logprobs"]["content"]
        .as_array()
        .map(Vec::len);
    let n_told = stopped["usage"]["completion_tokens"]
        .as_u64()
        .map(|n| n as usize);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop", "{stopped}");
    assert_eq!(n_told, n_drawn, "{stopped}");
    let before = text.find(stop).expect("it is part of the text");
    let n_before = at.iter().take_while(|at| **at <= before).count() - 1;
    assert!(
        n_told > Some(n_before + 1),
        "those of the stop string are counted: {stopped}"
    );
}

#[tokio::test]
async fn messages_of_every_kind_are_read_without_tools_in_the_request() {
    let server = setup().serve().await;
    let body = json!({"model": "tiny", "messages": messages(), "max_tokens": 2});
    assert_eq!(server.post(CHAT, &body).await.status, 200);
}
