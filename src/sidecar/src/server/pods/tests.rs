use serde_json::{Value, json};

use super::*;

fn pods() -> Pods {
    let (namespace, selector) = ("edge".to_owned(), Some("istio=ingress".to_owned()));
    Pods::new(Scope { namespace, selector, account: PathBuf::new() })
}

fn pod(name: &str, uid: &str, rest: Value) -> Pod {
    let mut document = json!({"metadata": {"name": name, "namespace": "edge", "uid": uid}});
    document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(document).unwrap()
}

fn ready(name: &str, uid: &str) -> Pod {
    pod(name, uid, json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}))
}

fn list(pods: &Pods, all: &[Pod]) -> Vec<String> {
    let gone = pods.heed(Change::All(all.to_vec()));
    assert!(pods.heed(Change::Watched).is_empty());
    gone
}

fn member(node: &str) -> MemberId {
    serde_json::from_value(json!({"node": node, "process": "00000000000000aa"})).unwrap()
}

/// A node id of Istio names its pod; that of a plain Envoy may be one; whatever else it is names none.
#[test]
fn node_ids_name_pods() {
    let cases = [
        ("router~10.0.0.1~gw-1.edge~edge.svc.cluster.local", Some("gw-1")),
        ("sidecar~10.0.0.1~gw-1.edge~edge.svc.cluster.local", Some("gw-1")),
        ("router~10.0.0.1~gw-1.other~other.svc.cluster.local", None),
        ("router~10.0.0.1~gw-1.myedge~x", None),
        ("router~10.0.0.1", None),
        ("gw-1", Some("gw-1")),
    ];
    for (node, wanted) in cases {
        assert_eq!(pod_of(node, "edge"), wanted, "{node}");
    }
}

/// A pod is gone when it is deleted, replaced under its name, or ended; not while it drains. What happened while nobody
/// watched is found out by the next list.
#[test]
fn pods_go() {
    let pods = pods();
    assert!(list(&pods, &[ready("a", "1"), ready("b", "1"), ready("c", "1")]).is_empty());
    let draining = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "2026-11-26T00:00:00Z"}});
    assert!(pods.heed(Change::One(pod("a", "1", draining))).is_empty());
    assert_eq!(pods.heed(Change::Gone(ready("a", "1"))), ["a"]);
    assert!(pods.heed(Change::Gone(ready("a", "1"))).is_empty());
    assert_eq!(pods.heed(Change::One(ready("b", "2"))), ["b"]);
    let ended = json!({"status": {"phase": "Failed"}});
    assert_eq!(pods.heed(Change::One(pod("b", "2", ended.clone()))), ["b"]);
    assert!(pods.heed(Change::One(pod("b", "2", ended))).is_empty(), "told once");
    assert_eq!(list(&pods, &[ready("d", "1")]), ["b", "c"]);
}

/// The status names every pod with its members, and says where pods are not watched, for as long as that lasts.
#[test]
fn the_status_says_what_is_known() {
    let pods = pods();
    let members = [member("router~10.0.0.1~a.edge~edge.svc.cluster.local"), member("elsewhere")];
    let status = |pods: &Pods| pods.status(members.iter());
    assert_eq!(status(&pods).trouble.as_deref(), Some("they have not been listed yet"));
    list(&pods, &[ready("a", "1"), pod("b", "1", json!({}))]);
    let found = status(&pods);
    let shown: Vec<_> = found.pods.iter().map(|pod| (pod.pod.as_str(), pod.state.as_str(), pod.members)).collect();
    assert_eq!((shown, found.trouble), (vec![("a", "ready", 1), ("b", "starting", 0)], None));
    assert_eq!((pods.of(&members[0]).as_deref(), pods.of(&members[1])), (Some("a"), None));

    pods.heed(Change::Failed("pods is forbidden".to_owned()));
    let found = status(&pods);
    assert_eq!((found.trouble.as_deref(), found.pods.len()), (Some("pods is forbidden"), 0));
    assert_eq!(pods.of(&members[0]), None);
    list(&pods, &[ready("a", "1")]);
    assert_eq!(status(&pods).trouble, None);
}
