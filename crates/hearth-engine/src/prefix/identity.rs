//! Which model pages belong to, known without reading it.
//!
//! Pages on disk belong to the SHA-256 of the whole file. It is computed once, slowly, in the background, and
//! remembered under the file's stamp: device, inode, size and modification time. A file with a new stamp, say a
//! copy, is recognised at once by a hash of its head, its size and samples of its weights; what it is taken
//! for is then checked in the background. A file never seen before has no pages on disk to be found.
//!
//! What changes numbers besides the file is hashed apart: this program's version, the plan with its rope
//! tables (which may depend on the context), and the type of keys and values.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
    time::{Instant, UNIX_EPOCH},
};

use hearth_gguf::Gguf;
use hearth_model::{Model, PageLayout};
use sha2::{Digest, Sha256};

use super::{
    chain::Key,
    header::FORMAT,
    private::{place, private},
};

/// Raised whenever `docs/numerics.md` changes what a step computes within one version of the program.
const NUMERICS: u32 = 1;

/// Places in the weights that the quick hash looks at, and bytes of each.
const SAMPLES: usize = 64;
const SAMPLE_BYTES: usize = 4096;

/// Bytes hashed between two looks at the clock.
const PACE_BYTES: usize = 1 << 20;

/// The most models that are remembered.
const MAX_REMEMBERED: usize = 1000;

/// A model's file, and the settings that change its numbers.
#[derive(Clone, Debug)]
pub(crate) struct ModelIdentity {
    gguf: Arc<Gguf>,
    settings: Key,
}

impl ModelIdentity {
    /// Reads nothing of the weights.
    pub(crate) fn of(model: &Model) -> Self {
        let plan = model.plan();
        let plan = format!(
            "{} {:?} {:?} {:?}",
            plan.family, plan.steps, plan.ropes, plan.states
        );
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        ModelIdentity {
            gguf: model.gguf().clone(),
            settings: Key::of(
                "hearth settings",
                &[version, &NUMERICS.to_le_bytes(), plan.as_bytes()],
            ),
        }
    }

    /// Everything but the file that keys and values depend on.
    pub(super) fn settings(&self, layout: &PageLayout) -> Key {
        let format = layout.kv_type().page_format().to_le_bytes();
        Key::of("hearth pages", &[&self.settings.0, &format])
    }

    /// What pages of this layout in files belong to, given the SHA-256 of the file.
    pub(super) fn with(&self, file: Key, layout: &PageLayout) -> Key {
        let page_bytes = (layout.page_bytes() as u64).to_le_bytes();
        let settings = self.settings(layout);
        Key::of(
            "hearth identity",
            &[&file.0, &settings.0, &page_bytes, &FORMAT.to_le_bytes()],
        )
    }

    /// Device, inode, size and time of the files as they were opened; none for a model that has no files.
    pub(super) fn stamp(&self) -> Option<Key> {
        let mut all = Vec::new();
        for (file, path) in self.gguf.paths().iter().enumerate() {
            let metadata = self.gguf.file_metadata(file)?;
            let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            all.extend(metadata.len().to_le_bytes());
            all.extend(modified.as_nanos().to_le_bytes());
            all.extend(place(path, metadata));
        }
        (!all.is_empty()).then(|| Key::of("hearth stamp", &[&all]))
    }

    /// The head, the size and samples of the weights.
    pub(super) fn quick(&self) -> Key {
        let mut parts: Vec<&[u8]> = Vec::new();
        let sizes: Vec<[u8; 8]> = (0..self.gguf.n_files())
            .map(|file| (self.gguf.file(file).len() as u64).to_le_bytes())
            .collect();
        for (file, size) in sizes.iter().enumerate() {
            let bytes = self.gguf.file(file);
            let (head, weights) = bytes.split_at(self.gguf.head_bytes(file));
            parts.extend([size, head]);
            let stride = (weights.len() / SAMPLES).max(SAMPLE_BYTES);
            parts.extend(
                weights
                    .chunks(stride)
                    .map(|part| &part[..part.len().min(SAMPLE_BYTES)]),
            );
        }
        Key::of("hearth model", &parts)
    }

    /// The SHA-256 of all files, read with at most a quarter of one processor until `is_urgent`; none when
    /// `is_over` before it is done.
    pub(super) fn full(
        &self,
        is_urgent: &dyn Fn() -> bool,
        is_over: &dyn Fn() -> bool,
    ) -> Option<Key> {
        let mut sha = Sha256::new();
        for file in 0..self.gguf.n_files() {
            for part in self.gguf.file(file).chunks(PACE_BYTES) {
                let start = Instant::now();
                sha.update(part);
                if is_over() {
                    return None;
                }
                if !is_urgent() {
                    std::thread::sleep(3 * start.elapsed());
                }
            }
        }
        Some(Key(sha.finalize().into()))
    }
}

/// SHA-256 of files seen before, one line each: stamp, quick hash, full hash.
#[derive(Debug, Default)]
pub(super) struct Remembered(Vec<[Key; 3]>);

impl Remembered {
    /// Reads the list; what cannot be read is not known.
    pub(super) fn read(path: &Path) -> Remembered {
        let mut text = String::new();
        // More lines than are ever written.
        let n_most = 2 * MAX_REMEMBERED as u64 * 200;
        let read =
            fs::File::open(path).and_then(|file| file.take(n_most).read_to_string(&mut text));
        if read.is_err() {
            return Remembered::default();
        }
        let line = |line: &str| {
            let mut keys = line.split(' ').map(Key::parse);
            let line = [keys.next()??, keys.next()??, keys.next()??];
            keys.next().is_none().then_some(line)
        };
        Remembered(text.lines().filter_map(line).collect())
    }

    pub(super) fn by_stamp(&self, stamp: Key) -> Option<Key> {
        self.last(|[known, _, _]| *known == stamp)
    }

    pub(super) fn by_quick(&self, quick: Key) -> Option<Key> {
        self.last(|[_, known, _]| *known == quick)
    }

    fn last(&self, is_it: impl Fn(&[Key; 3]) -> bool) -> Option<Key> {
        let found = self.0.iter().rev().find(|line| is_it(line))?;
        Some(found[2])
    }

    /// Adds a file and writes the list, replacing the old one at once.
    pub(super) fn add(mut self, path: &Path, line: [Key; 3]) -> io::Result<()> {
        self.0.retain(|known| known[0] != line[0]);
        self.0.push(line);
        let n_old = self.0.len().saturating_sub(MAX_REMEMBERED);
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = private().write(true).create_new(true).open(&new)?;
        let mut text = String::new();
        for [stamp, quick, full] in &self.0[n_old..] {
            text.push_str(&format!("{stamp} {quick} {full}\n"));
        }
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    }
}
