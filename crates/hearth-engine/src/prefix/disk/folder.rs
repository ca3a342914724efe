//! The folder all page files lie in, its lock, and its budget.
//!
//! Several processes may use one folder. Whoever adds or evicts files holds the lock, and the file that is
//! locked tells how much there is, so that the budget is known without looking at every file. The lock goes
//! with the process that holds it, however that ends. Reading needs no lock: a file under its final name is
//! complete or damaged, and its checksums tell.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::evict::Scan;
use crate::prefix::{
    DiskOptions,
    private::{make_private, private},
};

/// The most files there are, of all models.
pub(super) const MAX_FILES: usize = 100_000;

/// The folder takes at most this part of what would be free without it.
const PART_OF_FREE: u64 = 10;

/// An eviction frees this part of the budget besides what is needed, so that not every page needs one.
const SLACK: u64 = 16;

/// How long one waits for another process: it holds the lock while it writes one page.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folder of all models.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    lock: File,
    max_bytes: u64,
}

impl Root {
    pub(super) fn open(options: &DiskOptions) -> io::Result<Root> {
        fs::create_dir_all(&options.folder)?;
        let path = options.folder.join("prefix");
        make_private(&path)?;
        let lock = private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))?;
        Ok(Root {
            path,
            lock,
            max_bytes: options.max_bytes,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the models seen before are remembered.
    pub(super) fn remembered(&self) -> PathBuf {
        self.path.join("models")
    }

    /// Waits for the lock, but not for ever: none when another process keeps it.
    pub(super) fn lock(&self) -> io::Result<Option<Locked<'_>>> {
        let start = Instant::now();
        loop {
            match self.lock.try_lock() {
                Ok(()) => return Ok(Some(Locked(self))),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// The right to add and remove files.
pub(super) struct Locked<'a>(&'a Root);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It goes with the file handle at the latest.
        let _ = self.0.lock.unlock();
    }
}

impl Locked<'_> {
    /// Removes what earlier processes left unfinished, counts what is there, and keeps the budget.
    pub(super) fn clean(&self) -> io::Result<()> {
        let scan = Scan::new(&self.0.path)?;
        let (n_bytes, n_files) = scan.shrink(self.limit(scan.n_bytes())?, MAX_FILES);
        self.write_total(n_bytes, n_files)
    }

    /// Makes room for a file and counts it as there; false if there can be none.
    pub(super) fn reserve(&self, n_new: u64) -> io::Result<bool> {
        let (mut n_bytes, mut n_files) = match self.read_total()? {
            Some(total) => total,
            None => {
                let scan = Scan::new(&self.0.path)?;
                (scan.n_bytes(), scan.entries.len())
            }
        };
        let mut limit = self.limit(n_bytes)?;
        if n_bytes.saturating_add(n_new) > limit || n_files >= MAX_FILES {
            let scan = Scan::new(&self.0.path)?;
            limit = self.limit(scan.n_bytes())?;
            let wanted = limit.saturating_sub(n_new.saturating_add(limit / SLACK));
            (n_bytes, n_files) = scan.shrink(wanted, MAX_FILES - MAX_FILES / SLACK as usize);
            self.write_total(n_bytes, n_files)?;
        }
        if n_bytes.saturating_add(n_new) > limit || n_files >= MAX_FILES {
            return Ok(false);
        }
        // Before it is written: whoever dies in between leaves a total that is too large, not too small.
        self.write_total(n_bytes + n_new, n_files + 1)?;
        Ok(true)
    }

    /// The budget, given what it holds now.
    fn limit(&self, n_bytes: u64) -> io::Result<u64> {
        let free = fs4::available_space(&self.0.path)?;
        Ok(self
            .0
            .max_bytes
            .min(free.saturating_add(n_bytes) / PART_OF_FREE))
    }

    /// Bytes and files; none if the file does not tell.
    fn read_total(&self) -> io::Result<Option<(u64, usize)>> {
        let mut file = &self.0.lock;
        file.seek(SeekFrom::Start(0))?;
        let mut text = Vec::new();
        file.take(64).read_to_end(&mut text)?;
        let total = || {
            let (n_bytes, n_files) = std::str::from_utf8(&text).ok()?.trim().split_once(' ')?;
            Some((n_bytes.parse().ok()?, n_files.parse().ok()?))
        };
        Ok(total())
    }

    fn write_total(&self, n_bytes: u64, n_files: usize) -> io::Result<()> {
        let mut file = &self.0.lock;
        file.seek(SeekFrom::Start(0))?;
        // Of constant length: what is left of a longer line would be read as part of the number.
        file.write_all(format!("{n_bytes:020} {n_files:010}\n").as_bytes())
    }
}
