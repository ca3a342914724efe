//! Pages in memory: which keys they have, and which are given up first.
//!
//! Each page counts the store among its holders, so its pool keeps it after the sequence that computed it has
//! ended. One that only the store holds may be given up. The least recently used goes first, and of one
//! chain the end before the beginning: without its beginning nothing of a chain is found. A page that a
//! sequence still holds stays; should what came before it go, it is found again once that is computed again.

use std::collections::{BTreeMap, HashMap};

use hearth_model::{PageId, PagePool};

use super::chain::{Key, Link, PageTokens};

/// A page in memory.
#[derive(Debug)]
pub(super) struct Node {
    pub page: PageId,
    pub parent: Key,
    pub tokens: PageTokens,
    /// Root of its chain.
    pub root: Key,
    /// Its time in `Cached::by_use`.
    used: u64,
}

/// The pages in memory.
#[derive(Debug, Default)]
pub(super) struct Cached {
    nodes: HashMap<Key, Node>,
    /// Keys in the order in which pages are given up.
    by_use: BTreeMap<u64, Key>,
    clock: u64,
}

impl Cached {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, key: Key) -> Option<&Node> {
        self.nodes.get(&key)
    }

    /// The page of a link. What has its key but other tokens, or another page before it, is not it.
    pub(super) fn get(&self, link: &Link) -> Option<PageId> {
        let node = self.nodes.get(&link.key)?;
        (node.parent == link.parent && node.tokens == link.tokens).then_some(node.page)
    }

    /// Adds a page that the caller has made the store a holder of; false, and nothing, if its key is taken.
    pub(super) fn insert(&mut self, link: &Link, root: Key, page: PageId) -> bool {
        if self.nodes.contains_key(&link.key) {
            return false;
        }
        self.clock += 1;
        self.by_use.insert(self.clock, link.key);
        let node = Node {
            page,
            parent: link.parent,
            tokens: link.tokens,
            root,
            used: self.clock,
        };
        self.nodes.insert(link.key, node);
        true
    }

    /// Marks the pages of a chain as just used; the first of them is the first page of the chain.
    pub(super) fn touch(&mut self, keys: &[Key]) {
        // Ends get older times than beginnings, so that the order of times alone is the order of eviction.
        self.clock += keys.len() as u64;
        for (key, used) in keys.iter().zip((0..=self.clock).rev()) {
            if let Some(node) = self.nodes.get_mut(key) {
                self.by_use.remove(&node.used);
                self.by_use.insert(used, *key);
                node.used = used;
            }
        }
    }

    /// Gives up pages that nobody else holds, until `is_enough`, asked with the number of those given up.
    pub(super) fn evict(
        &mut self,
        pool: &mut PagePool,
        is_enough: impl Fn(&PagePool, usize) -> bool,
    ) {
        let mut gone = Vec::new();
        for (&used, key) in &self.by_use {
            if is_enough(pool, gone.len()) {
                break;
            }
            let page = self.nodes[key].page;
            if pool.n_holders(page) == 1 {
                pool.give_back(page);
                gone.push(used);
            }
        }
        for used in gone {
            if let Some(key) = self.by_use.remove(&used) {
                self.nodes.remove(&key);
            }
        }
    }

    /// Pages that nobody else holds.
    pub(super) fn n_evictable(&self, pool: &PagePool) -> usize {
        self.nodes
            .values()
            .filter(|node| pool.n_holders(node.page) == 1)
            .count()
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> impl Iterator<Item = PageId> {
        self.nodes.values().map(|node| node.page)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, pool: &mut PagePool) {
        for node in self.nodes.values() {
            pool.give_back(node.page);
        }
        self.nodes.clear();
        self.by_use.clear();
    }
}
