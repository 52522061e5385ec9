//! What VM instances tell the sidecar of themselves.

use colorfast_core::names;
use colorfast_core::snapshot::FORMAT;

use crate::proxy::{Proxy, Worker};
use crate::releases::blue_live;
use crate::sidecar::{self, Waiting};

type Report = Waiting<colorfast_core::wire::reports::Report>;

fn report(worker: &Worker) -> Report {
    let mut reports = sidecar::reports(worker);
    assert_eq!(reports.len(), 1, "reports that are not answered");
    reports.remove(0)
}

fn acknowledge(report: Report) {
    let acknowledged = report.says.sequence;
    report.answer(200, format!(r#"{{"acknowledged":{acknowledged}}}"#));
}

/// Confirmed: every instance says hello: what it is, and what it decides by.
#[test]
fn every_instance_says_hello() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    first.hear(&blue_live(5));
    [&first, &second].into_iter().for_each(Worker::tick);
    let hello = report(&second);
    assert_eq!(hello.call.headers.text(":path"), Some(names::REPORTS_PATH));
    assert_eq!(hello.call.headers.text("authorization"), Some("Bearer secret"));
    let says = &hello.says;
    assert_eq!(says.sequence, 1);
    assert_eq!(says.node, first.poll().says.node, "workers are instances of one member");
    assert_eq!(says.instance.len(), 16);
    assert_ne!(says.instance, report(&first).says.instance);
    let hello = says.hello.as_ref().unwrap();
    assert_eq!(hello.snapshot_format, FORMAT);
    assert_eq!(hello.filter_version, env!("CARGO_PKG_VERSION"));
    let [service] = hello.services.as_slice() else { panic!("{hello:?}") };
    assert_eq!((service.name.as_str(), service.keyed), ("chat", true));
    assert_eq!(service.version_info, blue_live(5).version().to_string());
}

/// Accounted: a report has its number until it is acknowledged, and is sent again until then.
#[test]
fn reports_are_sent_until_they_are_acknowledged() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    // The status of an answer that never came is asked for, and there is none.
    worker.tolerate("proxy_get_header_map_value");
    worker.tick();
    let fails: [fn(Report); 6] = [
        |report| report.refuse(),
        |report| report.time_out(),
        |report| report.break_off(),
        |report| report.answer(500, ""),
        |report| report.answer(200, "garbage"),
        |report| report.answer(200, r#"{"acknowledged":0}"#),
    ];
    for fail in fails {
        fail(report(&worker));
        proxy.run(1_000, [&worker]);
        assert_eq!(report(&worker).says.sequence, 1);
    }
    acknowledge(report(&worker));
    proxy.run(9_980, [&worker]);
    assert!(sidecar::reports(&worker).is_empty(), "once every ten seconds is enough");
    proxy.run(20, [&worker]);
    assert_eq!(report(&worker).says.sequence, 2);
}

/// Cheap: a report that is not answered yet is not sent beside itself, unless its answer must be lost.
#[test]
fn one_report_at_a_time() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    proxy.run(14_000, [&worker]);
    assert_eq!(report(&worker).says.sequence, 1);
    proxy.run(2_000, [&worker]);
    let sequences: Vec<_> = sidecar::reports(&worker).iter().map(|report| report.says.sequence).collect();
    assert_eq!(sequences, [1, 1]);
}

/// Confirmed: every worker reports, whoever leads, and none of a canary.
#[test]
fn who_reports() {
    let proxy = Proxy::chat();
    let canary = proxy.worker();
    let workers: [Worker; 3] = proxy.workers();
    proxy.run(20, &workers);
    assert!(workers.iter().all(|worker| sidecar::reports(worker).is_empty()), "nobody is a member yet");
    workers.iter().find(|worker| worker.polls()).unwrap().hear(&blue_live(5));
    proxy.run(20, &workers);
    for worker in &workers {
        acknowledge(report(worker));
    }
    assert!(sidecar::reports(&canary).is_empty());
}
