//! One output buffer written by several threads in parts that do not overlap.

use std::marker::PhantomData;
use std::ops::Range;

use crate::Kernels;

/// Floats one thread takes at a time in work that is bound by memory: below this a fork costs more than it gains.
const PART: usize = 16 * 1024;

/// A mutable slice that several threads may take parts of.
#[derive(Debug)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the slice is exclusively borrowed, and whoever takes a part promises that no other thread has it (see `part`).
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// Elements of the whole.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The elements in `range`.
    ///
    /// # Panics
    /// If the range leaves the slice.
    ///
    /// # Safety
    /// While the part lives no other part that overlaps it may.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "part {range:?} of a slice of {}",
            self.len
        );
        // SAFETY: inside the slice by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

impl Kernels {
    /// Calls `body(first element, part)` for consecutive parts of `out`, each a multiple of `unit` long, on the team when
    /// the whole is large enough to pay for it.
    pub(crate) fn for_parts(
        &self,
        out: &mut [f32],
        unit: usize,
        body: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        if out.is_empty() {
            return;
        }
        let part = unit * (PART / unit).max(1);
        let len = out.len();
        let out = Disjoint::new(out);
        self.team().run(len.div_ceil(part), |worker| {
            while let Some(chunk) = worker.claim() {
                let first = chunk * part;
                // SAFETY: every chunk is claimed once, and chunks do not overlap.
                body(first, unsafe { out.part(first..len.min(first + part)) });
            }
        });
    }
}
