//! The definition against f64.

use super::*;

/// Attention in f64 of queries, keys and values as one head sees them.
fn reference(case: Case, rows: &[KvRow], [q, k, v]: [&[f64]; 3], sinks: &[f32]) -> Vec<f64> {
    let width = case.head_dim;
    let mut out = Vec::new();
    for (i, query) in q.chunks(width).enumerate() {
        let seen = visible(rows[i / case.n_head].pos, case.window);
        let score = |k: &[f64]| {
            let dot: f64 = k.iter().zip(query).map(|(k, q)| k * q).sum();
            let score = dot / (width as f64).sqrt();
            case.soft_cap.map_or(score, |cap| {
                f64::from(cap) * (score / f64::from(cap)).tanh()
            })
        };
        let keys = k.chunks(width).take(seen.end).skip(seen.start);
        let p: Vec<f64> = keys.map(|k| score(k).exp()).collect();
        let sink = f64::from(sinks[i % case.n_head]).exp();
        let sum = p.iter().sum::<f64>() + if case.has_sinks { sink } else { 0.0 };
        for d in 0..width {
            let values = v.chunks(width).skip(seen.start);
            out.push(p.iter().zip(values).map(|(p, v)| p * v[d]).sum::<f64>() / sum);
        }
    }
    out
}

/// What is left of vectors of `width` after rounding to 8 bits with a step per `block`.
fn rounded(x: &[f32], width: usize, block: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for x in x.chunks(width).flat_map(|x| x.chunks(block)) {
        let mut q = vec![0i8; x.len()];
        let step = f64::from(crate::page::quantize(x, &mut q));
        out.extend(q.iter().map(|q| f64::from(*q) * step));
    }
    out
}

/// Against f64 on the stored keys and values.
///
/// Scores up to about 10 carry an error of `head_dim` roundings, 128 · 6e-8 relative at worst and a few 1e-7 in practice;
/// the weighted mean of values below 2 then stays within 1e-5 of the truth. With 8-bit values the weights of a chunk have an error
/// of up to half of 1/32767 of the largest each, of either sign.
#[test]
fn the_definition_is_accurate() {
    for (kv_type, bound) in [
        (KvType::F32, 1e-5),
        (KvType::F16, 1e-5),
        (KvType::Q8_0, 3e-4),
    ] {
        for (soft_cap, has_sinks, window) in [
            (None, false, None),
            (Some(4.0), true, None),
            (None, true, Some(600)),
        ] {
            let case = Case {
                kv_type,
                n_head: 2,
                n_head_kv: 1,
                head_dim: 128,
                head_dim_v: 128,
                window,
                soft_cap,
                has_sinks,
            };
            let world = World::new(case, &[1300]);
            let rows = run_of(0, 1290..1300);
            let q = testing::floats(rows.len() * 256, 30);
            let q: Vec<f32> = q.iter().map(|x| x * 3.0).collect();
            let k = testing::floats(1300 * 128, 10);
            let v = testing::floats(1300 * 128, 20);
            let found = world.expected(case, &rows, &q);
            let exact = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
            let half = |x: &[f32]| -> Vec<f64> {
                let half = |x: &f32| crate::float::f16_to_f32(crate::float::f32_to_f16(*x));
                x.iter().map(half).map(f64::from).collect()
            };
            let (seen_q, seen_k, seen_v) = match kv_type {
                KvType::F32 => (exact(&q), exact(&k), exact(&v)),
                KvType::F16 => (exact(&q), half(&k), half(&v)),
                KvType::Q8_0 => (
                    rounded(&q, 128, 32),
                    rounded(&k, 128, 32),
                    rounded(&v, 128, 128),
                ),
            };
            let worst = |q: &[f64], k: &[f64], v: &[f64]| {
                let truth = reference(case, &rows, [q, k, v], &sinks(case));
                let errors = found
                    .iter()
                    .zip(&truth)
                    .map(|(x, y)| (f64::from(*x) - y).abs());
                errors.fold(0.0f64, f64::max)
            };
            let error = worst(&seen_q, &seen_k, &seen_v);
            let of_all = worst(&exact(&q), &exact(&k), &exact(&v));
            println!("{case:?}: {error:.1e}, with the rounding of what is stored {of_all:.1e}");
            assert!(error < bound, "{case:?}: {error:e}");
            assert!(of_all < 0.05, "{case:?}: {of_all:e}");
        }
    }
}
