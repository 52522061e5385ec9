//! Access: who asks, and what for.
//!
//! ```text
//!  bearer token ─┐                      ┌─▶ role     (control)
//!                ├─▶ gate ─▶ Access ─▶ Caller
//!  certificate ──┘                      └─▶ pattern  (discovery)
//! ```
//!
//! All tokens stand in one document behind [`Secrets`], each with a hash of its secret only. It is read at the start and
//! answered from memory; a change is written before it holds, and holds from the next request on.

mod bearer;
mod failures;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use colorfast_core::error::FieldError;
use colorfast_core::ids::Digest;
use colorfast_core::time::UnixMillis;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

pub use self::failures::Failures;
use crate::api::tokens::{CreateToken, CreatedToken, NodePattern, Role, SubjectName, TokenId, TokenName, TokenStatus};
use crate::store::{Ephemera, Outage, PutError, Secrets};

/// Where the tokens are kept.
const PLACE: &str = "access/tokens";
/// The form of the document.
const FORMAT: u32 = 1;
/// Most tokens.
const TOKENS_MAX: usize = 1_000;
/// How fine the time of the last use is.
const USE_MS: u64 = 60_000;
/// Longest life of a token: a hundred years, so that no time overflows.
const LIFE_MAX_SECONDS: u64 = 100 * 366 * 86_400;
/// The principal of the token in the data folder, and of what the sidecar does by itself.
const RESERVED: [&str; 2] = [LOCAL, "sidecar"];

/// The principal that holds the tokens of the data folder.
pub const LOCAL: &str = "local";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of its token, as the log has it.
    pub principal: Arc<str>,
    /// What it may.
    pub grant: Grant,
}

/// What the holder of a token may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Ask and order at the control API.
    Control(Role),
    /// Be one of these nodes at discovery.
    Discovery(NodePattern),
}

/// A token as it is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    status: TokenStatus,
    /// Of its secret; none where a certificate stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

/// All tokens, as they are kept.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    tokens: Vec<Kept>,
}

/// All tokens at one version of the document.
#[derive(Clone, Default)]
struct Table {
    version: u64,
    tokens: Vec<Kept>,
}

/// The tokens of a sidecar.
pub struct Access {
    secrets: Arc<dyn Secrets>,
    ephemera: Arc<dyn Ephemera>,
    table: RwLock<Arc<Table>>,
}

/// Why a token was neither made nor revoked. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// What was asked for breaks a rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is one of that name.
    #[error("there is a token {0} already: revoke it first (`colorfast token revoke {0}`), or take another name")]
    Exists(TokenName),
    /// There is none of that name.
    #[error("there is no token {0}: `colorfast token list` names them")]
    Unknown(TokenName),
    /// There are too many.
    #[error("there are {TOKENS_MAX} tokens already: revoke some first")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Outage(#[from] Outage),
}

impl Access {
    /// The tokens that are kept.
    ///
    /// # Errors
    /// Where they cannot be read: nobody would be let in who should be.
    pub async fn load(secrets: Arc<dyn Secrets>, ephemera: Arc<dyn Ephemera>) -> Result<Self> {
        let table = read(secrets.as_ref()).await?;
        Ok(Self { secrets, ephemera, table: RwLock::new(Arc::new(table)) })
    }

    /// Who holds the token `given`. Only where there is one of its id its secret is looked at, in constant time.
    pub fn holder(&self, given: &[u8], now: UnixMillis) -> Option<Caller> {
        let (id, secret) = bearer::part(given)?;
        let table = self.table.read().clone();
        let kept = table.tokens.iter().find(|kept| kept.status.id == id)?;
        let wanted = kept.digest.as_ref()?;
        let proven: bool = bearer::digest(secret).as_str().as_bytes().ct_eq(wanted.as_str().as_bytes()).into();
        self.admit(Some(kept).filter(|_| proven)?, now)
    }

    /// Who has a certificate of one of these names.
    pub fn certified(&self, names: &[SubjectName], now: UnixMillis) -> Option<Caller> {
        let table = self.table.read().clone();
        let of_name = |kept: &&Kept| kept.status.certificate.as_ref().is_some_and(|name| names.contains(name));
        table.tokens.iter().filter(of_name).find_map(|kept| self.admit(kept, now))
    }

    fn admit(&self, Kept { status, .. }: &Kept, now: UnixMillis) -> Option<Caller> {
        if status.expires.is_some_and(|expires| expires <= now) {
            return None;
        }
        let grant = match (&status.role, &status.node) {
            (Some(role), _) => Grant::Control(*role),
            (None, Some(node)) => Grant::Discovery(node.clone()),
            (None, None) => return None,
        };
        self.ephemera.merge(&used(&status.id), None, &mut |known| {
            let stale = known.and_then(read_time).is_none_or(|known| now.since(known) >= USE_MS);
            stale.then(|| now.0.to_le_bytes().to_vec())
        });
        Some(Caller { principal: status.name.as_str().into(), grant })
    }

    /// Every token, in order of name.
    pub fn list(&self) -> Vec<TokenStatus> {
        let table = self.table.read().clone();
        let status = table.tokens.iter().map(|kept| {
            let last_used = self.ephemera.get(&used(&kept.status.id)).and_then(|bytes| read_time(&bytes));
            TokenStatus { last_used, ..kept.status.clone() }
        });
        let mut all: Vec<_> = status.collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Makes a token. Its text is in the answer, and nowhere else.
    ///
    /// # Errors
    /// Says why it was not made.
    pub async fn create(&self, asked: CreateToken, by: &str, now: UnixMillis) -> Result<CreatedToken, TokenError> {
        let CreateToken { name, role, node, certificate, expires_in_seconds } = asked;
        if role.is_some() == node.is_some() {
            let rule = "exactly one of role (for the control API) and node (for discovery) is wanted";
            return Err(FieldError::new("role", rule).into());
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(FieldError::new("name", format!("{name} is who holds the data folder: take another")).into());
        }
        let expires = match expires_in_seconds {
            None => None,
            Some(seconds @ 1..=LIFE_MAX_SECONDS) => Some(now.plus_millis(seconds * 1000)),
            Some(seconds) => {
                let rule = format!("is {seconds}, 1 to {LIFE_MAX_SECONDS} is allowed");
                return Err(FieldError::new("expires_in_seconds", rule).into());
            }
        };
        let failed = |error: anyhow::Error| Outage { what: "make a token", cause: format!("{error:#}") };
        let (id, digest, text) = match &certificate {
            Some(_) => (bearer::draw_id().map_err(failed)?, None, None),
            None => {
                let bearer::Drawn { id, digest, text } = bearer::draw().map_err(failed)?;
                (id, Some(digest), Some(text))
            }
        };
        let made_by = by.to_owned();
        let status = TokenStatus { id, name, role, node, certificate, made: now, made_by, expires, last_used: None };
        let kept = Kept { status: status.clone(), digest };
        self.change(|tokens| add(tokens, kept.clone())).await?;
        Ok(CreatedToken { token: text, status })
    }

    /// Revokes a token: its holder's next request is refused.
    ///
    /// # Errors
    /// Says why it was not.
    pub async fn revoke(&self, name: &TokenName) -> Result<TokenStatus, TokenError> {
        let revoked = self.change(|tokens| remove(tokens, name)).await?;
        self.ephemera.remove(&used(&revoked.id));
        Ok(revoked)
    }

    /// Changes the document; what another has written meanwhile is read first.
    async fn change<T>(
        &self,
        change: impl Fn(&mut Vec<Kept>) -> Result<T, TokenError> + Send,
    ) -> Result<T, TokenError> {
        let failed = |error: anyhow::Error| Outage { what: "change the tokens", cause: format!("{error:#}") };
        loop {
            let mut table = Table::clone(&self.table.read().clone());
            let changed = change(&mut table.tokens)?;
            let document = Document { format: FORMAT, tokens: table.tokens };
            let text = serde_json::to_vec(&document).map_err(|error| failed(error.into()))?;
            match self.secrets.put_if_version(PLACE, table.version, text).await {
                Ok(version) => {
                    self.take(Table { version, tokens: document.tokens });
                    return Ok(changed);
                }
                Err(PutError::Moved(_)) => {
                    let newer = read(self.secrets.as_ref()).await.map_err(failed)?;
                    self.take(newer);
                }
                Err(PutError::Outage(outage)) => return Err(outage.into()),
            }
        }
    }

    /// The document has moved on; of two that did, the newer stays.
    fn take(&self, newer: Table) {
        let mut table = self.table.write();
        if table.version < newer.version {
            *table = Arc::new(newer);
        }
    }
}

fn add(tokens: &mut Vec<Kept>, token: Kept) -> Result<(), TokenError> {
    if tokens.len() >= TOKENS_MAX {
        return Err(TokenError::Full);
    }
    if tokens.iter().any(|kept| kept.status.name == token.status.name) {
        return Err(TokenError::Exists(token.status.name));
    }
    let certificate = token.status.certificate.as_ref();
    let bound = tokens.iter().find(|kept| certificate.is_some() && kept.status.certificate.as_ref() == certificate);
    if let Some(bound) = bound {
        let rule = format!("is bound by the token {} already: revoke that first", bound.status.name);
        return Err(FieldError::new("certificate", rule).into());
    }
    if tokens.iter().any(|kept| kept.status.id == token.status.id) {
        let cause = "its id was drawn before: try again".to_owned();
        return Err(Outage { what: "make a token", cause }.into());
    }
    tokens.push(token);
    Ok(())
}

fn remove(tokens: &mut Vec<Kept>, name: &TokenName) -> Result<TokenStatus, TokenError> {
    let found = tokens.iter().position(|kept| kept.status.name == *name);
    found.map(|at| tokens.remove(at).status).ok_or_else(|| TokenError::Unknown(name.clone()))
}

async fn read(secrets: &dyn Secrets) -> Result<Table> {
    let Some(found) = secrets.get(PLACE).await? else { return Ok(Table::default()) };
    let document: Document = serde_json::from_slice(&found.value).context("the tokens cannot be read")?;
    if document.format != FORMAT {
        bail!("the tokens have format {}, this release reads {FORMAT}: start a newer one", document.format);
    }
    Ok(Table { version: found.version, tokens: document.tokens })
}

/// Where the last use of a token is noted.
fn used(id: &TokenId) -> String {
    format!("token-used/{id}")
}

fn read_time(bytes: &[u8]) -> Option<UnixMillis> {
    Some(UnixMillis(u64::from_le_bytes(bytes.try_into().ok()?)))
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("tokens", &self.table.read().tokens.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
