//! What can be asked of the demo.

use std::time::Duration;

use clap::Parser;

/// Plays a release under talking clients: blue to green and back, with nobody losing the thread.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo", version)]
pub struct Options {
    /// How many clients talk
    #[arg(long, value_name = "N", default_value = "48", default_value_if("quick", "true", "24"),
          value_parser = clap::value_parser!(u16).range(4..=1000))]
    clients: u16,
    /// How long the release takes, in seconds, without the start
    #[arg(long, value_name = "S", default_value = "24", default_value_if("quick", "true", "5"),
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Fewer clients and less time, unless they are given
    #[arg(long)]
    quick: bool,
    /// Print the verdict as JSON on standard output, and everything else on standard error
    #[arg(long)]
    pub json: bool,
    /// Leave everything running after the verdict, until Ctrl-C, and print what to try
    #[arg(long)]
    pub keep: bool,
    /// Show what happens without colorfast: the same release by Envoy's own weighted clusters
    #[arg(long)]
    pub without_filter: bool,
    /// Show agents that keep their conversations in a file that both bundles share, and a change of its layout
    #[arg(long, conflicts_with_all = ["without_filter", "keep", "seconds"])]
    pub state: bool,
}

impl Options {
    /// How many clients talk.
    #[must_use]
    pub fn clients(&self) -> usize {
        usize::from(self.clients)
    }

    /// How long the steps take together, at least.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--quick` is smaller, and gives way to what is asked for by number.
    #[test]
    fn quick_gives_way() {
        let sizes = |line: &str| {
            let options = Options::try_parse_from(line.split(' ')).unwrap();
            (options.clients(), options.length().as_secs())
        };
        assert_eq!(sizes("demo"), (48, 24));
        assert_eq!(sizes("demo --quick"), (24, 5));
        assert_eq!(sizes("demo --quick --clients 9 --seconds 60"), (9, 60));
        assert!(Options::try_parse_from(["demo", "--clients", "0"]).is_err());
        assert!(Options::try_parse_from(["demo", "--state", "--keep"]).is_err());
        assert!(Options::try_parse_from(["demo", "--state", "--quick", "--json"]).is_ok());
    }
}
