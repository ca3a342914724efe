//! Where every level and team puts keys and values, byte by byte.

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
    for kv_type in KvType::ALL {
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
                for ((row, k), v) in rows.iter().zip(k.chunks(key_len)).zip(v.chunks(value_len)) {
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
    if place.kv_type == KvType::Q8_0 {
        return q8_0_by_the_book(kv, place, rows, tables, k, v);
    }
    let mut put = |offset: usize, index: usize, x: f32| match place.kv_type {
        KvType::F16 => {
            kv[offset + 2 * index..][..2].copy_from_slice(&float::f32_to_f16(x).to_le_bytes())
        }
        _ => kv[offset + 4 * index..][..4].copy_from_slice(&x.to_le_bytes()),
    };
    for (i, row) in rows.iter().enumerate() {
        let page = tables[row.table as usize][row.pos as usize / 64] as usize * place.page_bytes;
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

fn q8_0_by_the_book(
    kv: &mut [u8],
    place: &KvPlace,
    rows: &[KvRow],
    tables: &[&[u32]],
    k: &[f32],
    v: &[f32],
) {
    let round = |x: &[f32]| -> (f32, Vec<u8>) {
        let amax = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let q = x.iter().map(|x| (x * (127.0 / amax)).round_ties_even());
        (amax / 127.0, q.map(|q| q as i8 as u8).collect())
    };
    for (i, row) in rows.iter().enumerate() {
        let page = tables[row.table as usize][row.pos as usize / 64] as usize * place.page_bytes;
        let slot = row.pos as usize % 64;
        for head in 0..place.n_head_kv {
            let at = i * place.n_head_kv + head;
            let n_blocks = place.head_dim.div_ceil(32);
            let group_len = 64 * (n_blocks + place.head_dim.div_ceil(4));
            let group = page + place.key_offset + (head * 4 + slot / 16) * group_len;
            let mut padded = k[at * place.head_dim..][..place.head_dim].to_vec();
            padded.resize(place.head_dim.next_multiple_of(4), 0.0);
            for (block, x) in padded.chunks(32).enumerate() {
                let (step, q) = round(x);
                kv[group + 64 * block + 4 * (slot % 16)..][..4]
                    .copy_from_slice(&step.to_le_bytes());
                for (j, q) in q.iter().enumerate() {
                    let d = 32 * block + j;
                    kv[group + 64 * (n_blocks + d / 4) + 4 * (slot % 16) + d % 4] = *q;
                }
            }
            let values = page + place.value_offset + head * 64 * (4 + place.head_dim_v);
            let (step, q) = round(&v[at * place.head_dim_v..][..place.head_dim_v]);
            kv[values + 4 * slot..][..4].copy_from_slice(&step.to_le_bytes());
            for (d, q) in q.iter().enumerate() {
                kv[values + 256 + (slot / 2 * place.head_dim_v + d) * 2 + slot % 2] = *q;
            }
        }
    }
}

#[test]
fn eight_bit_steps_of_nothing_and_of_what_is_not_finite() {
    let mut q = [5i8; 4];
    let tiny = f32::from_bits(27 << 23);
    assert_eq!(quantize(&[0.0, -0.0, tiny.next_down(), 0.0], &mut q), 0.0);
    assert_eq!(q, [0; 4]);
    assert_eq!(quantize(&[0.0, -tiny, 0.0, 0.0], &mut q), tiny / 127.0);
    assert_eq!(q, [0, -127, 0, 0]);
    assert_eq!(
        quantize(&[2.5, -127.0, 3.5, f32::MIN_POSITIVE], &mut q),
        1.0
    );
    assert_eq!(q, [2, -127, 4, 0]);
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(quantize(&[1.0, special, 0.0, f32::MAX], &mut q).is_nan());
    }
    assert!(quantize(&[f32::MAX, 0.0, 0.0, 0.0], &mut q).is_finite());
}

#[test]
fn eight_bit_pages_are_little_more_than_half_of_half_precision() {
    let bytes = |kv_type: KvType| {
        kv_type.key_bytes(128).expect("countable") + kv_type.value_bytes(128).expect("countable")
    };
    assert_eq!(bytes(KvType::Q8_0), 64 * (128 + 4 * 4 + 128 + 4));
    assert!(bytes(KvType::Q8_0) * 100 < bytes(KvType::F16) * 54);
    assert_eq!(bytes(KvType::F32), 2 * bytes(KvType::F16));
    let mut formats = KvType::ALL.map(KvType::page_format).to_vec();
    formats.dedup();
    assert_eq!(formats.len(), KvType::ALL.len());
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
    let kernels = Kernels::new(crate::Level::Scalar, std::num::NonZeroUsize::MIN).expect("scalar");
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
