//! `hearth logits`: the scores a model gives, bit for bit, for tests and tools.

use std::ops::ControlFlow;

use hearth_engine::{Generator, GeneratorOptions};

use crate::args::LogitsArgs;
use crate::failure::Failure;
use crate::load;
use crate::model_ref::ModelRef;
use crate::printer::Output;

/// Prints the scores after the last token, or after every token, each row as it comes: all rows of a long text
/// together would take gigabytes.
pub fn run(args: &LogitsArgs) -> Result<(), Failure> {
    let gguf = ModelRef::parse(&args.model)?.open()?;
    let chunk = args
        .compute
        .chunk
        .map_or(load::DEFAULT_CHUNK, |chunk| chunk.get())
        .min(args.tokens.len());
    let options = GeneratorOptions {
        kv_type: load::kv_type(args.compute.kv),
        chunk,
        n_positions: Some(args.tokens.len()),
        max_logits: if args.all { chunk } else { 1 },
        ..GeneratorOptions::default()
    };
    let mut generator = Generator::load(gguf, load::kernels(args.compute.threads)?, options)?;
    let (n_tokens, n_ctx) = (args.tokens.len(), generator.model().n_ctx());
    if n_tokens > n_ctx {
        return Err(Failure::input(format!(
            "{n_tokens} tokens do not fit the context of {n_ctx}"
        ))
        .hint("give fewer --tokens; nothing is ever cut silently"));
    }
    let mut output = Output::new();
    let mut n_rows = 0;
    let mut failure = None;
    generator.logits(&args.tokens, args.all, &mut |_pos, logits| {
        let written = row(&mut output, args, n_rows, logits);
        n_rows += 1;
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if args.json {
        output.line(if args.all { "]}" } else { "}" })?;
    }
    output.flush()
}

/// One row of scores, with what stands before it.
fn row(
    output: &mut Output,
    args: &LogitsArgs,
    n_before: usize,
    logits: &[f32],
) -> Result<(), Failure> {
    if !args.json {
        let numbers: Vec<String> = logits.iter().map(f32::to_string).collect();
        return output.line(numbers.join(" "));
    }
    let before = match (n_before, args.all) {
        (0, true) => "{\"logits\":[",
        (0, false) => "{\"logits\":",
        _ => ",",
    };
    output.bytes(before.as_bytes())?;
    output.bytes(&serde_json::to_vec(logits)?)
}
