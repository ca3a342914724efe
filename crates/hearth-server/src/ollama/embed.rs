//! `/api/embed` and the older `/api/embeddings`.
//!
//! Here, and nowhere else, a text that is too long is cut, because clients ask for it by name (`truncate`); a notice
//! says which.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use hearth_text::{Encode, Tokenizer};
use serde_json::{Map, Value, json};

use super::{
    options::{KeepAlive, keep_alive},
    request::model_name,
    routes::{keep, with_notices},
};
use crate::{
    answer::{self, Vectors},
    app::App,
    auth::Caller,
    body::Object,
    error::ApiError,
    exchange::Prompt,
    fields::Fields,
    limits::Limits,
    models::Loaded,
    notice::Notices,
};

/// What is asked.
#[derive(Debug, PartialEq)]
struct Wanted {
    model: String,
    inputs: Vec<String>,
    truncates: bool,
    dimensions: Option<usize>,
    keep_alive: Option<KeepAlive>,
}

/// The body of `/api/embed`.
fn read(body: &Map<String, Value>, limits: &Limits) -> Result<(Wanted, Notices), ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let inputs = fields.strings("input", limits.inputs)?;
    let wanted = Wanted {
        model: model_name(&mut fields)?,
        inputs: fields.required("input", inputs)?,
        truncates: fields.bool("truncate")?.unwrap_or(true),
        dimensions: fields
            .count("dimensions", 0..=usize::MAX)?
            .filter(|n| *n > 0),
        keep_alive: keep_alive(&mut fields)?,
    };
    finish(fields, &mut notices)?;
    Ok((wanted, notices))
}

/// The body of `/api/embeddings`.
fn read_one(body: &Map<String, Value>, limits: &Limits) -> Result<(Wanted, Notices), ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let prompt = fields.string("prompt")?;
    let wanted = Wanted {
        model: model_name(&mut fields)?,
        inputs: vec![fields.required("prompt", prompt)?],
        truncates: true,
        dimensions: None,
        keep_alive: keep_alive(&mut fields)?,
    };
    finish(fields, &mut notices)?;
    Ok((wanted, notices))
}

/// `options` are about writing, which nobody does here.
fn finish(mut fields: Fields<'_>, notices: &mut Notices) -> Result<(), ApiError> {
    let options = fields.object("options")?;
    for name in options.into_iter().flat_map(|options| options.keys()) {
        notices.ignored(format!("options.{name}"));
    }
    fields.finish(notices);
    notices.check()
}

pub(super) async fn embed(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let (mut wanted, mut notices) = read(&body, &app.limits)?;
    let loaded = app.models.get(&wanted.model).await?;
    let load = began.elapsed();
    let vectors = vectors(&app, &loaded, &caller, &mut wanted, &mut notices).await?;
    let answer = json!({
        "model": wanted.model,
        "embeddings": vectors.list,
        "total_duration": u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        "load_duration": u64::try_from(load.as_nanos()).unwrap_or(u64::MAX),
        "prompt_eval_count": vectors.n_tokens,
    });
    Ok(with_notices(Json(answer).into_response(), &notices))
}

pub(super) async fn embeddings(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let (mut wanted, mut notices) = read_one(&body, &app.limits)?;
    let loaded = app.models.get(&wanted.model).await?;
    let mut vectors = vectors(&app, &loaded, &caller, &mut wanted, &mut notices).await?;
    let answer = json!({"embedding": vectors.list.pop().unwrap_or_default()});
    Ok(with_notices(Json(answer).into_response(), &notices))
}

/// One vector for each text.
async fn vectors(
    app: &App,
    loaded: &Arc<Loaded>,
    caller: &Caller,
    wanted: &mut Wanted,
    notices: &mut Notices,
) -> Result<Vectors, ApiError> {
    keep(loaded, wanted.keep_alive);
    let (model, texts, truncates) = (
        loaded.clone(),
        std::mem::take(&mut wanted.inputs),
        wanted.truncates,
    );
    let tokens = tokio::task::spawn_blocking(move || tokens(&model, &texts, truncates));
    let (inputs, cuts) = tokens
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(error)))?;
    cuts.into_iter().for_each(|cut| notices.note(cut));
    notices.check()?;
    if inputs.is_empty() {
        return Ok(Vectors {
            list: Vec::new(),
            n_tokens: 0,
        });
    }
    answer::embed(app, caller, loaded, inputs, wanted.dimensions).await
}

/// The tokens of each text, and which of them were cut.
fn tokens(
    loaded: &Loaded,
    texts: &[String],
    truncates: bool,
) -> Result<(Vec<Prompt>, Vec<String>), ApiError> {
    let (tokenizer, n_ctx) = (loaded.engine.tokenizer(), loaded.engine.n_ctx());
    let (mut inputs, mut cuts) = (Vec::with_capacity(texts.len()), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        let mut tokens = tokenizer.encode(text, Encode::default());
        if tokens.len() > n_ctx {
            if !truncates {
                return Err(ApiError::too_long(tokens.len(), n_ctx));
            }
            cuts.push(format!(
                "input[{at}] was cut from {} to {n_ctx} tokens",
                tokens.len()
            ));
            cut(&mut tokens, n_ctx, tokenizer);
        }
        inputs.push(Prompt::Tokens(tokens));
    }
    Ok((inputs, cuts))
}

/// The first tokens, and the one that ends a text where the model wants one.
fn cut(tokens: &mut Vec<u32>, n: usize, tokenizer: &Tokenizer) {
    let last = tokens.last().copied().filter(|_| tokenizer.adds_eos());
    tokens.truncate(n);
    if let (Some(last), Some(end)) = (last, tokens.last_mut()) {
        *end = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(body: Value) -> Result<Wanted, ApiError> {
        read(body.as_object().unwrap(), &Limits::default()).map(|(wanted, _)| wanted)
    }

    #[test]
    fn a_text_or_several() {
        let one = wanted(json!({"model": "m", "input": "a"})).unwrap();
        assert_eq!(one.inputs, ["a"]);
        assert!(one.truncates && one.dimensions.is_none());
        let several = wanted(json!({"model": "m", "input": ["a", ""], "truncate": false, "dimensions": 4, "keep_alive": -1})).unwrap();
        assert_eq!(several.inputs, ["a", ""]);
        assert_eq!(
            (several.truncates, several.dimensions, several.keep_alive),
            (false, Some(4), Some(KeepAlive::Forever))
        );
        assert!(
            wanted(json!({"model": "m", "input": []}))
                .unwrap()
                .inputs
                .is_empty()
        );
    }

    #[test]
    fn other_inputs_are_a_400() {
        for input in [
            json!(null),
            json!(5),
            json!([5]),
            json!([["a"]]),
            json!({}),
            json!(true),
            json!([[1, 2]]),
        ] {
            let error = wanted(json!({"model": "m", "input": input})).unwrap_err();
            assert_eq!(error.status, 400);
            assert!(error.param.unwrap().starts_with("input"));
        }
        for body in [
            json!({"input": "a"}),
            json!({"model": "m", "input": "a", "dimensions": -1}),
            json!({"model": "m", "input": "a", "truncate": 1}),
        ] {
            assert_eq!(wanted(body).unwrap_err().status, 400);
        }
        let old = json!({"model": "m", "prompt": ["a"]});
        assert!(read_one(old.as_object().unwrap(), &Limits::default()).is_err());
    }
}
