//! An allocator that knows how much memory was taken at most, so that a limit on memory can be tested.
//!
//! A test program makes it its own, then measures:
//!
//! ```
//! use hearth_testing::peak::{Peak, measure};
//!
//! #[global_allocator]
//! static ALLOCATOR: Peak = Peak;
//!
//! let (sum, bytes) = measure(|| vec![1_u8; 1000].iter().map(|&x| u32::from(x)).sum::<u32>());
//! assert!(sum == 1000 && bytes >= 1000);
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The system's allocator, counting. The counts are of the whole process: measure one thing at a time.
#[derive(Debug)]
pub struct Peak;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(live, Relaxed);
}

fn gave(bytes: usize) {
    LIVE.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches nothing but two atomics.
unsafe impl GlobalAlloc for Peak {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new may exist side by side while the content moves, so both count.
        took(new_size);
        // SAFETY: the caller keeps the contract of `realloc`.
        let moved = unsafe { System.realloc(ptr, layout, new_size) };
        gave(layout.size());
        moved
    }
}

/// Runs `work`, and returns what it returns and the most bytes that were taken during it beyond those held before.
/// Zero when [`Peak`] is not the program's allocator.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = work();
    (result, MOST.load(Relaxed).saturating_sub(before))
}

/// The most memory that reading an input of `len` bytes may take: 16 times the input and 16 MiB.
#[must_use]
pub fn budget(len: usize) -> usize {
    len * 16 + (16 << 20)
}
