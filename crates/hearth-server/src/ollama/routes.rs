//! The handlers.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use hearth_text::{Encode, Tokenizer};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    catalogue::{self, rfc3339},
    embed::{embed, embeddings},
    lines::Lines,
    manage,
    options::KeepAlive,
    request::{Kind, Turn, model_name, turn},
};
use crate::{
    answer::{Replies, prepare},
    app::App,
    auth::Caller,
    body::Object,
    error::{ApiError, Dialect},
    exchange::{Prompt, Reply},
    fields::Fields,
    models::Loaded,
    notice::Notices,
    routes::Routes,
    sse::ndjson,
};

/// The state of Ollama's interface that this one equals; clients compare it with what they need.
const VERSION: &str = "0.12.6";

/// Silence after which a line without text says that the work goes on.
const HEARTBEAT: Duration = Duration::from_secs(10);

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
    let answer = Answer {
        replies,
        lines,
        is_over: false,
    };
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

fn now() -> String {
    rfc3339(SystemTime::now())
}

/// Replies on their way to lines.
struct Answer {
    replies: Replies,
    lines: Lines,
    is_over: bool,
}

impl Answer {
    /// The next line; an error is the last one.
    async fn next(&mut self) -> Option<Value> {
        if self.is_over {
            return None;
        }
        loop {
            let Ok(reply) = timeout(HEARTBEAT, self.replies.next()).await else {
                return Some(self.lines.heartbeat(&now()));
            };
            match self.take(reply?) {
                Ok(None) => {}
                Ok(line) => return line,
                Err(error) => {
                    self.is_over = true;
                    return Some(error.body(Dialect::Ollama, ""));
                }
            }
        }
    }

    fn take(&mut self, reply: Result<Reply, ApiError>) -> Result<Option<Value>, ApiError> {
        let reply = reply?;
        let Reply::End { usage } = reply else {
            return Ok(self.lines.take(reply, &now()));
        };
        self.is_over = true;
        let tags = self.replies.loaded().format.thinking.as_ref();
        Ok(Some(self.lines.last(
            &usage,
            &now(),
            self.replies.prompt(),
            tags,
        )))
    }

    fn stream(self) -> impl Stream<Item = Value> + Send {
        stream::unfold(self, |mut answer| async move {
            let line = answer.next().await?;
            Some((line, answer))
        })
    }

    /// The answer that is not streamed has one line.
    async fn whole(mut self) -> Result<Value, ApiError> {
        while let Some(reply) = self.replies.next().await {
            if let Some(line) = self.take(reply)? {
                return Ok(line);
            }
        }
        Err(ApiError::internal("an answer ended without its end"))
    }
}
