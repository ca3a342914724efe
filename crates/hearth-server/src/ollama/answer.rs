//! Replies on their way to lines, and lines that only say that the work goes on.

use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt, stream};
use hearth_text::parse::ThinkingTags;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{catalogue::rfc3339, lines::Lines};
use crate::{
    error::{ApiError, Dialect},
    exchange::Reply,
};

/// Silence after which a line without text is sent. Clients and proxies give up after 30 seconds at the earliest.
const SILENCE: Duration = Duration::from_secs(10);

/// An answer being written.
pub(super) struct Answer<R> {
    replies: R,
    lines: Lines,
    prompt: Vec<u32>,
    tags: Option<ThinkingTags>,
    silence: Duration,
    is_over: bool,
}

impl<R: Stream<Item = Result<Reply, ApiError>> + Send + Unpin> Answer<R> {
    /// Before its first line. `prompt` are the tokens that are continued, `tags` what thinking stands between.
    pub(super) fn new(
        replies: R,
        lines: Lines,
        prompt: Vec<u32>,
        tags: Option<ThinkingTags>,
    ) -> Self {
        Answer {
            replies,
            lines,
            prompt,
            tags,
            silence: SILENCE,
            is_over: false,
        }
    }

    /// The lines as they come.
    pub(super) fn stream(self) -> impl Stream<Item = Value> + Send {
        stream::unfold(self, |mut answer| async move {
            let line = answer.next().await?;
            Some((line, answer))
        })
    }

    /// The answer that is not streamed: it has one line.
    pub(super) async fn whole(mut self) -> Result<Value, ApiError> {
        while let Some(reply) = self.replies.next().await {
            if let Some(line) = self.take(reply)? {
                return Ok(line);
            }
        }
        Err(ApiError::internal("an answer ended without its end"))
    }

    /// The next line; an error is the last one. What makes no line, such as progress with the prompt, breaks no silence.
    async fn next(&mut self) -> Option<Value> {
        if self.is_over {
            return None;
        }
        let silence_ends = Instant::now() + self.silence;
        loop {
            let Ok(reply) = timeout_at(silence_ends, self.replies.next()).await else {
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
        let line = self
            .lines
            .last(&usage, &now(), &self.prompt, self.tags.as_ref());
        Ok(Some(line))
    }
}

/// The time, as lines tell it.
pub(super) fn now() -> String {
    rfc3339(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_gguf::Gguf;
    use hearth_testing::tiny_chat::tiny_chat;
    use hearth_text::Tokenizer;

    use super::*;
    use crate::{exchange::Usage, ollama::request::Kind};

    fn lines() -> Lines {
        let gguf = Gguf::from_vec(tiny_chat().build()).unwrap();
        let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
        Lines::new(Kind::Chat, "m".into(), true, Arc::new(tokenizer))
    }

    #[tokio::test]
    async fn progress_that_makes_no_line_does_not_keep_a_client_waiting() {
        let reading = |n_done| Reply::Reading {
            n_done,
            n_prompt: 1_000_000,
            n_cached: 0,
        };
        // There is always a reply at hand, and none of the first million makes a line.
        let progress = stream::iter((0..1_000_000).map(move |n| Ok(reading(n))));
        let end = Reply::End {
            usage: Usage::default(),
        };
        let replies = progress.chain(stream::iter([Ok(end)])).then(|reply| async {
            tokio::task::yield_now().await;
            reply
        });
        let answer = Answer {
            silence: Duration::from_millis(1),
            ..Answer::new(Box::pin(replies), lines(), Vec::new(), None)
        };
        let lines: Vec<Value> = answer.stream().collect().await;
        let (last, beats) = lines.split_last().unwrap();
        assert_eq!(last["done"], true);
        assert!(!beats.is_empty());
        for beat in beats {
            assert_eq!(beat["done"], false);
            assert_eq!(beat["message"]["content"], "");
        }
    }

    #[tokio::test]
    async fn an_error_is_the_last_line() {
        let text = Reply::Text {
            choice: 0,
            text: "a".into(),
        };
        let broken = ApiError::unavailable("gone");
        let replies = stream::iter([Ok(text.clone()), Err(broken), Ok(text)]);
        let answer = Answer::new(replies, lines(), Vec::new(), None);
        let lines: Vec<Value> = answer.stream().collect().await;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"]["content"], "a");
        assert_eq!(lines[1], serde_json::json!({"error": "gone"}));
    }
}
