//! An answer of `/v1/chat/completions` in pieces: a state machine from replies to chunks.
//!
//! Per choice: the role once, then deltas, then one empty delta with the reason. Put together they are the object of `reply.rs`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::reply::Style;
use crate::{
    answer::TokenOf,
    exchange::{Finish, Reply, Usage},
    openai::pieces::{self, Head},
};

/// The state of one stream.
pub(super) struct ChatStream {
    head: Head,
    style: Style,
    includes_usage: bool,
    choices: BTreeMap<usize, ChoiceState>,
}

/// What is known of one choice.
#[derive(Default)]
struct ChoiceState {
    /// Whether the role was sent.
    has_role: bool,
    /// Tokens whose log-probabilities go out with the next delta.
    tokens: Vec<TokenOf>,
    /// What turned out on the way, told with the reason.
    notices: Vec<String>,
}

impl ChatStream {
    pub(super) fn new(head: Head, style: Style, includes_usage: bool) -> Self {
        ChatStream {
            head,
            style,
            includes_usage,
            choices: BTreeMap::new(),
        }
    }

    /// The chunks that a reply gives.
    pub(super) fn take(&mut self, reply: Reply) -> Vec<Value> {
        match reply {
            Reply::Reading { .. } | Reply::PromptLogprobs(_) | Reply::CallEnd { .. } => Vec::new(),
            Reply::Notice { choice, text } => {
                self.choices.entry(choice).or_default().notices.push(text);
                Vec::new()
            }
            Reply::Token {
                choice,
                bytes,
                logprob,
                is_reasoning,
            } => {
                let token = TokenOf {
                    bytes,
                    logprob,
                    is_reasoning,
                };
                self.choices.entry(choice).or_default().tokens.push(token);
                Vec::new()
            }
            Reply::Reasoning { choice, text } => {
                self.delta(choice, json!({"reasoning_content": text}))
            }
            Reply::Text { choice, text } => self.delta(choice, json!({"content": text})),
            Reply::CallBegin {
                choice,
                index,
                id,
                name,
            } => {
                let delta = self.call_begin(index, &id, &name);
                self.delta(choice, delta)
            }
            Reply::CallArguments {
                choice,
                index,
                text,
            } => {
                let delta = self.call_arguments(index, &text);
                self.delta(choice, delta)
            }
            Reply::Finished { choice, finish, .. } => self.finished(choice, &finish),
            Reply::End { usage } => self.end(&usage),
        }
    }

    fn call_begin(&self, index: usize, id: &str, name: &str) -> Value {
        let function = json!({"name": name, "arguments": ""});
        if self.style.is_old_form {
            return json!({"function_call": function});
        }
        json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
    }

    fn call_arguments(&self, index: usize, text: &str) -> Value {
        let function = json!({"arguments": text});
        if self.style.is_old_form {
            return json!({"function_call": function});
        }
        json!({"tool_calls": [{"index": index, "function": function}]})
    }

    fn delta(&mut self, choice: usize, delta: Value) -> Vec<Value> {
        let mut chunks = self.role(choice);
        chunks.push(self.chunk(choice, delta, None));
        chunks
    }

    /// The role, before anything else of a choice.
    fn role(&mut self, choice: usize) -> Vec<Value> {
        let state = self.choices.entry(choice).or_default();
        if std::mem::replace(&mut state.has_role, true) {
            return Vec::new();
        }
        let delta = json!({"role": "assistant", "content": ""});
        vec![self.object(
            vec![choice_object(choice, delta, Value::Null, None)],
            Value::Null,
        )]
    }

    fn finished(&mut self, choice: usize, finish: &Finish) -> Vec<Value> {
        let mut chunks = self.role(choice);
        let reason = self.style.finish(finish);
        let mut last = self.chunk(choice, json!({}), Some(reason));
        pieces::tell(&mut last, &self.choices[&choice].notices);
        chunks.push(last);
        chunks
    }

    /// One chunk of one choice, with the log-probabilities that wait.
    fn chunk(&mut self, choice: usize, delta: Value, finish: Option<&str>) -> Value {
        let tokens = std::mem::take(&mut self.choices.entry(choice).or_default().tokens);
        let logprobs = if tokens.is_empty() {
            Value::Null
        } else {
            self.style.logprobs(&tokens)
        };
        self.object(
            vec![choice_object(choice, delta, logprobs, finish)],
            Value::Null,
        )
    }

    fn object(&self, choices: Vec<Value>, usage: Value) -> Value {
        let mut object = self.head.object("chat.completion.chunk", choices);
        if self.includes_usage {
            object["usage"] = usage;
        }
        object
    }

    fn end(&self, usage: &Usage) -> Vec<Value> {
        let wanted = self.includes_usage.then(|| pieces::usage(usage));
        wanted
            .into_iter()
            .map(|usage| self.object(Vec::new(), usage))
            .collect()
    }
}

fn choice_object(index: usize, delta: Value, logprobs: Value, finish: Option<&str>) -> Value {
    json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})
}

#[cfg(test)]
mod tests;
