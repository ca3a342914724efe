//! Key and value memory: pages of 64 positions, and how rows are stored into them.
//!
//! A page holds 64 positions of all layers. Inside a layer keys lie as `[n_head_kv][64 / 16][head_dim][16]`, so that 16
//! neighbouring positions are the lanes of a score, and values as `[n_head_kv][64][head_dim_v]`, so that the elements of one
//! position are. Half precision is rounded to nearest even; a magnitude from 65520 on is stored as infinity and turns
//! that head's output into NaN instead of something plausible. Elements are little-endian. 8-bit keys and values have steps
//! beside them and a layout of their own (`page/q8_0.rs`).

mod q8_0;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::Kernels;
use crate::disjoint::Disjoint;
use crate::float::{self, LANES};
use crate::lanes::{self, LaneOp, Lanes};
pub(crate) use q8_0::{
    BLOCK as Q8_BLOCK, TINY as Q8_TINY, group_bytes as q8_group_bytes, quantize,
};

/// Positions in a page.
pub const PAGE_POSITIONS: usize = 64;

/// The page number in a table that stands for a page given back; nothing may refer to its positions.
pub const RELEASED_PAGE: u32 = u32::MAX;

/// Rows below which storing is not worth a fork.
const FORK_ROWS: usize = 16;

/// How keys and values are kept. Each is its own specification: results differ between types, never between levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Half precision.
    F16,
    /// Single precision, for reference.
    F32,
    /// 8-bit integers: keys with a step per 32 dimensions, values with one per position and head.
    Q8_0,
}

impl KvType {
    /// All types, smallest first.
    pub const ALL: [KvType; 3] = [KvType::Q8_0, KvType::F16, KvType::F32];

    /// Bytes of one head's keys in a page; none if they are beyond counting.
    pub fn key_bytes(self, head_dim: usize) -> Option<usize> {
        match self {
            KvType::Q8_0 => q8_0::key_bytes(head_dim),
            KvType::F16 => head_dim.checked_mul(2 * PAGE_POSITIONS),
            KvType::F32 => head_dim.checked_mul(4 * PAGE_POSITIONS),
        }
    }

    /// Bytes of one head's values in a page; none if they are beyond counting.
    pub fn value_bytes(self, head_dim_v: usize) -> Option<usize> {
        match self {
            KvType::Q8_0 => q8_0::value_bytes(head_dim_v),
            KvType::F16 | KvType::F32 => self.key_bytes(head_dim_v),
        }
    }

    /// The name used on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// The number that marks pages of this type and layout wherever they are kept beyond a process.
    pub fn page_format(self) -> u32 {
        match self {
            KvType::F16 => 1,
            KvType::F32 => 2,
            KvType::Q8_0 => 3,
        }
    }
}

/// Where one layer's keys and values lie in every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvPlace {
    /// Type of the elements.
    pub kv_type: KvType,
    /// Bytes from one page to the next.
    pub page_bytes: usize,
    /// Offset of this layer's keys inside a page.
    pub key_offset: usize,
    /// Offset of this layer's values inside a page.
    pub value_offset: usize,
    /// Key/value heads.
    pub n_head_kv: usize,
    /// Width of a key.
    pub head_dim: usize,
    /// Width of a value.
    pub head_dim_v: usize,
}

impl KvPlace {
    /// Bytes of one layer's keys in a page.
    pub fn key_bytes(&self) -> usize {
        self.n_head_kv * self.head_key_bytes()
    }

    /// Bytes of one layer's values in a page.
    pub fn value_bytes(&self) -> usize {
        self.n_head_kv * self.head_value_bytes()
    }

    /// Bytes of one head's keys in a page.
    pub(crate) fn head_key_bytes(&self) -> usize {
        // `check` has refused what cannot be counted.
        self.kv_type.key_bytes(self.head_dim).unwrap_or(usize::MAX)
    }

    /// Bytes of one head's values in a page.
    pub(crate) fn head_value_bytes(&self) -> usize {
        self.kv_type
            .value_bytes(self.head_dim_v)
            .unwrap_or(usize::MAX)
    }

    /// Offset in the pool of one head's keys.
    pub(crate) fn keys_at(&self, page: u32, head: usize) -> usize {
        self.at(page, self.key_offset + head * self.head_key_bytes())
    }

    /// Offset in the pool of one head's values.
    pub(crate) fn values_at(&self, page: u32, head: usize) -> usize {
        self.at(page, self.value_offset + head * self.head_value_bytes())
    }

    /// A sum that wrapped would be the address of another page, which another thread may be writing.
    fn at(&self, page: u32, offset: usize) -> usize {
        let start = (page as usize).checked_mul(self.page_bytes);
        match start.and_then(|start| start.checked_add(offset)) {
            Some(at) => at,
            None => panic!("page {page} lies outside the address space: {self:?}"),
        }
    }

    /// Bytes in a page of every head's keys or values, from `offset` on, if they lie inside the page.
    fn range(&self, offset: usize, head_bytes: Option<usize>) -> Option<Range<usize>> {
        let end = offset.checked_add(head_bytes?.checked_mul(self.n_head_kv)?)?;
        (end <= self.page_bytes).then_some(offset..end)
    }

    /// Threads write different heads at the same time: what this asserts is what keeps them apart.
    pub(crate) fn check(&self) {
        assert!(
            self.n_head_kv > 0 && self.head_dim > 0 && self.head_dim_v > 0,
            "keys and values have elements: {self:?}"
        );
        let keys = self.range(self.key_offset, self.kv_type.key_bytes(self.head_dim));
        let values = self.range(self.value_offset, self.kv_type.value_bytes(self.head_dim_v));
        let (Some(keys), Some(values)) = (keys, values) else {
            panic!("keys and values of a layer lie inside the page: {self:?}");
        };
        assert!(
            keys.end <= values.start || values.end <= keys.start,
            "keys and values of a layer do not overlap: {self:?}"
        );
    }
}

/// A row of a step: which sequence's page table it uses, and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvRow {
    /// Index into the tables of the call.
    pub table: u32,
    /// Position in the sequence.
    pub pos: u32,
}

impl KvRow {
    /// The page its position lies in.
    ///
    /// # Panics
    /// If the table does not reach the position, or the page was released.
    pub(crate) fn page(&self, tables: &[&[u32]]) -> u32 {
        page_of(tables[self.table as usize], self.pos as usize)
    }
}

/// The page that holds `pos`.
#[inline]
pub(crate) fn page_of(table: &[u32], pos: usize) -> u32 {
    let page = table[pos / PAGE_POSITIONS];
    assert!(
        page != RELEASED_PAGE,
        "position {pos} lies in a released page"
    );
    page
}

impl Kernels {
    /// Stores keys `[n_rows, n_head_kv, head_dim]` and values `[n_rows, n_head_kv, head_dim_v]` at the positions of `rows`.
    ///
    /// # Panics
    /// If lengths do not fit, a table does not reach a position, or a page lies outside `kv`.
    pub fn store_kv(
        &self,
        kv: &mut [u8],
        place: &KvPlace,
        rows: &[KvRow],
        tables: &[&[u32]],
        k: &[f32],
        v: &[f32],
    ) {
        place.check();
        assert_eq!(
            k.len(),
            rows.len() * place.n_head_kv * place.head_dim,
            "one key per row and head"
        );
        assert_eq!(
            v.len(),
            rows.len() * place.n_head_kv * place.head_dim_v,
            "one value per row and head"
        );
        let kv = Disjoint::new(kv);
        let store = |head| {
            lanes::run(
                self.isa(),
                StoreHead {
                    kv: &kv,
                    place,
                    rows,
                    tables,
                    k,
                    v,
                    head,
                },
            )
        };
        if rows.len() < FORK_ROWS {
            (0..place.n_head_kv).for_each(store);
        } else {
            self.team().run(place.n_head_kv, |worker| {
                while let Some(head) = worker.claim() {
                    store(head);
                }
            });
        }
    }
}

/// Stores one head of every row. Heads never share a byte, so threads take heads.
struct StoreHead<'a> {
    kv: &'a Disjoint<'a, u8>,
    place: &'a KvPlace,
    rows: &'a [KvRow],
    tables: &'a [&'a [u32]],
    k: &'a [f32],
    v: &'a [f32],
    head: usize,
}

impl LaneOp for StoreHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let place = self.place;
        // Rows whose keys have been stored together.
        let mut n_stored = 0;
        for (i, row) in self.rows.iter().enumerate() {
            let page = row.page(self.tables);
            let slot = row.pos as usize % PAGE_POSITIONS;
            let at = i * place.n_head_kv + self.head;
            let start = place.keys_at(page, self.head);
            // SAFETY: `check` keeps all heads' keys and values of a page apart, so that this head's bytes are touched by one
            // claim only, and one part lives at a time.
            let keys = unsafe { self.kv.part(start..start + place.head_key_bytes()) };
            let k = &self.k[at * place.head_dim..];
            if place.kv_type == KvType::F16 && self.is_group(i) {
                let stride = place.n_head_kv * place.head_dim;
                store_group_f16(s, keys, slot, k, stride, place.head_dim);
                n_stored = i + LANES;
            }
            let k = &k[..place.head_dim];
            match place.kv_type {
                _ if i < n_stored => {}
                KvType::F16 => scatter_f16(s, keys, slot, k),
                KvType::F32 => scatter_f32(keys, slot, k),
                KvType::Q8_0 => q8_0::store_key(keys, slot, k),
            }
            let start = place.values_at(page, self.head);
            // SAFETY: as above; the keys are not used any more.
            let values = unsafe { self.kv.part(start..start + place.head_value_bytes()) };
            let v = &self.v[at * place.head_dim_v..][..place.head_dim_v];
            match place.kv_type {
                KvType::F16 => copy_f16(s, &mut values[slot * v.len() * 2..][..v.len() * 2], v),
                KvType::F32 => {
                    let values = &mut values.as_chunks_mut::<4>().0[slot * v.len()..];
                    for (to, x) in values.iter_mut().zip(v) {
                        *to = x.to_le_bytes();
                    }
                }
                KvType::Q8_0 => q8_0::store_value(values, slot, v),
            }
        }
    }
}

impl StoreHead<'_> {
    /// Whether this row and the next ones are a whole group of 16 positions.
    fn is_group(&self, first: usize) -> bool {
        let Some(rows) = self.rows.get(first..first + LANES) else {
            return false;
        };
        let KvRow { table, pos } = rows[0];
        let mut expected = (pos..).map(|pos| KvRow { table, pos });
        (pos as usize).is_multiple_of(LANES) && rows.iter().all(|row| expected.next() == Some(*row))
    }
}

/// Writes the keys of 16 positions, which lie `stride` apart, as the group that begins at `slot`.
#[inline(always)]
fn store_group_f16<S: Lanes>(
    s: S,
    keys: &mut [u8],
    slot: usize,
    k: &[f32],
    stride: usize,
    head_dim: usize,
) {
    let groups = keys.as_chunks_mut::<32>().0;
    let group = &mut groups[slot / LANES * head_dim..][..head_dim];
    for (block, to) in group.chunks_mut(LANES).enumerate() {
        let mut v = [s.splat(0.0); LANES];
        for (i, v) in v.iter_mut().enumerate() {
            *v = s.load_part(&k[i * stride + block * LANES..][..to.len()]);
        }
        for (v, to) in s.transpose(v).into_iter().zip(to) {
            s.store_f16(v, to);
        }
    }
}

/// Writes a key into column `slot % 16` of its group.
#[inline(always)]
fn scatter_f16<S: Lanes>(s: S, keys: &mut [u8], slot: usize, k: &[f32]) {
    let groups = keys.as_chunks_mut::<2>().0;
    let column = &mut groups[slot / LANES * k.len() * LANES..][..k.len() * LANES];
    let (whole, rest) = k.as_chunks::<LANES>();
    let mut half = [0u8; 32];
    let (column, column_rest) = column.split_at_mut(whole.len() * LANES * LANES);
    for (x, to) in whole
        .iter()
        .zip(column.as_chunks_mut::<{ LANES * LANES }>().0)
    {
        s.store_f16(s.load(x), &mut half);
        for (bytes, to) in half
            .as_chunks::<2>()
            .0
            .iter()
            .zip(to.as_chunks_mut::<LANES>().0)
        {
            to[slot % LANES] = *bytes;
        }
    }
    for (x, to) in rest.iter().zip(column_rest.as_chunks_mut::<LANES>().0) {
        to[slot % LANES] = float::f32_to_f16(*x).to_le_bytes();
    }
}

#[inline(always)]
fn scatter_f32(keys: &mut [u8], slot: usize, k: &[f32]) {
    let groups = keys.as_chunks_mut::<4>().0;
    let column = &mut groups[slot / LANES * k.len() * LANES..][..k.len() * LANES];
    for (x, to) in k.iter().zip(column.as_chunks_mut::<LANES>().0) {
        to[slot % LANES] = x.to_le_bytes();
    }
}

#[inline(always)]
fn copy_f16<S: Lanes>(s: S, values: &mut [u8], v: &[f32]) {
    let (whole, rest) = v.as_chunks::<LANES>();
    let (to, to_rest) = values.as_chunks_mut::<32>();
    for (x, to) in whole.iter().zip(to) {
        s.store_f16(s.load(x), to);
    }
    for (x, to) in rest.iter().zip(to_rest.as_chunks_mut::<2>().0) {
        *to = float::f32_to_f16(*x).to_le_bytes();
    }
}
