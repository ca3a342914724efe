//! From a body of `/v1/responses` to an [`Ask`].

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    super::{common, format::named_schema},
    items,
    object::Echo,
    tools,
};
use crate::{
    conversation::Conversation,
    error::ApiError,
    exchange::{Ask, Chat, Format, Prompt, Thinking},
    fields::Fields,
    limits::Limits,
    notice::Notices,
};

/// Fields that change nothing here.
const NO_EFFECT: &[&str] = &[
    "client_metadata",
    "context_management",
    "max_tool_calls",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
];

/// Parts of an answer that a client may ask for and that are there anyway, or that only tools of a service have.
const INCLUDES: &[&str] = &[
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];

/// A body, read: everything but the conversation, which may go on from a stored one.
#[derive(Debug)]
pub struct Request {
    /// What the response repeats.
    pub echo: Echo,
    /// What was given, each item with an id.
    pub input: Vec<Value>,
    /// Whether the answer comes in pieces.
    pub is_streamed: bool,
    /// What had no effect.
    pub notices: Notices,
    /// Namespace of each function that stands in one.
    pub namespaces: HashMap<String, String>,
    ask: Ask,
    chat: Chat,
}

/// Reads a body.
///
/// # Errors
///
/// The first field that is missing, of another type, or out of range.
pub fn read(body: &Map<String, Value>, limits: &Limits) -> Result<Request, ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let model = common::model(&mut fields)?;
    let input = fields.value("input");
    let input = items::normalised(fields.required("input", input)?, limits.messages)?;
    refuse(&mut fields)?;
    let tools = tools::read(&mut fields, limits, &mut notices)?;
    let tool_choice = tools::choice(&mut fields, &tools.offered, &mut notices)?;
    let format = text(&mut fields, &mut notices)?;
    let thinking = reasoning(&mut fields, &mut notices)?;
    let sampling = common::sampling(&mut fields, limits)?;
    let n_logprobs = logprobs(&mut fields, limits, &mut notices)?;
    let echo = Echo {
        instructions: fields.string("instructions")?,
        max_output_tokens: fields.count("max_output_tokens", 1..=usize::MAX)?,
        previous: fields.string("previous_response_id")?,
        effort: thinking.effort_as_given,
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0),
        top_logprobs: n_logprobs.unwrap_or(0),
        format: format.as_given,
        tool_choice: fields
            .value("tool_choice")
            .cloned()
            .unwrap_or_else(|| "auto".into()),
        is_parallel: fields.bool("parallel_tool_calls")?.unwrap_or(true),
        is_stored: fields.bool("store")?.unwrap_or(true),
        metadata: fields.object("metadata")?.cloned().unwrap_or_default(),
        tools: tools.given,
        model,
    };
    let is_streamed = common::streaming(&mut fields, &mut notices)?.is_on;
    fields.no_effect_unless("service_tier", &"auto".into(), &mut notices);
    fields.no_effect(NO_EFFECT, &mut notices);
    fields.finish(&mut notices);
    let chat = Chat {
        tools: tools.offered,
        tool_choice,
        is_parallel: echo.is_parallel,
        thinking: thinking.asked,
        ..Chat::default()
    };
    let ask = Ask {
        model: echo.model.clone(),
        prompt: Prompt::Text(String::new()),
        format: format.asked,
        sampling,
        max_tokens: echo.max_output_tokens,
        stop: Vec::new(),
        n: 1,
        n_logprobs,
        n_prompt_logprobs: None,
        timeout: Some(limits.deadline()),
        is_background: false,
    };
    Ok(Request {
        echo,
        input,
        is_streamed,
        notices,
        namespaces: tools.namespaces,
        ask,
        chat,
    })
}

impl Request {
    /// What is asked: instructions, then the stored items it goes on from, then its own.
    ///
    /// # Errors
    ///
    /// An item cannot be read, or there is none.
    pub fn ask(&mut self, history: &[Value]) -> Result<Ask, ApiError> {
        let mut conversation = Conversation::default();
        if let Some(instructions) = self
            .echo
            .instructions
            .as_deref()
            .filter(|text| !text.is_empty())
        {
            conversation.say("system", instructions);
        }
        for item in history {
            items::add(
                &mut conversation,
                item,
                "previous_response_id",
                &mut self.notices,
            )?;
        }
        for (index, item) in self.input.iter().enumerate() {
            items::add(
                &mut conversation,
                item,
                &items::path_of(index),
                &mut self.notices,
            )?;
        }
        if conversation.is_empty() {
            return Err(ApiError::invalid(
                "input",
                "'input' is empty, and there are no instructions",
            ));
        }
        let chat = Chat {
            continues_last: conversation.can_be_continued(),
            messages: conversation.into_messages(),
            ..self.chat.clone()
        };
        Ok(Ask {
            prompt: Prompt::Chat(chat),
            ..self.ask.clone()
        })
    }
}

/// What would change the meaning and cannot be had.
fn refuse(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    if fields.bool("background")? == Some(true) {
        return Err(fields.invalid(
            "background",
            "cannot be true: answers are given while the client waits",
        ));
    }
    for (name, instead) in [
        (
            "conversation",
            "go on from a response with 'previous_response_id'",
        ),
        ("prompt", "send its text in 'instructions' and 'input'"),
    ] {
        if fields.value(name).is_some() {
            let message = format!("names something that only OpenAI's service keeps; {instead}");
            return Err(fields.invalid(name, message));
        }
    }
    fields.one_of("truncation", &["disabled", "auto"])?;
    Ok(())
}

struct TextFormat {
    asked: Format,
    as_given: Value,
}

/// `text`.
fn text(fields: &mut Fields<'_>, notices: &mut Notices) -> Result<TextFormat, ApiError> {
    let plain = TextFormat {
        asked: Format::Text,
        as_given: json!({"type": "text"}),
    };
    let Some(object) = fields.object("text")? else {
        return Ok(plain);
    };
    let mut inner = Fields::within(object, "text");
    if inner
        .one_of("verbosity", &["low", "medium", "high"])?
        .is_some_and(|word| word != "medium")
    {
        notices.ignored("text.verbosity");
    }
    let format = inner.object("format")?;
    inner.finish(notices);
    let Some(object) = format else {
        return Ok(plain);
    };
    let mut inner = Fields::within(object, "text.format");
    let kind = inner.one_of("type", &["text", "json_object", "json_schema"])?;
    let asked = match inner.required("type", kind)? {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        _ => named_schema(&mut inner)?,
    };
    inner.finish(notices);
    Ok(TextFormat {
        asked,
        as_given: object.clone().into(),
    })
}

#[derive(Default)]
struct Reasoning {
    asked: Thinking,
    effort_as_given: Option<String>,
}

/// `reasoning`; what it says of summaries changes nothing, as thinking is told whole.
fn reasoning(fields: &mut Fields<'_>, notices: &mut Notices) -> Result<Reasoning, ApiError> {
    let Some(object) = fields.object("reasoning")? else {
        return Ok(Reasoning::default());
    };
    let mut inner = Fields::within(object, "reasoning");
    let effort = inner.one_of(
        "effort",
        &["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    )?;
    inner.no_effect(&["summary", "generate_summary", "context"], notices);
    inner.finish(notices);
    Ok(Reasoning {
        asked: effort.map(Thinking::of_effort).unwrap_or_default(),
        effort_as_given: effort.map(str::to_owned),
    })
}

/// How many alternatives, if log-probabilities are asked for.
fn logprobs(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Option<usize>, ApiError> {
    let top = fields.count("top_logprobs", 0..=limits.top_logprobs)?;
    let mut is_wanted = top.is_some_and(|top| top > 0);
    for (index, include) in fields
        .array("include")?
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        match include.as_str() {
            Some("message.output_text.logprobs") => is_wanted = true,
            Some(word) if INCLUDES.contains(&word) => notices.ignored(format!("include[{word}]")),
            _ => {
                let wanted = "the name of a part that can be included";
                return Err(fields.wrong(&format!("include[{index}]"), wanted, include));
            }
        }
    }
    Ok(is_wanted.then_some(top.unwrap_or(0)))
}

#[cfg(test)]
mod tests;
