//! A whole answer, for clients that do not stream.

use hearth_engine::TokenLogprob;

use crate::exchange::{Finish, Reply, Usage};

/// All replies, put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// Answers by their index.
    pub choices: Vec<CollectedChoice>,
    /// Log-probabilities of the prompt, if they were asked for.
    pub prompt_logprobs: Vec<Option<TokenLogprob>>,
    /// What the client should know beside the answers.
    pub notices: Vec<String>,
    /// What it cost.
    pub usage: Usage,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectedChoice {
    /// Thinking.
    pub reasoning: String,
    /// Text.
    pub text: String,
    /// Calls, in order.
    pub calls: Vec<Call>,
    /// Every token drawn, if log-probabilities were asked for.
    pub tokens: Vec<TokenOf>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens drawn.
    pub n_tokens: usize,
    /// Of those, tokens of thinking.
    pub n_reasoning: usize,
}

/// A call of a function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// Its id, `call_…`.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

/// A token with its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenOf {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its log-probability.
    pub logprob: TokenLogprob,
    /// Whether it is part of the thinking.
    pub is_reasoning: bool,
}

impl Default for CollectedChoice {
    fn default() -> Self {
        CollectedChoice {
            reasoning: String::new(),
            text: String::new(),
            calls: Vec::new(),
            tokens: Vec::new(),
            finish: Finish::Length,
            n_tokens: 0,
            n_reasoning: 0,
        }
    }
}

impl Collected {
    /// Adds the next reply.
    pub fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Reading { .. } | Reply::CallEnd { .. } => {}
            Reply::PromptLogprobs(logprobs) => self.prompt_logprobs = logprobs,
            Reply::Notice { text, .. } => self.notices.push(text),
            Reply::Reasoning { choice, text } => self.choice(choice).reasoning.push_str(&text),
            Reply::Text { choice, text } => self.choice(choice).text.push_str(&text),
            Reply::CallBegin {
                choice, id, name, ..
            } => {
                let arguments = String::new();
                self.choice(choice).calls.push(Call {
                    id,
                    name,
                    arguments,
                });
            }
            Reply::CallArguments {
                choice,
                index,
                text,
            } => {
                if let Some(call) = self.choice(choice).calls.get_mut(index) {
                    call.arguments.push_str(&text);
                }
            }
            Reply::Token {
                choice,
                bytes,
                logprob,
                is_reasoning,
            } => {
                let token = TokenOf {
                    bytes,
                    logprob,
                    is_reasoning,
                };
                self.choice(choice).tokens.push(token);
            }
            Reply::Finished {
                choice,
                finish,
                n_tokens,
                n_reasoning,
            } => {
                let choice = self.choice(choice);
                choice.finish = finish;
                choice.n_tokens = n_tokens;
                choice.n_reasoning = n_reasoning;
            }
            Reply::End { usage } => self.usage = usage,
        }
    }

    fn choice(&mut self, index: usize) -> &mut CollectedChoice {
        if self.choices.len() <= index {
            self.choices
                .resize_with(index + 1, CollectedChoice::default);
        }
        &mut self.choices[index]
    }
}
