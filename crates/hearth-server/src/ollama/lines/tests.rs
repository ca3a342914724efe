use std::time::Duration;

use hearth_gguf::{Gguf, TensorType};
use hearth_testing::tiny_model::TinyModel;
use proptest::prelude::*;

use super::*;
use crate::strategies::replies;

const NOW: &str = "2026-01-01T00:00:00Z";

fn tokenizer() -> Arc<Tokenizer> {
    let bytes = TinyModel::new("llama", TensorType::F32).build();
    let gguf = Gguf::from_static(Vec::leak(bytes)).unwrap();
    Arc::new(Tokenizer::from_metadata(gguf.metadata()).unwrap())
}

fn lines(kind: Kind, is_streamed: bool) -> Lines {
    Lines::new(kind, "m".into(), is_streamed, tokenizer())
}

/// All lines of an answer.
fn run(kind: Kind, is_streamed: bool, replies: &[Reply]) -> Vec<Value> {
    let mut machine = lines(kind, is_streamed);
    let mut out = Vec::new();
    for reply in replies.iter().cloned() {
        let end = match &reply {
            Reply::End { usage } => Some(*usage),
            _ => None,
        };
        out.extend(machine.take(reply, NOW));
        out.extend(end.map(|usage| machine.last(&usage, NOW, &[5, 6], None)));
    }
    out
}

fn text(text: &str) -> Reply {
    Reply::Text {
        choice: 0,
        text: text.into(),
    }
}

fn end(finish: Finish) -> [Reply; 2] {
    let usage = Usage {
        n_prompt: 4,
        n_cached: 2,
        n_completion: 3,
        total: Duration::from_millis(5),
        prefill: Duration::from_nanos(7),
        ..Usage::default()
    };
    [
        Reply::Finished {
            choice: 0,
            finish,
            n_tokens: 3,
            n_reasoning: 0,
        },
        Reply::End { usage },
    ]
}

fn call(arguments: &[&str], is_whole: bool) -> Vec<Reply> {
    let mut replies = vec![Reply::CallBegin {
        choice: 0,
        index: 0,
        id: "call_1".into(),
        name: "f".into(),
    }];
    replies.extend(arguments.iter().map(|text| Reply::CallArguments {
        choice: 0,
        index: 0,
        text: (*text).into(),
    }));
    replies.extend(is_whole.then_some(Reply::CallEnd {
        choice: 0,
        index: 0,
    }));
    replies
}

#[test]
fn a_chat_in_lines() {
    let mut replies = vec![
        Reply::Reading {
            n_done: 0,
            n_prompt: 4,
            n_cached: 2,
        },
        Reply::Reasoning {
            choice: 0,
            text: "hm".into(),
        },
        text("a"),
        text("b"),
    ];
    replies.extend(end(Finish::Stop));
    let figures = json!({"total_duration": 5_000_000, "load_duration": 0, "prompt_eval_count": 4, "prompt_eval_duration": 7,
        "eval_count": 3, "eval_duration": 0});
    let mut last = json!({"model": "m", "created_at": NOW, "message": {"role": "assistant", "content": ""}, "done": true,
        "done_reason": "stop"});
    last.as_object_mut()
        .unwrap()
        .extend(figures.as_object().unwrap().clone());
    assert_eq!(
        run(Kind::Chat, true, &replies),
        [
            json!({"model": "m", "created_at": NOW, "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": false}),
            json!({"model": "m", "created_at": NOW, "message": {"role": "assistant", "content": "a"}, "done": false}),
            json!({"model": "m", "created_at": NOW, "message": {"role": "assistant", "content": "b"}, "done": false}),
            last.clone(),
        ]
    );
    last["message"] = json!({"role": "assistant", "content": "ab", "thinking": "hm"});
    assert_eq!(run(Kind::Chat, false, &replies), [last]);
}

#[test]
fn generate_has_its_own_names_and_a_context() {
    let replies = [&[text("the fire")][..], &end(Finish::Length)].concat();
    let lines = run(Kind::Generate, true, &replies);
    assert_eq!(
        lines[0],
        json!({"model": "m", "created_at": NOW, "response": "the fire", "done": false})
    );
    assert_eq!(lines[1]["response"], "");
    assert_eq!(lines[1]["done_reason"], "length");
    let context: Vec<u32> = serde_json::from_value(lines[1]["context"].clone()).unwrap();
    assert_eq!(context[..2], [5, 6]);
    assert_eq!(tokenizer().decode(&context[2..]), b"the fire");
}

#[test]
fn a_context_keeps_thinking_between_its_tags() {
    let tags = ThinkingTags {
        open: "<think>".into(),
        close: "</think>".into(),
    };
    let mut machine = lines(Kind::Generate, true);
    machine.take(
        Reply::Reasoning {
            choice: 0,
            text: "hm".into(),
        },
        NOW,
    );
    machine.take(text("yes"), NOW);
    let last = machine.last(&Usage::default(), NOW, &[], Some(&tags));
    let context: Vec<u32> = serde_json::from_value(last["context"].clone()).unwrap();
    assert_eq!(
        tokenizer().decode(&context),
        b"<think>\nhm\n</think>\n\nyes"
    );
}

#[test]
fn a_call_is_one_object() {
    let replies = [
        call(&["{\"a\": ", "\"é\"}"], true),
        end(Finish::ToolCalls).to_vec(),
    ]
    .concat();
    let lines = run(Kind::Chat, true, &replies);
    let calls =
        json!([{"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": "é"}}}]);
    assert_eq!(
        lines[0]["message"],
        json!({"role": "assistant", "content": "", "tool_calls": calls})
    );
    assert_eq!(lines[1]["done_reason"], "stop");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_call_that_broke_off_is_text() {
    let replies = [call(&["{\"a\": \"b"], false), end(Finish::Length).to_vec()].concat();
    let lines = run(Kind::Chat, true, &replies);
    assert_eq!(
        lines[0]["message"]["content"],
        "{\"name\": \"f\", \"arguments\": {\"a\": \"b"
    );
    assert_eq!(lines[1]["done_reason"], "length");
    let replies = [call(&["{a: 1}"], true), end(Finish::Stop).to_vec()].concat();
    let lines = run(Kind::Chat, true, &replies);
    assert_eq!(
        lines[0]["message"]["content"],
        "{\"name\": \"f\", \"arguments\": {a: 1}"
    );
}

#[test]
fn log_probabilities_come_with_the_text_they_belong_to() {
    let tokenizer = tokenizer();
    let id = tokenizer.encode(
        "t",
        Encode {
            add_special: false,
            parse_special: false,
        },
    )[0];
    let logprob = TokenLogprob {
        token: id,
        logprob: -0.5,
        top: vec![(id, -0.5)],
    };
    let token = |bytes: &[u8]| Reply::Token {
        choice: 0,
        bytes: bytes.to_vec(),
        logprob: logprob.clone(),
        is_reasoning: false,
    };
    let replies = [
        &[token(b"\xc3"), token(b"\xa9"), text("é"), token(b"")][..],
        &end(Finish::Stop),
    ]
    .concat();
    let lines = run(Kind::Chat, true, &replies);
    let entries = lines[0]["logprobs"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["bytes"], json!([0xc3]));
    assert_eq!(entries[1]["logprob"], json!(-0.5));
    assert_eq!(
        entries[0]["top_logprobs"][0]["bytes"],
        json!(tokenizer.piece(id).unwrap())
    );
    assert_eq!(
        lines[1]["logprobs"].as_array().unwrap().len(),
        1,
        "what gives no text is in the last line"
    );
}

#[test]
fn a_model_that_is_only_loaded() {
    let loaded = json!({"model": "m", "created_at": NOW, "message": {"role": "assistant", "content": ""}, "done": true,
        "done_reason": "load"});
    assert_eq!(only(Kind::Chat, "m", "load", NOW), loaded);
    let unloaded = json!({"model": "m", "created_at": NOW, "response": "", "done": true, "done_reason": "unload"});
    assert_eq!(only(Kind::Generate, "m", "unload", NOW), unloaded);
}

/// Text, thinking and calls of lines, put together.
fn joined(lines: &[Value]) -> (String, String, Vec<Value>) {
    let mut all = (String::new(), String::new(), Vec::new());
    for line in lines {
        let message = &line["message"];
        all.0.push_str(message["content"].as_str().unwrap());
        all.1
            .push_str(message["thinking"].as_str().unwrap_or_default());
        all.2.extend(
            message["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    all
}

proptest! {
    #[test]
    fn the_lines_together_are_the_answer_that_is_not_streamed(replies in replies()) {
        let streamed = run(Kind::Chat, true, &replies);
        let whole = run(Kind::Chat, false, &replies);
        prop_assert_eq!(whole.len(), 1);
        prop_assert_eq!(joined(&streamed), joined(&whole));
        let (last, whole) = (streamed.last().unwrap(), &whole[0]);
        for name in ["done", "done_reason", "eval_count", "prompt_eval_count"] {
            prop_assert_eq!(&last[name], &whole[name]);
        }
        prop_assert!(streamed[..streamed.len() - 1].iter().all(|line| line["done"] == false));
    }
}
