//! One answer as it comes: what happened to a job in, replies out. A plain state machine.

use std::sync::Arc;

use hearth_engine::{AnswerReader, FinishReason, Statistics, TokenLogprob};
use hearth_text::{Tokenizer, parse::Piece};

use crate::{
    exchange::{Finish, Reply, finish_of},
    ids,
};

/// Reads the events of one job.
pub(super) struct ChoiceReader {
    choice: usize,
    /// None for plain text.
    parser: Option<AnswerReader>,
    tokens: TokenTexts,
    stops: Arc<[String]>,
    /// Whether the text is JSON, which a stop string leaves unfinished.
    is_json: bool,
    is_reasoning: bool,
    n_reasoning: usize,
    n_begun: usize,
    n_ended: usize,
    pieces: Vec<Piece>,
}

impl ChoiceReader {
    pub(super) fn new(
        choice: usize,
        parser: Option<AnswerReader>,
        is_reasoning: bool,
        tokens: TokenTexts,
        stops: Arc<[String]>,
    ) -> Self {
        ChoiceReader {
            choice,
            parser,
            tokens,
            stops,
            is_json: false,
            is_reasoning,
            n_reasoning: 0,
            n_begun: 0,
            n_ended: 0,
            pieces: Vec::new(),
        }
    }

    /// The same for an answer whose text must be JSON.
    pub(super) fn of_json(self, is_json: bool) -> Self {
        ChoiceReader { is_json, ..self }
    }

    /// Which answer it is.
    pub(super) fn choice(&self) -> usize {
        self.choice
    }

    /// Tokens of thinking so far.
    pub(super) fn n_reasoning(&self) -> usize {
        self.n_reasoning
    }

    /// A token was drawn.
    pub(super) fn token(
        &mut self,
        token: u32,
        text: String,
        logprob: Option<TokenLogprob>,
        out: &mut impl Extend<Reply>,
    ) {
        let bytes = self.tokens.bytes(token);
        self.parse(text);
        self.n_reasoning += usize::from(self.is_reasoning);
        out.extend(logprob.map(|logprob| Reply::Token {
            choice: self.choice,
            bytes,
            logprob,
            is_reasoning: self.is_reasoning,
        }));
        self.hand_out(out);
    }

    /// The job is done.
    pub(super) fn done(
        &mut self,
        text: String,
        finish: FinishReason,
        statistics: &Statistics,
        out: &mut impl Extend<Reply>,
    ) {
        self.parse(text);
        if let Some(parser) = &mut self.parser {
            parser.finish(&mut self.pieces);
        }
        self.hand_out(out);
        let finish = match finish_of(finish, &self.stops) {
            Finish::Stop | Finish::StopString(_) if self.n_ended > 0 => Finish::ToolCalls,
            Finish::StopString(stop) if self.is_json => {
                let text =
                    format!("the stop string {stop:?} came up inside the JSON, which is cut there");
                out.extend([Reply::Notice {
                    choice: self.choice,
                    text,
                }]);
                Finish::Cut(stop)
            }
            other => other,
        };
        out.extend([Reply::Finished {
            choice: self.choice,
            finish,
            n_tokens: statistics.n_drawn,
            n_reasoning: self.n_reasoning,
        }]);
    }

    /// Text to pieces, and whether thinking goes on after them.
    fn parse(&mut self, text: String) {
        match &mut self.parser {
            Some(parser) => parser.push(&text, &mut self.pieces),
            None => self.pieces.push(Piece::Text(text)),
        }
        let is_reasoning = |piece: &Piece| match piece {
            Piece::Reasoning(_) => Some(true),
            Piece::Text(text) => (!text.is_empty()).then_some(false),
            Piece::CallBegin { .. } | Piece::CallArguments(_) | Piece::CallEnd => Some(false),
            Piece::Notice(_) => None,
        };
        if let Some(is_reasoning) = self.pieces.iter().rev().find_map(is_reasoning) {
            self.is_reasoning = is_reasoning;
        }
    }

    fn hand_out(&mut self, out: &mut impl Extend<Reply>) {
        let mut pieces = std::mem::take(&mut self.pieces);
        out.extend(pieces.drain(..).filter_map(|piece| self.reply(piece)));
        self.pieces = pieces;
    }

    fn reply(&mut self, piece: Piece) -> Option<Reply> {
        let choice = self.choice;
        let index = self.n_begun.saturating_sub(1);
        Some(match piece {
            Piece::Reasoning(text) | Piece::Text(text) | Piece::CallArguments(text)
                if text.is_empty() =>
            {
                return None;
            }
            Piece::Reasoning(text) => Reply::Reasoning { choice, text },
            Piece::Text(text) => Reply::Text { choice, text },
            Piece::CallBegin { name } => {
                self.n_begun += 1;
                Reply::CallBegin {
                    choice,
                    index: self.n_begun - 1,
                    id: ids::new("call_"),
                    name,
                }
            }
            Piece::CallArguments(text) => Reply::CallArguments {
                choice,
                index,
                text,
            },
            Piece::CallEnd => {
                self.n_ended += 1;
                Reply::CallEnd { choice, index }
            }
            Piece::Notice(text) => Reply::Notice { choice, text },
        })
    }
}

/// What each token of an answer adds to its text.
#[derive(Clone)]
pub(super) struct TokenTexts {
    tokenizer: Arc<Tokenizer>,
    /// Control tokens whose text is part of the answer, ascending.
    visible: Arc<[u32]>,
    /// Whether the answer is still without text and its first space is the tokenizer's.
    strips_space: bool,
}

impl TokenTexts {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, visible: Arc<[u32]>, begins_text: bool) -> Self {
        TokenTexts {
            tokenizer,
            visible,
            strips_space: begins_text,
        }
    }

    fn bytes(&mut self, token: u32) -> Vec<u8> {
        if self.visible.binary_search(&token).is_ok() {
            return self.tokenizer.piece(token).unwrap_or_default().to_vec();
        }
        let bytes = if self.strips_space {
            self.tokenizer.decode(&[token])
        } else {
            self.tokenizer.text_of(token).to_vec()
        };
        self.strips_space &= self.tokenizer.text_of(token).is_empty();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use hearth_engine::Reading;
    use hearth_gguf::Gguf;
    use hearth_testing::tiny_chat::tiny_chat;
    use hearth_text::parse::{AnswerFormat, OfferedTool, ParseOptions, ThinkingTags, ToolFormat};

    use super::*;

    fn reader(is_thinking_open: bool) -> ChoiceReader {
        stopping(is_thinking_open, &[])
    }

    fn stopping(is_thinking_open: bool, stops: &[&str]) -> ChoiceReader {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let gguf = Gguf::from_vec(tiny_chat().build()).unwrap();
        let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
        let format = AnswerFormat {
            thinking: Some(ThinkingTags {
                open: "<think>".into(),
                close: "</think>".into(),
            }),
            tools: Some(ToolFormat::Hermes),
        };
        let tool = OfferedTool {
            name: "look".into(),
            parameters: None,
        };
        let options = ParseOptions {
            tools: [tool].into(),
            is_thinking_open,
        };
        let parser = AnswerReader::new(&Reading { format, options }, &stops);
        let texts = TokenTexts::new(tokenizer.into(), Arc::from([]), true);
        ChoiceReader::new(2, Some(parser), is_thinking_open, texts, stops.into())
    }

    fn logprob(token: u32) -> Option<TokenLogprob> {
        Some(TokenLogprob {
            token,
            logprob: -1.0,
            top: Vec::new(),
        })
    }

    /// Each piece as one token; the rest as what was held back.
    fn run(reader: &mut ChoiceReader, pieces: &[&str], rest: &str) -> Vec<Reply> {
        let finish = FinishReason::EndOfGeneration { token: 0 };
        run_to(reader, pieces, rest, finish)
    }

    fn run_to(
        reader: &mut ChoiceReader,
        pieces: &[&str],
        rest: &str,
        finish: FinishReason,
    ) -> Vec<Reply> {
        let mut out = Vec::new();
        for piece in pieces {
            reader.token(65, (*piece).to_owned(), logprob(65), &mut out);
        }
        let statistics = Statistics {
            n_drawn: pieces.len() + 1,
            ..Statistics::default()
        };
        reader.done(rest.to_owned(), finish, &statistics, &mut out);
        out
    }

    fn texts(replies: &[Reply]) -> (String, String, String) {
        let mut all = (String::new(), String::new(), String::new());
        for reply in replies {
            match reply {
                Reply::Reasoning { text, .. } => all.0.push_str(text),
                Reply::Text { text, .. } => all.1.push_str(text),
                Reply::CallArguments { text, .. } => all.2.push_str(text),
                _ => {}
            }
        }
        all
    }

    #[test]
    fn thinking_text_and_calls_come_apart_and_are_counted() {
        let call = "<tool_call>{\"name\": \"look\", \"arguments\": {\"a\": 1}}</tool_call>";
        let replies = run(&mut reader(true), &["h", "m", "</think>", "so"], call);
        assert_eq!(
            texts(&replies),
            ("hm".into(), "so".into(), "{\"a\": 1}".into())
        );
        let last = replies.last().unwrap();
        assert_eq!(
            *last,
            Reply::Finished {
                choice: 2,
                finish: Finish::ToolCalls,
                n_tokens: 5,
                n_reasoning: 3
            }
        );
        let begin = replies.iter().find_map(|reply| match reply {
            Reply::CallBegin {
                index, id, name, ..
            } => Some((*index, id.len(), name.as_str())),
            _ => None,
        });
        assert_eq!(begin, Some((0, 29, "look")));
    }

    #[test]
    fn a_stop_string_cuts_the_text_and_says_so_where_that_leaves_no_json() {
        let stop = FinishReason::StopString { index: 0 };
        let end = |replies: &[Reply]| match replies.last() {
            Some(Reply::Finished { finish, .. }) => finish.clone(),
            other => panic!("{other:?}"),
        };
        let pieces = ["so E", "ND", "</think>", "{\"a\": \"E", "ND of it"];
        let replies = run_to(&mut stopping(true, &["END"]), &pieces, "", stop);
        let expected = ("so END".into(), "{\"a\": \"".into(), String::new());
        assert_eq!(texts(&replies), expected, "a thought is not searched");
        assert_eq!(end(&replies), Finish::StopString("END".into()));
        let replies = run_to(
            &mut stopping(true, &["END"]).of_json(true),
            &pieces,
            "",
            stop,
        );
        assert_eq!(texts(&replies), expected);
        assert_eq!(end(&replies), Finish::Cut("END".into()));
        let is_notice = |reply: &Reply| matches!(reply, Reply::Notice { .. });
        assert_eq!(replies.iter().filter(|reply| is_notice(reply)).count(), 1);
        let call = "<tool_call>{\"name\": \"look\", \"arguments\": {\"a\": \"END\"}}</tool_call>";
        let replies = run_to(&mut stopping(false, &["END"]), &[call, " END"], "", stop);
        let expected = (String::new(), " ".into(), "{\"a\": \"END\"}".into());
        assert_eq!(texts(&replies), expected);
        assert_eq!(end(&replies), Finish::ToolCalls, "the call is whole");
    }

    #[test]
    fn a_token_is_told_before_the_text_it_made_certain() {
        let replies = run(&mut reader(false), &["a", "", "b"], "");
        let kinds: Vec<bool> = replies
            .iter()
            .map(|reply| matches!(reply, Reply::Token { .. }))
            .collect();
        assert_eq!(kinds, [true, false, true, true, false, false]);
    }

    #[test]
    fn control_tokens_have_no_bytes_unless_they_are_marks() {
        let gguf = Gguf::from_vec(tiny_chat().build()).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).unwrap());
        let end = tokenizer.eos().unwrap();
        let mut hidden = TokenTexts::new(tokenizer.clone(), Arc::from([]), false);
        assert_eq!(hidden.bytes(end), b"");
        let mut visible = TokenTexts::new(tokenizer, Arc::from([end]), false);
        assert_eq!(visible.bytes(end), b"<|im_end|>");
    }

    #[test]
    fn the_first_space_of_a_text_is_the_tokenizers() {
        let gguf = Gguf::from_vec(
            hearth_testing::TinyModel::new("llama", hearth_gguf::TensorType::F32).build(),
        )
        .unwrap();
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).unwrap());
        let the = tokenizer.encode(
            "the",
            hearth_text::Encode {
                add_special: false,
                parse_special: false,
            },
        )[0];
        let end = tokenizer.eos().unwrap();
        let mut texts = TokenTexts::new(tokenizer, Arc::from([]), true);
        let bytes: Vec<Vec<u8>> = [end, the, the].map(|token| texts.bytes(token)).into();
        assert_eq!(bytes, [&b""[..], b"the", b" the"]);
    }
}
