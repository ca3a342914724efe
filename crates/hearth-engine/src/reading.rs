//! Reads an answer while it is written: thought, text and calls apart, and the text up to a stop string.
//!
//! Stop strings are looked for in the text alone. A thought is not what a client waits for and a call's arguments are
//! data: neither ends an answer because a string happens to be in it. The engine reads along to know when to end, its
//! client to know what to show; both find the same, as nothing here depends on how the text is cut.

use hearth_text::parse::{AnswerFormat, AnswerParser, ParseOptions, Piece};

use crate::stop::{StopMatcher, Stopped};

/// How an answer reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// How the model writes thoughts and calls.
    pub format: AnswerFormat,
    /// The tools on offer, and whether the prompt ends in a thought.
    pub options: ParseOptions,
}

/// Takes an answer apart while it is written, up to a stop string in its text.
#[derive(Debug)]
pub struct AnswerReader {
    parser: AnswerParser,
    stops: StopMatcher,
    stop: Option<usize>,
    pieces: Vec<Piece>,
}

impl AnswerReader {
    /// At the beginning of an answer.
    pub fn new(reading: &Reading, stops: &[String]) -> Self {
        AnswerReader {
            parser: AnswerParser::new(&reading.format, reading.options.clone()),
            stops: StopMatcher::new(stops),
            stop: None,
            pieces: Vec::new(),
        }
    }

    /// Takes the next piece of text, appends what is certain by it. Nothing comes behind a stop string.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.parser.push(text, &mut self.pieces);
        self.sift(out);
    }

    /// Ends the answer: what was held back goes out.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        self.parser.finish(&mut self.pieces);
        self.sift(out);
        if self.stop.is_none() {
            self.release(out);
        }
    }

    /// Index of the stop string at which the text ended.
    pub fn stop(&self) -> Option<usize> {
        self.stop
    }

    fn sift(&mut self, out: &mut Vec<Piece>) {
        let mut pieces = std::mem::take(&mut self.pieces);
        for piece in pieces.drain(..) {
            match piece {
                _ if self.stop.is_some() => {}
                Piece::Text(text) => {
                    let stopped = self.stops.push(&text);
                    push_text(stopped.text, out);
                    self.stop = stopped.stop;
                }
                Piece::Notice(_) => out.push(piece),
                // A stop string does not go on behind a call.
                other => {
                    self.release(out);
                    out.push(other);
                }
            }
        }
        self.pieces = pieces;
    }

    fn release(&mut self, out: &mut Vec<Piece>) {
        push_text(self.stops.finish(), out);
    }
}

fn push_text(text: String, out: &mut Vec<Piece>) {
    if !text.is_empty() {
        out.push(Piece::Text(text));
    }
}

/// Where stop strings are looked for in an answer.
#[derive(Debug)]
pub(crate) enum Watch {
    /// In all of it, which is cut before one.
    Whole(StopMatcher),
    /// In its text. Everything passes: who reads it cuts it.
    Text(Box<AnswerReader>),
}

impl Watch {
    pub(crate) fn new(stops: &[String], reading: Option<&Reading>) -> Self {
        match reading.filter(|_| !stops.is_empty()) {
            None => Watch::Whole(StopMatcher::new(stops)),
            Some(reading) => Watch::Text(Box::new(AnswerReader::new(reading, stops))),
        }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Stopped {
        match self {
            Watch::Whole(stops) => stops.push(text),
            Watch::Text(reader) => {
                reader.push(text, &mut Vec::new());
                all_of(text, reader.stop())
            }
        }
    }

    /// Takes the last piece of text.
    pub(crate) fn finish(&mut self, text: &str) -> Stopped {
        match self {
            Watch::Whole(stops) => {
                let mut stopped = stops.push(text);
                if stopped.stop.is_none() {
                    stopped.text.push_str(&stops.finish());
                }
                stopped
            }
            Watch::Text(reader) => {
                reader.push(text, &mut Vec::new());
                reader.finish(&mut Vec::new());
                all_of(text, reader.stop())
            }
        }
    }
}

fn all_of(text: &str, stop: Option<usize>) -> Stopped {
    let text = text.to_owned();
    Stopped { text, stop }
}

#[cfg(test)]
mod tests {
    use hearth_text::parse::{OfferedTool, ThinkingTags, ToolFormat};

    use super::*;

    fn reading() -> Reading {
        let look = OfferedTool {
            name: "look".to_owned(),
            parameters: None,
        };
        Reading {
            format: AnswerFormat {
                thinking: Some(ThinkingTags {
                    open: "<think>".to_owned(),
                    close: "</think>".to_owned(),
                }),
                tools: Some(ToolFormat::Hermes),
            },
            options: ParseOptions {
                tools: [look].into(),
                is_thinking_open: true,
            },
        }
    }

    /// Thought, text, arguments and the stop string, with the answer cut every `n` characters.
    fn read(answer: &str, stops: &[&str], n: usize) -> ([String; 3], Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut reader = AnswerReader::new(&reading(), &stops);
        let mut watch = Watch::new(&stops, Some(&reading()));
        let characters: Vec<char> = answer.chars().collect();
        let (mut pieces, mut passed) = (Vec::new(), String::new());
        for piece in characters.chunks(n) {
            let piece: String = piece.iter().collect();
            reader.push(&piece, &mut pieces);
            let stopped = watch.push(&piece);
            passed.push_str(&stopped.text);
            assert_eq!(
                stopped.stop,
                reader.stop(),
                "the engine ends where its client does"
            );
            if stopped.stop.is_some() {
                break;
            }
        }
        if reader.stop().is_none() {
            reader.finish(&mut pieces);
            assert_eq!(watch.finish("").stop, reader.stop());
        }
        assert!(answer.starts_with(&passed));
        let mut all = [String::new(), String::new(), String::new()];
        for piece in pieces {
            match piece {
                Piece::Reasoning(text) => all[0] += &text,
                Piece::Text(text) => all[1] += &text,
                Piece::CallArguments(text) => all[2] += &text,
                _ => {}
            }
        }
        (all, reader.stop())
    }

    #[test]
    fn a_stop_string_ends_the_text_and_neither_a_thought_nor_a_call() {
        let call = r#"<tool_call>{"name": "look", "arguments": {"a": "END"}}</tool_call>"#;
        let cases = [
            (
                "END hm</think>\n\nso END never",
                ["END hm", "so ", ""],
                Some(0),
            ),
            ("hm</think>so EN", ["hm", "so EN", ""], None),
            ("END", ["END", "", ""], None),
            ("</think>E", ["", "E", ""], None),
        ];
        for n in [1, 2, 3, 100] {
            for (answer, [thought, text, arguments], stop) in cases {
                let expected = [thought, text, arguments].map(str::to_owned);
                assert_eq!(
                    read(answer, &["END"], n),
                    (expected, stop),
                    "{answer:?} in {n}"
                );
            }
            let answer = format!("hm</think>first EN{call} then END");
            let expected = ["hm", "first EN then ", "{\"a\": \"END\"}"].map(str::to_owned);
            assert_eq!(
                read(&answer, &["x", "END"], n),
                (expected, Some(1)),
                "in {n}"
            );
        }
    }

    #[test]
    fn without_a_reading_all_of_it_is_searched() {
        let mut watch = Watch::new(&["END".to_owned()], None);
        assert_eq!(watch.push("a EN").text, "a ");
        assert_eq!(watch.finish("").text, "EN");
    }
}
