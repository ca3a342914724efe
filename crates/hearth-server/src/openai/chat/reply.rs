//! An answer of `/v1/chat/completions` in one object: a pure function.

use serde_json::{Map, Value, json};

use crate::{
    answer::{Call, Collected, CollectedChoice, TokenOf},
    exchange::Finish,
    openai::pieces::{self, Head, TokenNames},
};

/// How answers are written.
#[derive(Clone)]
pub(super) struct Style {
    /// Names of tokens, when log-probabilities were asked for.
    pub(super) names: Option<TokenNames>,
    /// Whether calls are answered as `function_call`.
    pub(super) is_old_form: bool,
}

impl Style {
    /// The word for why an answer ended.
    pub(super) fn finish(&self, finish: &Finish) -> &'static str {
        match finish {
            Finish::Stop | Finish::StopString(_) => "stop",
            // What ends with "stop" satisfies its schema.
            Finish::Length | Finish::Cut(_) => "length",
            Finish::ToolCalls if self.is_old_form => "function_call",
            Finish::ToolCalls => "tool_calls",
        }
    }

    /// `{"content": […], "refusal": null}`, or null when they were not asked for.
    pub(super) fn logprobs(&self, tokens: &[TokenOf]) -> Value {
        match &self.names {
            None => Value::Null,
            Some(names) => {
                let entries: Vec<Value> = tokens.iter().map(|token| entry(token, names)).collect();
                json!({"content": entries, "refusal": null})
            }
        }
    }
}

/// A token with its log-probability and the alternatives.
fn entry(token: &TokenOf, names: &TokenNames) -> Value {
    let logprob = &token.logprob;
    let one = |id: u32, bytes: &[u8], value: f32| {
        json!({
            "id": id,
            "token": String::from_utf8_lossy(bytes),
            "bytes": bytes,
            "logprob": pieces::logprob(value),
        })
    };
    let top = logprob.top.iter().map(|&(id, value)| {
        let is_drawn = id == logprob.token;
        one(
            id,
            if is_drawn {
                &token.bytes
            } else {
                names.bytes(id)
            },
            value,
        )
    });
    let mut entry = one(logprob.token, &token.bytes, logprob.logprob);
    entry["top_logprobs"] = top.collect();
    entry
}

/// The whole object.
pub(super) fn completion(head: &Head, collected: &Collected, style: &Style) -> Value {
    let choices = collected.choices.iter().enumerate().map(|(index, choice)| {
        json!({
            "index": index,
            "message": message(choice, style),
            "logprobs": style.logprobs(&choice.tokens),
            "finish_reason": style.finish(&choice.finish),
        })
    });
    let mut object = head.object("chat.completion", choices.collect());
    object["usage"] = pieces::usage(&collected.usage);
    pieces::tell(&mut object, &collected.notices);
    object
}

fn message(choice: &CollectedChoice, style: &Style) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    // Null says that calls are all there is; text that came before them is told.
    let is_call_alone = choice.text.is_empty() && !choice.calls.is_empty();
    let content = if is_call_alone {
        Value::Null
    } else {
        json!(choice.text)
    };
    message.insert("content".to_owned(), content);
    message.insert("refusal".to_owned(), Value::Null);
    if !choice.reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), json!(choice.reasoning));
    }
    match choice.calls.first() {
        None => {}
        Some(call) if style.is_old_form => {
            let call = json!({"name": call.name, "arguments": call.arguments});
            message.insert("function_call".to_owned(), call);
        }
        Some(_) => {
            let calls = choice.calls.iter().map(tool_call).collect();
            message.insert("tool_calls".to_owned(), calls);
        }
    }
    Value::Object(message)
}

fn tool_call(call: &Call) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}
