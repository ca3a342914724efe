//! What the answer must look like: `response_format`, and the fields llama.cpp's and vLLM's servers have for it.

use serde_json::{Map, Value};

use crate::{error::ApiError, exchange::Format, fields::Fields, notice::Notices};

/// The one format that was asked for and the field that asks for it; plain text without.
pub(crate) fn format(
    fields: &mut Fields<'_>,
    notices: &mut Notices,
) -> Result<(Format, String), ApiError> {
    let mut found = Vec::new();
    if let Some(object) = fields.object("response_format")? {
        let mut inner = Fields::within(object, fields.path_of("response_format"));
        let format = response_format(&mut inner, notices)?;
        inner.finish(notices);
        found.extend((format != Format::Text).then_some(("response_format".to_owned(), format)));
    }
    if let Some(text) = fields.string("grammar")? {
        found.push(("grammar".to_owned(), Format::Gbnf(text)));
    }
    for name in ["json_schema", "guided_json"] {
        if let Some(value) = fields.value(name) {
            found.push((
                name.to_owned(),
                Format::JsonSchema(schema(fields, name, value)?),
            ));
        }
    }
    guided(fields, "guided_", &mut found)?;
    if let Some(object) = fields.object("structured_outputs")? {
        let mut inner = Fields::within(object, fields.path_of("structured_outputs"));
        structured(&mut inner, &mut found)?;
        inner.finish(notices);
    }
    match (found.pop(), found.pop()) {
        (Some((name, _)), Some((other, _))) => Err(fields.invalid(
            &name,
            format!("and {other} both bind the answer; send one of them"),
        )),
        (Some((name, format)), None) => Ok((format, name)),
        (None, _) => Ok((Format::Text, "response_format".to_owned())),
    }
}

/// OpenAI's form; `json_object` with a schema is llama.cpp's.
fn response_format(fields: &mut Fields<'_>, notices: &mut Notices) -> Result<Format, ApiError> {
    let kind = fields.one_of("type", &["text", "json_object", "json_schema"])?;
    match fields.required("type", kind)? {
        "text" => Ok(Format::Text),
        "json_object" => match fields.value("schema") {
            None => Ok(Format::JsonObject),
            Some(value) => schema(fields, "schema", value).map(Format::JsonSchema),
        },
        _ => {
            let object = fields.object("json_schema")?;
            let object = fields.required("json_schema", object)?;
            let mut inner = Fields::within(object, fields.path_of("json_schema"));
            let format = named_schema(&mut inner)?;
            inner.finish(notices);
            Ok(format)
        }
    }
}

/// `{"name", "schema", "strict"?, "description"?}`. The schema binds whether strict or not.
pub(crate) fn named_schema(fields: &mut Fields<'_>) -> Result<Format, ApiError> {
    fields.string("name")?;
    fields.string("description")?;
    fields.bool("strict")?;
    let value = fields.value("schema");
    let value = fields.required("schema", value)?;
    schema(fields, "schema", value).map(Format::JsonSchema)
}

/// A schema, which is an object.
fn schema(fields: &Fields<'_>, name: &str, value: &Value) -> Result<Value, ApiError> {
    match value {
        Value::Object(_) => Ok(value.clone()),
        other => Err(fields.wrong(name, "a JSON schema, which is an object", other)),
    }
}

/// vLLM's names for the rest: with `guided_` in front as of old, bare inside `structured_outputs`.
fn guided(
    fields: &mut Fields<'_>,
    prefix: &str,
    found: &mut Vec<(String, Format)>,
) -> Result<(), ApiError> {
    let name = format!("{prefix}regex");
    if let Some(pattern) = fields.string(&name)? {
        found.push((fields.path_of(&name), Format::Regex(pattern)));
    }
    let name = format!("{prefix}choice");
    if let Some(list) = fields.array(&name)? {
        let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
        let texts: Option<Vec<String>> = texts.collect();
        let texts = texts.filter(|texts| !texts.is_empty());
        let texts = texts.ok_or_else(|| fields.invalid(&name, "must be strings, at least one"))?;
        found.push((fields.path_of(&name), Format::Choice(texts)));
    }
    let name = format!("{prefix}grammar");
    if let Some(text) = fields.string(&name)? {
        found.push((fields.path_of(&name), grammar(text)));
    }
    Ok(())
}

/// vLLM takes both notations in one field; a Lark grammar has a rule `start:`.
fn grammar(text: String) -> Format {
    let is_lark = text.lines().any(|line| {
        let rule = line.trim_start().strip_prefix("start");
        rule.is_some_and(|rest| {
            rest.trim_start().starts_with(':') && !rest.trim_start().starts_with("::=")
        })
    });
    if is_lark {
        Format::Lark(text)
    } else {
        Format::Gbnf(text)
    }
}

fn structured(fields: &mut Fields<'_>, found: &mut Vec<(String, Format)>) -> Result<(), ApiError> {
    match fields.value("json") {
        None => {}
        // vLLM also takes it as text.
        Some(Value::String(text)) => {
            let object: Result<Map<String, Value>, _> = serde_json::from_str(text);
            let object = object
                .map_err(|error| fields.invalid("json", format!("is no JSON object: {error}")))?;
            found.push((
                fields.path_of("json"),
                Format::JsonSchema(Value::Object(object)),
            ));
        }
        Some(value) => found.push((
            fields.path_of("json"),
            Format::JsonSchema(schema(fields, "json", value)?),
        )),
    }
    if fields.bool("json_object")? == Some(true) {
        found.push((fields.path_of("json_object"), Format::JsonObject));
    }
    guided(fields, "", found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<Format, ApiError> {
        let mut fields = Fields::new(body.as_object().unwrap());
        format(&mut fields, &mut Notices::new(false, 8)).map(|(format, _)| format)
    }

    #[test]
    fn every_notation_is_read() {
        let schema = json!({"type": "object"});
        let cases = [
            (json!({}), Format::Text),
            (json!({"response_format": null}), Format::Text),
            (json!({"response_format": {"type": "text"}}), Format::Text),
            (
                json!({"response_format": {"type": "json_object"}}),
                Format::JsonObject,
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                Format::JsonSchema(schema.clone()),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": false}}}),
                Format::JsonSchema(schema.clone()),
            ),
            (
                json!({"grammar": "root ::= \"a\""}),
                Format::Gbnf("root ::= \"a\"".into()),
            ),
            (
                json!({"json_schema": schema}),
                Format::JsonSchema(schema.clone()),
            ),
            (
                json!({"guided_json": schema}),
                Format::JsonSchema(schema.clone()),
            ),
            (json!({"guided_regex": "a+"}), Format::Regex("a+".into())),
            (
                json!({"guided_choice": ["a", "b"]}),
                Format::Choice(vec!["a".into(), "b".into()]),
            ),
            (
                json!({"guided_grammar": "start: \"a\""}),
                Format::Lark("start: \"a\"".into()),
            ),
            (
                json!({"guided_grammar": "root ::= start\nstart ::= \"a\""}),
                Format::Gbnf("root ::= start\nstart ::= \"a\"".into()),
            ),
            (
                json!({"structured_outputs": {"json": "{\"type\": \"object\"}"}}),
                Format::JsonSchema(schema.clone()),
            ),
            (
                json!({"structured_outputs": {"regex": "a+"}}),
                Format::Regex("a+".into()),
            ),
            (
                json!({"structured_outputs": {"json_object": true}}),
                Format::JsonObject,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(read(&body).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_format_is_refused_with_its_place() {
        let cases = [
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": []}), "response_format"),
            (json!({"response_format": {}}), "response_format.type"),
            (
                json!({"response_format": {"type": "banana"}}),
                "response_format.type",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
                "response_format.json_schema.schema",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": "s"}}}),
                "response_format.json_schema.schema",
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": 1}}),
                "response_format.schema",
            ),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": [1]}), "guided_choice"),
            (
                json!({"structured_outputs": {"json": "no"}}),
                "structured_outputs.json",
            ),
            (
                json!({"response_format": {"type": "json_object"}, "grammar": "root ::= \"a\""}),
                "grammar",
            ),
            (
                json!({"guided_regex": "a", "structured_outputs": {"choice": ["a"]}}),
                "structured_outputs.choice",
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
