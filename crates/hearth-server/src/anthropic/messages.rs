//! Messages and their blocks, as the conversation that chat templates know.
//!
//! Here results of calls stand in messages of the user, there each is a message of its own; here consecutive messages
//! of one role are one turn. A result that reports an error says so to the model in its first word, as templates have no other
//! place for it.

use serde_json::{Map, Value};

use crate::{
    conversation::{BETWEEN, Conversation},
    error::ApiError,
    fields::Fields,
    notice::Notices,
};

/// Blocks that only the provider itself writes or reads. In a conversation that was begun there they are left out.
const PROVIDERS: &[&str] = &[
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "compaction",
    "fallback",
];

/// Reads `system`, before any message.
///
/// # Errors
///
/// It is neither a text nor a list of texts.
pub fn add_system(
    conversation: &mut Conversation,
    system: &Value,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let text = text_of(system, "system", notices)?;
    if !text.is_empty() {
        conversation.say("system", &text);
    }
    Ok(())
}

/// Reads the next message.
///
/// # Errors
///
/// An unknown role or block, or content that cannot be shown to a model.
pub fn add(
    conversation: &mut Conversation,
    message: &Value,
    index: usize,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let path = format!("messages[{index}]");
    let mut fields = Fields::within(object(message, &path)?, path.clone());
    let role = fields.one_of("role", &["user", "assistant", "system"])?;
    let role = fields.required("role", role)?;
    if role == "system" && index == 0 {
        // Agents send such messages later on; what comes first has a field of its own.
        return Err(fields.invalid(
            "role",
            "must be user or assistant in the first message; use the field 'system'",
        ));
    }
    let content = fields.value("content");
    let content = fields.required("content", content)?;
    fields.finish(notices);
    let blocks = match content {
        Value::String(text) => {
            conversation.append(role, "content", text);
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        other => {
            return Err(wrong(
                &format!("{path}.content"),
                "a string or an array of blocks",
                other,
            ));
        }
    };
    if blocks.is_empty() {
        conversation.turn(role);
    }
    for (index, block) in blocks.iter().enumerate() {
        add_block(
            conversation,
            role,
            block,
            format!("{path}.content[{index}]"),
            notices,
        )?;
    }
    Ok(())
}

fn add_block(
    conversation: &mut Conversation,
    role: &'static str,
    block: &Value,
    path: String,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let mut fields = Fields::within(object(block, &path)?, path);
    let kind = fields.text("type")?;
    let kind = fields.required("type", kind)?;
    match (role, kind) {
        (_, "text") => {
            let text = fields.text("text")?;
            conversation.append(role, "content", fields.required("text", text)?);
        }
        ("user", "tool_result") => add_result(conversation, &mut fields, notices)?,
        ("user", "document" | "search_result" | "image") => {
            let text = readable(kind, &mut fields, notices)?;
            conversation.append(role, "content", &text);
        }
        ("assistant", "tool_use") => add_call(conversation, &mut fields)?,
        ("assistant", "thinking") => {
            let text = fields.text("thinking")?;
            conversation.append(
                role,
                "reasoning_content",
                fields.required("thinking", text)?,
            );
            // Whatever it says: see `signature`.
            fields.value("signature");
        }
        (_, kind) if PROVIDERS.contains(&kind) => {
            notices.ignored(kind);
            return Ok(());
        }
        (role, kind) => {
            return Err(fields.invalid(
                "type",
                format!("is {kind:?}, which is no block of a {role} message"),
            ));
        }
    }
    finish_block(fields, notices);
    Ok(())
}

fn add_call(conversation: &mut Conversation, fields: &mut Fields<'_>) -> Result<(), ApiError> {
    let id = fields.text("id")?;
    let id = fields.required("id", id)?;
    let name = fields.text("name")?;
    let name = fields.required("name", name)?;
    let input = fields.object("input")?.cloned().unwrap_or_default();
    // Who called it; here always the model.
    fields.value("caller");
    conversation.call(id, name, input.into());
    Ok(())
}

fn add_result(
    conversation: &mut Conversation,
    fields: &mut Fields<'_>,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let id = fields.text("tool_use_id")?;
    let id = fields.required("tool_use_id", id)?;
    let is_error = fields.bool("is_error")?.unwrap_or(false);
    let mut text = match fields.value("content") {
        None => String::new(),
        Some(content) => text_of(content, &fields.path_of("content"), notices)?,
    };
    if is_error {
        text.insert_str(0, "Error: ");
    }
    conversation.result(id, &text);
    Ok(())
}

/// A text, or the texts of a list of blocks.
fn text_of(content: &Value, path: &str, notices: &mut Notices) -> Result<String, ApiError> {
    let blocks = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(path, "a string or an array of blocks", other)),
    };
    let mut texts = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let mut fields = Fields::within(object(block, &path)?, path);
        let kind = fields.text("type")?;
        let kind = fields.required("type", kind)?;
        texts.push(readable(kind, &mut fields, notices)?);
        finish_block(fields, notices);
    }
    Ok(texts.join(BETWEEN))
}

/// What a model can read of a block.
fn readable(
    kind: &str,
    fields: &mut Fields<'_>,
    notices: &mut Notices,
) -> Result<String, ApiError> {
    match kind {
        "text" => {
            let text = fields.string("text")?;
            fields.required("text", text)
        }
        "document" => document(fields, notices),
        "search_result" => {
            let (title, source) = (fields.string("title")?, fields.string("source")?);
            let content = fields.value("content");
            let text = text_of(
                fields.required("content", content)?,
                &fields.path_of("content"),
                notices,
            )?;
            Ok(lines([title, source, Some(text)]))
        }
        "tool_reference" => {
            let name = fields.string("tool_name")?;
            fields.required("tool_name", name)
        }
        "image" => Err(fields.invalid("type", "is \"image\", and the models here read text only")),
        kind => Err(fields.invalid(
            "type",
            format!("is {kind:?}, which is no block that can stand here"),
        )),
    }
}

/// A document that is plain text, with what is said about it in front.
fn document(fields: &mut Fields<'_>, notices: &mut Notices) -> Result<String, ApiError> {
    let (title, context) = (fields.string("title")?, fields.string("context")?);
    let source = fields.object("source")?;
    let mut source = Fields::within(fields.required("source", source)?, fields.path_of("source"));
    let kind = source.text("type")?;
    let text = match source.required("type", kind)? {
        "text" => {
            let data = source.string("data")?;
            source.value("media_type");
            source.required("data", data)?
        }
        "content" => {
            let content = source.value("content");
            text_of(
                source.required("content", content)?,
                &source.path_of("content"),
                notices,
            )?
        }
        other => {
            return Err(source.invalid(
                "type",
                format!(
                    "is {other:?}; only documents of plain text, sent with the request, can be read"
                ),
            ));
        }
    };
    source.finish(notices);
    Ok(lines([title, context, Some(text)]))
}

/// Those that are there, a line each.
fn lines<const N: usize>(texts: [Option<String>; N]) -> String {
    texts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Names what had no effect in a block; marks for the cache stand in many and are named once.
fn finish_block(mut fields: Fields<'_>, notices: &mut Notices) {
    for name in ["cache_control", "citations"] {
        if fields.value(name).is_some() {
            notices.ignored(name);
        }
    }
    fields.finish(notices);
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, ApiError> {
    value
        .as_object()
        .ok_or_else(|| wrong(path, "an object", value))
}

fn wrong(path: &str, wanted: &str, found: &Value) -> ApiError {
    ApiError::invalid(
        path,
        format!(
            "'{path}' must be {wanted}, not {}",
            crate::fields::describe(found)
        ),
    )
}
