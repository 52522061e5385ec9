//! What to try once the demo is over and everything still runs. A test runs it all, as it is printed.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::operator::{Colorfast, Operator};
use super::paint::Paint;
use super::world::{BLUE, GREEN, World};

/// What every command line begins with.
const PROMPT: &str = "$";

/// A purpose, and the commands that serve it.
type Idea = (&'static str, Vec<String>);

/// The invitation, with the real addresses.
///
/// # Errors
/// Where Envoy does not run any more.
pub fn text(world: &World, paint: Paint) -> Result<String> {
    let ideas = match &world.operator {
        Operator::Colorfast(colorfast) => with_colorfast(world, colorfast)?,
        Operator::PlainEnvoy(_) => without(world)?,
    };
    let mut text = paint.strong("\nEverything runs on until Ctrl-C. In another terminal:");
    for (purpose, commands) in ideas {
        let _ = write!(text, "\n\n  {}", paint.dim(&format!("# {purpose}")));
        for command in commands {
            let _ = write!(text, "\n  {} {command}", paint.dim(PROMPT));
        }
    }
    text.push('\n');
    Ok(text)
}

fn with_colorfast(world: &World, colorfast: &Colorfast) -> Result<Vec<Idea>> {
    let (agents, admin) = (world.address(), world.envoy.admin()?.address());
    let binary = std::path::absolute(colorfast.binary())?;
    let folder = quoted(binary.parent().context("the binary stands in no folder")?);
    let ada = format!("curl -sw '\\n' -b $jar -c $jar http://{agents}/hello");
    let cli = |line: &str| format!("colorfast {line}");
    Ok(vec![
        (
            "where colorfast is, and where it keeps its state",
            vec![format!("export PATH={folder}:$PATH COLORFAST_DATA_DIR={}", quoted(&colorfast.data_dir()))],
        ),
        (
            "a new conversation: the stamps say who serves it, and the answer brings its pin",
            vec![format!("curl -siw '\\n' http://{agents}/hello")],
        ),
        ("Ada, whose cookies are kept", vec!["jar=$(mktemp)".to_owned(), ada.clone()]),
        ("how slots and proxies stand", vec![cli("status")]),
        (
            "green once more: who is new gets it, and Ada stays on blue",
            vec![
                cli(&format!("recycle {}", GREEN.slot)),
                cli(&format!("stage {} {}", GREEN.slot, GREEN.bundle)),
                cli(&format!("switch {}", GREEN.slot)),
                format!("curl -sw '\\n' http://{agents}/hello"),
                ada,
            ],
        ),
        ("back to blue, while those on green may stay", vec![cli("rollback --keep-pins")]),
        (
            "what has been done, and what the filter counts",
            vec![cli("events"), format!("curl -s 'http://{admin}/stats?filter=wasmcustom.colorfast'")],
        ),
    ])
}

fn without(world: &World) -> Result<Vec<Idea>> {
    let (agents, admin) = (world.address(), world.envoy.admin()?.address());
    let half = format!("http://{admin}/runtime_modify?agents.agent_{}=50&agents.agent_{}=50", BLUE.slot, GREEN.slot);
    let ada = format!("curl -sw '\\n' -H 'x-agent-session: ada' http://{agents}/hello");
    Ok(vec![
        ("half to each side", vec![format!("curl -s -X POST '{half}'")]),
        ("whoever asks again may land elsewhere", vec![ada.clone(), ada.clone(), ada]),
    ])
}

/// A path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path with blanks can be pasted.
    #[test]
    fn paths_are_quoted_where_they_must_be() {
        assert_eq!(quoted(Path::new("/a/b-1.2")), "/a/b-1.2");
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }
}
