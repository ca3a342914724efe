//! Messages and tools as Ollama writes them, in the form of chat templates.
//!
//! Calls and results may come without ids. They get some here, in order, because some templates insist.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::{
    error::ApiError, exchange::Tool, fields::Fields, limits::Limits, notice::Notices,
    openai::tools::read_function,
};

/// A call that waits for its result.
struct Pending {
    id: String,
    name: String,
}

/// Reads `messages`.
pub(super) fn messages(
    list: &[Value],
    body: &Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Vec<Map<String, Value>>, ApiError> {
    if list.len() > limits.messages {
        return Err(body.too_many("messages", list.len(), limits.messages));
    }
    let mut pending = VecDeque::new();
    let mut n_calls = 0;
    let mut out = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let mut fields = body.entry("messages", at, value)?;
        out.push(message(&mut fields, &mut pending, &mut n_calls, notices)?);
        fields.finish(notices);
    }
    Ok(out)
}

fn message(
    fields: &mut Fields<'_>,
    pending: &mut VecDeque<Pending>,
    n_calls: &mut usize,
    notices: &mut Notices,
) -> Result<Map<String, Value>, ApiError> {
    let role = fields.one_of("role", &["system", "user", "assistant", "tool"])?;
    let role = fields.required("role", role)?;
    let content = fields.text("content")?;
    no_images(fields)?;
    let thinking = fields.text("thinking")?;
    let calls = calls(fields, n_calls, notices)?;
    if content.is_none() && calls.is_empty() && thinking.is_none() {
        return Err(fields.invalid("content", "is required"));
    }
    let mut message = Map::new();
    message.insert("role".into(), role.into());
    message.insert("content".into(), content.unwrap_or_default().into());
    match role {
        "assistant" => {
            if let Some(thinking) = thinking.filter(|text| !text.is_empty()) {
                message.insert("reasoning_content".into(), thinking.into());
            }
            add_calls(calls, &mut message, pending);
        }
        "tool" => add_result(fields, &mut message, pending)?,
        _ => {}
    }
    Ok(message)
}

/// Images are for models that see.
pub(super) fn no_images(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    match fields.array("images")? {
        Some(images) if !images.is_empty() => {
            Err(fields.invalid("images", "are not for this model: it reads text only"))
        }
        _ => Ok(()),
    }
}

/// A call of the assistant's, as templates know it.
struct Call {
    pending: Pending,
    value: Value,
}

fn calls(
    fields: &mut Fields<'_>,
    n_calls: &mut usize,
    notices: &mut Notices,
) -> Result<Vec<Call>, ApiError> {
    let list = fields
        .array("tool_calls")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    let read = |(at, value): (usize, &Value)| {
        let mut call = fields.entry("tool_calls", at, value)?;
        let read = read_call(&mut call, n_calls, notices)?;
        call.finish(notices);
        Ok(read)
    };
    list.iter().enumerate().map(read).collect()
}

fn read_call(
    fields: &mut Fields<'_>,
    n_calls: &mut usize,
    notices: &mut Notices,
) -> Result<Call, ApiError> {
    let id = fields.string("id")?.filter(|id| !id.is_empty());
    fields.one_of("type", &["function"])?;
    let function = fields.object("function")?;
    let function = fields.required("function", function)?;
    let mut function = Fields::within(function, fields.path_of("function"));
    let name = function.string("name")?;
    let name = function.required("name", name)?;
    let arguments = function.object("arguments")?.cloned().unwrap_or_default();
    // Clients hand back the index and the description that some servers put there.
    function.value("index");
    function.value("description");
    function.finish(notices);
    *n_calls += 1;
    let id = id.unwrap_or_else(|| format!("call_{n_calls}"));
    let value =
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    Ok(Call {
        pending: Pending { id, name },
        value,
    })
}

fn add_calls(calls: Vec<Call>, message: &mut Map<String, Value>, pending: &mut VecDeque<Pending>) {
    if calls.is_empty() {
        return;
    }
    // Results belong to the calls just before them.
    pending.clear();
    let mut values = Vec::with_capacity(calls.len());
    for call in calls {
        pending.push_back(call.pending);
        values.push(call.value);
    }
    message.insert("tool_calls".into(), values.into());
}

/// A result names its call by id, by the function's name, or comes in the order of the calls.
fn add_result(
    fields: &mut Fields<'_>,
    message: &mut Map<String, Value>,
    pending: &mut VecDeque<Pending>,
) -> Result<(), ApiError> {
    let id = fields.string("tool_call_id")?.filter(|id| !id.is_empty());
    let tool_name = fields.string("tool_name")?;
    let name = fields.string("name")?.or(tool_name);
    let at = pending.iter().position(|call| match (&id, &name) {
        (Some(id), _) => call.id == *id,
        (None, Some(name)) => call.name == *name,
        (None, None) => true,
    });
    let call = at.and_then(|at| pending.remove(at));
    let (call_id, call_name) = call.map(|call| (call.id, call.name)).unzip();
    if let Some(id) = id.or(call_id) {
        message.insert("tool_call_id".into(), id.into());
    }
    if let Some(name) = name.or(call_name) {
        message.insert("name".into(), name.into());
    }
    Ok(())
}

/// Reads `tools`.
pub(super) fn tools(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Vec<Tool>, ApiError> {
    let list = fields
        .array("tools")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    if list.len() > limits.tools {
        return Err(fields.too_many("tools", list.len(), limits.tools));
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let mut tool = fields.entry("tools", at, value)?;
        let kind = tool.text("type")?.unwrap_or("function");
        if kind != "function" {
            notices.dropped_tool(kind);
            continue;
        }
        let function = tool.object("function")?;
        let function = tool.required("function", function)?;
        let mut function = Fields::within(function, tool.path_of("function"));
        let read = read_function(&mut function)?;
        if tools.iter().any(|known| known.name == read.name) {
            return Err(function.invalid(
                "name",
                format!("is \"{}\", as another tool's is", read.name),
            ));
        }
        function.finish(notices);
        tool.finish(notices);
        tools.push(read);
    }
    Ok(tools)
}
