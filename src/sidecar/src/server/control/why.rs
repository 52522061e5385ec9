//! Why a request goes where it goes, now or by an older version.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use colorfast_core::ids::ServiceName;
use colorfast_core::plan::Plan;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::why::{Explanation, Recall, explain};

use super::Control;
use crate::api::WhyRequest;
use crate::server::directory::Published;
use crate::server::http::{Document, Service};
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};
use crate::server::{authority, clock};

/// What `why` is for.
pub fn describe_why(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("why", "Why a request goes where it goes", "services")
        .describe(
            "The filter's own decision about a request, by the newest version of the service or an older one, with what \
             every rule said of it. Nothing is changed.",
        )
        .takes::<Service>()
        .body::<WhyRequest>("The request, as far as it is known.")
        .answers::<Explanation>("Where it goes, and why.")
        .may_fail(&[Kind::NO_SERVICE, Kind::NOT_FOUND])
}

/// `POST /v1/services/{service}/why`
pub async fn why(
    State(control): State<Arc<Control>>,
    Service(service): Service,
    Document(asked): Document<WhyRequest>,
) -> Result<Json<Explanation>, ApiError> {
    let published = control.published(&service)?.borrow().clone();
    let snapshot = match asked.version {
        Some(version) if version != published.snapshot.version => {
            control.snapshot_at(&service, version, &published).await?
        }
        _ => published.snapshot.clone(),
    };
    let plan = Plan::compile(&snapshot, Some(&published.keys));
    let plan =
        plan.map_err(|error| ApiError::new(Kind::OUTAGE, format!("the snapshot cannot be decided by: {error}")))?;
    // Memory is kept as it is now.
    let fleet = |id| control.sessions.get(&published, id);
    let is_now = asked.at.is_none() && asked.version.is_none_or(|version| version == published.snapshot.version);
    let recall = if is_now { Recall::Fleet(&fleet) } else { Recall::Unknown };
    Ok(Json(explain(&plan, &asked.request, asked.at.unwrap_or_else(clock::now), &recall)))
}

impl Control {
    /// The snapshot of a version of the service, made again from the log.
    async fn snapshot_at(
        &self,
        service: &ServiceName,
        version: u64,
        published: &Published,
    ) -> Result<Snapshot, ApiError> {
        // Refuses a version that the service never was at.
        self.appended(service, version).await?;
        let state = authority::state_at(self.log.as_ref(), version).await;
        let state = state.map_err(|error| ApiError::new(Kind::OUTAGE, error))?;
        // What is of all services may be older than this one.
        let never = || ApiError::new(Kind::NOT_FOUND, format!("{service} was not there at version {version}"));
        let snapshot = state.snapshot(service).ok_or_else(never)?;
        // Keys are as they are now: what was signed by one that is gone cannot be read any more.
        let Snapshot { ring, run_ring, .. } = &published.snapshot;
        Ok(Snapshot { ring: ring.clone(), run_ring: run_ring.clone(), ..snapshot })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::{Value, json};

    use crate::server::rig::{Answer, Rig};

    async fn why(rig: &Rig, body: Value) -> Answer {
        rig.control(Method::POST, "/v1/services/chat/why", body.to_string()).await
    }

    /// The newest version decides, or an older one that the log is folded to again; one of another service, or of none,
    /// is refused.
    #[tokio::test]
    async fn decides_by_any_version_of_the_service() {
        let rig = Rig::with_chat().await;
        let before = rig.status().await.version;
        let after = rig.verb(json!({"verb": "switch", "slot": "green"})).await.version;
        let request = json!({"session": "a1"});
        for (version, slot, bundle) in
            [(None, "green", "v2"), (Some(after), "green", "v2"), (Some(before), "blue", "v1")]
        {
            let answer = why(&rig, json!({"request": request, "version": version})).await.json(200);
            assert_eq!((&answer["outcome"]["slot"], &answer["outcome"]["bundle"]), (&json!(slot), &json!(bundle)));
            assert!(answer["version"].as_str().unwrap().ends_with(&format!(".{}", version.unwrap_or(after))));
        }
        // Nothing was live yet.
        let answer = why(&rig, json!({"request": request, "version": 2})).await.json(200);
        assert_eq!(answer["outcome"]["kind"], "unrouted");
        for version in [0, 1, after + 1] {
            let (code, _, detail) = why(&rig, json!({"request": request, "version": version})).await.problem(404);
            assert!(code == "not-found" && detail.contains(&format!("at version {version}")), "{detail}");
        }
        let (code, field, _) = why(&rig, json!({"request": {"sesion": "a1"}})).await.problem(400);
        assert_eq!((code.as_str(), field.as_deref()), ("invalid-body", Some("request.sesion")));
    }

    /// A version is explained though keys that it knew are gone, and so is one that a key of runs made.
    #[tokio::test]
    async fn keys_that_are_gone_hide_no_version() {
        let rig = Rig::with_chat().await;
        let before = rig.status().await.version;
        let mut versions = vec![before];
        for path in ["/v1/services/chat/verbs", "/v1/application/verbs"] {
            for verb in
                [json!({"verb": "rotate_keys"}), json!({"verb": "retire_key", "key": 1, "force": {"reason": "r"}})]
            {
                versions.push(
                    rig.control(Method::POST, path, verb.to_string()).await.json(200)["version"].as_u64().unwrap(),
                );
                rig.sidecar.errands.once().await;
            }
        }
        for version in versions {
            let answer = why(&rig, json!({"request": {"session": "a1"}, "version": version})).await.json(200);
            assert_eq!(answer["outcome"]["slot"], "blue");
        }
    }

    /// Accounted: a time that is given is the time that ages are judged by.
    #[tokio::test]
    async fn ages_are_judged_at_the_time_that_is_asked_for() {
        let rig = Rig::with_chat().await;
        let path = "/v1/services/chat/preview-tokens";
        let made =
            rig.control(Method::POST, path, json!({"slot": "green", "ttl_seconds": 60}).to_string()).await.json(200);
        let headers = json!([{"name": "x-agent-preview", "value": made["token"]}]);
        let expires = made["expires"].as_u64().unwrap();
        for (at, reason) in [(expires - 1, "preview"), (expires, "random")] {
            let answer = why(&rig, json!({"request": {"headers": headers}, "at": at * 1000})).await.json(200);
            assert_eq!(answer["outcome"]["reason"], reason);
        }
    }
}
