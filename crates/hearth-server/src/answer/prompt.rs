//! From a prompt to tokens: the template, what it may be given, the tokens of its text.
//!
//! A template writes a model's control tokens as text, so its output is read with `parse_special`, whoever wrote which
//! part of it: text of a user that spells a control token is read as that token, here as in `hearth run` and as in the
//! other programs that render templates. Plain texts (`/v1/completions`) are read without.

use hearth_text::{
    ChatTemplate, Encode, TemplateError, Tokenizer,
    parse::{AnswerFormat, ThinkingTags, ToolFormat},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::provider_header;
use crate::{
    error::ApiError,
    exchange::{Chat, Prompt, Thinking, Tool},
    models::Loaded,
};

/// A prompt as the model reads it.
pub(super) struct ReadyPrompt {
    /// Its tokens.
    pub(super) tokens: Vec<u32>,
    /// Whether it ends inside a block of thinking.
    pub(super) is_thinking_open: bool,
    /// Whether the answer may begin with a block of thinking.
    pub(super) may_think: bool,
    /// Whether the answer is a text of its own.
    pub(super) begins_text: bool,
    /// Fields that have no effect on this model.
    pub(super) ignored: Vec<String>,
}

impl ReadyPrompt {
    fn plain(tokens: Vec<u32>) -> Self {
        ReadyPrompt {
            tokens,
            is_thinking_open: false,
            may_think: false,
            begins_text: false,
            ignored: Vec::new(),
        }
    }
}

/// Renders and cuts into tokens; may take a while.
///
/// # Errors
///
/// The model has no template or no tokens for filling in; the template refused the conversation or failed on it; a
/// token or a template variable is not one.
pub(super) fn ready(loaded: &Loaded, prompt: &Prompt) -> Result<ReadyPrompt, ApiError> {
    let tokenizer = loaded.engine.tokenizer();
    match prompt {
        Prompt::Chat(chat) => {
            let template = loaded
                .template
                .as_ref()
                .ok_or_else(|| no_template(&loaded.name))?;
            ready_chat(template, &loaded.format, tokenizer, chat)
        }
        Prompt::Text(text) => {
            let mut tokens = tokenizer.encode(text, Encode::default());
            // An empty text is the beginning of any.
            if tokens.is_empty() {
                tokens.extend(tokenizer.bos());
            }
            Ok(ReadyPrompt::plain(tokens))
        }
        Prompt::Tokens(tokens) => {
            check_tokens(tokens, tokenizer.n_vocab())?;
            Ok(ReadyPrompt::plain(tokens.clone()))
        }
        Prompt::Infill { prefix, suffix } => {
            infill(tokenizer, prefix, suffix).map(ReadyPrompt::plain)
        }
    }
}

fn no_template(model: &str) -> ApiError {
    let message = format!(
        "the model {model:?} has no chat template, so it cannot take a conversation; use /v1/completions, which continues plain text"
    );
    ApiError::invalid("model", message)
}

fn check_tokens(tokens: &[u32], n_vocab: usize) -> Result<(), ApiError> {
    match tokens.iter().find(|token| **token as usize >= n_vocab) {
        None => Ok(()),
        Some(token) => Err(ApiError::invalid(
            "prompt",
            format!("token {token} is not in the vocabulary of {n_vocab} tokens"),
        )),
    }
}

/// Prefix, suffix, then what is between them.
fn infill(tokenizer: &Tokenizer, prefix: &str, suffix: &str) -> Result<Vec<u32>, ApiError> {
    let Some(fim) = tokenizer.infill() else {
        return Err(ApiError::invalid(
            "suffix",
            "this model has no tokens for filling in the middle, so it cannot take a suffix",
        ));
    };
    let inner = Encode {
        add_special: false,
        parse_special: false,
    };
    let mut tokens = Vec::new();
    if tokenizer.adds_bos() {
        tokens.extend(tokenizer.bos());
    }
    tokens.push(fim.prefix);
    tokens.extend(tokenizer.encode(prefix, inner));
    tokens.push(fim.suffix);
    tokens.extend(tokenizer.encode(suffix, inner));
    tokens.push(fim.middle);
    Ok(tokens)
}

fn ready_chat(
    template: &ChatTemplate,
    format: &AnswerFormat,
    tokenizer: &Tokenizer,
    chat: &Chat,
) -> Result<ReadyPrompt, ApiError> {
    check_variables(&chat.template_variables)?;
    if !chat.tools.is_empty() && !template.source().contains("tools") {
        return Err(ApiError::invalid(
            "tools",
            "the model's chat template cannot offer tools; leave them out or choose a model that supports them",
        ));
    }
    let mut ignored = ignored_variables(template.source(), format, chat);
    let mut messages = chat.messages.clone();
    if let Some(n) = format.tools.and_then(ToolFormat::call_id_length) {
        fit_call_ids(&mut messages, n);
    }
    if drop_provider_header(&mut messages) {
        ignored.push(provider_header::FIELD.to_owned());
    }
    let marker = chat.continues_last.then(|| mark_end(&mut messages));
    let context = context(tokenizer, chat, messages);
    let mut text = template.render(&context, None).map_err(template_error)?;
    if let Some(marker) = marker {
        let end = text.rfind(&marker).ok_or_else(cannot_continue)?;
        text.truncate(end);
    }
    let thinking = settle_thinking(format.thinking.as_ref(), chat, &mut text);
    if text.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "the model's chat template made no text of this conversation",
        ));
    }
    let how = Encode {
        add_special: false,
        parse_special: true,
    };
    Ok(ReadyPrompt {
        tokens: tokenizer.encode(&text, how),
        is_thinking_open: thinking.is_open,
        may_think: thinking.may_begin,
        begins_text: !chat.continues_last,
        ignored,
    })
}

/// What the prompt's end says about thinking.
struct PromptThinking {
    is_open: bool,
    may_begin: bool,
}

/// Reads off the prompt whether thinking is open, and closes it where it was switched off and the template has no switch.
fn settle_thinking(tags: Option<&ThinkingTags>, chat: &Chat, text: &mut String) -> PromptThinking {
    let Some(tags) = tags else {
        return PromptThinking {
            is_open: false,
            may_begin: false,
        };
    };
    if chat.continues_last {
        let content = chat
            .messages
            .last()
            .and_then(|message| message.get("content")?.as_str());
        let content = content.unwrap_or_default();
        let is_open = content.rfind(&tags.open) > content.rfind(&tags.close);
        return PromptThinking {
            is_open,
            may_begin: false,
        };
    }
    let is_open = tags.is_open_in(text);
    if is_open && chat.thinking.is_on == Some(false) {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&tags.close);
        text.push_str("\n\n");
        return PromptThinking {
            is_open: false,
            may_begin: false,
        };
    }
    let is_closed = text.trim_end().ends_with(&tags.close);
    PromptThinking {
        is_open,
        may_begin: !is_open && !is_closed && chat.thinking.is_on != Some(false),
    }
}

fn cannot_continue() -> ApiError {
    ApiError::invalid(
        "messages",
        "the model's chat template does not show the last message of the assistant, so it cannot be continued",
    )
}

/// Puts a mark behind the last message's text and returns it: what the template writes after it closes the turn.
fn mark_end(messages: &mut [Map<String, Value>]) -> String {
    // Private characters: no template trims them, and no text in use has them in this order.
    let mut marker = "\u{E0F0}\u{E0F1}".to_owned();
    let Some(last) = messages.last_mut() else {
        return marker;
    };
    let content = last
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    while content.contains(&marker) {
        marker.push('\u{E0F1}');
    }
    let marked = format!("{content}{marker}");
    last.insert("content".to_owned(), Value::String(marked));
    marker
}

/// Gives calls and their results ids of `n` characters where the template takes no others; equal ids stay equal.
fn fit_call_ids(messages: &mut [Map<String, Value>], n: usize) {
    let fit = |id: &mut Value| {
        let is_fit =
            |text: &str| text.len() == n && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if let Value::String(text) = id
            && !is_fit(text)
        {
            let digest = Sha256::digest(text.as_bytes());
            *text = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            text.truncate(n);
        }
    };
    for message in messages {
        message.get_mut("tool_call_id").map(fit);
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            call.get_mut("id").map(fit);
        }
    }
}

/// Takes a provider's line away from the front of the system prompt.
fn drop_provider_header(messages: &mut Vec<Map<String, Value>>) -> bool {
    let Some(first) = messages
        .first_mut()
        .filter(|first| first.get("role").and_then(Value::as_str) == Some("system"))
    else {
        return false;
    };
    let content = first
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(rest) = provider_header::strip(content).map(str::to_owned) else {
        return false;
    };
    if rest.is_empty() {
        messages.remove(0);
    } else {
        first.insert("content".to_owned(), Value::String(rest));
    }
    true
}

/// What the template sees. Later entries win, so nothing of the client's can stand in for messages, tools or tokens.
fn context(tokenizer: &Tokenizer, chat: &Chat, messages: Vec<Map<String, Value>>) -> Value {
    let mut context = Map::new();
    if let Some(is_on) = chat.thinking.is_on {
        context.insert("enable_thinking".to_owned(), Value::Bool(is_on));
        context.insert("thinking".to_owned(), Value::Bool(is_on));
    }
    if let Some(effort) = &chat.thinking.effort {
        context.insert("reasoning_effort".to_owned(), Value::String(effort.clone()));
    }
    context.extend(chat.template_variables.clone());
    let special = |id: Option<u32>| {
        let bytes = id.and_then(|id| tokenizer.piece(id)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let own = json!({
        "tools": tools(&chat.tools),
        "add_generation_prompt": !chat.continues_last,
        "bos_token": special(tokenizer.bos()),
        "eos_token": special(tokenizer.eos()),
    });
    if let Value::Object(own) = own {
        context.extend(own);
    }
    context.entry("documents").or_insert(Value::Null);
    let messages = messages.into_iter().map(Value::Object).collect();
    context.insert("messages".to_owned(), Value::Array(messages));
    Value::Object(context)
}

/// Tools in the form templates know; null without.
fn tools(tools: &[Tool]) -> Value {
    if tools.is_empty() {
        return Value::Null;
    }
    let one = |tool: &Tool| {
        let mut function = Map::new();
        function.insert("name".to_owned(), json!(tool.name));
        if let Some(description) = &tool.description {
            function.insert("description".to_owned(), json!(description));
        }
        let none = || json!({"type": "object", "properties": {}});
        function.insert(
            "parameters".to_owned(),
            tool.parameters.clone().unwrap_or_else(none),
        );
        json!({"type": "function", "function": function})
    };
    tools.iter().map(one).collect()
}

/// Refuses variables that mean something else than the client's wishes to a template.
fn check_variables(variables: &Map<String, Value>) -> Result<(), ApiError> {
    /// What hearth puts there, the names templates fetch tools and messages from, and the language's own functions.
    const RESERVED: [&str; 14] = [
        "add_generation_prompt",
        "continue_final_message",
        "chat_template",
        "conversation",
        "functions",
        "raise_exception",
        "strftime_now",
        "namespace",
        "range",
        "dict",
        "loop",
        "cycler",
        "joiner",
        "lipsum",
    ];
    let is_reserved = |name: &str| {
        RESERVED.contains(&name)
            || name.ends_with("_token")
            || name.ends_with("messages")
            || name.contains("tool")
    };
    match variables.keys().find(|name| is_reserved(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::invalid(
            format!("chat_template_kwargs.{name}").as_str(),
            format!("the template variable {name:?} is not the client's to set"),
        )),
    }
}

/// What was asked for and this template does not know.
fn ignored_variables(source: &str, format: &AnswerFormat, chat: &Chat) -> Vec<String> {
    let Thinking { is_on, effort, .. } = &chat.thinking;
    let unknown = |name: &&String| !source.contains(name.as_str());
    let mut ignored: Vec<String> = chat
        .template_variables
        .keys()
        .filter(unknown)
        .map(|name| format!("chat_template_kwargs.{name}"))
        .collect();
    let has_thinking = format.thinking.is_some() || source.contains("thinking");
    if effort.is_some() && !has_thinking && !source.contains("reasoning_effort") {
        ignored.push("reasoning_effort".to_owned());
    } else if *is_on == Some(true) && !has_thinking {
        ignored.push("thinking".to_owned());
    }
    ignored
}

fn template_error(error: TemplateError) -> ApiError {
    match error {
        TemplateError::Sandbox(_) | TemplateError::Panicked { .. } => ApiError::internal(error),
        other => ApiError::invalid("messages", other.to_string()),
    }
}

#[cfg(test)]
mod tests;
