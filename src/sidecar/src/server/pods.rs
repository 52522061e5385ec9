//! The pods of the gateways, where the sidecar may watch them: a pod that is deleted takes its proxies with it at once.
//!
//! A proxy is known by its node id: Istio's is `<type>~<address>~<pod>.<namespace>~<domain>`, a plain Envoy's may be the name
//! of its pod (`--service-node`). Where pods cannot be watched, members lapse as everywhere, and the status says so.

mod kubernetes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use parking_lot::RwLock;
use tracing::{info, warn};

use self::kubernetes::{Change, Kubernetes, Pod};
use super::members::{MemberId, Members};
use crate::api::{PodStatus, PodsStatus};

/// Which pods are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Their namespace.
    pub namespace: String,
    /// Their labels, as in `istio=ingress`; none for all.
    pub selector: Option<String>,
    /// The folder with the token and the authority of the account that asks.
    pub account: PathBuf,
}

/// The pods of one scope.
#[derive(Debug)]
pub struct Pods {
    scope: Scope,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By name.
    pods: BTreeMap<String, Seen>,
    /// Why they are not watched.
    trouble: Option<String>,
}

/// A pod as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Tells it from another of the same name.
    uid: String,
    state: PodState,
}

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PodState {
    Starting,
    Ready,
    Ending,
    /// Its containers have ended, though it is still there.
    Ended,
}

impl PodState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }
}

impl Seen {
    fn of(pod: &Pod) -> Self {
        let is_ready =
            || pod.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True");
        let state = match pod.status.phase.as_str() {
            "Succeeded" | "Failed" => PodState::Ended,
            _ if pod.metadata.deletion_timestamp.is_some() => PodState::Ending,
            _ if is_ready() => PodState::Ready,
            _ => PodState::Starting,
        };
        Self { uid: pod.metadata.uid.clone(), state }
    }
}

impl Pods {
    /// No pod yet.
    pub fn new(scope: Scope) -> Self {
        let trouble = Some("they have not been listed yet".to_owned());
        Self { scope, known: RwLock::new(Known { trouble, ..Known::default() }) }
    }

    /// Watches until it is aborted, and has `members` leave with their pods.
    ///
    /// # Errors
    /// Where this process runs in no pod, so that there is no API to ask.
    pub fn watch(self: Arc<Self>, members: Arc<Members>) -> Result<impl Future<Output = ()> + use<>> {
        let api = Kubernetes::of_this_pod(&self.scope)?;
        Ok(async move {
            api.follow(|change| {
                let gone = self.heed(change);
                if !gone.is_empty() {
                    let namespace = &self.scope.namespace;
                    members.leave(|id| {
                        pod_of(id.node(), namespace).is_some_and(|pod| gone.iter().any(|gone| gone == pod))
                    });
                }
            })
            .await;
        })
    }

    /// Takes in what the API says, and names the pods that are gone by it.
    fn heed(&self, change: Change) -> Vec<String> {
        let mut known = self.known.write();
        let Known { pods, trouble } = &mut *known;
        match change {
            Change::All(listed) => {
                let now = listed.iter().map(|pod| (pod.metadata.name.clone(), Seen::of(pod))).collect();
                let before = std::mem::replace(pods, now);
                before.into_iter().filter(|(name, was)| is_over(was, pods.get(name))).map(|(name, _)| name).collect()
            }
            Change::Watched => {
                if trouble.take().is_some() {
                    info!(namespace = self.scope.namespace, pods = pods.len(), "pods are watched");
                }
                Vec::new()
            }
            Change::One(pod) => {
                let name = pod.metadata.name.clone();
                let was = pods.insert(name.clone(), Seen::of(&pod));
                was.filter(|was| is_over(was, pods.get(&name))).map(|_| name).into_iter().collect()
            }
            Change::Gone(pod) => pods.remove(&pod.metadata.name).map(|_| pod.metadata.name).into_iter().collect(),
            Change::Failed(said) => {
                if trouble.as_ref() != Some(&said) {
                    warn!(
                        namespace = self.scope.namespace,
                        error = said,
                        "pods are not watched: members lapse by their ttl"
                    );
                }
                *trouble = Some(said);
                Vec::new()
            }
        }
    }

    /// What is known of the pods, and of which of them `members` are.
    pub fn status<'a>(&self, members: impl Iterator<Item = &'a MemberId>) -> PodsStatus {
        let known = self.known.read();
        let namespace = &self.scope.namespace;
        let taken: Vec<_> = members.filter_map(|id| pod_of(id.node(), namespace)).collect();
        let pods = known.pods.iter().filter(|_| known.trouble.is_none()).map(|(name, seen)| PodStatus {
            pod: name.clone(),
            state: seen.state.as_str().to_owned(),
            members: taken.iter().filter(|pod| *pod == name).count(),
        });
        PodsStatus {
            namespace: namespace.clone(),
            selector: self.scope.selector.clone(),
            pods: pods.collect(),
            trouble: known.trouble.clone(),
        }
    }

    /// The pod of a member, where that is known.
    pub fn of(&self, member: &MemberId) -> Option<String> {
        let name = pod_of(member.node(), &self.scope.namespace)?;
        let known = self.known.read();
        (known.trouble.is_none() && known.pods.contains_key(name)).then(|| name.to_owned())
    }
}

/// Whether what ran as `was` has ended.
fn is_over(was: &Seen, now: Option<&Seen>) -> bool {
    now.is_none_or(|now| now.uid != was.uid || (now.state == PodState::Ended && was.state != PodState::Ended))
}

/// The name of the pod in `namespace` that a node id names.
fn pod_of<'n>(node: &'n str, namespace: &str) -> Option<&'n str> {
    let mut parts = node.split('~');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(plain), None, _) => Some(plain),
        (Some(_), Some(_), Some(pod)) => pod.strip_suffix(namespace)?.strip_suffix('.'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
