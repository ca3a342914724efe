//! What goes into a step and what comes out.

use hearth_kernels::PAGE_POSITIONS;

use super::ExecutorLimits;
use crate::{
    error::StepError,
    model::Model,
    state::{PageId, PagePool},
};

/// One token at one position of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which of the batch's page tables.
    pub seq: u32,
    /// Position in the sequence, from 0.
    pub pos: u32,
    /// The token.
    pub token: u32,
    /// Whether its logits are computed.
    pub wants_logits: bool,
}

/// The rows of a step. All keys and values of the batch are stored before any row looks at them, so
/// rows of one sequence may come together, in any order.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The rows.
    pub rows: &'a [Row],
    /// Page of every 64 positions, for each sequence.
    pub tables: &'a [&'a [PageId]],
}

impl Batch<'_> {
    /// Indices of the rows that want logits.
    pub(super) fn wanted(&self) -> impl Iterator<Item = u32> {
        (0..self.rows.len() as u32).filter(|&row| self.rows[row as usize].wants_logits)
    }

    pub(super) fn check(
        &self,
        model: &Model,
        pool: &PagePool,
        limits: ExecutorLimits,
    ) -> Result<(), StepError> {
        if self.rows.is_empty() {
            return Err(StepError::Empty);
        }
        if self.rows.len() > limits.max_tokens {
            return Err(StepError::TooManyRows {
                n_rows: self.rows.len(),
                max_tokens: limits.max_tokens,
            });
        }
        let n_rows = self.wanted().count();
        if n_rows > limits.max_logits {
            return Err(StepError::TooManyLogits {
                n_rows,
                max_logits: limits.max_logits,
            });
        }
        if !pool.layout().fits(model.plan()) {
            return Err(StepError::ForeignPool);
        }
        let window = model.plan().window();
        for (index, row) in self.rows.iter().enumerate() {
            if row.token as usize >= model.n_vocab() {
                return Err(StepError::Token {
                    row: index,
                    token: row.token,
                    n_vocab: model.n_vocab(),
                });
            }
            self.check_place(index, row, window, pool)?;
            if row.pos as usize >= limits.n_positions {
                return Err(StepError::Position {
                    row: index,
                    pos: row.pos,
                    n_positions: limits.n_positions,
                });
            }
        }
        Ok(())
    }

    /// Its sequence has a page for every position it sees, and its own page is its alone.
    fn check_place(
        &self,
        index: usize,
        row: &Row,
        window: Option<u32>,
        pool: &PagePool,
    ) -> Result<(), StepError> {
        let &Row { seq, pos, .. } = row;
        let table = self.tables.get(seq as usize).ok_or(StepError::Sequence {
            row: index,
            seq,
            n_tables: self.tables.len(),
        })?;
        let first_visible = window.map_or(0, |window| pos.saturating_add(1).saturating_sub(window));
        let mut pages = first_visible as usize / PAGE_POSITIONS..=pos as usize / PAGE_POSITIONS;
        let is_missing = |page: &usize| {
            table
                .get(*page)
                .is_none_or(|&page| page as usize >= pool.n_pages())
        };
        if let Some(page) = pages.find(is_missing) {
            return Err(StepError::Page {
                row: index,
                pos,
                seq,
                index: page,
            });
        }
        let page = table[pos as usize / PAGE_POSITIONS];
        match pool.n_holders(page) {
            0 | 1 => Ok(()),
            n_holders => Err(StepError::SharedPage {
                row: index,
                pos,
                page,
                n_holders,
            }),
        }
    }
}

/// The logits of a step: one row for each row of the batch that wanted them.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    values: &'a [f32],
    n_vocab: usize,
    batch_rows: &'a [u32],
}

impl<'a> Logits<'a> {
    pub(super) fn new(values: &'a [f32], n_vocab: usize, batch_rows: &'a [u32]) -> Self {
        Logits {
            values,
            n_vocab,
            batch_rows,
        }
    }

    /// Rows of logits.
    pub fn len(&self) -> usize {
        self.batch_rows.len()
    }

    /// Whether no row wanted any.
    pub fn is_empty(&self) -> bool {
        self.batch_rows.is_empty()
    }

    /// The `index`-th row, `[n_vocab]`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.n_vocab..(index + 1) * self.n_vocab]
    }

    /// Which row of the batch the `index`-th row belongs to.
    pub fn batch_row(&self, index: usize) -> usize {
        self.batch_rows[index] as usize
    }

    pub(super) fn check_finite(&self, batch: &Batch<'_>) -> Result<(), StepError> {
        for index in 0..self.len() {
            let row = self.row(index);
            // Without a branch in the loop this runs at memory speed; the search is for the message.
            if row.iter().fold(true, |all, value| all & value.is_finite()) {
                continue;
            }
            let token = row.iter().position(|value| !value.is_finite()).unwrap_or(0);
            let Row { seq, pos, .. } = batch.rows[self.batch_row(index)];
            return Err(StepError::NotFinite {
                seq,
                pos,
                token,
                value: row[token],
            });
        }
        Ok(())
    }
}

/// The last hidden states of a step, normed: one row for each row of the batch that wanted logits, in its order.
#[derive(Clone, Copy, Debug)]
pub struct Hidden<'a> {
    values: &'a [f32],
    n_embd: usize,
}

impl<'a> Hidden<'a> {
    pub(super) fn new(values: &'a [f32], n_embd: usize) -> Self {
        Hidden { values, n_embd }
    }

    /// Rows there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.n_embd
    }

    /// Whether no row wanted any.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The `index`-th row, `[n_embd]`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.n_embd..(index + 1) * self.n_embd]
    }

    /// `wanted` tells which row of the batch each row belongs to.
    pub(super) fn check_finite(&self, batch: &Batch<'_>, wanted: &[u32]) -> Result<(), StepError> {
        let is_finite = |index: &usize| self.row(*index).iter().all(|value| value.is_finite());
        match (0..self.len()).find(|index| !is_finite(index)) {
            None => Ok(()),
            Some(index) => {
                let Row { seq, pos, .. } = batch.rows[wanted[index] as usize];
                Err(StepError::HiddenNotFinite { seq, pos })
            }
        }
    }
}
