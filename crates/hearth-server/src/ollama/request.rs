//! Bodies of `/api/chat` and `/api/generate`, read into what the engine is asked. Pure: no model is touched.

use serde_json::{Map, Value, json};

use super::{
    messages::{messages, no_images, tools},
    options::{KeepAlive, keep_alive, options},
};
use crate::{
    error::ApiError,
    exchange::{Ask, Chat, Format, Prompt, Thinking},
    fields::Fields,
    limits::Limits,
    notice::Notices,
};

/// Which route was asked; their answers differ in the names of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Generate,
}

/// A request that has been read.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) kind: Kind,
    pub(super) model: String,
    /// Without one, the model is only loaded or unloaded.
    pub(super) ask: Option<Ask>,
    /// The prompt is read with the model's own tokens in it, and no template.
    pub(super) is_raw: bool,
    /// Tokens of what was said before.
    pub(super) context: Vec<u32>,
    /// The model must be able to think.
    pub(super) must_think: bool,
    pub(super) is_streamed: bool,
    pub(super) keep_alive: Option<KeepAlive>,
}

/// Reads a body; what has no effect goes to the notices.
pub(super) fn turn(
    kind: Kind,
    body: &Map<String, Value>,
    limits: &Limits,
) -> Result<(Turn, Notices), ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let model = model_name(&mut fields)?;
    let is_streamed = fields.bool("stream")?.unwrap_or(true);
    let keep_alive = keep_alive(&mut fields)?;
    let thinking = thinking(&mut fields)?;
    let must_think = thinking.is_on == Some(true);
    let format = format(&mut fields, limits)?;
    let options = options(&mut fields, limits, &mut notices)?;
    let n_logprobs = logprobs(&mut fields, limits)?;
    for name in ["truncate", "shift"] {
        fields.bool(name)?;
    }
    fields.no_effect(&["truncate", "shift"], &mut notices);
    let Source {
        prompt,
        is_raw,
        context,
    } = match kind {
        Kind::Chat => chat(&mut fields, thinking, limits, &mut notices)?,
        Kind::Generate => generate(&mut fields, thinking, &mut notices)?,
    };
    fields.finish(&mut notices);
    let ask = prompt.map(|prompt| Ask {
        model: model.clone(),
        prompt,
        format,
        sampling: options.sampling,
        max_tokens: options.max_tokens,
        stop: options.stop,
        n: 1,
        n_logprobs,
        n_prompt_logprobs: None,
        timeout: Some(limits.deadline()),
        is_background: false,
    });
    let turn = Turn {
        kind,
        model,
        ask,
        is_raw,
        context,
        must_think,
        is_streamed,
        keep_alive,
    };
    Ok((turn, notices))
}

/// `model`, or `name` as it was called before.
pub(super) fn model_name(fields: &mut Fields<'_>) -> Result<String, ApiError> {
    let old = fields.string("name")?;
    let name = fields
        .string("model")?
        .filter(|name| !name.is_empty())
        .or(old);
    fields.required("model", name.filter(|name| !name.is_empty()))
}

/// `think`: on, off, or how much.
fn thinking(fields: &mut Fields<'_>) -> Result<Thinking, ApiError> {
    let mut thinking = Thinking::default();
    match fields.value("think") {
        None => {}
        Some(Value::Bool(is_on)) => thinking.is_on = Some(*is_on),
        Some(Value::String(_)) => {
            let effort = fields.one_of("think", &["low", "medium", "high", "max"])?;
            thinking.is_on = Some(true);
            thinking.effort = effort.map(str::to_owned);
        }
        Some(other) => {
            return Err(fields.wrong("think", "true, false, low, medium, high or max", other));
        }
    }
    Ok(thinking)
}

/// `format`: nothing, `"json"`, or a schema.
fn format(fields: &mut Fields<'_>, limits: &Limits) -> Result<Format, ApiError> {
    match fields.value("format") {
        None => Ok(Format::Text),
        Some(Value::String(text)) if text.is_empty() => Ok(Format::Text),
        Some(Value::String(text)) if text == "json" => Ok(Format::JsonObject),
        Some(Value::Object(schema)) => {
            let n_bytes = Value::from(schema.clone()).to_string().len();
            if n_bytes > limits.schema_bytes {
                return Err(fields.invalid(
                    "format",
                    format!("has {n_bytes} bytes, the limit is {}", limits.schema_bytes),
                ));
            }
            Ok(Format::JsonSchema(schema.clone().into()))
        }
        Some(other) => Err(fields.wrong("format", "\"json\" or a JSON schema", other)),
    }
}

fn logprobs(fields: &mut Fields<'_>, limits: &Limits) -> Result<Option<usize>, ApiError> {
    let is_on = fields.bool("logprobs")?.unwrap_or(false);
    let n_top = fields.count("top_logprobs", 0..=limits.top_logprobs)?;
    match n_top {
        Some(n) if n > 0 && !is_on => Err(fields.invalid("top_logprobs", "needs 'logprobs': true")),
        n => Ok(is_on.then_some(n.unwrap_or(0))),
    }
}

/// What is to be continued.
#[derive(Debug, Default)]
struct Source {
    prompt: Option<Prompt>,
    is_raw: bool,
    context: Vec<u32>,
}

impl Source {
    fn of(prompt: Prompt) -> Self {
        Source {
            prompt: Some(prompt),
            ..Source::default()
        }
    }
}

fn chat(
    fields: &mut Fields<'_>,
    thinking: Thinking,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Source, ApiError> {
    let list = fields
        .array("messages")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    let messages = messages(list, fields, limits, notices)?;
    let tools = tools(fields, limits, notices)?;
    if messages.is_empty() {
        return Ok(Source::default());
    }
    let continues_last = messages
        .last()
        .is_some_and(|last| last["role"] == "assistant" && !last.contains_key("tool_calls"));
    Ok(Source::of(Prompt::Chat(Chat {
        messages,
        tools,
        is_parallel: true,
        thinking,
        continues_last,
        ..Chat::default()
    })))
}

fn generate(
    fields: &mut Fields<'_>,
    thinking: Thinking,
    notices: &mut Notices,
) -> Result<Source, ApiError> {
    let prompt = fields.string("prompt")?.unwrap_or_default();
    let suffix = fields.string("suffix")?.unwrap_or_default();
    let system = fields.string("system")?.unwrap_or_default();
    let is_raw = fields.bool("raw")?.unwrap_or(false);
    let context = context(fields)?;
    no_images(fields)?;
    if fields
        .string("template")?
        .is_some_and(|template| !template.is_empty())
    {
        return Err(fields.invalid(
            "template",
            "cannot replace the model's own; send a whole prompt with 'raw': true",
        ));
    }
    if is_raw && !(suffix.is_empty() && system.is_empty() && context.is_empty()) {
        return Err(fields.invalid(
            "raw",
            "takes a prompt as it is; leave out 'system', 'suffix' and 'context'",
        ));
    }
    if prompt.is_empty() && suffix.is_empty() {
        return Ok(Source::default());
    }
    if is_raw {
        return Ok(Source {
            is_raw,
            ..Source::of(Prompt::Text(prompt))
        });
    }
    if !suffix.is_empty() {
        if !context.is_empty() {
            return Err(fields.invalid("suffix", "and 'context' cannot both be continued"));
        }
        if !system.is_empty() {
            notices.ignored("system");
        }
        return Ok(Source::of(Prompt::Infill {
            prefix: prompt,
            suffix,
        }));
    }
    let message = |role: &str, text: String| match json!({"role": role, "content": text}) {
        Value::Object(message) => message,
        _ => unreachable!("an object was written"),
    };
    let system = (!system.is_empty()).then(|| message("system", system));
    let chat = Chat {
        messages: system
            .into_iter()
            .chain([message("user", prompt)])
            .collect(),
        is_parallel: true,
        thinking,
        ..Chat::default()
    };
    Ok(Source {
        context,
        ..Source::of(Prompt::Chat(chat))
    })
}

/// Tokens of what was said before.
fn context(fields: &mut Fields<'_>) -> Result<Vec<u32>, ApiError> {
    let list = fields
        .array("context")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    let token = |(at, value): (usize, &Value)| {
        let token = crate::fields::integer(value).and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| fields.wrong(&format!("context[{at}]"), "a token", value))
    };
    list.iter().enumerate().map(token).collect()
}

#[cfg(test)]
mod tests;
