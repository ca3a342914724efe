//! Answers that come in pieces: server-sent events, and one JSON object a line.
//!
//! While nothing comes, a heartbeat tells client and proxies that the connection lives: a comment line, or the `ping`
//! event that Anthropic's clients know. Dropping the response drops the stream behind it, which cancels the work.

use std::{borrow::Cow, pin::Pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use tokio::time::timeout;

/// Silence after which a heartbeat is sent. Clients and proxies give up after 30 seconds at the earliest.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name, where the dialect has names.
    pub name: Option<Cow<'static, str>>,
    /// One line of text.
    pub data: String,
    /// A remark that clients skip: no event at all, only a sign of life.
    pub is_comment: bool,
}

impl Event {
    /// An event without a name.
    pub fn data(data: impl Into<String>) -> Self {
        Event {
            name: None,
            data: data.into(),
            is_comment: false,
        }
    }

    /// An event with a name.
    pub fn named(name: impl Into<Cow<'static, str>>, data: impl Into<String>) -> Self {
        Event {
            name: Some(name.into()),
            ..Event::data(data)
        }
    }

    /// An object whose `type` is also the event's name, as in the dialects that have names.
    pub fn typed(object: &Value) -> Self {
        let name = object["type"].as_str().unwrap_or("message").to_owned();
        Event::named(name, object.to_string())
    }

    /// A comment, for progress.
    pub fn comment(text: impl Into<String>) -> Self {
        Event {
            is_comment: true,
            ..Event::data(text)
        }
    }

    fn bytes(&self) -> Bytes {
        // JSON has no line breaks of its own; a comment of ours must not have any either.
        let data = self.data.replace(['\r', '\n'], " ");
        let text = match &self.name {
            _ if self.is_comment => format!(": {data}\n\n"),
            Some(name) => format!("event: {name}\ndata: {data}\n\n"),
            None => format!("data: {data}\n\n"),
        };
        text.into()
    }
}

/// What is sent while nothing else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// A comment line.
    Comment,
    /// Anthropic's `ping` event.
    Ping,
}

impl Heartbeat {
    fn bytes(self) -> Bytes {
        Bytes::from_static(match self {
            Heartbeat::Comment => b": still here\n\n",
            Heartbeat::Ping => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
        })
    }
}

/// A response of server-sent events.
pub fn sse(events: impl Stream<Item = Event> + Send + 'static, heartbeat: Heartbeat) -> Response {
    let pieces = with_heartbeat(
        events.map(|event| event.bytes()),
        heartbeat.bytes(),
        HEARTBEAT,
    );
    streaming(pieces, "text/event-stream")
}

/// A response of one JSON object a line.
pub fn ndjson(objects: impl Stream<Item = Value> + Send + 'static) -> Response {
    let lines = objects.map(|object| Bytes::from(format!("{object}\n")));
    streaming(lines, "application/x-ndjson")
}

fn streaming(
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    content_type: &'static str,
) -> Response {
    let mut response = Response::new(Body::from_stream(
        pieces.map(Ok::<_, std::convert::Infallible>),
    ));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise collect the pieces.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The pieces, and `heartbeat` after each `silence` without one.
fn with_heartbeat(
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    heartbeat: Bytes,
    silence: Duration,
) -> impl Stream<Item = Bytes> + Send {
    let pieces: Pin<Box<dyn Stream<Item = Bytes> + Send>> = Box::pin(pieces);
    futures_util::stream::unfold(
        (pieces, heartbeat),
        move |(mut pieces, heartbeat)| async move {
            let piece = match timeout(silence, pieces.next()).await {
                Ok(piece) => piece?,
                Err(_) => heartbeat.clone(),
            };
            Some((piece, (pieces, heartbeat)))
        },
    )
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    async fn text(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_have_their_form() {
        let events = [
            Event::typed(&json!({"type": "ping"})),
            Event::data("[DONE]"),
            Event::comment("50 of\n100"),
        ];
        let response = sse(futures_util::stream::iter(events), Heartbeat::Comment);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(
            text(response).await,
            "event: ping\ndata: {\"type\":\"ping\"}\n\ndata: [DONE]\n\n: 50 of 100\n\n"
        );
    }

    #[tokio::test]
    async fn lines_hold_one_object_each() {
        let objects = [json!({"a": "x\ny"}), json!({"b": 1})];
        let response = ndjson(futures_util::stream::iter(objects));
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        assert_eq!(text(response).await, "{\"a\":\"x\\ny\"}\n{\"b\":1}\n");
    }

    #[tokio::test]
    async fn silence_is_broken_by_heartbeats_only_while_it_lasts() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let pieces = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let stream = with_heartbeat(pieces, Heartbeat::Ping.bytes(), Duration::from_millis(1));
        let mut stream = Box::pin(stream);
        assert_eq!(stream.next().await, Some(Heartbeat::Ping.bytes()));
        sender.send(Bytes::from_static(b"x")).unwrap();
        drop(sender);
        let rest: Vec<Bytes> = stream.collect().await;
        assert_eq!(rest.last().unwrap(), "x");
    }
}
