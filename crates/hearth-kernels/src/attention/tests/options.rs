//! Sinks and soft caps, alone and with everything else.

use super::*;

#[test]
fn head_widths_ratios_windows_caps_and_sinks_together() {
    let mut turn = 0;
    for kv_type in KvType::ALL {
        for head_dim in [64, 80, 96, 128, 256] {
            for (n_head, n_head_kv) in [(2, 2), (6, 2), (5, 1)] {
                for (soft_cap, has_sinks) in [(Some(1.5), false), (None, true), (Some(50.0), true)]
                {
                    // Every combination with another window, so that all pairs meet.
                    turn += 1;
                    let case = Case {
                        kv_type,
                        n_head,
                        n_head_kv,
                        head_dim,
                        head_dim_v: head_dim,
                        window: [None, Some(6), Some(512)][turn % 4 % 3],
                        soft_cap,
                        has_sinks,
                    };
                    check(case, &[516], &run_of(0, 510..514));
                }
            }
        }
    }
}

#[test]
fn a_sink_takes_weight_and_a_cap_that_is_high_changes_little() {
    let plain = Case {
        n_head: 2,
        n_head_kv: 1,
        ..PLAIN
    };
    let capped = Case {
        soft_cap: Some(1e4),
        ..plain
    };
    let sunk = Case {
        has_sinks: true,
        ..plain
    };
    let world = World::new(plain, &[600]);
    let rows = run_of(0, 590..600);
    let q = testing::floats(rows.len() * 64, 30);
    let [plain, capped, sunk] = [plain, capped, sunk].map(|case| world.expected(case, &rows, &q));
    for ((plain, capped), sunk) in plain.iter().zip(capped).zip(sunk) {
        assert!((plain - capped).abs() < 1e-4);
        assert!(sunk.abs() < plain.abs() && (sunk - plain).abs() < 0.2 * plain.abs());
    }
}

#[test]
fn sinks_that_are_not_finite() {
    let case = Case {
        n_head: 4,
        n_head_kv: 1,
        ..PLAIN
    };
    let world = World::new(case, &[40]);
    let rows = run_of(0, 30..40);
    let q = testing::floats(rows.len() * 128, 30);
    let sinks = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.5];
    let with_sinks = AttendArgs {
        sinks: Some(&sinks),
        ..args(case, &[])
    };
    let expected = world.expected_with(&with_sinks, &rows, &q);
    let without = world.expected(case, &rows, &q);
    for (i, (x, y)) in expected.iter().zip(&without).enumerate() {
        match i / 32 % 4 {
            0 | 2 => assert!(x.is_nan()),
            1 => assert_eq!(x.to_bits(), y.to_bits(), "a sink without weight"),
            _ => assert!(x.is_finite()),
        }
    }
    let tables: Vec<&[u32]> = world.tables.iter().map(Vec::as_slice).collect();
    testing::each_kernels(|kernels| {
        let mut out = vec![9.0; expected.len()];
        let mut scratch = Scratch::new();
        kernels.attend(
            &mut scratch,
            &world.kv,
            &world.place,
            &rows,
            &tables,
            &with_sinks,
            &q,
            &mut out,
        );
        testing::assert_bits(&out, &expected, "sinks");
    });
}
