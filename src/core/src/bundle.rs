//! Bundles: what is released.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::FieldError;
use crate::ids::{BundleId, Digest};
use crate::json::words;

/// The five parts of a release. Any of them changing is a new bundle.
///
/// Fields stand in alphabetical order, so that the plain serialisation is the canonical JSON
/// (sorted keys, no white space) that the digest is taken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the agent's code: a commit, an image digest.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256), regex(pattern = crate::schema::PRINTABLE)))]
    pub code: String,
    /// Version of the model that it calls.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256), regex(pattern = crate::schema::PRINTABLE)))]
    pub model: String,
    /// Version of its prompts.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256), regex(pattern = crate::schema::PRINTABLE)))]
    pub prompts: String,
    /// Version of the retrieval index; empty where the agent has none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 256), regex(pattern = crate::schema::PRINTABLE)))]
    pub retrieval_index: String,
    /// Version of each tool by name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tools"))]
    pub tools: BTreeMap<String, String>,
}

/// A part of a manifest that a request header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// [`Manifest::code`]
    Code,
    /// [`Manifest::model`]
    Model,
    /// [`Manifest::prompts`]
    Prompts,
    /// [`Manifest::retrieval_index`]
    RetrievalIndex,
}

words! {
    Part, "code" => Code, "model" => Model, "prompts" => Prompts, "retrieval_index" => RetrievalIndex
}

impl Part {
    /// The name as documents have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Model => "model",
            Self::Prompts => "prompts",
            Self::RetrievalIndex => "retrieval_index",
        }
    }
}

/// Longest version text of a part, in bytes.
const PART_MAX: usize = 256;
/// Most tools of one bundle.
const TOOLS_MAX: usize = 256;

impl Manifest {
    /// Checks what the types alone do not: lengths, and that a value can stand in a header.
    ///
    /// # Errors
    /// Names the part and the rule it breaks.
    pub fn validate(&self) -> Result<(), FieldError> {
        let required = [("code", &self.code), ("model", &self.model), ("prompts", &self.prompts)];
        for (field, value) in required {
            if value.is_empty() {
                return Err(FieldError::new(field, "is empty, but a bundle names the version of this part"));
            }
        }
        if self.tools.len() > TOOLS_MAX {
            return Err(FieldError::new(
                "tools",
                format!("has {} entries, at most {TOOLS_MAX} are allowed", self.tools.len()),
            ));
        }
        let is_name = |tool: &str| (1..=64).contains(&tool.len()) && tool.bytes().all(|b| (0x20..0x7f).contains(&b));
        if let Some(tool) = self.tools.keys().find(|tool| !is_name(tool)) {
            return Err(FieldError::new(
                "tools",
                format!("{tool:?} is no name of a tool: 1 to 64 printable ASCII characters"),
            ));
        }
        let tools = self.tools.iter().map(|(tool, version)| (format!("tools.{tool}"), version));
        let optional = std::iter::once(("retrieval_index".to_owned(), &self.retrieval_index));
        let required = required.into_iter().map(|(field, value)| (field.to_owned(), value));
        for (field, value) in required.chain(optional).chain(tools) {
            if value.len() > PART_MAX || !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(FieldError::new(
                    field,
                    format!("is not a version text: at most {PART_MAX} printable ASCII characters"),
                ));
            }
        }
        Ok(())
    }

    /// The digest of the canonical JSON.
    pub fn digest(&self) -> Digest {
        // A struct of strings cannot fail to serialise; an empty text would only change the digest.
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// The version of one part.
    pub fn part(&self, part: Part) -> &str {
        match part {
            Part::Code => &self.code,
            Part::Model => &self.model,
            Part::Prompts => &self.prompts,
            Part::RetrievalIndex => &self.retrieval_index,
        }
    }
}

/// A manifest that has been added under its id, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Bundle {
    /// The release tag.
    pub id: BundleId,
    /// The digest of `manifest`.
    pub digest: Digest,
    /// The five parts.
    pub manifest: Manifest,
}

impl Bundle {
    /// The bundle of `manifest` under `id`.
    pub fn new(id: BundleId, manifest: Manifest) -> Self {
        Self { id, digest: manifest.digest(), manifest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        serde_json::from_str(r#"{"code":"c1","prompts":"p1","model":"m1","tools":{"b":"2","a":"1"}}"#).unwrap()
    }

    /// The digest is that of JSON with sorted keys and no white space, whatever order the file had.
    #[test]
    fn digest_is_of_canonical_json() {
        let canonical = r#"{"code":"c1","model":"m1","prompts":"p1","retrieval_index":"","tools":{"a":"1","b":"2"}}"#;
        assert_eq!(manifest().digest(), Digest::of(canonical.as_bytes()));
    }

    /// A manifest that cannot be stamped is refused with the part named.
    #[test]
    fn refuses_bad_parts_by_name() {
        type Spoil = fn(&mut Manifest);
        let cases: [(&str, Spoil); 5] = [
            ("code", |m| m.code.clear()),
            ("prompts", |m| m.prompts = "a\r\nx: y".into()),
            ("retrieval_index", |m| m.retrieval_index = "x".repeat(257)),
            ("tools.a", |m| drop(m.tools.insert("a".into(), "ü".into()))),
            ("tools", |m| drop(m.tools.insert("\u{1b}[2J".into(), "1".into()))),
        ];
        assert_eq!(manifest().validate(), Ok(()));
        for (field, spoil) in cases {
            let mut bad = manifest();
            spoil(&mut bad);
            assert_eq!(bad.validate().unwrap_err().field, field);
        }
    }
}
