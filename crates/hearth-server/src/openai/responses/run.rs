//! A response on its way: replies in, events out, and what is to be kept into the store.

use std::collections::VecDeque;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{
    super::pieces::{self, TokenNames},
    object::in_progress,
    request::Request,
    store::{Record, ResponseStore},
    stream::Response,
};
use crate::{
    answer::Replies,
    auth::Caller,
    error::{ApiError, Dialect},
    exchange::Reply,
    ids,
    notice::Notices,
    sse::Event,
};

/// A response on its way.
pub struct Run {
    store: ResponseStore,
    caller: Caller,
    request: Request,
    replies: Replies,
    response: Response,
    id: String,
    created: u64,
    ready: VecDeque<Event>,
    is_over: bool,
}

impl Run {
    /// Before the first event.
    pub fn new(
        store: ResponseStore,
        caller: Caller,
        mut request: Request,
        replies: Replies,
        now: fn() -> u64,
    ) -> Self {
        let token = ids::new("");
        let (id, created) = (format!("resp_{token}"), now());
        let object = in_progress(&id, created, &request.echo);
        let mut response =
            Response::new(token, object, std::mem::take(&mut request.namespaces), now);
        let mut events = Vec::new();
        response.start(&mut events);
        let ready = events.iter().map(Event::typed).collect();
        Run {
            store,
            caller,
            request,
            replies,
            response,
            id,
            created,
            ready,
            is_over: false,
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() && !self.is_over {
            let mut events = Vec::new();
            match self.replies.next().await {
                None => self.is_over = true,
                Some(Ok(reply)) => {
                    self.ready.extend(reply.remark().map(Event::comment));
                    self.take(reply, &mut events).await;
                }
                Some(Err(error)) => {
                    self.fail(&error, &mut events);
                    self.is_over = true;
                }
            }
            self.ready.extend(events.iter().map(Event::typed));
        }
        self.ready.pop_front()
    }

    /// The whole object, for those who do not want to see it grow.
    pub async fn whole(mut self, notices: &mut Notices) -> Result<Value, ApiError> {
        let mut events = Vec::new();
        while let Some(reply) = self.replies.next().await {
            let reply = reply?;
            if let Reply::Notice { text, .. } = &reply {
                notices.note(text.as_str());
            }
            self.take(reply, &mut events).await;
            events.clear();
        }
        let object = self.response.object().clone();
        if self.request.echo.is_stored && object["store"] == false {
            notices.note("the answer could not be kept");
        }
        Ok(object.into())
    }

    async fn take(&mut self, reply: Reply, events: &mut Vec<Value>) {
        let is_end = matches!(reply, Reply::End { .. });
        let names = TokenNames(self.replies.loaded().engine.tokenizer().clone());
        self.response
            .take(reply, &|reply| described(reply, &names), events);
        if is_end && self.request.echo.is_stored && !self.keep().await {
            self.response.is_not_stored();
            if let Some(last) = events.last_mut() {
                last["response"]["store"] = false.into();
            }
        }
    }

    /// Keeps the response, before the client is told that it is complete. Says whether it is kept: that it is not must not cost
    /// the client its answer.
    async fn keep(&mut self) -> bool {
        let (store, owner) = (self.store.clone(), self.caller.owner.name.clone());
        let (id, created, previous) = (
            self.id.clone(),
            self.created,
            self.request.echo.previous.clone(),
        );
        let input = std::mem::take(&mut self.request.input);
        let object = Value::Object(self.response.object().clone());
        let kept = tokio::task::spawn_blocking(move || {
            let output = object["output"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let record = Record {
                id: &id,
                created,
                previous: previous.as_deref(),
                input: &input,
                output,
                object: &object,
            };
            store.keep(&owner, &record)
        });
        match kept.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "a response was not kept");
                false
            }
            Err(error) => {
                tracing::error!(%error, "a response was not kept");
                false
            }
        }
    }

    fn fail(&mut self, error: &ApiError, events: &mut Vec<Value>) {
        let body = error.body(Dialect::OpenAi, &self.caller.request_id);
        let word = |name: &str| body["error"][name].as_str();
        let code = word("code").or(word("type")).unwrap_or("server_error");
        self.response.fail(code, &error.message, events);
    }
}

/// A drawn token with its log-probability and the alternatives.
fn described(reply: &Reply, names: &TokenNames) -> Value {
    let Reply::Token { bytes, logprob, .. } = reply else {
        return Value::Null;
    };
    let one = |bytes: &[u8], value: f32| json!({"token": String::from_utf8_lossy(bytes), "bytes": bytes, "logprob": pieces::logprob(value)});
    let top = logprob.top.iter().map(|&(id, value)| {
        // The first of a text may have lost its space; it is the same token.
        one(
            if id == logprob.token {
                bytes
            } else {
                names.bytes(id)
            },
            value,
        )
    });
    let mut entry = one(bytes, logprob.logprob);
    entry["top_logprobs"] = top.collect();
    entry
}
