//! The handlers.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use hearth_text::{Encode, Tokenizer};
use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, now},
    catalogue,
    embed::{embed, embeddings},
    lines::Lines,
    manage,
    options::KeepAlive,
    request::{Kind, Turn, model_name, turn},
};
use crate::{
    answer::prepare, app::App, auth::Caller, body::Object, error::ApiError, exchange::Prompt,
    fields::Fields, models::Loaded, notice::Notices, routes::Routes, sse::ndjson,
};

/// The state of Ollama's interface that this one equals; clients compare it with what they need.
const VERSION: &str = "0.12.6";

/// All routes of the dialect.
pub fn routes() -> Routes {
    Routes::new()
        .get(
            "/api/version",
            "The state of Ollama's interface that this one equals",
            version,
        )
        .get("/api/tags", "The models", tags)
        .get("/api/ps", "The models that are loaded", ps)
        .post("/api/show", "What is known of a model", show)
        .post("/api/chat", "Answers a conversation", chat)
        .post(
            "/api/generate",
            "Answers a prompt or continues it",
            generate,
        )
        .post("/api/embed", "Turns texts into vectors", embed)
        .post(
            "/api/embeddings",
            "Turns one text into a vector",
            embeddings,
        )
        .post(
            "/api/pull",
            "Succeeds for a model that is there",
            manage::pull,
        )
        .post("/api/push", "Refused", manage::refused)
        .post("/api/create", "Refused", manage::refused)
        .post(
            "/api/copy",
            "Gives a model of the store a further name, if the server is told to",
            manage::copy,
        )
        .delete(
            "/api/delete",
            "Deletes a model of the store, if the server is told to",
            manage::delete,
        )
}

async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

async fn tags(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app.models.list().await.iter().map(catalogue::tag).collect();
    Json(json!({"models": models}))
}

async fn ps(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app
        .models
        .list()
        .await
        .iter()
        .filter_map(catalogue::running)
        .collect();
    Json(json!({"models": models}))
}

async fn show(State(app): State<App>, Object(body): Object) -> Result<Response, ApiError> {
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let name = model_name(&mut fields)?;
    let is_verbose = fields.bool("verbose")?.unwrap_or(false);
    fields.finish(&mut notices);
    notices.check()?;
    let info = app.models.info(&name).await?;
    let gguf = app.models.open(&name).await?;
    let shown = catalogue::show(&info.details, gguf.metadata(), is_verbose);
    Ok(with_notices(Json(shown).into_response(), &notices))
}

async fn chat(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    answer(Kind::Chat, &app, &caller, &body).await
}

async fn generate(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    answer(Kind::Generate, &app, &caller, &body).await
}

async fn answer(
    kind: Kind,
    app: &App,
    caller: &Caller,
    body: &Map<String, Value>,
) -> Result<Response, ApiError> {
    let (mut turn, mut notices) = turn(kind, body, &app.limits)?;
    notices.check()?;
    let Some(mut ask) = turn.ask.take() else {
        return only_load(app, &turn, &notices).await;
    };
    let loaded = app.models.get(&turn.model).await?;
    if turn.must_think && loaded.format.thinking.is_none() {
        return Err(ApiError::invalid(
            "think",
            format!("\"{}\" does not support thinking", turn.model),
        ));
    }
    let tokenizer = loaded.engine.tokenizer().clone();
    if let (true, Prompt::Text(text)) = (turn.is_raw, &ask.prompt) {
        ask.prompt = Prompt::Tokens(raw(&tokenizer, text));
    }
    let mut prepared = prepare(app, ask, &mut notices).await?;
    prepared.put_before(&turn.context);
    let replies = prepared.start(caller)?;
    keep(&loaded, turn.keep_alive);
    let lines = Lines::new(kind, turn.model, turn.is_streamed, tokenizer);
    let (prompt, tags) = (replies.prompt().to_vec(), loaded.format.thinking.clone());
    let answer = Answer::new(replies, lines, prompt, tags);
    let response = match turn.is_streamed {
        true => ndjson(answer.stream()),
        false => Json(answer.whole().await?).into_response(),
    };
    Ok(with_notices(response, &notices))
}

/// A whole prompt, with the model's own tokens in it. The one that begins a text is there once.
fn raw(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let how = Encode {
        add_special: true,
        parse_special: true,
    };
    let mut tokens = tokenizer.encode(text, how);
    if let [first, second, ..] = tokens[..]
        && first == second
        && Some(first) == tokenizer.bos()
    {
        tokens.remove(0);
    }
    tokens
}

/// Without a prompt the model is only loaded, or unloaded.
async fn only_load(app: &App, turn: &Turn, notices: &Notices) -> Result<Response, ApiError> {
    let is_unload = turn.keep_alive == Some(KeepAlive::For(Duration::ZERO));
    let loaded = match is_unload {
        true => app.models.info(&turn.model).await?.loaded,
        false => Some(app.models.get(&turn.model).await?),
    };
    let reason = if is_unload { "unload" } else { "load" };
    if let Some(loaded) = &loaded {
        keep(loaded, turn.keep_alive);
    }
    // Ours was one use of it.
    drop(loaded);
    if is_unload {
        app.models.unload(&turn.model).await?;
    }
    let line = super::lines::only(turn.kind, &turn.model, reason, &now());
    let response = match turn.is_streamed {
        true => ndjson(stream::iter([line])),
        false => Json(line).into_response(),
    };
    Ok(with_notices(response, notices))
}

pub(super) fn keep(loaded: &Loaded, keep_alive: Option<KeepAlive>) {
    match keep_alive {
        None => {}
        Some(KeepAlive::Forever) => loaded.keep_alive(None),
        Some(KeepAlive::For(duration)) => loaded.keep_alive(Some(duration)),
    }
}

pub(super) fn with_notices(mut response: Response, notices: &Notices) -> Response {
    notices.apply(&mut response);
    response
}
