//! The protocol of discovery, as a proxy sees it.

use colorfast_core::names::DISCOVERY_PATH;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::api::{Confirmation, Outcome, Progress};
use crate::server::rig::{Answer, Asking, LIMIT, Rig, is_held};

/// A proxy that remembers what it was sent.
#[derive(Clone)]
struct Proxy {
    process: u64,
    held: String,
    nonce: String,
}

impl Proxy {
    fn new() -> Self {
        Self { process: 1, held: String::new(), nonce: String::new() }
    }

    fn request(&self) -> Value {
        json!({
            "version_info": self.held, "response_nonce": self.nonce, "resource_names": ["chat"],
            "type_url": SNAPSHOT_TYPE_URL,
            "node": {"id": "edge", "metadata": {"process_id": format!("{:016x}", self.process)}},
        })
    }

    fn poll(&self, rig: &Rig) -> Asking {
        rig.shown(DISCOVERY_PATH, &self.request())
    }

    fn refuse(&self, rig: &Rig, message: &str) -> Asking {
        let mut request = self.request();
        request["error_detail"] = json!({"code": 3, "message": message});
        rig.shown(DISCOVERY_PATH, &request)
    }

    /// Takes an answer in, and gives the version within the log.
    fn take(&mut self, answer: &Answer) -> u64 {
        let response: DiscoveryResponse = serde_json::from_value(answer.json(200)).unwrap();
        let [resource] = response.resources.as_slice() else { panic!("{} resources", response.resources.len()) };
        assert_eq!(resource.state.version().to_string(), response.version_info);
        assert_eq!(response.type_url, SNAPSHOT_TYPE_URL);
        assert_ne!(response.nonce, self.nonce);
        colorfast_core::plan::Plan::compile(&resource.state, resource.keys.as_ref()).unwrap();
        assert!(resource.keys.is_some());
        (self.held, self.nonce) = (response.version_info, response.nonce);
        resource.state.version
    }
}

/// A verb that makes a newer snapshot, whatever the members do.
fn another_bundle() -> Value {
    json!({"verb": "add_bundle", "id": "v3", "manifest": {"code": "c", "model": "m", "prompts": "p"}})
}

/// Confirmed: the answer is the newest snapshot with its keys, the next poll acknowledges it and is held, and a switch
/// wakes it at once.
#[tokio::test]
async fn answers_are_acknowledged_by_the_next_poll() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    let version = rig.status().await.version;
    assert_eq!(proxy.take(&proxy.poll(&rig).await), version);
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Pending);

    let mut held = proxy.poll(&rig);
    assert!(is_held(&mut held).await);
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Confirmed);
    assert!(rig.status().await.members[0].current);

    let switched = rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    assert_eq!(switched.confirmation.outcome, Outcome::Pending);
    let answer = timeout(LIMIT, held).await.unwrap();
    assert_eq!(proxy.take(&answer), switched.version);

    let path = format!("/v1/services/chat/confirmations/{}?wait_ms=20000", switched.version);
    let waiting = tokio::spawn(rig.get(&path));
    let _held = tokio::spawn(proxy.poll(&rig));
    let confirmed = timeout(LIMIT, waiting).await.unwrap().unwrap().json(200);
    assert_eq!(confirmed["outcome"], "confirmed");
    assert!(confirmed["confirmed_after_ms"].as_f64().unwrap() > 0.0);
}

/// A poll with nothing newer is held for 20 seconds, then told so.
#[tokio::test]
async fn nothing_newer_is_304() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    proxy.take(&proxy.poll(&rig).await);
    tokio::time::pause();
    let asked = Instant::now();
    let answer = proxy.poll(&rig).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert!((HOLD..HOLD * 2).contains(&asked.elapsed()), "{:?}", asked.elapsed());
}

/// Confirmed: a refused snapshot is named with its reason and not sent again, not even to a new leader of the process;
/// the next one is.
#[tokio::test]
async fn refused_snapshots_are_not_sent_again() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    let version = rig.status().await.version;
    let before = proxy.clone();
    proxy.take(&proxy.poll(&rig).await);
    let refusing = Proxy { held: before.held.clone(), ..proxy.clone() };
    let mut held = refusing.refuse(&rig, "slots[0].weight: is bad");
    assert!(is_held(&mut held).await);
    let progress = Progress::Refused { error: "slots[0].weight: is bad".to_owned(), retried: false };
    assert_eq!(rig.confirmation(version).await.members[0].progress, progress);
    let member = rig.status().await.members.remove(0);
    assert_eq!(member.refused.unwrap().version, version);

    let mut leader = before.poll(&rig);
    assert!(is_held(&mut leader).await);
    rig.verb(another_bundle()).await;
    let next = timeout(LIMIT, held).await.unwrap();
    assert_eq!(proxy.take(&next), version + 1);
    assert_eq!(proxy.take(&timeout(LIMIT, leader).await.unwrap()), version + 1);
    let _held = tokio::spawn(proxy.poll(&rig));
    let confirmed = rig.get(&format!("/v1/services/chat/confirmations/{}?wait_ms=20000", version + 1)).await;
    assert!(matches!(confirmed.json(200)["outcome"].as_str(), Some("confirmed")));
    assert!(rig.status().await.members[0].refused.is_none());
}

/// What a proxy holds is what it says, whichever response came before: a new leader starts without a nonce.
#[tokio::test]
async fn leaders_change_without_a_nonce() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    proxy.take(&proxy.poll(&rig).await);
    let leader = Proxy { nonce: String::new(), ..proxy.clone() };
    let mut held = leader.poll(&rig);
    assert!(is_held(&mut held).await);
    let version = rig.status().await.version;
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Confirmed);
    assert_eq!(rig.status().await.members.len(), 1);
}

/// A proxy that holds a snapshot of a log that is newer than this one is left alone, and shown as not current.
#[tokio::test]
async fn newer_logs_are_not_overwritten() {
    let rig = Rig::with_chat().await;
    let proxy = Proxy { held: format!("{}.1", u64::MAX / 2), ..Proxy::new() };
    let mut held = proxy.poll(&rig);
    assert!(is_held(&mut held).await);
    rig.verb(another_bundle()).await;
    assert!(is_held(&mut held).await);
    let status = rig.status().await;
    assert!(!status.members[0].current);
    assert_eq!(rig.confirmation(status.version).await.outcome, Outcome::Pending);

    // A bootstrap snapshot is older than any log.
    let mut fresh = Proxy { held: "0.0".to_owned(), process: 2, ..Proxy::new() };
    assert_eq!(fresh.take(&fresh.poll(&rig).await), status.version);
}

/// Confirmed: a snapshot from a future that a restored data folder has lost is never taken for the one that gets its
/// number later, by no restart either; the next number is taken as usual.
#[tokio::test]
async fn lost_futures_are_not_current() {
    let rig = Rig::with_chat().await;
    let epoch = rig.status().await.epoch;
    let version = rig.status().await.version + 1;
    let mut proxy = Proxy { held: format!("{}.{version}", epoch.0), ..Proxy::new() };
    assert!(is_held(&mut proxy.poll(&rig)).await);
    assert_eq!(rig.verb(another_bundle()).await.version, version);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    let rig = rig.restart().await;
    assert!(is_held(&mut proxy.poll(&rig)).await);
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Pending);
    assert!(!rig.status().await.members[0].current);

    let settings = json!({"slots": ["blue", "green", "red"]});
    let next = rig.verb(json!({"verb": "apply", "settings": settings})).await.version;
    assert_eq!(proxy.take(&proxy.poll(&rig).await), next);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    assert_eq!(rig.confirmation(next).await.outcome, Outcome::Confirmed);
}

/// A confirmation that is held tells what is known at its end: who polls meanwhile is silent no more.
#[tokio::test]
async fn held_confirmations_see_the_first_poll() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    let version = proxy.take(&proxy.poll(&rig).await);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    let next = rig.verb(another_bundle()).await.version;
    assert_eq!(rig.confirmation(next).await.members[0].progress, Progress::Silent);
    let mut waiting = rig.get(&format!("/v1/services/chat/confirmations/{next}?wait_ms=30000"));
    assert!(is_held(&mut waiting).await);
    // It is answered with the new version, and still decides by the old one.
    proxy.poll(&rig).await.json(200);
    let told: Confirmation = serde_json::from_value(timeout(HOLD / 2, waiting).await.unwrap().json(200)).unwrap();
    assert_eq!(told.members[0].progress, Progress::Lagging);
    assert_eq!(proxy.held, format!("{}.{version}", rig.status().await.epoch.0));
}

/// A snapshot that was damaged on the way is named and sent again, and a confirmation waits on for it.
#[tokio::test]
async fn damaged_snapshots_do_not_settle() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    let version = rig.status().await.version;
    proxy.poll(&rig).await.json(200);
    let answer = proxy.refuse(&rig, "is no JSON").await;
    let confirmation = rig.confirmation(version).await;
    let wanted = Progress::Refused { error: "is no JSON".to_owned(), retried: true };
    assert_eq!(confirmation.members[0].progress, wanted);
    assert!(!confirmation.is_settled());
    let mut waiting = rig.get(&format!("/v1/services/chat/confirmations/{version}?wait_ms=30000"));
    assert!(is_held(&mut waiting).await);
    assert_eq!(proxy.take(&answer), version);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    assert_eq!(timeout(HOLD / 2, waiting).await.unwrap().json(200)["outcome"], "confirmed");
}

/// Members: a restarted sidecar knows its members, and what they hold, before they ask again.
#[tokio::test]
async fn members_survive_a_restart() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    let version = proxy.take(&proxy.poll(&rig).await);
    let mut held = proxy.poll(&rig);
    assert!(is_held(&mut held).await);
    drop(held);
    let rig = rig.restart().await;
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Confirmed);
    let mut held = proxy.poll(&rig);
    assert!(is_held(&mut held).await, "what the proxy holds was sent again");
}

/// A poll that is held ends at once when the sidecar ends.
#[tokio::test]
async fn held_polls_end_with_the_sidecar() {
    let rig = Rig::with_chat().await;
    let mut proxy = Proxy::new();
    proxy.take(&proxy.poll(&rig).await);
    let mut held = proxy.poll(&rig);
    assert!(is_held(&mut held).await);
    rig.sidecar.ending.begin();
    assert_eq!(timeout(HOLD / 2, held).await.unwrap().status, StatusCode::NOT_MODIFIED);
}

/// A service that does not exist is a 404 that says how to make one, and leaves no member behind.
#[tokio::test]
async fn unknown_services_are_named() {
    let rig = Rig::start().await;
    let (code, _, detail) = Proxy::new().poll(&rig).await.problem(404);
    assert_eq!(code, "no-service");
    assert!(detail.contains("colorfast service apply"), "{detail}");
    let created = rig.verb(json!({"verb": "apply", "settings": {}})).await;
    assert!(created.status.members.is_empty());
    let mut proxy = Proxy::new();
    assert_eq!(proxy.take(&proxy.poll(&rig).await), created.version);
}

/// Bad requests are refused with the field named, and make nobody a member.
#[tokio::test]
async fn bad_requests_are_refused_by_field() {
    let rig = Rig::with_chat().await;
    type Spoil = fn(&mut Value);
    let cases: [(u16, &str, Spoil); 11] = [
        (422, "type_url", |r| r["type_url"] = json!("other")),
        (422, "resource_names", |r| r["resource_names"] = json!([])),
        (422, "resource_names", |r| r["resource_names"] = json!(["chat", "code"])),
        (400, "resource_names[0]", |r| r["resource_names"] = json!(["Chat"])),
        (422, "version_info", |r| r["version_info"] = json!("7")),
        (422, "node.id", |r| r["node"]["id"] = json!("")),
        (422, "node.id", |r| r["node"]["id"] = json!("a\u{0}b")),
        (422, "node.metadata.process_id", |r| r["node"]["metadata"]["process_id"] = json!("7")),
        (400, "node.metadata.process_id", |r| {
            drop(r["node"]["metadata"].as_object_mut().unwrap().remove("process_id"))
        }),
        (400, "error_detail.code", |r| r["error_detail"] = json!({"code": "x", "message": ""})),
        (400, "version_info", |r| r["version_info"] = json!(7)),
    ];
    for (status, field, spoil) in cases {
        let mut request = Proxy::new().request();
        spoil(&mut request);
        let problem = rig.discovery(DISCOVERY_PATH, &request).await.problem(status);
        assert_eq!(problem.1.as_deref(), Some(field), "{problem:?}");
    }
    let long = json!({"version_info": "x".repeat(BODY_MAX)});
    assert_eq!(rig.discovery(DISCOVERY_PATH, &long).await.problem(413).0, "too-large");
    assert!(rig.status().await.members.is_empty());
}

/// The ticket comes with every answer until it was shown, whatever the proxy says of itself meanwhile: an answer that is
/// lost on the way locks nobody out, and nobody's words confirm nothing.
#[tokio::test]
async fn tickets_are_given_until_they_are_shown() {
    let rig = Rig::with_chat().await;
    let version = rig.status().await.version;
    let held = format!("{}.{version}", rig.status().await.epoch.0);
    let mut request = Proxy { held, ..Proxy::new() }.request();
    request["error_detail"] = json!({"code": 3, "message": "no"});
    let wanted = rig.ticket(&request);
    for ticket in [json!(null), json!("x"), json!("A".repeat(43))] {
        request["ticket"] = ticket;
        let answer = rig.discovery(DISCOVERY_PATH, &request).await;
        assert_eq!(answer.json(200)["ticket"], wanted);
        assert!(answer.text.contains(r#","ticket":""#) && answer.text.rfind("ticket") < answer.text.rfind("nonce"));
        assert_eq!(rig.confirmation(version).await.members[0].progress, Progress::Lagging);
        assert!(rig.status().await.members[0].refused.is_none());
    }
    let mut proxy = Proxy::new();
    let answer = proxy.poll(&rig).await;
    assert!(answer.json(200).get("ticket").is_none(), "what was shown is not given again");
    proxy.take(&answer);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Confirmed);
}

/// Confirmed: once a member has shown its ticket nobody speaks for it without: neither for what it holds, nor for what it
/// refuses, nor that it is there; not for another service either, and not after a restart of the sidecar.
#[tokio::test]
async fn no_proxy_speaks_for_another() {
    let rig = Rig::with_chat().await;
    let code = json!({"verb": "apply", "settings": {}}).to_string();
    rig.control(axum::http::Method::POST, "/v1/services/code/verbs", code).await.json(200);
    let mut proxy = Proxy::new();
    proxy.take(&proxy.poll(&rig).await);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    let next = rig.verb(another_bundle()).await.version;
    let before = rig.status().await.members;
    let forge = |rig: &Rig, ticket: &Value| {
        let held = format!("{}.{next}", before[0].version_info.split('.').next().unwrap());
        let mut acknowledgement = Proxy { held, ..proxy.clone() }.request();
        acknowledgement["ticket"] = ticket.clone();
        let mut refusal = proxy.request();
        refusal["ticket"] = ticket.clone();
        refusal["error_detail"] = json!({"code": 3, "message": "forged"});
        let mut elsewhere = refusal.clone();
        elsewhere["resource_names"] = json!(["code"]);
        [acknowledgement, refusal, elsewhere].map(|request| rig.discovery(DISCOVERY_PATH, &request))
    };
    let other = rig.ticket(&Proxy { process: 2, ..Proxy::new() }.request());
    for ticket in [json!(null), json!(""), other.clone()] {
        for forged in forge(&rig, &ticket) {
            let (code, _, detail) = forged.await.problem(403);
            assert_eq!(format!("{}{code}", crate::api::PROBLEM_PREFIX), colorfast_core::names::PROBLEM_TICKET);
            assert!(detail.contains("colorfast member forget edge/0000000000000001"), "{detail}");
        }
    }
    assert_eq!(rig.confirmation(next).await.members[0].progress, Progress::Silent);
    let shown = |members: &[crate::api::MemberStatus]| serde_json::to_value(members).unwrap();
    assert_eq!(shown(&rig.status().await.members), shown(&before));
    let rig = rig.restart().await;
    for forged in forge(&rig, &other) {
        assert_eq!(forged.await.problem(403).0, "ticket");
    }
    assert_eq!(proxy.take(&proxy.poll(&rig).await), next);
    assert!(is_held(&mut proxy.poll(&rig)).await);
    assert_eq!(rig.confirmation(next).await.outcome, Outcome::Confirmed);
}
