//! Replies to lines: a plain state machine.
//!
//! A call is one object here, so its pieces wait for its end. One that never ends, because the limit came first, or
//! whose arguments are no object, is handed out as text: nothing is lost.

use std::sync::Arc;

use hearth_engine::TokenLogprob;
use hearth_text::{Encode, Tokenizer, parse::ThinkingTags};
use serde_json::{Map, Value, json};

use super::request::Kind;
use crate::exchange::{Finish, Reply, Usage};

/// A call whose arguments are still coming.
#[derive(Debug)]
struct OpenCall {
    id: String,
    name: String,
    arguments: String,
}

/// What one line adds to the answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    text: String,
    thinking: String,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Delta {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thinking.is_empty() && self.calls.is_empty()
    }

    fn append(&mut self, other: Delta) {
        self.text.push_str(&other.text);
        self.thinking.push_str(&other.thinking);
        self.calls.extend(other.calls);
        self.logprobs.extend(other.logprobs);
    }
}

/// What makes lines of one answer.
#[derive(Debug)]
pub(super) struct Lines {
    kind: Kind,
    model: String,
    is_streamed: bool,
    tokenizer: Arc<Tokenizer>,
    open: Option<OpenCall>,
    n_calls: usize,
    /// Not yet in a line: everything, when nothing is streamed.
    waiting: Delta,
    /// The whole answer, for `context`.
    said: Delta,
    finish: Finish,
}

impl Lines {
    pub(super) fn new(
        kind: Kind,
        model: String,
        is_streamed: bool,
        tokenizer: Arc<Tokenizer>,
    ) -> Self {
        Lines {
            kind,
            model,
            is_streamed,
            tokenizer,
            open: None,
            n_calls: 0,
            waiting: Delta::default(),
            said: Delta::default(),
            finish: Finish::Stop,
        }
    }

    /// The line a reply makes certain, if it is not the last one; `now` is its time.
    pub(super) fn take(&mut self, reply: Reply, now: &str) -> Option<Value> {
        let delta = self.delta(reply);
        if self.kind == Kind::Generate {
            self.said.text.push_str(&delta.text);
            self.said.thinking.push_str(&delta.thinking);
        }
        self.waiting.append(delta);
        if !self.is_streamed || self.waiting.is_empty() {
            return None;
        }
        let delta = std::mem::take(&mut self.waiting);
        Some(self.line(delta, now).into())
    }

    /// A line that says nothing but that the work goes on.
    pub(super) fn heartbeat(&self, now: &str) -> Value {
        self.line(Delta::default(), now).into()
    }

    fn delta(&mut self, reply: Reply) -> Delta {
        let mut delta = Delta::default();
        match reply {
            Reply::Text { text, .. } => delta.text = text,
            Reply::Reasoning { text, .. } => delta.thinking = text,
            Reply::Token { bytes, logprob, .. } => {
                delta.logprobs.push(self.logprob(&bytes, &logprob))
            }
            Reply::CallBegin { id, name, .. } => {
                // The one before it never came to its end.
                delta.text = self.cut_call();
                self.open = Some(OpenCall {
                    id,
                    name,
                    arguments: String::new(),
                });
            }
            Reply::CallArguments { text, .. } => {
                if let Some(call) = &mut self.open {
                    call.arguments.push_str(&text);
                }
            }
            Reply::CallEnd { .. } => self.end_call(&mut delta),
            Reply::Finished { finish, .. } => {
                delta.text = self.cut_call();
                self.finish = finish;
            }
            Reply::Reading { .. }
            | Reply::PromptLogprobs(_)
            | Reply::Notice { .. }
            | Reply::End { .. } => {}
        }
        delta
    }

    fn end_call(&mut self, delta: &mut Delta) {
        let Some(call) = &self.open else {
            return;
        };
        match serde_json::from_str(&call.arguments) {
            Ok(Value::Object(arguments)) => {
                let function =
                    json!({"index": self.n_calls, "name": call.name, "arguments": arguments});
                delta
                    .calls
                    .push(json!({"id": call.id, "function": function}));
                self.n_calls += 1;
                self.open = None;
            }
            _ => delta.text = self.cut_call(),
        }
    }

    /// The text of a call that is none.
    fn cut_call(&mut self) -> String {
        match self.open.take() {
            None => String::new(),
            Some(call) => format!(
                "{{\"name\": {}, \"arguments\": {}",
                Value::from(call.name),
                call.arguments
            ),
        }
    }

    fn logprob(&self, bytes: &[u8], logprob: &TokenLogprob) -> Value {
        let piece = |id: u32| self.tokenizer.piece(id).unwrap_or_default();
        let top = logprob
            .top
            .iter()
            .map(|(id, value)| token(piece(*id), *value));
        let mut entry = token(bytes, logprob.logprob);
        if !logprob.top.is_empty() {
            entry.insert("top_logprobs".into(), top.map(Value::from).collect());
        }
        entry.into()
    }

    /// The last line. `prompt` are the tokens that were continued, `tags` what thinking stands between.
    pub(super) fn last(
        &mut self,
        usage: &Usage,
        now: &str,
        prompt: &[u32],
        tags: Option<&ThinkingTags>,
    ) -> Value {
        let delta = std::mem::take(&mut self.waiting);
        let mut line = self.line(delta, now);
        let reason = match self.finish {
            Finish::Length | Finish::Cut(_) => "length",
            Finish::Stop | Finish::StopString(_) | Finish::ToolCalls => "stop",
        };
        line.insert("done".into(), true.into());
        line.insert("done_reason".into(), reason.into());
        if self.kind == Kind::Generate {
            line.insert("context".into(), self.context(prompt, tags).into());
        }
        let nanoseconds =
            |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let figures = [
            ("total_duration", nanoseconds(usage.total)),
            ("load_duration", nanoseconds(usage.load)),
            ("prompt_eval_count", usage.n_prompt as u64),
            ("prompt_eval_duration", nanoseconds(usage.prefill)),
            ("eval_count", usage.n_completion as u64),
            ("eval_duration", nanoseconds(usage.decode)),
        ];
        line.extend(figures.map(|(name, figure)| (name.to_owned(), figure.into())));
        line.into()
    }

    /// The conversation as tokens: the prompt and what was said to it.
    fn context(&self, prompt: &[u32], tags: Option<&ThinkingTags>) -> Vec<u32> {
        let mut text = self.said.text.clone();
        if let Some(tags) = tags.filter(|_| !self.said.thinking.is_empty()) {
            let open = match tags.is_open_in(&end_of(prompt, &self.tokenizer)) {
                true => String::new(),
                false => format!("{}\n", tags.open),
            };
            text = format!("{open}{}\n{}\n\n{text}", self.said.thinking, tags.close);
        }
        let how = Encode {
            add_special: false,
            parse_special: true,
        };
        [prompt, &self.tokenizer.encode(&text, how)].concat()
    }

    fn line(&self, delta: Delta, now: &str) -> Map<String, Value> {
        line(self.kind, &self.model, delta, now)
    }
}

/// The answer to a request without a prompt: the model was loaded or unloaded.
pub(super) fn only(kind: Kind, model: &str, reason: &str, now: &str) -> Value {
    let mut line = line(kind, model, Delta::default(), now);
    line.insert("done".into(), true.into());
    line.insert("done_reason".into(), reason.into());
    line.into()
}

fn line(kind: Kind, model: &str, delta: Delta, now: &str) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("model".into(), model.into());
    line.insert("created_at".into(), now.into());
    let mut message = Map::new();
    match kind {
        Kind::Chat => {
            message.insert("role".into(), "assistant".into());
            message.insert("content".into(), delta.text.into());
        }
        Kind::Generate => {
            message.insert("response".into(), delta.text.into());
        }
    }
    if !delta.thinking.is_empty() {
        message.insert("thinking".into(), delta.thinking.into());
    }
    if !delta.calls.is_empty() {
        message.insert("tool_calls".into(), delta.calls.into());
    }
    match kind {
        Kind::Chat => {
            line.insert("message".into(), message.into());
        }
        Kind::Generate => line.extend(message),
    }
    line.insert("done".into(), false.into());
    if !delta.logprobs.is_empty() {
        line.insert("logprobs".into(), delta.logprobs.into());
    }
    line
}

fn token(bytes: &[u8], logprob: f32) -> Map<String, Value> {
    let fields = [
        ("token", Value::from(String::from_utf8_lossy(bytes))),
        ("logprob", logprob.into()),
        ("bytes", bytes.into()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The last few tokens as text.
fn end_of(tokens: &[u32], tokenizer: &Tokenizer) -> String {
    let last = &tokens[tokens.len().saturating_sub(16)..];
    let bytes: Vec<u8> = last
        .iter()
        .flat_map(|id| tokenizer.piece(*id).unwrap_or_default())
        .copied()
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
