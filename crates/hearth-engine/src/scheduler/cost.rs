//! How long a step will take, learned from those before it.
//!
//! A step reads the weights once, multiplies them with every row, and lets every row look at the positions before it.
//! So its time is a sum of four terms: one for the step, one for each prompt row, one for each row that draws, one
//! for each position seen. Their prices come from least squares over the last steps, which forget slowly; until there
//! are some, a guess stands in. No clock in here: whoever runs the steps says how long they took.

/// What a step consists of, as far as its time goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepShape {
    /// Rows of prompts.
    pub(crate) n_prefill: usize,
    /// Rows after which tokens are drawn, guesses among them.
    pub(crate) n_decode: usize,
    /// Positions that all rows together look at.
    pub(crate) n_seen: u64,
}

impl StepShape {
    /// Adds `n` rows of a prompt from position `start` on.
    pub(crate) fn with_prefill(mut self, start: usize, n: usize, window: Option<u32>) -> Self {
        self.n_prefill += n;
        self.n_seen += n_seen(start, n, window);
        self
    }

    /// Adds `n` rows that draw, from position `start` on.
    pub(crate) fn with_decode(mut self, start: usize, n: usize, window: Option<u32>) -> Self {
        self.n_decode += n;
        self.n_seen += n_seen(start, n, window);
        self
    }

    /// The four quantities that have a price, each of the size of one in an ordinary step.
    fn features(&self) -> [f64; N] {
        [
            1.0,
            self.n_prefill as f64 / 64.0,
            self.n_decode as f64 / 4.0,
            self.n_seen as f64 / 65536.0,
        ]
    }
}

/// Positions that rows `start..start + n` of a sequence look at.
fn n_seen(start: usize, n: usize, window: Option<u32>) -> u64 {
    let window = window.map_or(u64::MAX, u64::from);
    let (first, last) = (start as u64 + 1, (start + n) as u64);
    if n == 0 {
        return 0;
    }
    if first >= window {
        return window * n as u64;
    }
    // Rows see one position more each until the window is full.
    let n_growing = last.min(window) - first + 1;
    let growing = n_growing * (first + first + n_growing - 1) / 2;
    growing + (n as u64 - n_growing) * window.min(last)
}

const N: usize = 4;

/// Prices in seconds before anything was measured: a model of half a billion weights on a small machine.
const GUESS: [f64; N] = [0.015, 0.064, 0.01, 0.02];

/// What the guess weighs, in steps of a tenth of a second; steps a thousandth of the weight each later forget it.
const GUESS_WEIGHT: f64 = 0.02;

/// What is left of a step's weight after each further one: some fifty steps count.
const MEMORY: f64 = 0.98;

/// A step that took longer or shorter than predicted by more than this counts as this: the machine was busy with
/// something else, or the prices are far off, and then the next steps tell again.
const MAX_SURPRISE: f64 = 4.0;

/// The prices, and the sums they come from.
#[derive(Clone, Debug)]
pub(crate) struct StepCosts {
    products: [[f64; N]; N],
    sums: [f64; N],
    prices: [f64; N],
}

impl Default for StepCosts {
    fn default() -> Self {
        StepCosts {
            products: [[0.0; N]; N],
            sums: [0.0; N],
            prices: GUESS,
        }
    }
}

impl StepCosts {
    /// Seconds that such a step is expected to take.
    pub(crate) fn predict(&self, shape: &StepShape) -> f64 {
        let terms = shape.features().into_iter().zip(self.prices);
        terms.map(|(feature, price)| feature * price).sum()
    }

    /// Seconds that rows cost beside others: without the step's own.
    pub(crate) fn of_rows(&self, shape: &StepShape) -> f64 {
        self.predict(shape) - self.prices[0]
    }

    /// Notes that such a step took so many seconds.
    pub(crate) fn note(&mut self, shape: &StepShape, seconds: f64) {
        let expected = self.predict(shape).max(1e-6);
        let seconds = seconds.clamp(expected / MAX_SURPRISE, expected * MAX_SURPRISE);
        // Divided by the time: what counts is the relative error.
        let x = shape.features().map(|feature| feature / seconds);
        for (row, x_row) in x.into_iter().enumerate() {
            for (col, x_col) in x.into_iter().enumerate() {
                let sum = &mut self.products[row][col];
                *sum = *sum * MEMORY + x_row * x_col;
            }
            self.sums[row] = self.sums[row] * MEMORY + x_row;
        }
        self.solve();
    }

    /// The prices with the least squared error, drawn a little towards the guess, so that quantities that always
    /// come together have a price each.
    fn solve(&mut self) {
        const TENTH: f64 = 0.1;
        let weight = GUESS_WEIGHT / (TENTH * TENTH);
        let mut matrix = self.products;
        let mut right = self.sums;
        for index in 0..N {
            matrix[index][index] += weight;
            right[index] += weight * GUESS[index];
        }
        for pivot in 0..N {
            for row in pivot + 1..N {
                let factor = matrix[row][pivot] / matrix[pivot][pivot];
                let pivot_row = matrix[pivot];
                for (value, above) in matrix[row].iter_mut().zip(pivot_row) {
                    *value -= factor * above;
                }
                right[row] -= factor * right[pivot];
            }
        }
        for row in (0..N).rev() {
            let known: f64 = (row + 1..N)
                .map(|col| matrix[row][col] * self.prices[col])
                .sum();
            // Nothing costs less than nothing: what noise says otherwise is worth a trifle.
            self.prices[row] = ((right[row] - known) / matrix[row][row]).max(GUESS[row] * 1e-3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose steps take 20 ms, and 1 ms, 3 ms and 100 ns for the rest.
    fn truth(shape: &StepShape) -> f64 {
        0.02 + 0.001 * shape.n_prefill as f64
            + 0.003 * shape.n_decode as f64
            + 1e-7 * shape.n_seen as f64
    }

    #[test]
    fn it_learns_what_steps_take() {
        for slow in [0.1, 1.0, 30.0] {
            let mut costs = StepCosts::default();
            for step in 0..200 {
                let shape = StepShape::default()
                    .with_prefill(step * 40, [512, 64, 16, 0][step % 4], None)
                    .with_decode(step * 3, step % 5 + 1, None);
                costs.note(&shape, slow * truth(&shape));
            }
            for n in [1, 30, 300] {
                let shape = StepShape::default()
                    .with_prefill(5000, n, None)
                    .with_decode(900, 2, None);
                let ratio = costs.predict(&shape) / (slow * truth(&shape));
                assert!((0.8..1.25).contains(&ratio), "{slow}, {n} rows: {ratio}");
            }
        }
    }

    #[test]
    fn quantities_that_come_together_are_predicted_together() {
        let mut costs = StepCosts::default();
        let shape = StepShape::default().with_decode(100, 8, None);
        for _ in 0..100 {
            costs.note(&shape, 0.08);
        }
        assert!((0.07..0.09).contains(&costs.predict(&shape)));
    }

    #[test]
    fn rows_see_what_is_before_them() {
        assert_eq!(n_seen(0, 3, None), 1 + 2 + 3);
        assert_eq!(n_seen(10, 2, None), 11 + 12);
        assert_eq!(n_seen(10, 0, None), 0);
        for window in 1..9 {
            for start in 0..12 {
                for n in 0..12 {
                    let one_by_one: u64 = (start..start + n).map(|pos| (pos + 1).min(window)).sum();
                    let at_once = n_seen(start as usize, n as usize, Some(window as u32));
                    assert_eq!(at_once, one_by_one, "{start}, {n}, window {window}");
                }
            }
        }
    }
}
