//! From replies to the events of a message, and to the message itself.
//!
//! A state machine without clock or socket: one [`Reply`] in, the events that it causes out. The answer to a
//! request that does not stream is what the same machine has put together, so the two cannot differ.

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::partial::complete;
use crate::exchange::{Finish, Reply, Usage};

/// A message being written.
pub struct Message {
    id: String,
    model: String,
    /// Whether `message_start` has gone out.
    is_started: bool,
    /// Tokens of the prompt, and those of them that the cache had.
    n_prompt: usize,
    n_cached: usize,
    n_output: usize,
    /// Finished blocks.
    content: Vec<Value>,
    open: Option<Block>,
    finish: Option<Finish>,
}

/// The block that is open.
enum Block {
    Thinking {
        text: String,
    },
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        json: String,
    },
}

impl Message {
    /// A message before its first reply; `id` begins with `msg_`.
    pub fn new(id: String, model: String) -> Self {
        Message {
            id,
            model,
            is_started: false,
            n_prompt: 0,
            n_cached: 0,
            n_output: 0,
            content: Vec::new(),
            open: None,
            finish: None,
        }
    }

    /// Takes the next reply; what it causes is added to `events`.
    pub fn take(&mut self, reply: Reply, events: &mut Vec<Value>) {
        match reply {
            Reply::Reading {
                n_prompt, n_cached, ..
            } => self.start(n_prompt, n_cached, events),
            Reply::Reasoning { text, .. } => self.add_thinking(&text, events),
            Reply::Text { text, .. } => self.add_text(&text, events),
            Reply::CallBegin { id, name, .. } => self.begin_call(&id, name, events),
            Reply::CallArguments { text, .. } => self.add_arguments(&text, events),
            Reply::CallEnd { .. } => self.close(events),
            Reply::Finished { finish, .. } => {
                self.close(events);
                self.finish = Some(finish);
            }
            Reply::End { usage } => self.end(&usage, events),
            Reply::PromptLogprobs(_) | Reply::Token { .. } | Reply::Notice { .. } => {}
        }
    }

    /// The message as it stands: whole once the last reply was taken.
    pub fn object(&self) -> Value {
        let (reason, sequence) = match &self.finish {
            None => (Value::Null, Value::Null),
            Some(Finish::Stop) => ("end_turn".into(), Value::Null),
            Some(Finish::StopString(text) | Finish::Cut(text)) => {
                ("stop_sequence".into(), text.as_str().into())
            }
            Some(Finish::Length) => ("max_tokens".into(), Value::Null),
            Some(Finish::ToolCalls) => ("tool_use".into(), Value::Null),
        };
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": self.content,
            "stop_reason": reason, "stop_sequence": sequence, "usage": self.usage(),
        })
    }

    /// What was read from the cache is not part of `input_tokens` here; the three sum to the prompt.
    fn usage(&self) -> Value {
        json!({
            "input_tokens": self.n_prompt - self.n_cached, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.n_cached, "output_tokens": self.n_output,
        })
    }

    fn start(&mut self, n_prompt: usize, n_cached: usize, events: &mut Vec<Value>) {
        if self.is_started {
            return;
        }
        (self.n_prompt, self.n_cached, self.is_started) = (n_prompt, n_cached.min(n_prompt), true);
        events.push(json!({"type": "message_start", "message": self.object()}));
    }

    fn add_thinking(&mut self, piece: &str, events: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Block::Thinking { .. })) {
            self.open(
                Block::Thinking {
                    text: String::new(),
                },
                events,
            );
        }
        if let Some(Block::Thinking { text }) = &mut self.open {
            text.push_str(piece);
        }
        self.delta(json!({"type": "thinking_delta", "thinking": piece}), events);
    }

    fn add_text(&mut self, piece: &str, events: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Block::Text { .. })) {
            self.open(
                Block::Text {
                    text: String::new(),
                },
                events,
            );
        }
        if let Some(Block::Text { text }) = &mut self.open {
            text.push_str(piece);
        }
        self.delta(json!({"type": "text_delta", "text": piece}), events);
    }

    fn begin_call(&mut self, id: &str, name: String, events: &mut Vec<Value>) {
        let id = format!("toolu_{}", id.strip_prefix("call_").unwrap_or(id));
        self.open(
            Block::ToolUse {
                id,
                name,
                json: String::new(),
            },
            events,
        );
    }

    fn add_arguments(&mut self, piece: &str, events: &mut Vec<Value>) {
        if let Some(Block::ToolUse { json, .. }) = &mut self.open
            && !piece.is_empty()
        {
            json.push_str(piece);
            self.delta(
                json!({"type": "input_json_delta", "partial_json": piece}),
                events,
            );
        }
    }

    fn open(&mut self, block: Block, events: &mut Vec<Value>) {
        self.close(events);
        events.push(json!({"type": "content_block_start", "index": self.content.len(), "content_block": block.begun()}));
        self.open = Some(block);
    }

    fn delta(&self, delta: Value, events: &mut Vec<Value>) {
        events.push(
            json!({"type": "content_block_delta", "index": self.content.len(), "delta": delta}),
        );
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        let Some(block) = self.open.take() else {
            return;
        };
        if let Block::Thinking { text } = &block {
            self.delta(
                json!({"type": "signature_delta", "signature": signature(text)}),
                events,
            );
        }
        events.push(json!({"type": "content_block_stop", "index": self.content.len()}));
        self.content.push(block.finished());
    }

    fn end(&mut self, usage: &Usage, events: &mut Vec<Value>) {
        self.start(usage.n_prompt, usage.n_cached, events);
        if self.content.is_empty() {
            // Programs take the first block without asking whether there is one.
            self.open(
                Block::Text {
                    text: String::new(),
                },
                events,
            );
            self.close(events);
        }
        self.n_prompt = usage.n_prompt;
        self.n_cached = usage.n_cached.min(usage.n_prompt);
        self.n_output = usage.n_completion;
        let Value::Object(mut object) = self.object() else {
            return;
        };
        let mut take = |name| object.remove(name).unwrap_or_default();
        events.push(json!({
            "type": "message_delta",
            "delta": {"stop_reason": take("stop_reason"), "stop_sequence": take("stop_sequence")},
            "usage": take("usage"),
        }));
        events.push(json!({"type": "message_stop"}));
    }
}

impl Block {
    /// As the block is announced.
    fn begun(&self) -> Value {
        match self {
            Block::Thinking { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text { .. } => json!({"type": "text", "text": ""}),
            Block::ToolUse { id, name, .. } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
        }
    }

    /// As the block stands in the message.
    fn finished(self) -> Value {
        match self {
            Block::Thinking { text } => {
                json!({"type": "thinking", "signature": signature(&text), "thinking": text})
            }
            Block::Text { text } => json!({"type": "text", "text": text}),
            Block::ToolUse { id, name, json } => {
                let input = match complete(&json) {
                    Some(Value::Object(input)) => input,
                    _ => Map::new(),
                };
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        }
    }
}

/// The signature of a thought: clients insist on one and send it back. It is a plain hash and proves nothing; a thought
/// that comes back is read whatever its signature says, as the same client could have written any other message too.
pub fn signature(thought: &str) -> String {
    let hash = Sha256::new()
        .chain_update(b"hearth thinking\0")
        .chain_update(thought.as_bytes())
        .finalize();
    base64::engine::general_purpose::STANDARD.encode(hash)
}

#[cfg(test)]
mod tests;
