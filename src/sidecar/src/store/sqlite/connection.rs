//! A thread that owns a SQLite connection, so that no async worker ever waits for a disk.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use crate::store::Outage;

/// `cfst`: tells our files from other SQLite files.
const APPLICATION_ID: i32 = 0x6366_7374;
/// The layout that this release writes and reads.
const LAYOUT: i32 = 1;

const TABLES: &str = "
    CREATE TABLE log (seq INTEGER PRIMARY KEY, text TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
    CREATE TABLE secrets (name TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE ephemera (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER) STRICT, WITHOUT ROWID;
";

type Job = Box<dyn FnOnce(&mut rusqlite::Connection) + Send>;

/// The handle of such a thread. Dropping it ends the thread after the jobs that it has been given.
#[derive(Debug)]
pub(super) struct Connection {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Connection {
    /// Opens the store at `path`, made where there is none, and runs `first` on it before anything else.
    pub(super) fn open<T>(
        path: &Path,
        first: impl FnOnce(&mut rusqlite::Connection) -> Result<T>,
    ) -> Result<(Self, T)> {
        // SQLite gives its journal the mode of the file, so that none of them is ever readable to others.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut db = rusqlite::Connection::open(path)?;
        if recognise(&db)? == Found::Nothing {
            make_tables(&mut db).context("cannot make its tables")?;
        }
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let found = first(&mut db)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("store".to_owned());
        let thread = thread.spawn(move || queue.into_iter().for_each(|job| job(&mut db)))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, found))
    }

    /// Runs `job` in its turn. It runs even where nobody waits for it any more.
    pub(super) async fn run<T, E>(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut rusqlite::Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Outage> + Send + 'static,
    {
        let gone = || Outage { what, cause: "its thread has ended".to_owned() };
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |db| drop(answer.send(job(db))));
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Turns an error of SQLite into ours.
pub(super) fn outage(what: &'static str) -> impl Fn(rusqlite::Error) -> Outage + Copy {
    move |error| Outage { what, cause: error.to_string() }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
}

/// Looks at a file before anything is done to it: one that is not ours stays as it is.
fn recognise(db: &rusqlite::Connection) -> Result<Found> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (tables, number("application_id")?, number("user_version")?) {
        (0, ..) => Ok(Found::Nothing),
        (_, APPLICATION_ID, LAYOUT) => Ok(Found::Ours),
        (_, APPLICATION_ID, later) => bail!("it has layout {later}, this release reads {LAYOUT}: start a newer one"),
        _ => bail!("it is a SQLite file, but none of colorfast"),
    }
}

fn make_tables(db: &mut rusqlite::Connection) -> rusqlite::Result<()> {
    let making = db.transaction()?;
    making.execute_batch(TABLES)?;
    making.pragma_update(None, "application_id", APPLICATION_ID)?;
    making.pragma_update(None, "user_version", LAYOUT)?;
    making.commit()
}
