//! From a body of `/v1/messages` to an [`Ask`].

use hearth_engine::SamplingParams;
use serde_json::{Map, Value};

use super::{messages, tools};
use crate::{
    conversation::Conversation,
    error::ApiError,
    exchange::{Ask, Chat, Format, Prompt, Thinking},
    fields::Fields,
    limits::Limits,
    notice::Notices,
    openai::common,
};

/// Fields that change nothing here.
const NO_EFFECT: &[&str] = &[
    "metadata",
    "service_tier",
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "fallbacks",
    "inference_geo",
    "mcp_servers",
    "speed",
];

/// The smallest budget of thinking that the dialect knows.
const MIN_BUDGET: usize = 1024;

/// A body, read.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Whether the answer comes in pieces.
    pub is_streamed: bool,
    /// What had no effect.
    pub notices: Notices,
}

/// Reads a body; one that is only to be counted needs no `max_tokens`.
///
/// # Errors
///
/// The first field that is missing, of another type, or out of range.
pub fn read(
    body: &Map<String, Value>,
    limits: &Limits,
    is_counted: bool,
) -> Result<Request, ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let model = common::model(&mut fields)?;
    let max_tokens = fields.count("max_tokens", 1..=usize::MAX)?;
    if !is_counted {
        fields.required("max_tokens", max_tokens)?;
    }
    let mut chat = conversation(&mut fields, limits, &mut notices)?;
    let format = output(&mut fields, &mut chat.thinking, &mut notices)?;
    let sampling = sampling(&mut fields)?;
    let stop = common::stops(&mut fields, "stop_sequences", limits)?;
    let is_streamed = fields.bool("stream")?.unwrap_or(false);
    fields.no_effect(NO_EFFECT, &mut notices);
    fields.finish(&mut notices);
    let ask = Ask {
        model,
        prompt: Prompt::Chat(chat),
        format,
        sampling,
        max_tokens,
        stop,
        n: 1,
        n_logprobs: None,
        n_prompt_logprobs: None,
        timeout: Some(limits.deadline()),
        is_background: false,
    };
    Ok(Request {
        ask,
        is_streamed,
        notices,
    })
}

fn conversation(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Chat, ApiError> {
    let mut conversation = Conversation::default();
    if let Some(system) = fields.value("system") {
        messages::add_system(&mut conversation, system, notices)?;
    }
    let list = fields.array("messages")?;
    let list = fields.required("messages", list)?;
    if list.is_empty() {
        return Err(fields.invalid("messages", "must hold at least one message"));
    }
    if list.len() > limits.messages {
        return Err(fields.too_many("messages", list.len(), limits.messages));
    }
    for (index, message) in list.iter().enumerate() {
        messages::add(&mut conversation, message, index, notices)?;
    }
    let tools = tools::read(fields, limits, notices)?;
    let choice = tools::choice(fields, &tools, notices)?;
    let thinking = thinking(fields, conversation.ends_in_results(), notices)?;
    Ok(Chat {
        continues_last: conversation.can_be_continued(),
        messages: conversation.into_messages(),
        tools,
        tool_choice: choice.tools,
        is_parallel: choice.is_parallel,
        thinking,
        template_variables: Map::new(),
    })
}

/// `thinking`; without it the model does as its template says.
fn thinking(
    fields: &mut Fields<'_>,
    after_results: bool,
    notices: &mut Notices,
) -> Result<Thinking, ApiError> {
    let Some(object) = fields.object("thinking")? else {
        return Ok(Thinking::default());
    };
    let mut inner = Fields::within(object, "thinking");
    let kind = inner.one_of(
        "type",
        &["enabled", "disabled", "adaptive", "between_tools"],
    )?;
    let kind = inner.required("type", kind)?;
    let budget = inner.count("budget_tokens", MIN_BUDGET..=usize::MAX)?;
    if kind == "enabled" {
        inner.required("budget_tokens", budget)?;
    }
    inner.finish(notices);
    let is_on = match kind {
        "disabled" => false,
        "between_tools" => after_results,
        _ => true,
    };
    Ok(Thinking {
        is_on: Some(is_on),
        effort: None,
        budget: budget.filter(|_| is_on),
    })
}

/// `output_config`, and `output_format` as its format was called first.
fn output(
    fields: &mut Fields<'_>,
    thinking: &mut Thinking,
    notices: &mut Notices,
) -> Result<Format, ApiError> {
    let mut format = fields
        .object("output_format")?
        .map(|format| (format, "output_format"));
    if let Some(config) = fields.object("output_config")? {
        let mut inner = Fields::within(config, "output_config");
        let effort = inner.one_of("effort", &["low", "medium", "high", "xhigh", "max"])?;
        thinking.effort = effort.and_then(|effort| Thinking::of_effort(effort).effort);
        if let Some(object) = inner.object("format")? {
            format = Some((object, "output_config.format"));
        }
        inner.finish(notices);
    }
    let Some((object, path)) = format else {
        return Ok(Format::Text);
    };
    let mut inner = Fields::within(object, path);
    let kind = inner.one_of("type", &["json_schema"])?;
    inner.required("type", kind)?;
    let schema = inner.value("schema").cloned();
    let schema = inner.required("schema", schema)?;
    inner.finish(notices);
    Ok(Format::JsonSchema(schema))
}

fn sampling(fields: &mut Fields<'_>) -> Result<SamplingParams, ApiError> {
    Ok(SamplingParams {
        temperature: common::temperature(fields, 1.0)?,
        top_p: common::share(fields, "top_p")?,
        top_k: fields.count("top_k", 0..=usize::MAX)?.unwrap_or(0),
        ..SamplingParams::default()
    })
}

#[cfg(test)]
mod tests;
