//! The state machine over an answer's text.

use std::sync::Arc;

use super::{
    AnswerFormat, OfferedTool, Piece, ThinkingTags, ToolFormat,
    call::{CallReader, Step},
    emitter::Emitter,
    literal::Watch,
};

/// What the parser must know beside the format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParseOptions {
    /// The tools that may be called. Without any, whatever looks like a call is content.
    pub tools: Arc<[OfferedTool]>,
    /// Whether the prompt ended inside the block of thinking ([`ThinkingTags::is_open_in`]).
    pub is_thinking_open: bool,
}

/// Where in the answer we are.
#[derive(Debug)]
enum State {
    /// Before everything; the tag that opens thinking may come. It is read over when the prompt opened the block.
    Opening {
        held: String,
        is_thinking: bool,
    },
    /// In the block.
    Thinking {
        close: Watch,
        is_first: bool,
    },
    /// At the first character of the answer proper.
    Begin {
        is_after_thinking: bool,
    },
    Text,
    Call(Box<CallReader>),
}

/// Takes an answer apart while it is written.
#[derive(Debug)]
pub struct AnswerParser {
    thinking: Option<ThinkingTags>,
    format: Option<ToolFormat>,
    tools: Arc<[OfferedTool]>,
    triggers: Watch,
    state: State,
    emitter: Emitter,
}

impl AnswerParser {
    /// At the beginning of an answer.
    pub fn new(format: &AnswerFormat, options: ParseOptions) -> Self {
        let tools = format.tools.filter(|_| !options.tools.is_empty());
        let triggers = tools.map_or(&[][..], |format| format.syntax().trigger.texts());
        AnswerParser {
            thinking: format.thinking.clone(),
            format: tools,
            tools: options.tools,
            triggers: Watch::new(triggers.iter().copied()),
            state: match &format.thinking {
                None => State::Begin {
                    is_after_thinking: false,
                },
                Some(_) => State::Opening {
                    held: String::new(),
                    is_thinking: options.is_thinking_open,
                },
            },
            emitter: Emitter::new(tools.is_some()),
        }
    }

    /// Whether what comes next is thinking, as far as can be told.
    pub fn is_thinking(&self) -> bool {
        match self.state {
            State::Opening { is_thinking, .. } => is_thinking,
            State::Thinking { .. } => true,
            _ => false,
        }
    }

    /// Takes the next piece of text, appends what is certain by it.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        text.chars().for_each(|c| self.take(c));
        self.emitter.drain_into(out);
    }

    /// Ends the answer: what was held back goes out.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        self.finish_state();
        self.emitter.finish_text();
        self.emitter.drain_into(out);
    }

    fn take(&mut self, c: char) {
        match &mut self.state {
            State::Opening { .. } => self.take_opening(c),
            State::Thinking { .. } => self.take_thinking(c),
            State::Begin { .. } => self.take_begin(c),
            State::Text => self.take_text(c),
            State::Call(_) => self.take_call(c),
        }
    }

    fn take_all(&mut self, text: &str) {
        text.chars().for_each(|c| self.take(c));
    }

    /// White space and the tag, or something else.
    fn take_opening(&mut self, c: char) {
        let State::Opening { held, is_thinking } = &mut self.state else {
            return;
        };
        held.push(c);
        let open = self.thinking.as_ref().map_or("", |tags| &tags.open);
        let tag = held.trim_start();
        if tag == open {
            self.begin_thinking();
        } else if !open.starts_with(tag) {
            let (held, is_thinking) = (std::mem::take(held), *is_thinking);
            self.leave_opening(is_thinking);
            self.take_all(&held);
        }
    }

    fn leave_opening(&mut self, is_thinking: bool) {
        match is_thinking {
            true => self.begin_thinking(),
            false => {
                self.state = State::Begin {
                    is_after_thinking: false,
                }
            }
        }
    }

    fn begin_thinking(&mut self) {
        let close = self.thinking.iter().map(|tags| tags.close.as_str());
        self.state = State::Thinking {
            close: Watch::new(close),
            is_first: true,
        };
    }

    /// Line breaks next to the tags belong to the notation.
    fn take_thinking(&mut self, c: char) {
        let State::Thinking { close, is_first } = &mut self.state else {
            return;
        };
        if *is_first && matches!(c, '\n' | '\r') {
            return;
        }
        *is_first = false;
        let mut text = String::new();
        let is_closed = close.take(c, &mut text).is_some();
        self.emitter.reasoning(&text);
        if is_closed {
            self.emitter.end_reasoning();
            self.state = State::Begin {
                is_after_thinking: true,
            };
        }
    }

    fn take_begin(&mut self, c: char) {
        let State::Begin { is_after_thinking } = self.state else {
            return;
        };
        if is_after_thinking && matches!(c, '\n' | '\r') {
            return;
        }
        match self
            .format
            .filter(|format| format.syntax().trigger.is_object())
        {
            Some(_) if c.is_whitespace() => self.emitter.text(c.encode_utf8(&mut [0; 4])),
            Some(format) if c == '{' => {
                self.begin_call(format, "");
                self.take(c);
            }
            _ => {
                self.state = State::Text;
                self.take(c);
            }
        }
    }

    fn take_text(&mut self, c: char) {
        let mut text = String::new();
        let trigger = self.triggers.take(c, &mut text).map(str::to_owned);
        self.emitter.text(&text);
        if let (Some(trigger), Some(format)) = (trigger, self.format) {
            self.begin_call(format, &trigger);
        }
    }

    fn begin_call(&mut self, format: ToolFormat, trigger: &str) {
        self.emitter.keep_raw(trigger);
        self.state = State::Call(Box::new(format.reader(trigger, &self.tools)));
    }

    fn take_call(&mut self, c: char) {
        let State::Call(reader) = &mut self.state else {
            return;
        };
        self.emitter.keep_raw(c.encode_utf8(&mut [0; 4]));
        match reader.take(c, &mut self.emitter) {
            Step::More => {}
            Step::Done => {
                self.emitter.accept_raw();
                self.state = State::Text;
            }
            Step::Refused(why) => {
                self.emitter.forget_last(c);
                self.emitter.give_up(why);
                self.state = State::Text;
                self.take(c);
            }
        }
    }

    fn finish_state(&mut self) {
        if let State::Opening { held, is_thinking } = &mut self.state {
            let (held, is_thinking) = (std::mem::take(held), *is_thinking);
            self.leave_opening(is_thinking);
            self.take_all(&held);
        }
        match &mut self.state {
            State::Opening { .. } | State::Begin { .. } => {}
            State::Thinking { close, .. } => {
                let held = close.finish();
                self.emitter.reasoning(&held);
                self.emitter.finish_reasoning();
            }
            State::Text => {
                let held = self.triggers.finish();
                self.emitter.text(&held);
            }
            State::Call(reader) => {
                reader.finish(&mut self.emitter);
                self.emitter.give_up("the answer ends inside it");
            }
        }
    }
}
