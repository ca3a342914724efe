//! What all fuzz targets share: an allocator that counts, and the limit it enforces.

use hearth_testing::peak::{Peak, budget, measure};

#[global_allocator]
static ALLOCATOR: Peak = Peak;

/// Inputs above this are ignored: size alone is no discovery.
pub const MAX_INPUT: usize = 64 << 10;

/// Runs `work` on an input, and panics when it takes more than 16 times the input and 16 MiB of memory.
///
/// # Panics
/// As said.
pub fn within_budget(input: &[u8], work: impl FnOnce(&[u8])) {
    if input.len() > MAX_INPUT {
        return;
    }
    let ((), taken) = measure(|| work(input));
    let limit = budget(input.len());
    assert!(
        taken <= limit,
        "{taken} bytes taken for an input of {}; the limit is {limit}",
        input.len()
    );
}
