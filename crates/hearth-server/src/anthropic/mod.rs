//! Anthropic's dialect: `/v1/messages` and `/v1/messages/count_tokens`.
//!
//! Bodies become an [`Ask`](crate::exchange::Ask) in `request.rs`, replies become events in `stream.rs`; both know no socket.
//! Headers that name a version or a beta change nothing and are not looked at.

mod messages;
mod partial;
mod request;
mod stream;
mod tools;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream::iter};
use serde_json::{Value, json};

use crate::{
    answer::{self, Replies},
    app::App,
    auth::Caller,
    body::Object,
    error::{ApiError, Dialect},
    exchange::Reply,
    ids,
    notice::Notices,
    routes::Routes,
    sse::{Event, Heartbeat, sse},
};
use stream::Message;

/// The routes of this dialect.
pub fn routes() -> Routes {
    Routes::new()
        .post(
            "/v1/messages",
            "an answer to a conversation, in Anthropic's form",
            create,
        )
        .post(
            "/v1/messages/count_tokens",
            "the tokens of a conversation, in Anthropic's form",
            count_tokens,
        )
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let mut request = request::read(&body, &app.limits, false)?;
    let message = Message::new(ids::new("msg_"), request.ask.model.clone());
    let replies = answer::ask(&app, &caller, request.ask, &mut request.notices).await?;
    let mut response = match request.is_streamed {
        true => sse(events(replies, message, caller), Heartbeat::Ping),
        false => Json(whole(replies, message, &mut request.notices).await?).into_response(),
    };
    request.notices.apply(&mut response);
    Ok(response)
}

async fn count_tokens(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let request = request::read(&body, &app.limits, true)?;
    request.notices.check()?;
    let n = answer::count(&app, &caller, &request.ask.prompt, &request.ask.model).await?;
    let mut response = Json(json!({"input_tokens": n})).into_response();
    request.notices.apply(&mut response);
    Ok(response)
}

/// The events of an answer; an error in the middle of it is the last.
fn events(
    replies: Replies,
    mut message: Message,
    caller: Caller,
) -> impl Stream<Item = Event> + Send {
    replies.flat_map(move |reply| {
        let mut events = Vec::new();
        let remark = reply.as_ref().ok().and_then(Reply::remark);
        match reply {
            Ok(reply) => message.take(reply, &mut events),
            Err(error) => events.push(error.body(Dialect::Anthropic, &caller.request_id)),
        }
        let events: Vec<_> = events
            .iter()
            .map(Event::typed)
            .chain(remark.map(Event::comment))
            .collect();
        iter(events)
    })
}

async fn whole(
    mut replies: Replies,
    mut message: Message,
    notices: &mut Notices,
) -> Result<Value, ApiError> {
    let mut events = Vec::new();
    while let Some(reply) = replies.next().await {
        let reply = reply?;
        if let Reply::Notice { text, .. } = &reply {
            notices.note(text.as_str());
        }
        message.take(reply, &mut events);
        events.clear();
    }
    Ok(message.object())
}
