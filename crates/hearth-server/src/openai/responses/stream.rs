//! From replies to the events of a response, and to the response itself.
//!
//! A state machine without clock or socket: one [`Reply`] in, the events that it causes out. The answer to a
//! request that does not stream is what the same machine has put together, so the two cannot differ.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::object::usage_object;
use crate::exchange::{Finish, Reply};

/// A response being written.
pub struct Response {
    /// The object as clients see it; `output` and all that follows from the answer are filled in at the end.
    object: Map<String, Value>,
    /// What its id and those of its items have in common.
    token: String,
    /// Namespace of each offered tool that stands in one.
    namespaces: HashMap<String, String>,
    /// Seconds since 1970 at the end.
    now: fn() -> u64,
    n_events: u64,
    /// Finished items.
    output: Vec<Value>,
    open: Option<Item>,
    finish: Option<Finish>,
    /// Log-probabilities of tokens whose text is still to come.
    logprobs: Vec<Value>,
    /// What turned out on the way.
    notices: Vec<String>,
}

/// The item that is open.
struct Item {
    id: String,
    kind: Kind,
    /// Its text, or its arguments.
    text: String,
    logprobs: Vec<Value>,
}

enum Kind {
    Reasoning,
    Message,
    Call {
        call_id: String,
        name: String,
        namespace: Option<String>,
    },
}

impl Response {
    /// A response before its first reply. `token` is unique, `object` is [`object`](super::object)'s.
    pub fn new(
        token: String,
        object: Map<String, Value>,
        namespaces: HashMap<String, String>,
        now: fn() -> u64,
    ) -> Self {
        Response {
            object,
            token,
            namespaces,
            now,
            n_events: 0,
            output: Vec::new(),
            open: None,
            finish: None,
            logprobs: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// The two events before the first reply.
    pub fn start(&mut self, events: &mut Vec<Value>) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.object.clone();
            self.push(kind, json!({"response": response}), events);
        }
    }

    /// Takes the next reply; what it causes is added to `events`. Tokens are described by `describe`.
    pub fn take(
        &mut self,
        reply: Reply,
        describe: &dyn Fn(&Reply) -> Value,
        events: &mut Vec<Value>,
    ) {
        match reply {
            Reply::Token {
                is_reasoning: false,
                ..
            } => self.logprobs.push(describe(&reply)),
            Reply::Reasoning { text, .. } => self.add_reasoning(&text, events),
            Reply::Text { text, .. } => self.add_text(&text, events),
            Reply::CallBegin { id, name, .. } => self.begin_call(id, name, events),
            Reply::CallArguments { text, .. } => self.add_arguments(&text, events),
            Reply::CallEnd { .. } => {
                self.logprobs.clear();
                self.close("completed", events);
            }
            Reply::Finished { finish, .. } => self.finish(finish, events),
            Reply::End { usage } => self.end(usage_object(&usage), events),
            Reply::Notice { text, .. } => self.notices.push(text),
            Reply::Reading { .. } | Reply::PromptLogprobs(_) | Reply::Token { .. } => {}
        }
    }

    /// Ends the stream with an error of the server's.
    pub fn fail(&mut self, code: &str, message: &str, events: &mut Vec<Value>) {
        self.close("incomplete", events);
        self.object.insert("status".into(), "failed".into());
        self.object
            .insert("error".into(), json!({"code": code, "message": message}));
        self.object
            .insert("output".into(), self.output.clone().into());
        let response = self.object.clone();
        self.push("response.failed", json!({"response": response}), events);
    }

    /// The object as it stands: whole once the last reply was taken.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Says in the object that it was not kept.
    pub fn is_not_stored(&mut self) {
        self.object.insert("store".into(), false.into());
    }

    fn push(&mut self, kind: &str, rest: Value, events: &mut Vec<Value>) {
        let mut event = Map::new();
        event.insert("type".into(), kind.into());
        event.insert("sequence_number".into(), self.n_events.into());
        if let Value::Object(rest) = rest {
            event.extend(rest);
        }
        self.n_events += 1;
        events.push(event.into());
    }

    fn add_reasoning(&mut self, piece: &str, events: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(
            &self.open,
            Some(Item {
                kind: Kind::Reasoning,
                ..
            })
        ) {
            self.open("rs", Kind::Reasoning, events);
        }
        self.delta("response.reasoning_text.delta", piece, Vec::new(), events);
    }

    fn add_text(&mut self, piece: &str, events: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(
            &self.open,
            Some(Item {
                kind: Kind::Message,
                ..
            })
        ) {
            self.open("msg", Kind::Message, events);
        }
        let logprobs = std::mem::take(&mut self.logprobs);
        self.delta("response.output_text.delta", piece, logprobs, events);
    }

    fn begin_call(&mut self, call_id: String, name: String, events: &mut Vec<Value>) {
        // Its tokens have no place in a call.
        self.logprobs.clear();
        let namespace = self.namespaces.get(&name).cloned();
        self.open(
            "fc",
            Kind::Call {
                call_id,
                name,
                namespace,
            },
            events,
        );
    }

    fn add_arguments(&mut self, piece: &str, events: &mut Vec<Value>) {
        if !piece.is_empty()
            && matches!(
                &self.open,
                Some(Item {
                    kind: Kind::Call { .. },
                    ..
                })
            )
        {
            self.delta(
                "response.function_call_arguments.delta",
                piece,
                Vec::new(),
                events,
            );
        }
    }

    fn open(&mut self, prefix: &str, kind: Kind, events: &mut Vec<Value>) {
        self.close("completed", events);
        let index = self.output.len();
        let id = format!("{prefix}_{}{index:02x}", self.token);
        let item = Item {
            id,
            kind,
            text: String::new(),
            logprobs: Vec::new(),
        };
        self.push(
            "response.output_item.added",
            json!({"output_index": index, "item": item.begun()}),
            events,
        );
        if let Some(part) = item.part() {
            let place = item.place(index);
            self.push(
                "response.content_part.added",
                with(place, json!({"part": part})),
                events,
            );
        }
        self.open = Some(item);
    }

    fn delta(&mut self, kind: &str, piece: &str, logprobs: Vec<Value>, events: &mut Vec<Value>) {
        let index = self.output.len();
        let Some(item) = &mut self.open else { return };
        item.text.push_str(piece);
        let mut rest = with(item.place(index), json!({"delta": piece}));
        if let Kind::Message = item.kind {
            item.logprobs.extend_from_slice(&logprobs);
            rest["logprobs"] = logprobs.into();
        }
        self.push(kind, rest, events);
    }

    fn close(&mut self, status: &str, events: &mut Vec<Value>) {
        let Some(item) = self.open.take() else { return };
        let index = self.output.len();
        let place = item.place(index);
        let (kind, rest) = match &item.kind {
            Kind::Reasoning => ("response.reasoning_text.done", json!({"text": item.text})),
            Kind::Message => (
                "response.output_text.done",
                json!({"text": item.text, "logprobs": item.logprobs}),
            ),
            Kind::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({"arguments": item.text, "name": name}),
            ),
        };
        self.push(kind, with(place.clone(), rest), events);
        if let Some(part) = item.part() {
            self.push(
                "response.content_part.done",
                with(place, json!({"part": part})),
                events,
            );
        }
        let item = item.finished(status);
        self.push(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
            events,
        );
        self.output.push(item);
    }

    fn finish(&mut self, finish: Finish, events: &mut Vec<Value>) {
        if self.output.is_empty() && self.open.is_none() {
            // An answer of nothing is an empty message: agents look for one.
            self.open("msg", Kind::Message, events);
        }
        let status = if finish == Finish::Length {
            "incomplete"
        } else {
            "completed"
        };
        self.close(status, events);
        self.finish = Some(finish);
    }

    fn end(&mut self, usage: Value, events: &mut Vec<Value>) {
        let is_cut = self.finish == Some(Finish::Length);
        let status = if is_cut { "incomplete" } else { "completed" };
        let details = if is_cut {
            json!({"reason": "max_output_tokens"})
        } else {
            Value::Null
        };
        let mut set = |name: &str, value: Value| self.object.insert(name.into(), value);
        set("status", status.into());
        set("incomplete_details", details);
        set(
            "completed_at",
            if is_cut {
                Value::Null
            } else {
                (self.now)().into()
            },
        );
        set("output", self.output.clone().into());
        set("usage", usage);
        if !self.notices.is_empty() {
            set("hearth", json!({"notices": self.notices}));
        }
        let response = self.object.clone();
        self.push(
            &format!("response.{status}"),
            json!({"response": response}),
            events,
        );
    }
}

impl Item {
    /// Where its deltas belong.
    fn place(&self, index: usize) -> Value {
        let mut place = json!({"item_id": self.id, "output_index": index});
        if !matches!(self.kind, Kind::Call { .. }) {
            place["content_index"] = 0.into();
        }
        place
    }

    /// Its one part of content as it stands; calls have none.
    fn part(&self) -> Option<Value> {
        match &self.kind {
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": self.text})),
            Kind::Message => {
                let (text, logprobs) = (&self.text, &self.logprobs);
                Some(
                    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}),
                )
            }
            Kind::Call { .. } => None,
        }
    }

    /// As it is announced.
    fn begun(&self) -> Value {
        self.object("in_progress", json!([]))
    }

    /// As it stands in the output.
    fn finished(&self, status: &str) -> Value {
        self.object(status, self.part().into_iter().collect())
    }

    fn object(&self, status: &str, content: Value) -> Value {
        let id = &self.id;
        match &self.kind {
            Kind::Reasoning => json!({
                "type": "reasoning", "id": id, "summary": [], "content": content, "encrypted_content": null, "status": status,
            }),
            Kind::Message => {
                json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": content})
            }
            Kind::Call {
                call_id,
                name,
                namespace,
            } => {
                let mut item = json!({
                    "type": "function_call", "id": id, "call_id": call_id, "name": name, "arguments": self.text, "status": status,
                });
                if let Some(namespace) = namespace {
                    item["namespace"] = namespace.as_str().into();
                }
                item
            }
        }
    }
}

/// `base` with the fields of `more`.
fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

#[cfg(test)]
mod tests;
