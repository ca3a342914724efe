//! Which page files there are, and in what order they go.
//!
//! The name of a file tells its key and that of the page before it, so the chains are known without opening
//! anything. A page is as recently used as the most recently used page that begins with it; the oldest goes
//! first, and of one chain the end before the beginning.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::file::UNFINISHED;
use crate::prefix::chain::Key;

/// The most files that one look takes in: no folder of ours ever has so many.
const MAX_SEEN: usize = 1 << 20;

const SUFFIX: &str = ".page";

/// The name of a page's file.
pub(super) fn name(key: Key, parent: Key) -> String {
    format!("{key}-{parent}{SUFFIX}")
}

/// Key and parent of a name that [`name`] made.
fn parse(name: &str) -> Option<(Key, Key)> {
    let (key, parent) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((Key::parse(key)?, Key::parse(parent)?))
}

/// A page file.
#[derive(Debug)]
pub(super) struct Entry {
    /// Index of its folder.
    folder: usize,
    key: Key,
    parent: Key,
    pub n_bytes: u64,
    modified: SystemTime,
}

/// All page files of all models.
#[derive(Debug, Default)]
pub(super) struct Scan {
    folders: Vec<PathBuf>,
    pub entries: Vec<Entry>,
}

impl Scan {
    /// Looks at every file; removes what was left unfinished, so the caller holds the lock.
    pub(super) fn new(root: &Path) -> io::Result<Scan> {
        let mut scan = Scan::default();
        for folder in fs::read_dir(root)? {
            let folder = folder?;
            let is_ours = folder.file_name().to_str().and_then(Key::parse).is_some();
            if is_ours && folder.file_type()?.is_dir() {
                scan.add(folder.path())?;
            }
        }
        Ok(scan)
    }

    fn add(&mut self, folder: PathBuf) -> io::Result<()> {
        let _ = fs::remove_file(folder.join(UNFINISHED));
        for file in fs::read_dir(&folder)? {
            if self.entries.len() == MAX_SEEN {
                break;
            }
            let file = file?;
            let Some((key, parent)) = file.file_name().to_str().and_then(parse) else {
                continue;
            };
            // It may have been removed since it was listed.
            let Ok(metadata) = file.metadata() else {
                continue;
            };
            if metadata.is_file() {
                self.entries.push(Entry {
                    folder: self.folders.len(),
                    key,
                    parent,
                    n_bytes: metadata.len(),
                    modified: metadata.modified()?,
                });
            }
        }
        self.folders.push(folder);
        Ok(())
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.n_bytes).sum()
    }

    /// Removes files until at most this much is left; folders that were emptied go too. Returns bytes and files left.
    pub(super) fn shrink(&self, max_bytes: u64, max_files: usize) -> (u64, usize) {
        let (mut n_bytes, mut n_files) = (self.n_bytes(), self.entries.len());
        for index in order(&self.entries) {
            if n_bytes <= max_bytes && n_files <= max_files {
                break;
            }
            let entry = &self.entries[index];
            let path = self.folders[entry.folder].join(name(entry.key, entry.parent));
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => continue,
                _ => {}
            }
            n_bytes -= entry.n_bytes;
            n_files -= 1;
        }
        for folder in &self.folders {
            // Refused as long as a file is in it, which is the point.
            let _ = fs::remove_dir(folder);
        }
        (n_bytes, n_files)
    }
}

/// The order in which entries go.
fn order(entries: &[Entry]) -> Vec<usize> {
    let index_of: HashMap<(usize, Key), usize> = (0..entries.len())
        .map(|index| ((entries[index].folder, entries[index].key), index))
        .collect();
    let mut by_time: Vec<usize> = (0..entries.len()).collect();
    by_time.sort_by_key(|&index| std::cmp::Reverse(entries[index].modified));
    // From the most recent on: a page, and before it in its chain all that nothing more recent needs. So every
    // page is met once, with the most recent time of those that need it.
    let mut is_met = vec![false; entries.len()];
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for start in by_time {
        let mut run = Vec::new();
        let mut next = Some(start);
        while let Some(index) = next.filter(|&index| !is_met[index]) {
            is_met[index] = true;
            run.push(index);
            let entry = &entries[index];
            next = index_of.get(&(entry.folder, entry.parent)).copied();
        }
        runs.push(run);
    }
    runs.into_iter().rev().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(n: u8) -> Key {
        Key([n; 32])
    }

    fn entry(n: u8, parent: u8, seconds: u64) -> Entry {
        Entry {
            folder: 0,
            key: key(n),
            parent: key(parent),
            n_bytes: 1,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    fn order_of(entries: &[Entry]) -> Vec<u8> {
        order(entries)
            .into_iter()
            .map(|index| entries[index].key.0[0])
            .collect()
    }

    #[test]
    fn ends_go_before_beginnings_and_old_chains_before_new_ones() {
        // 1 <- 2 <- 3 written in order, and 1 <- 4 <- 5 used later; 6 alone between them.
        let entries = [
            entry(1, 0, 10),
            entry(2, 1, 11),
            entry(3, 2, 12),
            entry(4, 1, 30),
            entry(5, 4, 31),
            entry(6, 0, 20),
        ];
        assert_eq!(order_of(&entries), [3, 2, 6, 5, 4, 1]);
    }

    #[test]
    fn a_touched_end_keeps_its_beginning() {
        let entries = [
            entry(1, 0, 10),
            entry(2, 1, 99),
            entry(3, 2, 12),
            entry(7, 0, 50),
            entry(8, 7, 50),
        ];
        assert_eq!(order_of(&entries), [3, 8, 7, 2, 1]);
    }

    #[test]
    fn names_that_go_in_circles_do_no_harm() {
        let mut order = order_of(&[entry(1, 2, 5), entry(2, 1, 5), entry(3, 3, 5)]);
        order.sort_unstable();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(parse(&name(key(7), key(9))), Some((key(7), key(9))));
        for other in ["lock", "unfinished", ".page", "a-b.page", "../x-y.page"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
