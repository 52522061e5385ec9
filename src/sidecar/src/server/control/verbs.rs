//! Verbs as documents. Unknown fields are refused: a misspelt one must not change what a verb does.

mod schema;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use colorfast_core::bundle::Manifest;
use colorfast_core::ids::{BundleId, KeyId, ServiceName, SlotName};
use colorfast_core::preset::{self, Applied};
use colorfast_core::release::{ApplicationVerb, Force, Pins, Reach, Refusal, Verb};
use colorfast_core::settings::ServiceSettings;
use colorfast_core::weight::Weight;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::task::JoinError;
use tokio::time::Instant;

pub use self::schema::ApplicationVerbDocument;
use self::schema::VerbDocument;
use super::Control;
use crate::api::{Preparation, VerbRequest, VerbResponse};
use crate::server::access::Caller;
use crate::server::authority::{Done, Effect, Occasion, Order, VerbError};
use crate::server::http::{self, Repeatable, Service, Whole};
use crate::server::openapi::Operation;
use crate::server::probe::{self, Probed};
use crate::server::problem::{ApiError, Kind};
use crate::server::{preparing, status};
use crate::store::Outage;

/// What `order` is for.
pub fn describe_order(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("verb", "Carry out a verb", "services")
        .describe(
            "One act of an operator. It is in the log once this answers; whether every proxy has obeyed is told by the \
             confirmation of the version that it made. A verb that is refused changes nothing.",
        )
        .takes::<Service>()
        .takes::<Repeatable>()
        .body::<VerbDocument>("The verb.")
        .answers::<VerbResponse>("The verb is carried out.")
        .may_fail(Kind::REFUSALS)
        .may_fail(&[Kind::STALE])
}

/// `POST /v1/services/{service}/verbs`
pub async fn order(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Service(service): Service,
    Repeatable(key): Repeatable,
    Whole(body): Whole,
) -> Result<Json<VerbResponse>, ApiError> {
    let VerbRequest { expected_version, verb } = parse(&body)?;
    let principal = caller.principal.to_string();
    let probed = control.probe(&service, &verb).await;
    let order = Order { principal, service: service.clone(), expected_version, key, verb, probed };
    // What has begun goes on where the caller goes away: nobody would know at which of the two parts it had ended.
    let carried = tokio::spawn({
        let control = Arc::clone(&control);
        async move { control.carry_out(order).await }
    });
    let ended = |error: JoinError| Outage { what: "carry the verb out", cause: error.to_string() };
    let (preparation, done) = match carried.await.map_err(ended)? {
        Ok(carried) => carried,
        Err(error) => return Err(control.lost(Some(&service), error).await),
    };
    let appended = control.appended(&service, done.version).await?;
    Ok(Json(VerbResponse {
        version: done.version,
        changed: done.effect == Effect::Changed,
        repeated: done.occasion == Occasion::Earlier,
        preparation,
        status: status::of(&done.published, &control),
        confirmation: control.members.confirmation(&service, &appended),
    }))
}

impl Control {
    /// Has proxies get ready where weight is to move or a slot to be freed, then carries the verb out.
    async fn carry_out(&self, order: Order) -> Result<(Option<Preparation>, Done), VerbError> {
        let preparation = match prepares(&order.verb) && !self.members.of(&order.service).is_empty() {
            true => self.prepare(&order).await?,
            false => None,
        };
        // Who has not told may know of a session that is nowhere counted.
        if let (Verb::Recycle { slot, .. }, Some(Preparation { laggards, .. })) = (&order.verb, &preparation)
            && !laggards.is_empty()
        {
            return Err(Refusal::NotAccounted { slot: slot.clone(), members: laggards.clone() }.into());
        }
        Ok((preparation, self.authority.order(order).await?))
    }

    /// Has proxies get ready, and waits for them.
    async fn prepare(&self, order: &Order) -> Result<Option<Preparation>, VerbError> {
        let begun = Instant::now();
        let done = self.authority.prepare(order.clone()).await?;
        // Where all is as it should be, or the verb was carried out before, there is nothing to wait for; a slot that
        // holds no session by its phase is freed at once.
        let freed = matches!(order.verb, Verb::Recycle { .. }) && done.effect == Effect::None;
        let asking = done.published.state.prepared().filter(|_| done.occasion == Occasion::Now && !freed);
        let Some(asking) = asking else { return Ok(None) };
        let (members, reports) = (&self.members, &self.holdings.reports);
        Ok(Some(preparing::wait(members, reports, &order.service, asking.flush, begun).await))
    }

    /// Sees whether the slot that `verb` gives sessions to can serve, where a proxy can be asked. The writer is not kept
    /// waiting by it.
    async fn probe(&self, service: &ServiceName, verb: &Verb) -> Option<Probed> {
        if self.holdings.reach == Reach::Offline {
            return None;
        }
        let published = self.directory.watch(service)?.borrow().clone();
        probe::probe(&published, verb).await
    }
}

/// Whether proxies get ready before this verb: where nothing is to be gained by it, the rules say so.
fn prepares(verb: &Verb) -> bool {
    match verb {
        Verb::Switch { .. } | Verb::Recycle { force: None, .. } => true,
        Verb::Ramp { weight, .. } => weight.takes_sessions(),
        _ => false,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Apply {
    #[schemars(with = "Applied")]
    settings: ServiceSettings,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddBundle {
    id: BundleId,
    manifest: Manifest,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Stage {
    slot: SlotName,
    bundle: BundleId,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ramp {
    slot: SlotName,
    weight: Weight,
    force: Option<Force>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    slot: SlotName,
    force: Option<Force>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Abort {
    slot: SlotName,
    pins: Pins,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneSlot {
    slot: SlotName,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rollback {
    to: Option<SlotName>,
    pins: Pins,
    force: Option<Force>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Recycle {
    slot: SlotName,
    force: Option<Force>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetDeadline {
    slot: SlotName,
    within_seconds: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetireKey {
    key: KeyId,
    force: Option<Force>,
}

/// Reads a request. [`VerbRequest`] writes the same, but a reader that is derived could not name the field.
pub(super) fn parse(body: &[u8]) -> Result<VerbRequest, ApiError> {
    read_by(body, verb)
}

/// Reads a request for a verb on what is of all services.
pub(super) fn parse_application(body: &[u8]) -> Result<VerbRequest<ApplicationVerb>, ApiError> {
    read_by(body, application_verb)
}

/// Reads what every verb has; `verb` reads the rest by its name.
fn read_by<V>(
    body: &[u8],
    verb: impl Fn(&str, Map<String, Value>) -> Result<V, ApiError>,
) -> Result<VerbRequest<V>, ApiError> {
    let mut fields: Map<String, Value> = http::parse(body)?;
    fields.values_mut().for_each(http::whole);
    let expected_version = match fields.remove("expected_version") {
        None => None,
        Some(value) => within("expected_version", value)?,
    };
    let missing = || ApiError::new(Kind::BODY, "verb: is missing").at("verb");
    let name: String = within("verb", fields.remove("verb").ok_or_else(missing)?)?;
    Ok(VerbRequest { expected_version, verb: verb(&name, fields)? })
}

fn verb(name: &str, fields: Map<String, Value>) -> Result<Verb, ApiError> {
    match name {
        "apply" => apply(fields),
        "add_bundle" => read(fields).map(|AddBundle { id, manifest }| Verb::AddBundle { id, manifest }),
        "stage" => read(fields).map(|Stage { slot, bundle }| Verb::Stage { slot, bundle }),
        "ramp" => read(fields).map(|Ramp { slot, weight, force }| Verb::Ramp { slot, weight, force }),
        "abort" => read(fields).map(|Abort { slot, pins }| Verb::Abort { slot, pins }),
        "switch" => read(fields).map(|Switch { slot, force }| Verb::Switch { slot, force }),
        "rollback" => read(fields).map(|Rollback { to, pins, force }| Verb::Rollback { to, pins, force }),
        "migrate" => read(fields).map(|OneSlot { slot }| Verb::Migrate { slot }),
        "recycle" => read(fields).map(|Recycle { slot, force }| Verb::Recycle { slot, force }),
        "set_deadline" => {
            read(fields).map(|SetDeadline { slot, within_seconds }| Verb::SetDeadline { slot, within_seconds })
        }
        "rotate_keys" => read(fields).map(|Nothing {}| Verb::RotateKeys),
        "retire_key" => read(fields).map(|RetireKey { key, force }| Verb::RetireKey { key, force }),
        _ => {
            let known = "apply, add_bundle, stage, ramp, abort, switch, rollback, migrate, recycle, set_deadline, rotate_keys, retire_key";
            Err(unknown(name, known))
        }
    }
}

/// A preset is expanded before the rest is read, so that an error names the field that is wrong.
fn apply(mut fields: Map<String, Value>) -> Result<Verb, ApiError> {
    let preset = fields.get_mut("settings").and_then(Value::as_object_mut).map(preset::expand).transpose();
    let preset =
        preset.map_err(|error| ApiError::new(Kind::BODY, format!("settings.{error}")).at("settings.preset"))?;
    let Apply { settings } = read(fields)?;
    Ok(Verb::Apply { settings: Box::new(Applied { preset: preset.flatten(), settings }) })
}

fn application_verb(name: &str, fields: Map<String, Value>) -> Result<ApplicationVerb, ApiError> {
    match name {
        "rotate_keys" => read(fields).map(|Nothing {}| ApplicationVerb::RotateKeys),
        "retire_key" => read(fields).map(|RetireKey { key, force }| ApplicationVerb::RetireKey { key, force }),
        _ => Err(unknown(name, "rotate_keys, retire_key")),
    }
}

fn unknown(name: &str, known: &str) -> ApiError {
    ApiError::new(Kind::BODY, format!("verb: {name:?} is none of {known}")).at("verb")
}

fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(http::document_error)
}

fn within<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::new(Kind::BODY, format!("{field}: {error}")).at(field))
}
