//! Pages of keys and values, and the sequences that hold them.
//!
//! A page is 64 positions of all attention layers. The pool is one anonymous map: its address range
//! is reserved at once, the system backs a page with memory when it is first written, so a large
//! context costs nothing until it is used. The pool hands out page numbers and counts who holds each;
//! which sequence holds which page is its caller's decision. A page with several holders is never
//! written: the steps of one would change what the others see.

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

/// All pages of a model, and how many hold each.
#[derive(Debug)]
pub struct PagePool {
    layout: PageLayout,
    map: MmapMut,
    n_pages: usize,
    /// Given back, reused last in first out: their memory is already there.
    free: Vec<PageId>,
    /// How many hold each page; none while it lies in `free`.
    n_holders: Vec<u32>,
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
            n_holders: vec![0; n_pages],
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
        let page = match self.free.pop() {
            Some(page) => page,
            None if self.n_touched == self.n_pages => {
                return Err(PoolError::Exhausted {
                    n_pages: self.n_pages,
                });
            }
            None => {
                self.n_touched += 1;
                (self.n_touched - 1) as PageId
            }
        };
        self.n_holders[page as usize] = 1;
        Ok(page)
    }

    /// Adds a holder to a page. From now on nobody writes it until all but one have given it back.
    ///
    /// # Panics
    ///
    /// Nobody holds the page: what it contains is not defined.
    pub fn share(&mut self, page: PageId) {
        let n = self.n_holders(page);
        assert!(n > 0, "page {page} is shared, but nobody holds it");
        self.n_holders[page as usize] = n
            .checked_add(1)
            .expect("fewer than 2^32 sequences hold a page");
    }

    /// How many hold a page.
    pub fn n_holders(&self, page: PageId) -> u32 {
        self.n_holders.get(page as usize).copied().unwrap_or(0)
    }

    /// Takes one holder from a page; the last one frees it.
    ///
    /// # Panics
    ///
    /// The page was never handed out, or nobody holds it: two sequences would write into it later.
    pub fn give_back(&mut self, page: PageId) {
        assert!(
            (page as usize) < self.n_touched,
            "page {page} was not handed out"
        );
        let n_holders = &mut self.n_holders[page as usize];
        assert!(*n_holders > 0, "page {page} was given back twice");
        *n_holders -= 1;
        if *n_holders == 0 {
            self.free.push(page);
        }
    }

    /// The bytes of a page, as they may be kept beyond this process: see [`KvType::page_format`].
    ///
    /// # Panics
    ///
    /// Nobody holds the page.
    pub fn page(&self, page: PageId) -> &[u8] {
        assert!(self.n_holders(page) > 0, "nobody holds page {page}");
        &self.map[page as usize * self.layout.page_bytes..][..self.layout.page_bytes]
    }

    /// The bytes of pages, in the order of the numbers, to be filled with what other pages of this layout
    /// held. Any bytes are safe: they are numbers only.
    ///
    /// # Panics
    ///
    /// A page is named twice, or has not exactly one holder.
    pub fn pages_mut(&mut self, pages: &[PageId]) -> Vec<&mut [u8]> {
        let page_bytes = self.layout.page_bytes;
        let mut order: Vec<usize> = (0..pages.len()).collect();
        order.sort_unstable_by_key(|&index| pages[index]);
        let mut found: Vec<(usize, &mut [u8])> = Vec::with_capacity(pages.len());
        let (mut rest, mut start) = (&mut self.map[..], 0);
        for index in order {
            let page = pages[index] as usize;
            let n_holders = self.n_holders.get(page).copied().unwrap_or(0);
            assert!(
                n_holders == 1 && page >= start,
                "page {page} is written by others or twice"
            );
            let (bytes, after) = rest[(page - start) * page_bytes..].split_at_mut(page_bytes);
            found.push((index, bytes));
            (rest, start) = (after, page + 1);
        }
        found.sort_unstable_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, bytes)| bytes).collect()
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

    /// Takes over full pages that are stored already, after those it has, which are full, too. Each has a holder that
    /// is this sequence from now on. With them `n_positions` positions are stored, and it goes on in pages of its own.
    ///
    /// # Panics
    ///
    /// The positions, before or after, do not end with the last page: the next one would be written into a page
    /// that others may hold.
    pub fn adopt(&mut self, pages: Vec<PageId>, n_positions: usize) {
        assert_eq!(
            self.n_positions,
            self.table.len() * PAGE_POSITIONS,
            "pages are adopted after full ones"
        );
        self.table.extend(pages);
        assert_eq!(
            n_positions,
            self.table.len() * PAGE_POSITIONS,
            "adopted pages are full"
        );
        self.n_positions = n_positions;
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

    /// Keeps the first `n_positions` positions and gives the other pages back; returns how many are kept.
    /// They are fewer where the cut goes through a page that others hold too: such a page is never written
    /// again, so it is given back as a whole. Whether what is kept can be continued is another matter: see
    /// [`Sequence::can_continue_at`].
    pub fn truncate(&mut self, n_positions: usize, pool: &mut PagePool) -> usize {
        let mut n_kept = self.n_positions.min(n_positions);
        let mut n_pages = n_positions.div_ceil(PAGE_POSITIONS);
        let (cut, n_of_cut) = (n_kept / PAGE_POSITIONS, n_kept % PAGE_POSITIONS);
        if n_of_cut > 0 && pool.n_holders(self.table[cut]) > 1 {
            n_kept -= n_of_cut;
            n_pages = cut;
        }
        for page in self.table.drain(n_pages.min(self.table.len())..) {
            if page != RELEASED {
                pool.give_back(page);
            }
        }
        self.n_released = self.n_released.min(self.table.len());
        self.n_positions = n_kept;
        n_kept
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
