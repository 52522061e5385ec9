//! `serve.json`: where a running sidecar listens, for whoever knows its data folder.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::files;
use crate::data_dir::{SERVE_FILE, Serving};

/// The file of this process, while it listens.
#[derive(Debug)]
pub struct ServeFile(PathBuf);

impl ServeFile {
    /// Removes what an earlier process left behind: it listens no more.
    pub fn clear(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(SERVE_FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Says where this process listens.
    pub fn write(folder: &Path, scheme: Scheme, discovery: SocketAddr, control: SocketAddr) -> io::Result<Self> {
        let url = |address: SocketAddr| format!("{}://{}", scheme.as_str(), reachable(address));
        let serving = Serving { pid: std::process::id(), discovery: url(discovery), control: url(control) };
        let mut text = serde_json::to_vec(&serving)?;
        text.push(b'\n');
        let path = folder.join(SERVE_FILE);
        files::write_private(&path, &text)?;
        Ok(Self(path))
    }

    /// This process listens no more.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(self.0)
    }
}

/// What is spoken at the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP within TLS.
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who listens on every address of the machine is reached on loopback by whoever reads the file.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The file says where the process listens, for its owner's eyes, and goes when the process does.
    #[test]
    fn the_file_is_whole_private_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SERVE_FILE);
        ServeFile::clear(folder.path()).unwrap();
        fs::write(&path, "what a crash left behind").unwrap();
        ServeFile::clear(folder.path()).unwrap();
        assert!(!path.exists());
        let (discovery, control) = ("127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        let _replaced = ServeFile::write(folder.path(), Scheme::Http, discovery, control).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let pid = std::process::id();
        let wanted = format!(r#"{{"pid":{pid},"discovery":"http://127.0.0.1:1","control":"http://[::1]:2"}}"#);
        assert_eq!(text.trim_end(), wanted);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (discovery, control) = ("0.0.0.0:1".parse().unwrap(), "[::]:2".parse().unwrap());
        let file = ServeFile::write(folder.path(), Scheme::Https, discovery, control).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""https://127.0.0.1:1","control":"https://[::1]:2""#), "{text}");
        file.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
