//! What the word MODEL on the command line means: a file, a name in the store, or the built-in model.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_gguf::Gguf;
use hearth_server::models::ModelFile;

use crate::builtin;
use crate::env;
use crate::failure::{Failure, one_line};

/// A model that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// `spark`, part of the program.
    Builtin,
    /// A GGUF file.
    File(PathBuf),
}

impl ModelRef {
    /// A word with a slash or ending in `.gguf` is a path, `spark` is the built-in model; other words are names in the store.
    pub fn parse(word: &OsStr) -> Result<ModelRef, Failure> {
        let text = word.to_string_lossy();
        if text == builtin::NAME {
            return Ok(ModelRef::Builtin);
        }
        if text.contains(std::path::is_separator) || text.ends_with(".gguf") {
            return Ok(ModelRef::File(word.into()));
        }
        let store = store()?;
        let files = hearth_server::models::in_folder(&store);
        let name = hearth_server::models::without_latest(&text);
        if let Some((_, path)) = files
            .iter()
            .find(|(known, _)| known == name || *known == text)
        {
            return Ok(ModelRef::File(path.clone()));
        }
        let hint = if Path::new(word).exists() {
            format!("for the file of that name, write ./{text}")
        } else if files.is_empty() {
            format!(
                "give the path of a GGUF file, put one into the store, or write '{}'",
                builtin::NAME
            )
        } else {
            let names: Vec<&str> = files
                .iter()
                .take(5)
                .map(|(name, _)| name.as_str())
                .collect();
            format!("the store has: {}", names.join(", "))
        };
        Err(Failure::input(format!(
            "no model is called '{text}' in the store, '{}'",
            store.display()
        ))
        .hint(hint))
    }

    /// The name clients of a server call it by when nobody gives it another.
    pub fn name(&self) -> String {
        match self {
            ModelRef::Builtin => builtin::NAME.into(),
            ModelRef::File(path) => hearth_server::models::of_file(path),
        }
    }

    /// The bytes, as a server takes them.
    pub fn file(&self) -> ModelFile {
        match self {
            ModelRef::Builtin => ModelFile::Builtin(builtin::bytes()),
            ModelRef::File(path) => ModelFile::Path(path.clone()),
        }
    }

    /// Opens and checks the file.
    pub fn open(&self) -> Result<Arc<Gguf>, Failure> {
        let gguf = match self {
            ModelRef::Builtin => Gguf::from_static(builtin::bytes())?,
            ModelRef::File(path) => {
                check_is_file(path)?;
                Gguf::open(path)?
            }
        };
        Ok(Arc::new(gguf))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelRef::Builtin => f.write_str(builtin::NAME),
            ModelRef::File(path) => f.write_str(&one_line(&path.to_string_lossy())),
        }
    }
}

/// The folder whose GGUF files are the store.
pub fn store() -> Result<PathBuf, Failure> {
    Ok(env::home()?.join("models"))
}

/// The commonest mistakes about a path, told apart before the file format has a say.
fn check_is_file(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::input(format!("there is no file '{shown}'"))
            .caused_by(&error)
            .hint(missing_hint(path)),
        _ => Failure::input(format!("cannot open '{shown}': {error}"))
            .hint("may you read this file?"),
    })?;
    if metadata.is_dir() {
        let hint = match ggufs_in(path).as_slice() {
            [] => "give the path of a GGUF file".to_string(),
            names => format!("give one of the GGUF files in it: {}", names.join(", ")),
        };
        return Err(
            Failure::input(format!("'{shown}' is a directory, not a GGUF file")).hint(hint),
        );
    }
    Ok(())
}

fn missing_hint(path: &Path) -> String {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match ggufs_in(folder).as_slice() {
        [] if !folder.is_dir() => format!(
            "there is no directory '{}' either; check the path",
            folder.display()
        ),
        [] => "check the path; there is no GGUF file in that directory".into(),
        names => format!("that directory has: {}", names.join(", ")),
    }
}

/// A few names of GGUF files in a folder, sorted.
fn ggufs_in(folder: &Path) -> Vec<String> {
    const SHOWN: usize = 5;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| one_line(&entry.file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".gguf"))
        .collect();
    names.sort();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("and {more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_paths_or_spark_or_names() {
        let parse = |word: &str| ModelRef::parse(OsStr::new(word)).ok();
        assert_eq!(parse("spark"), Some(ModelRef::Builtin));
        for path in ["a.gguf", "./spark", "dir/file", "/x.bin", "../x"] {
            assert_eq!(parse(path), Some(ModelRef::File(path.into())), "{path}");
        }
        for name in ["no such model", ""] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
