//! One operation: what it is asked with, what it answers, what may go wrong.

use std::collections::BTreeMap;

use colorfast_core::schema::bounds;
use schemars::transform::Transform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::JSON;
use crate::api::PROBLEM_PREFIX;
use crate::server::problem::Kind;

/// One operation in the making.
pub struct Operation<'a> {
    schemas: &'a mut SchemaGenerator,
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    responses: Map<String, Value>,
    problems: Vec<Kind>,
}

/// What stands in the path or in a header of a request.
pub trait Parameter {
    /// As OpenAPI describes it.
    fn describe(schemas: &mut SchemaGenerator) -> Value;
    /// What is wrong with it where it is wrong.
    const PROBLEMS: &'static [Kind];
}

impl<'a> Operation<'a> {
    pub(super) fn new(schemas: &'a mut SchemaGenerator) -> Self {
        let (fields, parameters, responses) = (Map::new(), Vec::new(), Map::new());
        Self { schemas, fields, parameters, responses, problems: Vec::new() }.may_fail(&[
            Kind::UNAUTHENTICATED,
            Kind::FAILURES,
            Kind::FORBIDDEN,
            Kind::OUTAGE,
        ])
    }

    /// What programs call it, what it does in one line, and the group that it is of.
    pub fn named(self, id: &str, summary: &str, tag: &str) -> Self {
        self.with("operationId", id.into()).with("summary", summary.into()).with("tags", json!([tag]))
    }

    /// What it does, at length.
    pub fn describe(self, description: &str) -> Self {
        self.with("description", description.into())
    }

    /// It reads `P` of a request.
    pub fn takes<P: Parameter>(mut self) -> Self {
        let mut parameter = P::describe(self.schemas);
        if let Some(schema) = parameter.get_mut("schema") {
            bound(schema);
        }
        self.parameters.push(parameter);
        self.may_fail(P::PROBLEMS)
    }

    /// It reads its query as `Q`.
    pub fn query<Q: JsonSchema>(mut self) -> Self {
        let schema = Q::json_schema(self.schemas);
        let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, value) in properties.into_iter().flatten() {
            let mut value = value.clone();
            bound(&mut value);
            let description = value.as_object_mut().and_then(|value| value.remove("description")).unwrap_or_default();
            let required = required.iter().any(|required| *required == name);
            self.parameters.push(json!({
                "name": name,
                "in": "query",
                "description": description,
                "required": required,
                "schema": without_null(value),
            }));
        }
        self.may_fail(&[Kind::QUERY, Kind::FIELD])
    }

    /// It reads a body as `B`.
    pub fn body<B: JsonSchema>(self, description: &str) -> Self {
        let schema = self.schemas.subschema_for::<B>();
        let body = json!({ "description": description, "required": true, "content": { JSON: { "schema": schema } } });
        self.with("requestBody", body).may_fail(&[Kind::BODY, Kind::FIELD, Kind::TOO_LARGE, Kind::TOO_SLOW])
    }

    /// It answers with an `A`.
    pub fn answers<A: JsonSchema>(self, description: &str) -> Self {
        self.answers_with::<A>(200, description)
    }

    /// It makes something, and answers with an `A`.
    pub fn makes<A: JsonSchema>(self, description: &str) -> Self {
        self.answers_with::<A>(201, description)
    }

    fn answers_with<A: JsonSchema>(self, status: u16, description: &str) -> Self {
        let schema = self.schemas.subschema_for::<A>();
        self.response(status, json!({ "description": description, "content": { JSON: { "schema": schema } } }))
    }

    /// It answers with server-sent events of the type `kind`, each with a `D` as its data.
    pub fn streams<D: JsonSchema>(self, kind: &str, description: &str) -> Self {
        let document = self.schemas.subschema_for::<D>();
        let data = json!({ "type": "string", "contentMediaType": JSON, "contentSchema": document });
        let event = json!({
            "type": "object",
            "required": ["event", "data"],
            "properties": { "event": { "const": kind }, "id": { "type": "string" }, "data": data },
        });
        let content = json!({ "text/event-stream": { "schema": event } });
        self.response(200, json!({ "description": description, "content": content }))
    }

    /// It answers with something else than a JSON document of a type.
    pub fn response(mut self, status: u16, response: Value) -> Self {
        self.responses.insert(status.to_string(), response);
        self
    }

    /// It may end in any of these problems.
    pub fn may_fail(mut self, problems: &[Kind]) -> Self {
        self.problems.extend(problems);
        self
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.to_owned(), value);
        self
    }

    pub(super) fn finish(self) -> Value {
        let Self { mut fields, parameters, mut responses, problems, .. } = self;
        let mut by_status: BTreeMap<u16, BTreeMap<&str, Kind>> = BTreeMap::new();
        for kind in problems {
            by_status.entry(kind.status().as_u16()).or_default().insert(kind.code(), kind);
        }
        for (status, kinds) in by_status {
            responses.insert(status.to_string(), problem(status, kinds.values()));
        }
        if !parameters.is_empty() {
            fields.insert("parameters".to_owned(), parameters.into());
        }
        fields.insert("responses".to_owned(), responses.into());
        fields.into()
    }
}

/// The answer with one of the problems of a status.
fn problem<'a>(status: u16, kinds: impl Iterator<Item = &'a Kind> + Clone) -> Value {
    let types: Vec<_> = kinds.clone().map(|kind| format!("{PROBLEM_PREFIX}{}", kind.code())).collect();
    let told = kinds.map(|kind| format!("`{}`: {}. {}", kind.code(), kind.title(), kind.remedy()));
    let of_status = json!({ "properties": { "type": { "enum": types }, "status": { "const": status } } });
    let schema = json!({ "allOf": [{ "$ref": "#/components/schemas/Problem" }, of_status] });
    json!({ "description": told.collect::<Vec<_>>().join("\n\n"), "content": { "application/problem+json": { "schema": schema } } })
}

/// What stands in the document itself gets its bounds here; types of their own get theirs with all others.
fn bound(schema: &mut Value) {
    if let Ok(mut of) = Schema::try_from(schema.clone()) {
        bounds().transform(&mut of);
        *schema = of.to_value();
    }
}

/// A parameter of a query is there or not; it cannot be null.
fn without_null(mut schema: Value) -> Value {
    if schema.get("default").is_some_and(Value::is_null)
        && let Some(schema) = schema.as_object_mut()
    {
        schema.remove("default");
    }
    if let Some(kind) = schema.get_mut("type")
        && let Some(kinds) = kind.as_array_mut()
    {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            *kind = only.clone();
        }
    }
    let alternatives = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    if let Some(alternatives) = alternatives {
        alternatives.retain(|alternative| alternative["type"] != "null");
        if let [only] = alternatives.as_slice() {
            return only.clone();
        }
    }
    schema
}
