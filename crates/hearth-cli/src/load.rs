//! From a file to a model that can compute, with a word to the user when that takes long.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType, PAGE_POSITIONS};
use hearth_model::{Model, ModelOptions, PageLayout};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::KvArg;
use crate::env;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine;
use crate::printer;

/// Prompt tokens per step when nobody says: reading gets hardly faster beyond it, and Ctrl-C is still answered soon.
pub const DEFAULT_CHUNK: usize = 512;

/// The level that the environment asks for, with so many threads, or as many as there are fast cores.
pub fn kernels(threads: Option<NonZeroUsize>) -> Result<Kernels, Failure> {
    let level = env::cpu_level()?;
    if machine::lacks_fused_multiply_add() {
        printer::note(format!(
            "note: this processor has no fused multiply-add; level {level} gives the same results without it, slowly"
        ));
    }
    let threads = threads.unwrap_or_else(machine::default_threads);
    Ok(Kernels::new(level, threads)?)
}

/// The kernels' name for a type of keys and values.
pub fn kv_type(arg: KvArg) -> KvType {
    match arg {
        KvArg::F16 => KvType::F16,
        KvArg::F32 => KvType::F32,
        KvArg::Q8_0 => KvType::Q8_0,
    }
}

/// The context to load a model with, `None` for its own: what was asked for; else the model's own, or as much of it as
/// memory has room for, and then it is said.
pub fn context(
    gguf: &Arc<Gguf>,
    asked: Option<usize>,
    kv_type: KvType,
) -> Result<Option<usize>, Failure> {
    let Some(available) = machine::available_memory().filter(|_| asked.is_none()) else {
        return Ok(asked);
    };
    let model = Model::load(gguf.clone(), ModelOptions::default())?;
    let page_bytes = PageLayout::new(model.plan(), kv_type).page_bytes() as u64;
    let n_own = model.n_ctx();
    let fitting = fitting_context(n_own, page_bytes, kv_budget(available, gguf.file_bytes()));
    if let Some(n_ctx) = fitting {
        printer::note(format!(
            "note: the model's own context of {n_own} tokens needs more memory than is free, so this one holds {n_ctx}; --context sets it"
        ));
    }
    Ok(fitting)
}

/// What keys and values may take: the weights stay in memory beside them. A model that memory cannot hold is read from
/// the disk anyway, and still needs some context.
fn kv_budget(available: u64, file_bytes: u64) -> u64 {
    available.saturating_sub(file_bytes).max(available / 4)
}

/// The largest context in whole pages within the budget, one page at least; `None` where the model's own fits.
fn fitting_context(n_own: usize, page_bytes: u64, budget: u64) -> Option<usize> {
    let n_pages = budget / page_bytes.max(1);
    let is_room = n_own.div_ceil(PAGE_POSITIONS) as u64 <= n_pages;
    let n_ctx = usize::try_from(n_pages.max(1))
        .ok()?
        .checked_mul(PAGE_POSITIONS)?;
    (!is_room && n_ctx < n_own).then_some(n_ctx)
}

/// Reads a file that is not in memory yet from front to back, so that a disk delivers at its own pace instead of
/// jumping wherever the first token needs weights. Announces a file that memory cannot hold, and leaves that one alone:
/// reading its end would throw its beginning out again.
pub fn warm_up(gguf: &Gguf, interrupt: &Interrupt) -> Result<(), Failure> {
    /// Below this a file is read faster than anyone notices.
    const WORTH_READING: u64 = 16 << 20;
    /// The system may drop a page of a file at any time; a few missing ones are no reason to read everything.
    const RESIDENT: f32 = 0.98;
    let size = gguf.file_bytes();
    if let Some(available) = machine::available_memory().filter(|&available| size > available) {
        printer::note(format!(
            "note: the model has {}, but only {} of memory are free; it will run, slowly, reading from the disk again and again",
            printer::bytes(size),
            printer::bytes(available)
        ));
        return Ok(());
    }
    if size < WORTH_READING
        || gguf
            .resident_fraction()
            .is_none_or(|fraction| fraction >= RESIDENT)
    {
        return Ok(());
    }
    let bar = file_bar(size);
    gguf.read_ahead(&mut |done, _total| {
        bar.set_position(done);
        if interrupt.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    interrupt.check()
}

/// Progress on standard error; invisible when that is no terminal.
fn file_bar(size: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "reading the model {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
    );
    let bar = ProgressBar::new(size).with_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Progress of reading a long prompt; one that is read quickly never shows it.
pub struct PromptBar {
    started: Instant,
    bar: Option<ProgressBar>,
}

impl PromptBar {
    /// Begins to watch the time.
    pub fn new() -> PromptBar {
        PromptBar {
            started: Instant::now(),
            bar: None,
        }
    }

    /// Notes that so many tokens of the prompt have been read.
    pub fn update(&mut self, n_done: usize, n_total: usize) {
        /// A bar that flashes by is worse than none.
        const PATIENCE: Duration = Duration::from_millis(700);
        if n_done >= n_total {
            self.finish();
        } else if self.bar.is_some() || self.started.elapsed() > PATIENCE {
            let bar = self.bar.get_or_insert_with(|| prompt_bar(n_total));
            bar.set_position(n_done as u64);
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn prompt_bar(n_total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "reading the prompt {wide_bar} {pos}/{len} tokens, {eta} left",
    );
    ProgressBar::new(n_total as u64).with_style(style.expect("the template is valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_shrinks_to_what_memory_holds() {
        // 131,072 positions of 128 KiB each are 16 GiB.
        let page = 64 * (128 << 10);
        assert_eq!(fitting_context(131_072, page, 16 << 30), None);
        assert_eq!(fitting_context(131_072, page, 11 << 30), Some(90_112));
        assert_eq!(
            fitting_context(131_072, page, (16 << 30) - 1),
            Some(131_008)
        );
        assert_eq!(
            fitting_context(131_072, page, 0),
            Some(64),
            "one page at least"
        );
        assert_eq!(fitting_context(50, page, 0), None, "a page is the least");
        assert_eq!(fitting_context(65, page, page), Some(64));
    }

    #[test]
    fn weights_come_before_keys_and_values() {
        assert_eq!(kv_budget(16, 5), 11);
        assert_eq!(kv_budget(16, 15), 4);
        assert_eq!(kv_budget(16, 40), 4);
    }
}
