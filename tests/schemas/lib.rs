//! Validators, and the examples that the repository shows.

#![allow(clippy::expect_used, reason = "only tests use it, and a failure is theirs")]

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use schemars::Schema;
use serde_json::Value;

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository.
#[must_use]
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// What checks a document against a schema.
#[must_use]
pub fn validator(schema: &Schema) -> Validator {
    jsonschema::draft202012::new(schema.as_value()).expect("a schema")
}

/// A YAML document.
#[must_use]
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

/// The fenced block of the README that has `line` in it.
#[must_use]
pub fn example(line: &str) -> String {
    let readme = read("README.md");
    let block = readme.split("```").skip(1).step_by(2).find(|block| block.lines().any(|found| found == line));
    block.and_then(|block| block.split_once('\n')).expect(line).1.to_owned()
}
