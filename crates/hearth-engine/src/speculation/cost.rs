//! What a step over a few rows costs, in steps over one row.
//!
//! A table, not a stopwatch: a controller that measured would make other guesses on every run. The
//! figures are those of a machine on which a row is dear: two cores with much memory bandwidth for each, so that
//! arithmetic, not the reading of weights, is the limit. Where more cores share the memory a row beside the
//! first costs less than the table says, and the controller guesses a little less than it could.

use hearth_kernels::Level;

use super::MAX_GUESSES;

const N_ROWS: usize = 1 + MAX_GUESSES;

/// Medians of qwen3-0.6b in Q4_K_M on two cores of a Xeon of the Emerald Rapids generation, logits for every row, between those at
/// the start of a text and those 2,048 tokens into it.
#[rustfmt::skip]
const AVX512: [f32; N_ROWS] = [
    1.0, 1.22, 1.45, 1.77, 1.62, 1.73, 1.93, 1.98, 2.27, 2.37, 2.5, 2.63, 2.72, 2.81, 2.95, 3.1,
];
#[rustfmt::skip]
const AVX2: [f32; N_ROWS] = [
    1.0, 1.2, 1.81, 2.06, 2.24, 2.44, 2.66, 2.86, 3.05, 3.27, 3.5, 3.73, 3.91, 4.09, 4.27, 4.45,
];

/// What a row beside the first costs in a model with experts.
const EXPERTS_PER_ROW: f32 = 0.7;

/// Cost of a step by its rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepCost {
    /// Of 1, 2, … rows.
    by_rows: [f32; N_ROWS],
}

impl StepCost {
    /// For a level of the processor, and a model with or without a mixture of experts.
    pub(crate) fn new(level: Level, has_experts: bool) -> StepCost {
        match level {
            // Without vector instructions every row is computed alone.
            Level::Scalar | Level::Portable => StepCost::linear(1.0),
            // Other rows go to other experts, whose weights are read for them alone.
            _ if has_experts => StepCost::linear(EXPERTS_PER_ROW),
            Level::Avx512 => StepCost { by_rows: AVX512 },
            _ => StepCost { by_rows: AVX2 },
        }
    }

    /// Every row beside the first costs the same.
    pub(crate) fn linear(per_row: f32) -> StepCost {
        StepCost {
            by_rows: std::array::from_fn(|index| 1.0 + index as f32 * per_row),
        }
    }

    /// Of a step over `n_rows` rows, at least 1 and at most as many as are ever checked together.
    pub(crate) fn of(&self, n_rows: usize) -> f32 {
        self.by_rows[n_rows - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_one_row_is_the_unit() {
        let with_and_without = |level| [(level, false), (level, true)];
        for (level, has_experts) in Level::ALL.into_iter().flat_map(with_and_without) {
            let cost = StepCost::new(level, has_experts);
            assert_eq!(cost.of(1), 1.0);
            for n_rows in 2..=N_ROWS {
                let (together, alone) = (cost.of(n_rows), n_rows as f32);
                assert!(
                    together > 1.0 && together <= alone,
                    "{level}: {n_rows} rows"
                );
            }
        }
    }
}
