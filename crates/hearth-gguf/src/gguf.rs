//! A model, opened: one file or several, one metadata, one directory.

use std::{
    fmt, fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use crate::{
    error::GgufError,
    file::Source,
    limits::MAX_TENSORS,
    metadata::Metadata,
    parse::{Head, parse},
    split::{self, SplitKeys},
    tensor::TensorInfo,
};

/// An open model. Share it in an `Arc`; it unmaps its files when the last owner drops it.
pub struct Gguf {
    sources: Vec<Source>,
    paths: Vec<PathBuf>,
    version: u32,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Numbers of tensors, sorted by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Maps a file and checks its head. Of a split model give the first part; the others are found beside it.
    ///
    /// # Errors
    /// Whatever is wrong with the file: see [`GgufError`].
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let source = Source::open(path)?;
        let head = parse(source.bytes(), 0)?;
        let mut gguf = Gguf::from_head(head, source);
        gguf.paths.push(path.to_owned());
        if let Some(keys) = SplitKeys::read(&gguf.metadata)? {
            gguf.add_shards(path, keys)?;
        }
        gguf.index()
    }

    /// A model that is part of the program.
    ///
    /// # Errors
    /// As [`open`](Self::open); a part of a split model is refused.
    pub fn from_static(bytes: &'static [u8]) -> Result<Gguf, GgufError> {
        Gguf::from_memory(Source::Static(bytes))
    }

    /// A model in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open); a part of a split model is refused.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        Gguf::from_memory(Source::Owned(bytes))
    }

    fn from_memory(source: Source) -> Result<Gguf, GgufError> {
        let head = parse(source.bytes(), 0)?;
        if let Some(SplitKeys { count, .. }) = SplitKeys::read(&head.metadata)? {
            return Err(GgufError::SplitNeedsPath { count });
        }
        Gguf::from_head(head, source).index()
    }

    fn from_head(head: Head, source: Source) -> Gguf {
        let Head {
            version,
            alignment,
            metadata,
            tensors,
        } = head;
        Gguf {
            sources: vec![source],
            paths: Vec::new(),
            version,
            alignment,
            metadata,
            tensors,
            by_name: Vec::new(),
        }
    }

    /// Opens the other parts of a split model and takes over their tensors.
    fn add_shards(&mut self, first: &Path, keys: SplitKeys) -> Result<(), GgufError> {
        if keys.no != 0 {
            return Err(GgufError::NotFirstShard {
                no: keys.no.saturating_add(1),
                count: keys.count,
            });
        }
        for no in 1..keys.count {
            let path = split::sibling(first, no, keys.count)?;
            let within = |source: GgufError| GgufError::Shard {
                path: path.clone(),
                source: Box::new(source),
            };
            let source = match Source::open(&path) {
                Err(GgufError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(GgufError::MissingShard {
                        no: no + 1,
                        count: keys.count,
                        path,
                    });
                }
                other => other.map_err(within)?,
            };
            let head = parse(source.bytes(), no as u32).map_err(within)?;
            let count = head.metadata.require_u64("split.count").map_err(within)?;
            if count != keys.count {
                return Err(GgufError::ShardCount {
                    path,
                    expected: keys.count,
                    found: count,
                });
            }
            let found = head.metadata.require_u64("split.no").map_err(within)?;
            if found != no {
                return Err(GgufError::ShardOrder {
                    path,
                    expected: no + 1,
                    found: found.saturating_add(1),
                });
            }
            self.tensors.extend(head.tensors);
            if self.tensors.len() as u64 > MAX_TENSORS {
                let count = self.tensors.len() as u64;
                return Err(GgufError::CountLimit {
                    what: "tensors",
                    count,
                    limit: MAX_TENSORS,
                    offset: 8,
                });
            }
            self.sources.push(source);
            self.paths.push(path);
        }
        let found = self.tensors.len() as u64;
        match keys.n_tensors {
            Some(expected) if expected != found => Err(GgufError::ShardTensors { expected, found }),
            _ => Ok(()),
        }
    }

    /// Sorts the names, and refuses the same name twice.
    fn index(mut self) -> Result<Gguf, GgufError> {
        let name = |i: u32| self.tensors[i as usize].name.as_str();
        let mut by_name: Vec<u32> = (0..self.tensors.len() as u32).collect();
        by_name.sort_unstable_by(|&a, &b| name(a).cmp(name(b)));
        if let Some(pair) = by_name
            .windows(2)
            .find(|pair| name(pair[0]) == name(pair[1]))
        {
            return Err(GgufError::DuplicateTensor {
                name: name(pair[0]).to_owned(),
            });
        }
        self.by_name = by_name;
        Ok(self)
    }

    /// The metadata; of a split model, that of the first file.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the files and their directories.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let name_of = |i: &u32| self.tensors[*i as usize].name.as_str();
        let found = self
            .by_name
            .binary_search_by(|i| name_of(i).cmp(name))
            .ok()?;
        Some(&self.tensors[self.by_name[found] as usize])
    }

    /// The bytes of a tensor of this model, as they lie in the file: exactly its rows of blocks.
    ///
    /// # Panics
    /// When the tensor belongs to another model.
    #[must_use]
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let start = tensor.offset as usize;
        self.sources
            .get(tensor.file as usize)
            .and_then(|source| source.bytes().get(start..start + tensor.n_bytes as usize))
            .expect("a tensor is asked of the model it belongs to: its range was checked when that was opened")
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.sources
            .iter()
            .map(|source| source.bytes().len() as u64)
            .sum()
    }

    /// All bytes of one of the files.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn file(&self, index: usize) -> &[u8] {
        self.sources[index].bytes()
    }

    /// What the system told of one of the files when it was opened; `None` for a model in memory.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn file_metadata(&self, index: usize) -> Option<&fs::Metadata> {
        self.sources[index].metadata()
    }

    /// Bytes of one of the files before its first tensor.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn head_bytes(&self, index: usize) -> usize {
        let tensors = self.tensors.iter();
        let starts = tensors
            .filter(|tensor| tensor.file as usize == index)
            .map(|tensor| tensor.offset as usize);
        starts.min().unwrap_or(self.file(index).len())
    }

    /// How many files the model consists of.
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.sources.len()
    }

    /// The paths of the files, in order; empty for a model in memory.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The version of the format, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Tensor data begins at multiples of this.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The share of the files that is in memory, 0 to 1; `None` where the system does not tell.
    #[must_use]
    pub fn resident_fraction(&self) -> Option<f32> {
        let resident = self
            .sources
            .iter()
            .map(Source::resident_bytes)
            .sum::<Option<u64>>()?;
        Some((resident as f64 / self.file_bytes() as f64) as f32)
    }

    /// Reads all files in order of address, so that a cold model comes at the pace of the disk and not page by page as it
    /// is first used. `progress` hears the bytes done and in all, about once per MiB, and may stop it.
    pub fn read_ahead(&self, progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>) {
        let (total, mut before) = (self.file_bytes(), 0);
        for source in &self.sources {
            if source
                .read_ahead(&mut |done| progress(before + done, total))
                .is_break()
            {
                return;
            }
            before += source.bytes().len() as u64;
        }
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("paths", &self.paths)
            .field("version", &self.version)
            .field("n_keys", &self.metadata.len())
            .field("n_tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
