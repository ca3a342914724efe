//! What an answer must look like, as one grammar: from the response format and the choice of tools.

use std::sync::Arc;

use hearth_text::parse::{AnswerFormat, OfferedTool, ToolFormat};

use serde_json::Value;

use crate::{
    error::ApiError,
    exchange::{Ask, Chat, Format, Prompt, Tool, ToolChoice},
    limits::Limits,
};

/// Refuses what binds an answer: the engine has no grammars yet.
///
/// # Errors
///
/// The request binds the answer.
pub(super) fn check_unbound(ask: &Ask) -> Result<(), ApiError> {
    let is_forced = matches!(&ask.prompt, Prompt::Chat(chat) if is_forced(&chat.tool_choice));
    if is_forced || ask.format != Format::Text {
        return Err(ApiError::invalid(
            None,
            "answers cannot be bound to a form yet: leave response_format and a forced tool_choice out",
        ));
    }
    Ok(())
}

/// How this model's answers to this request read: a forced call needs a form even where the template shows none.
pub(super) fn answer_format(model: &AnswerFormat, ask: &Ask) -> AnswerFormat {
    let mut format = model.clone();
    if let Prompt::Chat(chat) = &ask.prompt
        && is_forced(&chat.tool_choice)
    {
        format.tools.get_or_insert(ToolFormat::Hermes);
    }
    format
}

fn is_forced(choice: &ToolChoice) -> bool {
    matches!(choice, ToolChoice::Required | ToolChoice::RequiredOf(_))
}

/// Bounds schemas and grammars before anything is built from them.
///
/// # Errors
///
/// One is too large or nests too deeply; the message says how much is taken.
pub(super) fn check_sizes(ask: &Ask, limits: &Limits) -> Result<(), ApiError> {
    let text = |text: &str| check_bytes("response_format", text.len(), limits);
    match &ask.format {
        Format::Text | Format::JsonObject => {}
        Format::JsonSchema(schema) => check_schema("response_format", schema, limits)?,
        Format::Regex(pattern) => text(pattern)?,
        Format::Lark(grammar) | Format::Gbnf(grammar) => text(grammar)?,
        Format::Choice(texts) => check_bytes(
            "response_format",
            texts.iter().map(String::len).sum(),
            limits,
        )?,
    }
    if let Prompt::Chat(chat) = &ask.prompt {
        for tool in &chat.tools {
            tool.parameters
                .iter()
                .try_for_each(|schema| check_schema("tools", schema, limits))?;
        }
    }
    Ok(())
}

fn check_schema(field: &str, schema: &Value, limits: &Limits) -> Result<(), ApiError> {
    let depth = depth(schema);
    if depth > limits.schema_depth {
        let message = format!(
            "a schema nests {depth} levels deep, the limit is {}",
            limits.schema_depth
        );
        return Err(ApiError::invalid(field, message));
    }
    check_bytes(field, schema.to_string().len(), limits)
}

fn check_bytes(field: &str, n_bytes: usize, limits: &Limits) -> Result<(), ApiError> {
    if n_bytes > limits.schema_bytes {
        let message = format!(
            "a schema or grammar has {n_bytes} bytes, the limit is {}",
            limits.schema_bytes
        );
        return Err(ApiError::invalid(field, message));
    }
    Ok(())
}

/// Levels of arrays and objects; what is read from a body is bounded already.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The tools whose calls are read from the answer.
pub(super) fn offered_tools(chat: &Chat) -> Arc<[OfferedTool]> {
    let allowed = allowed_tools(chat).into_iter();
    let offered = allowed.map(|tool| OfferedTool {
        name: tool.name.clone(),
        parameters: tool.parameters.clone(),
    });
    offered.collect()
}

/// The tools that the choice leaves.
fn allowed_tools(chat: &Chat) -> Vec<&Tool> {
    let is_allowed = |tool: &&Tool| match &chat.tool_choice {
        ToolChoice::None => false,
        ToolChoice::Auto | ToolChoice::Required => true,
        ToolChoice::AutoOf(names) | ToolChoice::RequiredOf(names) => names.contains(&tool.name),
    };
    chat.tools.iter().filter(is_allowed).collect()
}
