//! Models split into several files: how the parts are named, and what each must say about itself.
//!
//! The first part has the metadata; every part has `split.no`, `split.count` and its own share of the tensors.

use std::path::{Path, PathBuf};

use crate::{error::GgufError, metadata::Metadata};

/// What a file says about the model it is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SplitKeys {
    pub no: u64,
    pub count: u64,
    pub n_tensors: Option<u64>,
}

impl SplitKeys {
    /// `None` for a file that is a whole model.
    pub fn read(metadata: &Metadata) -> Result<Option<SplitKeys>, GgufError> {
        let count = metadata.get_u64("split.count")?.unwrap_or(0);
        if count <= 1 {
            return Ok(None);
        }
        let no = metadata.require_u64("split.no")?;
        let n_tensors = metadata.get_u64("split.tensors.count")?;
        Ok(Some(SplitKeys {
            no,
            count,
            n_tensors,
        }))
    }
}

/// The end of the name of part `no`, counted from 0: `-00001-of-00003.gguf`.
pub(crate) fn suffix(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no.saturating_add(1))
}

/// The name of part `no` (counted from 0) of a model split into `count` files.
#[must_use]
pub fn shard_name(prefix: &str, no: u64, count: u64) -> String {
    format!("{prefix}{}", suffix(no, count))
}

/// The number of a part (counted from 0) and the number of parts, from the name of a file; `None` for other names.
#[must_use]
pub fn shard_of(file_name: &str) -> Option<(u64, u64)> {
    let stem = file_name.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (_, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        (digits.len() == 5)
            .then(|| digits.parse::<u64>().ok())
            .flatten()
    };
    let (no, count) = (number(no)?, number(count)?);
    (1 <= no && no <= count).then(|| (no - 1, count))
}

/// The path of part `no` beside the first part.
pub(crate) fn sibling(first: &Path, no: u64, count: u64) -> Result<PathBuf, GgufError> {
    let prefix = first
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(&suffix(0, count)));
    match prefix {
        Some(prefix) => Ok(first.with_file_name(shard_name(prefix, no, count))),
        None => Err(GgufError::ShardName {
            path: first.to_owned(),
            count,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_made_and_read_back() {
        assert_eq!(shard_name("model", 1, 3), "model-00002-of-00003.gguf");
        assert_eq!(shard_of("a-b-00002-of-00003.gguf"), Some((1, 3)));
        for other in [
            "model.gguf",
            "m-00000-of-00003.gguf",
            "m-00004-of-00003.gguf",
            "m-2-of-3.gguf",
            "m-00001-of-00003.bin",
        ] {
            assert_eq!(shard_of(other), None, "{other}");
        }
        let path = sibling(Path::new("/models/m-00001-of-00002.gguf"), 1, 2).expect("well named");
        assert_eq!(path, Path::new("/models/m-00002-of-00002.gguf"));
        assert!(matches!(
            sibling(Path::new("m.gguf"), 1, 2),
            Err(GgufError::ShardName { count: 2, .. })
        ));
    }
}
