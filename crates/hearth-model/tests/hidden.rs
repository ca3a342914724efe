//! Hidden states without the output matrix: what the last norm of a whole step gives, bit for bit.

mod common;

use std::sync::Arc;

use common::{Runner, kernels};
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::KvType;
use hearth_model::{Batch, Row, StepError};
use hearth_testing::TinyModel;

fn runner(model: TinyModel) -> Runner {
    let gguf = Gguf::from_vec(model.build()).unwrap();
    Runner::new(Arc::new(gguf), 64, KvType::F16, kernels())
}

fn rows() -> Vec<Row> {
    let row = |pos: u32| Row {
        seq: 0,
        pos,
        token: 3 + pos * 7,
        wants_logits: pos % 3 != 1,
    };
    (0..20).map(row).collect()
}

#[test]
fn they_are_what_the_output_matrix_is_multiplied_with() {
    for family in ["llama", "qwen3", "qwen3moe"] {
        let mut runner = runner(TinyModel::new(family, TensorType::Q4_0));
        runner.sequence.grow_to(20, &mut runner.pool).unwrap();
        let rows = rows();
        let batch = Batch {
            rows: &rows,
            tables: &[runner.sequence.table()],
        };
        let mut expected = Vec::new();
        let mut observe = |seen: hearth_model::Observed<'_>| {
            if seen.step.layer.is_none() && seen.values.len() == 13 * runner.model.hparams().n_embd
            {
                expected = seen.values.to_vec();
            }
        };
        let executor = &mut runner.executor;
        let (model, kernels, pool) = (&runner.model, &runner.kernels, &mut runner.pool);
        executor
            .step_observed(model, kernels, pool, &batch, Some(&mut observe))
            .unwrap();
        let hidden = executor.step_hidden(model, kernels, pool, &batch).unwrap();
        assert_eq!(
            hidden.len(),
            13,
            "{family}: one for each row that wants logits"
        );
        let all: Vec<f32> = (0..13).flat_map(|row| hidden.row(row)).copied().collect();
        assert!(all.iter().any(|value| *value != 0.0));
        assert_eq!(all, expected, "{family}");
    }
}

#[test]
fn one_that_is_not_finite_names_its_row() {
    let mut model = TinyModel::new("llama", TensorType::F32);
    model.without.push("output_norm.weight".to_owned());
    let norm = (
        "output_norm.weight".to_owned(),
        vec![u64::from(model.n_embd)],
        // A weight must be finite; times anything above 1 this one is not.
        f32::MAX,
    );
    model.extra.push(norm);
    let mut runner = runner(model);
    runner.sequence.grow_to(20, &mut runner.pool).unwrap();
    let rows = &rows()[4..9];
    let batch = Batch {
        rows,
        tables: &[runner.sequence.table()],
    };
    let (model, kernels) = (&runner.model, &runner.kernels);
    let step = runner
        .executor
        .step_hidden(model, kernels, &mut runner.pool, &batch);
    let error = step.unwrap_err();
    assert!(
        matches!(error, StepError::HiddenNotFinite { seq: 0, pos: 5 }),
        "{error}"
    );
}
