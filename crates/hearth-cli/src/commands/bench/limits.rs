//! The best that this machine could do, and what share of it was reached.

use hearth_kernels::{Kernels, KvType};
use hearth_model::{Model, Work};
use serde::{Deserialize, Serialize};

use super::schedule::StepRows;

/// Rates that nothing on this machine exceeds, with the level and threads of the run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct MachineLimits {
    /// Multiply-adds of 8-bit integers, in thousands of millions a second; unknown for levels without an instruction.
    pub int8_g_s: Option<f64>,
    /// Multiply-adds of 32-bit floats, in thousands of millions a second.
    pub float_g_s: f64,
    /// Bytes of the model's weights read, in thousands of millions a second.
    pub read_gb_s: Option<f64>,
}

impl MachineLimits {
    /// Measures them; takes some tenths of a second, more for a model that is larger than the caches.
    pub fn measure(kernels: &Kernels, model: &Model) -> MachineLimits {
        MachineLimits {
            int8_g_s: kernels.int8_ceiling().map(|rate| rate / 1e9),
            float_g_s: kernels.float_ceiling() / 1e9,
            read_gb_s: kernels
                .read_ceiling(&model.product_bytes())
                .map(|rate| rate / 1e9),
        }
    }

    /// The least seconds that this work takes; arithmetic and reading may overlap. Unknown where a rate is.
    fn seconds(&self, work: Work) -> Option<f64> {
        let at = |amount: u64, rate: Option<f64>| match (amount, rate) {
            (0, _) => Some(0.0),
            (amount, rate) => Some(amount as f64 / (rate? * 1e9)),
        };
        let arithmetic = at(work.int8, self.int8_g_s)? + at(work.float, Some(self.float_g_s))?;
        Some(arithmetic.max(at(work.bytes, self.read_gb_s)?))
    }
}

/// The least seconds that the operations of a plan take in some steps, one entry for each operation.
pub fn least_seconds(
    limits: &MachineLimits,
    model: &Model,
    kv_type: KvType,
    steps: &[StepRows],
) -> Vec<Option<f64>> {
    let ops = model.plan().steps.iter();
    ops.map(|step| {
        let one = |rows: &StepRows| limits.seconds(model.work(&step.op, rows, kv_type));
        steps.iter().map(one).sum()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_arithmetic_and_reading_is_the_limit() {
        let limits = MachineLimits {
            int8_g_s: Some(200.0),
            float_g_s: 50.0,
            read_gb_s: Some(20.0),
        };
        let work = |int8, float, bytes| Work { int8, float, bytes };
        let second = 1_000_000_000;
        assert_eq!(
            limits.seconds(work(400 * second, 50 * second, 20 * second)),
            Some(3.0)
        );
        assert_eq!(
            limits.seconds(work(200 * second, 0, 100 * second)),
            Some(5.0)
        );
        assert_eq!(limits.seconds(work(0, 0, 0)), Some(0.0));
        let unknown = MachineLimits {
            int8_g_s: None,
            ..limits
        };
        assert_eq!(unknown.seconds(work(1, 0, 0)), None);
        assert_eq!(unknown.seconds(work(0, 50 * second, 0)), Some(1.0));
    }
}
