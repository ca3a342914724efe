//! Lists that people keep by hand, compared with what they list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn crates() -> BTreeSet<String> {
    let folders = fs::read_dir(root().join("crates"))
        .expect("crates/ exists")
        .flatten();
    let folders = folders.filter(|folder| folder.path().join("Cargo.toml").is_file());
    folders
        .map(|folder| {
            folder
                .file_name()
                .into_string()
                .expect("crate names are ASCII")
        })
        .collect()
}

#[test]
fn architecture_lists_every_crate_once() {
    let text = read("ARCHITECTURE.md");
    let titles: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(String::from)
        .collect();
    assert_eq!(
        titles.len(),
        titles.iter().collect::<BTreeSet<_>>().len(),
        "a crate has two chapters: {titles:?}"
    );
    assert_eq!(titles.into_iter().collect::<BTreeSet<_>>(), crates());
}

#[test]
fn every_crate_says_what_it_never_does() {
    for chapter in read("ARCHITECTURE.md").split("\n## ").skip(1) {
        assert!(
            chapter.contains("**It never**"),
            "{}",
            chapter.lines().next().unwrap_or_default()
        );
    }
}

/// All Rust files under a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources").flatten();
    let of = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    };
    entries.flat_map(|entry| of(entry.path())).collect()
}

#[test]
fn code_for_one_operating_system_stands_where_architecture_says() {
    let signs = [
        "cfg(unix",
        "(unix,",
        "cfg(windows",
        "target_os",
        "libc::",
        "nix::",
        "std::os::",
    ];
    let mut found = BTreeSet::new();
    for name in crates() {
        let folder = root().join("crates").join(&name).join("src");
        for path in sources(&folder) {
            let text = fs::read_to_string(&path).expect("sources are text");
            if signs.iter().any(|sign| text.contains(sign)) {
                let file = path
                    .strip_prefix(&folder)
                    .expect("inside")
                    .to_string_lossy();
                found.insert(format!("{name}/src/{}", file.replace('\\', "/")));
            }
        }
    }
    let text = read("ARCHITECTURE.md");
    let named = text.split('`').skip(1).step_by(2);
    let named = named.filter(|name| name.ends_with(".rs") && name.contains("/src/"));
    assert_eq!(
        found,
        named.map(String::from).collect(),
        "left: the sources, right: ARCHITECTURE.md"
    );
}

#[test]
fn dependencies_are_all_explained_and_none_is_left_over() {
    let mut used = BTreeSet::new();
    for name in crates() {
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
            } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
                let crate_name = line.split(['.', ' ', '=']).next().unwrap_or_default();
                used.extend((!crate_name.starts_with("hearth-")).then(|| crate_name.to_string()));
            }
        }
    }
    let page = read("docs/dependencies.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let explained: BTreeSet<String> = cells
        .flat_map(|cell| {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(String::from)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(
        explained, used,
        "left: docs/dependencies.md, right: the Cargo.toml files"
    );
}

#[test]
fn the_script_for_ci_runs_the_test_command_of_the_readme() {
    let command = "cargo test --workspace";
    assert!(
        read("README.md").lines().any(|line| line == command),
        "README.md does not name '{command}'"
    );
    assert!(
        read(".ci/run").contains(&format!("readme_test='{command}'")),
        ".ci/run runs something else"
    );
}

#[test]
fn every_command_of_the_readme_exists() {
    let known = [
        "run",
        "serve",
        "keys",
        "launch",
        "show",
        "bench",
        "logits",
        "tokenize",
        "detokenize",
        "template",
        "completions",
        "man",
    ];
    let text = read("README.md");
    let used = text
        .split("cargo run --release -- ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next());
    for command in used {
        assert!(known.contains(&command), "README.md uses '{command}'");
    }
}
