//! A conversation as OpenAI's clients write it, in the form of chat templates.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::{error::ApiError, fields::Fields, limits::Limits, notice::Notices};

/// One message of a template.
type Message = Map<String, Value>;

/// `messages`, at least one.
pub(crate) fn messages(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Vec<Message>, ApiError> {
    let list = fields.array("messages")?;
    let list = fields.required("messages", list)?;
    if list.is_empty() {
        return Err(fields.invalid("messages", "must have at least one message"));
    }
    if list.len() > limits.messages {
        return Err(fields.too_many("messages", list.len(), limits.messages));
    }
    let mut names = HashMap::new();
    let mut messages = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let name = format!("messages[{at}]");
        let Value::Object(object) = value else {
            return Err(fields.wrong(&name, "an object", value));
        };
        let mut one = Fields::within(object, name);
        messages.push(message(&mut one, &mut names, notices)?);
        one.finish(notices);
    }
    Ok(messages)
}

/// Whether the last message is one that the model is to go on with.
pub(crate) fn continues_last(messages: &[Message]) -> bool {
    let is_open = |last: &Message| last["role"] == "assistant" && !last.contains_key("tool_calls");
    messages.last().is_some_and(is_open)
}

/// One message; `names` remembers which function each call was of.
fn message(
    fields: &mut Fields<'_>,
    names: &mut HashMap<String, Value>,
    notices: &mut Notices,
) -> Result<Message, ApiError> {
    const ROLES: [&str; 6] = [
        "system",
        "developer",
        "user",
        "assistant",
        "tool",
        "function",
    ];
    let role = fields.one_of("role", &ROLES)?;
    match fields.required("role", role)? {
        "assistant" => assistant(fields, names, notices),
        "tool" => {
            let id = fields.string("tool_call_id")?;
            let id = fields.required("tool_call_id", id)?;
            let mut message = plain(fields, "tool", &["text"], notices)?;
            if let Some(name) = names.get(&id) {
                message.insert("name".to_owned(), name.clone());
            }
            message.insert("tool_call_id".to_owned(), Value::String(id));
            Ok(message)
        }
        "function" => {
            let name = fields.string("name")?;
            let name = fields.required("name", name)?;
            let mut message = plain(fields, "tool", &["text"], notices)?;
            message.insert("name".to_owned(), Value::String(name));
            Ok(message)
        }
        "user" => plain(
            fields,
            "user",
            &["text", "image_url", "input_audio", "file"],
            notices,
        ),
        // Developer and system mean the same, and templates know only one of them.
        _ => plain(fields, "system", &["text"], notices),
    }
}

/// A message of content and perhaps a name.
fn plain(
    fields: &mut Fields<'_>,
    role: &str,
    parts: &[&str],
    notices: &mut Notices,
) -> Result<Message, ApiError> {
    let content = content(fields, parts, notices)?;
    let content = fields.required("content", content)?;
    let mut message = Message::new();
    message.insert("role".to_owned(), json!(role));
    message.insert("content".to_owned(), Value::String(content));
    if let Some(name) = fields.string("name")? {
        message.insert("name".to_owned(), Value::String(name));
    }
    Ok(message)
}

fn assistant(
    fields: &mut Fields<'_>,
    names: &mut HashMap<String, Value>,
    notices: &mut Notices,
) -> Result<Message, ApiError> {
    let content = content(fields, &["text", "refusal"], notices)?;
    let refusal = fields.string("refusal")?;
    let calls = calls(fields, notices)?;
    // Newer name first; vLLM and OpenRouter have another.
    let reasoning = fields.string("reasoning_content")?;
    let reasoning = reasoning
        .or(fields.string("reasoning")?)
        .filter(|text| !text.is_empty());
    let content = match content.or(refusal) {
        Some(content) => content,
        None if !calls.is_empty() || reasoning.is_some() => String::new(),
        None => return Err(fields.invalid("content", "is required where there are no tool_calls")),
    };
    let mut message = Message::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert("content".to_owned(), Value::String(content));
    if let Some(reasoning) = reasoning {
        message.insert("reasoning_content".to_owned(), Value::String(reasoning));
    }
    if let Some(name) = fields.string("name")? {
        message.insert("name".to_owned(), Value::String(name));
    }
    if !calls.is_empty() {
        for call in &calls {
            if let Some(id) = call["id"].as_str() {
                names.insert(id.to_owned(), call["function"]["name"].clone());
            }
        }
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Ok(message)
}

/// `tool_calls`, or the one `function_call` of old.
fn calls(fields: &mut Fields<'_>, notices: &mut Notices) -> Result<Vec<Value>, ApiError> {
    let mut calls = Vec::new();
    let list = fields
        .array("tool_calls")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (at, value) in list.iter().enumerate() {
        let name = format!("tool_calls[{at}]");
        let Value::Object(object) = value else {
            return Err(fields.wrong(&name, "an object", value));
        };
        let mut call = Fields::within(object, fields.path_of(&name));
        call.one_of("type", &["function"])?;
        let id = call.string("id")?.unwrap_or_default();
        let function = call.object("function")?;
        let function = call.required("function", function)?;
        let mut function = Fields::within(function, call.path_of("function"));
        calls.push(json!({"id": id, "type": "function", "function": called(&mut function)?}));
        function.finish(notices);
        // A client that put a stream together sends its places back; the list has them.
        call.value("index");
        call.finish(notices);
    }
    if let Some(function) = fields.object("function_call")? {
        let mut function = Fields::within(function, fields.path_of("function_call"));
        calls.push(json!({"type": "function", "function": called(&mut function)?}));
        function.finish(notices);
    }
    Ok(calls)
}

/// Name and arguments of a call. Templates want an object; text that is none, as of a call that was cut, stays text.
fn called(fields: &mut Fields<'_>) -> Result<Value, ApiError> {
    let name = fields.string("name")?;
    let name = fields.required("name", name)?;
    let arguments = match fields.value("arguments") {
        None => json!({}),
        Some(Value::Object(object)) => Value::Object(object.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Null) => json!({}),
            Ok(value) => value,
            Err(_) => Value::String(text.clone()),
        },
        Some(other) => return Err(fields.wrong("arguments", "JSON as a string", other)),
    };
    Ok(json!({"name": name, "arguments": arguments}))
}

/// `content` as one text: a string, or its text parts with line breaks between them.
fn content(
    fields: &mut Fields<'_>,
    kinds: &[&str],
    notices: &mut Notices,
) -> Result<Option<String>, ApiError> {
    let parts = match fields.value("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(fields.wrong("content", "a string or an array of parts", other)),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let name = format!("content[{at}]");
        let Value::Object(object) = part else {
            return Err(fields.wrong(&name, "an object with a type", part));
        };
        let mut part = Fields::within(object, fields.path_of(&name));
        texts.push(part_text(&mut part, kinds)?);
        part.finish(notices);
    }
    Ok(Some(texts.join("\n")))
}

fn part_text(part: &mut Fields<'_>, kinds: &[&str]) -> Result<String, ApiError> {
    let kind = part.text("type")?;
    let kind = part.required("type", kind)?;
    if !kinds.contains(&kind) {
        let message = format!(
            "must be one of {} in this message, not \"{kind}\"",
            kinds.join(", ")
        );
        return Err(part.invalid("type", message));
    }
    let field = match kind {
        "text" | "refusal" => kind,
        _ => {
            return Err(part.invalid(
                "type",
                format!("is {kind}, and this model reads text alone"),
            ));
        }
    };
    let text = part.string(field)?;
    part.required(field, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: Value) -> Result<Vec<Message>, ApiError> {
        let body = json!({"messages": list});
        let mut notices = Notices::new(false, 8);
        messages(
            &mut Fields::new(body.as_object().unwrap()),
            &Limits::default(),
            &mut notices,
        )
    }

    #[test]
    fn every_legal_form_becomes_a_templates_message() {
        let cases = [
            (
                json!({"role": "developer", "content": "d"}),
                json!({"role": "system", "content": "d"}),
            ),
            (
                json!({"role": "system", "content": [{"type": "text", "text": "d"}]}),
                json!({"role": "system", "content": "d"}),
            ),
            (
                json!({"role": "user", "content": "u", "name": "ada"}),
                json!({"role": "user", "content": "u", "name": "ada"}),
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
                json!({"role": "user", "content": "a\nb"}),
            ),
            (
                json!({"role": "assistant", "content": null, "refusal": "no"}),
                json!({"role": "assistant", "content": "no"}),
            ),
            (
                json!({"role": "assistant", "content": "c", "reasoning": "r"}),
                json!({"role": "assistant", "content": "c", "reasoning_content": "r"}),
            ),
            (
                json!({"role": "assistant", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}},
                    {"id": "2", "function": {"name": "g", "arguments": ""}}]}),
                json!({"role": "assistant", "content": "", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": [2]}}},
                    {"id": "2", "type": "function", "function": {"name": "g", "arguments": {}}}]}),
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"cut"}}]}),
                json!({"role": "assistant", "content": "", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"cut"}}]}),
            ),
            (
                json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}),
                json!({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}),
            ),
            (
                json!({"role": "function", "name": "f", "content": "r"}),
                json!({"role": "tool", "content": "r", "name": "f"}),
            ),
            (
                json!({"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "r"}]}),
                json!({"role": "tool", "content": "r", "tool_call_id": "1"}),
            ),
        ];
        for (message, expected) in cases {
            let found = read(json!([message])).unwrap();
            assert_eq!(Value::Object(found[0].clone()), expected);
        }
    }

    #[test]
    fn what_nobody_reads_is_named_with_its_place() {
        let body = json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "u", "cache_control": {}}], "wings": 2},
            {"role": "assistant", "tool_calls": [
                {"index": 0, "id": "1", "type": "function", "odd": 1, "function": {"name": "f", "arguments": "{}", "strict": true}}]},
        ]});
        let mut notices = Notices::new(false, 8);
        let mut fields = Fields::new(body.as_object().unwrap());
        messages(&mut fields, &Limits::default(), &mut notices).unwrap();
        assert_eq!(
            notices.header().unwrap(),
            "ignored=messages[0].content[0].cache_control; ignored=messages[0].wings; \
             ignored=messages[1].tool_calls[0].function.strict; ignored=messages[1].tool_calls[0].odd"
        );
    }

    #[test]
    fn a_result_learns_the_name_of_its_function() {
        let found = read(json!([
            {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "x", "content": "r"}]))
        .unwrap();
        assert_eq!(found[1]["name"], "look");
    }

    #[test]
    fn whatever_else_is_refused_with_its_place() {
        let cases = [
            (json!([]), "messages"),
            (json!({}), "messages"),
            (json!(["hi"]), "messages[0]"),
            (json!([{"content": "x"}]), "messages[0].role"),
            (
                json!([{"role": "banana", "content": "x"}]),
                "messages[0].role",
            ),
            (json!([{"role": "user"}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": 5}]),
                "messages[0].content",
            ),
            (
                json!([{"role": "user", "content": {}}]),
                "messages[0].content",
            ),
            (
                json!([{"role": "user", "content": ["x"]}]),
                "messages[0].content[0]",
            ),
            (
                json!([{"role": "user", "content": [{"type": "banana"}]}]),
                "messages[0].content[0].type",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "messages[0].content[0].text",
            ),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]),
                "messages[0].content[0].type",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]),
                "messages[0].content[0].type",
            ),
            (json!([{"role": "assistant"}]), "messages[0].content"),
            (
                json!([{"role": "assistant", "content": null}]),
                "messages[0].content",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{"function": {}}]}]),
                "messages[0].tool_calls[0].function.name",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{"type": "custom"}]}]),
                "messages[0].tool_calls[0].type",
            ),
            (
                json!([{"role": "user", "content": "x"}, {"role": "tool", "content": "r"}]),
                "messages[1].tool_call_id",
            ),
            (
                json!([{"role": "function", "content": "r"}]),
                "messages[0].name",
            ),
        ];
        for (list, param) in cases {
            let error = read(list.clone()).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(param)),
                "{list}"
            );
        }
        let missing = json!({});
        let mut notices = Notices::new(false, 8);
        let error = messages(
            &mut Fields::new(missing.as_object().unwrap()),
            &Limits::default(),
            &mut notices,
        );
        assert_eq!(error.unwrap_err().param.as_deref(), Some("messages"));
    }

    #[test]
    fn only_an_open_turn_of_the_assistant_is_continued() {
        let is_open = |list| continues_last(&read(list).unwrap());
        assert!(is_open(
            json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}])
        ));
        assert!(!is_open(json!([{"role": "user", "content": "u"}])));
        let call =
            json!({"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        assert!(!is_open(
            json!([{"role": "assistant", "content": "a", "tool_calls": [call]}])
        ));
    }
}
