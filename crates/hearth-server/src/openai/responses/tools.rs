//! Tools and the choice between them, as `/v1/responses` writes them.
//!
//! Functions are offered, also those that stand in a `namespace` if their names say which is meant. All other kinds are run by
//! a service or written in a form that no local model knows: left out, and named in the notice.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    exchange::{Tool, ToolChoice},
    fields::Fields,
    limits::Limits,
    notice::Notices,
    openai::tools::read_function,
};

/// What a client says about a function and does not change what the model is offered.
const NO_EFFECT: &[&str] = &["defer_loading", "allowed_callers", "output_schema"];

/// What can be offered of `tools`.
#[derive(Debug, Default)]
pub struct Tools {
    /// The functions.
    pub offered: Vec<Tool>,
    /// Namespace of those that stand in one.
    pub namespaces: HashMap<String, String>,
    /// The tools as they were given, those that were left out excepted.
    pub given: Vec<Value>,
}

/// A function and where it stands.
struct Found {
    tool: Tool,
    namespace: Option<String>,
}

/// `tools`.
///
/// # Errors
///
/// A function without a name, with parameters that are no schema, or with the name of another one beside it.
pub fn read(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Tools, ApiError> {
    let list = fields
        .array("tools")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut found = Vec::new();
    let mut given = Vec::new();
    for (index, tool) in list.iter().enumerate() {
        let n_before = found.len();
        read_one(tool, format!("tools[{index}]"), None, &mut found, notices)?;
        if found.len() > n_before {
            given.push(tool.clone());
        }
        if found.len() > limits.tools {
            return Err(fields.too_many("tools", found.len(), limits.tools));
        }
    }
    let (offered, namespaces) = unambiguous(found, notices);
    Ok(Tools {
        offered,
        namespaces,
        given,
    })
}

fn read_one(
    tool: &Value,
    path: String,
    namespace: Option<&str>,
    found: &mut Vec<Found>,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let Value::Object(object) = tool else {
        let message = format!(
            "'{path}' must be an object, not {}",
            crate::fields::describe(tool)
        );
        return Err(ApiError::invalid(path.as_str(), message));
    };
    let mut fields = Fields::within(object, path);
    let kind = fields.text("type")?;
    match fields.required("type", kind)? {
        "function" => {
            let tool = read_function(&mut fields)?;
            fields.no_effect(NO_EFFECT, notices);
            if found.iter().any(|other| {
                other.tool.name == tool.name && other.namespace.as_deref() == namespace
            }) {
                return Err(fields.invalid(
                    "name",
                    format!("{:?} is the name of another function too", tool.name),
                ));
            }
            found.push(Found {
                tool,
                namespace: namespace.map(str::to_owned),
            });
            fields.finish(notices);
        }
        "namespace" if namespace.is_none() => {
            read_namespace(&mut fields, found, notices)?;
            fields.finish(notices);
        }
        kind => notices.dropped_tool(kind),
    }
    Ok(())
}

fn read_namespace(
    fields: &mut Fields<'_>,
    found: &mut Vec<Found>,
    notices: &mut Notices,
) -> Result<(), ApiError> {
    let name = fields.text("name")?;
    let name = fields.required("name", name)?;
    fields.text("description")?;
    let tools = fields
        .array("tools")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let path = fields.path_of(&format!("tools[{index}]"));
        read_one(tool, path, Some(name), found, notices)?;
    }
    Ok(())
}

/// A model says a function's name only, so of several with one name the one outside all namespaces stays, or none.
fn unambiguous(found: Vec<Found>, notices: &mut Notices) -> (Vec<Tool>, HashMap<String, String>) {
    let mut seen = HashSet::new();
    let twice: HashSet<String> = found
        .iter()
        .filter(|found| !seen.insert(&found.tool.name))
        .map(|found| found.tool.name.clone())
        .collect();
    let mut tools = Vec::new();
    let mut namespaces = HashMap::new();
    for Found { tool, namespace } in found {
        match namespace {
            None => tools.push(tool),
            Some(namespace) if twice.contains(&tool.name) => {
                notices.dropped_tool(format!("{namespace}.{}", tool.name))
            }
            Some(namespace) => {
                namespaces.insert(tool.name.clone(), namespace);
                tools.push(tool);
            }
        }
    }
    (tools, namespaces)
}

/// `tool_choice`.
///
/// # Errors
///
/// An unknown word, a name that is no function's, or a call demanded where none is offered.
pub fn choice(
    fields: &mut Fields<'_>,
    tools: &[Tool],
    notices: &mut Notices,
) -> Result<ToolChoice, ApiError> {
    let Some(value) = fields.value("tool_choice") else {
        return Ok(ToolChoice::Auto);
    };
    match value {
        Value::String(word) => {
            choice_of_word(word, tools).map_err(|message| fields.invalid("tool_choice", message))
        }
        Value::Object(object) => choice_of_object(object, tools, notices),
        other => Err(fields.wrong("tool_choice", "a word or an object", other)),
    }
}

fn choice_of_word(word: &str, tools: &[Tool]) -> Result<ToolChoice, String> {
    match word {
        "none" => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        "required" if tools.is_empty() => Err("asks for a call, but no function is offered".into()),
        "required" => Ok(ToolChoice::Required),
        word => Err(format!(
            "must be none, auto, required or an object, not {word:?}"
        )),
    }
}

fn choice_of_object(
    object: &Map<String, Value>,
    tools: &[Tool],
    notices: &mut Notices,
) -> Result<ToolChoice, ApiError> {
    let mut fields = Fields::within(object, "tool_choice");
    let kind = fields.text("type")?;
    let choice = match fields.required("type", kind)? {
        "function" => ToolChoice::RequiredOf(vec![function_name(&mut fields, tools)?]),
        "allowed_tools" => allowed(&mut fields, tools)?,
        kind => {
            return Err(
                fields.invalid("type", format!("is {kind:?}; only functions can be called"))
            );
        }
    };
    fields.finish(notices);
    Ok(choice)
}

/// The mode, and those of the named tools that are functions.
fn allowed(fields: &mut Fields<'_>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let mode = fields.one_of("mode", &["auto", "required"])?;
    let mode = fields.required("mode", mode)?;
    let list = fields.array("tools")?;
    let list = fields.required("tools", list)?;
    let mut names = Vec::new();
    for (index, tool) in list.iter().enumerate() {
        let path = fields.path_of(&format!("tools[{index}]"));
        let Value::Object(object) = tool else {
            return Err(fields.wrong(&format!("tools[{index}]"), "an object", tool));
        };
        let mut inner = Fields::within(object, path);
        if inner.text("type")? == Some("function") {
            names.push(function_name(&mut inner, tools)?);
        }
    }
    match mode {
        "required" if names.is_empty() => {
            Err(fields.invalid("tools", "names no function, but a call is asked for"))
        }
        "required" => Ok(ToolChoice::RequiredOf(names)),
        _ if names.is_empty() => Ok(ToolChoice::None),
        _ => Ok(ToolChoice::AutoOf(names)),
    }
}

fn function_name(fields: &mut Fields<'_>, tools: &[Tool]) -> Result<String, ApiError> {
    let name = fields.string("name")?;
    let name = fields.required("name", name)?;
    match tools.iter().any(|tool| tool.name == name) {
        true => Ok(name),
        false => Err(fields.invalid(
            "name",
            format!("names no function that is offered: {name:?}"),
        )),
    }
}
