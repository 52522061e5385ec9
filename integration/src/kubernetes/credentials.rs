//! What the processes of a control plane know each other by.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// Files of one control plane, in a folder that nobody else can read.
#[derive(Debug)]
pub(super) struct Credentials {
    /// Signs the tokens of service accounts.
    pub(super) account_key: PathBuf,
    /// Checks them.
    pub(super) account_public: PathBuf,
    /// The tokens that the API server knows.
    pub(super) tokens: PathBuf,
    /// Who has the only one of them: an administrator.
    pub(super) kubeconfig: PathBuf,
    /// Where the API server puts its certificate.
    pub(super) certificates: PathBuf,
}

impl Credentials {
    /// Makes new ones for an API server at an address.
    pub(super) fn make(folder: &Path, server: &str) -> Result<Self> {
        let key = KeyPair::generate().context("cannot make a key for service accounts")?;
        let token = random()?;
        let certificates = folder.join("certificates");
        let user = json!({"name": "admin", "user": {"token": token}});
        let cluster = json!({"server": server, "certificate-authority": certificates.join("apiserver.crt")});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [user],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        let file = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            account_key: file("accounts.key", &key.serialize_pem())?,
            account_public: file("accounts.pub", &key.public_key_pem())?,
            tokens: file("tokens.csv", &format!("{token},admin,admin,system:masters\n"))?,
            kubeconfig: file("kubeconfig", &Value::to_string(&config))?,
            certificates,
        })
    }
}

/// 128 random bits in hexadecimal.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("no randomness")?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
