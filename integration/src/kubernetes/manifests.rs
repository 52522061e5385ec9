//! The manifests that users copy, edited in named steps where they say EDIT.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::Cluster;
use crate::paths;

/// Documents of a kustomization, and edits of them.
#[derive(Clone, Debug)]
pub struct Manifests {
    documents: Vec<Value>,
}

impl Manifests {
    /// What a folder under `envoy/` makes.
    ///
    /// # Errors
    /// Where kustomize refuses it.
    pub async fn shipped(cluster: &Cluster, folder: &str) -> Result<Self> {
        Self::of(cluster, &paths::workspace().join("envoy").join(folder)).await
    }

    /// What any kustomization makes.
    ///
    /// # Errors
    /// Where kustomize refuses it.
    pub async fn of(cluster: &Cluster, folder: &Path) -> Result<Self> {
        let words = [Path::new("kustomize"), folder];
        let text = cluster.kubectl(words).await?.ended_with(0)?.stdout;
        let documents = serde_saphyr::from_multiple(&text).with_context(|| format!("{}", folder.display()))?;
        Ok(Self { documents })
    }

    /// The documents.
    #[must_use]
    pub fn documents(&self) -> &[Value] {
        &self.documents
    }

    /// The value at a JSON pointer of the document of a kind and a name.
    ///
    /// # Errors
    /// Where there is no such document or nothing at the pointer.
    pub fn at(&mut self, kind: &str, name: &str, pointer: &str) -> Result<&mut Value> {
        let is_it = |document: &&mut Value| document["kind"] == kind && document["metadata"]["name"] == name;
        let document = self.documents.iter_mut().find(is_it).with_context(|| format!("no {kind} {name}"))?;
        document.pointer_mut(pointer).ok_or_else(|| anyhow!("{kind} {name} has nothing at {pointer}"))
    }

    /// Applies them, by server-side apply.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn apply(&self, cluster: &Cluster) -> Result<()> {
        cluster.apply(&self.documents).await
    }
}
