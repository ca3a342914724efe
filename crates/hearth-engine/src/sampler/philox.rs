//! Random numbers as a function: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011).
//!
//! The key is the seed; the counter is (position, choice, use). There is no state to carry, save or
//! race for: the same place in the same answer always draws the same number.

use std::time::{SystemTime, UNIX_EPOCH};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// What a counter is used for, so that another use never meets the numbers of this one.
const USE_DRAW: u32 = 0;

/// Ten rounds over a 128-bit counter with a 64-bit key.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// The uniform number in [0, 1) of one draw, a multiple of 2⁻⁵³.
pub fn uniform(seed: u64, choice: u32, pos: u64) -> f64 {
    let words = philox4x32(
        [pos as u32, (pos >> 32) as u32, choice, USE_DRAW],
        [seed as u32, (seed >> 32) as u32],
    );
    let bits = (u64::from(words[1]) << 32 | u64::from(words[0])) >> 11;
    bits as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A seed nobody chose, from the time, the process and the address space. It only has to differ from
/// the last one; it fits 32 bits so that it can be typed again.
pub fn fresh_seed() -> u64 {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    let place = &raw const time as u64;
    let words = philox4x32(
        [
            time as u32,
            (time >> 32) as u32,
            place as u32,
            (place >> 32) as u32,
        ],
        [std::process::id(), 0],
    );
    u64::from(words[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_authors() {
        let digits = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                digits,
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    #[test]
    fn uniform_numbers_are_below_one_and_spread() {
        let mut bins = [0; 16];
        for pos in 0..16_000 {
            let x = uniform(7, 0, pos);
            assert!((0.0..1.0).contains(&x));
            bins[(x * 16.0) as usize] += 1;
        }
        // Five standard deviations of a binomial count of mean 1000.
        assert!(bins.iter().all(|n| (850..1150).contains(n)), "{bins:?}");
    }

    #[test]
    fn seed_choice_and_position_each_matter() {
        let all = [
            uniform(1, 0, 0),
            uniform(2, 0, 0),
            uniform(1, 1, 0),
            uniform(1, 0, 1),
            uniform(1 << 32, 0, 0),
        ];
        for (a, x) in all.iter().enumerate() {
            assert!(all[..a].iter().all(|y| x != y));
        }
    }
}
