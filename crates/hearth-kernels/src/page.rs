//! Key and value memory: pages of 64 positions, and how rows are stored into them.
//!
//! A page holds 64 positions of all layers. Inside a layer keys lie as `[n_head_kv][64 / 16][head_dim][16]`, so that 16
//! neighbouring positions are the lanes of a score, and values as `[n_head_kv][64][head_dim_v]`, so that the elements of one
//! position are. Half precision is rounded to nearest even; a magnitude from 65520 on is stored as infinity and turns
//! that head's output into NaN instead of something plausible. Elements are little-endian.

use std::ops::Range;

use crate::Kernels;
use crate::disjoint::Disjoint;
use crate::float::{self, LANES};
use crate::lanes::{self, LaneOp, Lanes};

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
}

impl KvType {
    /// Bytes of one element.
    pub fn element_bytes(self) -> usize {
        match self {
            KvType::F16 => 2,
            KvType::F32 => 4,
        }
    }

    /// The name used on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
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
        PAGE_POSITIONS * self.head_dim * self.kv_type.element_bytes()
    }

    /// Bytes of one head's values in a page.
    pub(crate) fn head_value_bytes(&self) -> usize {
        PAGE_POSITIONS * self.head_dim_v * self.kv_type.element_bytes()
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

    /// Bytes in a page of vectors of `width` elements for every head, from `offset` on, if they lie inside the page.
    fn range(&self, offset: usize, width: usize) -> Option<Range<usize>> {
        let len = [width, self.n_head_kv, self.kv_type.element_bytes()]
            .into_iter()
            .try_fold(PAGE_POSITIONS, usize::checked_mul)?;
        let end = offset.checked_add(len)?;
        (end <= self.page_bytes).then_some(offset..end)
    }

    /// Threads write different heads at the same time: what this asserts is what keeps them apart.
    pub(crate) fn check(&self) {
        assert!(
            self.n_head_kv > 0 && self.head_dim > 0 && self.head_dim_v > 0,
            "keys and values have elements: {self:?}"
        );
        let keys = self.range(self.key_offset, self.head_dim);
        let values = self.range(self.value_offset, self.head_dim_v);
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
        for (i, row) in self.rows.iter().enumerate() {
            let page = row.page(self.tables);
            let slot = row.pos as usize % PAGE_POSITIONS;
            let at = i * place.n_head_kv + self.head;
            let start = place.keys_at(page, self.head);
            // SAFETY: `check` keeps all heads' keys and values of a page apart, so that this head's bytes are touched by one
            // claim only, and one part lives at a time.
            let keys = unsafe { self.kv.part(start..start + place.head_key_bytes()) };
            let k = &self.k[at * place.head_dim..][..place.head_dim];
            match place.kv_type {
                KvType::F16 => scatter_f16(s, keys, slot, k),
                KvType::F32 => scatter_f32(keys, slot, k),
            }
            let start = place.values_at(page, self.head);
            // SAFETY: as above; the keys are not used any more.
            let values = unsafe { self.kv.part(start..start + place.head_value_bytes()) };
            let bytes = place.head_dim_v * place.kv_type.element_bytes();
            let values = &mut values[slot * bytes..][..bytes];
            let v = &self.v[at * place.head_dim_v..][..place.head_dim_v];
            match place.kv_type {
                KvType::F16 => copy_f16(s, values, v),
                KvType::F32 => {
                    for (to, x) in values.as_chunks_mut::<4>().0.iter_mut().zip(v) {
                        *to = x.to_le_bytes();
                    }
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn place(kv_type: KvType, n_head_kv: usize, head_dim: usize, head_dim_v: usize) -> KvPlace {
        let mut place = KvPlace {
            kv_type,
            page_bytes: 0,
            key_offset: 6,
            value_offset: 0,
            n_head_kv,
            head_dim,
            head_dim_v,
        };
        // Odd offsets: nothing may rely on alignment.
        place.value_offset = place.key_offset + place.key_bytes() + 2;
        place.page_bytes = place.value_offset + place.value_bytes() + 4;
        place
    }

    #[test]
    fn every_level_and_team_stores_the_same_bytes_where_the_layout_says() {
        for kv_type in [KvType::F16, KvType::F32] {
            for (n_head_kv, head_dim, head_dim_v) in [
                (1, 8, 8),
                (2, 16, 16),
                (3, 40, 24),
                (2, 128, 64),
                (1, 1, 17),
            ] {
                let place = place(kv_type, n_head_kv, head_dim, head_dim_v);
                // Two sequences, rows in no order, pages in no order.
                let tables: [&[u32]; 2] = [&[2, RELEASED_PAGE, 0], &[1]];
                let mut rows: Vec<KvRow> = (0..40)
                    .map(|i| KvRow {
                        table: 0,
                        pos: 128 + (i * 7) % 40,
                    })
                    .collect();
                rows.extend([
                    KvRow { table: 1, pos: 63 },
                    KvRow { table: 0, pos: 0 },
                    KvRow { table: 1, pos: 17 },
                ]);
                let k = testing::floats(rows.len() * n_head_kv * head_dim, 1);
                let v = testing::floats(rows.len() * n_head_kv * head_dim_v, 2);
                let mut expected = vec![0xab; 3 * place.page_bytes];
                by_the_book(&mut expected, &place, &rows, &tables, &k, &v);
                testing::each_kernels(|kernels| {
                    let mut kv = vec![0xab; 3 * place.page_bytes];
                    kernels.store_kv(&mut kv, &place, &rows, &tables, &k, &v);
                    assert!(kv == expected, "{place:?} at level {}", kernels.level());
                    let mut kv = vec![0xab; 3 * place.page_bytes];
                    let (key_len, value_len) = (n_head_kv * head_dim, n_head_kv * head_dim_v);
                    for ((row, k), v) in rows.iter().zip(k.chunks(key_len)).zip(v.chunks(value_len))
                    {
                        kernels.store_kv(&mut kv, &place, &[*row], &tables, k, v);
                    }
                    assert!(
                        kv == expected,
                        "one by one: {place:?} at level {}",
                        kernels.level()
                    );
                });
            }
        }
    }

    fn by_the_book(
        kv: &mut [u8],
        place: &KvPlace,
        rows: &[KvRow],
        tables: &[&[u32]],
        k: &[f32],
        v: &[f32],
    ) {
        let mut put = |offset: usize, index: usize, x: f32| match place.kv_type {
            KvType::F16 => {
                kv[offset + 2 * index..][..2].copy_from_slice(&float::f32_to_f16(x).to_le_bytes())
            }
            KvType::F32 => kv[offset + 4 * index..][..4].copy_from_slice(&x.to_le_bytes()),
        };
        for (i, row) in rows.iter().enumerate() {
            let page =
                tables[row.table as usize][row.pos as usize / 64] as usize * place.page_bytes;
            let slot = row.pos as usize % 64;
            for head in 0..place.n_head_kv {
                for d in 0..place.head_dim {
                    let index = ((head * 4 + slot / 16) * place.head_dim + d) * 16 + slot % 16;
                    put(
                        page + place.key_offset,
                        index,
                        k[(i * place.n_head_kv + head) * place.head_dim + d],
                    );
                }
                for d in 0..place.head_dim_v {
                    let index = (head * 64 + slot) * place.head_dim_v + d;
                    put(
                        page + place.value_offset,
                        index,
                        v[(i * place.n_head_kv + head) * place.head_dim_v + d],
                    );
                }
            }
        }
    }

    #[test]
    fn places_whose_ranges_meet_or_leave_the_page_are_refused() {
        let refusal = |change: fn(&mut KvPlace)| {
            let mut place = place(KvType::F16, 2, 8, 8);
            place.check();
            change(&mut place);
            let panic = std::panic::catch_unwind(|| place.check()).expect_err("refused");
            panic.downcast_ref::<String>().expect("a message").clone()
        };
        let overlap = "do not overlap";
        assert!(refusal(|place| place.value_offset = place.key_offset).contains(overlap));
        assert!(refusal(|place| place.value_offset -= 3).contains(overlap));
        assert!(refusal(|place| place.key_offset = place.value_offset - 1).contains(overlap));
        let outside = "inside the page";
        assert!(refusal(|place| place.page_bytes -= 5).contains(outside));
        assert!(refusal(|place| place.key_offset = usize::MAX - 7).contains(outside));
        // The product of these wraps to 0.
        assert!(refusal(|place| place.head_dim = 1 << (usize::BITS - 4)).contains(outside));
        assert!(refusal(|place| place.head_dim_v = 0).contains("have elements"));
    }

    #[test]
    fn the_last_bytes_of_a_page_may_be_used_and_values_may_come_first() {
        let mut place = place(KvType::F32, 2, 8, 4);
        place.value_offset = 0;
        place.key_offset = place.value_bytes();
        place.page_bytes = place.key_offset + place.key_bytes();
        place.check();
    }

    #[test]
    #[should_panic(expected = "outside the address space")]
    fn a_page_whose_address_wraps_is_refused() {
        let mut place = place(KvType::F16, 1, 8, 8);
        place.page_bytes = usize::MAX / 2;
        place.keys_at(3, 0);
    }

    #[test]
    #[should_panic(expected = "released page")]
    fn a_released_page_is_never_written() {
        let place = place(KvType::F16, 1, 8, 8);
        let kernels =
            Kernels::new(crate::Level::Scalar, std::num::NonZeroUsize::MIN).expect("scalar");
        let row = KvRow { table: 0, pos: 3 };
        kernels.store_kv(
            &mut vec![0; place.page_bytes],
            &place,
            &[row],
            &[&[RELEASED_PAGE]],
            &[0.0; 8],
            &[0.0; 8],
        );
    }
}
