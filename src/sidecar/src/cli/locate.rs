//! Finds the sidecar: its address, its token, and where each was found, so that a failure can say so.
//!
//! ```text
//! address   --control, else serve.json of --data-dir, else COLORFAST_CONTROL,
//!           else serve.json of COLORFAST_DATA_DIR, else of the default data directory
//! token     --token-file, else control.token of --data-dir, else COLORFAST_CONTROL_TOKEN,
//!           else control.token as above
//! ```
//! A flag beats every variable. Where a client certificate is given, a token is shown only where one is named.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use reqwest::Url;

use crate::cli::args::{self, Globals};
use crate::cli::error::Failure;
use crate::cli::words;
use crate::data_dir::{CONTROL_TOKEN_FILE, LOCK_FILE, SERVE_FILE, Serving};

/// The variables that matter, read once. Empty ones count as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// COLORFAST_DATA_DIR
    pub data_dir: Option<PathBuf>,
    /// COLORFAST_CONTROL
    pub control: Option<String>,
    /// COLORFAST_CONTROL_TOKEN
    pub token: Option<String>,
    /// COLORFAST_CA
    pub ca: Option<PathBuf>,
    /// COLORFAST_CERT
    pub cert: Option<PathBuf>,
    /// COLORFAST_KEY
    pub key: Option<PathBuf>,
    /// COLORFAST_SERVICE
    pub service: Option<String>,
    /// COLORFAST_STORE
    pub store: Option<PathBuf>,
    /// NO_COLOR
    pub no_color: bool,
    /// XDG_DATA_HOME
    pub xdg_data_home: Option<PathBuf>,
    /// HOME
    pub home: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment.
    pub fn read() -> Self {
        let os = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            data_dir: os("COLORFAST_DATA_DIR").map(PathBuf::from),
            control: text("COLORFAST_CONTROL"),
            token: text("COLORFAST_CONTROL_TOKEN"),
            ca: os("COLORFAST_CA").map(PathBuf::from),
            cert: os("COLORFAST_CERT").map(PathBuf::from),
            key: os("COLORFAST_KEY").map(PathBuf::from),
            service: text("COLORFAST_SERVICE"),
            store: os("COLORFAST_STORE").map(PathBuf::from),
            no_color: os("NO_COLOR").is_some(),
            xdg_data_home: os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()),
            home: os("HOME").map(PathBuf::from),
        }
    }
}

/// A data directory, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    /// The directory.
    pub path: PathBuf,
    /// How it was found, as in `--data-dir`.
    pub from: &'static str,
}

/// The data directory of this command.
///
/// # Errors
/// Where none is named and no home is known.
pub fn data_dir(globals: &Globals, environment: &Environment) -> Result<DataDir, Failure> {
    let named = globals.data_dir.clone().map(|path| DataDir { path, from: "--data-dir" });
    let variable = || environment.data_dir.clone().map(|path| DataDir { path, from: "COLORFAST_DATA_DIR" });
    let xdg = || environment.xdg_data_home.clone();
    let share = || Some(environment.home.as_ref()?.join(".local/share"));
    let default = || Some(DataDir { path: xdg().or_else(share)?.join("colorfast"), from: "the default" });
    named.or_else(variable).or_else(default).ok_or_else(|| {
        Failure::usage("no data directory: neither --data-dir, COLORFAST_DATA_DIR, XDG_DATA_HOME nor HOME says where")
    })
}

/// The offline store of this command, where it works on one. A flag that leads to a sidecar beats the variable.
pub fn store(globals: &Globals, environment: &Environment) -> Option<PathBuf> {
    let leads_to_a_sidecar = globals.data_dir.is_some() || globals.control.is_some();
    globals.store.clone().or_else(|| environment.store.clone().filter(|_| !leads_to_a_sidecar))
}

/// Who gives a command that no token stands for: the user of this process.
pub fn user() -> String {
    let id = Uid::effective();
    let name = User::from_uid(id).ok().flatten().map(|user| user.name);
    format!("user:{}", name.unwrap_or_else(|| id.to_string()))
}

/// A sidecar to talk to.
#[derive(Debug, Clone)]
pub struct Sidecar {
    /// Its control API.
    pub control: Url,
    /// How the address was found, as in `from --control`.
    pub control_from: String,
    /// The bearer token; none where a certificate stands for it.
    pub token: Option<String>,
    /// How the token was found, or which certificate stands for it.
    pub token_from: String,
    /// What TLS goes by.
    pub tls: Tls,
    /// The command that starts it.
    pub start: String,
}

impl Sidecar {
    /// What stands for a sidecar where the API is in this process, on the store in `folder`.
    ///
    /// # Errors
    /// None, as the address is one.
    pub fn inside(folder: &Path) -> Result<Self, Failure> {
        let from = format!("the store {}", folder.display());
        Ok(Self {
            control: address("http://offline.invalid", &from)?,
            control_from: from.clone(),
            token: None,
            token_from: from,
            tls: Tls::default(),
            start: "colorfast serve".to_owned(),
        })
    }
}

/// What TLS goes by.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authorities that the sidecar's certificate may be of; none for those of the system.
    pub ca: Option<PathBuf>,
    /// The client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    fn of(globals: &Globals, environment: &Environment) -> Result<Self, Failure> {
        let ca = globals.ca.clone().or_else(|| environment.ca.clone());
        let cert = globals.cert.clone().or_else(|| environment.cert.clone());
        let key = globals.key.clone().or_else(|| environment.key.clone());
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Failure::usage("--cert needs its private key: --key FILE, or COLORFAST_KEY"));
            }
            (None, Some(_)) => {
                return Err(Failure::usage("--key needs its certificate: --cert FILE, or COLORFAST_CERT"));
            }
        };
        Ok(Self { ca, identity })
    }
}

/// Finds the sidecar of this command.
///
/// # Errors
/// Says what was looked for, where, and what would help.
pub fn sidecar(globals: &Globals, environment: &Environment) -> Result<Sidecar, Failure> {
    let directory = || data_dir(globals, environment);
    let start = match &globals.data_dir {
        Some(path) => format!("colorfast serve --data-dir={}", words::shell(&path.to_string_lossy())),
        None => "colorfast serve".to_owned(),
    };
    let by_flag = globals.data_dir.is_some();
    let (control, control_from) = match (&globals.control, &environment.control) {
        (Some(url), _) => (url.clone(), "from --control".to_owned()),
        (None, Some(url)) if !by_flag => (url.clone(), "from COLORFAST_CONTROL".to_owned()),
        _ => written_address(&directory()?, &start)?,
    };
    let tls = Tls::of(globals, environment)?;
    let (token, token_from) = match (&globals.token_file, &environment.token, &tls.identity) {
        (Some(file), ..) => (Some(read_token(file)?), format!("from --token-file {}", file.display())),
        (None, Some(token), _) if !by_flag => (Some(token.clone()), "from COLORFAST_CONTROL_TOKEN".to_owned()),
        (.., Some((cert, _))) => (None, format!("that the certificate {} stands for", cert.display())),
        _ => {
            let file = directory()?.path.join(CONTROL_TOKEN_FILE);
            (Some(read_token(&file)?), format!("from {}", file.display()))
        }
    };
    let readable = |token: String| {
        let wrong = || format!("the control token {token_from} is not one line of visible ASCII characters");
        bearer(&token).ok_or_else(|| Failure::usage(wrong()))
    };
    let token = token.map(readable).transpose()?;
    Ok(Sidecar { control: address(&control, &control_from)?, control_from, token, token_from, tls, start })
}

fn written_address(DataDir { path, from }: &DataDir, start: &str) -> Result<(String, String), Failure> {
    let file = path.join(SERVE_FILE);
    let nobody = |why: String| {
        Failure::outage(format!("no sidecar runs on the data directory {} (from {from}): {why}", path.display()))
            .next(format!("{start}   (starts one)"))
            .next("colorfast --data-dir DIR …   (where it runs on another)")
            .next(format!("colorfast --control http://{} …   (or wherever else it listens)", args::CONTROL))
    };
    let text = fs::read(&file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => nobody(format!(
            "there is no {}, where a running one writes its address (http://{} by default)",
            file.display(),
            args::CONTROL
        )),
        _ => nobody(format!("{} cannot be read: {error}", file.display())),
    })?;
    let serving: Serving = serde_json::from_slice(&text)
        .map_err(|error| Failure::outage(format!("{} is not what a sidecar writes: {error}", file.display())))?;
    if !is_held(path) {
        // Whoever listens there now is another, and is not shown the token.
        let Serving { pid, control, .. } = serving;
        return Err(nobody(format!(
            "process {pid}, which listened at {control}, ended without removing its {SERVE_FILE}"
        )));
    }
    Ok((serving.control, format!("from {}", file.display())))
}

/// Whether a sidecar holds the lock of a data directory; it does so from its start to its end, however it ends.
/// Where that cannot be told it is believed.
fn is_held(data_dir: &Path) -> bool {
    // Shared, so that two commands at the same time do not take each other for a sidecar.
    match File::open(data_dir.join(LOCK_FILE)).map(|lock| lock.try_lock_shared()) {
        Ok(Ok(())) => false,
        Ok(Err(TryLockError::WouldBlock | TryLockError::Error(_))) => true,
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("cannot read the control token {}: {error}", file.display()))
            .next("the sidecar makes it at its first start, readable to its own user only")
            .next("colorfast --token-file FILE …, or COLORFAST_CONTROL_TOKEN")
    })
}

/// A token that can stand in a header.
fn bearer(token: &str) -> Option<String> {
    let token = token.trim();
    (!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())).then(|| token.to_owned())
}

fn address(text: &str, from: &str) -> Result<Url, Failure> {
    let refuse = || Failure::usage(format!("{text:?} ({from}) is not an address as in http://127.0.0.1:18001"));
    let url: Url = text.parse().map_err(|_| refuse())?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Arguments;
    use crate::cli::error::Exit;
    use crate::store::DirLock;

    fn globals(flags: &str) -> Globals {
        Arguments::read(format!("colorfast status {flags}").split_whitespace()).unwrap().globals
    }

    /// The data directory of a sidecar that runs for as long as the lock is there.
    fn folder(control: &str, token: &str) -> (tempfile::TempDir, DirLock) {
        let folder = tempfile::tempdir().unwrap();
        let lock = DirLock::take(folder.path()).unwrap();
        fs::write(folder.path().join("serve.json"), format!(r#"{{"pid":1,"discovery":"x","control":"{control}"}}"#))
            .unwrap();
        fs::write(folder.path().join("control.token"), format!("{token}\n")).unwrap();
        (folder, lock)
    }

    fn refusal(globals: &Globals, environment: &Environment) -> (Exit, String) {
        let Err(Failure::Told(told)) = sidecar(globals, environment) else { panic!("found") };
        (told.exit, told.problem.detail)
    }

    /// A flag beats every variable, and each says how it was found.
    #[test]
    fn flags_beat_variables() {
        let (ours, _ours) = folder("http://127.0.0.1:1", "ours");
        let (theirs, _theirs) = folder("http://127.0.0.1:2", "theirs");
        let environment = Environment {
            data_dir: Some(theirs.path().to_owned()),
            control: Some("http://127.0.0.1:3".into()),
            token: Some("secret".into()),
            ..Environment::default()
        };
        let found = sidecar(&globals(&format!("--data-dir {}", ours.path().display())), &environment).unwrap();
        assert_eq!((found.control.port(), found.token.as_deref()), (Some(1), Some("ours")));
        assert!(found.control_from.ends_with("serve.json") && found.start.contains("--data-dir"));
        let found = sidecar(&globals(""), &environment).unwrap();
        assert_eq!((found.control.port(), found.token.as_deref()), (Some(3), Some("secret")));
        assert_eq!(found.control_from, "from COLORFAST_CONTROL");
        let found = sidecar(&globals("--control http://127.0.0.1:4"), &environment).unwrap();
        assert_eq!((found.control.port(), found.control_from.as_str()), (Some(4), "from --control"));
        let bare = Environment { control: None, token: None, ..environment };
        let found = sidecar(&globals(""), &bare).unwrap();
        assert_eq!((found.control.port(), found.token.as_deref()), (Some(2), Some("theirs")));
    }

    /// What a killed sidecar left behind is told, and its token goes to nobody who took its port.
    #[test]
    fn the_dead_are_not_talked_to() {
        let (folder, lock) = folder("http://127.0.0.1:1", "t");
        let globals = globals(&format!("--data-dir {}", folder.path().display()));
        let environment = Environment::default();
        // Asking does not take the lock away from anybody.
        assert!(sidecar(&globals, &environment).is_ok() && sidecar(&globals, &environment).is_ok());
        drop(lock);
        let (exit, detail) = refusal(&globals, &environment);
        assert_eq!(exit, Exit::Outage);
        assert!(
            detail.starts_with("no sidecar runs on ") && detail.contains("listened at http://127.0.0.1:1"),
            "{detail}"
        );
        fs::remove_file(folder.path().join(LOCK_FILE)).unwrap();
        assert_eq!(refusal(&globals, &environment).0, Exit::Outage);
    }

    /// A folder's name stays one word in the command that starts a sidecar on it.
    #[test]
    fn advice_quotes_folders() {
        let globals = Globals { data_dir: Some("-x; y".into()), ..globals("") };
        let environment = Environment { control: Some("x".into()), ..Environment::default() };
        let Err(Failure::Told(told)) = sidecar(&globals, &environment) else { panic!("found") };
        assert_eq!(told.next[0], "colorfast serve --data-dir='-x; y'   (starts one)");
    }

    /// An offline store is named by flag or variable; whoever names a sidecar by flag means that.
    #[test]
    fn stores_are_named() {
        let environment = Environment { store: Some("theirs".into()), ..Environment::default() };
        assert_eq!(store(&globals("--store ours"), &environment), Some("ours".into()));
        assert_eq!(store(&globals(""), &environment), Some("theirs".into()));
        assert_eq!(store(&globals("--data-dir d"), &environment), None);
        assert_eq!(store(&globals("--control http://127.0.0.1:1"), &environment), None);
        assert_eq!(store(&globals(""), &Environment::default()), None);
    }

    /// The default data directory follows XDG.
    #[test]
    fn default_directory() {
        let home = Environment { home: Some("/home/ada".into()), ..Environment::default() };
        assert_eq!(data_dir(&globals(""), &home).unwrap().path, Path::new("/home/ada/.local/share/colorfast"));
        let xdg = Environment { xdg_data_home: Some("/data".into()), ..home };
        assert_eq!(data_dir(&globals(""), &xdg).unwrap().path, Path::new("/data/colorfast"));
        assert!(data_dir(&globals(""), &Environment::default()).is_err());
    }

    /// What cannot be found is told with what was tried.
    #[test]
    fn tells_what_was_tried() {
        let empty = tempfile::tempdir().unwrap();
        let flags = format!("--data-dir {}", empty.path().display());
        let (exit, detail) = refusal(&globals(&flags), &Environment::default());
        assert_eq!(exit, Exit::Outage);
        assert!(detail.contains("(from --data-dir): there is no "), "{detail}");
        for wanted in ["/serve.json, where", "http://127.0.0.1:18001 by default"] {
            assert!(detail.contains(wanted), "{detail}");
        }
        let flags = format!("{flags} --control http://127.0.0.1:1");
        let (exit, detail) = refusal(&globals(&flags), &Environment::default());
        assert_eq!(exit, Exit::Usage);
        assert!(detail.contains("control.token"), "{detail}");
        let token = Environment { token: Some("t".into()), ..Environment::default() };
        for (control, wanted) in [("ftp://127.0.0.1:1", "not an address"), ("127.0.0.1:1", "not an address")] {
            let (exit, detail) = refusal(&globals(&format!("--control {control}")), &token);
            assert_eq!(exit, Exit::Usage);
            assert!(detail.contains(wanted), "{detail}");
        }
        let bad = Environment { token: Some("a b".into()), ..Environment::default() };
        let (_, detail) = refusal(&globals("--control http://127.0.0.1:1"), &bad);
        assert!(detail.contains("is not one line of visible ASCII"), "{detail}");
    }

    /// A client certificate stands for a token unless one is named; half of one is wrong use.
    #[test]
    fn certificates_stand_for_tokens() {
        let environment = Environment { control: Some("https://a:1".into()), ..Environment::default() };
        let found = sidecar(&globals("--cert c.pem --key k.pem --ca ca.pem"), &environment).unwrap();
        assert_eq!((found.token, found.tls.ca), (None, Some("ca.pem".into())));
        assert_eq!(found.tls.identity, Some(("c.pem".into(), "k.pem".into())));
        assert!(found.token_from.contains("c.pem"));
        let named = Environment { token: Some("t".into()), key: Some("k.pem".into()), ..environment.clone() };
        assert_eq!(sidecar(&globals("--cert c.pem"), &named).unwrap().token.as_deref(), Some("t"));
        for (flags, wanted) in [("--cert c.pem", "COLORFAST_KEY"), ("--key k.pem", "COLORFAST_CERT")] {
            let (exit, detail) = refusal(&globals(flags), &environment);
            assert!(exit == Exit::Usage && detail.contains(wanted), "{detail}");
        }
    }
}
