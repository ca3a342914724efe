//! Gated activations: `out = act(gate) * up`.

use crate::Kernels;
use crate::cpu::Isa;
use crate::float::{self, LANES};
use crate::lanes::{self, LaneOp, Lanes};

/// The function applied to the gate. [`crate::float`] defines each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// 0.5 x (1 + erf(x / √2)).
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

impl Activation {
    /// The definition.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Silu => float::silu(x),
            Activation::Gelu => float::gelu(x),
            Activation::GeluTanh => float::gelu_tanh(x),
        }
    }
}

impl Kernels {
    /// `out[i] = act(gate[i]) * up[i]`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn glu(&self, act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(
            gate.len() == up.len() && up.len() == out.len(),
            "gate, up and output have one length"
        );
        self.for_parts(out, LANES, |first, out| {
            let range = first..first + out.len();
            let (gate, up) = (&gate[range.clone()], &up[range]);
            glu(self.isa(), act, gate, up, out);
        });
    }
}

/// `out[i] = act(gate[i]) * up[i]` on this thread.
pub(crate) fn glu(isa: Isa, act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match (isa, act) {
        (Isa::Scalar, _) | (_, Activation::Gelu | Activation::GeluTanh) => {
            // erf and tanh come from libm, which is scalar on every level.
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = act.apply(*gate) * up;
            }
        }
        (isa, Activation::Silu) => lanes::run(isa, SiluGlu { gate, up, out }),
    }
}

/// How far ahead gates are asked for, in blocks of 16: they come from beyond the second-level cache.
const AHEAD: usize = 64;

struct SiluGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl LaneOp for SiluGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let (gate, gate_rest) = self.gate.as_chunks::<LANES>();
        let (up, up_rest) = self.up.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        for ((gate, up), out) in gate.iter().zip(up).zip(out) {
            s.prefetch((&raw const *gate).wrapping_add(AHEAD).cast());
            s.prefetch((&raw const *up).wrapping_add(AHEAD).cast());
            s.store(silu_times(s, s.load(gate), s.load(up)), out);
        }
        let rest = silu_times(s, s.load_part(gate_rest), s.load_part(up_rest));
        s.store_part(rest, out_rest);
    }
}

#[inline(always)]
fn silu_times<S: Lanes>(s: S, gate: S::V, up: S::V) -> S::V {
    // 0 - x differs from -x only for zeros, and e^0 is the same for both.
    let e = s.exp(s.sub(s.splat(0.0), gate));
    s.mul(s.div(gate, s.add(s.splat(1.0), e)), up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_level_and_team_gives_the_bits_of_the_definition() {
        testing::each_kernels(|kernels| {
            for act in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
                for n in [0, 1, 15, 16, 17, 100, 40_000] {
                    let gate: Vec<f32> = testing::floats(n, 1).iter().map(|x| x * 30.0).collect();
                    check(kernels, act, &gate, &testing::floats(n, 2));
                }
                for gate in testing::extremes(19) {
                    check(kernels, act, &gate, &testing::floats(gate.len(), 2));
                }
            }
        });
    }

    fn check(kernels: &Kernels, act: Activation, gate: &[f32], up: &[f32]) {
        let expected: Vec<f32> = gate
            .iter()
            .zip(up)
            .map(|(gate, up)| act.apply(*gate) * up)
            .collect();
        let mut out = vec![9.0; gate.len()];
        kernels.glu(act, gate, up, &mut out);
        testing::assert_bits(
            &out,
            &expected,
            &format!("{act:?} of {} values", gate.len()),
        );
    }
}
