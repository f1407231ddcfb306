//! The variables of this crate's README, and the metrics that the first README speaks of, are those of the code.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All words of a text that begin so and are made of such characters.
fn words(text: &str, start: &str, belongs: impl Fn(char) -> bool) -> BTreeSet<String> {
    let ends = |character: char| !belongs(character);
    text.split(ends).filter(|word| word.starts_with(start) && word.len() > start.len()).map(str::to_owned).collect()
}

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text.push_str(&sources(&path)),
            false => text.push_str(&std::fs::read_to_string(path).unwrap()),
        }
    }
    text
}

#[test]
fn the_readme_lists_every_variable_and_no_other() {
    let variable = |character: char| character.is_ascii_uppercase() || character == '_';
    let listed = words(&read("deploy/local/README.md"), "HITMETER_", variable);
    let existing = words(&sources(&root().join("deploy/local/src")), "HITMETER_", variable);
    assert!(!existing.is_empty());
    assert_eq!(listed, existing);
}

/// The data of one stack is removed, and that of another one, which may run, is not.
#[test]
fn only_the_data_of_the_stack_in_hand_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    std::fs::copy(root().join("Makefile"), inside("Makefile")).unwrap();
    for stack in [".local", "second stack"] {
        for name in ["state", "run", "logs", "kept"] {
            std::fs::create_dir_all(inside(stack).join(name)).unwrap();
        }
    }
    let clean = |directory: Option<&str>| {
        let mut make = Command::new("make");
        make.arg("clean-local").current_dir(folder.path()).env_remove("HITMETER_DIRECTORY");
        let output = make.envs(directory.map(|directory| ("HITMETER_DIRECTORY", directory))).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        [".local", "second stack"].map(|stack| std::fs::read_dir(inside(stack)).unwrap().count())
    };
    assert_eq!(clean(Some("second stack")), [4, 1]);
    assert_eq!(clean(None), [1, 1]);
}

/// Those lists are held against the code by tests of their own.
#[test]
fn every_metric_that_the_first_readme_names_is_in_its_services_list() {
    let metric = |character: char| character.is_ascii_lowercase() || character == '_';
    let first = read("README.md");
    for service in ["collector", "enricher", "sink"] {
        let list = read(format!("{service}/README.md"));
        let named = words(&first, &format!("{service}_"), metric);
        assert!(!named.is_empty(), "{service}");
        for name in named {
            assert!(list.lines().any(|line| line.starts_with(&format!("| `{name}`"))), "{name} is in no list");
        }
    }
}
