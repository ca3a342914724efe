//! Each lane method against the scalar arithmetic, on every level the machine has.

use super::*;
use crate::cpu::Level;
use crate::float;

/// Bits, with every NaN made the same.
fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
}

fn assert_lanes(found: [f32; LANES], expected: [f32; LANES], what: &str, level: Level) {
    assert_eq!(
        found.map(bits),
        expected.map(bits),
        "{what} at level {level}"
    );
}

/// Values at which levels could differ: signs of zero, ties, subnormals, the clamps of exp, infinities, NaN.
fn samples() -> Vec<[f32; LANES]> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        f32::MIN_POSITIVE,
        1e-40,
        -1e-45,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        88.722_83,
        88.722_84,
        -87.336_54,
        -87.336_55,
        -87.3,
        -103.9,
        0.333_333_34,
        1e10,
        -1e10,
    ];
    let mut out = Vec::new();
    for shift in 0..special.len() {
        out.push(std::array::from_fn(|i| {
            special[(shift + i * 7) % special.len()]
        }));
    }
    let mut state = 1u32;
    for _ in 0..200 {
        out.push(std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 65536.0 - 128.0
        }));
    }
    out
}

struct Battery {
    level: Level,
}

impl LaneOp for Battery {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let samples = samples();
        let out = |v: S::V| {
            let mut x = [0.0; LANES];
            s.store(v, &mut x);
            x
        };
        for (n, x) in samples.iter().enumerate() {
            let y = &samples[(n + 1) % samples.len()];
            let z = &samples[(n + 2) % samples.len()];
            let (a, b, c) = (s.load(x), s.load(y), s.load(z));
            let lanes = |f: &dyn Fn(usize) -> f32| std::array::from_fn(f);
            let check = |v: S::V, what: &str, f: &dyn Fn(usize) -> f32| {
                assert_lanes(out(v), lanes(f), what, self.level)
            };
            check(s.add(a, b), "add", &|i| x[i] + y[i]);
            check(s.sub(a, b), "sub", &|i| x[i] - y[i]);
            check(s.mul(a, b), "mul", &|i| x[i] * y[i]);
            check(s.div(a, b), "div", &|i| x[i] / y[i]);
            check(s.fma(a, b, c), "fma", &|i| x[i].mul_add(y[i], z[i]));
            check(s.max(a, b), "max", &|i| {
                if x[i] > y[i] { x[i] } else { y[i] }
            });
            check(s.select_less(a, b, c, a), "select_less", &|i| {
                if x[i] < y[i] { z[i] } else { x[i] }
            });
            check(s.round_ties_even(a), "round", &|i| x[i].round_ties_even());
            check(s.exp(a), "exp", &|i| float::exp(x[i]));
            check(s.tanh(a), "tanh", &|i| float::tanh(x[i]));
            let near = s.mul(a, s.splat(1.0 / 64.0));
            check(s.tanh(near), "tanh", &|i| float::tanh(x[i] / 64.0));
            let mut bytes = [0u8; 64];
            for (to, x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(x) {
                *to = x.to_le_bytes();
            }
            check(s.load_f32(&bytes), "load_f32", &|i| x[i]);
            let mut half = [0u8; 32];
            s.store_f16(a, &mut half);
            for (i, pair) in half.as_chunks::<2>().0.iter().enumerate() {
                let (found, expected) = (u16::from_le_bytes(*pair), float::f32_to_f16(x[i]));
                assert!(
                    found == expected || x[i].is_nan(),
                    "store_f16 of {:e} at level {}",
                    x[i],
                    self.level
                );
            }
            assert_eq!(
                bits(s.reduce(a)),
                bits(float::reduce(x)),
                "reduce at level {}",
                self.level
            );
            let four = [x, y, z, &samples[(n + 3) % samples.len()]];
            let found = s.reduce4([a, b, c, s.load(four[3])]);
            assert_eq!(
                found.map(bits),
                four.map(|x| bits(float::reduce(x))),
                "reduce4 at level {}",
                self.level
            );
            let rows: [[f32; LANES]; LANES] =
                std::array::from_fn(|i| samples[(n + i) % samples.len()]);
            let columns = s.transpose(rows.map(|x| s.load(&x)));
            for (j, column) in columns.into_iter().enumerate() {
                check(column, "transpose", &|i| rows[i][j]);
            }
            for first in 0..=LANES {
                for end in first..=LANES {
                    let v = s.select_range(first, end, a, b);
                    check(v, "select_range", &|i| {
                        if (first..end).contains(&i) {
                            x[i]
                        } else {
                            y[i]
                        }
                    });
                }
                check(s.load_part(&x[..first]), "load_part", &|i| {
                    if i < first { x[i] } else { 0.0 }
                });
                let mut part = [7.0; LANES];
                s.store_part(a, &mut part[..first]);
                assert_lanes(
                    part,
                    lanes(&|i| if i < first { x[i] } else { 7.0 }),
                    "store_part",
                    self.level,
                );
            }
        }
    }
}

struct Conversions {
    level: Level,
}

impl LaneOp for Conversions {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for start in (0..=u16::MAX - 15).step_by(16) {
            let mut bytes = [0u8; 32];
            for i in 0..16u16 {
                bytes[2 * usize::from(i)..][..2].copy_from_slice(&(start + i).to_le_bytes());
            }
            let mut found = [0.0; LANES];
            s.store(s.load_f16(&bytes), &mut found);
            assert_lanes(
                found,
                std::array::from_fn(|i| float::f16_to_f32(start + i as u16)),
                "f16",
                self.level,
            );
            s.store(s.load_bf16(&bytes), &mut found);
            assert_lanes(
                found,
                std::array::from_fn(|i| float::bf16_to_f32(start + i as u16)),
                "bf16",
                self.level,
            );
        }
    }
}

#[test]
fn every_level_does_what_the_scalar_arithmetic_does() {
    for level in Level::available() {
        let isa = Isa::new(level).expect("available");
        run(isa, Battery { level });
        run(isa, Conversions { level });
    }
}
