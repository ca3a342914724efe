//! What an answer must look like, as one grammar: from the response format and the choice of tools.

use std::sync::Arc;

use hearth_engine::constraint::{
    AnswerGrammar, Constraint, Grammar, Thinking, ToolGrammarChoice, ToolSpec,
};
use hearth_text::parse::{AnswerFormat, OfferedTool, ToolFormat};

use serde_json::Value;

use super::prompt::ReadyPrompt;
use crate::{
    error::ApiError,
    exchange::{Ask, Chat, Format, Prompt, Tool, ToolChoice},
    limits::Limits,
    models::Loaded,
};

/// The grammar of an answer, ready to use; may take a while.
///
/// # Errors
///
/// The format or a tool's schema cannot be enforced; the message says what in it.
pub(super) fn constraint(
    loaded: &Loaded,
    ask: &Ask,
    prompt: &ReadyPrompt,
    format: &AnswerFormat,
) -> Result<Option<Constraint>, ApiError> {
    let Some((field, answer)) = answer_grammar(ask, format) else {
        return Ok(None);
    };
    let grammar = Grammar {
        thinking: thinking(format, prompt),
        answer,
    };
    loaded
        .engine
        .grammars()
        .compile(&grammar)
        .map(Some)
        .map_err(|error| ApiError::invalid(field, error.to_string()))
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

/// The grammar, and the field of the request it comes from.
///
/// Calls that are forced leave no room for a text, so nothing binds one. Where calls are merely on offer, a format binds
/// what is written instead of calls.
fn answer_grammar(ask: &Ask, format: &AnswerFormat) -> Option<(&'static str, AnswerGrammar)> {
    let text = format_grammar(&ask.format);
    let offer = match &ask.prompt {
        Prompt::Chat(chat) if offers_tools(chat) => format.tools.map(|tools| (chat, tools)),
        _ => None,
    };
    let Some((chat, tools)) = offer else {
        return text.map(|text| ("response_format", text));
    };
    let required = || tool_grammar(chat, tools, ToolGrammarChoice::Required);
    Some(match text {
        _ if is_forced(&chat.tool_choice) => ("tools", required()),
        None => ("tools", tool_grammar(chat, tools, ToolGrammarChoice::Auto)),
        Some(text) => {
            let both = AnswerGrammar::Either(Box::new([text, required()]));
            ("response_format", both)
        }
    })
}

/// Whether the model may call anything.
fn offers_tools(chat: &Chat) -> bool {
    !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None
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

fn tool_grammar(chat: &Chat, format: ToolFormat, choice: ToolGrammarChoice) -> AnswerGrammar {
    let spec = |tool: &Tool| ToolSpec {
        name: tool.name.clone(),
        schema: tool.parameters.clone(),
        is_strict: tool.is_strict,
    };
    AnswerGrammar::Tools {
        format,
        tools: allowed_tools(chat).into_iter().map(spec).collect(),
        choice,
        is_parallel: chat.is_parallel && !is_named(&chat.tool_choice),
    }
}

/// Whether one function is to be called: then it is called once, as OpenAI's servers do and clients rely on.
fn is_named(choice: &ToolChoice) -> bool {
    matches!(choice, ToolChoice::RequiredOf(names) if names.len() == 1)
}

fn format_grammar(format: &Format) -> Option<AnswerGrammar> {
    Some(match format {
        Format::Text => return None,
        Format::JsonObject => AnswerGrammar::JsonObject,
        Format::JsonSchema(schema) => AnswerGrammar::JsonSchema(schema.clone()),
        Format::Regex(pattern) => AnswerGrammar::Regex(pattern.clone()),
        Format::Lark(text) => AnswerGrammar::Lark(text.clone()),
        Format::Gbnf(text) => AnswerGrammar::Gbnf(text.clone()),
        Format::Choice(texts) => AnswerGrammar::Choice(texts.clone()),
    })
}

/// The block of thinking that may come before the answer.
fn thinking(format: &AnswerFormat, prompt: &ReadyPrompt) -> Option<Thinking> {
    let tags = format.thinking.as_ref()?;
    (prompt.is_thinking_open || prompt.may_think).then(|| Thinking {
        open: tags.open.clone(),
        close: tags.close.clone(),
        is_open: prompt.is_thinking_open,
    })
}
