//! From a file to a model that can compute, with a word to the user when that takes long.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{ComputeArgs, KvArg};
use crate::env;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine;
use crate::printer;

/// Prompt tokens per step when nobody says: reading gets hardly faster beyond it, and Ctrl-C is still answered soon.
pub const DEFAULT_CHUNK: usize = 512;

/// The level and threads that the environment and the flags ask for.
pub fn kernels(args: &ComputeArgs) -> Result<Kernels, Failure> {
    let level = env::cpu_level()?;
    let threads = args.threads.unwrap_or_else(machine::default_threads);
    Ok(Kernels::new(level, threads)?)
}

/// The kernels' name for a type of keys and values.
pub fn kv_type(arg: KvArg) -> KvType {
    match arg {
        KvArg::F16 => KvType::F16,
        KvArg::F32 => KvType::F32,
    }
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
