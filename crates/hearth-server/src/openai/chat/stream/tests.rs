//! Whatever the model does, the stream put together is the object.

use hearth_engine::TokenLogprob;

use super::*;
use crate::{answer::Collected, openai::chat::reply};

fn head() -> Head {
    Head {
        id: "chatcmpl-1".into(),
        created: 7,
        model: "m".into(),
    }
}

fn style(is_old_form: bool) -> Style {
    let gguf = hearth_gguf::Gguf::from_vec(hearth_testing::tiny_chat::tiny_chat().build()).unwrap();
    let tokenizer = hearth_text::Tokenizer::from_metadata(gguf.metadata()).unwrap();
    Style {
        names: Some(crate::openai::pieces::TokenNames(tokenizer.into())),
        is_old_form,
    }
}

fn token(choice: usize, byte: u8) -> Reply {
    Reply::Token {
        choice,
        bytes: vec![byte],
        logprob: TokenLogprob {
            token: u32::from(byte),
            logprob: -0.5,
            top: vec![(u32::from(byte), -0.5), (1, -2.0)],
        },
        is_reasoning: false,
    }
}

fn text(choice: usize, text: &str) -> Reply {
    Reply::Text {
        choice,
        text: text.into(),
    }
}

fn arguments(choice: usize, index: usize, text: &str) -> Reply {
    Reply::CallArguments {
        choice,
        index,
        text: text.into(),
    }
}

fn begin(choice: usize, index: usize) -> Reply {
    Reply::CallBegin {
        choice,
        index,
        id: format!("call_{choice}{index}"),
        name: "look".into(),
    }
}

/// Two choices, mixed: one thinks, talks and calls twice, one stops at once.
fn replies() -> Vec<Reply> {
    let usage = Usage {
        n_prompt: 9,
        n_cached: 4,
        n_completion: 12,
        n_reasoning: 3,
        ..Usage::default()
    };
    let finished = |choice, finish| Reply::Finished {
        choice,
        finish,
        n_tokens: 6,
        n_reasoning: 3,
    };
    vec![
        Reply::Reading {
            n_done: 4,
            n_prompt: 9,
            n_cached: 4,
        },
        Reply::Reading {
            n_done: 9,
            n_prompt: 9,
            n_cached: 4,
        },
        Reply::Reasoning {
            choice: 1,
            text: "h".into(),
        },
        Reply::Reasoning {
            choice: 1,
            text: "m".into(),
        },
        token(1, 0xc3),
        token(1, 0xa9),
        text(1, "é"),
        finished(0, Finish::Stop),
        token(1, b'!'),
        text(1, "!"),
        begin(1, 0),
        arguments(1, 0, "{\"a\":"),
        arguments(1, 0, " 1}"),
        Reply::CallEnd {
            choice: 1,
            index: 0,
        },
        begin(1, 1),
        arguments(1, 1, "{}"),
        Reply::CallEnd {
            choice: 1,
            index: 1,
        },
        token(1, b'x'),
        finished(1, Finish::ToolCalls),
        Reply::End { usage },
    ]
}

/// What a client makes of the chunks.
fn join(chunks: &[Value]) -> Vec<Value> {
    let mut choices: BTreeMap<u64, Value> = BTreeMap::new();
    for choice in chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap())
    {
        let index = choice["index"].as_u64().unwrap();
        let whole = choices.entry(index).or_insert_with(
            || json!({"index": index, "message": {}, "logprobs": [], "finish_reason": null}),
        );
        for (key, value) in choice["delta"].as_object().unwrap() {
            join_field(&mut whole["message"][key], value);
        }
        let entries = choice["logprobs"]["content"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        whole["logprobs"].as_array_mut().unwrap().extend(entries);
        if !choice["finish_reason"].is_null() {
            assert!(whole["finish_reason"].is_null(), "only one reason");
            whole["finish_reason"] = choice["finish_reason"].clone();
        }
    }
    choices.into_values().collect()
}

fn join_field(whole: &mut Value, value: &Value) {
    match value {
        Value::String(text) => {
            let known = whole.as_str().unwrap_or_default().to_owned();
            *whole = json!(known + text);
        }
        Value::Array(calls) => {
            for call in calls {
                let index = call["index"].as_u64().unwrap() as usize;
                for (key, value) in call
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(key, _)| *key != "index")
                {
                    join_field(&mut list_entry(whole, index)[key], value);
                }
            }
        }
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| join_field(&mut whole[key], value)),
        other => panic!("a delta of {other}"),
    }
}

fn list_entry(list: &mut Value, index: usize) -> &mut Value {
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().unwrap();
    assert!(index <= list.len(), "no gaps");
    if index == list.len() {
        list.push(json!({}));
    }
    &mut list[index]
}

fn run(style: &Style, includes_usage: bool) -> Vec<Value> {
    let mut stream = ChatStream::new(head(), style.clone(), includes_usage);
    replies()
        .into_iter()
        .flat_map(|reply| stream.take(reply))
        .collect()
}

fn whole(style: &Style) -> Value {
    let mut collected = Collected::default();
    replies()
        .into_iter()
        .for_each(|reply| collected.take(reply));
    reply::completion(&head(), &collected, style)
}

#[test]
fn the_pieces_put_together_are_the_object() {
    let style = style(false);
    let (joined, whole) = (join(&run(&style, true)), whole(&style));
    for (joined, whole) in joined.iter().zip(whole["choices"].as_array().unwrap()) {
        let (piece, message) = (&joined["message"], &whole["message"]);
        assert_eq!(
            piece["content"].as_str(),
            message["content"].as_str(),
            "{whole}"
        );
        assert_eq!(piece["reasoning_content"], message["reasoning_content"]);
        assert_eq!(piece["tool_calls"], message["tool_calls"]);
        assert_eq!(piece["role"], "assistant");
        assert_eq!(joined["logprobs"], whole["logprobs"]["content"]);
        assert_eq!(joined["finish_reason"], whole["finish_reason"]);
    }
    assert_eq!(whole["choices"][1]["finish_reason"], "tool_calls");
    assert_eq!(whole["choices"][1]["message"]["content"], "é!");
    assert_eq!(
        whole["choices"][0]["message"],
        json!({"role": "assistant", "content": "", "refusal": null})
    );
}

#[test]
fn the_first_delta_has_the_role_and_the_last_is_empty() {
    let chunks = run(&style(false), false);
    for index in 0..2 {
        let of = |chunk: &&Value| chunk["choices"][0]["index"] == index;
        let mine: Vec<&Value> = chunks.iter().filter(of).collect();
        let delta = |chunk: &Value| chunk["choices"][0]["delta"].clone();
        assert_eq!(delta(mine[0]), json!({"role": "assistant", "content": ""}));
        assert_eq!(delta(mine[mine.len() - 1]), json!({}));
        assert!(
            mine[1..]
                .iter()
                .all(|chunk| delta(chunk).get("role").is_none())
        );
        assert!(
            mine[..mine.len() - 1]
                .iter()
                .all(|chunk| chunk["choices"][0]["finish_reason"].is_null())
        );
    }
    for chunk in &chunks {
        assert_eq!(
            (&chunk["id"], &chunk["created"], &chunk["model"]),
            (&json!("chatcmpl-1"), &json!(7), &json!("m"))
        );
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert!(chunk.get("usage").is_none(), "usage was not asked for");
    }
}

#[test]
fn usage_comes_in_a_last_chunk_of_its_own() {
    let chunks = run(&style(false), true);
    let (last, others) = chunks.split_last().unwrap();
    assert!(
        others
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some())
    );
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], whole(&style(false))["usage"]);
    assert_eq!(last["usage"]["total_tokens"], 21);
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    assert_eq!(
        last["usage"]["completion_tokens_details"]["reasoning_tokens"],
        3
    );
}

#[test]
fn name_id_and_type_of_a_call_are_sent_once() {
    let chunks = run(&style(false), false);
    let calls: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"].get("tool_calls").cloned())
        .collect();
    assert_eq!(
        calls[0],
        json!([{"index": 0, "id": "call_10", "type": "function", "function": {"name": "look", "arguments": ""}}])
    );
    assert_eq!(
        calls[1],
        json!([{"index": 0, "function": {"arguments": "{\"a\":"}}])
    );
    assert_eq!(
        calls
            .iter()
            .filter(|call| call[0].get("id").is_some())
            .count(),
        2
    );
}

#[test]
fn the_old_form_is_answered_in_the_old_form() {
    let style = style(true);
    let whole = whole(&style);
    let message = &whole["choices"][1]["message"];
    assert_eq!(
        message["function_call"],
        json!({"name": "look", "arguments": "{\"a\": 1}"})
    );
    assert!(message.get("tool_calls").is_none());
    assert_eq!(whole["choices"][1]["finish_reason"], "function_call");
    let chunks = run(&style, false);
    let first = chunks
        .iter()
        .find_map(|chunk| chunk["choices"][0]["delta"].get("function_call").cloned());
    assert_eq!(first.unwrap(), json!({"name": "look", "arguments": ""}));
}

#[test]
fn a_token_has_its_own_bytes_and_as_many_alternatives_as_asked() {
    let whole = whole(&style(false));
    let entries = whole["choices"][1]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0]["bytes"], json!([0xc3]));
    assert_eq!(entries[0]["top_logprobs"][0]["bytes"], entries[0]["bytes"]);
    assert_eq!(entries[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(entries[2]["token"], "!");
    assert_eq!(whole["choices"][1]["logprobs"]["refusal"], Value::Null);
}
