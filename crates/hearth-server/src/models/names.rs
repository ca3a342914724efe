//! Names of models: what they look like, and which files of a folder have which.
//!
//! A name that a client sends is only ever looked up in a table. The table is made from the command line and from the names of
//! files that are there, so no text of a request becomes a path.

use std::path::{Path, PathBuf};

use hearth_gguf::shard_of;

/// Folders below the store that are looked into: `organisation/model/file.gguf`.
const MAX_DEPTH: usize = 3;
/// Files of a store; one with more is somebody's whole disk.
const MAX_FILES: usize = 10_000;

/// Whether a text can be the name of a model: parts of visible characters between slashes, none of which leads anywhere.
pub fn is_name(text: &str, max_bytes: usize) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_char = |c: char| {
        !c.is_control() && !matches!(c, '\\' | '%' | '?' | '#' | '<' | '>' | '|' | '*' | '"')
    };
    let is_drive =
        text.as_bytes().get(1) == Some(&b':') && text.as_bytes()[0].is_ascii_alphabetic();
    (1..=max_bytes).contains(&text.len())
        && text.split('/').all(is_part)
        && text.chars().all(is_char)
        && text.trim() == text
        && !is_drive
        && !text.contains("://")
        && !text.starts_with('~')
}

/// A name without the tag that says nothing.
pub fn without_latest(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

/// Whether a file of the store can have this name and be found under it.
pub(super) fn can_be_stored(name: &str, max_bytes: usize) -> bool {
    /// A file's name has 255 bytes at most, and ours end in `-00001-of-00002.gguf`.
    const MAX_PART: usize = 230;
    let is_part = |part: &str| part.len() <= MAX_PART && !part.starts_with('.');
    is_name(name, max_bytes)
        && name.split('/').count() <= MAX_DEPTH
        && name.split('/').all(is_part)
        && shard_of(&format!("{name}.gguf")).is_none()
        && !(cfg!(windows) && name.contains(':'))
}

/// The name a file has when nobody gives it one: its own, without `.gguf` and without the number of a part.
pub fn of_file(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.strip_suffix(".gguf").unwrap_or(&file);
    match shard_of(&file) {
        // `-00001-of-00003`
        Some(_) => stem[..stem.len() - 15].to_owned(),
        None => stem.to_owned(),
    }
}

/// The models in a folder: each whole file, and the first part of each that comes in parts; by name.
pub fn in_folder(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    visit(folder, "", 0, &mut found);
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

fn visit(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') || found.len() >= MAX_FILES {
            continue;
        }
        let is_first = shard_of(name).is_none_or(|(number, _)| number == 0);
        if path.is_dir() {
            if depth + 1 < MAX_DEPTH {
                visit(&path, &format!("{prefix}{name}/"), depth + 1, found);
            }
        } else if name.ends_with(".gguf") && is_first {
            found.push((format!("{prefix}{}", of_file(&path)), path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere() {
        for good in [
            "spark",
            "qwen3:0.6b",
            "org/model",
            "Llama 3.gguf",
            "m\u{fc}ller",
            "a..b",
        ] {
            assert!(is_name(good, 256), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "c:\\x",
            "c:/x",
            "C:x",
            "a\\b",
            "a\0b",
            "a\nb",
            "http://host/m",
            "file:///x",
            "hf.co/%2e%2e/x",
            "%2fetc",
            "~/x",
            " a",
            "a ",
            "a?b",
            "a#b",
        ] {
            assert!(!is_name(bad, 256), "{bad:?}");
        }
        assert!(!is_name(&"x".repeat(257), 256));
    }

    #[test]
    fn names_of_the_store_are_those_that_are_found_again() {
        for good in ["a", "qwen3.1", "org/model", "a/b/c", "m\u{fc}ller"] {
            assert!(can_be_stored(good, 256), "{good}");
        }
        let long = "x".repeat(231);
        for bad in [
            "",
            "../a",
            "/a",
            "a/b/c/d",
            ".a",
            "a/.b",
            "a-00001-of-00002",
            &long,
        ] {
            assert!(!can_be_stored(bad, 256), "{bad}");
        }
    }

    #[test]
    fn files_have_names() {
        for (file, name) in [
            ("/m/Qwen3-0.6B-Q4_K_M.gguf", "Qwen3-0.6B-Q4_K_M"),
            ("big-00001-of-00003.gguf", "big"),
            ("odd.bin", "odd.bin"),
        ] {
            assert_eq!(of_file(Path::new(file)), name);
        }
    }

    #[test]
    fn a_folder_gives_its_models() {
        let root = std::env::temp_dir().join(format!("hearth-names-{}", std::process::id()));
        let files = [
            "a.gguf",
            "b.txt",
            "org/c.gguf",
            "x/y/z/deep.gguf",
            ".hidden.gguf",
            "s-00001-of-00002.gguf",
            "s-00002-of-00002.gguf",
        ];
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = in_folder(&root);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "org/c", "s"]);
        assert_eq!(found[2].1, root.join("s-00001-of-00002.gguf"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
