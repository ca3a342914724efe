//! For tests: sequences of replies such as a model's answer can be, and values such as a client may send.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::exchange::{Finish, Reply, Usage};

/// One part of an answer, each in pieces as they are generated; a piece may be empty.
#[derive(Clone, Debug)]
enum Part {
    Reasoning(Vec<String>),
    Text(Vec<String>),
    Call(String, Vec<String>),
}

/// The replies to a request with one choice: any parts in any order, cut anywhere by the limit.
pub fn replies() -> impl Strategy<Value = Vec<Reply>> {
    let pieces = || prop::collection::vec("[a-z \n\"\\\\é💡]{0,3}", 0..4);
    let part = prop_oneof![
        pieces().prop_map(Part::Reasoning),
        pieces().prop_map(Part::Text),
        ("[a-z_]{1,6}", prop::collection::vec(0usize..20, 0..5))
            .prop_map(|(name, cuts)| Part::Call(name, arguments(&cuts))),
    ];
    let finish = prop_oneof![
        Just(Finish::Stop),
        Just(Finish::Length),
        Just(Finish::StopString("END".into())),
        Just(Finish::Cut("END".into()))
    ];
    (
        prop::collection::vec(part, 0..5),
        finish,
        any::<bool>(),
        0usize..50,
        0usize..50,
        1usize..3,
    )
        .prop_map(|(parts, finish, is_cut, n_new, n_cached, n_reading)| {
            let mut replies: Vec<Reply> = (0..n_reading)
                .map(|_| Reply::Reading {
                    n_done: n_cached,
                    n_prompt: n_cached + n_new,
                    n_cached,
                })
                .collect();
            let n_calls = parts
                .iter()
                .filter(|part| matches!(part, Part::Call(..)))
                .count();
            let ends_in_call = matches!(parts.last(), Some(Part::Call(..)));
            let mut index = 0;
            for part in parts {
                push(part, &mut index, &mut replies);
            }
            let finish = match finish {
                Finish::Stop if n_calls > 0 => Finish::ToolCalls,
                other => other,
            };
            if finish == Finish::Length && is_cut && ends_in_call {
                replies.pop();
            }
            replies.push(Reply::Finished {
                choice: 0,
                finish,
                n_tokens: 7,
                n_reasoning: 3,
            });
            let usage = Usage {
                n_prompt: n_cached + n_new,
                n_cached,
                n_completion: 7,
                n_reasoning: 3,
                ..Usage::default()
            };
            replies.push(Reply::End { usage });
            replies
        })
}

fn push(part: Part, index: &mut usize, replies: &mut Vec<Reply>) {
    match part {
        Part::Reasoning(pieces) => replies.extend(
            pieces
                .into_iter()
                .map(|text| Reply::Reasoning { choice: 0, text }),
        ),
        Part::Text(pieces) => replies.extend(
            pieces
                .into_iter()
                .map(|text| Reply::Text { choice: 0, text }),
        ),
        Part::Call(name, pieces) => {
            let (choice, call) = (0, *index);
            replies.push(Reply::CallBegin {
                choice,
                index: call,
                id: format!("call_{call}"),
                name,
            });
            replies.extend(pieces.into_iter().map(|text| Reply::CallArguments {
                choice,
                index: call,
                text,
            }));
            replies.push(Reply::CallEnd {
                choice,
                index: call,
            });
            *index += 1;
        }
    }
}

/// An object in pieces of these lengths.
fn arguments(cuts: &[usize]) -> Vec<String> {
    let mut rest = r#"{"path": "a \"b\"", "n": [1, 2.5, null]}"#;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, tail) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece.to_owned());
        rest = tail;
    }
    pieces.push(rest.to_owned());
    pieces
}

/// Any JSON, with the words and names that the dialects know likelier than others.
pub fn json(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let word = move || prop::sample::select(words).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let name = prop_oneof![word(), Just("type".to_owned()), ".{0,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|fields| Value::from(Map::from_iter(fields))),
        ]
    })
}

/// Text of the first choice.
pub(crate) fn text(text: &str) -> Reply {
    Reply::Text {
        choice: 0,
        text: text.into(),
    }
}

/// Thinking of the first choice.
pub(crate) fn reasoning(text: &str) -> Reply {
    Reply::Reasoning {
        choice: 0,
        text: text.into(),
    }
}

/// A whole call of the first choice, its arguments in pieces.
pub(crate) fn call(index: usize, name: &str, pieces: &[&str]) -> Vec<Reply> {
    let (id, name) = (format!("call_{index}"), name.into());
    let mut replies = vec![Reply::CallBegin {
        choice: 0,
        index,
        id,
        name,
    }];
    replies.extend(pieces.iter().map(|text| Reply::CallArguments {
        choice: 0,
        index,
        text: (*text).into(),
    }));
    replies.push(Reply::CallEnd { choice: 0, index });
    replies
}
