//! OpenAI's `/v1/responses`: answers with a life of their own, which later requests can go on from.
//!
//! Bodies become an [`Ask`](crate::exchange::Ask) in `request.rs`, replies become events in `stream.rs`; both know no socket. What
//! is to be kept goes to `store.rs` before the client is told that the answer is complete.

mod items;
mod object;
mod request;
mod run;
pub mod store;
mod stream;
mod tools;

use std::{collections::HashMap, time::SystemTime};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response as HttpResponse},
};
use futures_util::stream::unfold;
use serde_json::{Value, json};

use crate::{
    answer,
    app::App,
    auth::Caller,
    body::Object,
    error::ApiError,
    fields,
    routes::Routes,
    sse::{Heartbeat, sse},
};
use request::Request;
use run::Run;
use store::{ResponseStore, StoreError};

/// The routes of this part.
pub fn routes() -> Routes {
    Routes::new()
        .post(
            "/v1/responses",
            "an answer, kept for later requests to go on from",
            create,
        )
        .post(
            "/v1/responses/input_tokens",
            "the tokens of what such a request gives to the model",
            input_tokens,
        )
        .get("/v1/responses/{id}", "a response that was kept", retrieve)
        .delete("/v1/responses/{id}", "forgets a response", delete)
        .get(
            "/v1/responses/{id}/input_items",
            "what a response was given",
            input_items,
        )
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<HttpResponse, ApiError> {
    let mut request = request::read(&body, &app.limits)?;
    let history = recall(&app, &caller, &mut request).await?;
    let ask = request.ask(&history)?;
    let replies = answer::ask(&app, &caller, ask, &mut request.notices).await;
    let replies = replies.map_err(|error| {
        let error = error.of_prompt("input").renamed("messages", "input");
        error.renamed("response_format", "text.format")
    })?;
    let (is_streamed, mut notices) = (request.is_streamed, std::mem::take(&mut request.notices));
    let run = Run::new(app.responses.clone(), caller, request, replies, now);
    let mut response = match is_streamed {
        true => {
            let events = unfold(run, |mut run| async move {
                run.next().await.map(|event| (event, run))
            });
            sse(events, Heartbeat::Comment)
        }
        false => Json(run.whole(&mut notices).await?).into_response(),
    };
    notices.apply(&mut response);
    Ok(response)
}

async fn input_tokens(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<HttpResponse, ApiError> {
    let mut request = request::read(&body, &app.limits)?;
    let history = recall(&app, &caller, &mut request).await?;
    let ask = request.ask(&history)?;
    request.notices.check()?;
    let n = answer::count(&app, &caller, &ask.prompt, &ask.model).await?;
    let mut response =
        Json(json!({"object": "response.input_tokens", "input_tokens": n})).into_response();
    request.notices.apply(&mut response);
    Ok(response)
}

/// The stored items that a request goes on from; references among its own are replaced by what they name.
async fn recall(app: &App, caller: &Caller, request: &mut Request) -> Result<Vec<Value>, ApiError> {
    let previous = request.echo.previous.clone();
    let input = std::mem::take(&mut request.input);
    let owner = caller.owner.name.clone();
    let (history, input) = with_store(app, move |store| {
        let history = previous.map(|id| history(store, &owner, &id)).transpose()?;
        let input = input
            .into_iter()
            .enumerate()
            .map(|(index, item)| dereference(store, &owner, index, item));
        Ok((
            history.unwrap_or_default(),
            input.collect::<Result<_, _>>()?,
        ))
    })
    .await?;
    request.input = input;
    Ok(history)
}

fn history(store: &ResponseStore, owner: &str, id: &str) -> Result<Vec<Value>, ApiError> {
    store.items(owner, id, true)?.ok_or_else(|| {
        let message = format!(
            "previous response {id:?} not found: it was not kept, is too old, or is another key's"
        );
        ApiError {
            code: Some("previous_response_not_found"),
            ..ApiError::invalid("previous_response_id", message)
        }
    })
}

fn dereference(
    store: &ResponseStore,
    owner: &str,
    index: usize,
    item: Value,
) -> Result<Value, ApiError> {
    if item["type"] != "item_reference" {
        return Ok(item);
    }
    let path = format!("{}.id", items::path_of(index));
    let id = item["id"].as_str().unwrap_or_default();
    store.item(owner, id)?.ok_or_else(|| {
        ApiError::invalid(
            path.as_str(),
            format!("'{path}' names no stored item: {id:?}"),
        )
    })
}

async fn retrieve(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<HttpResponse, ApiError> {
    if query.get("stream").is_some_and(|stream| stream == "true") {
        return Err(ApiError::invalid(
            "stream",
            "a response that was kept cannot be streamed again",
        ));
    }
    let found = with_store(&app, {
        let id = id.clone();
        move |store| Ok(store.response(&caller.owner.name, &id)?)
    });
    let object = found.await?.ok_or_else(|| not_found(&id))?;
    Ok(Json(object).into_response())
}

async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<HttpResponse, ApiError> {
    let deleted = with_store(&app, {
        let id = id.clone();
        move |store| Ok(store.delete(&caller.owner.name, &id)?)
    });
    match deleted.await? {
        true => Ok(Json(json!({"id": id, "object": "response", "deleted": true})).into_response()),
        false => Err(not_found(&id)),
    }
}

async fn input_items(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<HttpResponse, ApiError> {
    let page = Page::read(&query)?;
    let found = with_store(&app, {
        let id = id.clone();
        move |store| Ok(store.items(&caller.owner.name, &id, false)?)
    });
    let items = found.await?.ok_or_else(|| not_found(&id))?;
    Ok(Json(page.of(items)).into_response())
}

/// Which items of a list are wanted.
#[derive(Debug)]
struct Page {
    is_ascending: bool,
    after: Option<String>,
    limit: usize,
}

impl Page {
    fn read(query: &HashMap<String, String>) -> Result<Self, ApiError> {
        let is_ascending = match query.get("order").map(String::as_str) {
            Some("asc") => true,
            Some("desc") | None => false,
            Some(other) => {
                return Err(ApiError::invalid(
                    "order",
                    format!("'order' must be asc or desc, not {other:?}"),
                ));
            }
        };
        let limit = match query.get("limit").map(|limit| limit.parse()) {
            None => 20,
            Some(Ok(limit @ 1..=100)) => limit,
            Some(_) => {
                return Err(ApiError::invalid(
                    "limit",
                    "'limit' must be a whole number from 1 to 100",
                ));
            }
        };
        Ok(Page {
            is_ascending,
            after: query.get("after").cloned(),
            limit,
        })
    }

    fn of(&self, mut items: Vec<Value>) -> Value {
        if !self.is_ascending {
            items.reverse();
        }
        let begin = self.after.as_ref().map_or(0, |after| {
            items
                .iter()
                .position(|item| item["id"] == after.as_str())
                .map_or(items.len(), |at| at + 1)
        });
        let mut items = items.split_off(begin);
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let id = |item: Option<&Value>| item.map(|item| item["id"].clone());
        json!({"object": "list", "first_id": id(items.first()), "last_id": id(items.last()), "has_more": has_more, "data": items})
    }
}

fn not_found(id: &str) -> ApiError {
    let id = fields::describe(&id.into());
    ApiError::not_found(format!("response {id} not found"))
}

/// Runs work on the store where it holds up nobody's connection.
async fn with_store<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&ResponseStore) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = app.responses.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ApiError::internal(error)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
