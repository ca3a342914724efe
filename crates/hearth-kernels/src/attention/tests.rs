//! Attention on every level and team against the definition.

mod accuracy;
mod options;

use super::*;
use crate::page::{KvType, PAGE_POSITIONS, RELEASED_PAGE};
use crate::testing;

/// Shapes of one battery case.
#[derive(Debug, Clone, Copy)]
struct Case {
    kv_type: KvType,
    n_head: usize,
    n_head_kv: usize,
    head_dim: usize,
    head_dim_v: usize,
    window: Option<u32>,
    soft_cap: Option<f32>,
    /// One per head, from -2 to 2.
    has_sinks: bool,
}

const PLAIN: Case = Case {
    kv_type: KvType::F16,
    n_head: 4,
    n_head_kv: 2,
    head_dim: 32,
    head_dim_v: 32,
    window: None,
    soft_cap: None,
    has_sinks: false,
};

/// Two sequences in one pool of pages, filled up to given lengths; what was never stored is NaN.
struct World {
    place: KvPlace,
    kv: Vec<u8>,
    tables: Vec<Vec<u32>>,
}

impl World {
    fn new(case: Case, lengths: &[usize]) -> World {
        let mut place = KvPlace {
            kv_type: case.kv_type,
            page_bytes: 0,
            key_offset: 2,
            value_offset: 0,
            n_head_kv: case.n_head_kv,
            head_dim: case.head_dim,
            head_dim_v: case.head_dim_v,
        };
        place.value_offset = place.key_offset + place.key_bytes() + 10;
        place.page_bytes = place.value_offset + place.value_bytes() + 6;
        let mut next = 0;
        let mut tables: Vec<Vec<u32>> = Vec::new();
        for length in lengths {
            let n_pages = length.div_ceil(PAGE_POSITIONS) as u32;
            // Descending, so that a walk through memory instead of the table shows.
            tables.push((next..next + n_pages).rev().collect());
            next += n_pages;
        }
        let kv = vec![0xff; next as usize * place.page_bytes];
        let mut world = World { place, kv, tables };
        for (table, length) in lengths.iter().enumerate() {
            world.fill(table, *length);
        }
        world
    }

    fn fill(&mut self, table: usize, length: usize) {
        let rows: Vec<KvRow> = (0..length as u32)
            .map(|pos| KvRow {
                table: table as u32,
                pos,
            })
            .collect();
        let k = testing::floats(
            length * self.place.n_head_kv * self.place.head_dim,
            10 + table as u64,
        );
        let v = testing::floats(
            length * self.place.n_head_kv * self.place.head_dim_v,
            20 + table as u64,
        );
        self.store(&rows, &k, &v);
    }

    fn store(&mut self, rows: &[KvRow], k: &[f32], v: &[f32]) {
        let kernels =
            Kernels::new(crate::Level::Scalar, std::num::NonZeroUsize::MIN).expect("scalar");
        let tables: Vec<&[u32]> = self.tables.iter().map(Vec::as_slice).collect();
        kernels.store_kv(&mut self.kv, &self.place, rows, &tables, k, v);
    }

    fn attend(
        &self,
        kernels: &Kernels,
        scratch: &mut Scratch,
        case: Case,
        rows: &[KvRow],
        q: &[f32],
    ) -> Vec<f32> {
        let tables: Vec<&[u32]> = self.tables.iter().map(Vec::as_slice).collect();
        let mut out = vec![9.0; rows.len() * case.n_head * case.head_dim_v];
        kernels.attend(
            scratch,
            &self.kv,
            &self.place,
            rows,
            &tables,
            &args(case, &sinks(case)),
            q,
            &mut out,
        );
        out
    }

    /// The definition, row by row.
    fn expected(&self, case: Case, rows: &[KvRow], q: &[f32]) -> Vec<f32> {
        let sinks = sinks(case);
        self.expected_with(&args(case, &sinks), rows, q)
    }

    fn expected_with(&self, args: &AttendArgs<'_>, rows: &[KvRow], q: &[f32]) -> Vec<f32> {
        let tables: Vec<&[u32]> = self.tables.iter().map(Vec::as_slice).collect();
        let inputs = Inputs {
            kv: &self.kv,
            place: &self.place,
            rows,
            tables: &tables,
            args,
            q,
        };
        let mut out = vec![0.0; rows.len() * args.n_head * self.place.head_dim_v];
        for (i, out) in out.chunks_mut(self.place.head_dim_v).enumerate() {
            scalar::attend(&inputs, i / args.n_head, i % args.n_head, out);
        }
        out
    }
}

fn sinks(case: Case) -> Vec<f32> {
    testing::floats(case.n_head, 40)
}

fn args(case: Case, sinks: &[f32]) -> AttendArgs<'_> {
    AttendArgs {
        n_head: case.n_head,
        scale: 1.0 / (case.head_dim as f32).sqrt(),
        window: case.window,
        soft_cap: case.soft_cap,
        sinks: case.has_sinks.then_some(sinks),
    }
}

fn run_of(table: u32, positions: Range<u32>) -> Vec<KvRow> {
    positions.map(|pos| KvRow { table, pos }).collect()
}

fn check(case: Case, lengths: &[usize], rows: &[KvRow]) {
    let world = World::new(case, lengths);
    let q = testing::floats(rows.len() * case.n_head * case.head_dim, 30);
    let expected = world.expected(case, rows, &q);
    assert!(
        expected.iter().all(|x| x.is_finite()),
        "{case:?}: what was never stored is not read"
    );
    testing::each_kernels(|kernels| {
        let mut scratch = Scratch::new();
        let what = format!(
            "{case:?} at level {} with {} threads",
            kernels.level(),
            kernels.n_threads()
        );
        let out = world.attend(kernels, &mut scratch, case, rows, &q);
        testing::assert_bits(&out, &expected, &what);
        // The same scratch again: nothing of the last call may show.
        let out = world.attend(kernels, &mut scratch, case, rows, &q);
        testing::assert_bits(&out, &expected, &format!("again: {what}"));
    });
}

#[test]
fn head_shapes() {
    for kv_type in KvType::ALL {
        for (n_head, n_head_kv) in [
            (1, 1),
            (2, 2),
            (4, 2),
            (3, 1),
            (7, 1),
            (10, 2),
            (12, 1),
            (13, 1),
            (25, 1),
        ] {
            check(
                Case {
                    kv_type,
                    n_head,
                    n_head_kv,
                    ..PLAIN
                },
                &[40],
                &run_of(0, 0..40),
            );
        }
        for (head_dim, head_dim_v) in [
            (1, 1),
            (2, 8),
            (8, 2),
            (15, 17),
            (16, 16),
            (24, 40),
            (64, 64),
            (80, 80),
            (128, 128),
            (256, 144),
        ] {
            check(
                Case {
                    kv_type,
                    head_dim,
                    head_dim_v,
                    ..PLAIN
                },
                &[40],
                &run_of(0, 3..40),
            );
        }
    }
}

#[test]
fn contexts_of_every_length_across_groups_pages_and_chunks() {
    for kv_type in KvType::ALL {
        let case = Case {
            kv_type,
            n_head_kv: 1,
            head_dim: 16,
            head_dim_v: 16,
            ..PLAIN
        };
        for end in [
            1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 500, 511, 512, 513, 1023, 1024, 1025, 1300,
        ] {
            check(case, &[end], &run_of(0, end as u32 - 1..end as u32));
            check(
                case,
                &[end],
                &run_of(0, (end as u32).saturating_sub(9)..end as u32),
            );
        }
    }
}

#[test]
fn windows() {
    for kv_type in KvType::ALL {
        for window in [1, 2, 5, 16, 17, 64, 100, 511, 512, 513, 5000] {
            let case = Case {
                kv_type,
                window: Some(window),
                n_head_kv: 1,
                head_dim: 16,
                head_dim_v: 16,
                ..PLAIN
            };
            check(case, &[1100], &run_of(0, 490..530));
            check(case, &[1100], &run_of(0, 1020..1100));
            check(case, &[1100], &run_of(0, 0..20));
        }
    }
}

#[test]
fn tiles_of_many_steps() {
    for (kv_type, head_dim, head_dim_v) in [
        (KvType::F16, 24, 40),
        (KvType::F16, 7, 9),
        (KvType::F32, 16, 16),
        (KvType::Q8_0, 16, 16),
    ] {
        let case = Case {
            kv_type,
            n_head: 6,
            head_dim,
            head_dim_v,
            ..PLAIN
        };
        let mut rows = run_of(0, 480..540);
        rows.extend(run_of(1, 30..90));
        check(case, &[540, 90], &rows);
    }
}

#[test]
fn rows_of_several_sequences_in_any_order() {
    let rows = |list: &[(u32, u32)]| {
        list.iter()
            .map(|(table, pos)| KvRow {
                table: *table,
                pos: *pos,
            })
            .collect()
    };
    let mut mixed: Vec<KvRow> = rows(&[
        (0, 5),
        (1, 3),
        (1, 599),
        (0, 6),
        (0, 7),
        (0, 2),
        (1, 0),
        (0, 69),
        (1, 512),
    ]);
    mixed.extend(run_of(0, 10..40));
    mixed.extend(run_of(1, 505..520));
    for (window, kv_type) in [
        (None, KvType::F16),
        (Some(20), KvType::F16),
        (None, KvType::Q8_0),
        (Some(20), KvType::Q8_0),
    ] {
        check(
            Case {
                window,
                kv_type,
                ..PLAIN
            },
            &[70, 600],
            &mixed,
        );
        check(
            Case {
                window,
                n_head: 2,
                ..PLAIN
            },
            &[70, 600],
            &[],
        );
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_company() {
    let case = Case {
        window: Some(700),
        ..PLAIN
    };
    let world = World::new(case, &[1200]);
    let rows = run_of(0, 1000..1040);
    let q = testing::floats(rows.len() * case.n_head * case.head_dim, 30);
    testing::each_kernels(|kernels| {
        let mut scratch = Scratch::new();
        let together = world.attend(kernels, &mut scratch, case, &rows, &q);
        let width = case.n_head * case.head_dim;
        for ((row, q), expected) in rows.iter().zip(q.chunks(width)).zip(together.chunks(width)) {
            let alone = world.attend(kernels, &mut scratch, case, &[*row], q);
            testing::assert_bits(&alone, expected, &format!("row {row:?}"));
        }
    });
}

#[test]
fn released_pages_before_the_window_are_not_read() {
    let case = Case {
        window: Some(70),
        ..PLAIN
    };
    let mut world = World::new(case, &[700]);
    let rows = run_of(0, 600..640);
    let q = testing::floats(rows.len() * case.n_head * case.head_dim, 30);
    let expected = world.expected(case, &rows, &q);
    // The first row sees 531..=600: pages before number 8 are gone.
    world.tables[0][..8].fill(RELEASED_PAGE);
    testing::each_kernels(|kernels| {
        let out = world.attend(kernels, &mut Scratch::new(), case, &rows, &q);
        testing::assert_bits(&out, &expected, "after release");
    });
}

#[test]
fn numbers_that_are_not_finite_spoil_exactly_what_sees_them() {
    for kv_type in KvType::ALL {
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30] {
            let case = Case {
                kv_type,
                n_head: 2,
                n_head_kv: 1,
                head_dim: 16,
                head_dim_v: 16,
                window: Some(30),
                ..PLAIN
            };
            let mut world = World::new(case, &[80]);
            let (mut k, mut v) = (vec![0.5; 16], vec![0.25; 16]);
            k[3] = special;
            world.store(&[KvRow { table: 0, pos: 40 }], &k, &v);
            v[5] = special;
            world.store(&[KvRow { table: 0, pos: 20 }], &[0.5; 16], &v);
            let rows = run_of(0, 0..80);
            let mut q = testing::floats(rows.len() * 32, 30);
            q[32 * 75] = special;
            let expected = world.expected(case, &rows, &q);
            testing::each_kernels(|kernels| {
                let out = world.attend(kernels, &mut Scratch::new(), case, &rows, &q);
                testing::assert_bits(
                    &out,
                    &expected,
                    &format!("{special} at level {}", kernels.level()),
                );
            });
            // Rows 0..20 and 70..75 see none of them; row 20 to 49 see the value, and only its element suffers.
            let is_clean = |row: usize| expected[row * 32..][..32].iter().all(|x| x.is_finite());
            assert!((0..20).chain(70..75).chain(76..80).all(is_clean));
            if special.is_nan() {
                for row in 40..70 {
                    assert!(
                        expected[row * 32..][..32].iter().all(|x| x.is_nan()),
                        "row {row} sees a NaN key"
                    );
                }
                assert!(
                    expected[25 * 32..][..32]
                        .iter()
                        .enumerate()
                        .all(|(d, x)| x.is_nan() == (kv_type == KvType::Q8_0 || d % 16 == 5))
                );
                assert!(
                    expected[75 * 32..][..16].iter().all(|x| x.is_nan()),
                    "a NaN query"
                );
                assert!(
                    expected[75 * 32 + 16..][..16].iter().all(|x| x.is_finite()),
                    "the other head"
                );
            }
        }
    }
}

#[test]
fn zeros_and_equal_scores_give_the_mean() {
    let case = Case {
        n_head: 1,
        n_head_kv: 1,
        head_dim: 16,
        head_dim_v: 16,
        kv_type: KvType::F32,
        ..PLAIN
    };
    let world = World::new(case, &[64]);
    let rows = run_of(0, 63..64);
    for zero in [0.0, -0.0] {
        let expected = world.expected(case, &rows, &[zero; 16]);
        testing::each_kernels(|kernels| {
            let out = world.attend(kernels, &mut Scratch::new(), case, &rows, &[zero; 16]);
            testing::assert_bits(&out, &expected, "zero query");
        });
        let v = testing::floats(64 * 16, 20);
        for (d, x) in expected.iter().enumerate() {
            let mean: f64 = v.chunks(16).map(|v| f64::from(v[d])).sum::<f64>() / 64.0;
            assert!(
                (f64::from(*x) - mean).abs() < 1e-6,
                "element {d}: {x} and {mean}"
            );
        }
    }
}

#[test]
fn a_reserved_scratch_is_large_enough() {
    let case = PLAIN;
    let world = World::new(case, &[1300]);
    let bounds = Bounds {
        n_rows: 40,
        n_head: 4,
        n_head_kv: 2,
        head_dim: 32,
        head_dim_v: 32,
        n_positions: 1300,
    };
    testing::each_kernels(|kernels| {
        let mut scratch = Scratch::new();
        scratch.reserve(kernels, &bounds);
        let sizes = |scratch: &mut Scratch| {
            let capacity = (
                scratch.partials.capacity(),
                scratch.missing.capacity(),
                scratch.plan.capacity(),
            );
            (
                capacity,
                scratch
                    .threads
                    .iter_mut()
                    .map(|t| t.get_mut().expect("whole").capacity())
                    .collect::<Vec<_>>(),
            )
        };
        let before = sizes(&mut scratch);
        for rows in [
            run_of(0, 1260..1300),
            run_of(0, 1299..1300),
            run_of(0, 0..40).into_iter().rev().collect(),
        ] {
            let q = testing::floats(rows.len() * case.n_head * case.head_dim, 30);
            world.attend(kernels, &mut scratch, case, &rows, &q);
        }
        assert_eq!(sizes(&mut scratch), before);
    });
}
