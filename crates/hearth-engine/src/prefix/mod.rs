//! Keys and values that were computed once, found again by the tokens they belong to.
//!
//! Full pages are kept after their sequence has ended, in the pool as long as it has room and in files beyond
//! that and beyond the process. A prompt that begins with the same tokens takes them over instead of reading
//! them: what follows is the same bit for bit, because a page depends on nothing but what its key hashes
//! ([`Key`]). Pages of one owner are never found by another, unless sharing is switched on.
//!
//! One rule covers models with and without windows: what is found is a complete run from the first position
//! on. So whatever a continuation sees is there; a sequence may then release what lies outside its window.

mod chain;
mod disk;
mod header;
mod identity;
mod pages;
mod private;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use hearth_kernels::PAGE_POSITIONS;
use hearth_model::{PageId, PageLayout, PagePool};

pub(crate) use chain::links;
pub use chain::{Key, Link};
use disk::Disk;
pub use header::{HEADER_BYTES, Header, PageFileError};
pub(crate) use identity::ModelIdentity;
use pages::Cached;

use crate::job::Owner;

/// Files that are open at the same time while a prefix is read.
const GROUP: usize = 32;

/// Bytes that are read from files while others wait.
const READ_BYTES: usize = 256 << 20;

/// How long the end of the program waits for pages to be written.
const FLUSH_TIME: Duration = Duration::from_secs(10);

/// The most pages whose writing is owed; of what is owed longest, nothing more is expected.
const MAX_OWED: usize = 1 << 16;

/// How prefixes are kept.
#[derive(Clone, Debug)]
pub struct PrefixOptions {
    /// Whether at all.
    pub is_on: bool,
    /// Memory of the pool that kept pages may take while no sequence holds them; absent, whatever is free.
    pub ram_bytes: Option<u64>,
    /// Files, if any.
    pub disk: Option<DiskOptions>,
    /// Whether owners find each other's pages, and so can tell from a prompt's speed that another read it.
    pub share_between_owners: bool,
}

impl Default for PrefixOptions {
    fn default() -> Self {
        PrefixOptions {
            is_on: true,
            ram_bytes: None,
            disk: None,
            share_between_owners: false,
        }
    }
}

/// Where pages are kept in files.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// A folder of the user's caches; ours lies in it, closed to others.
    pub folder: PathBuf,
    /// What all files together may take, and never more than a tenth of what the file system has free without them.
    pub max_bytes: u64,
}

impl DiskOptions {
    /// The usual limit.
    pub const MAX_BYTES: u64 = 8 << 30;

    /// Files in `folder` within the usual limit.
    pub fn new(folder: PathBuf) -> Self {
        DiskOptions {
            folder,
            max_bytes: DiskOptions::MAX_BYTES,
        }
    }
}

/// Pages found, and whether there may be more of them in files.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub pages: Vec<PageId>,
    pub is_more: bool,
}

/// What a store did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixStatistics {
    /// Pages found.
    pub n_found: u64,
    /// Of those, pages that came from files.
    pub n_read: u64,
    /// Pages written to files.
    pub n_written: u64,
    /// Whether files were asked for, and pages cannot be written to them.
    pub is_disk_off: bool,
}

/// The pages of one model.
#[derive(Debug)]
pub(crate) struct PrefixStore {
    is_on: bool,
    is_shared: bool,
    settings: Key,
    max_pages: usize,
    cached: Cached,
    disk: Option<Disk>,
    /// Pages that are not handed over to be written yet.
    owed: VecDeque<Key>,
    statistics: PrefixStatistics,
}

impl PrefixStore {
    /// Opens the folder, if one is named. One that cannot be used is reported and done without.
    pub(crate) fn new(
        identity: ModelIdentity,
        layout: &PageLayout,
        options: &PrefixOptions,
    ) -> Self {
        let mut statistics = PrefixStatistics::default();
        let wanted = options.disk.as_ref().filter(|_| options.is_on);
        let disk = wanted.and_then(|disk| match Disk::open(&identity, layout, disk) {
            Ok(disk) => Some(disk),
            Err(error) => {
                let folder = disk.folder.display();
                tracing::warn!(%folder, %error, "prefixes are not kept on disk");
                statistics.is_disk_off = true;
                None
            }
        });
        let n_pages = |bytes: u64| bytes / layout.page_bytes() as u64;
        PrefixStore {
            is_on: options.is_on,
            is_shared: options.share_between_owners,
            settings: identity.settings(layout),
            max_pages: options.ram_bytes.map_or(usize::MAX, |bytes| {
                usize::try_from(n_pages(bytes)).unwrap_or(usize::MAX)
            }),
            cached: Cached::default(),
            disk,
            owed: VecDeque::new(),
            statistics,
        }
    }

    fn root(&self, owner: &Owner) -> Key {
        Key::root(self.settings, (!self.is_shared).then_some(owner))
    }

    /// The pages of the longest stored run that `tokens` begins with: full pages, and at least one token is left
    /// over, since its logits are wanted. The caller becomes a holder of each. What is only in files is read into
    /// pages of the pool, for which others are given up if need be, but no more at a time than takes about a tenth
    /// of a second. If there may be more, what was read stays in memory, and the next call finds that and reads on.
    pub(crate) fn find_some(
        &mut self,
        owner: &Owner,
        tokens: &[u32],
        pool: &mut PagePool,
    ) -> Found {
        // What may not stay in memory is read at once, or the next call would not get further.
        let n_most = if self.max_pages < tokens.len() / PAGE_POSITIONS {
            usize::MAX
        } else {
            (READ_BYTES / pool.layout().page_bytes()).max(1)
        };
        self.find_up_to(n_most, owner, tokens, pool)
    }

    /// Finds any number of pages in memory, and at most `n_left` in files.
    fn find_up_to(
        &mut self,
        mut n_left: usize,
        owner: &Owner,
        tokens: &[u32],
        pool: &mut PagePool,
    ) -> Found {
        let mut found = Found::default();
        if !self.is_on {
            return found;
        }
        self.work(pool);
        let root = self.root(owner);
        let n_most = tokens.len().saturating_sub(1) / PAGE_POSITIONS;
        let mut chain = links(root, &tokens[..n_most * PAGE_POSITIONS]).peekable();
        let mut links: Vec<Link> = Vec::new();
        while let Some(link) = chain.peek() {
            if let Some(page) = self.cached.get(link) {
                pool.share(page);
                found.pages.push(page);
                links.extend(chain.next());
                continue;
            }
            if n_left == 0 {
                found.is_more = true;
                break;
            }
            let missing = || chain.next_if(|link| self.cached.get(link).is_none());
            let missing = std::iter::from_fn(missing).take(GROUP.min(n_left));
            let missing: Vec<Link> = missing.collect();
            let pages = self.load(root, &missing, pool);
            let (n_read, n_wanted) = (pages.len(), missing.len());
            n_left -= n_read;
            found.pages.extend(pages);
            links.extend(missing.into_iter().take(n_read));
            if n_read < n_wanted {
                break;
            }
        }
        self.note_use(root, &links);
        found
    }

    fn note_use(&mut self, root: Key, links: &[Link]) {
        let keys: Vec<Key> = links.iter().map(|link| link.key).collect();
        self.cached.touch(&keys);
        if let (Some(disk), Some(link)) = (&mut self.disk, links.last()) {
            disk.touch(root, link);
        }
        self.statistics.n_found += links.len() as u64;
    }

    /// Reads pages from files, as many of the first ones as there are; the store and the caller hold each.
    fn load(&mut self, root: Key, links: &[Link], pool: &mut PagePool) -> Vec<PageId> {
        let Some(disk) = &mut self.disk else {
            return Vec::new();
        };
        let open = |link| disk.open_page(root, link);
        let mut files: Vec<_> = links.iter().map_while(open).collect();
        self.cached
            .evict(pool, |pool, _| pool.n_free() >= files.len());
        files.truncate(pool.n_free());
        let taken = (0..files.len()).map_while(|_| pool.take().ok());
        let mut pages: Vec<PageId> = taken.collect();
        let n_read = disk.read(files, pool.pages_mut(&pages));
        for page in pages.drain(n_read..) {
            pool.give_back(page);
        }
        self.statistics.n_read += n_read as u64;
        for (link, &page) in links.iter().zip(&pages) {
            // Its key is free, or it would not have been looked for.
            if self.cached.insert(link, root, page) {
                pool.share(page);
            }
        }
        pages
    }

    /// Remembers the full pages that hold `tokens`, of a sequence with this table, and holds each. To be called
    /// when pages have become full and are final: what is kept is never written again. Pages known already cost
    /// a hash each.
    pub(crate) fn keep(
        &mut self,
        owner: &Owner,
        tokens: &[u32],
        table: &[PageId],
        pool: &mut PagePool,
    ) {
        if !self.is_on {
            return;
        }
        let root = self.root(owner);
        let mut keys = Vec::new();
        let mut is_new = false;
        for (link, &page) in links(root, tokens).zip(table) {
            if self.cached.get(&link).is_none() {
                // Released by a window before it was ever kept: what comes after would not be found.
                if pool.n_holders(page) == 0 || !self.cached.insert(&link, root, page) {
                    break;
                }
                pool.share(page);
                self.owe(link.key);
                is_new = true;
            }
            keys.push(link.key);
        }
        if is_new {
            self.cached.touch(&keys);
        }
        self.work(pool);
    }

    fn owe(&mut self, key: Key) {
        if self.disk.as_ref().is_some_and(Disk::is_writing) {
            if self.owed.len() == MAX_OWED {
                self.owed.pop_front();
            }
            self.owed.push_back(key);
        }
    }

    /// Hands pages over to be written, as many as can be without waiting, and keeps the limit of memory. To be
    /// called now and then, also while nothing else happens, as long as it returns that there is more to do.
    pub(crate) fn work(&mut self, pool: &mut PagePool) -> bool {
        if self.disk.as_mut().is_some_and(|disk| !disk.settle()) {
            self.forget(pool);
        }
        self.write_owed(pool);
        if self.cached.len() > self.max_pages {
            let n_most = self.cached.n_evictable(pool).saturating_sub(self.max_pages);
            self.cached.evict(pool, |_, n_gone| n_gone >= n_most);
        }
        !self.owed.is_empty()
    }

    /// The file turned out to be another model than it was taken for.
    fn forget(&mut self, pool: &mut PagePool) {
        tracing::error!(
            "the model's file changed without its size or samples: kept prefixes are forgotten"
        );
        self.cached.clear(pool);
        self.owed.clear();
    }

    fn write_owed(&mut self, pool: &PagePool) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        if !disk.is_writing() {
            self.owed.clear();
        }
        while disk.can_write()
            && let Some(key) = self.owed.pop_front()
        {
            if let Some(node) = self.cached.node(key) {
                let link = Link {
                    key,
                    parent: node.parent,
                    tokens: node.tokens,
                };
                disk.write(node.root, link, pool.page(node.page));
            }
        }
    }

    /// Gives up least recently used pages until `n_pages` of the pool are free; returns whether they are.
    pub(crate) fn evict(&mut self, n_pages: usize, pool: &mut PagePool) -> bool {
        self.write_owed(pool);
        self.cached.evict(pool, |pool, _| pool.n_free() >= n_pages);
        pool.n_free() >= n_pages
    }

    /// Pages that [`PrefixStore::evict`] could free.
    pub(crate) fn n_evictable(&self, pool: &PagePool) -> usize {
        self.cached.n_evictable(pool)
    }

    /// Writes what is not in files yet, and waits for it, but not for longer than the end of a program may take.
    pub(crate) fn flush(&mut self, pool: &PagePool) {
        let until = Instant::now() + FLUSH_TIME;
        loop {
            self.write_owed(pool);
            let Some(disk) = self.disk.as_mut().filter(|disk| disk.is_busy()) else {
                return;
            };
            // What was computed with pages of another model must not be written as this one's.
            if disk.wait(until) != Some(true) {
                return;
            }
        }
    }

    /// What happened so far.
    pub(crate) fn statistics(&self) -> PrefixStatistics {
        let mut statistics = self.statistics;
        if let Some(disk) = &self.disk {
            statistics.n_written = disk.n_written;
            statistics.is_disk_off = !disk.is_writing();
        }
        statistics
    }
}
