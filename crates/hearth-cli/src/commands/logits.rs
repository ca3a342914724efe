//! `hearth logits`: the scores a model gives, bit for bit, for tests and tools.

use hearth_kernels::Kernels;
use hearth_model::{Batch, Executor, ExecutorLimits, Model, ModelOptions, PagePool, Row, Sequence};
use serde::Serialize;

use crate::args::LogitsArgs;
use crate::failure::Failure;
use crate::load;
use crate::model_ref::ModelRef;
use crate::printer::Output;

#[derive(Serialize)]
struct Answer<T> {
    logits: T,
}

/// Prints the scores after the last token, or after every token.
pub fn run(args: &LogitsArgs) -> Result<(), Failure> {
    let gguf = ModelRef::parse(&args.model)?.open()?;
    let kernels = load::kernels(&args.compute)?;
    let model = Model::load(gguf, ModelOptions::default())?;
    let rows = compute(args, &model, &kernels)?;
    let mut output = Output::new();
    match (args.json, args.all) {
        (true, true) => output.json(&Answer { logits: &rows })?,
        (true, false) => output.json(&Answer {
            logits: rows.last().expect("one row at least was computed"),
        })?,
        (false, _) => {
            for row in &rows {
                let numbers: Vec<String> = row.iter().map(f32::to_string).collect();
                output.line(numbers.join(" "))?;
            }
        }
    }
    output.flush()
}

/// Feeds the tokens in chunks; the scores do not depend on where these fall.
fn compute(args: &LogitsArgs, model: &Model, kernels: &Kernels) -> Result<Vec<Vec<f32>>, Failure> {
    let tokens = &args.tokens;
    if tokens.len() > model.n_ctx() {
        return Err(Failure::input(format!(
            "{} tokens do not fit the context of {}",
            tokens.len(),
            model.n_ctx()
        ))
        .hint("give fewer --tokens; nothing is ever cut silently"));
    }
    let chunk = args
        .compute
        .chunk
        .map_or(load::DEFAULT_CHUNK, |chunk| chunk.get())
        .min(tokens.len());
    let max_logits = if args.all { chunk } else { 1 };
    let mut executor = Executor::new(
        model,
        kernels,
        ExecutorLimits {
            max_tokens: chunk,
            max_logits,
        },
    )?;
    let mut pool = PagePool::new(model, load::kv_type(args.compute.kv), tokens.len())?;
    let mut sequence = Sequence::new();
    sequence.grow_to(tokens.len(), &mut pool)?;
    let mut scores = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for (index, tokens_of_step) in tokens.chunks(chunk).enumerate() {
        let first = index * chunk;
        rows.clear();
        rows.extend(
            tokens_of_step
                .iter()
                .enumerate()
                .map(|(offset, &token)| Row {
                    seq: 0,
                    pos: (first + offset) as u32,
                    token,
                    wants_logits: args.all || first + offset + 1 == tokens.len(),
                }),
        );
        let batch = Batch {
            rows: &rows,
            tables: &[sequence.table()],
        };
        let logits = executor.step(model, kernels, &mut pool, &batch)?;
        scores.extend((0..logits.len()).map(|row| logits.row(row).to_vec()));
    }
    Ok(scores)
}
