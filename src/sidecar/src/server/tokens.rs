//! Bearer tokens: made at the first start, in files that nobody else can read.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

use super::files;

/// Secret bytes of a token that we make.
const BYTES: usize = 32;
/// Shortest and longest token that somebody else may have put there.
const CHARS: std::ops::RangeInclusive<usize> = 32..=256;

/// The token of one API and the file it stands in; never shown in debug output.
#[derive(Clone)]
pub struct Token {
    path: Arc<PathBuf>,
    text: Arc<str>,
}

impl Token {
    /// The token in `path`; made where there is none.
    ///
    /// # Errors
    /// Where others can read the file, or no token stands in it.
    pub fn load_or_make(path: PathBuf) -> Result<Self> {
        let said = || format!("cannot use {}", path.display());
        files::check_private(&path)?;
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = draw()?;
                files::write_private(&path, format!("{text}\n").as_bytes()).with_context(said)?;
                text
            }
            read => read.with_context(said)?,
        };
        let text = text.trim_end();
        ensure!(
            CHARS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()),
            "{} holds no token: one line of {} to {} printable characters. Remove it, and the next start makes one",
            path.display(),
            CHARS.start(),
            CHARS.end()
        );
        Ok(Self { text: text.into(), path: Arc::new(path) })
    }

    /// The name of the file that it stands in. Where that is, is nobody's business who does not know.
    pub fn file_name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    /// Whether `given` is this token. Takes as long for a nearly right one as for a wrong one.
    pub fn is(&self, given: &[u8]) -> bool {
        self.text.as_bytes().ct_eq(given).into()
    }
}

fn draw() -> Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).context("cannot draw a token")?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A token is made once, in a file of one's own, and is the same at the next start.
    #[test]
    fn tokens_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("discovery.token");
        let made = Token::load_or_make(path.clone()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(text.len(), 44, "{text:?}");
        let again = Token::load_or_make(path.clone()).unwrap();
        assert!(again.is(text.trim_end().as_bytes()) && made.is(text.trim_end().as_bytes()));
        assert!(!made.is(b"") && !made.is(text.as_bytes()));
        assert!(!format!("{made:?}").contains(text.trim_end()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// A token that others can read is refused, with the command that mends it; so is what is no token.
    #[test]
    fn open_or_broken_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.token");
        let error = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Token::load_or_make(path.clone()).unwrap_err().to_string()
        };
        let token = "x".repeat(43);
        for mode in [0o640, 0o604, 0o660] {
            let error = error(&token, mode);
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
            assert!(!error.contains(&token));
        }
        for text in ["", "short", &format!("{token}\n{token}"), &"x".repeat(257)] {
            assert!(error(text, 0o600).contains("holds no token"), "{text:?}");
        }
    }
}
