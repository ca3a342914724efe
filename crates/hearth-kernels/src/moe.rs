//! Mixtures of experts: every token goes through the gated MLPs of the experts that the router's logits choose for it.
//!
//! Tokens are grouped by expert, so a matrix is read once for all its tokens, and an expert without tokens not at all. A group
//! is a batch like any other to the kernels of the products: few tokens stream the matrix, many multiply unpacked panels. There
//! are three forks: rows are quantised, gate and up products with the activation, down products with the weighted sum.
//! `docs/numerics.md` defines every bit; neither the grouping nor who shares a call can change one.

use std::sync::{Mutex, PoisonError};

mod experts;
mod route;
#[cfg(test)]
mod tests;

use experts::{Down, GateUp, Thread};
use route::Routes;

use crate::disjoint::Disjoint;
use crate::glu::Activation;
use crate::matmul::Matrix;
use crate::matmul::acts::{Acts, Needs, Streams};
use crate::quant::WeightType;
use crate::{Kernels, cpu::Isa};

/// Below this many rows, filling streams is not worth a fork.
const FORK_ROWS: usize = 16;

/// The experts of a layer. The matrices of all experts lie one after the other.
#[derive(Debug, Clone, Copy)]
pub struct MoeArgs<'a> {
    /// Experts.
    pub n_expert: usize,
    /// How many of them a token goes to, from 1 to `n_expert`.
    pub n_expert_used: usize,
    /// The function applied to the gate.
    pub activation: Activation,
    /// `[n_expert · n_ff, n_embd]`.
    pub gate: Matrix<'a>,
    /// `[n_expert · n_ff, n_embd]`.
    pub up: Matrix<'a>,
    /// `[n_expert · n_embd, n_ff]`.
    pub down: Matrix<'a>,
}

impl MoeArgs<'_> {
    fn n_embd(&self) -> usize {
        self.gate.cols()
    }

    fn n_ff(&self) -> usize {
        self.down.cols()
    }

    fn check(&self) {
        let (n_embd, n_ff, n_expert) = (self.n_embd(), self.n_ff(), self.n_expert);
        assert!(
            (1..=n_expert).contains(&self.n_expert_used),
            "{} of {n_expert} experts cannot be used",
            self.n_expert_used
        );
        for (name, matrix, rows, cols) in [
            ("gate", &self.gate, n_ff, n_embd),
            ("up", &self.up, n_ff, n_embd),
            ("down", &self.down, n_embd, n_ff),
        ] {
            assert!(
                matrix.rows() == n_expert * rows && matrix.cols() == cols,
                "{name} is not [{n_expert} · {rows}, {cols}]"
            );
        }
    }
}

/// Largest shapes of a model's calls, to size a [`Scratch`] once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Rows of a call.
    pub n_tokens: usize,
    /// Experts.
    pub n_expert: usize,
    /// How many of them a token goes to.
    pub n_expert_used: usize,
    /// Width of the input and the output.
    pub n_embd: usize,
    /// Inner width of an expert.
    pub n_ff: usize,
    /// Types of the gate and up matrices.
    pub gate_up: [WeightType; 2],
    /// Type of the down matrices.
    pub down: WeightType,
}

impl Bounds {
    fn needs(&self) -> [(Needs, usize); 2] {
        let outer = Needs::of(self.gate_up.into_iter()).gathered();
        let inner = Needs::of(std::iter::once(self.down));
        [(outer, self.n_embd), (inner, self.n_ff)]
    }

    fn n_rows(&self) -> usize {
        self.n_tokens.saturating_mul(self.n_expert_used)
    }

    fn n_groups(&self) -> usize {
        self.n_expert.min(self.n_rows())
    }

    /// Bytes that a scratch reserved for this takes at most, in parts that are allocated one by one.
    pub fn n_bytes(&self, n_threads: usize) -> [u64; 4] {
        let sizes = self
            .needs()
            .map(|(needs, n_cols)| needs.n_bytes(n_cols, self.n_rows()));
        let streams = sizes[0][1].saturating_add(sizes[1][1]);
        [
            sizes[0][0].saturating_add(sizes[1][0]),
            streams.saturating_mul(self.n_groups() as u64),
            Thread::n_bytes(self.n_tokens).saturating_mul(n_threads as u64),
            Routes::n_bytes(self.n_expert, self.n_rows()),
        ]
    }
}

/// Memory that calls reuse. It grows when a call needs more than it has; [`Scratch::reserve`] makes room beforehand.
#[derive(Debug, Default)]
pub struct Scratch {
    routes: Routes,
    acts: Acts,
    /// One per group; those of large groups stay empty.
    streams: Vec<Streams>,
    threads: Vec<Mutex<Thread>>,
}

impl Scratch {
    /// Empty; grows with use.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Makes room for calls up to `bounds` on `kernels`' team, whatever experts they choose, so that they allocate nothing.
    pub fn reserve(&mut self, kernels: &Kernels, bounds: &Bounds) {
        let (n_expert, n_used) = (bounds.n_expert, bounds.n_expert_used);
        self.routes.reserve(bounds.n_tokens, n_expert, n_used);
        self.grow(kernels, bounds.n_groups(), bounds.n_tokens);
        for (needs, n_cols) in bounds.needs() {
            self.acts.reserve(needs, n_cols, bounds.n_rows());
            for streams in &mut self.streams {
                streams.reserve(kernels.isa(), needs, n_cols, bounds.n_tokens);
            }
        }
    }

    fn grow(&mut self, kernels: &Kernels, n_groups: usize, n_tokens: usize) {
        if self.streams.len() < n_groups {
            self.streams.resize_with(n_groups, Streams::default);
        }
        if self.threads.len() < kernels.n_threads() {
            self.threads
                .resize_with(kernels.n_threads(), Mutex::default);
        }
        for thread in &mut self.threads {
            let thread = thread.get_mut().unwrap_or_else(PoisonError::into_inner);
            thread.grow(n_tokens);
        }
    }

    /// Prepares the groups of few tokens for kernels that read their activations in another order, and says of the others that
    /// they are not.
    fn fill_streams(&mut self, kernels: &Kernels, types: &[WeightType]) {
        let Scratch {
            routes,
            acts,
            streams,
            ..
        } = self;
        let groups = &routes.groups;
        let isa: Isa = kernels.isa();
        let streams = Disjoint::new(streams);
        let fill = |index: usize| {
            // SAFETY: every group is filled once, and this is its own element.
            let streams = unsafe { &mut streams.part(index..index + 1)[0] };
            streams.fill(isa, types.iter().copied(), acts, groups[index].rows());
        };
        if routes.rows.len() < FORK_ROWS {
            (0..groups.len()).for_each(fill);
        } else {
            kernels.team().run(groups.len(), |worker| {
                while let Some(group) = worker.claim() {
                    fill(group);
                }
            });
        }
    }
}

impl Kernels {
    /// `out[t] = Σ weight · down(act(gate(x)) · up(x))` over the experts that `logits` choose for each token.
    ///
    /// `input` and `out` are `[n_tokens, n_embd]`, `logits` is `[n_tokens, n_expert]`. `inner`,
    /// `[n_tokens · n_expert_used, n_ff]`, is working memory. A token with an activation or a logit that is not finite gets
    /// NaN as all its outputs.
    ///
    /// # Panics
    /// When a matrix or a slice does not have the shape the others demand.
    pub fn moe(
        &self,
        scratch: &mut Scratch,
        args: &MoeArgs<'_>,
        input: &[f32],
        logits: &[f32],
        inner: &mut [f32],
        out: &mut [f32],
    ) {
        args.check();
        let n_embd = args.n_embd();
        let n_tokens = input.len() / n_embd;
        let n_rows = n_tokens * args.n_expert_used;
        assert!(
            input.len() == n_tokens * n_embd && out.len() == input.len(),
            "input and output are not [{n_tokens}, {n_embd}]"
        );
        assert_eq!(logits.len(), n_tokens * args.n_expert, "a logit per expert");
        assert_eq!(inner.len(), n_rows * args.n_ff(), "inner rows");
        if n_tokens == 0 {
            return;
        }
        scratch
            .routes
            .fill(logits, args.n_expert, args.n_expert_used);
        scratch.grow(self, scratch.routes.groups.len(), n_tokens);
        let types = [args.gate.weight_type(), args.up.weight_type()];
        let (acts, routes) = (&mut scratch.acts, &scratch.routes);
        let needs = Needs::of(types.into_iter()).gathered();
        acts.quantize_to(self, needs, input, n_tokens, n_rows, |token| {
            routes.places(token)
        });
        scratch.fill_streams(self, &types);
        GateUp::plan(args, &mut scratch.routes.groups, self.n_threads());
        let Scratch {
            routes,
            acts,
            streams,
            threads,
        } = &*scratch;
        GateUp::new(args, routes, acts, streams, self.isa()).run(self, threads, inner);

        let down = [args.down.weight_type()];
        let needs = Needs::of(down.into_iter());
        let (acts, routes) = (&mut scratch.acts, &scratch.routes);
        acts.quantize_to(self, needs, inner, n_rows, n_rows, |row| {
            std::iter::once(routes.rows[row].place)
        });
        scratch.fill_streams(self, &down);
        let Scratch {
            routes,
            acts,
            streams,
            threads,
        } = &*scratch;
        Down::new(args, routes, acts, streams, inner, self).run(self, threads, out);
    }
}
