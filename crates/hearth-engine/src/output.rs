//! From tokens to the text of an answer: detokenizer, then stop strings, then events.

use std::ops::ControlFlow;

use hearth_text::{Detokenizer, Tokenizer};

use crate::{
    generator::{Callback, Event},
    reading::{Reading, Watch},
    request::{FinishReason, Request},
};

/// The answer as it grows.
pub(crate) struct Output<'a> {
    tokenizer: &'a Tokenizer,
    detokenizer: Detokenizer<'a>,
    stops: Watch,
    /// Ascending.
    visible: Vec<u32>,
    tokens: Vec<u32>,
    text: String,
}

impl<'a> Output<'a> {
    /// `reading` tells the text, in which stop strings count, from the rest; without it all is text.
    pub(crate) fn new(
        request: &Request,
        tokenizer: &'a Tokenizer,
        reading: Option<&Reading>,
    ) -> Self {
        let mut visible = request.visible_tokens.clone();
        visible.sort_unstable();
        Output {
            tokenizer,
            visible,
            detokenizer: if request.begins_text {
                Detokenizer::new(tokenizer)
            } else {
                Detokenizer::continuing(tokenizer)
            },
            stops: Watch::new(&request.stop, reading),
            tokens: Vec::new(),
            text: String::new(),
        }
    }

    /// Takes a drawn token; `Break` when the answer ends with it.
    pub(crate) fn take(
        &mut self,
        token: u32,
        logits: &[f32],
        callback: &mut Callback<'_>,
    ) -> ControlFlow<FinishReason> {
        let mut flow = callback(Event::Token { token, logits });
        if self.tokenizer.is_end_of_generation(token) {
            return ControlFlow::Break(FinishReason::EndOfGeneration { token });
        }
        self.tokens.push(token);
        let stopped = if self.visible.binary_search(&token).is_ok() {
            // Half a character before it can no longer become one.
            let mut text = self.detokenizer.finish().to_owned();
            let piece = self.tokenizer.piece(token).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(piece));
            self.stops.push(&text)
        } else {
            self.stops.push(self.detokenizer.push(token))
        };
        if self.emit(&stopped.text, callback).is_break() {
            flow = ControlFlow::Break(());
        }
        match stopped.stop {
            Some(index) => ControlFlow::Break(FinishReason::StopString { index }),
            None => flow.map_break(|()| FinishReason::Cancelled),
        }
    }

    /// A token that would end the text.
    pub(crate) fn end_of_generation(&self) -> Option<u32> {
        self.tokenizer.end_of_generation().first().copied()
    }

    /// The text so far, what is held back excluded.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Tokens, text and reason, once what was held back has come out. Half a character at the end is
    /// one more piece of text, in which a stop string may end.
    pub(crate) fn finish(
        mut self,
        mut finish: FinishReason,
        callback: &mut Callback<'_>,
    ) -> (Vec<u32>, String, FinishReason) {
        if !matches!(finish, FinishReason::StopString { .. }) {
            let stopped = self.stops.finish(self.detokenizer.finish());
            if let Some(index) = stopped.stop {
                finish = FinishReason::StopString { index };
            }
            // The answer is over: nothing is left that a break could end.
            let _ = self.emit(&stopped.text, callback);
        }
        (self.tokens, self.text, finish)
    }

    fn emit(&mut self, text: &str, callback: &mut Callback<'_>) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(text);
        callback(Event::Text(text))
    }
}
