//! `GET /v1/backup`: a copy of the store as it is at one moment, sent as it is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;
use tracing::info;

use super::Unfinished;
use crate::server::control::Control;
use crate::server::openapi::Operation;
use crate::server::problem::ApiError;
use crate::store::{Copies, Ephemera, Outage};

/// Makes copies, one at a time.
#[derive(Debug)]
pub struct Backups {
    store: Arc<dyn Copies>,
    ephemera: Arc<dyn Ephemera>,
    folder: PathBuf,
    turn: Mutex<()>,
}

impl Backups {
    /// Copies of `store` pass through `folder`, where those of a process that was killed are removed.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn new(store: Arc<dyn Copies>, ephemera: Arc<dyn Ephemera>, folder: &Path) -> std::io::Result<Self> {
        Unfinished::sweep(folder)?;
        Ok(Self { store, ephemera, folder: folder.to_owned(), turn: Mutex::default() })
    }

    /// A copy. Its file has no name any more: it goes with its reader, or with the process.
    async fn take(&self) -> Result<tokio::fs::File, Outage> {
        let failed = |error: std::io::Error| Outage { what: "copy the store", cause: error.to_string() };
        let _turn = self.turn.lock().await;
        // Members that are only in memory come along.
        self.ephemera.flush().await?;
        let (copy, file) = Unfinished::make(&self.folder).map_err(failed)?;
        self.store.copy_to(copy.path.clone()).await?;
        Ok(tokio::fs::File::from_std(file))
    }
}

/// What `download` is for.
pub fn describe_download(operation: Operation<'_>) -> Operation<'_> {
    let file = json!({ "application/vnd.sqlite3": { "schema": { "type": "string", "format": "binary" } } });
    operation
        .named("backup", "A copy of everything", "sidecar")
        .describe(
            "The store as it is at one moment, while verbs go on: log, keys, members. Whoever has it has every key, so \
             keep it to yourself. `colorfast restore` takes it.",
        )
        .response(200, json!({ "description": "A SQLite file.", "content": file }))
}

/// `GET /v1/backup`
pub async fn download(State(control): State<Arc<Control>>) -> Result<Response, ApiError> {
    let copy = control.backups.take().await?;
    let read = copy.metadata().await;
    let bytes = read.map_err(|error| Outage { what: "copy the store", cause: error.to_string() })?.len();
    info!(bytes, "backup taken");
    let head =
        [(header::CONTENT_TYPE, "application/vnd.sqlite3".to_owned()), (header::CONTENT_LENGTH, bytes.to_string())];
    Ok((head, Body::from_stream(ReaderStream::new(copy))).into_response())
}
