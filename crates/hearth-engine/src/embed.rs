//! Texts on their way to vectors.
//!
//! A call brings a list of texts. They are read in order, several in one step where they are short, each in pages of its
//! own that are given back as soon as its vector is made.

use std::collections::VecDeque;

use hearth_kernels::PAGE_POSITIONS;
use hearth_model::{Hidden, PagePool, PoolError, Sequence};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::{
    engine::Place,
    error::RequestError,
    job::{JobError, Owner},
    pooling::{Pool, Pooling},
    scheduler::Demand,
};

/// Texts read in one step at most.
const MAX_TEXTS: usize = 64;

/// The vectors of one call. Dropping it cancels the work.
#[derive(Debug)]
pub struct EmbedEvents {
    receiver: UnboundedReceiver<Result<Vec<f32>, JobError>>,
    /// Vectors still to come.
    n_left: usize,
}

impl EmbedEvents {
    pub(crate) fn new(
        receiver: UnboundedReceiver<Result<Vec<f32>, JobError>>,
        n_texts: usize,
    ) -> Self {
        EmbedEvents {
            receiver,
            n_left: n_texts,
        }
    }

    /// The vector of the next text, in the order they were given; `None` after the last one or after an error.
    pub async fn next(&mut self) -> Option<Result<Vec<f32>, JobError>> {
        let event = self.receiver.recv().await;
        self.count(event)
    }

    /// The same for callers that may block.
    pub fn blocking_next(&mut self) -> Option<Result<Vec<f32>, JobError>> {
        let event = self.receiver.blocking_recv();
        self.count(event)
    }

    /// A channel that ends before the last vector is an error: nobody must take fewer vectors for all of them.
    fn count(
        &mut self,
        event: Option<Result<Vec<f32>, JobError>>,
    ) -> Option<Result<Vec<f32>, JobError>> {
        let n_left = std::mem::take(&mut self.n_left);
        match event {
            _ if n_left == 0 => None,
            Some(Ok(vector)) => {
                self.n_left = n_left - 1;
                Some(Ok(vector))
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(JobError::Lost)),
        }
    }
}

/// Refuses texts that cannot be read.
pub(crate) fn check_inputs(
    inputs: &[Vec<u32>],
    n_vocab: usize,
    n_ctx: usize,
) -> Result<(), RequestError> {
    for input in inputs {
        let n_prompt = input.len();
        if n_prompt == 0 {
            return Err(RequestError::EmptyPrompt);
        }
        if n_prompt > n_ctx {
            return Err(RequestError::TextTooLong { n_prompt, n_ctx });
        }
        if let Some(&token) = input.iter().find(|token| **token as usize >= n_vocab) {
            return Err(RequestError::Token {
                place: "a text",
                token,
                n_vocab,
            });
        }
    }
    Ok(())
}

/// One call on its way.
pub(crate) struct EmbedTask {
    pub(crate) owner: Owner,
    /// Texts without a vector; the first ones are open.
    inputs: VecDeque<Vec<u32>>,
    open: VecDeque<Open>,
    sender: UnboundedSender<Result<Vec<f32>, JobError>>,
    pub(crate) place: Option<Place>,
}

/// A text that is being read.
#[derive(Default)]
struct Open {
    pages: Sequence,
    pool: Pool,
}

/// A run of rows of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which of the texts that have no vector yet.
    pub(crate) input: usize,
    pub(crate) start: usize,
    pub(crate) n_rows: usize,
}

impl EmbedTask {
    pub(crate) fn new(
        owner: Owner,
        inputs: Vec<Vec<u32>>,
        sender: UnboundedSender<Result<Vec<f32>, JobError>>,
        place: Place,
    ) -> Self {
        EmbedTask {
            owner,
            inputs: inputs.into(),
            open: VecDeque::new(),
            sender,
            place: Some(place),
        }
    }

    /// Whether all vectors are made.
    pub(crate) fn is_done(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether anybody waits for them.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.sender.is_closed()
    }

    fn n_stored(&self, input: usize) -> usize {
        self.open.get(input).map_or(0, |open| open.pages.len())
    }

    /// What it needs, in a pool of `n_pages` pages.
    pub(crate) fn demand(&self, n_pages: usize) -> Demand {
        let n_tokens: usize = self.inputs.iter().map(Vec::len).sum();
        let n_stored = self.n_stored(0);
        let longest = self.inputs.iter().map(Vec::len).max().unwrap_or(0);
        let together = self.pieces(usize::MAX, n_pages);
        let held = self.open.iter().map(|open| open.pages.table().len());
        Demand {
            n_stored,
            n_left: n_tokens - n_stored,
            max_rows: together.iter().map(|piece| piece.n_rows).sum(),
            draws: false,
            n_pages: held.sum(),
            n_pages_wanted: longest.div_ceil(PAGE_POSITIONS).max(together.len()),
        }
    }

    /// The next `n_rows` rows, of one text after the other; in a pool of `n_pages` pages texts after the first may
    /// take a quarter.
    pub(crate) fn pieces(&self, n_rows: usize, n_pages: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut n_free, mut n_taken) = (n_rows, 0);
        for (input, tokens) in self.inputs.iter().enumerate().take(MAX_TEXTS) {
            n_taken += tokens.len().div_ceil(PAGE_POSITIONS);
            if n_free == 0 || input > 0 && n_taken > n_pages / 4 {
                break;
            }
            let start = self.n_stored(input);
            let n_rows = (tokens.len() - start).min(n_free);
            n_free -= n_rows;
            pieces.push(Piece {
                input,
                start,
                n_rows,
            });
        }
        pieces
    }

    /// Pages it lacks for these rows.
    pub(crate) fn n_missing(&self, pieces: &[Piece]) -> usize {
        let lacks = |piece: &Piece| {
            let n_pages = (piece.start + piece.n_rows).div_ceil(PAGE_POSITIONS);
            let held = self.open.get(piece.input);
            n_pages - held.map_or(0, |open| open.pages.table().len())
        };
        pieces.iter().map(lacks).sum()
    }

    /// Takes the pages for these rows.
    pub(crate) fn grow(&mut self, pieces: &[Piece], pool: &mut PagePool) -> Result<(), PoolError> {
        for piece in pieces {
            if self.open.len() <= piece.input {
                self.open.push_back(Open::default());
            }
            let n_positions = piece.start + piece.n_rows;
            self.open[piece.input].pages.grow_to(n_positions, pool)?;
        }
        Ok(())
    }

    /// Tokens of a piece.
    pub(crate) fn tokens(&self, piece: &Piece) -> &[u32] {
        &self.inputs[piece.input][piece.start..piece.start + piece.n_rows]
    }

    /// Tokens of its text.
    pub(crate) fn len_of(&self, piece: &Piece) -> usize {
        self.inputs[piece.input].len()
    }

    /// Pages of the text that a piece belongs to.
    pub(crate) fn table(&self, piece: &Piece) -> &[u32] {
        self.open[piece.input].pages.table()
    }

    /// Takes what a step computed for these rows: the rows of `hidden` that count, in order.
    pub(crate) fn accept(
        &mut self,
        pieces: &[Piece],
        pooling: Pooling,
        hidden: &Hidden<'_>,
        pool: &mut PagePool,
    ) {
        let mut row = 0;
        for piece in pieces {
            let n_tokens = self.len_of(piece);
            let open = &mut self.open[piece.input];
            for pos in piece.start..piece.start + piece.n_rows {
                if pooling.takes(pos, n_tokens) {
                    open.pool.add(hidden.row(row));
                    row += 1;
                }
            }
            open.pages.advance(piece.n_rows);
        }
        while let (Some(open), Some(input)) = (self.open.front_mut(), self.inputs.front()) {
            if open.pages.len() < input.len() {
                break;
            }
            open.pages.clear(pool);
            let vector = std::mem::take(&mut open.pool).finish();
            // Whoever has gone is noticed before the next step.
            let _ = self.sender.send(Ok(vector));
            self.open.pop_front();
            self.inputs.pop_front();
        }
    }

    /// Gives the pages back; open texts are read again from the start.
    pub(crate) fn put_back(&mut self, pool: &mut PagePool) {
        for mut open in self.open.drain(..) {
            open.pages.clear(pool);
        }
    }

    /// Tells that there will be no more vectors.
    pub(crate) fn fail(self, error: JobError) {
        let _ = self.sender.send(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn events(sent: Vec<Result<Vec<f32>, JobError>>, n_texts: usize) -> Vec<String> {
        let (sender, receiver) = unbounded_channel();
        for event in sent {
            sender.send(event).expect("somebody listens");
        }
        drop(sender);
        let mut events = EmbedEvents::new(receiver, n_texts);
        let next = || events.blocking_next().map(|event| format!("{event:?}"));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_channel_that_ends_early_is_an_error() {
        let vector = || Ok(vec![1.0]);
        assert_eq!(
            events(vec![vector(), vector()], 2),
            ["Ok([1.0])", "Ok([1.0])"]
        );
        assert_eq!(events(vec![vector()], 2), ["Ok([1.0])", "Err(Lost)"]);
        assert_eq!(events(vec![], 1), ["Err(Lost)"]);
        assert!(events(vec![], 0).is_empty());
        let failed = vec![vector(), Err(JobError::ShuttingDown)];
        assert_eq!(events(failed, 3), ["Ok([1.0])", "Err(ShuttingDown)"]);
    }
}
