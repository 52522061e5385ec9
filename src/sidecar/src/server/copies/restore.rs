//! `colorfast restore`: a copy in the place of the store, with a log that goes on under an epoch of its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use colorfast_core::ids::{AssignmentId, Epoch};
use colorfast_core::release::{Event, LostFuture};

use super::{Contents, JOURNALS, Unfinished, beside, contents, exists, open};
use crate::data_dir::STORE_FILE;
use crate::server::{clock, files};
use crate::store::sqlite::carry_ephemera;
use crate::store::{DirLock, Log};

/// What to do with a store that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and restore nothing.
    Leave,
    /// Keep it beside the restored one.
    Replace,
}

/// A store that was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the copy held.
    pub copy: Contents,
    /// The epoch that it goes on under.
    pub epoch: Epoch,
    /// The entry that says so.
    pub entry: u64,
    /// No assignment up to this one is given again.
    pub given: AssignmentId,
    /// Where the store is that was there before.
    pub kept: Option<PathBuf>,
}

/// Why nothing was restored. The store that was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A sidecar runs on the folder.
    #[error("{0:#}")]
    InUse(anyhow::Error),
    /// There is a store already.
    #[error("there is a store already: {}", .0.display())]
    Exists(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is no store that could be trusted.
    #[error("{} cannot be restored: {cause:#}", .file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: anyhow::Error,
    },
    /// The folder cannot be read or written.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// Puts the copy in `file` into the data folder `folder`, in the name of `principal`.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(
    file: &Path,
    folder: &Path,
    existing: Existing,
    principal: &str,
) -> Result<Restored, RestoreError> {
    let source = File::open(file).and_then(|source| match source.metadata()?.is_file() {
        true => Ok(source),
        false => Err(io::Error::other("it is no file")),
    });
    let mut source = source.map_err(|cause| RestoreError::Unreadable { file: file.to_owned(), cause })?;
    files::make_private_folder(folder)?;
    let _lock = DirLock::take(folder).map_err(RestoreError::InUse)?;
    let store = folder.join(STORE_FILE);
    let there = exists(&store)?;
    if there && existing == Existing::Leave {
        return Err(RestoreError::Exists(store));
    }
    Unfinished::sweep(folder).context("cannot remove what an earlier copy left behind")?;
    let (copy, mut to) = Unfinished::make(folder).context("cannot write into the data folder")?;
    io::copy(&mut source, &mut to).with_context(|| format!("cannot copy {}", file.display()))?;
    drop(to);

    let unfit = |cause| RestoreError::Unfit { file: file.to_owned(), cause };
    drop(open(&copy.path).await.map_err(unfit)?);
    let lost = if there { lost_future(&store, &copy.path).await } else { None };
    let mut restored = go_on(&copy.path, lost, principal).await?;
    if there {
        restored.kept = Some(keep(&store, restored.epoch).context("cannot keep the store that is there")?);
    }
    fs::rename(&copy.path, &store)
        .and_then(|()| File::open(folder)?.sync_all())
        .context("cannot put the copy in its place")?;
    Ok(restored)
}

/// What a store that is replaced knew beyond the copy; its members are the copy's from now on. Nothing where that store
/// is damaged: it may be the very reason of the restore.
async fn lost_future(store: &Path, copy: &Path) -> Option<LostFuture> {
    let (opened, file) = open(store).await.ok()?;
    let state = opened.state();
    let lost = LostFuture { epoch: state.epoch, next_assignment: state.next_assignment };
    file.checkpoint().await.ok()?;
    drop((opened, file));
    carry_ephemera(store, copy).ok()?;
    Some(lost)
}

/// Appends the genesis that proxies follow.
async fn go_on(copy: &Path, lost: Option<LostFuture>, principal: &str) -> Result<Restored> {
    let (mut opened, store) = open(copy).await?;
    let before = contents(&opened);
    let at = clock::now();
    let event = opened.state().restore(opened.last_at(), at, lost);
    let given = match &event {
        Event::Genesis { restored: Some(restored), .. } => restored.given,
        _ => AssignmentId(0),
    };
    opened.append(at, principal, event).await?;
    store.checkpoint().await?;
    let restored = Restored { copy: before, epoch: opened.epoch(), entry: opened.head().seq, given, kept: None };
    drop((opened, store));
    File::open(copy)?.sync_all()?;
    Ok(restored)
}

/// Gives the store that is there a second name, which it keeps once the restored one takes its place. Until then it
/// has its own, too: at no moment is there none.
fn keep(store: &Path, epoch: Epoch) -> Result<PathBuf> {
    let kept = store.with_file_name(format!("{STORE_FILE}.before-{}", epoch.0.0));
    fs::hard_link(store, &kept)?;
    for journal in JOURNALS {
        // Left by a process that was killed, of a store that cannot be opened; else it is in the file by now.
        if exists(&beside(store, journal))? {
            fs::rename(beside(store, journal), beside(&kept, journal))?;
        }
    }
    Ok(kept)
}
