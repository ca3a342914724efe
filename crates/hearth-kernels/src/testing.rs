//! What the batteries of this crate share: numbers to feed, levels and teams to try, and equality of bits.

use std::num::NonZeroUsize;

use crate::{Kernels, Level};

/// Calls `body` with every level this processor has and teams of 1, 2 and 3; says which levels it could not try.
pub(crate) fn each_kernels(body: impl Fn(&Kernels)) {
    for level in Level::ALL {
        if !level.is_available() {
            println!(
                "not run: level {level}, this processor lacks {}",
                level.missing_features().join(", ")
            );
            continue;
        }
        for n_threads in 1..=3 {
            let n_threads = NonZeroUsize::new(n_threads).expect("from one on");
            body(&Kernels::new(level, n_threads).expect("available"));
        }
    }
}

/// Numbers between -2 and 2 with all bits of the mantissa in use, the same for the same seed.
pub(crate) fn floats(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / 4_194_304.0) - 2.0
        })
        .collect()
}

/// Vectors of `n` with one thing wrong, or everything: NaN, infinities, zeros of both signs, the largest and smallest numbers.
pub(crate) fn extremes(n: usize) -> Vec<Vec<f32>> {
    let specials = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-42,
        -1e-45,
    ];
    let mut out = vec![vec![0.0; n], vec![-0.0; n]];
    for (i, special) in specials.into_iter().enumerate() {
        out.push(vec![special; n]);
        for at in [0, n / 2, n - 1] {
            let mut x = floats(n, i as u64 + 1);
            x[at] = special;
            out.push(x);
        }
    }
    out
}

/// Equality of bits, any NaN being any other; names the first difference.
#[track_caller]
pub(crate) fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    for (i, (x, y)) in found.iter().zip(expected).enumerate() {
        let same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        assert!(
            same,
            "{what}: element {i} of {} is {x:e} and should be {y:e}",
            found.len()
        );
    }
}
