//! Tools and the choice between them, as `/v1/messages` writes them.

use std::collections::HashSet;

use crate::{
    error::ApiError,
    exchange::{Tool, ToolChoice},
    fields::Fields,
    limits::Limits,
    notice::Notices,
};

/// What a client says about a tool and does not change what the model is offered.
const NO_EFFECT: &[&str] = &[
    "defer_loading",
    "eager_input_streaming",
    "input_examples",
    "allowed_callers",
];

/// The longest name.
const MAX_NAME: usize = 128;

/// Which tools may be called, and how many at a time.
#[derive(Debug, PartialEq)]
pub struct Choice {
    /// Which.
    pub tools: ToolChoice,
    /// Whether one answer may hold several calls.
    pub is_parallel: bool,
}

/// `tools`, those left out that only the provider itself can run.
///
/// # Errors
///
/// A tool without a name or a schema, or a name twice.
pub fn read(
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
    let mut tools = Vec::with_capacity(list.len());
    let mut names = HashSet::new();
    for (index, tool) in list.iter().enumerate() {
        let mut inner = fields.entry("tools", index, tool)?;
        let kind = inner.text("type")?.unwrap_or("custom");
        if kind != "custom" {
            notices.dropped_tool(kind);
            continue;
        }
        let tool = read_one(&mut inner, notices)?;
        if !names.insert(tool.name.clone()) {
            return Err(inner.invalid(
                "name",
                format!("{:?} is the name of another tool too", tool.name),
            ));
        }
        inner.finish(notices);
        tools.push(tool);
    }
    Ok(tools)
}

fn read_one(fields: &mut Fields<'_>, notices: &mut Notices) -> Result<Tool, ApiError> {
    let name = fields.string("name")?;
    let name = fields.required("name", name)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
        return Err(fields.invalid(
            "name",
            format!("must be 1 to {MAX_NAME} letters, digits, '_' or '-'"),
        ));
    }
    let schema = fields.object("input_schema")?;
    let schema = fields.required("input_schema", schema)?;
    let tool = Tool {
        name,
        description: fields.string("description")?,
        parameters: Some(schema.clone().into()),
        is_strict: fields.bool("strict")?.unwrap_or(false),
    };
    if fields.value("cache_control").is_some() {
        notices.ignored("cache_control");
    }
    fields.no_effect(NO_EFFECT, notices);
    Ok(tool)
}

/// `tool_choice`.
///
/// # Errors
///
/// An unknown word, a name that is no tool's, or a call demanded where no tool is offered.
pub fn choice(
    fields: &mut Fields<'_>,
    tools: &[Tool],
    notices: &mut Notices,
) -> Result<Choice, ApiError> {
    let mut choice = Choice {
        tools: ToolChoice::Auto,
        is_parallel: true,
    };
    let Some(object) = fields.object("tool_choice")? else {
        return Ok(choice);
    };
    let mut inner = Fields::within(object, "tool_choice");
    let kind = inner.one_of("type", &["auto", "any", "tool", "none"])?;
    let kind = inner.required("type", kind)?;
    let name = inner.string("name")?;
    choice.is_parallel = !inner.bool("disable_parallel_tool_use")?.unwrap_or(false);
    choice.tools = match kind {
        "none" => ToolChoice::None,
        "auto" => ToolChoice::Auto,
        "any" if tools.is_empty() => {
            return Err(inner.invalid("type", "asks for a call, but no tool is offered"));
        }
        "any" => ToolChoice::Required,
        _ => {
            let name = inner.required("name", name)?;
            if !tools.iter().any(|tool| tool.name == name) {
                return Err(
                    inner.invalid("name", format!("names no tool that is offered: {name:?}"))
                );
            }
            ToolChoice::RequiredOf(vec![name])
        }
    };
    inner.finish(notices);
    Ok(choice)
}
