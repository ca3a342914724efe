//! A request's body: read with bounds, checked, parsed.
//!
//! JSON whatever the content type says. Size, nesting and number of values are bounded before memory is taken for
//! them. A body that is refused is still read for a while in the background ([`Upload`]), so that the answer reaches the client
//! and the connection stays usable.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::header,
};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use crate::{app::App, error::ApiError, fields, limits::Limits};

/// Above this a body is parsed on a thread that may block.
const LARGE: usize = 1 << 20;

/// Bytes of all bodies being read, against the limit on their sum.
#[derive(Clone, Debug, Default)]
pub struct Uploads(Arc<AtomicUsize>);

/// One body's share of [`Uploads`], given back when dropped.
struct Share {
    uploads: Uploads,
    n_bytes: usize,
}

impl Share {
    fn grow(&mut self, n_bytes: usize, limit: usize) -> Result<(), ApiError> {
        let before = self.uploads.0.fetch_add(n_bytes, Ordering::Relaxed);
        self.n_bytes += n_bytes;
        if before + n_bytes > limit {
            return Err(ApiError::unavailable(format!(
                "too many large bodies at one time, the limit is {limit} bytes in all"
            )));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.uploads.0.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}

/// A body that is a JSON object, for handlers to take.
#[derive(Debug)]
pub struct Object(pub Map<String, Value>);

impl FromRequest<App> for Object {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        read_object_of(request, &app.limits, &app.uploads)
            .await
            .map(Object)
    }
}

/// The object a request's body is.
///
/// # Errors
///
/// The body is too large, comes too slowly, is empty, is no JSON, or no object.
pub async fn read_object(
    request: Request,
    limits: &Limits,
) -> Result<Map<String, Value>, ApiError> {
    read_object_of(request, limits, &Uploads::default()).await
}

async fn read_object_of(
    request: Request,
    limits: &Limits,
    uploads: &Uploads,
) -> Result<Map<String, Value>, ApiError> {
    let bytes = read_bytes(request.into_body(), limits, uploads).await?;
    if bytes.len() <= LARGE {
        return parse_object(&bytes, limits);
    }
    let limits = limits.clone();
    let parsed = tokio::task::spawn_blocking(move || parse_object(&bytes, &limits)).await;
    parsed.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

/// All bytes of a body within the limits.
async fn read_bytes(body: Body, limits: &Limits, uploads: &Uploads) -> Result<Vec<u8>, ApiError> {
    let limit = limits.body_bytes;
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(ApiError::too_large(limit));
    }
    let mut share = Share {
        uploads: uploads.clone(),
        n_bytes: 0,
    };
    // What is announced is not believed: a client that sends nothing costs nothing.
    let mut bytes = Vec::with_capacity((announced as usize).min(64 << 10));
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::invalid(None, format!("the body broke off: {error}")))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(ApiError::too_large(limit));
        }
        share.grow(data.len(), limits.uploads_bytes)?;
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// The object that these bytes are as JSON.
///
/// # Errors
///
/// They are none, are nested too deeply, or hold too many values.
pub fn parse_object(bytes: &[u8], limits: &Limits) -> Result<Map<String, Value>, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid(
            None,
            "the body is empty; a JSON object is needed",
        ));
    }
    check_shape(bytes, limits)?;
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(ApiError::invalid(
            None,
            format!(
                "the body must be a JSON object, not {}",
                fields::describe(&other)
            ),
        )),
        Err(error) => Err(ApiError::invalid(
            None,
            format!("the body is not JSON: {error}"),
        )),
    }
}

/// Bounds depth and number of values, without memory and whether or not the bytes are JSON.
fn check_shape(bytes: &[u8], limits: &Limits) -> Result<(), ApiError> {
    let (mut depth, mut n_values, mut in_string, mut is_escaped) = (0_usize, 1_usize, false, false);
    for &byte in bytes {
        if in_string {
            (in_string, is_escaped) = match byte {
                _ if is_escaped => (true, false),
                b'\\' => (true, true),
                other => (other != b'"', false),
            };
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                n_values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => n_values += 1,
            _ => {}
        }
        if depth > limits.json_depth || n_values > limits.json_values {
            return Err(too_complex(depth, limits));
        }
    }
    Ok(())
}

fn too_complex(depth: usize, limits: &Limits) -> ApiError {
    let message = match depth > limits.json_depth {
        true => format!("the body nests deeper than {} levels", limits.json_depth),
        false => format!("the body has more than {} values", limits.json_values),
    };
    ApiError::invalid(None, message)
}

/// A body on its way in: a pause that is too long ends it, and what its reader leaves unread is read and thrown away
/// in the background, up to a bound. Without that a refusal could be lost: a connection closed while bytes arrive is reset.
pub struct Upload {
    inner: Option<Body>,
    pause: Pin<Box<tokio::time::Sleep>>,
    max_pause: Duration,
    /// When all of it must be here: a byte now and then is no upload.
    end: Instant,
    drain_bytes: usize,
    /// The client waits for our word before it sends anything, so there is nothing to throw away.
    is_held_back: bool,
}

impl Upload {
    /// Wraps a request's body.
    pub fn wrap(request: Request, limits: &Limits) -> Request {
        if request.body().is_end_stream() {
            return request;
        }
        let is_held_back = request.headers().contains_key(header::EXPECT);
        let max_pause = limits.body_pause();
        let end = Instant::now() + limits.body_time();
        let drain_bytes = limits.drain_bytes;
        request.map(|inner| {
            Body::new(Upload {
                inner: Some(inner),
                pause: Box::pin(tokio::time::sleep(max_pause)),
                max_pause,
                end,
                drain_bytes,
                is_held_back,
            })
        })
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        this.is_held_back = false;
        match Pin::new(inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let next = (Instant::now() + this.max_pause).min(this.end);
                this.pause.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => {
                this.inner = None;
                Poll::Ready(end.map(|result| result.map_err(Into::into)))
            }
            Poll::Pending => match this.pause.as_mut().poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    this.inner = None;
                    Poll::Ready(Some(Err("it came too slowly".into())))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(|inner| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map(|inner| inner.size_hint())
            .unwrap_or_default()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        if inner.is_end_stream() || self.is_held_back {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(drain(inner, self.drain_bytes, self.max_pause));
        }
    }
}

/// Throws a body away, up to a bound of bytes and of time.
async fn drain(mut body: Body, limit: usize, max_time: Duration) {
    let mut n_bytes = 0;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            n_bytes += frame.data_ref().map_or(0, Bytes::len);
            if n_bytes > limit {
                break;
            }
        }
    };
    // Out of time or not, the body is dropped now, and hyper closes the connection if anything is left.
    let _ = timeout(max_time, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Map<String, Value>, ApiError> {
        parse_object(text, &Limits::default())
    }

    #[test]
    fn what_is_no_json_object_is_a_400() {
        let deep = [b"{\"a\":".repeat(97), b"1".to_vec(), b"}".repeat(97)].concat();
        let open = b"[".repeat(1 << 20);
        let cases: [&[u8]; 13] = [
            b"",
            b" \n",
            b"null",
            b"[]",
            b"\"text\"",
            b"{\"a\": NaN}",
            b"{\"a\": 1e999}",
            b"{\"a\": \"\\ud800\"}",
            b"{\"a\": \"\xff\"}",
            b"{\"a\": 1",
            b"{\"a\": 1} x",
            &deep,
            &open,
        ];
        for bytes in cases {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            let error = parse(bytes).expect_err(&shown);
            assert_eq!(error.status, 400, "{shown}");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let limits = Limits {
            json_depth: 3,
            json_values: 6,
            ..Limits::default()
        };
        assert!(parse_object(br#"{"a":{"b":[1]}}"#, &limits).is_ok());
        assert!(parse_object(br#"{"a":{"b":[[1]]}}"#, &limits).is_err());
        assert!(parse_object(br#"{"a":[1,2,3]}"#, &limits).is_ok());
        assert!(parse_object(br#"{"a":[1,2,3,4,5,6]}"#, &limits).is_err());
        let brackets_in_text = br#"{"a":"[[[[[[[\"[[[[,,,,,,,,,"}"#;
        assert!(parse_object(brackets_in_text, &limits).is_ok());
    }

    #[tokio::test]
    async fn a_body_past_the_limit_is_a_413() {
        let limits = Limits {
            body_bytes: 8,
            ..Limits::default()
        };
        let announced = read_bytes(Body::from("123456789"), &limits, &Uploads::default()).await;
        assert_eq!(announced.unwrap_err().status, 413);
        let pieces = ["12345", "6789"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let streamed = Body::from_stream(futures_util::stream::iter(pieces));
        let uploads = Uploads::default();
        let streamed = read_bytes(streamed, &limits, &uploads).await;
        assert_eq!(streamed.unwrap_err().status, 413);
        assert_eq!(
            uploads.0.load(Ordering::Relaxed),
            0,
            "the share is given back"
        );
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let limits = Limits {
            uploads_bytes: 4,
            ..Limits::default()
        };
        let error = read_bytes(Body::from("12345"), &limits, &Uploads::default()).await;
        assert_eq!(error.unwrap_err().status, 503);
    }
}
