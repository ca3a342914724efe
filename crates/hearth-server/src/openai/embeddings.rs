//! `POST /v1/embeddings`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{common, completions::read_prompts};
use crate::{
    answer, app::App, auth::Caller, body::Object, error::ApiError, exchange::Prompt,
    fields::Fields, limits::Limits, notice::Notices,
};

/// A request as the route needs it.
#[derive(Debug, PartialEq)]
struct EmbeddingRequest {
    model: String,
    inputs: Vec<Prompt>,
    is_base64: bool,
    n_dimensions: Option<usize>,
}

/// Turns texts into vectors.
pub(super) async fn embed(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let (request, notices) = embedding_request(&body, &app.limits)?;
    notices.check()?;
    let loaded = app.models.get(&request.model).await?;
    let vectors =
        answer::embed(&app, &caller, &loaded, request.inputs, request.n_dimensions).await?;
    let write: fn(&[f32]) -> Value = if request.is_base64 {
        base64
    } else {
        |vector| json!(vector)
    };
    let data = vectors.list.iter().enumerate().map(|(index, vector)| {
        json!({"object": "embedding", "index": index, "embedding": write(vector)})
    });
    let object = json!({
        "object": "list",
        "model": request.model,
        "data": data.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": vectors.n_tokens, "total_tokens": vectors.n_tokens},
    });
    let mut response = Json(object).into_response();
    notices.apply(&mut response);
    Ok(response)
}

/// Reads a body.
fn embedding_request(
    body: &Map<String, Value>,
    limits: &Limits,
) -> Result<(EmbeddingRequest, Notices), ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let model = common::model(&mut fields)?;
    let value = fields.value("input");
    let value = fields.required("input", value)?;
    let inputs = read_prompts(&fields, "input", value, limits.inputs)?;
    if inputs.contains(&Prompt::Text(String::new())) {
        return Err(fields.invalid("input", "must not have empty texts"));
    }
    let request = EmbeddingRequest {
        model,
        inputs,
        is_base64: fields.one_of("encoding_format", &["float", "base64"])? == Some("base64"),
        n_dimensions: fields.count("dimensions", 1..=usize::MAX)?,
    };
    fields.no_effect(&["user"], &mut notices);
    fields.finish(&mut notices);
    Ok((request, notices))
}

/// Little-endian floats, which the SDKs ask for by themselves.
fn base64(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    Value::String(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: Value) -> Result<EmbeddingRequest, ApiError> {
        let mut body = json!({"model": "m", "input": "a"});
        body[name] = value;
        embedding_request(body.as_object().unwrap(), &Limits::default()).map(|(request, _)| request)
    }

    #[test]
    fn input_has_four_forms() {
        assert_eq!(
            read("input", json!("a")).unwrap().inputs,
            [Prompt::Text("a".into())]
        );
        assert_eq!(
            read("input", json!(["a"])).unwrap().inputs,
            [Prompt::Text("a".into())]
        );
        assert_eq!(
            read("input", json!([1])).unwrap().inputs,
            [Prompt::Tokens(vec![1])]
        );
        assert_eq!(read("input", json!([[1], [2]])).unwrap().inputs.len(), 2);
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let cases = [
            ("input", Value::Null, "input"),
            ("input", json!(""), "input"),
            ("input", json!([]), "input"),
            ("input", json!(["a", ""]), "input"),
            ("input", json!([null]), "input[0]"),
            ("input", json!({}), "input"),
            ("input", json!([-1]), "input[0]"),
            ("input", json!([[]]), "input[0]"),
            ("encoding_format", json!("int8"), "encoding_format"),
            ("dimensions", json!(0), "dimensions"),
            ("dimensions", json!("8"), "dimensions"),
        ];
        for (name, value, param) in cases {
            let error = read(name, value.clone()).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(param)),
                "{name} {value}"
            );
        }
    }

    #[test]
    fn base64_is_little_endian() {
        assert_eq!(base64(&[1.0, -2.0]), json!("AACAPwAAAMA="));
    }
}
