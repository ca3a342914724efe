//! What a step refuses, and that it allocates nothing.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{Runner, kernels};
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{Kernels, KvType, Level};
use hearth_model::{Batch, Executor, ExecutorLimits, PageId, Row, StepError};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `System` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn runner(weight: TensorType, kernels: Kernels) -> Runner {
    runner_of("qwen3", weight, KvType::F16, kernels)
}

fn runner_of(
    family: &'static str,
    weight: TensorType,
    kv_type: KvType,
    kernels: Kernels,
) -> Runner {
    let gguf = Gguf::from_vec(TinyModel::new(family, weight).build()).unwrap();
    Runner::new(Arc::new(gguf), 128, kv_type, kernels)
}

fn row(seq: u32, pos: u32, token: u32) -> Row {
    Row {
        seq,
        pos,
        token,
        wants_logits: true,
    }
}

// One test, since another one's allocations would be counted.
#[test]
fn steps() {
    // Which experts a step chooses, and with how many tokens each, is new in every step.
    for family in ["qwen3", "qwen3moe"] {
        a_step_allocates_nothing(family);
    }
    bad_batches_are_refused();
    a_logit_that_is_not_finite_is_an_error();
    an_executor_knows_its_model();
    timings_cover_every_operation();
}

fn a_step_allocates_nothing(family: &'static str) {
    for (weight, kv_type) in [
        (TensorType::F32, KvType::F32),
        (TensorType::Q8_0, KvType::Q8_0),
        (TensorType::Q4_K, KvType::F16),
    ] {
        let kernels = Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap();
        let mut runner = runner_of(family, weight, kv_type, kernels);
        let limits = ExecutorLimits {
            max_tokens: 40,
            max_logits: 2,
            n_positions: 128,
        };
        let mut executor = Executor::new(&runner.model, &runner.kernels, limits).unwrap();
        runner.sequence.grow_to(128, &mut runner.pool).unwrap();
        let rows: Vec<Row> = (0..128)
            .map(|pos| Row {
                wants_logits: pos % 20 == 0,
                ..row(0, pos, pos % N_VOCAB)
            })
            .collect();
        let tables = [runner.sequence.table()];
        let mut once = |rows: &[Row]| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let batch = Batch {
                rows,
                tables: &tables,
            };
            executor
                .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
                .unwrap();
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        // The harness's own thread allocates too, once, at a moment of its own; a step that allocates does so each time.
        let mut step = |rows: &[Row]| (0..3).map(|_| once(rows)).min();
        // The kernels' scratch grows to its largest use once.
        step(&rows[..40]);
        step(&rows[40..41]);
        let counts = [
            step(&rows[41..81]),
            step(&rows[81..82]),
            step(&rows[82..110]),
            step(&rows[110..128]),
        ];
        assert_eq!(
            counts,
            [Some(0); 4],
            "allocations of steps of {family} with {} weights",
            weight.name()
        );
    }
}

fn bad_batches_are_refused() {
    let mut runner = runner(TensorType::F32, kernels());
    let limits = ExecutorLimits {
        max_tokens: 3,
        max_logits: 1,
        n_positions: 120,
    };
    let mut executor = Executor::new(&runner.model, &runner.kernels, limits).unwrap();
    let pages: Vec<PageId> = (0..2).map(|_| runner.pool.take().unwrap()).collect();
    let released = [u32::MAX, pages[1]];
    let tables: [&[PageId]; 3] = [&pages, &released, &[99]];
    let silent = |pos| Row {
        wants_logits: false,
        ..row(0, pos, 5)
    };
    let cases: [(&[Row], &str); 11] = [
        (&[], "a step needs at least one row"),
        (
            &[silent(0), silent(1), silent(2), silent(3)],
            "a step of 4 rows, the executor was made for 3",
        ),
        (
            &[row(0, 0, 5), row(0, 1, 5)],
            "2 rows want logits, the executor was made for 1",
        ),
        (
            &[row(0, 0, N_VOCAB)],
            "token 293 in row 0 is outside the vocabulary of 293",
        ),
        (&[row(0, 0, u32::MAX)], "token 4294967295 in row 0"),
        (
            &[silent(0), row(3, 0, 5)],
            "row 1 names sequence 3, the batch has 3 page tables",
        ),
        (
            &[row(0, 128, 5)],
            "row 0 at position 128 needs page 2 of sequence 0",
        ),
        (
            &[row(0, u32::MAX, 5)],
            "row 0 at position 4294967295 needs page 2 of sequence 0",
        ),
        (
            &[silent(119), row(0, 120, 5)],
            "row 1 is at position 120, the executor was made for 120 positions",
        ),
        (
            &[row(1, 64, 5)],
            "row 0 at position 64 needs page 0 of sequence 1",
        ),
        (
            &[row(2, 0, 5)],
            "row 0 at position 0 needs page 0 of sequence 2",
        ),
    ];
    for (rows, expected) in cases {
        let batch = Batch {
            rows,
            tables: &tables,
        };
        let error = executor
            .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
            .unwrap_err();
        assert!(
            error.to_string().starts_with(expected),
            "{error}, expected {expected}"
        );
    }
    let batch = Batch {
        rows: &[silent(0), row(0, 1, 5)],
        tables: &tables,
    };
    assert_eq!(
        executor
            .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
            .unwrap()
            .batch_row(0),
        1
    );
    let batch = Batch {
        rows: &[silent(0)],
        tables: &tables,
    };
    assert!(
        executor
            .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
            .unwrap()
            .is_empty()
    );
}

fn a_logit_that_is_not_finite_is_an_error() {
    let mut model = TinyModel::new("llama", TensorType::F32);
    // A final norm so large that every sum of the output's products overflows.
    model.without.push("output_norm.weight".to_owned());
    model
        .extra
        .push(("output_norm.weight".to_owned(), vec![72], 3e38));
    let gguf = Arc::new(Gguf::from_vec(model.build()).unwrap());
    let mut runner = Runner::new(gguf, 64, KvType::F32, kernels());
    runner.sequence.grow_to(3, &mut runner.pool).unwrap();
    let silent = |pos| Row {
        wants_logits: false,
        ..row(0, pos, 5)
    };
    let rows = [silent(0), silent(1), row(0, 2, 5)];
    let batch = Batch {
        rows: &rows,
        tables: &[runner.sequence.table()],
    };
    match runner
        .executor
        .step(&runner.model, &runner.kernels, &mut runner.pool, &batch)
    {
        Err(StepError::NotFinite {
            seq: 0,
            pos: 2,
            token: 0,
            value,
        }) => assert!(!value.is_finite()),
        other => panic!("{other:?}"),
    }
}

fn an_executor_knows_its_model() {
    let mut one = runner(TensorType::F32, kernels());
    let mut other = {
        let gguf = Gguf::from_vec(TinyModel::new("llama", TensorType::Q4_K).build()).unwrap();
        Runner::new(Arc::new(gguf), 128, KvType::F16, kernels())
    };
    let page = other.pool.take().unwrap();
    let batch = Batch {
        rows: &[row(0, 0, 5)],
        tables: &[&[page]],
    };
    let error = one
        .executor
        .step(&other.model, &one.kernels, &mut other.pool, &batch)
        .unwrap_err();
    assert!(matches!(error, StepError::ForeignModel), "{error}");
    let error = one
        .executor
        .step(&one.model, &one.kernels, &mut other.pool, &batch)
        .unwrap_err();
    assert!(matches!(error, StepError::ForeignPool), "{error}");
    for (max_tokens, max_logits, n_positions, expected) in [
        (0, 0, 1, "each must be at least 1"),
        (1, 0, 1, "each must be at least 1"),
        (1, 1, 0, "each must be at least 1"),
        (1, 2, 1, "more rows of logits than rows"),
        (
            usize::MAX,
            1,
            1,
            "bytes of working memory, the limit is 68719476736",
        ),
        (1 << 30, 1, 1, "steps of 1073741824 tokens"),
        (1, 1, usize::MAX, "bytes of working memory, the limit is"),
        (512, 1, 1 << 34, "in a context of 17179869184 need"),
    ] {
        let limits = ExecutorLimits {
            max_tokens,
            max_logits,
            n_positions,
        };
        let error = Executor::new(&one.model, &one.kernels, limits).unwrap_err();
        assert!(error.to_string().contains(expected), "{limits:?}: {error}");
    }
}

fn timings_cover_every_operation() {
    let mut runner = runner(TensorType::F32, kernels());
    assert!(runner.executor.timings().is_empty());
    runner.executor.measure(true);
    runner.logits(&[1, 2, 3]);
    runner.logits(&[1, 2, 3]);
    assert_eq!(
        runner.executor.timings().len(),
        runner.model.plan().steps.len()
    );
    assert!(runner.executor.timings().iter().all(|op| op.n_runs == 2));
}
