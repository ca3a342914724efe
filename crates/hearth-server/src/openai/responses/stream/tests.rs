//! Whole streams as they should be, and what every stream keeps to.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::object::{Echo, in_progress},
    *,
};
use crate::{
    exchange::Usage,
    strategies::{call, reasoning, replies, text},
};
use hearth_engine::TokenLogprob;

fn response() -> Response {
    let echo = Echo {
        model: "m".into(),
        temperature: 1.0,
        top_p: 1.0,
        format: json!({"type": "text"}),
        tool_choice: "auto".into(),
        is_parallel: true,
        is_stored: true,
        ..Echo::default()
    };
    let namespaces = HashMap::from([("find".to_owned(), "docs".to_owned())]);
    Response::new(
        "1f".into(),
        in_progress("resp_1f", 5, &echo),
        namespaces,
        || 9,
    )
}

fn describe(reply: &Reply) -> Value {
    match reply {
        Reply::Token { bytes, logprob, .. } => {
            json!({"token": String::from_utf8_lossy(bytes), "logprob": logprob.logprob})
        }
        _ => Value::Null,
    }
}

/// The events of an answer, and the response in the end.
fn run(replies: Vec<Reply>) -> (Vec<Value>, Value) {
    let mut response = response();
    let mut events = Vec::new();
    response.start(&mut events);
    for reply in replies {
        response.take(reply, &describe, &mut events);
    }
    (events, response.object().clone().into())
}

fn end(finish: Finish) -> Vec<Reply> {
    let usage = Usage {
        n_prompt: 10,
        n_cached: 4,
        n_completion: 7,
        n_reasoning: 2,
        ..Usage::default()
    };
    vec![
        Reply::Finished {
            choice: 0,
            finish,
            n_tokens: 7,
            n_reasoning: 2,
        },
        Reply::End { usage },
    ]
}

/// One event a line; the response in them is shortened to what changes.
fn lines(events: &[Value]) -> String {
    let mut lines = String::new();
    for event in events {
        let mut event = event.clone();
        if let Some(response) = event.get_mut("response") {
            let keep = [
                "id",
                "status",
                "completed_at",
                "incomplete_details",
                "error",
                "output",
                "usage",
            ];
            response
                .as_object_mut()
                .unwrap()
                .retain(|name, _| keep.contains(&name.as_str()));
        }
        lines += &format!("{event}\n");
    }
    lines
}

#[test]
fn the_object_has_every_field_that_clients_read() {
    let (events, _) = run(Vec::new());
    let expected = json!({
        "type": "response.created", "sequence_number": 0, "response": {
            "id": "resp_1f", "object": "response", "created_at": 5, "completed_at": null, "status": "in_progress", "error": null,
            "incomplete_details": null, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "m",
            "output": [], "parallel_tool_calls": true, "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null}, "store": true, "temperature": 1.0, "top_p": 1.0,
            "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
            "truncation": "disabled", "usage": null, "user": null, "metadata": {}, "background": false, "service_tier": "default",
        },
    });
    assert_eq!(events[0], expected);
    assert_eq!(events[1]["type"], "response.in_progress");
    assert_eq!(events[1]["response"], expected["response"]);
}

#[test]
fn a_stream_with_thinking_and_text() {
    let mut replies = vec![reasoning("Hm."), text("Hel"), text("lo")];
    replies.extend(end(Finish::Stop));
    let (events, _) = run(replies);
    let expected = r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1f","completed_at":null,"status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}
{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1f","completed_at":null,"status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}
{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"type":"reasoning","id":"rs_1f00","summary":[],"content":[],"encrypted_content":null,"status":"in_progress"}}
{"type":"response.content_part.added","sequence_number":3,"item_id":"rs_1f00","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}
{"type":"response.reasoning_text.delta","sequence_number":4,"item_id":"rs_1f00","output_index":0,"content_index":0,"delta":"Hm."}
{"type":"response.reasoning_text.done","sequence_number":5,"item_id":"rs_1f00","output_index":0,"content_index":0,"text":"Hm."}
{"type":"response.content_part.done","sequence_number":6,"item_id":"rs_1f00","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"Hm."}}
{"type":"response.output_item.done","sequence_number":7,"output_index":0,"item":{"type":"reasoning","id":"rs_1f00","summary":[],"content":[{"type":"reasoning_text","text":"Hm."}],"encrypted_content":null,"status":"completed"}}
{"type":"response.output_item.added","sequence_number":8,"output_index":1,"item":{"type":"message","id":"msg_1f01","role":"assistant","status":"in_progress","content":[]}}
{"type":"response.content_part.added","sequence_number":9,"item_id":"msg_1f01","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
{"type":"response.output_text.delta","sequence_number":10,"item_id":"msg_1f01","output_index":1,"content_index":0,"delta":"Hel","logprobs":[]}
{"type":"response.output_text.delta","sequence_number":11,"item_id":"msg_1f01","output_index":1,"content_index":0,"delta":"lo","logprobs":[]}
{"type":"response.output_text.done","sequence_number":12,"item_id":"msg_1f01","output_index":1,"content_index":0,"text":"Hello","logprobs":[]}
{"type":"response.content_part.done","sequence_number":13,"item_id":"msg_1f01","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}}
{"type":"response.output_item.done","sequence_number":14,"output_index":1,"item":{"type":"message","id":"msg_1f01","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}}
{"type":"response.completed","sequence_number":15,"response":{"id":"resp_1f","completed_at":9,"status":"completed","error":null,"incomplete_details":null,"output":[{"type":"reasoning","id":"rs_1f00","summary":[],"content":[{"type":"reasoning_text","text":"Hm."}],"encrypted_content":null,"status":"completed"},{"type":"message","id":"msg_1f01","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}],"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":0},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":17}}}
"#;
    assert_eq!(lines(&events), expected);
}

#[test]
fn a_stream_with_a_call_of_a_namespace() {
    let mut replies = call(0, "find", &["{\"q\":", "1}"]);
    replies.extend(end(Finish::ToolCalls));
    let (events, response) = run(replies);
    let expected = r#"{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"type":"function_call","id":"fc_1f00","call_id":"call_0","name":"find","arguments":"","status":"in_progress","namespace":"docs"}}
{"type":"response.function_call_arguments.delta","sequence_number":3,"item_id":"fc_1f00","output_index":0,"delta":"{\"q\":"}
{"type":"response.function_call_arguments.delta","sequence_number":4,"item_id":"fc_1f00","output_index":0,"delta":"1}"}
{"type":"response.function_call_arguments.done","sequence_number":5,"item_id":"fc_1f00","output_index":0,"arguments":"{\"q\":1}","name":"find"}
{"type":"response.output_item.done","sequence_number":6,"output_index":0,"item":{"type":"function_call","id":"fc_1f00","call_id":"call_0","name":"find","arguments":"{\"q\":1}","status":"completed","namespace":"docs"}}
"#;
    assert_eq!(lines(&events[2..7]), expected);
    // No empty message beside a call.
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
}

#[test]
fn the_limit_makes_response_and_last_item_incomplete() {
    let mut replies = vec![reasoning("Hm."), text("Hel")];
    replies.extend(end(Finish::Length));
    let (events, response) = run(replies);
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    assert_eq!(response["output"][0]["status"], "completed");
    assert_eq!(response["output"][1]["status"], "incomplete");
}

#[test]
fn an_answer_of_nothing_is_an_empty_message() {
    let (_, response) = run(end(Finish::Stop));
    assert_eq!(response["output"][0]["content"][0]["text"], "");
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
}

#[test]
fn a_failure_closes_what_is_open() {
    let mut response = response();
    let mut events = Vec::new();
    response.start(&mut events);
    response.take(text("Hel"), &describe, &mut events);
    response.fail("server_error", "the engine is shutting down", &mut events);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(
        last["response"]["error"],
        json!({"code": "server_error", "message": "the engine is shutting down"})
    );
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    let numbers: Vec<_> = events
        .iter()
        .map(|event| event["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
}

#[test]
fn log_probabilities_go_with_the_text_they_made_certain() {
    let token = |bytes: &[u8], is_reasoning| Reply::Token {
        choice: 0,
        bytes: bytes.into(),
        logprob: TokenLogprob {
            token: 1,
            logprob: -0.5,
            top: Vec::new(),
        },
        is_reasoning,
    };
    let mut replies = vec![
        token(b"Hm", true),
        reasoning("Hm"),
        token(b"H", false),
        token(b"e", false),
        text("He"),
        token(b"l", false),
        text("l"),
    ];
    replies.extend(call(0, "find", &["{}"]));
    replies.insert(8, token(b"{}", false));
    replies.extend([token(b"!", false), text("!"), token(b"", false)]);
    replies.extend(end(Finish::ToolCalls));
    let (events, response) = run(replies);
    let tokens = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["token"].as_str().unwrap().to_owned())
            .collect()
    };
    let deltas: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| tokens(&event["logprobs"]))
        .collect();
    assert_eq!(deltas, [vec!["H", "e"], vec!["l"], vec!["!"]]);
    assert_eq!(
        tokens(&response["output"][1]["content"][0]["logprobs"]),
        ["H", "e", "l"]
    );
    assert_eq!(
        tokens(&response["output"][3]["content"][0]["logprobs"]),
        ["!"]
    );
}

/// Puts a response together from its events as a client does, checking their order on the way.
fn assemble(events: &[Value]) -> Result<Value, TestCaseError> {
    let mut output: Vec<Value> = Vec::new();
    let mut open: Option<Value> = None;
    for (at, event) in events.iter().enumerate() {
        let kind = event["type"].as_str().unwrap();
        prop_assert_eq!(event["sequence_number"].as_u64(), Some(at as u64));
        if let Some(response) = event.get("response") {
            prop_assert_eq!(&response["id"], "resp_1f");
            prop_assert_eq!(
                kind,
                match at {
                    0 => "response.created",
                    1 => "response.in_progress",
                    _ => kind,
                }
            );
            prop_assert_eq!(at < 2, response["status"] == "in_progress");
            prop_assert_eq!(at > 1, at + 1 == events.len());
            prop_assert!(open.is_none());
            continue;
        }
        prop_assert_eq!(event["output_index"].as_u64(), Some(output.len() as u64));
        if kind == "response.output_item.added" {
            prop_assert!(open.is_none());
            open = Some(event["item"].clone());
            continue;
        }
        let item = open.as_mut().expect("an item is open");
        if kind == "response.output_item.done" {
            prop_assert_eq!(&item["id"], &event["item"]["id"]);
            item["status"] = event["item"]["status"].clone();
            prop_assert_eq!(&*item, &event["item"]);
            output.push(open.take().unwrap());
            continue;
        }
        prop_assert_eq!(&event["item_id"], &item["id"]);
        let text = if item["type"] == "function_call" {
            &mut item["arguments"]
        } else if kind == "response.content_part.added" {
            item["content"]
                .as_array_mut()
                .unwrap()
                .push(event["part"].clone());
            continue;
        } else {
            &mut item["content"][0]["text"]
        };
        if let Some(delta) = event.get("delta") {
            prop_assert!(delta != "");
            *text = (text.as_str().unwrap().to_owned() + delta.as_str().unwrap()).into();
        }
        for name in ["text", "arguments"] {
            if let Some(done) = event.get(name) {
                prop_assert_eq!(&*text, done);
            }
        }
        if let Some(part) = event.get("part") {
            prop_assert_eq!(&item["content"][0], part);
        }
    }
    Ok(output.into())
}

proptest! {
    #[test]
    fn the_pieces_of_any_stream_are_its_response(replies in replies()) {
        let (events, response) = run(replies);
        prop_assert_eq!(&assemble(&events)?, &response["output"]);
        prop_assert_eq!(&events.last().unwrap()["response"], &response);
    }
}
