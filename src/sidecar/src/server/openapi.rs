//! Routes and the OpenAPI document that describes them, from one declaration: no route without its description.
//!
//! What a request and an answer look like comes from the types that read and write them, what may go wrong from the
//! table of problems. The document is made once, where the routes are.

mod operation;

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::handler::Handler;
use axum::http::header;
use axum::routing::{MethodFilter, MethodRouter, on};
use colorfast_core::schema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use self::operation::{Operation, Parameter};
use super::gate;
use super::problem::Kind;
use crate::api::{PROBLEM_PREFIX, Problem};

/// Media type of a JSON document.
const JSON: &str = "application/json";

/// An API in the making.
pub struct Api<S> {
    router: Router<S>,
    paths: BTreeMap<String, Map<String, Value>>,
    schemas: SchemaGenerator,
}

/// What an API says of itself.
pub struct About {
    /// Its title.
    pub title: &'static str,
    /// What it is for, in Markdown.
    pub description: &'static str,
    /// Where it listens unless told otherwise.
    pub server: &'static str,
    /// Where the document is served.
    pub document: &'static str,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// No route yet.
    pub fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12().with_transform(schema::bounds());
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        Self { router: Router::new(), paths: BTreeMap::new(), schemas: settings.into_generator() }
    }

    /// Adds `GET path`.
    pub fn get<H, T>(self, path: &str, handler: H, describe: impl FnOnce(Operation<'_>) -> Operation<'_>) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.operation("get", path, on(MethodFilter::GET, handler), describe)
    }

    /// Adds `POST path`.
    pub fn post<H, T>(self, path: &str, handler: H, describe: impl FnOnce(Operation<'_>) -> Operation<'_>) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.operation("post", path, on(MethodFilter::POST, handler), describe)
    }

    /// Adds `PUT path`.
    pub fn put<H, T>(self, path: &str, handler: H, describe: impl FnOnce(Operation<'_>) -> Operation<'_>) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.operation("put", path, on(MethodFilter::PUT, handler), describe)
    }

    /// Adds `DELETE path`.
    pub fn delete<H, T>(self, path: &str, handler: H, describe: impl FnOnce(Operation<'_>) -> Operation<'_>) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.operation("delete", path, on(MethodFilter::DELETE, handler), describe)
    }

    fn operation(
        mut self,
        method: &str,
        path: &str,
        handler: MethodRouter<S>,
        describe: impl FnOnce(Operation<'_>) -> Operation<'_>,
    ) -> Self {
        let described = describe(Operation::new(&mut self.schemas)).finish();
        self.paths.entry(path.to_owned()).or_default().insert(method.to_owned(), described);
        self.router = self.router.route(path, handler);
        self
    }

    /// The routes, that of the document among them, and the document.
    pub fn finish(mut self, about: &About) -> (Router<S>, Value) {
        let described = Operation::new(&mut self.schemas)
            .named("openapi", "This document", "sidecar")
            .describe("The OpenAPI 3.1 document of this address, made from the code that serves it.")
            .response(
                200,
                json!({
                    "description": "The document.",
                    "content": { JSON: { "schema": { "type": "object", "required": ["openapi", "info", "paths"] } } },
                }),
            )
            .finish();
        self.paths.entry(about.document.to_owned()).or_default().insert("get".to_owned(), described);
        self.schemas.subschema_for::<Problem>();
        let mut schemas = self.schemas.take_definitions(true);
        if let Some(kind) = schemas.get_mut("Problem").and_then(|problem| problem.pointer_mut("/properties/type")) {
            let types = Kind::ALL.iter().map(|kind| format!("{PROBLEM_PREFIX}{}", kind.code()));
            kind["enum"] = types.collect();
        }
        self.paths.insert(gate::HEALTH.to_owned(), health());
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": about.title,
                "description": about.description,
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": about.server, "description": "unless told otherwise" }],
            "security": [{ "token": [] }, { "certificate": [] }],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": { "type": "http", "scheme": "bearer", "description": "A token of this address." },
                    "certificate": { "type": "mutualTLS", "description": "A client certificate, where TLS is on." },
                },
            },
        });
        let text: Bytes = document.to_string().into();
        let serve = move || std::future::ready(([(header::CONTENT_TYPE, JSON)], text.clone()));
        (self.router.route(about.document, on(MethodFilter::GET, serve)), document)
    }
}

/// The one operation that is open to everyone.
fn health() -> Map<String, Value> {
    let answer = json!({
        "description": "It answers.",
        "content": { "text/plain": { "schema": { "type": "string", "const": "ok" } } },
    });
    let operation = json!({
        "operationId": "health",
        "summary": "Whether the sidecar answers",
        "description": "For supervisors. Needs no token, and says nothing about the release.",
        "tags": ["sidecar"],
        "security": [],
        "responses": { "200": answer },
    });
    Map::from_iter([("get".to_owned(), operation)])
}
