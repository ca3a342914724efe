//! Pages of keys and values, and the sequences that hold them.
//!
//! A page is 64 positions of all attention layers. The pool is one anonymous map: its address range
//! is reserved at once, the system backs a page with memory when it is first written, so a large
//! context costs nothing until it is used. The pool hands out page numbers and never looks into them;
//! which sequence holds which page is its caller's decision.

use hearth_kernels::{KvPlace, KvType, PAGE_POSITIONS};
use memmap2::{MmapMut, MmapOptions};

use crate::{
    error::PoolError,
    model::Model,
    plan::{Plan, StateKind},
};

/// Number of a page in its pool.
pub type PageId = u32;

/// Entry of a page table whose page was given back: no row of the sequence can see it any more.
pub(crate) const RELEASED: PageId = u32::MAX;

/// Where in a page each attention layer keeps its keys and values.
#[derive(Clone, Debug, PartialEq)]
pub struct PageLayout {
    kv_type: KvType,
    page_bytes: usize,
    states: Vec<StateKind>,
    places: Vec<KvPlace>,
}

impl PageLayout {
    /// Lays out the layers of a plan one after the other, keys before values.
    pub fn new(plan: &Plan, kv_type: KvType) -> Self {
        // Every run is a multiple of 64 bytes, so all offsets keep cache-line alignment.
        let mut offset = 0;
        let mut take = |n_head_kv: usize, head_bytes: Option<usize>| {
            let start = offset;
            offset +=
                n_head_kv * head_bytes.expect("the plan's widths were bounded when it was made");
            start
        };
        let mut places = Vec::new();
        for state in &plan.states {
            let StateKind::Attention {
                n_head_kv,
                head_dim,
                head_dim_v,
                ..
            } = *state;
            let key_offset = take(n_head_kv, kv_type.key_bytes(head_dim));
            let value_offset = take(n_head_kv, kv_type.value_bytes(head_dim_v));
            places.push(KvPlace {
                kv_type,
                page_bytes: 0,
                key_offset,
                value_offset,
                n_head_kv,
                head_dim,
                head_dim_v,
            });
        }
        for place in &mut places {
            place.page_bytes = offset;
        }
        PageLayout {
            kv_type,
            page_bytes: offset,
            states: plan.states.clone(),
            places,
        }
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Bytes of 64 positions of all layers.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Whether a page of this layout is one of that plan.
    pub(crate) fn fits(&self, plan: &Plan) -> bool {
        self.states == plan.states
    }

    pub(crate) fn place(&self, state: usize) -> &KvPlace {
        &self.places[state]
    }
}

/// All pages of a model, and which are free.
#[derive(Debug)]
pub struct PagePool {
    layout: PageLayout,
    map: MmapMut,
    n_pages: usize,
    /// Given back, reused last in first out: their memory is already there.
    free: Vec<PageId>,
    /// A bit per page, set while it lies in `free`.
    is_free: Vec<u64>,
    /// Pages from here on were never handed out.
    n_touched: usize,
}

impl PagePool {
    /// A pool for at least `n_positions` positions.
    ///
    /// # Errors
    ///
    /// `n_positions` is zero or more than can be addressed, or the system refuses the address range.
    pub fn new(model: &Model, kv_type: KvType, n_positions: usize) -> Result<Self, PoolError> {
        let layout = PageLayout::new(model.plan(), kv_type);
        let n_pages = n_positions.div_ceil(PAGE_POSITIONS);
        let page_bytes = layout.page_bytes;
        let n_bytes = n_pages
            .checked_mul(page_bytes)
            .filter(|&n| n > 0 && isize::try_from(n).is_ok() && n_pages < RELEASED as usize)
            .ok_or(PoolError::Size {
                n_positions,
                page_bytes,
            })?;
        // Without a reservation: Linux refuses a map beyond its memory otherwise, although a conversation
        // that never fills its context would never need it.
        let map = MmapOptions::new()
            .len(n_bytes)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| PoolError::Map { n_bytes, source })?;
        Ok(PagePool {
            layout,
            map,
            n_pages,
            free: Vec::with_capacity(n_pages),
            is_free: vec![0; n_pages.div_ceil(64)],
            n_touched: 0,
        })
    }

    /// The layout of a page.
    pub fn layout(&self) -> &PageLayout {
        &self.layout
    }

    /// Pages in the pool.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Pages that can still be taken.
    pub fn n_free(&self) -> usize {
        self.free.len() + self.n_pages - self.n_touched
    }

    /// Takes a page. What it holds is unspecified: a position is always written before it is read.
    ///
    /// # Errors
    ///
    /// Every page is in use.
    pub fn take(&mut self) -> Result<PageId, PoolError> {
        if let Some(page) = self.free.pop() {
            self.is_free[page as usize / 64] &= !(1 << (page % 64));
            return Ok(page);
        }
        if self.n_touched == self.n_pages {
            return Err(PoolError::Exhausted {
                n_pages: self.n_pages,
            });
        }
        self.n_touched += 1;
        Ok((self.n_touched - 1) as PageId)
    }

    /// Gives a page back.
    ///
    /// # Panics
    ///
    /// The page was never handed out, or came back before: two sequences would write into it later.
    pub fn give_back(&mut self, page: PageId) {
        assert!(
            (page as usize) < self.n_touched,
            "page {page} was not handed out"
        );
        let (word, bit) = (&mut self.is_free[page as usize / 64], 1 << (page % 64));
        assert!(*word & bit == 0, "page {page} was given back twice");
        *word |= bit;
        self.free.push(page);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

/// The pages of one token stream, and how many positions of it are stored.
///
/// Pages are returned to their pool by [`Sequence::clear`] or [`Sequence::truncate`]; a sequence that is
/// merely dropped keeps them from its pool, so a pool and its sequences belong to one owner.
#[derive(Debug, Default)]
pub struct Sequence {
    table: Vec<PageId>,
    n_positions: usize,
    /// Pages before this entry were released because no layer can see them.
    n_released: usize,
}

impl Sequence {
    /// An empty sequence without pages.
    pub fn new() -> Self {
        Sequence::default()
    }

    /// Page of every run of 64 positions; `u32::MAX` where it was released.
    pub fn table(&self) -> &[PageId] {
        &self.table
    }

    /// Positions stored, as told by [`Sequence::advance`].
    pub fn len(&self) -> usize {
        self.n_positions
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.n_positions == 0
    }

    /// Takes the pages that `n_positions` positions need.
    ///
    /// # Errors
    ///
    /// The pool has too few; the sequence keeps what it has.
    pub fn grow_to(&mut self, n_positions: usize, pool: &mut PagePool) -> Result<(), PoolError> {
        let n_pages = n_positions.div_ceil(PAGE_POSITIONS);
        if n_pages.saturating_sub(self.table.len()) > pool.n_free() {
            return Err(PoolError::Exhausted {
                n_pages: pool.n_pages(),
            });
        }
        while self.table.len() < n_pages {
            self.table.push(pool.take()?);
        }
        Ok(())
    }

    /// Notes that `n` further positions were stored by a step.
    pub fn advance(&mut self, n: usize) {
        self.n_positions += n;
        debug_assert!(
            self.n_positions <= self.table.len() * PAGE_POSITIONS,
            "positions beyond the pages"
        );
    }

    /// Gives back the pages that no position from `self.len()` on can see through a window of
    /// `window` positions.
    pub fn release_outside(&mut self, window: u32, pool: &mut PagePool) {
        let first_visible = (self.n_positions + 1).saturating_sub(window as usize);
        while self.n_released < (first_visible / PAGE_POSITIONS).min(self.table.len()) {
            let page = std::mem::replace(&mut self.table[self.n_released], RELEASED);
            pool.give_back(page);
            self.n_released += 1;
        }
    }

    /// Keeps the first `n_positions` positions and gives the other pages back. Whether what is kept
    /// can be continued is another matter: see [`Sequence::can_continue_at`].
    pub fn truncate(&mut self, n_positions: usize, pool: &mut PagePool) {
        let n_pages = n_positions.div_ceil(PAGE_POSITIONS);
        for page in self.table.drain(n_pages.min(self.table.len())..) {
            if page != RELEASED {
                pool.give_back(page);
            }
        }
        self.n_released = self.n_released.min(self.table.len());
        self.n_positions = self.n_positions.min(n_positions);
    }

    /// Whether every position that a row at `pos` sees is still stored.
    pub fn can_continue_at(&self, pos: usize, window: Option<u32>) -> bool {
        let first_visible = window.map_or(0, |window| (pos + 1).saturating_sub(window as usize));
        pos <= self.n_positions
            && (self.n_released == 0 || first_visible / PAGE_POSITIONS >= self.n_released)
    }

    /// Gives all pages back.
    pub fn clear(&mut self, pool: &mut PagePool) {
        self.truncate(0, pool);
    }
}
