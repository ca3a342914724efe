//! The store with real models, real files and other processes.

mod conservation;
mod files;
mod models;

use std::{
    env, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::KvType;
use hearth_model::{Model, ModelOptions};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

use super::*;

/// A folder of its own for each test, removed at the end.
pub(super) struct TempFolder(pub PathBuf);

impl TempFolder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("hearth-prefix-{}-{n}", std::process::id()));
        fs::create_dir(&path).unwrap();
        TempFolder(path)
    }

    pub fn options(&self) -> PrefixOptions {
        PrefixOptions {
            disk: Some(DiskOptions::new(self.0.clone())),
            ..PrefixOptions::default()
        }
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn model() -> Model {
    load(TinyModel::new("llama", TensorType::Q4_0).build())
}

fn load(file: Vec<u8>) -> Model {
    let gguf = Arc::new(Gguf::from_vec(file).unwrap());
    Model::load(gguf, ModelOptions::default()).unwrap()
}

fn owner(name: &str) -> Owner {
    Owner {
        name: name.into(),
        weight: 1,
    }
}

pub(super) fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32)
        .map(|i| 3 + (seed + i * 37) % (N_VOCAB - 3))
        .collect()
}

/// A store with its pool. Pages are filled with bytes that tell which tokens they stand for.
pub(super) struct Rig {
    pub store: PrefixStore,
    pool: PagePool,
    owner: Owner,
}

impl Rig {
    pub fn new(options: &PrefixOptions) -> Rig {
        Rig::of(&model(), options, 64)
    }

    fn of(model: &Model, options: &PrefixOptions, n_pages: usize) -> Rig {
        let pool = PagePool::new(model, KvType::F16, n_pages * PAGE_POSITIONS).unwrap();
        let store = PrefixStore::new(ModelIdentity::of(model), pool.layout(), options);
        Rig {
            store,
            pool,
            owner: owner("ann"),
        }
    }

    fn mark(tokens: &[u32], page: usize) -> u8 {
        let end = (page + 1) * PAGE_POSITIONS;
        Key::of(
            "mark",
            &[&tokens[..end]
                .iter()
                .flat_map(|t| t.to_le_bytes())
                .collect::<Vec<_>>()],
        )
        .0[0]
    }

    /// What a sequence does that reads `tokens` and ends: the number of pages it found.
    pub fn read(&mut self, tokens: &[u32]) -> usize {
        let mut table = self
            .store
            .find_up_to(usize::MAX, &self.owner, tokens, &mut self.pool)
            .pages;
        for (index, &page) in table.iter().enumerate() {
            let (bytes, mark) = (self.pool.page(page), Self::mark(tokens, index));
            assert!(
                bytes.iter().all(|byte| *byte == mark),
                "page {index} holds another's bytes"
            );
        }
        let n_found = table.len();
        for index in n_found..tokens.len() / PAGE_POSITIONS {
            self.store.evict(1, &mut self.pool);
            let page = self.pool.take().unwrap();
            self.pool.pages_mut(&[page])[0].fill(Self::mark(tokens, index));
            table.push(page);
        }
        self.store.keep(&self.owner, tokens, &table, &mut self.pool);
        table.into_iter().for_each(|page| self.pool.give_back(page));
        n_found
    }

    fn n_found(&mut self, tokens: &[u32]) -> usize {
        let pages = self
            .store
            .find_up_to(usize::MAX, &self.owner, tokens, &mut self.pool)
            .pages;
        pages.iter().for_each(|&page| self.pool.give_back(page));
        pages.len()
    }

    pub fn flush(&mut self) {
        self.store.flush(&self.pool);
        assert!(!self.store.statistics().is_disk_off);
    }
}

/// All files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn page_files(folder: &TempFolder) -> Vec<PathBuf> {
    let mut found = files(&folder.0);
    found.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "page")
    });
    found
}

/// The file of page `index` of ann's chain of `tokens`.
fn page_file(folder: &TempFolder, rig: &Rig, tokens: &[u32], index: usize) -> PathBuf {
    let link = links(rig.store.root(&rig.owner), tokens)
        .nth(index)
        .unwrap();
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&link.key.to_string())
    };
    page_files(folder).into_iter().find(is_it).unwrap()
}

#[test]
fn at_least_one_token_is_left_over() {
    let mut rig = Rig::new(&PrefixOptions::default());
    assert_eq!(rig.read(&tokens(256, 1)), 0);
    for (n, n_found) in [
        (0, 0),
        (1, 0),
        (64, 0),
        (65, 1),
        (255, 3),
        (256, 3),
        (257, 4),
        (400, 4),
    ] {
        assert_eq!(rig.n_found(&tokens(n, 1)), n_found, "{n} tokens");
    }
    let mut other = tokens(256, 1);
    other[130] += 1;
    assert_eq!(rig.n_found(&other), 2, "as far as they are the same");
}

#[test]
fn switched_off_nothing_is_kept() {
    let folder = TempFolder::new();
    let options = PrefixOptions {
        is_on: false,
        ..folder.options()
    };
    let mut rig = Rig::new(&options);
    assert_eq!(
        (rig.read(&tokens(200, 1)), rig.read(&tokens(200, 1))),
        (0, 0)
    );
    assert_eq!(rig.pool.n_free(), 64);
    assert_eq!(files(&folder.0), Vec::<PathBuf>::new());
}

/// Neither from memory nor from files, and the attempt leaves no trace in what is counted.
#[test]
fn an_owner_finds_nothing_of_another() {
    let folder = TempFolder::new();
    let mut rig = Rig::new(&folder.options());
    rig.read(&tokens(300, 1));
    rig.flush();
    let counted = rig.store.statistics();
    for name in ["bob", "", "ann ", "Ann"] {
        rig.owner = owner(name);
        assert_eq!(rig.n_found(&tokens(300, 1)), 0, "{name:?}");
    }
    assert_eq!(rig.store.statistics(), counted);
    // The weight of an owner is not who it is.
    rig.owner = Owner {
        weight: 7,
        ..owner("ann")
    };
    assert_eq!(rig.n_found(&tokens(300, 1)), 4);

    drop(rig);
    let mut rig = Rig::new(&folder.options());
    rig.owner = owner("bob");
    assert_eq!(rig.n_found(&tokens(300, 1)), 0);
    assert_eq!(rig.store.statistics().n_read, 0);
    rig.owner = owner("ann");
    assert_eq!(rig.n_found(&tokens(300, 1)), 4);
    assert_eq!(rig.store.statistics().n_read, 4);
}

#[test]
fn owners_share_when_they_are_told_to() {
    let options = PrefixOptions {
        share_between_owners: true,
        ..PrefixOptions::default()
    };
    let mut rig = Rig::new(&options);
    rig.read(&tokens(300, 1));
    rig.owner = owner("bob");
    assert_eq!(rig.n_found(&tokens(300, 1)), 4);
}

#[test]
fn the_least_recently_used_goes_first_and_ends_before_beginnings() {
    let mut rig = Rig::of(&model(), &PrefixOptions::default(), 10);
    let [old, new] = [tokens(256, 1), tokens(256, 2)];
    rig.read(&old);
    rig.read(&new);
    assert_eq!(
        (rig.pool.n_free(), rig.store.n_evictable(&rig.pool)),
        (2, 8)
    );
    assert_eq!(
        rig.n_found(&tokens(257, 1)),
        4,
        "now it is the one used last"
    );

    assert!(rig.store.evict(3, &mut rig.pool));
    assert!(rig.store.evict(4, &mut rig.pool));
    // Looking is using: so in the order in which they were used before.
    assert_eq!(rig.n_found(&tokens(257, 2)), 2);
    assert_eq!(rig.n_found(&tokens(257, 1)), 4);

    let held = rig
        .store
        .find_up_to(usize::MAX, &rig.owner, &tokens(257, 1), &mut rig.pool)
        .pages;
    assert!(!rig.store.evict(10, &mut rig.pool), "four are held");
    assert_eq!(
        (rig.pool.n_free(), rig.store.n_evictable(&rig.pool)),
        (6, 0)
    );
    held.iter().for_each(|&page| rig.pool.give_back(page));
    assert!(rig.store.evict(10, &mut rig.pool));
    assert_eq!(rig.n_found(&tokens(257, 1)), 0);
}

#[test]
fn memory_has_its_limit() {
    let page_bytes = PagePool::new(&model(), KvType::F16, 64)
        .unwrap()
        .layout()
        .page_bytes() as u64;
    let options = PrefixOptions {
        ram_bytes: Some(3 * page_bytes + 1),
        ..PrefixOptions::default()
    };
    let mut rig = Rig::new(&options);
    rig.read(&tokens(640, 1));
    rig.store.work(&mut rig.pool);
    assert_eq!(rig.pool.n_free(), 61);
    assert_eq!(rig.n_found(&tokens(641, 1)), 3, "the beginning stays");
}

/// Pages that are loaded take the place of others, but never of those just found.
#[test]
fn a_prefix_larger_than_the_pool_comes_as_far_as_there_is_room() {
    let folder = TempFolder::new();
    let mut rig = Rig::of(&model(), &folder.options(), 16);
    rig.read(&tokens(12 * 64, 1));
    rig.flush();
    rig.read(&tokens(12 * 64, 2));
    rig.flush();
    assert_eq!(rig.n_found(&tokens(12 * 64 + 1, 1)), 12);
    assert_eq!(rig.n_found(&tokens(12 * 64 + 1, 2)), 12);
    drop(rig);
    let mut rig = Rig::of(&model(), &folder.options(), 5);
    assert_eq!(rig.n_found(&tokens(12 * 64 + 1, 1)), 5);
    assert_eq!(rig.n_found(&tokens(12 * 64 + 1, 2)), 5);
    assert_eq!(rig.pool.n_free() + rig.store.n_evictable(&rig.pool), 5);
}
