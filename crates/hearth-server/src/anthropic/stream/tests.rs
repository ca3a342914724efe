//! Whole streams as they should be, and what every stream keeps to.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::strategies::{call, reasoning, replies, text};

/// The events of an answer, and the message in the end.
fn run(replies: Vec<Reply>) -> (Vec<Value>, Value) {
    let mut message = Message::new("msg_1".into(), "m".into());
    let mut events = Vec::new();
    for reply in replies {
        message.take(reply, &mut events);
    }
    (events, message.object())
}

fn reading(n_prompt: usize, n_cached: usize) -> Reply {
    Reply::Reading {
        n_done: n_cached,
        n_prompt,
        n_cached,
    }
}

fn end(finish: Finish, n_prompt: usize, n_cached: usize, n_completion: usize) -> Vec<Reply> {
    let usage = Usage {
        n_prompt,
        n_cached,
        n_completion,
        ..Usage::default()
    };
    vec![
        Reply::Finished {
            choice: 0,
            finish,
            n_tokens: n_completion,
            n_reasoning: 0,
        },
        Reply::End { usage },
    ]
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

#[test]
fn a_stream_with_thinking_text_and_a_call() {
    let mut replies = vec![
        reading(10, 4),
        reading(10, 4),
        reasoning("Hm"),
        reasoning("."),
        text("I "),
        text("look."),
    ];
    replies.extend(call(0, "read", &["{\"path\":", "\"a\"}"]));
    replies.extend(end(Finish::ToolCalls, 10, 4, 12));
    let (events, message) = run(replies);
    let signature = signature("Hm.");
    let expected = format!(
        r#"{{"type":"message_start","message":{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":0}}}}}}
{{"type":"content_block_start","index":0,"content_block":{{"type":"thinking","thinking":"","signature":""}}}}
{{"type":"content_block_delta","index":0,"delta":{{"type":"thinking_delta","thinking":"Hm"}}}}
{{"type":"content_block_delta","index":0,"delta":{{"type":"thinking_delta","thinking":"."}}}}
{{"type":"content_block_delta","index":0,"delta":{{"type":"signature_delta","signature":"{signature}"}}}}
{{"type":"content_block_stop","index":0}}
{{"type":"content_block_start","index":1,"content_block":{{"type":"text","text":""}}}}
{{"type":"content_block_delta","index":1,"delta":{{"type":"text_delta","text":"I "}}}}
{{"type":"content_block_delta","index":1,"delta":{{"type":"text_delta","text":"look."}}}}
{{"type":"content_block_stop","index":1}}
{{"type":"content_block_start","index":2,"content_block":{{"type":"tool_use","id":"toolu_0","name":"read","input":{{}}}}}}
{{"type":"content_block_delta","index":2,"delta":{{"type":"input_json_delta","partial_json":"{{\"path\":"}}}}
{{"type":"content_block_delta","index":2,"delta":{{"type":"input_json_delta","partial_json":"\"a\"}}"}}}}
{{"type":"content_block_stop","index":2}}
{{"type":"message_delta","delta":{{"stop_reason":"tool_use","stop_sequence":null}},"usage":{{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":12}}}}
{{"type":"message_stop"}}
"#
    );
    assert_eq!(lines(&events), expected);
    let expected = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": signature},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_0", "name": "read", "input": {"path": "a"}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 12},
    });
    assert_eq!(message, expected);
}

#[test]
fn each_reason_to_stop_has_its_word() {
    let cases = [
        (Finish::Stop, "end_turn", Value::Null),
        (Finish::Length, "max_tokens", Value::Null),
        (
            Finish::StopString("END".into()),
            "stop_sequence",
            "END".into(),
        ),
        (Finish::ToolCalls, "tool_use", Value::Null),
    ];
    for (finish, reason, sequence) in cases {
        let mut replies = vec![reading(3, 0), text("x")];
        replies.extend(end(finish, 3, 0, 1));
        let (events, message) = run(replies);
        assert_eq!(
            (&message["stop_reason"], &message["stop_sequence"]),
            (&reason.into(), &sequence)
        );
        let delta = &events[events.len() - 2]["delta"];
        assert_eq!(
            *delta,
            json!({"stop_reason": reason, "stop_sequence": sequence})
        );
    }
}

#[test]
fn an_answer_of_nothing_has_one_empty_block() {
    let mut replies = vec![reading(3, 0)];
    replies.extend(end(Finish::Length, 3, 0, 1));
    let (events, message) = run(replies);
    assert_eq!(message["content"], json!([{"type": "text", "text": ""}]));
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "message_start",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
}

#[test]
fn a_call_cut_by_the_limit_keeps_what_was_complete() {
    let mut replies = vec![reading(3, 0)];
    replies.extend(call(0, "write", &["{\"path\": \"a\", \"text\": \"half"]));
    replies.pop();
    replies.extend(end(Finish::Length, 3, 0, 9));
    let (_, message) = run(replies);
    assert_eq!(message["content"][0]["input"], json!({"path": "a"}));
    assert_eq!(message["stop_reason"], "max_tokens");
}

/// Puts a message together from its events as a client does, checking their order on the way.
fn assemble(events: &[Value]) -> Result<Value, TestCaseError> {
    let mut message = Value::Null;
    let mut open: Option<Value> = None;
    let mut json_text = String::new();
    for (at, event) in events.iter().enumerate() {
        let kind = event["type"].as_str().unwrap();
        prop_assert_eq!(kind == "message_start", at == 0);
        prop_assert_eq!(kind == "message_stop", at + 1 == events.len());
        match kind {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                prop_assert!(open.is_none());
                prop_assert_eq!(
                    event["index"].as_u64(),
                    Some(message["content"].as_array().unwrap().len() as u64)
                );
                open = Some(event["content_block"].clone());
                json_text.clear();
            }
            "content_block_delta" => {
                prop_assert_eq!(
                    event["index"].as_u64(),
                    Some(message["content"].as_array().unwrap().len() as u64)
                );
                let block = open.as_mut().expect("a block is open");
                let delta = event["delta"].as_object().unwrap();
                let (name, piece) = delta.iter().nth(1).unwrap();
                let piece = piece.as_str().unwrap();
                prop_assert!(!piece.is_empty());
                if name == "partial_json" {
                    json_text.push_str(piece);
                } else {
                    prop_assert_eq!(&block["signature"].as_str().unwrap_or_default(), &"");
                    block[name] = (block[name].as_str().unwrap().to_owned() + piece).into();
                }
            }
            "content_block_stop" => {
                let mut block = open.take().expect("a block is open");
                if let Ok(input) = serde_json::from_str(&json_text) {
                    block["input"] = input;
                    json_text.clear();
                }
                message["content"].as_array_mut().unwrap().push(block);
            }
            "message_delta" => {
                for name in ["stop_reason", "stop_sequence"] {
                    message[name] = event["delta"][name].clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => prop_assert!(!message["stop_reason"].is_null()),
            other => prop_assert!(false, "{}", other),
        }
    }
    Ok(message)
}

proptest! {
    #[test]
    fn the_pieces_of_any_stream_are_its_message(replies in replies()) {
        let (events, message) = run(replies);
        prop_assert_eq!(assemble(&events)?, message);
    }

    #[test]
    fn the_parts_of_the_usage_sum_to_the_prompt(replies in replies()) {
        let Some(Reply::End { usage }) = replies.last().cloned() else { unreachable!() };
        let (_, message) = run(replies);
        let count = |name: &str| message["usage"][name].as_u64().unwrap() as usize;
        prop_assert_eq!(count("input_tokens") + count("cache_read_input_tokens") + count("cache_creation_input_tokens"), usage.n_prompt);
        prop_assert_eq!(count("output_tokens"), usage.n_completion);
    }
}
