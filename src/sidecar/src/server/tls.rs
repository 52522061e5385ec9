//! TLS of both addresses. Certificates stand in files and are read again when these change, so that a rotation needs no
//! restart; connections that there are go on as they began.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::api::tokens::SubjectName;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What is spoken within: HTTP/1.1, as without TLS.
const PROTOCOL: &[u8] = b"http/1.1";

/// Where the certificates stand, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The sidecar's chain, its own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose client certificates stand for tokens; none where only tokens do.
    pub client_ca: Option<PathBuf>,
}

/// What tells that a file was replaced or written.
type Stamp = Option<(u64, u64, i64, i64)>;

/// TLS as it is now.
pub struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load(files: TlsFiles) -> Result<Self> {
        let config = RwLock::new(Arc::new(configure(&files)?));
        Ok(Self { files, config })
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.config.read().clone().into()
    }

    /// Reads the files again whenever they change, or SIGHUP says so. What cannot be used is told, and what was goes on.
    ///
    /// # Errors
    /// Where the system gives no signals.
    pub async fn keep_fresh(self: Arc<Self>) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let mut seen = self.stamps();
        loop {
            let asked = tokio::select! {
                told = hangup.recv() => told.is_some(),
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = self.stamps();
            if asked || now != seen {
                seen = now;
                self.refresh();
            }
        }
    }

    fn refresh(&self) {
        match configure(&self.files) {
            Ok(config) => {
                *self.config.write() = Arc::new(config);
                info!(cert = %self.files.cert.display(), "certificates were read again");
            }
            Err(error) => warn!(error = format!("{error:#}"), "the new certificates cannot be used: the old ones stay"),
        }
    }

    fn stamps(&self) -> [Stamp; 3] {
        let TlsFiles { cert, key, client_ca } = &self.files;
        [Some(cert), Some(key), client_ca.as_ref()].map(|path| stamp(path?))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

fn configure(files: &TlsFiles) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let said = || format!("--client-ca {}", path.display());
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path).with_context(said)? {
                roots.add(certificate).with_context(said)?;
            }
            // Who has no certificate shows a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().with_context(said)?)
        }
    };
    let chain = certificates(&files.cert).with_context(|| format!("--tls-cert {}", files.cert.display()))?;
    let said = || format!("--tls-key {}", files.key.display());
    // The parser's own words might repeat a piece of the key.
    let Ok(key) = PrivateKeyDer::from_pem_file(&files.key) else {
        bail!("{}: cannot be read, or holds no private key in PEM", said());
    };
    let mut config = builder.with_single_cert(chain, key).with_context(said)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let file = File::open(path)?;
    let all: Vec<_> = CertificateDer::pem_reader_iter(file).collect::<Result<_, _>>().context("is no PEM")?;
    ensure!(!all.is_empty(), "holds no certificate in PEM");
    Ok(all)
}

/// What a certificate calls its holder: DNS names and URIs. The handshake has seen that an authority says so.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<SubjectName> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
    names.filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
