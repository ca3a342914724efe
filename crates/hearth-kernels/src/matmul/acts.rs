//! Activations of a call in every format that its weights need.
//!
//! Each row of the input is quantised once and written where the kernels want it: one batch of all tokens, or several groups
//! of them, among which a row may occur more than once.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::driver::{FEW_TOKENS, grow};
use super::float::{self, Line};
use crate::Kernels;
use crate::activation::{self, A32Block, A256Block, ActBatch};
#[cfg(target_arch = "x86_64")]
use crate::activation::{Stream32, Stream256};
use crate::cpu::Isa;
use crate::disjoint::Disjoint;
use crate::quant::{ActFormat, WeightType};

/// From this many elements on, quantising the input is worth a fork of its own.
const FORK_LEN: usize = 16 * 1024;

/// Rows that one claim quantises, at most: a group of float rows, whose lines lie side by side, stays with one thread.
const QUANTIZE_CHUNK: usize = 12;

/// Where a row of the input goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The group's first row, all groups counted through.
    pub first: usize,
    /// Rows of the group.
    pub len: usize,
    /// Which of them this is.
    pub index: usize,
}

/// Which formats the weights of a call ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    a32: bool,
    a256: bool,
    float: bool,
    /// Whether float rows are gathered too.
    gather: bool,
}

impl Needs {
    pub fn of(types: impl Iterator<Item = WeightType> + Clone) -> Needs {
        let any = |format| types.clone().any(|ty| ty.activations() == format);
        Needs {
            a32: any(ActFormat::A32),
            a256: any(ActFormat::A256),
            float: any(ActFormat::Float),
            gather: false,
        }
    }

    /// The same with rows gathered for float weights: those of a group do not lie together in the input.
    pub fn gathered(self) -> Needs {
        Needs {
            gather: self.float,
            ..self
        }
    }

    /// A32 and A256 blocks of a row.
    fn blocks(self, n_cols: usize) -> (usize, usize) {
        let a32 = if self.a32 { n_cols / 32 } else { 0 };
        let a256 = if self.a256 { n_cols / 256 } else { 0 };
        (a32, a256)
    }

    /// Bytes that [`Acts`] takes for so many rows, and [`Streams`] for each group of few tokens.
    pub fn n_bytes(self, n_cols: usize, n_rows: usize) -> [u64; 2] {
        let (a32, a256) = self.blocks(n_cols);
        let float = usize::from(self.float) * float::n_lines(n_cols) * size_of::<Line>()
            + usize::from(self.gather) * n_cols * 4;
        let row = a32 * size_of::<A32Block>() + a256 * size_of::<A256Block>() + float + 1;
        let stream = self.stream_bytes(n_cols) * FEW_TOKENS.min(n_rows);
        [(row as u64).saturating_mul(n_rows as u64), stream as u64]
    }

    #[cfg(target_arch = "x86_64")]
    fn stream_bytes(self, n_cols: usize) -> usize {
        let (a32, a256) = self.blocks(n_cols);
        Stream32::token_bytes(a32) + Stream256::token_bytes(a256)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn stream_bytes(self, _: usize) -> usize {
        0
    }
}

/// Capacity for `len` elements in all.
fn reserve<T>(buffer: &mut Vec<T>, len: usize) {
    buffer.reserve_exact(len.saturating_sub(buffer.len()));
}

/// Quantised rows, and float ones where they had to be gathered. Buffers keep the length of the largest call; the present one
/// uses, and overwrites, the first elements.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    n_cols: usize,
    n_rows: usize,
    /// Blocks of a row; 0 when no weight needs them.
    n_a32: usize,
    n_a256: usize,
    n_lines: usize,
    /// Groups one after the other, each `[n_a32, len]`.
    a32: Vec<A32Block>,
    /// Groups one after the other, each `[n_a256, len]`.
    a256: Vec<A256Block>,
    /// Groups one after the other, each as [`float::pack`] lays it out. Unused where a group is small.
    lines: Vec<Line>,
    is_gathered: bool,
    /// `[n_rows, n_cols]`, only where rows are gathered for float weights.
    gathered: Vec<f32>,
    is_finite: Vec<bool>,
}

impl Acts {
    /// `n_tokens` rows as one group. `row` is asked for every index once.
    pub fn quantize<'r>(
        &mut self,
        kernels: &Kernels,
        needs: Needs,
        n_cols: usize,
        n_tokens: usize,
        row: impl Fn(usize) -> &'r [f32] + Sync,
    ) {
        let places = |index| {
            std::iter::once(Place {
                first: 0,
                len: n_tokens,
                index,
            })
        };
        self.quantize_rows(
            kernels, needs, true, n_cols, n_tokens, n_tokens, row, places,
        );
    }

    /// Rows of `input`, `[n_tokens, n_cols]`, each to all its `places`. Every one of `n_rows` places is named exactly once.
    pub fn quantize_to<P: Iterator<Item = Place>>(
        &mut self,
        kernels: &Kernels,
        needs: Needs,
        input: &[f32],
        n_tokens: usize,
        n_rows: usize,
        places: impl Fn(usize) -> P + Sync,
    ) {
        let n_cols = input.len() / n_tokens;
        let row = |index: usize| &input[index * n_cols..][..n_cols];
        self.quantize_rows(kernels, needs, false, n_cols, n_tokens, n_rows, row, places);
    }

    #[allow(clippy::too_many_arguments, reason = "what two callers above share")]
    fn quantize_rows<'r, P: Iterator<Item = Place>>(
        &mut self,
        kernels: &Kernels,
        needs: Needs,
        is_batch: bool,
        n_cols: usize,
        n_tokens: usize,
        n_rows: usize,
        row: impl Fn(usize) -> &'r [f32] + Sync,
        places: impl Fn(usize) -> P + Sync,
    ) {
        self.resize(needs, n_cols, n_rows);
        let store = Store {
            isa: kernels.isa(),
            n_cols,
            n_a32: self.n_a32,
            n_a256: self.n_a256,
            n_lines: self.n_lines,
            is_batch,
            lines: Disjoint::new(&mut self.lines),
            is_gathered: needs.gather,
            a32: Disjoint::new(&mut self.a32),
            a256: Disjoint::new(&mut self.a256),
            gathered: Disjoint::new(&mut self.gathered),
            is_finite: Disjoint::new(&mut self.is_finite),
        };
        // SAFETY: every place is named once, so these elements are this row's alone.
        let quantize = |tokens: Range<usize>| unsafe {
            let mut rows = [&[][..]; QUANTIZE_CHUNK];
            for (to, token) in rows.iter_mut().zip(tokens.clone()) {
                *to = row(token);
                store.write(to, || places(token));
            }
            if store.is_batch {
                store.pack(&rows[..tokens.len()], 0, n_tokens, tokens.start);
            }
        };
        let is_forked = n_tokens * n_cols >= FORK_LEN;
        let n_threads = if is_forked { kernels.n_threads() } else { 1 };
        let step = (n_tokens / n_threads).clamp(1, QUANTIZE_CHUNK);
        let chunk = |index: usize| quantize(index * step..((index + 1) * step).min(n_tokens));
        let n_chunks = n_tokens.div_ceil(step);
        if is_forked {
            kernels.team().run(n_chunks, |worker| {
                while let Some(index) = worker.claim() {
                    chunk(index);
                }
            });
        } else {
            (0..n_chunks).for_each(chunk);
        }
    }

    /// Makes room for calls up to these sizes, so that they allocate nothing. Memory never touched stays with the system.
    pub fn reserve(&mut self, needs: Needs, n_cols: usize, n_rows: usize) {
        let (n_a32, n_a256) = needs.blocks(n_cols);
        reserve(&mut self.a32, n_a32 * n_rows);
        reserve(&mut self.a256, n_a256 * n_rows);
        reserve(&mut self.is_finite, n_rows);
        if needs.float {
            reserve(&mut self.lines, float::n_lines(n_cols) * n_rows);
        }
        if needs.gather {
            reserve(&mut self.gathered, n_cols * n_rows);
        }
    }

    fn resize(&mut self, needs: Needs, n_cols: usize, n_rows: usize) {
        (self.n_cols, self.n_rows) = (n_cols, n_rows);
        (self.n_a32, self.n_a256) = needs.blocks(n_cols);
        grow(&mut self.a32, self.n_a32 * n_rows, A32Block::ZERO);
        grow(&mut self.a256, self.n_a256 * n_rows, A256Block::ZERO);
        let is_panelled = needs.float && n_rows >= float::PANEL_TOKENS;
        self.n_lines = if is_panelled {
            float::n_lines(n_cols)
        } else {
            0
        };
        grow(&mut self.lines, self.n_lines * n_rows, Line::ZERO);
        grow(&mut self.is_finite, n_rows, true);
        self.is_gathered = needs.gather;
        if needs.gather {
            grow(&mut self.gathered, n_cols * n_rows, 0.0);
        }
    }

    /// Rows and columns of the last call.
    pub fn shape(&self) -> [usize; 2] {
        [self.n_rows, self.n_cols]
    }

    /// Whether every activation of each row of a group is finite.
    pub fn is_finite(&self, group: Range<usize>) -> &[bool] {
        &self.is_finite[group]
    }

    /// The float rows of a group, where they were gathered.
    pub fn gathered(&self, group: Range<usize>) -> &[f32] {
        match self.is_gathered {
            true => &self.gathered[group.start * self.n_cols..group.end * self.n_cols],
            false => &[],
        }
    }

    /// A group as kernels take it. `input` is its `[len, n_cols]` floats, which nobody reads unless a weight is float.
    pub fn batch<'a>(
        &'a self,
        group: Range<usize>,
        input: &'a [f32],
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused))] streams: &'a Streams,
    ) -> ActBatch<'a> {
        let blocks = |n: usize| group.start * n..group.end * n;
        let n_lines = if group.len() < float::PANEL_TOKENS {
            0
        } else {
            self.n_lines
        };
        ActBatch {
            n_tokens: group.len(),
            n_cols: self.n_cols,
            input,
            a32: &self.a32[blocks(self.n_a32)],
            a256: &self.a256[blocks(self.n_a256)],
            floats: &self.lines[blocks(n_lines)],
            #[cfg(target_arch = "x86_64")]
            stream256: streams.is_256.then_some(&streams.stream256),
            #[cfg(target_arch = "x86_64")]
            stream32: streams.is_32.then_some(&streams.stream32),
        }
    }
}

/// The buffers while threads fill them.
struct Store<'a> {
    isa: Isa,
    n_cols: usize,
    n_a32: usize,
    n_a256: usize,
    n_lines: usize,
    /// All rows form one group, in their order.
    is_batch: bool,
    lines: Disjoint<'a, Line>,
    is_gathered: bool,
    a32: Disjoint<'a, A32Block>,
    a256: Disjoint<'a, A256Block>,
    gathered: Disjoint<'a, f32>,
    is_finite: Disjoint<'a, bool>,
}

impl Store<'_> {
    /// Quantises a row to its places.
    ///
    /// # Safety
    /// No other thread writes to these places.
    unsafe fn write<P: Iterator<Item = Place>>(&self, row: &[f32], places: impl Fn() -> P) {
        let finite = activation::is_finite(row);
        for at in places().map(|place| place.first + place.index) {
            // SAFETY: the caller's promise, here and below.
            unsafe { self.is_finite.part(at..at + 1).fill(finite) };
            if self.is_gathered {
                let range = at * self.n_cols..(at + 1) * self.n_cols;
                // SAFETY: as above.
                unsafe { self.gathered.part(range).copy_from_slice(row) };
            }
        }
        let element = |place: Place, n: usize, i: usize| {
            let at = place.first * n + i * place.len + place.index;
            at..at + 1
        };
        for i in 0..self.n_a32 {
            let block = match finite {
                true => activation::quantize_a32(self.isa, &row.as_chunks().0[i]),
                false => A32Block::ZERO,
            };
            for place in places() {
                // SAFETY: as above.
                unsafe { self.a32.part(element(place, self.n_a32, i))[0] = block };
            }
        }
        if !self.is_batch {
            for place in places() {
                // SAFETY: as above.
                unsafe { self.pack(&[row], place.first, place.len, place.index) };
            }
        }
        for i in 0..self.n_a256 {
            let element = |place| element(place, self.n_a256, i);
            let mut places = places();
            let Some(first) = places.next() else { return };
            // SAFETY: as above.
            let block = unsafe { &mut self.a256.part(element(first))[0] };
            match finite {
                true => activation::quantize_a256(self.isa, &row.as_chunks().0[i], block),
                false => *block = A256Block::ZERO,
            }
            for place in places {
                // SAFETY: as above.
                unsafe { self.a256.part(element(place))[0] = *block };
            }
        }
    }
}

impl Store<'_> {
    /// Lays out float rows that follow each other from `index` on in a group of `len`, which starts at row `first`. Nothing where
    /// the group is small or no weight is float.
    ///
    /// # Safety
    /// No other thread writes to these places.
    unsafe fn pack(&self, rows: &[&[f32]], first: usize, len: usize, index: usize) {
        if self.n_lines > 0 && len >= float::PANEL_TOKENS {
            let first = first * self.n_lines;
            // SAFETY: the caller's promise.
            unsafe { float::pack(self.isa, rows, &self.lines, first, len, index) };
        }
    }
}

/// What the kernels of a level read for few tokens instead of the plain blocks.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    #[cfg(target_arch = "x86_64")]
    is_256: bool,
    #[cfg(target_arch = "x86_64")]
    stream256: Stream256,
    #[cfg(target_arch = "x86_64")]
    is_32: bool,
    #[cfg(target_arch = "x86_64")]
    stream32: Stream32,
}

impl Streams {
    /// Makes room for groups of weights with these needs, as [`Acts::reserve`] does.
    pub fn reserve(&mut self, isa: Isa, needs: Needs, n_cols: usize, n_tokens: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Isa::Avx512(token) = isa {
            let (n_a32, n_a256) = needs.blocks(n_cols);
            let n_tokens = n_tokens.min(avx512::stream_tokens(token));
            self.stream32.reserve(n_tokens, n_a32);
            self.stream256.reserve(n_tokens, n_a256);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (isa, needs, n_cols, n_tokens);
    }

    /// Prepares a group for weights of these types, where the level has such kernels for so few tokens.
    #[cfg(target_arch = "x86_64")]
    pub fn fill(
        &mut self,
        isa: Isa,
        types: impl Iterator<Item = WeightType>,
        acts: &Acts,
        group: Range<usize>,
    ) {
        (self.is_256, self.is_32) = (false, false);
        let Isa::Avx512(token) = isa else { return };
        if group.len() > avx512::stream_tokens(token) {
            return;
        }
        for ty in types.filter(|ty| avx512::kernel(*ty).is_some()) {
            match ty.activations() {
                ActFormat::A32 => self.is_32 = true,
                ActFormat::A256 => self.is_256 = true,
                ActFormat::Float => {}
            }
        }
        let blocks = |n: usize| group.start * n..group.end * n;
        if self.is_256 {
            let a256 = &acts.a256[blocks(acts.n_a256)];
            self.stream256.fill(token, a256, group.len());
        }
        if self.is_32 {
            let a32 = &acts.a32[blocks(acts.n_a32)];
            self.stream32.fill(a32, group.len());
        }
    }

    /// No level of this architecture has such kernels.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn fill(&mut self, _: Isa, _: impl Iterator<Item = WeightType>, _: &Acts, _: Range<usize>) {
    }
}
