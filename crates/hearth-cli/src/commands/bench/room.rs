//! Refuses work that does not fit, before anything is laid out for it.

use hearth_kernels::PAGE_POSITIONS;
use hearth_model::{Model, PageLayout};

use super::schedule::prompt_lengths;
use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::load;
use crate::machine;
use crate::printer;

/// Checks the context and the memory.
pub fn check(args: &BenchArgs, model: &Model) -> Result<(), Failure> {
    // Batches are measured one after the other in the same pages.
    let n_seqs = args.batch.iter().map(|n| n.get()).max();
    let lengths = match n_seqs {
        None => vec![args.depth + args.prompt_tokens.max(args.new_tokens)],
        Some(n_seqs) => batch_lengths(args, n_seqs),
    };
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if longest > model.n_ctx() {
        return Err(Failure::input(format!(
            "{longest} tokens do not fit the model's context of {}",
            model.n_ctx()
        ))
        .hint("give smaller -p, -n and -d"));
    }
    check_memory(args, model, &lengths)
}

/// Every sequence with what it reads and writes, and the prompt that is read beside.
fn batch_lengths(args: &BenchArgs, n_seqs: usize) -> Vec<usize> {
    let prompts = prompt_lengths(n_seqs, args.prompt_tokens, args.ragged).into_iter();
    let beside = args
        .beside
        .map(|beside| beside.get().max(args.prompt_tokens));
    prompts
        .map(|length| args.depth + length + args.new_tokens)
        .chain(beside)
        .collect()
}

/// The pool's memory is given when it is written to, and then its lack would end the process instead of this command.
fn check_memory(args: &BenchArgs, model: &Model, lengths: &[usize]) -> Result<(), Failure> {
    let page_bytes = PageLayout::new(model.plan(), load::kv_type(args.compute.kv)).page_bytes();
    let n_pages: usize = lengths.iter().map(|n| n.div_ceil(PAGE_POSITIONS)).sum();
    let n_bytes = (n_pages as u64).saturating_mul(page_bytes as u64);
    match machine::available_memory() {
        Some(available) if n_bytes > available => Err(Failure::input(format!(
            "the keys and values of {} tokens need {}, but only {} of memory are free",
            lengths.iter().sum::<usize>(),
            printer::bytes(n_bytes),
            printer::bytes(available)
        ))
        .hint("give a smaller -p, -n, -d or --batch")),
        _ => Ok(()),
    }
}
