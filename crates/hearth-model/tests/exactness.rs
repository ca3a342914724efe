//! One result, however it is computed: every family and weight type on a tiny model, compared bit by bit.
//!
//! Reference is the scalar level on one thread, the prompt fed token by token.

mod common;

use std::{num::NonZeroUsize, sync::Arc};

use common::Runner;
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{Kernels, KvType, Level, WeightType};
use hearth_model::{Batch, Row, Sequence, supported_families};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

const KV_TYPES: [KvType; 3] = KvType::ALL;

fn weight_types() -> impl Iterator<Item = TensorType> {
    WeightType::ALL.into_iter().map(|ty| {
        let same = TensorType::ALL
            .iter()
            .find(|other| other.name() == ty.name());
        *same.expect("every weight type is a tensor type")
    })
}

fn kernels(level: Level, n_threads: usize) -> Kernels {
    Kernels::new(level, NonZeroUsize::new(n_threads).unwrap()).unwrap()
}

fn runner(gguf: &Arc<Gguf>, kv_type: KvType, kernels: Kernels) -> Runner {
    Runner::new(gguf.clone(), 320, kv_type, kernels)
}

fn gguf(model: &TinyModel) -> Arc<Gguf> {
    Arc::new(Gguf::from_vec(model.build()).unwrap())
}

/// Tokens without a pattern.
fn prompt(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 7)
        .map(|x| x % N_VOCAB)
        .collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Logits after every token, the prompt fed in pieces of the given lengths, again and again.
fn fed(runner: &mut Runner, tokens: &[u32], pieces: &[usize]) -> Vec<u32> {
    runner.sequence.clear(&mut runner.pool);
    let (mut rest, mut all) = (tokens, Vec::new());
    for &piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        all.extend(bits(&runner.feed(now)));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    all
}

/// Every weight type in one family; in the others one of each kind of arithmetic.
fn cases() -> impl Iterator<Item = (&'static str, TensorType)> {
    let all = weight_types().map(|ty| ("llama", ty));
    let few = [TensorType::F32, TensorType::Q4_0, TensorType::Q4_K];
    all.chain(
        supported_families()
            .filter(|family| *family != "llama")
            .flat_map(move |family| few.map(|ty| (family, ty))),
    )
}

#[test]
fn levels_threads_and_chunks_give_the_same_bits() {
    // Over a page border, and enough for every regime of the products.
    let tokens = prompt(70, 1);
    let (levels, absent): (Vec<Level>, Vec<Level>) = Level::ALL
        .into_iter()
        .partition(|level| level.is_available());
    println!("levels of this machine: {levels:?}; not executed: {absent:?}");
    // Each way to cut the prompt with its own number of threads; whole at 8 for one type below.
    let ways: [(usize, &[usize]); 4] = [
        (1, &[70]),
        (2, &[1, 7, 2, 13, 5]),
        (3, &[17, 3]),
        (2, &[64, 3]),
    ];
    for (family, ty) in cases() {
        let gguf = gguf(&TinyModel::new(family, ty));
        let mut of_kv_types = Vec::new();
        for kv_type in KV_TYPES {
            let expected = fed(
                &mut runner(&gguf, kv_type, kernels(Level::Scalar, 1)),
                &tokens,
                &[1],
            );
            let check = |level: Level, n_threads: usize, pieces: &[usize]| {
                let got = fed(
                    &mut runner(&gguf, kv_type, kernels(level, n_threads)),
                    &tokens,
                    pieces,
                );
                let at = got.iter().zip(&expected).position(|(a, b)| a != b);
                let place = at.map(|at| (at / N_VOCAB as usize, at % N_VOCAB as usize));
                let way = format!(
                    "{family} {ty:?} {kv_type:?} {level}, {n_threads} threads, pieces {pieces:?}"
                );
                assert_eq!(place, None, "(position, token) that differs: {way}");
                assert_eq!(got.len(), expected.len(), "{way}");
            };
            for &level in &levels {
                ways.iter()
                    .for_each(|(n_threads, pieces)| check(level, *n_threads, pieces));
            }
            check(Level::best(), 1, &[1]);
            if ty == TensorType::Q4_K {
                check(Level::best(), 8, &[70]);
            }
            of_kv_types.push(expected);
        }
        assert_ne!(
            of_kv_types[0], of_kv_types[1],
            "the comparison would notice the type of keys and values"
        );
        println!(
            "{family:<6} {:<8}every type of keys and values, {} levels, 1 to 3 threads, 5 ways to cut: equal",
            ty.name(),
            levels.len()
        );
    }
}

/// Three sequences of different lengths in one batch, rows interleaved, against each alone.
#[test]
fn a_row_of_a_batch_equals_the_row_alone() {
    for family in supported_families() {
        for ty in [
            TensorType::F32,
            TensorType::F16,
            TensorType::Q4_0,
            TensorType::Q4_K,
        ] {
            let mut runner = runner(
                &gguf(&TinyModel::new(family, ty)),
                KvType::F16,
                kernels(Level::best(), 2),
            );
            let prompts = [prompt(70, 1), prompt(9, 2), prompt(33, 3)];
            let alone = prompts
                .each_ref()
                .map(|prompt| bits(&runner.logits(prompt)));
            runner.sequence.clear(&mut runner.pool);

            let mut sequences: [Sequence; 3] = std::array::from_fn(|_| Sequence::new());
            let mut rows = Vec::new();
            for (seq, prompt) in prompts.iter().enumerate() {
                sequences[seq]
                    .grow_to(prompt.len(), &mut runner.pool)
                    .unwrap();
                let row = |(pos, &token): (usize, &u32)| Row {
                    seq: seq as u32,
                    pos: pos as u32,
                    token,
                    wants_logits: true,
                };
                rows.extend(prompt.iter().enumerate().map(row));
            }
            // Any order will do: position by position, then every second row first.
            rows.sort_by_key(|row| (row.pos % 2, row.pos, row.seq));
            let tables = sequences.each_ref().map(|sequence| sequence.table());
            let batch = Batch {
                rows: &rows,
                tables: &tables,
            };
            let logits = runner
                .executor
                .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
                .unwrap();
            for (index, row) in rows.iter().enumerate() {
                let n = N_VOCAB as usize;
                let expected = &alone[row.seq as usize][row.pos as usize * n..][..n];
                assert_eq!(bits(logits.row(index)), expected, "{family} {ty:?} {row:?}");
            }
        }
    }
}

#[test]
fn a_used_page_is_as_good_as_a_fresh_one() {
    for family in supported_families() {
        let mut runner = runner(
            &gguf(&TinyModel::new(family, TensorType::Q8_0)),
            KvType::F16,
            kernels(Level::best(), 2),
        );
        let expected = bits(&runner.logits(&prompt(100, 1)));
        // Other keys and values in the same pages, in another order.
        runner.logits(&prompt(300, 2));
        let fresh = runner.sequence.table().to_vec();
        let again = bits(&runner.logits(&prompt(100, 1)));
        assert_ne!(
            fresh[..2],
            runner.sequence.table()[..2],
            "the pages are used again in another order"
        );
        assert_eq!(again, expected, "{family}");
    }
}

#[test]
fn rows_without_logits_change_nothing() {
    let mut runner = runner(
        &gguf(&TinyModel::new("qwen3", TensorType::Q4_K)),
        KvType::F16,
        kernels(Level::best(), 2),
    );
    let tokens = prompt(40, 1);
    let all = bits(&runner.logits(&tokens));
    runner.sequence.clear(&mut runner.pool);
    runner.sequence.grow_to(40, &mut runner.pool).unwrap();
    let row = |pos: usize| Row {
        seq: 0,
        pos: pos as u32,
        token: tokens[pos],
        wants_logits: pos % 7 == 4,
    };
    let rows: Vec<Row> = (0..40).map(row).collect();
    let batch = Batch {
        rows: &rows,
        tables: &[runner.sequence.table()],
    };
    let logits = runner
        .executor
        .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
        .unwrap();
    assert_eq!(logits.len(), 6);
    for index in 0..logits.len() {
        let pos = logits.batch_row(index);
        assert_eq!(pos, 4 + 7 * index);
        assert_eq!(
            bits(logits.row(index)),
            all[pos * N_VOCAB as usize..][..N_VOCAB as usize]
        );
    }
}

/// A window must forget: what lies outside it has no influence, and its pages can be given back.
#[test]
fn a_window_forgets_and_frees() {
    let mut model = TinyModel::new("llama", TensorType::F32);
    model.sliding_window = Some(20);
    let mut runner = runner(&gguf(&model), KvType::F32, kernels(Level::best(), 2));
    let tokens = prompt(200, 1);
    let whole = bits(&runner.logits(&tokens));
    let last = |logits: &[u32]| logits[logits.len() - N_VOCAB as usize..].to_vec();

    // Two layers reach 38 positions back.
    let mut other = tokens.clone();
    other[100] = (other[100] + 1) % N_VOCAB;
    assert_eq!(
        last(&bits(&runner.logits(&other))),
        last(&whole),
        "far outside the window"
    );
    other[190] = (other[190] + 1) % N_VOCAB;
    assert_ne!(
        last(&bits(&runner.logits(&other))),
        last(&whole),
        "inside the window"
    );

    runner.sequence.clear(&mut runner.pool);
    let mut got = Vec::new();
    for chunk in tokens.chunks(10) {
        got.extend(bits(&runner.feed(chunk)));
        runner.sequence.release_outside(20, &mut runner.pool);
    }
    assert_eq!(got, whole);
    assert_eq!(
        runner
            .sequence
            .table()
            .iter()
            .filter(|page| **page == u32::MAX)
            .count(),
        2,
        "{:?}",
        runner.sequence.table()
    );
    assert!(!runner.sequence.can_continue_at(100, Some(20)));
    assert!(runner.sequence.can_continue_at(150, Some(20)));
}
