//! The bytes of one file, from wherever they come.

use std::{
    fs::{File, Metadata},
    ops::ControlFlow,
    path::Path,
};

use crate::{error::GgufError, map::Map};

/// Bytes that do not change while they are held.
pub(crate) enum Source {
    Mapped(Map, Metadata),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Source {
    /// Maps a file, after making sure that the path leads to one.
    pub fn open(path: &Path) -> Result<Source, GgufError> {
        let failed = |source| GgufError::Open {
            path: path.to_owned(),
            source,
        };
        // Before opening: to open a pipe is to wait for its writer.
        let kind = std::fs::metadata(path).map_err(failed)?;
        if kind.is_dir() {
            return Err(GgufError::Directory {
                path: path.to_owned(),
            });
        }
        if !kind.is_file() {
            return Err(GgufError::NotRegular {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.len() == 0 {
            return Err(GgufError::Empty);
        }
        let map = Map::new(&file).map_err(failed)?;
        Ok(Source::Mapped(map, metadata))
    }

    /// What the system told of the file when it was opened.
    pub fn metadata(&self) -> Option<&Metadata> {
        match self {
            Source::Mapped(_, metadata) => Some(metadata),
            Source::Static(_) | Source::Owned(_) => None,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Source::Mapped(map, _) => map.bytes(),
            Source::Static(bytes) => bytes,
            Source::Owned(bytes) => bytes,
        }
    }

    /// Bytes in memory; what is not mapped from a file is there.
    pub fn resident_bytes(&self) -> Option<u64> {
        match self {
            Source::Mapped(map, _) => map.resident_bytes(),
            Source::Static(_) | Source::Owned(_) => Some(self.bytes().len() as u64),
        }
    }

    /// Reads every page in order of address; `step` hears the bytes done so far.
    pub fn read_ahead(&self, step: &mut dyn FnMut(u64) -> ControlFlow<()>) -> ControlFlow<()> {
        /// Progress and cancellation happen this often.
        const STEP: usize = 1 << 20;
        /// The system is told about this much in advance, so that the disk is never idle between two steps.
        const AHEAD: usize = 16 << 20;
        /// No system has smaller pages.
        const PAGE: usize = 4096;
        let bytes = self.bytes();
        let mut announced = 0;
        for start in (0..bytes.len()).step_by(STEP) {
            if let Source::Mapped(map, _) = self {
                let end = (start + STEP + AHEAD).min(bytes.len());
                if end - announced >= AHEAD / 2 || (end == bytes.len() && announced < end) {
                    map.will_need(announced, end - announced);
                    announced = end;
                }
            }
            let chunk = &bytes[start..(start + STEP).min(bytes.len())];
            // One byte of each page brings the page in; black_box keeps the reads.
            std::hint::black_box(chunk.iter().step_by(PAGE).fold(0_u8, |sum, &b| sum ^ b));
            step((start + chunk.len()) as u64)?;
        }
        ControlFlow::Continue(())
    }
}
