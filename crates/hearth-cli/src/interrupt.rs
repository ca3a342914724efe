//! Ctrl-C: the first press asks the running work to stop, the second kills the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

/// Set by Ctrl-C, read by whatever is running. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C for this process. At most one call succeeds in a process.
    pub fn install() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt::default();
        let flag = interrupt.0.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .map_err(|error| Failure::ours("cannot handle Ctrl-C").caused_by(&error))?;
        Ok(interrupt)
    }

    /// Whether Ctrl-C was pressed since the last `reset`.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Forgets an earlier press: the work it was meant for has stopped.
    pub fn reset(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// An error if Ctrl-C was pressed.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_set() {
            Err(Failure::Interrupted)
        } else {
            Ok(())
        }
    }
}
