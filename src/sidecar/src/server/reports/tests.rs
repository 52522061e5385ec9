//! Reports, as an instance sends them.

use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SNAPSHOT_TYPE_URL};
use serde_json::{Value, json};

use crate::server::rig::Rig;

fn node(process: u64) -> Value {
    json!({"id": "edge", "metadata": {"process_id": format!("{process:016x}")}})
}

fn report(process: u64, sequence: u64, version: &str) -> Value {
    json!({
        "node": node(process), "instance": "00000000000000aa", "sequence": sequence,
        "hello": {
            "filter_version": "0.1.0", "snapshot_format": 1,
            "services": [{"name": "chat", "version_info": version, "keyed": true}],
        },
    })
}

async fn send(rig: &Rig, report: &Value) -> u64 {
    rig.shown(REPORTS_PATH, report).await.json(200)["acknowledged"].as_u64().unwrap()
}

/// What `colorfast status` shows of the instances of a process.
async fn shown(rig: &Rig, process: u64) -> Vec<String> {
    let name = format!("edge/{process:016x}");
    let member = rig.status().await.members.into_iter().find(|member| member.member == name).unwrap();
    member.instances.into_iter().map(|instance| instance.version_info).collect()
}

async fn join(rig: &Rig, process: u64) {
    let poll = json!({
        "resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL, "node": node(process),
    });
    rig.discovery(DISCOVERY_PATH, &poll).await.json(200);
}

/// A report is applied once; repeated or late ones are acknowledged and change nothing, over a restart too.
#[tokio::test]
async fn reports_are_applied_once() {
    let rig = Rig::with_chat().await;
    join(&rig, 1).await;
    assert_eq!(send(&rig, &report(1, 1, "5.1")).await, 1);
    assert_eq!(send(&rig, &report(1, 1, "5.99")).await, 1);
    assert_eq!(shown(&rig, 1).await, ["5.1"]);
    assert_eq!(send(&rig, &report(1, 4, "5.4")).await, 4);
    assert_eq!(send(&rig, &report(1, 3, "5.3")).await, 4);
    assert_eq!(shown(&rig, 1).await, ["5.4"]);
    let rig = rig.restart().await;
    assert_eq!(send(&rig, &report(1, 4, "5.99")).await, 4);
    assert_eq!(shown(&rig, 1).await, ["5.4"]);

    // A report without a hello leaves the last one.
    let mut silent = report(1, 5, "");
    silent.as_object_mut().unwrap().remove("hello");
    assert_eq!(send(&rig, &silent).await, 5);
    assert_eq!(shown(&rig, 1).await, ["5.4"]);
}

/// An instance belongs to the proxy that reports it: the same number from another proxy is another instance.
#[tokio::test]
async fn instances_are_bound_to_their_proxy() {
    let rig = Rig::with_chat().await;
    join(&rig, 1).await;
    join(&rig, 2).await;
    send(&rig, &report(1, 9, "5.1")).await;
    assert_eq!(send(&rig, &report(2, 1, "5.2")).await, 1);
    assert_eq!(shown(&rig, 1).await, ["5.1"]);
    assert_eq!(shown(&rig, 2).await, ["5.2"]);
}

/// What reports leave is bounded by the members: nobody else reports, nor for a service that it does not ask for, nor
/// for more instances than an Envoy has.
#[tokio::test]
async fn reports_are_bounded_by_the_members() {
    let rig = Rig::with_chat().await;
    let kept = || rig.sidecar.stored("instance/");
    assert_eq!(rig.shown(REPORTS_PATH, &report(1, 1, "5.1")).await.problem(409).0, "not-member");
    assert_eq!(kept().len(), 0);

    join(&rig, 1).await;
    let mut first = report(1, 1, &format!("{}5.1", "0".repeat(1_000)));
    first["hello"]["services"].as_array_mut().unwrap().push(json!({"name": "code", "version_info": "", "keyed": true}));
    send(&rig, &first).await;
    assert_eq!(shown(&rig, 1).await, ["5.1"]);
    assert!(kept().iter().all(|(_, value)| value.len() < 512 && !value.windows(6).any(|text| text == b"\"code\"")));

    for instance in 0..255 {
        let mut other = report(1, 1, "5.1");
        other["instance"] = json!(format!("{instance:016x}"));
        // One of them is the first.
        assert!(instance == 0xaa || send(&rig, &other).await == 1);
    }
    let mut another = report(1, 1, "5.1");
    another["instance"] = json!("ffffffffffffffff");
    assert_eq!(send(&rig, &another).await, 1);
    another["instance"] = json!("fffffffffffffffe");
    assert_eq!(rig.shown(REPORTS_PATH, &another).await.problem(503).0, "outage");
    assert_eq!(send(&rig, &report(1, 2, "5.2")).await, 2);
    assert_eq!(kept().len(), 256);
}

/// Bad reports are refused with the field named.
#[tokio::test]
async fn bad_reports_are_refused_by_field() {
    let rig = Rig::with_chat().await;
    type Spoil = fn(&mut Value);
    let cases: [(u16, &str, Spoil); 8] = [
        (422, "sequence", |r| r["sequence"] = json!(0)),
        (400, "sequence", |r| r["sequence"] = json!(-1)),
        (422, "instance", |r| r["instance"] = json!("aa")),
        (422, "node.id", |r| r["node"]["id"] = json!("")),
        (422, "hello.filter_version", |r| r["hello"]["filter_version"] = json!("a\nb")),
        (422, "hello.services", |r| r["hello"]["services"] = json!(vec![r["hello"]["services"][0].clone(); 65])),
        (422, "hello.services[0].version_info", |r| r["hello"]["services"][0]["version_info"] = json!("x")),
        (400, "hello.services[0].name", |r| r["hello"]["services"][0]["name"] = json!("X")),
    ];
    for (status, field, spoil) in cases {
        let mut bad = report(1, 1, "");
        spoil(&mut bad);
        let problem = rig.discovery(REPORTS_PATH, &bad).await.problem(status);
        assert_eq!(problem.1.as_deref(), Some(field), "{problem:?}");
    }
}

/// No proxy reports for another: without the member's ticket nothing of a report is taken.
#[tokio::test]
async fn reports_show_the_ticket() {
    let rig = Rig::with_chat().await;
    join(&rig, 1).await;
    let mut forged = report(1, 1, "5.1");
    for ticket in [json!(null), json!(""), rig.ticket(&report(2, 1, "")), json!("x".repeat(43))] {
        forged["ticket"] = ticket;
        let (code, field, _) = rig.discovery(REPORTS_PATH, &forged).await.problem(403);
        assert_eq!((code.as_str(), field.as_deref()), ("ticket", Some("ticket")));
    }
    assert!(rig.sidecar.stored("instance/").is_empty());
    assert_eq!(send(&rig, &report(1, 1, "5.1")).await, 1);
}
