//! What is asked of a model, and what comes back.

use crate::{error::RequestError, sampler::SamplingParams, stats::Statistics};

/// Stop strings we take, and the bytes one may have.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 4096;

/// When tokens are guessed and tested several in one step ([`speculation`](crate::speculation)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculate {
    /// Never.
    Off,
    /// As often and as far as it pays.
    #[default]
    Auto,
    /// Whenever there is a guess, as far as there is room: to test and to measure.
    Always,
}

/// One request: a prompt and how to continue it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The tokens to continue.
    pub prompt: Vec<u32>,
    /// The most tokens of the answer; without it, what the context holds.
    pub max_tokens: Option<usize>,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Which of several answers to one prompt this is; part of the random numbers' key.
    pub choice: u32,
    /// Whether the answer is a text of its own, as in a chat: the space that some tokenizers put in
    /// front of a text is then taken away. Otherwise it belongs to the text that continues the prompt.
    pub begins_text: bool,
    /// Control tokens whose own text is part of the answer's, although control tokens stand for none: the marks of a
    /// thought or a call. Those that end the answer stay without text.
    pub visible_tokens: Vec<u32>,
    /// When tokens are guessed and tested several at a time. The answer is the same.
    pub speculate: Speculate,
}

impl Request {
    /// Continues `prompt` greedily until the model ends the text or the context is full.
    pub fn new(prompt: Vec<u32>) -> Self {
        Request {
            prompt,
            max_tokens: None,
            stop: Vec::new(),
            sampling: SamplingParams::default(),
            choice: 0,
            begins_text: false,
            visible_tokens: Vec::new(),
            speculate: Speculate::Auto,
        }
    }

    /// Checks everything that does not need the model to run.
    ///
    /// # Errors
    ///
    /// The prompt is empty, does not fit, or names a token outside the vocabulary; a stop string is
    /// empty; a setting is out of range.
    pub fn check(&self, n_vocab: usize, n_ctx: usize) -> Result<(), RequestError> {
        let n_prompt = self.prompt.len();
        if n_prompt == 0 {
            return Err(RequestError::EmptyPrompt);
        }
        // One position of the context is the answer's, unless none is asked for.
        let n_answer = usize::from(self.max_tokens != Some(0));
        if n_prompt + n_answer > n_ctx {
            return Err(RequestError::PromptTooLong { n_prompt, n_ctx });
        }
        if let Some(&token) = self.prompt.iter().find(|token| **token as usize >= n_vocab) {
            return Err(RequestError::Token {
                place: "the prompt",
                token,
                n_vocab,
            });
        }
        self.check_settings(n_vocab)
    }

    /// The part of [`check`](Self::check) that does not look at the prompt: worth doing before a large file is read.
    ///
    /// # Errors
    ///
    /// A stop string is empty; a setting is out of range.
    pub fn check_settings(&self, n_vocab: usize) -> Result<(), RequestError> {
        if self.stop.len() > MAX_STOPS {
            return Err(RequestError::TooMany {
                what: "stop strings",
                n: self.stop.len(),
                limit: MAX_STOPS,
            });
        }
        for (index, stop) in self.stop.iter().enumerate() {
            if stop.is_empty() {
                return Err(RequestError::EmptyStop { index });
            }
            if stop.len() > MAX_STOP_BYTES {
                return Err(RequestError::TooMany {
                    what: "bytes in a stop string",
                    n: stop.len(),
                    limit: MAX_STOP_BYTES,
                });
            }
        }
        let mut visible = self.visible_tokens.iter();
        if let Some(&token) = visible.find(|token| **token as usize >= n_vocab) {
            return Err(RequestError::Token {
                place: "the list of visible tokens",
                token,
                n_vocab,
            });
        }
        self.sampling.check(n_vocab)
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew a token that ends its text, or had no tokens left to draw it and could have drawn nothing else.
    EndOfGeneration {
        /// That token; it is not part of the answer.
        token: u32,
    },
    /// A stop string appeared.
    StopString {
        /// Its index in the request.
        index: usize,
    },
    /// `max_tokens` were drawn or the context is full.
    Length,
    /// The callback asked for an end.
    Cancelled,
}

impl FinishReason {
    /// The word the usual interfaces have for it.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::EndOfGeneration { .. } | FinishReason::StopString { .. } => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The tokens drawn, the one that ended the text excluded.
    pub tokens: Vec<u32>,
    /// Their text, up to a stop string.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// How long it took.
    pub statistics: Statistics,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_does_not_fit_names_both_numbers() {
        let request = Request::new(vec![1; 8]);
        assert_eq!(request.check(10, 9), Ok(()));
        let error = request.check(10, 8).unwrap_err();
        assert_eq!(
            error,
            RequestError::PromptTooLong {
                n_prompt: 8,
                n_ctx: 8
            }
        );
        assert_eq!(
            error.to_string(),
            "the prompt has 8 tokens, the context holds 8 with at least one of the answer"
        );
        let reading_only = Request {
            max_tokens: Some(0),
            ..request
        };
        assert_eq!(reading_only.check(10, 8), Ok(()));
        assert!(reading_only.check(10, 7).is_err());
    }

    #[test]
    fn each_bad_field_is_refused() {
        let good = Request::new(vec![1]);
        let cases = [
            Request {
                prompt: vec![],
                ..good.clone()
            },
            Request {
                prompt: vec![10],
                ..good.clone()
            },
            Request {
                stop: vec![String::new()],
                ..good.clone()
            },
            Request {
                stop: vec!["x".to_owned(); MAX_STOPS + 1],
                ..good.clone()
            },
            Request {
                stop: vec!["x".repeat(MAX_STOP_BYTES + 1)],
                ..good.clone()
            },
            Request {
                sampling: SamplingParams {
                    top_p: -1.0,
                    ..SamplingParams::default()
                },
                ..good.clone()
            },
        ];
        for case in cases {
            assert!(case.check(10, 100).is_err(), "{case:?}");
        }
    }
}
