//! The thread that hashes the model and writes pages, so that the engine waits for neither.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
};

use super::{file, folder::Root};
use crate::prefix::{
    chain::Key,
    header::{HEADER_BYTES, Header},
    identity::{ModelIdentity, Remembered},
    private::make_private,
};

/// What the thread is to do.
pub(super) enum Order {
    /// Write a page.
    Store {
        path: PathBuf,
        header: Box<Header>,
        body: Vec<u8>,
    },
    /// A file was used.
    Touch(PathBuf),
    /// A file of ours is damaged.
    Remove(PathBuf),
}

/// What it tells.
#[derive(Debug)]
pub(super) enum News {
    /// The SHA-256 of the model.
    Model(Key),
    /// A page was done with, its memory comes back. Unless it was written, it was there already, or another process kept
    /// the lock, or nothing is written any more.
    Done { body: Vec<u8>, is_written: bool },
    /// Nothing is written any more.
    Off(String),
}

/// What the two sides share besides their channels.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Somebody waits for the model's hash.
    pub is_urgent: AtomicBool,
    /// The store is gone: what was ordered is still written, hashing ends.
    pub is_over: AtomicBool,
}

/// The thread's state.
pub(super) struct Writer {
    pub root: Root,
    /// The model, if its hash is not certain yet.
    pub unknown: Option<ModelIdentity>,
    pub signals: Arc<Signals>,
    pub news: Sender<News>,
}

impl Writer {
    /// Works until the other side is gone.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let begun = self.begin();
        let mut is_writing = self.check(begun, "cleaning the folder");
        for order in orders {
            match order {
                Order::Touch(path) => file::touch(&path),
                // It may be gone already, or not ours to remove; then it stays ignored.
                Order::Remove(path) => drop(fs::remove_file(path)),
                Order::Store { path, header, body } => {
                    let stored = match is_writing {
                        true => self.store(&path, &header, &body),
                        false => Ok(false),
                    };
                    let is_written = matches!(stored, Ok(true));
                    is_writing &= self.check(stored.map(drop), "writing a page");
                    self.tell(News::Done { body, is_written });
                }
            }
        }
    }

    /// Tidies up after earlier processes, and hashes the model if need be.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(locked) = self.root.lock()? {
            locked.clean()?;
        }
        let Some(identity) = self.unknown.take() else {
            return Ok(());
        };
        let signals = &self.signals;
        let is_urgent = || signals.is_urgent.load(Ordering::Relaxed);
        let is_over = || signals.is_over.load(Ordering::Relaxed);
        let Some(full) = identity.full(&is_urgent, &is_over) else {
            return Ok(());
        };
        self.tell(News::Model(full));
        let quick = identity.quick();
        // Without files there is no stamp; the quick hash stands in, and can be told from any stamp.
        let line = [identity.stamp().unwrap_or(quick), quick, full];
        let path = self.root.remembered();
        match self.root.lock()? {
            Some(_locked) => Remembered::read(&path).add(&path, line),
            None => Ok(()),
        }
    }

    /// Whether it was written.
    fn store(&self, path: &Path, header: &Header, body: &[u8]) -> io::Result<bool> {
        let Some(locked) = self.root.lock()? else {
            return Ok(false);
        };
        if path.try_exists()? {
            return Ok(false);
        }
        let n_bytes = (HEADER_BYTES + body.len()) as u64;
        if !locked.reserve(n_bytes)? {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the budget does not hold a single page more",
            ));
        }
        // The folder may have been emptied, or removed by its user.
        if let Some(folder) = path.parent() {
            make_private(folder)?;
        }
        file::write(path, header, body)?;
        Ok(true)
    }

    /// Whether it went well. If not, the other side hears what went wrong.
    fn check(&self, result: io::Result<()>, what: &str) -> bool {
        if let Err(error) = &result {
            self.tell(News::Off(format!("{what}: {error}")));
        }
        result.is_ok()
    }

    fn tell(&self, news: News) {
        // Nobody hears it while the store is being dropped.
        let _ = self.news.send(news);
    }
}
