//! Streams, as a program reads them.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;

use super::*;
use crate::server::rig::{LIMIT, Rig};

/// A stream that is read.
struct Reading {
    body: Body,
    text: String,
}

impl Reading {
    async fn open(rig: &Rig, path: &str, last: Option<&str>) -> Self {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {}", rig.token("control")));
        let request = last.into_iter().fold(request, |request, last| request.header("Last-Event-ID", last));
        let response = rig.sidecar.control.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event, as its type, its id and its document; none at the end of the stream.
    async fn next(&mut self) -> Option<(String, Option<String>, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let told = field("data: ")
                    .map(|data| (field("event: ").unwrap(), field("id: "), serde_json::from_str(&data).unwrap()));
                self.text = rest.to_owned();
                match told {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let frame = timeout(LIMIT, self.body.frame()).await.unwrap()?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

async fn ramp(rig: &Rig, weight: u64) -> u64 {
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": weight})).await.version
}

/// A service is told at once, and whole after every change; many changes at once are told as one.
#[tokio::test]
async fn services_are_told_as_they_change() {
    let rig = Rig::with_chat().await;
    let mut stream = Reading::open(&rig, "/v1/services/chat/watch", None).await;
    let (event, _, first) = stream.next().await.unwrap();
    assert_eq!((event.as_str(), &first), ("status", &rig.get("/v1/services/chat").await.json(200)));

    tokio::time::pause();
    let mut last = 0;
    for weight in 1..=50 {
        last = ramp(&rig, weight).await;
    }
    let began = Instant::now();
    let (_, _, status) = stream.next().await.unwrap();
    assert_eq!((&status["version"], &status["slots"][1]["weight"]), (&json!(last), &json!(50)));
    assert!(began.elapsed() <= PAUSE);

    // Nothing else is sent: the next comes with the next change.
    assert!(timeout(Duration::from_millis(1), stream.body.frame()).await.is_err());
    last = ramp(&rig, 99).await;
    assert_eq!(stream.next().await.unwrap().2["version"], last);

    let poll = json!({
        "version_info": "", "resource_names": ["chat"], "type_url": colorfast_core::names::SNAPSHOT_TYPE_URL,
        "node": {"id": "edge", "metadata": {"process_id": "00000000000000aa"}},
    });
    rig.discovery(colorfast_core::names::DISCOVERY_PATH, &poll).await.json(200);
    assert_eq!(stream.next().await.unwrap().2["members"][0]["node"], "edge");
}

/// The log is told from where it is asked for, entry by entry, and goes on where a stream broke off.
#[tokio::test]
async fn the_log_is_told_as_it_grows() {
    let rig = Rig::with_chat().await;
    let entries = rig.get("/v1/events").await.json(200)["entries"].as_array().unwrap().clone();
    let mut stream = Reading::open(&rig, "/v1/events/stream", None).await;
    for entry in &entries {
        let (event, id, told) = stream.next().await.unwrap();
        assert_eq!((event.as_str(), id, &told), ("entry", Some(entry["seq"].to_string()), entry));
    }
    let mut later = Reading::open(&rig, "/v1/events/stream?after=2", Some("5")).await;
    assert_eq!(&later.next().await.unwrap().2, &entries[5]);

    let apply = json!({"verb": "apply", "settings": {}}).to_string();
    rig.control(axum::http::Method::POST, "/v1/services/code/verbs", apply).await.json(200);
    let seq = ramp(&rig, 7).await;
    let mut of_chat = Reading::open(&rig, "/v1/events/stream?service=chat&after=7", None).await;
    for stream in [&mut stream, &mut later, &mut of_chat] {
        while stream.next().await.unwrap().1 != Some(seq.to_string()) {}
    }
}

/// What nobody changes is kept alive, and the end of the process ends every stream at once.
#[tokio::test]
async fn streams_live_and_end() {
    let rig = Rig::with_chat().await;
    let mut streams = Vec::new();
    for path in ["/v1/services/chat/watch", "/v1/events/stream?after=99"] {
        let mut stream = Reading::open(&rig, path, None).await;
        if path.ends_with("watch") {
            stream.next().await.unwrap();
        }
        streams.push(stream);
    }
    tokio::time::pause();
    for stream in &mut streams {
        let comment = timeout(LIMIT, stream.body.frame()).await.unwrap().unwrap().unwrap();
        assert!(comment.data_ref().unwrap().starts_with(b":"), "{comment:?}");
    }
    rig.sidecar.ending.begin();
    for stream in &mut streams {
        assert_eq!(stream.next().await, None);
    }
}

/// What cannot be told is refused before a stream begins.
#[tokio::test]
async fn streams_are_refused_by_problem() {
    let rig = Rig::with_chat().await;
    assert_eq!(rig.get("/v1/services/code/watch").await.problem(404).0, "no-service");
    assert_eq!(rig.get("/v1/events/stream?service=Chat").await.problem(400).0, "invalid-query");
    assert_eq!(rig.get("/v1/events/stream?limit=1").await.problem(400).1.as_deref(), Some("limit"));
    for wrong in ["x", "+1", "-1", "", "99999999999999999999"] {
        let request = Request::get("/v1/events/stream").header("Last-Event-ID", wrong);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", rig.token("control")));
        let answer = crate::server::rig::ask(&rig.sidecar.control, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(400).0, "invalid-last-event-id", "{wrong:?}");
    }
}
