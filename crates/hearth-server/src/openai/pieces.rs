//! Parts of answers that chat and completions share: usage, log-probabilities, how a stream of chunks becomes events.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, TryStreamExt};
use hearth_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    error::{ApiError, Dialect},
    exchange::{Reply, Usage},
    sse::Event,
};

/// The least log-probability that is told: JSON has no minus infinity.
const LEAST: f32 = -9999.0;

/// What stands at the top of every object of one answer.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Its id.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model as it was asked for.
    pub(super) model: String,
}

impl Head {
    pub(super) fn new(prefix: &str, model: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Head {
            id: crate::ids::new(prefix),
            created: now.unwrap_or_default().as_secs(),
            model: model.to_owned(),
        }
    }

    /// An object with these choices.
    pub(super) fn object(&self, kind: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("hearth-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }
}

/// Tokens as OpenAI counts them. Nothing here predicts, so those figures are 0.
pub(super) fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.n_prompt,
        "completion_tokens": usage.n_completion,
        "total_tokens": usage.n_prompt + usage.n_completion,
        "prompt_tokens_details": {"cached_tokens": usage.n_cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.n_reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// What turned out while the answer was written goes where clients find it, streamed or not: into its last object.
pub(super) fn tell(object: &mut Value, notices: &[String]) {
    if !notices.is_empty() {
        object["hearth"] = json!({"notices": notices});
    }
}

/// A log-probability as JSON.
pub(super) fn logprob(logprob: f32) -> Value {
    json!(f64::from(logprob.max(LEAST)))
}

/// Names for tokens.
#[derive(Clone)]
pub(super) struct TokenNames(pub(super) Arc<Tokenizer>);

impl TokenNames {
    /// What a token adds to a text.
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        self.0.text_of(token)
    }
}

/// The events of a chat's stream: what `chunks` makes of each reply, progress and late notices as comments.
pub(super) fn events(
    replies: impl Stream<Item = Result<Reply, ApiError>> + Send,
    mut chunks: impl FnMut(Reply) -> Vec<Value> + Send,
) -> impl Stream<Item = Event> + Send {
    let events = move |reply: Reply| {
        let remark = reply.remark().map(Event::comment);
        remark.into_iter().chain(data(&chunks(reply))).collect()
    };
    until_error(replies.map_ok(events))
}

/// Chunks as events.
pub(super) fn data(chunks: &[Value]) -> Vec<Event> {
    chunks
        .iter()
        .map(|chunk| Event::data(chunk.to_string()))
        .collect()
}

/// All events and `[DONE]`; an error ends them, without it.
pub(super) fn until_error(
    events: impl Stream<Item = Result<Vec<Event>, ApiError>> + Send,
) -> impl Stream<Item = Event> + Send {
    let done = futures_util::stream::iter([Ok(vec![Event::data("[DONE]")])]);
    let batches = events.chain(done).scan(false, |has_failed, batch| {
        let batch = (!*has_failed).then(|| {
            batch.unwrap_or_else(|error| {
                *has_failed = true;
                vec![Event::data(error.body(Dialect::OpenAi, "").to_string())]
            })
        });
        std::future::ready(batch)
    });
    batches.flat_map(futures_util::stream::iter)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn texts(replies: Vec<Result<Reply, ApiError>>) -> Vec<String> {
        let stream = events(futures_util::stream::iter(replies), |_| {
            vec![json!(1), json!(2)]
        });
        stream.map(|event| event.data).collect().await
    }

    fn text() -> Result<Reply, ApiError> {
        Ok(Reply::Text {
            choice: 0,
            text: "a".into(),
        })
    }

    #[tokio::test]
    async fn a_stream_ends_in_done_and_a_broken_one_in_the_error() {
        assert_eq!(texts(vec![text()]).await, ["1", "2", "[DONE]"]);
        let error = ApiError::unavailable("going down");
        let broken = texts(vec![text(), Err(error.clone()), text()]).await;
        assert_eq!(broken[..2], ["1", "2"]);
        assert_eq!(broken[2..], [error.body(Dialect::OpenAi, "").to_string()]);
    }

    #[tokio::test]
    async fn progress_and_late_notices_are_comments() {
        let reading = |n_done| {
            Ok(Reply::Reading {
                n_done,
                n_prompt: 9,
                n_cached: 0,
            })
        };
        let notice = Ok(Reply::Notice {
            choice: 0,
            text: "odd".into(),
        });
        let stream = events(futures_util::stream::iter([reading(4), notice]), |_| {
            Vec::new()
        });
        let events: Vec<Event> = stream.collect().await;
        assert!(events[0].is_comment && events[0].data.starts_with("4 of 9"));
        assert!(events[1].is_comment && events[1].data == "hearth-notice: note=odd");
        assert_eq!(events.len(), 3);
    }
}
