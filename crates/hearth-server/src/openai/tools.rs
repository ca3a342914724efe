//! Tools and the choice among them, in the new form and the old (`functions`, `function_call`).

use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    exchange::{Tool, ToolChoice},
    fields::Fields,
    limits::Limits,
    notice::Notices,
};

/// The longest name of a function.
const MAX_NAME: usize = 64;

/// What may be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tools {
    /// The functions.
    pub(crate) list: Vec<Tool>,
    /// Which of them.
    pub(crate) choice: ToolChoice,
    /// Whether several in one answer.
    pub(crate) is_parallel: bool,
}

/// Reads all fields about tools.
pub(crate) fn tools(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Tools, ApiError> {
    let new = fields.array("tools")?;
    let old = fields.array("functions")?;
    let is_parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    if new.is_some() && old.is_some() {
        return Err(fields.invalid("functions", "is the old form of tools; send one of them"));
    }
    let Some(functions) = old else {
        let list = new_list(
            fields,
            new.map(Vec::as_slice).unwrap_or_default(),
            limits,
            notices,
        )?;
        let choice = choice(fields, &list, notices)?;
        fields.no_effect(&["function_call"], notices);
        return Ok(Tools {
            list,
            choice,
            is_parallel,
        });
    };
    let list = old_list(fields, functions, limits, notices)?;
    let choice = old_choice(fields, &list)?;
    fields.no_effect(&["tool_choice"], notices);
    Ok(Tools {
        list,
        choice,
        is_parallel: false,
    })
}

fn new_list(
    fields: &Fields<'_>,
    list: &[Value],
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Vec<Tool>, ApiError> {
    check_length(fields, "tools", list, limits)?;
    let mut tools = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let mut tool = Fields::within(
            object(fields, &format!("tools[{at}]"), value)?,
            fields.path_of(&format!("tools[{at}]")),
        );
        let kind = tool.text("type")?.unwrap_or("function");
        if kind != "function" {
            notices.dropped_tool(kind);
            continue;
        }
        let function = tool.object("function")?;
        let function = tool.required("function", function)?;
        let mut function = Fields::within(function, tool.path_of("function"));
        add(read_function(&mut function)?, &function, &mut tools)?;
        function.finish(notices);
        tool.finish(notices);
    }
    Ok(tools)
}

fn old_list(
    fields: &Fields<'_>,
    list: &[Value],
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Vec<Tool>, ApiError> {
    check_length(fields, "functions", list, limits)?;
    let mut tools = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let name = format!("functions[{at}]");
        let mut function = Fields::within(object(fields, &name, value)?, fields.path_of(&name));
        add(read_function(&mut function)?, &function, &mut tools)?;
        function.finish(notices);
    }
    Ok(tools)
}

fn check_length(
    fields: &Fields<'_>,
    name: &str,
    list: &[Value],
    limits: &Limits,
) -> Result<(), ApiError> {
    if list.len() > limits.tools {
        return Err(fields.too_many(name, list.len(), limits.tools));
    }
    Ok(())
}

fn object<'a>(
    fields: &Fields<'_>,
    name: &str,
    value: &'a Value,
) -> Result<&'a Map<String, Value>, ApiError> {
    value
        .as_object()
        .ok_or_else(|| fields.wrong(name, "an object", value))
}

fn add(tool: Tool, fields: &Fields<'_>, tools: &mut Vec<Tool>) -> Result<(), ApiError> {
    if tools.iter().any(|known| known.name == tool.name) {
        return Err(fields.invalid(
            "name",
            format!("is \"{}\", as another tool's is", tool.name),
        ));
    }
    tools.push(tool);
    Ok(())
}

/// `name`, `description`, `parameters`, `strict`.
pub(crate) fn read_function(fields: &mut Fields<'_>) -> Result<Tool, ApiError> {
    let name = fields.string("name")?;
    let name = fields.required("name", name)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        let message = format!("must be 1 to {MAX_NAME} letters, digits, underscores and dashes");
        return Err(fields.invalid("name", message));
    }
    Ok(Tool {
        name,
        description: fields.string("description")?,
        parameters: fields.object("parameters")?.cloned().map(Value::Object),
        is_strict: fields.bool("strict")?.unwrap_or(false),
    })
}

/// `tool_choice`.
fn choice(
    fields: &mut Fields<'_>,
    tools: &[Tool],
    notices: &mut Notices,
) -> Result<ToolChoice, ApiError> {
    let choice = match fields.value("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::Object(object)) => {
            let mut choice = Fields::within(object, fields.path_of("tool_choice"));
            let chosen = chosen(&mut choice, tools)?;
            choice.finish(notices);
            return Ok(chosen);
        }
        Some(_) => match fields.one_of("tool_choice", &["none", "auto", "required"])? {
            Some("none") => ToolChoice::None,
            Some("required") => ToolChoice::Required,
            _ => ToolChoice::Auto,
        },
    };
    if choice == ToolChoice::Required && tools.is_empty() {
        return Err(fields.invalid("tool_choice", "is \"required\", and there are no tools"));
    }
    Ok(choice)
}

/// A choice that names functions.
fn chosen(choice: &mut Fields<'_>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let kind = choice.one_of("type", &["function", "allowed_tools"])?;
    if choice.required("type", kind)? == "function" {
        let name = named(choice, tools)?;
        return Ok(ToolChoice::RequiredOf(vec![name]));
    }
    // The SDKs nest it; the Responses route has it flat.
    let nested = choice.object("allowed_tools")?;
    let mut allowed = match nested {
        Some(object) => Fields::within(object, choice.path_of("allowed_tools")),
        None => return Err(choice.invalid("allowed_tools", "is required")),
    };
    let mode = allowed.one_of("mode", &["auto", "required"])?;
    let list = allowed.array("tools")?;
    let list = allowed.required("tools", list)?;
    let mut names = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let name = format!("tools[{at}]");
        let object = object(&allowed, &name, value)?;
        names.push(named(
            &mut Fields::within(object, allowed.path_of(&name)),
            tools,
        )?);
    }
    if names.is_empty() {
        return Err(allowed.invalid("tools", "must have at least one tool"));
    }
    Ok(match mode {
        Some("required") => ToolChoice::RequiredOf(names),
        _ => ToolChoice::AutoOf(names),
    })
}

/// The name in `{"type": "function", "function": {"name"}}`, which one of the tools must have.
fn named(fields: &mut Fields<'_>, tools: &[Tool]) -> Result<String, ApiError> {
    let function = fields.object("function")?;
    let function = fields.required("function", function)?;
    let mut function = Fields::within(function, fields.path_of("function"));
    offered(&mut function, tools)
}

/// A `name` that one of the tools has.
fn offered(fields: &mut Fields<'_>, tools: &[Tool]) -> Result<String, ApiError> {
    let name = fields.string("name")?;
    let name = fields.required("name", name)?;
    if tools.iter().all(|tool| tool.name != name) {
        return Err(fields.invalid(
            "name",
            format!("is \"{name}\", which none of the tools is called"),
        ));
    }
    Ok(name)
}

/// `function_call`.
fn old_choice(fields: &mut Fields<'_>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    match fields.value("function_call") {
        None => Ok(ToolChoice::Auto),
        Some(Value::Object(object)) => {
            let mut choice = Fields::within(object, fields.path_of("function_call"));
            Ok(ToolChoice::RequiredOf(vec![offered(&mut choice, tools)?]))
        }
        Some(_) => Ok(match fields.one_of("function_call", &["none", "auto"])? {
            Some("none") => ToolChoice::None,
            _ => ToolChoice::Auto,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<(Tools, Notices), ApiError> {
        let mut notices = Notices::new(false, 8);
        let mut fields = Fields::new(body.as_object().unwrap());
        let tools = tools(&mut fields, &Limits::default(), &mut notices)?;
        Ok((tools, notices))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}, "strict": true}})
    }

    #[test]
    fn every_choice_is_read() {
        let named = json!({"type": "function", "function": {"name": "b"}});
        let allowed = |mode: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named]}});
        let cases = [
            (Value::Null, ToolChoice::Auto),
            (json!("auto"), ToolChoice::Auto),
            (json!("none"), ToolChoice::None),
            (json!("required"), ToolChoice::Required),
            (named.clone(), ToolChoice::RequiredOf(vec!["b".into()])),
            (allowed("auto"), ToolChoice::AutoOf(vec!["b".into()])),
            (
                allowed("required"),
                ToolChoice::RequiredOf(vec!["b".into()]),
            ),
        ];
        for (choice, expected) in cases {
            let body = json!({"tools": [function("a"), function("b")], "tool_choice": choice});
            let (tools, notices) = read(&body).unwrap();
            assert_eq!(tools.choice, expected);
            assert!(tools.is_parallel && notices.is_empty());
            assert_eq!(tools.list[1].name, "b");
            assert!(tools.list[1].is_strict);
        }
    }

    #[test]
    fn the_old_form_is_one_call_at_a_time() {
        let body = json!({"functions": [{"name": "a", "description": "d"}], "function_call": {"name": "a"}});
        let (tools, _) = read(&body).unwrap();
        assert_eq!(tools.choice, ToolChoice::RequiredOf(vec!["a".into()]));
        assert!(!tools.is_parallel);
        assert_eq!(
            (
                tools.list[0].description.as_deref(),
                &tools.list[0].parameters
            ),
            (Some("d"), &None)
        );
    }

    #[test]
    fn tools_of_other_kinds_are_left_out_and_named() {
        let body = json!({"tools": [{"type": "web_search"}, function("a")]});
        let (tools, notices) = read(&body).unwrap();
        assert_eq!(tools.list.len(), 1);
        assert_eq!(notices.header().unwrap(), "dropped-tool=web_search");
    }

    #[test]
    fn what_nobody_reads_is_named_with_its_place() {
        let mut tool = function("a");
        tool["odd"] = json!(1);
        let choice = json!({"type": "function", "function": {"name": "a"}, "wings": 2});
        let (_, notices) = read(&json!({"tools": [tool], "tool_choice": choice})).unwrap();
        assert_eq!(
            notices.header().unwrap(),
            "ignored=tools[0].odd; ignored=tool_choice.wings"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let tools = || json!([function("a")]);
        let cases = [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": ["a"]}), "tools[0]"),
            (
                json!({"tools": [{"type": "function"}]}),
                "tools[0].function",
            ),
            (
                json!({"tools": [{"type": "function", "function": {}}]}),
                "tools[0].function.name",
            ),
            (json!({"tools": [function("")]}), "tools[0].function.name"),
            (
                json!({"tools": [function("a b")]}),
                "tools[0].function.name",
            ),
            (
                json!({"tools": [function(&"x".repeat(65))]}),
                "tools[0].function.name",
            ),
            (
                json!({"tools": [function("a"), function("a")]}),
                "tools[1].function.name",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "a", "parameters": "x"}}]}),
                "tools[0].function.parameters",
            ),
            (
                json!({"tools": tools(), "tool_choice": "banana"}),
                "tool_choice",
            ),
            (json!({"tools": tools(), "tool_choice": 5}), "tool_choice"),
            (
                json!({"tools": tools(), "tool_choice": {}}),
                "tool_choice.type",
            ),
            (
                json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "b"}}}),
                "tool_choice.function.name",
            ),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "b"}}}),
                "tool_choice.function.name",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (
                json!({"tools": [], "tool_choice": "required"}),
                "tool_choice",
            ),
            (
                json!({"tools": tools(), "parallel_tool_calls": "yes"}),
                "parallel_tool_calls",
            ),
            (json!({"tools": tools(), "functions": []}), "functions"),
            (
                json!({"functions": [{"name": "a"}], "function_call": {"name": "b"}}),
                "function_call.name",
            ),
            (
                json!({"functions": [{"name": "a"}], "function_call": "required"}),
                "function_call",
            ),
        ];
        for (body, param) in cases {
            let error = read(&body).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(param)),
                "{body}"
            );
        }
    }
}
