//! One vector for a text, from the model's last hidden states.
//!
//! Which rows count is the model's setting. A mean adds row by row in the order of the text, each element in f64, and is
//! rounded once at the end: the same bits however the text was cut into steps.

use hearth_gguf::GgufError;
use hearth_model::Model;

/// Which rows of a text make its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean of all.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
}

impl Pooling {
    /// What the file says under `{architecture}.pooling_type`; the mean if it says nothing, or `none`.
    ///
    /// # Errors
    ///
    /// The value is no number. Kinds we do not have count as nothing said: they rank, and such a model is asked for
    /// no vectors.
    pub(crate) fn of(model: &Model) -> Result<Self, GgufError> {
        let key = format!("{}.pooling_type", model.hparams().architecture);
        Ok(match model.gguf().metadata().get_u32(&key)? {
            Some(2) => Pooling::First,
            Some(3) => Pooling::Last,
            _ => Pooling::Mean,
        })
    }

    /// Whether the row at `pos` of a text of `n` tokens counts.
    pub(crate) fn takes(self, pos: usize, n: usize) -> bool {
        match self {
            Pooling::Mean => true,
            Pooling::First => pos == 0,
            Pooling::Last => pos + 1 == n,
        }
    }
}

/// The rows added up so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    sums: Vec<f64>,
    n_rows: usize,
}

impl Pool {
    pub(crate) fn add(&mut self, row: &[f32]) {
        self.sums.resize(row.len(), 0.0);
        for (sum, &value) in self.sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
        self.n_rows += 1;
    }

    /// Their mean.
    pub(crate) fn finish(self) -> Vec<f32> {
        let n = self.n_rows.max(1) as f64;
        self.sums.into_iter().map(|sum| (sum / n) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_that_count_are_averaged() {
        let rows = [[1.0f32, -4.0], [2.0, 0.5], [9.0, 2.0]];
        let pooled = |pooling: Pooling| {
            let mut pool = Pool::default();
            for (pos, row) in rows.iter().enumerate() {
                if pooling.takes(pos, rows.len()) {
                    pool.add(row);
                }
            }
            pool.finish()
        };
        assert_eq!(pooled(Pooling::Mean), [4.0, -0.5]);
        assert_eq!(pooled(Pooling::First), [1.0, -4.0]);
        assert_eq!(pooled(Pooling::Last), [9.0, 2.0]);
    }
}
