//! An offline store: the log in one file that goes with git, the secrets in another that never does.
//!
//! | file | holds |
//! | --- | --- |
//! | `log.jsonl` | an entry a line, `{"hash": …, "entry": …}`, the entry as it was sealed: what a verb did is the line that it added |
//! | `secrets.json` | keys by name, readable to its owner only |
//! | `.gitignore` | names what must not be committed |
//!
//! Each file is replaced as a whole, so a process that dies leaves the one before or the one after. Two branches that
//! gave a verb each conflict in the last line: git's merge is the compare-and-swap.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, future};

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::leases::Leases;
use super::sqlite::Sqlite;
use super::{Answer, AppendError, Copies, Head, LeaseError, Log, Outage, PutError, Record, Secrets, Versioned};
use crate::data_dir::{LOCK_FILE, LOG_FILE, SECRETS_FILE};
use crate::replace::{PRIVATE, replace};

/// Who may read the log: whoever may read the folder.
const PUBLIC: u32 = 0o644;
/// What stands before the hash of a line, between it and the entry, and after that.
const PARTS: [&str; 3] = ["{\"hash\":\"", "\",\"entry\":", "}"];

const APPEND: &str = "append to the log";
const WRITE: &str = "write a secret";

/// The store in one folder. Its [`super::DirLock`] is the caller's.
pub struct Files {
    folder: PathBuf,
    head: watch::Sender<Head>,
    records: Mutex<Vec<Record>>,
    secrets: Mutex<BTreeMap<String, Versioned>>,
    leases: Leases,
}

/// A secret as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u64,
    value: String,
}

impl Files {
    /// Opens the store in `folder`, which may be empty: the first entry makes its files.
    ///
    /// # Errors
    /// Where a file is not of its form, or cannot be read: which, and where in it.
    pub fn open(folder: &Path) -> Result<Self> {
        let records = read_log(&folder.join(LOG_FILE))?;
        let secrets = read_secrets(&folder.join(SECRETS_FILE))?;
        let head = records.last().map_or_else(Head::empty, Record::head);
        Ok(Self {
            folder: folder.to_owned(),
            head: watch::Sender::new(head),
            records: Mutex::new(records),
            secrets: Mutex::new(secrets),
            leases: Leases::default(),
        })
    }

    /// The hash of the entry `seq`.
    pub fn hash(&self, seq: u64) -> Option<String> {
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.records.lock().get(place).map(|record| record.hash.clone())
    }

    fn append_now(&self, expected: &Head, new: Vec<Record>) -> Result<Head, AppendError> {
        let mut records = self.records.lock();
        let found = records.last().map_or_else(Head::empty, Record::head);
        if found != *expected {
            return Err(AppendError::Moved(found));
        }
        let mut last = found;
        for record in &new {
            if record.seq != last.seq + 1 || record.text.contains('\n') {
                let cause = format!("record {} cannot stand after {}", record.seq, last.seq);
                return Err(Outage { what: APPEND, cause }.into());
            }
            last = record.head();
        }
        let [before, between, after] = PARTS;
        let line = |record: &Record| format!("{before}{}{between}{}{after}\n", record.hash, record.text);
        let text: String = records.iter().chain(&new).map(line).collect();
        let failed = |error: io::Error| Outage { what: APPEND, cause: error.to_string() };
        self.ignore_private_files().map_err(failed)?;
        replace(&self.folder.join(LOG_FILE), text.as_bytes(), PUBLIC).map_err(failed)?;
        records.extend(new);
        self.head.send_replace(last.clone());
        Ok(last)
    }

    /// Written where there is none; what stands there is its owner's.
    fn ignore_private_files(&self) -> io::Result<()> {
        let path = self.folder.join(".gitignore");
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(mut file) => writeln!(file, "/{SECRETS_FILE}\n/{LOCK_FILE}\n/*.new"),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn put_now(&self, name: &str, expected: u64, value: Vec<u8>) -> Result<u64, PutError> {
        let mut secrets = self.secrets.lock();
        let found = secrets.get(name).map_or(0, |found| found.version);
        if found != expected {
            return Err(PutError::Moved(found));
        }
        let version = found + 1;
        let mut all = secrets.clone();
        all.insert(name.to_owned(), Versioned { version, value });
        let kept = |secret: &Versioned| Kept { version: secret.version, value: BASE64.encode(&secret.value) };
        let document: BTreeMap<_, _> = all.iter().map(|(name, secret)| (name, kept(secret))).collect();
        let failed = |cause: String| Outage { what: WRITE, cause };
        let mut text = serde_json::to_string_pretty(&document).map_err(|error| failed(error.to_string()))?;
        text.push('\n');
        self.ignore_private_files().map_err(|error| failed(error.to_string()))?;
        replace(&self.folder.join(SECRETS_FILE), text.as_bytes(), PRIVATE)
            .map_err(|error| failed(error.to_string()))?;
        *secrets = all;
        Ok(version)
    }
}

fn read_log(path: &Path) -> Result<Vec<Record>> {
    let Some(text) = read(path)? else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    for (seq, line) in (1..).zip(text.lines()) {
        let record = part(line).map(|(hash, text)| Record { seq, text: text.to_owned(), hash: hash.to_owned() });
        match record {
            Some(record) => records.push(record),
            None if line.starts_with("<<<<<<<") || line.starts_with("=======") => bail!(
                "{} has a merge conflict in line {seq}: a log is one line of history, so take the file of one side as it \
                 is, and give the verbs of the other side again",
                path.display()
            ),
            None => bail!("line {seq} of {} is no entry: take the file back as it was committed last", path.display()),
        }
    }
    Ok(records)
}

/// The hash and the entry of a line. What they are is judged by whoever follows the chain.
fn part(line: &str) -> Option<(&str, &str)> {
    let [before, between, after] = PARTS;
    line.strip_prefix(before)?.strip_suffix(after)?.split_once(between)
}

fn read_secrets(path: &Path) -> Result<BTreeMap<String, Versioned>> {
    let Some(text) = read(path)? else { return Ok(BTreeMap::new()) };
    // Neither the parser's words nor ours repeat a piece of a key.
    let document: Option<BTreeMap<String, Kept>> = serde_json::from_str(&text).ok();
    let secrets = document.and_then(|document| {
        let secret = |(name, kept): (String, Kept)| {
            Some((name, Versioned { version: kept.version, value: BASE64.decode(kept.value.as_bytes()).ok()? }))
        };
        document.into_iter().map(secret).collect()
    });
    secrets.with_context(|| format!("{} cannot be read: put the file back as it was kept", path.display()))
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

impl Log for Files {
    fn append(&self, expected: Head, records: Vec<Record>) -> Answer<'_, Head, AppendError> {
        Box::pin(async move { self.append_now(&expected, records) })
    }

    fn read(&self, after: u64, limit: usize) -> Answer<'_, Vec<Record>> {
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let records = self.records.lock().iter().skip(after).take(limit).cloned().collect();
        Box::pin(future::ready(Ok(records)))
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn checkpoint(&self) -> Answer<'_, ()> {
        Box::pin(future::ready(Ok(())))
    }

    fn lease(&self, name: &'static str, holder: &str, ttl: Duration) -> Answer<'_, (), LeaseError> {
        Box::pin(future::ready(self.leases.take(name, holder, ttl)))
    }
}

impl Secrets for Files {
    fn get(&self, name: &str) -> Answer<'_, Option<Versioned>> {
        let found = self.secrets.lock().get(name).cloned();
        Box::pin(future::ready(Ok(found)))
    }

    fn put_if_version(&self, name: &str, expected: u64, value: Vec<u8>) -> Answer<'_, u64, PutError> {
        let name = name.to_owned();
        Box::pin(async move { self.put_now(&name, expected, value) })
    }
}

impl Copies for Files {
    fn copy_to(&self, file: PathBuf) -> Answer<'_, ()> {
        let records = self.records.lock().clone();
        let secrets = self.secrets.lock().clone();
        Box::pin(async move {
            let failed = |cause: String| Outage { what: "copy the store", cause };
            let opened = tokio::task::spawn_blocking(move || Sqlite::open(&file)).await;
            let store = opened.map_err(|error| failed(error.to_string()))?;
            let store = store.map_err(|error| failed(format!("{error:#}")))?;
            store.append(Head::empty(), records).await.map_err(|error| failed(error.to_string()))?;
            for (name, secret) in secrets {
                store.put_if_version(&name, 0, secret.value).await.map_err(|error| failed(error.to_string()))?;
            }
            store.checkpoint().await
        })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.folder).finish()
    }
}

#[cfg(test)]
mod tests;
