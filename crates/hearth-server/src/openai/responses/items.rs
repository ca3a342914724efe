//! Items of `/v1/responses`, as they are kept and as the conversation that chat templates know.

use serde_json::{Map, Value, json};

use crate::{
    conversation::{BETWEEN, Conversation, arguments},
    error::ApiError,
    fields::{Fields, describe},
    ids,
    notice::Notices,
};

/// Calls of kinds that are never offered here, which a conversation begun elsewhere may hold.
const FOREIGN_CALLS: &[&str] = &[
    "custom_tool_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "tool_search_call",
];

/// Their results.
const FOREIGN_RESULTS: &[&str] = &[
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
    "tool_search_output",
];

/// Items that hold nothing a model could read.
const UNREADABLE: &[&str] = &[
    "web_search_call",
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "code_interpreter_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "compaction",
    "compaction_summary",
    "compaction_trigger",
    "context_compaction",
    "additional_tools",
    "program",
    "program_output",
    "ghost_snapshot",
    "other",
];

/// Fields of items that a client sends back as it got them, and that say nothing to a model.
const OURS: &[&str] = &["id", "status", "phase", "namespace", "created_by", "caller"];

/// `input` as a list of items in one form, each with an id.
///
/// # Errors
///
/// It is neither a text nor a list of objects, or there is too much of it.
pub fn normalised(input: &Value, limit: usize) -> Result<Vec<Value>, ApiError> {
    let list = match input {
        Value::String(text) => return Ok(vec![with_id(message(text))]),
        Value::Array(list) => list,
        other => return Err(wrong("input", "a string or an array of items", other)),
    };
    if list.len() > limit {
        let message = format!("'input' has {} entries, the limit is {limit}", list.len());
        return Err(ApiError::invalid("input", message));
    }
    let item = |(index, item): (usize, &Value)| match item {
        Value::Object(item) => Ok(with_id(in_full(item.clone()))),
        other => Err(wrong(&path_of(index), "an object", other)),
    };
    list.iter().enumerate().map(item).collect()
}

/// The path of an item of `input`.
pub fn path_of(index: usize) -> String {
    format!("input[{index}]")
}

fn message(text: &str) -> Map<String, Value> {
    in_full(Map::from_iter([
        ("role".to_owned(), "user".into()),
        ("content".to_owned(), text.into()),
    ]))
}

/// A message with its type, and a plain text as the part that it stands for.
fn in_full(mut item: Map<String, Value>) -> Map<String, Value> {
    let has = |name: &str| item.get(name).is_some_and(|value| !value.is_null());
    if !has("type") {
        // Only these two may leave it out.
        let kind = match has("role") {
            true => Some("message"),
            false => has("id").then_some("item_reference"),
        };
        item.extend(kind.map(|kind| ("type".to_owned(), kind.into())));
    }
    if item.get("type") != Some(&"message".into()) {
        return item;
    }
    let is_answer = item.get("role") == Some(&"assistant".into());
    if let Some(Value::String(text)) = item.get("content") {
        let part = match is_answer {
            true => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
            false => json!({"type": "input_text", "text": text}),
        };
        item.insert("content".into(), json!([part]));
    }
    item
}

fn with_id(mut item: Map<String, Value>) -> Value {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let has_id = item
        .get("id")
        .is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty()));
    if !has_id && kind != "item_reference" {
        let prefix = match kind {
            "message" => "msg_",
            "function_call" => "fc_",
            "function_call_output" => "fco_",
            "reasoning" => "rs_",
            _ => "item_",
        };
        item.insert("id".into(), ids::new(prefix).into());
    }
    item.into()
}

/// Adds an item to a conversation.
///
/// # Errors
///
/// The item is of an unknown type or role, lacks what it needs, or holds what cannot be shown to a model.
pub fn add(
    conversation: &mut Conversation,
    item: &Value,
    path: &str,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let object = item
        .as_object()
        .ok_or_else(|| wrong(path, "an object", item))?;
    let mut fields = Fields::within(object, path);
    let kind = fields.text("type")?;
    let kind = fields.required("type", kind)?;
    for name in OURS {
        fields.value(name);
    }
    match kind {
        "message" => add_message(conversation, &mut fields, notices)?,
        "reasoning" => add_reasoning(conversation, &mut fields, notices)?,
        "function_call" => {
            let (id, name) = (
                required(&mut fields, "call_id")?,
                required(&mut fields, "name")?,
            );
            let text = fields.text("arguments")?;
            conversation.call(id, name, arguments(fields.required("arguments", text)?));
        }
        "function_call_output" => {
            let id = required(&mut fields, "call_id")?;
            let output = fields.value("output");
            let text = text_of(
                fields.required("output", output)?,
                &fields.path_of("output"),
                notices,
            )?;
            conversation.result(id, &text);
        }
        kind if FOREIGN_CALLS.contains(&kind) => {
            return add_foreign_call(conversation, kind, object, &mut fields);
        }
        kind if FOREIGN_RESULTS.contains(&kind) => {
            return add_foreign_result(conversation, object, &mut fields);
        }
        kind if UNREADABLE.contains(&kind) => {
            notices.ignored(kind);
            return Ok(());
        }
        kind => {
            return Err(
                fields.invalid("type", format!("is {kind:?}, which is no item of an input"))
            );
        }
    }
    fields.finish(notices);
    Ok(())
}

fn required<'a>(fields: &mut Fields<'a>, name: &str) -> Result<&'a str, ApiError> {
    let text = fields.text(name)?;
    fields.required(name, text)
}

fn add_message(
    conversation: &mut Conversation,
    fields: &mut Fields<'_>,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let role = fields.one_of("role", &["user", "assistant", "system", "developer"])?;
    let role = fields.required("role", role)?;
    let content = fields.value("content");
    let text = text_of(
        fields.required("content", content)?,
        &fields.path_of("content"),
        notices,
    )?;
    match role {
        "user" => conversation.say("user", &text),
        "assistant" => conversation.append("assistant", "content", &text),
        // One system message is all that some templates take, so those that stand together are one.
        _ => conversation.append("system", "content", &text),
    }
    Ok(())
}

/// Thinking goes back to the template as it was written; what another service encrypted cannot.
fn add_reasoning(
    conversation: &mut Conversation,
    fields: &mut Fields<'_>,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    fields.array("summary")?;
    if fields.text("encrypted_content")?.is_some() {
        notices.ignored("reasoning.encrypted_content");
    }
    if let Some(content) = fields.value("content") {
        let text = text_of(content, &fields.path_of("content"), notices)?;
        if !text.is_empty() {
            conversation.append("assistant", "reasoning_content", &text);
        }
    }
    Ok(())
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value, path: &str, notices: &mut Notices) -> Result<String, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => return Err(wrong(path, "a string or an array of parts", other)),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let object = part
            .as_object()
            .ok_or_else(|| wrong(&path, "an object", part))?;
        let mut fields = Fields::within(object, path);
        let kind = required(&mut fields, "type")?;
        let name = match kind {
            "input_text" | "output_text" | "reasoning_text" | "summary_text" | "text" => "text",
            "refusal" => "refusal",
            "input_image" | "input_file" | "input_audio" | "computer_screenshot" => {
                return Err(fields.invalid(
                    "type",
                    format!("is {kind:?}, and the models here read text only"),
                ));
            }
            kind => {
                return Err(
                    fields.invalid("type", format!("is {kind:?}, which is no part of a text"))
                );
            }
        };
        texts.push(required(&mut fields, name)?);
        for name in ["annotations", "logprobs"] {
            fields.value(name);
        }
        fields.finish(notices);
    }
    Ok(texts.join(BETWEEN))
}

/// To the model a call like any other, whose arguments are all that it says.
fn add_foreign_call(
    conversation: &mut Conversation,
    kind: &str,
    object: &Map<String, Value>,
    fields: &mut Fields<'_>,
) -> Result<(), ApiError> {
    let id = foreign_id(fields)?;
    let name = fields
        .text("name")?
        .unwrap_or(kind.trim_end_matches("_call"));
    conversation.call(id, name, what_it_says(object).into());
    Ok(())
}

fn add_foreign_result(
    conversation: &mut Conversation,
    object: &Map<String, Value>,
    fields: &mut Fields<'_>,
) -> Result<(), ApiError> {
    let id = foreign_id(fields)?;
    match fields.value("output") {
        Some(Value::String(text)) => conversation.result(id, text),
        _ => conversation.result(id, &Value::Object(what_it_says(object)).to_string()),
    }
    Ok(())
}

/// Some have no `call_id` and go by their own.
fn foreign_id<'a>(fields: &mut Fields<'a>) -> Result<&'a str, ApiError> {
    match fields.text("call_id")? {
        Some(id) => Ok(id),
        None => required(fields, "id"),
    }
}

fn what_it_says(object: &Map<String, Value>) -> Map<String, Value> {
    let is_said =
        |name: &str| !OURS.contains(&name) && !["type", "call_id", "name"].contains(&name);
    let said = object.iter().filter(|(name, _)| is_said(name));
    said.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn wrong(path: &str, wanted: &str, found: &Value) -> ApiError {
    ApiError::invalid(
        path,
        format!("'{path}' must be {wanted}, not {}", describe(found)),
    )
}

#[cfg(test)]
mod tests;
