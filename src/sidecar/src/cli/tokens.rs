//! `colorfast token`: who may do what.

use crate::api::tokens::{CreateToken, CreatedToken, TokenName, TokenStatus};
use crate::cli::args::TokenCommand;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};
use crate::cli::words;

/// Makes, lists or revokes tokens.
///
/// # Errors
/// As the client's.
pub async fn run(client: &Client, output: &Output, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create { name, role, node, certificate, expires } => {
            let expires_in_seconds = expires.map(|span| span.as_secs());
            let asked = CreateToken { name, role, node, certificate, expires_in_seconds };
            let created = client.create_token(&asked).await?;
            // The token is made: what cannot be shown is lost, and must be told.
            let written = match output.format {
                Format::Json => output.document(&created),
                Format::Text => output.text(&shown(&created)),
            };
            Ok(output.end(Exit::Done, written))
        }
        TokenCommand::List => list(client, output).await,
        TokenCommand::Revoke { name } => revoke(client, output, &name).await,
    }
}

fn shown(CreatedToken { token, status }: &CreatedToken) -> String {
    match (token, &status.certificate) {
        (Some(token), _) => format!("{token}\n# {}, shown this once: keep it where secrets are kept\n", told(status)),
        (None, Some(certificate)) => {
            format!("# {}, by a certificate of {}\n", told(status), words::tame(certificate.as_str()))
        }
        (None, None) => format!("# {}\n", told(status)),
    }
}

/// What a token is, in a few words.
fn told(status: &TokenStatus) -> String {
    let until = status.expires.map(|expires| format!(", until {}", words::moment(expires)));
    format!("{} for {}{}", status.name, grant(status), until.unwrap_or_default())
}

fn grant(status: &TokenStatus) -> String {
    match (&status.role, &status.node) {
        (Some(role), _) => role.to_string(),
        (None, Some(node)) => format!("nodes {}", words::tame(node.as_str())),
        (None, None) => "nothing".to_owned(),
    }
}

async fn list(client: &Client, output: &Output) -> Result<Exit, Failure> {
    let tokens = client.tokens().await?;
    if output.format == Format::Json {
        output.document(&tokens)?;
        return Ok(Exit::Done);
    }
    if tokens.is_empty() {
        output
            .line("no tokens but those of the data directory: `colorfast token create NAME --role ROLE` makes one")?;
        return Ok(Exit::Done);
    }
    let now = words::now();
    let mut table = output.table(&["NAME", "ID", "FOR", "CERTIFICATE", "MADE", "BY", "EXPIRES", "LAST USED"]);
    for token in &tokens {
        let dash = || output.paint.dim("-");
        let expires = match token.expires {
            None => dash(),
            Some(at) => words::left(now, at).unwrap_or_else(|| output.paint.bad("expired")),
        };
        table.add_row([
            token.name.to_string(),
            token.id.to_string(),
            grant(token),
            token.certificate.as_ref().map_or_else(dash, |name| words::tame(name.as_str())),
            words::ago(now, token.made),
            words::tame(&token.made_by),
            expires,
            token.last_used.map_or_else(dash, |at| words::ago(now, at)),
        ]);
    }
    output.text(&render(&table))?;
    Ok(Exit::Done)
}

async fn revoke(client: &Client, output: &Output, name: &TokenName) -> Result<Exit, Failure> {
    client.revoke_token(name).await?;
    let written = match output.format {
        Format::Json => output.document(&serde_json::json!({ "revoked": name })),
        Format::Text => output.line(&format!("revoked {name}: its holder is refused from now on")),
    };
    Ok(output.end(Exit::Done, written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Fake;
    use serde_json::json;

    fn status() -> serde_json::Value {
        json!({"id": "abcdefgh", "name": "ci", "role": "operator", "made": 1, "made_by": "local"})
    }

    /// A token is asked for as the command line says, and shown on a line of its own.
    #[tokio::test]
    async fn tokens_are_made_and_revoked() {
        let fake = Fake::start(|asked| match asked.line.split(' ').next() {
            Some("POST") => {
                let mut created = status();
                created["token"] = json!("cf_abcdefgh_x");
                (201, created)
            }
            Some("GET") => (200, json!([status()])),
            _ => (204, serde_json::Value::Null),
        })
        .await;
        let output = Output::plain();
        let create = TokenCommand::Create {
            name: "ci".parse().unwrap(),
            role: Some("operator".parse().unwrap()),
            node: None,
            certificate: None,
            expires: Some(std::time::Duration::from_secs(90)),
        };
        for command in [create, TokenCommand::List, TokenCommand::Revoke { name: "a@b".parse().unwrap() }] {
            assert_eq!(run(&fake.client, &output, command).await.unwrap(), Exit::Done);
        }
        assert_eq!(fake.lines(), ["POST /v1/tokens", "GET /v1/tokens", "DELETE /v1/tokens/a@b"]);
        assert_eq!(fake.asked()[0].body, json!({"name": "ci", "role": "operator", "expires_in_seconds": 90}));
        let mut created = status();
        created["token"] = json!("cf_abcdefgh_x");
        let text = shown(&serde_json::from_value(created).unwrap());
        assert_eq!(text.lines().next(), Some("cf_abcdefgh_x"), "a script takes the first line");
    }

    /// What a token is for is told, whatever it is for.
    #[test]
    fn grants_are_told() {
        let mut token = status();
        token["expires"] = json!(1_795_258_707_000_u64);
        let told = |token: &serde_json::Value| told(&serde_json::from_value(token.clone()).unwrap());
        assert_eq!(told(&token), "ci for operator, until 2026-11-21T10:58:27Z");
        token.as_object_mut().unwrap().remove("role");
        token["node"] = json!("edge-*");
        assert!(told(&token).starts_with("ci for nodes edge-*"));
    }
}
