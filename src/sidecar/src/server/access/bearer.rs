//! The text of a token: `cf_<id>_<secret>`. The id is public and finds the token; the secret proves it.

use anyhow::{Context, Result};
use colorfast_core::ids::Digest;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};

use crate::api::tokens::TokenId;

/// What every token begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "cf_";
/// Random bytes of an id: 8 characters.
const ID_BYTES: usize = 5;
/// Random bytes of a secret: 43 characters.
const SECRET_BYTES: usize = 32;
/// Longest secret that is looked at.
const SECRET_CHARS: usize = 43;

/// A token that was just drawn; its text is shown once and kept nowhere.
pub struct Drawn {
    /// Finds it.
    pub id: TokenId,
    /// What is kept of its secret.
    pub digest: Digest,
    /// The whole.
    pub text: String,
}

/// Draws a token from the system's entropy.
///
/// # Errors
/// Where there is none.
pub fn draw() -> Result<Drawn> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).context("cannot draw a token")?;
    let (id, secret) = (draw_id()?, BASE64URL_NOPAD.encode(&bytes));
    Ok(Drawn { digest: digest(&secret), text: format!("{PREFIX}{id}_{secret}"), id })
}

/// Draws an id alone, for what has no secret.
///
/// # Errors
/// Where there is no entropy.
pub fn draw_id() -> Result<TokenId> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).context("cannot draw an id")?;
    Ok(BASE32_NOPAD.encode(&bytes).to_ascii_lowercase().parse()?)
}

/// Parts a text that may be a token into its id and its secret.
pub fn part(text: &[u8]) -> Option<(TokenId, &str)> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
    let (id, secret) = text.split_once('_')?;
    Some((id.parse().ok()?, Some(secret).filter(|secret| secret.len() == SECRET_CHARS)?))
}

/// What is kept of a secret: with 256 random bits there is nothing to guess, so a plain hash is enough.
pub fn digest(secret: &str) -> Digest {
    Digest::of(secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token is parted as it was drawn, whatever characters its secret has; nothing else is.
    #[test]
    fn tokens_are_parted() {
        for _ in 0..100 {
            let drawn = draw().unwrap();
            let (id, secret) = part(drawn.text.as_bytes()).unwrap();
            assert_eq!((&id, digest(secret)), (&drawn.id, drawn.digest));
        }
        let secret = "A".repeat(43);
        for text in ["", "cf_", "cf_aaaaaaaa", "cf_aaaaaaaa_", "cf_AAAAAAAA_x", "CF_aaaaaaaa_x"] {
            assert!(part(text.as_bytes()).is_none(), "{text}");
        }
        assert!(part(format!("cf_aaaaaaaa_{secret}A").as_bytes()).is_none());
        assert!(part(format!("xf_aaaaaaaa_{secret}").as_bytes()).is_none());
        assert!(part(b"cf_\xff").is_none());
    }
}
