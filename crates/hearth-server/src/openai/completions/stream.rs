//! An answer of `/v1/completions` in pieces: a state machine from replies to parts of texts.
//!
//! A part has text and, where asked for, the tokens it came with, in the old shape of log-probabilities: what a token made
//! certain is its text there, so the tokens joined are the text, also where a character is spread over several. With
//! log-probabilities a part is sent when the next token comes, so that none is without its text. The object for clients
//! that do not stream is made of the same parts.

use std::collections::BTreeMap;

use hearth_engine::TokenLogprob;
use serde_json::{Map, Value, json};

use crate::{
    exchange::{Finish, Reply, Usage},
    openai::pieces::{self, TokenNames},
};

/// A token with the text it made certain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// That text.
    pub(super) text: String,
    /// Its log-probability; the first token of a prompt has none.
    pub(super) logprob: Option<TokenLogprob>,
}

/// A piece of one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Part {
    /// Which choice.
    pub(super) choice: usize,
    /// Its text.
    pub(super) text: String,
    /// Its tokens.
    pub(super) entries: Vec<Entry>,
    /// Characters of the choice before it.
    pub(super) offset: usize,
    /// Why the choice ended with it.
    pub(super) finish: Option<&'static str>,
}

/// The text of a prompt and of each of its tokens, where it is repeated.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Echo {
    /// The whole.
    pub(super) text: String,
    /// By token; empty when log-probabilities were not asked for.
    pub(super) tokens: Vec<String>,
}

/// The state of the answers to one prompt.
pub(super) struct TextStream {
    /// The index of this prompt's first choice.
    first_choice: usize,
    echo: Option<Echo>,
    has_logprobs: bool,
    prompt_logprobs: Vec<Option<TokenLogprob>>,
    choices: BTreeMap<usize, ChoiceState>,
}

#[derive(Default)]
struct ChoiceState {
    has_begun: bool,
    text: String,
    entries: Vec<Entry>,
    n_sent: usize,
}

impl TextStream {
    pub(super) fn new(first_choice: usize, echo: Option<Echo>, has_logprobs: bool) -> Self {
        TextStream {
            first_choice,
            echo,
            has_logprobs,
            prompt_logprobs: Vec::new(),
            choices: BTreeMap::new(),
        }
    }

    /// The parts that a reply completes.
    pub(super) fn take(&mut self, reply: Reply) -> Vec<Part> {
        match reply {
            Reply::PromptLogprobs(logprobs) => {
                self.prompt_logprobs = logprobs;
                Vec::new()
            }
            Reply::Token {
                choice, logprob, ..
            } => {
                let mut parts = Vec::from_iter(self.begin(choice));
                parts.extend(self.flush(choice, None));
                let entry = Entry {
                    text: String::new(),
                    logprob: Some(logprob),
                };
                self.state(choice).entries.push(entry);
                parts
            }
            Reply::Text { choice, text } => {
                let mut parts = Vec::from_iter(self.begin(choice));
                let state = self.state(choice);
                if let Some(last) = state.entries.last_mut() {
                    last.text.push_str(&text);
                }
                state.text.push_str(&text);
                if !self.has_logprobs {
                    parts.extend(self.flush(choice, None));
                }
                parts
            }
            Reply::Finished { choice, finish, .. } => {
                let mut parts = Vec::from_iter(self.begin(choice));
                parts.extend(self.flush(choice, Some(word(&finish))));
                parts
            }
            _ => Vec::new(),
        }
    }

    fn state(&mut self, choice: usize) -> &mut ChoiceState {
        self.choices.entry(choice).or_default()
    }

    /// The prompt, before anything else of a choice.
    fn begin(&mut self, choice: usize) -> Option<Part> {
        if std::mem::replace(&mut self.state(choice).has_begun, true) {
            return None;
        }
        let echo = self.echo.clone()?;
        let logprobs = self
            .prompt_logprobs
            .iter()
            .cloned()
            .chain(std::iter::repeat(None));
        let entries = echo.tokens.into_iter().zip(logprobs);
        let state = self.choices.entry(choice).or_default();
        state.entries = entries
            .map(|(text, logprob)| Entry { text, logprob })
            .collect();
        state.text = echo.text;
        self.flush(choice, None)
    }

    /// What waits of a choice; nothing if nothing does.
    fn flush(&mut self, choice: usize, finish: Option<&'static str>) -> Option<Part> {
        let first_choice = self.first_choice;
        let state = self.state(choice);
        if state.text.is_empty() && state.entries.is_empty() && finish.is_none() {
            return None;
        }
        let part = Part {
            choice: first_choice + choice,
            text: std::mem::take(&mut state.text),
            entries: std::mem::take(&mut state.entries),
            offset: state.n_sent,
            finish,
        };
        state.n_sent += part.text.chars().count();
        Some(part)
    }
}

fn word(finish: &Finish) -> &'static str {
    match finish {
        Finish::Length | Finish::Cut(_) => "length",
        Finish::Stop | Finish::StopString(_) | Finish::ToolCalls => "stop",
    }
}

/// How parts are written.
#[derive(Clone)]
pub(super) struct Style {
    /// Names of tokens, when log-probabilities were asked for.
    pub(super) names: Option<TokenNames>,
    /// Whether alternatives are told beside a token.
    pub(super) has_alternatives: bool,
}

impl Style {
    /// A part as a choice of an object.
    pub(super) fn choice(&self, part: &Part) -> Value {
        json!({
            "index": part.choice,
            "text": part.text,
            "logprobs": self.logprobs(part),
            "finish_reason": part.finish,
        })
    }

    /// Four lists of one length, or null when they were not asked for.
    fn logprobs(&self, part: &Part) -> Value {
        let Some(names) = &self.names else {
            return Value::Null;
        };
        let mut offset = part.offset;
        let offsets = part.entries.iter().map(|entry| {
            let at = offset;
            offset += entry.text.chars().count();
            at
        });
        let offsets: Vec<usize> = offsets.collect();
        let entries = || part.entries.iter();
        let logprob = |entry: &Entry| {
            entry
                .logprob
                .as_ref()
                .map_or(Value::Null, |logprob| pieces::logprob(logprob.logprob))
        };
        json!({
            "tokens": entries().map(|entry| &entry.text).collect::<Vec<_>>(),
            "token_logprobs": entries().map(logprob).collect::<Vec<_>>(),
            "top_logprobs": entries().map(|entry| self.alternatives(entry, names)).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }

    /// `{text: log-probability}`, best first. Of tokens with one text the best is told; the drawn one has the text it
    /// has in the list, so that clients can look it up.
    fn alternatives(&self, entry: &Entry, names: &TokenNames) -> Value {
        let Some(logprob) = entry.logprob.as_ref().filter(|_| self.has_alternatives) else {
            return Value::Null;
        };
        let mut map = Map::new();
        for &(token, value) in &logprob.top {
            let text = if token == logprob.token {
                entry.text.clone()
            } else {
                readable(names.bytes(token))
            };
            map.entry(text).or_insert_with(|| pieces::logprob(value));
        }
        Value::Object(map)
    }
}

/// The text of bytes; half a character is spelled out, as OpenAI does.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| {
            text + &format!("\\x{byte:02x}")
        }),
    }
}

/// All parts of all choices, joined, by index.
pub(super) fn join(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut choices: BTreeMap<usize, Part> = BTreeMap::new();
    for part in parts {
        let whole = choices.entry(part.choice).or_insert_with(|| Part {
            choice: part.choice,
            ..Part::default()
        });
        whole.text.push_str(&part.text);
        whole.entries.extend(part.entries);
        whole.finish = whole.finish.or(part.finish);
    }
    choices.into_values().collect()
}

/// The sum of what the prompts cost.
pub(super) fn add(sum: &mut Usage, one: &Usage) {
    sum.n_prompt += one.n_prompt;
    sum.n_cached += one.n_cached;
    sum.n_completion += one.n_completion;
    sum.n_reasoning += one.n_reasoning;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logprob(token: u32, value: f32) -> TokenLogprob {
        TokenLogprob {
            token,
            logprob: value,
            top: vec![(token, value), (token + 1, value - 1.0)],
        }
    }

    fn token(choice: usize, id: u32) -> Reply {
        Reply::Token {
            choice,
            bytes: Vec::new(),
            logprob: logprob(id, -0.25),
            is_reasoning: false,
        }
    }

    fn text(choice: usize, text: &str) -> Reply {
        Reply::Text {
            choice,
            text: text.into(),
        }
    }

    fn finished(choice: usize) -> Reply {
        Reply::Finished {
            choice,
            finish: Finish::Length,
            n_tokens: 3,
            n_reasoning: 0,
        }
    }

    fn style() -> Style {
        let gguf =
            hearth_gguf::Gguf::from_vec(hearth_testing::tiny_chat::tiny_chat().build()).unwrap();
        let tokenizer = hearth_text::Tokenizer::from_metadata(gguf.metadata()).unwrap();
        Style {
            names: Some(TokenNames(tokenizer.into())),
            has_alternatives: true,
        }
    }

    fn run(stream: &mut TextStream, replies: Vec<Reply>) -> Vec<Part> {
        replies
            .into_iter()
            .flat_map(|reply| stream.take(reply))
            .collect()
    }

    #[test]
    fn tokens_joined_are_the_text_where_characters_are_split_and_text_comes_late() {
        let echo = Echo {
            text: "né".into(),
            tokens: vec!["n".into(), "é".into()],
        };
        let mut stream = TextStream::new(4, Some(echo), true);
        let prompt = Reply::PromptLogprobs(vec![None, Some(logprob(7, -1.0))]);
        let replies = vec![
            prompt,
            token(0, 66),
            token(0, 67),
            text(0, "é"),
            token(0, 68),
            text(0, "x"),
            // Was held back for a stop string.
            text(0, "ST"),
            finished(0),
        ];
        let parts = run(&mut stream, replies);
        assert_eq!(
            parts
                .iter()
                .map(|part| part.text.as_str())
                .collect::<Vec<_>>(),
            ["né", "", "é", "xST"]
        );
        let whole = join(parts.clone());
        let choice = style().choice(&whole[0]);
        let logprobs = &choice["logprobs"];
        assert_eq!(choice["text"], "nééxST");
        assert_eq!(choice["index"], 4);
        assert_eq!(logprobs["tokens"], json!(["n", "é", "", "é", "xST"]));
        assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 2, 3]));
        assert_eq!(
            logprobs["token_logprobs"],
            json!([null, -1.0, -0.25, -0.25, -0.25])
        );
        assert_eq!(logprobs["top_logprobs"][0], Value::Null);
        // What a client puts together from the pieces.
        let lists = |key: &str| -> Vec<Value> {
            let pieces = parts.iter().map(|part| {
                style().choice(part)["logprobs"][key]
                    .as_array()
                    .unwrap()
                    .clone()
            });
            pieces.flatten().collect()
        };
        for key in ["tokens", "text_offset", "token_logprobs", "top_logprobs"] {
            assert_eq!(Value::Array(lists(key)), logprobs[key], "{key}");
        }
    }

    #[test]
    fn without_log_probabilities_text_passes_at_once() {
        let mut stream = TextStream::new(0, None, false);
        assert_eq!(stream.take(text(1, "a")).len(), 1);
        assert_eq!(stream.take(text(0, "b")).len(), 1);
        let end = stream.take(finished(1));
        assert_eq!(
            (end[0].choice, end[0].text.as_str(), end[0].finish),
            (1, "", Some("length"))
        );
    }

    #[test]
    fn the_drawn_token_can_be_looked_up_among_the_alternatives() {
        let mut stream = TextStream::new(0, None, true);
        let parts = run(&mut stream, vec![token(0, 97), text(0, "a"), finished(0)]);
        let choice = style().choice(&parts[0]);
        assert_eq!(
            choice["logprobs"]["top_logprobs"],
            json!([{"a": -0.25, "b": -1.25}])
        );
        let none = Style {
            has_alternatives: false,
            ..style()
        };
        assert_eq!(
            none.choice(&parts[0])["logprobs"]["top_logprobs"],
            json!([null])
        );
    }
}
