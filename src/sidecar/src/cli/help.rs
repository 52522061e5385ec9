//! How the help looks: commands grouped by use, and an example for each.

use std::fmt::Write as _;

use clap::builder::{StyledStr, Styles};
use clap::{Arg, Command, CommandFactory as _};

use crate::cli::args::Arguments;

/// Heading of the options that say where the sidecar is.
pub const SIDECAR: &str = "Where the sidecar is";
/// Heading of the options that verbs take.
pub const RELEASE: &str = "What to act on, and how long to wait";
/// Heading of the options that shape the output.
pub const OUTPUT: &str = "Output";

/// The commands by what they are used for.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Release",
        &[
            "service", "preset", "bundle", "stage", "ramp", "switch", "rollback", "abort", "deadline", "migrate",
            "recycle",
        ],
    ),
    ("Look", &["status", "watch", "why", "preview-token", "events", "verify-log", "doctor"]),
    ("Run", &["serve", "member", "run", "keys", "token", "backup", "restore", "snapshot"]),
    ("Install", &["completions", "man"]),
];

/// A release from its beginning to its end, for the first page of the help.
const FIRST_STEPS: &[Example] = &[
    ("colorfast serve", "run the sidecar; leave it running"),
    ("colorfast service apply chat.yaml", "create the service"),
    ("colorfast bundle add v1.yaml --id v1", "name what is released"),
    ("colorfast stage blue v1", "put it into a slot"),
    ("colorfast switch blue", "the first slot is live"),
    ("colorfast bundle add v2.yaml --id v2", "the next release"),
    ("colorfast stage green v2", "beside the live one"),
    ("colorfast ramp green 10%", "a tenth of the new sessions"),
    ("colorfast switch green", "all of them; blue keeps its own until they end"),
    ("colorfast rollback", "or step back, at once"),
];

/// A command line, and what it does.
type Example = (&'static str, &'static str);

/// What is told about one command beside its options.
struct Page {
    /// The command, as in `service apply`.
    command: &'static str,
    /// Command lines that work as they stand.
    examples: &'static [Example],
    /// The global options that matter for it; the others are only on the first page.
    options: &'static [&'static str],
    /// What else must be known.
    note: &'static str,
}

const VERB: &[&str] = &["service", "timeout", "no_wait", "expect_version", "json"];
const LOOK: &[&str] = &["service", "json"];

const CONFIRMED: &str = "Returns when every proxy has obeyed, and says after how long; ends with exit code 4, and names who \
    has not, where --timeout comes first. With no proxy at all it is applied, unconfirmed (0 members): nothing lags, \
    exit code 0.";

const PAGES: &[Page] = &[
    Page {
        command: "service apply",
        examples: &[
            ("colorfast service apply chat.yaml", "the file says `service: chat`"),
            ("colorfast service apply - --service chat", "settings from standard input"),
        ],
        options: VERB,
        note: "`preset: NAME` takes the settings of a preset (`colorfast preset list`); what stands beside it wins, field by \
            field. The settings are replaced as a whole: what the file does not name goes back to its default. A field that \
            does not exist is refused.",
    },
    Page {
        command: "service show",
        examples: &[
            ("colorfast service show --service chat", "prints a file that `apply` takes"),
            ("colorfast service show --expanded --json", "every setting, without its preset"),
        ],
        options: LOOK,
        note: "Of a service with a preset it prints the preset and what is otherwise; what the preset sets beside it is \
            in comments.",
    },
    Page {
        command: "preset list",
        examples: &[("colorfast preset list", "whose clients each is for")],
        options: &["json"],
        note: "",
    },
    Page {
        command: "preset show",
        examples: &[
            ("colorfast preset show mcp", "the newest version"),
            ("colorfast preset show mcp/1 --json", "one by its number, for programs"),
        ],
        options: &["json"],
        note: "A service file takes it by `preset: NAME`. The log keeps its settings with its version: a newer colorfast \
            changes no service that is not applied again.",
    },
    Page {
        command: "bundle add",
        examples: &[
            ("colorfast bundle add bundle.yaml --id 2026-11-21", "under a release tag"),
            ("colorfast bundle add bundle.json", "the file says `\"id\": \"2026-11-21\"`"),
        ],
        options: &["service", "expect_version", "json"],
        note: "Adding the same parts under the same id again changes nothing; other parts under it are refused.",
    },
    Page {
        command: "bundle show",
        examples: &[("colorfast bundle show 2026-11-21", "its parts and its digest")],
        options: LOOK,
        note: "",
    },
    Page {
        command: "bundle list",
        examples: &[("colorfast bundle list", "every bundle, and the slots it is in")],
        options: LOOK,
        note: "",
    },
    Page {
        command: "why",
        examples: &[
            ("colorfast why --session 8f3a", "where this session goes now, and why"),
            ("colorfast why --session 8f3a --at 12", "where it went at version 12"),
            (
                "colorfast why --header 'x-agent-session: 8f3a' --header 'x-agent-pin: EQAB' --path /turn",
                "a whole request",
            ),
            ("colorfast why --from-log -", "a line of the access log, from standard input"),
        ],
        options: LOOK,
        note: "Decides as the proxies do, by the same code, and changes nothing. Pins stand in no log: what a line of the log \
            says was decided by a pin cannot be decided again without it.",
    },
    Page {
        command: "preview-token",
        examples: &[
            ("colorfast preview-token green", "for an hour"),
            ("colorfast preview-token green --ttl 10m --json", "for a pipeline"),
        ],
        options: LOOK,
        note: "Whoever holds the token reaches the slot: it is a secret. Requests with it mint no pin, and count nowhere but \
            in previews.slot.<slot>.",
    },
    Page {
        command: "stage",
        examples: &[("colorfast stage green 2026-11-21", "green runs the bundle, and takes no session yet")],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "ramp",
        examples: &[
            ("colorfast ramp green 2.5%", "of the new sessions"),
            ("colorfast ramp green 250", "the same in parts of 10,000"),
            ("colorfast ramp green 0", "no new session more: green drains"),
        ],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "abort",
        examples: &[
            ("colorfast abort green", "its sessions end where they are"),
            ("colorfast abort green --break-pins", "they leave at their next request"),
        ],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "switch",
        examples: &[
            ("colorfast switch green", "every new session goes to green; those elsewhere stay"),
            ("colorfast switch green --timeout 30s --json", "for a pipeline"),
        ],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "rollback",
        examples: &[
            ("colorfast rollback", "sessions of the bad slot leave at their next request"),
            ("colorfast rollback --keep-pins", "they end where they are"),
            ("colorfast rollback --to blue", "to a slot by name"),
        ],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "migrate",
        examples: &[("colorfast migrate blue", "the last sessions of blue leave at their next request")],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "deadline",
        examples: &[
            ("colorfast deadline blue 12h", "who is left in blue then leaves at the next request"),
            ("colorfast deadline blue none", "they end where they are"),
        ],
        options: VERB,
        note: "The sidecar gives the verb `migrate` when the time is over. drain_deadline_seconds sets a deadline for every slot \
            that begins to drain.",
    },
    Page {
        command: "recycle",
        examples: &[
            ("colorfast recycle blue", "blue is idle"),
            ("colorfast recycle blue --force --reason 'night, nobody talks'", "over a refusal"),
        ],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "status",
        examples: &[
            ("colorfast status", "every service"),
            ("colorfast status --service chat --json", "one, for programs: times in Unix ms"),
            ("colorfast status --watch", "goes on with every change, as `colorfast watch`"),
        ],
        options: LOOK,
        note: "",
    },
    Page {
        command: "watch",
        examples: &[
            ("colorfast watch", "a live view on a terminal, a line per change elsewhere"),
            ("colorfast watch --json", "a JSON document per line and change"),
        ],
        options: LOOK,
        note: "",
    },
    Page {
        command: "events",
        examples: &[
            ("colorfast events", "the last ones"),
            ("colorfast events --follow --service chat", "and every new one"),
            ("colorfast events --after 40 --limit 10 --json", "for programs"),
        ],
        options: LOOK,
        note: "",
    },
    Page {
        command: "verify-log",
        examples: &[("colorfast verify-log", "reads the whole log again; exit code 1 where it is damaged")],
        options: &["json"],
        note: "",
    },
    Page {
        command: "serve",
        examples: &[
            ("colorfast serve", "state in the default data directory"),
            ("colorfast serve --data-dir ./state --log-format json", "state elsewhere"),
            ("colorfast serve --discovery 127.0.0.1:0 --control 127.0.0.1:0", "any free ports: see serve.json"),
            ("colorfast serve --discovery 0.0.0.0:18000 --tls-cert tls.crt --tls-key tls.key", "for other machines"),
        ],
        options: &["data_dir"],
        note: "Makes discovery.token (for proxies) and control.token (for operators) in the data directory at its first \
            start, and writes serve.json once it listens. SIGTERM or Ctrl-C ends it. COLORFAST_LOG says what is logged, as in `debug` or \
            `warn,colorfast=debug`; `info` where it is not set.",
    },
    Page {
        command: "backup",
        examples: &[
            ("colorfast backup chat.db", "everything, as it is at this moment; the sidecar goes on"),
            ("colorfast backup -", "to standard output, for a pipe or a file"),
        ],
        options: &["json"],
        note: "The copy holds the log, keys, and what is known of proxies: keep it as you keep keys. It is read to its end \
            before it takes its place, and readable to you alone. The two \
            tokens that stand in files of the data directory are not in it.",
    },
    Page {
        command: "restore",
        examples: &[
            ("colorfast restore chat.db", "into a data directory that has no store"),
            ("colorfast restore --force chat.db", "the store that is there is kept beside it"),
        ],
        options: &["data_dir", "json"],
        note: "The log goes on from the copy under an epoch of its own, which proxies take for newer: they follow as soon as \
            the sidecar runs. Sessions of assignments that the copy knows stay; those that began after it begin anew. \
            What was revoked after the copy holds again.",
    },
    Page {
        command: "doctor",
        examples: &[
            ("colorfast doctor", "the Envoy whose admin address is http://127.0.0.1:9901"),
            ("colorfast doctor --admin http://127.0.0.1:19901 --json", "another one, for programs"),
            ("colorfast doctor --config bootstrap.yaml", "a file, before anything runs"),
        ],
        options: &["json"],
        note: "Ends with exit code 1 where something is wrong, and with 0 where nothing is, or only what has a price (notes). \
            Asks the sidecar for slots and members where one is found; what cannot be looked at is said.",
    },
    Page {
        command: "completions",
        examples: &[
            ("colorfast completions bash", "for ~/.local/share/bash-completion/completions/colorfast"),
            ("colorfast completions zsh", "for a file named _colorfast in a folder of $fpath"),
            ("colorfast completions fish", "for ~/.config/fish/completions/colorfast.fish"),
        ],
        options: &[],
        note: "",
    },
    Page {
        command: "man",
        examples: &[("colorfast man ~/.local/share/man/man1", "colorfast(1), colorfast-switch(1) and so on")],
        options: &["json"],
        note: "",
    },
    Page {
        command: "member forget",
        examples: &[("colorfast member forget edge-1/9f86d081884c7d65", "wait for this proxy no more")],
        options: LOOK,
        note: "",
    },
    Page {
        command: "run hold",
        examples: &[("colorfast run hold nightly-7 --bundle v1", "for a minute: repeat it well before that")],
        options: LOOK,
        note: "The slot that runs the bundle is not recycled while the lease holds. It ends with --ttl, with `run end`, and in \
            any case when pin.max_age_seconds have passed since it began.",
    },
    Page {
        command: "run end",
        examples: &[("colorfast run end nightly-7", "it holds nothing any more")],
        options: LOOK,
        note: "",
    },
    Page {
        command: "run list",
        examples: &[("colorfast run list", "which runs hold which slot, and until when")],
        options: LOOK,
        note: "",
    },
    Page {
        command: "keys rotate",
        examples: &[
            ("colorfast keys rotate", "no pin breaks: the old key verifies until all that it signed is over age"),
            ("colorfast keys rotate --runs", "the keys of run tokens, for all services: no run leaves its bundle"),
        ],
        options: VERB,
        note: "Returns when every proxy has the new key; the sidecar lets it sign then, and retires the old one in time. \
            Keys are rotated on a schedule, too: pin.key_rotation_seconds; those of run tokens by the shortest of all \
            services.",
    },
    Page {
        command: "keys retire",
        examples: &[
            ("colorfast keys retire 1 --force --reason 'it leaked'", "pins that it signed break"),
            ("colorfast keys retire 1 --runs --force --reason 'it leaked'", "run tokens that it signed do"),
        ],
        options: VERB,
        note: CONFIRMED,
    },
    Page {
        command: "keys export",
        examples: &[("colorfast keys export --store release", "the value of COLORFAST_KEYS, for a Secret")],
        options: &["store", "service"],
        note: "Whoever has them can mint pins. Not for a terminal; `kubectl create secret generic colorfast-keys \
            --from-file=COLORFAST_KEYS=keys.json` takes them.",
    },
    Page {
        command: "snapshot render",
        examples: &[
            ("colorfast snapshot render --store release", "an EnvoyFilter, for `kubectl apply -f -`"),
            ("colorfast snapshot render --store release --template filter.yaml", "into a file of your own"),
            (
                "colorfast snapshot render --store release --format envoy --output /etc/envoy/ecds/colorfast.yaml",
                "what a plain Envoy watches",
            ),
        ],
        options: &["store", "service"],
        note: "The snapshot of each service goes into the plugin configuration that names it, and no key does. Proxies take it \
            unless they hold one of a higher epoch or version: to go back, `colorfast rollback`, and render anew.",
    },
    Page {
        command: "keys list",
        examples: &[
            ("colorfast keys list", "which key signs, and when the others go"),
            ("colorfast keys list --runs", "those of run tokens, which are of all services"),
        ],
        options: LOOK,
        note: "",
    },
    Page {
        command: "token create",
        examples: &[
            ("colorfast token create ci --role operator --expires 90d", "for a pipeline that releases"),
            ("colorfast token create edges --node 'edge-*'", "for proxies of these node ids"),
            ("colorfast token create ada --role admin --certificate ada.example.com", "a client certificate instead"),
        ],
        options: &["json"],
        note: "The token is on the first line, this once: what is kept is a hash. COLORFAST_CONTROL_TOKEN or --token-file \
            shows a control token; COLORFAST_TOKEN of Envoy's environment a discovery token.",
    },
    Page {
        command: "token list",
        examples: &[("colorfast token list", "names, roles, ends and last uses")],
        options: &["json"],
        note: "",
    },
    Page {
        command: "token revoke",
        examples: &[("colorfast token revoke ci", "its holder's next request is refused")],
        options: &["json"],
        note: "The tokens in the data directory are not in the list: remove a file and restart the sidecar for a new one.",
    },
];

/// The whole command line with its examples, for programs that list it.
pub fn plain() -> Command {
    let command = Arguments::command();
    let globals: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    arrange(command, "", &globals)
}

/// The whole command line, arranged for people.
pub fn command() -> Command {
    let first_page = first_page(&Arguments::command());
    // Clap knows no groups of commands: its own list of them is hidden, and the first page has a better one.
    plain()
        .mut_subcommands(|sub| sub.hide(true))
        .override_usage("colorfast [OPTIONS] COMMAND")
        .help_template(first_page)
}

/// Gives every command its examples and, of the global options, those that matter for it; the rest work, unseen.
fn arrange(command: Command, path: &str, globals: &[Arg]) -> Command {
    command.mut_subcommands(|mut sub| {
        let path = format!("{path} {}", sub.get_name()).trim().to_owned();
        if sub.has_subcommands() {
            sub = sub.arg_required_else_help(true);
        }
        let page = PAGES.iter().find(|page| page.command == path);
        for global in globals {
            if sub.get_arguments().all(|own| own.get_id() != global.get_id()) {
                let matters = page.is_some_and(|page| page.options.contains(&global.get_id().as_str()));
                sub = sub.arg(global.clone().hide(!matters).help_heading(None));
            }
        }
        if let Some(page) = page {
            sub = sub.after_help(page.render());
        }
        arrange(sub, &path, globals)
    })
}

impl Page {
    fn render(&self) -> StyledStr {
        let mut text = list("Examples", self.examples);
        if !self.note.is_empty() {
            let _ = write!(text, "\n{}\n", self.note);
        }
        let _ = write!(text, "\nMore options, and where the sidecar is found: colorfast --help");
        text.into()
    }
}

fn first_page(command: &Command) -> StyledStr {
    let mut text = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (group, names) in GROUPS {
        let about = |name: &&'static str| {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            (*name, about.map(ToString::to_string).unwrap_or_default())
        };
        let lines: Vec<_> = names.iter().map(about).collect();
        let lines: Vec<_> = lines.iter().map(|(name, about)| (*name, about.as_str())).collect();
        let _ = write!(text, "\n{}", list(group, &lines));
    }
    let _ = write!(text, "\n{{all-args}}\n\n{}", list("A release", FIRST_STEPS));
    let heading = heading("Exit codes");
    let _ = write!(
        text,
        "\n{heading}\n  0  done; what proxies obey is confirmed by every one of them,\n     unless there is none, or --no-wait said not to ask\n  1  refused: nothing has changed\n  \
         2  usage: an argument or a file is wrong\n  3  outage: the sidecar cannot be reached, or fails\n  \
         4  applied, but not confirmed by every proxy in time\n\n`colorfast COMMAND --help` has examples of each command."
    );
    text.into()
}

fn heading(text: &str) -> String {
    let style = Styles::default();
    let header = style.get_header();
    format!("{header}{text}:{header:#}")
}

/// Two aligned columns under a heading.
fn list(title: &str, lines: &[(&str, &str)]) -> String {
    let styles = Styles::default();
    let literal = styles.get_literal();
    let width = lines.iter().map(|(left, _)| left.len()).max().unwrap_or_default();
    let mut text = heading(title);
    text.push('\n');
    for (left, right) in lines {
        let _ = writeln!(text, "  {literal}{left}{literal:#}{:pad$}  {right}", "", pad = width - left.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            match sub.has_subcommands() {
                true => leaves(sub, &path, found),
                false => found.push((path, sub)),
            }
        }
    }

    /// The command line is well formed.
    #[test]
    fn is_well_formed() {
        command().debug_assert();
    }

    /// Every command's help has an example, and every page belongs to a command.
    #[test]
    fn every_command_has_an_example() {
        let command = command();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        for (path, sub) in &found {
            let help = Command::clone(sub).render_long_help().to_string();
            assert!(help.contains(&format!("Examples:\n  colorfast {path}")), "{path}:\n{help}");
            assert!(sub.get_about().is_some(), "{path} says nothing of itself");
        }
        for page in PAGES {
            assert!(found.iter().any(|(path, _)| path == page.command), "{} is no command", page.command);
        }
    }

    /// Every example is a command line that is understood.
    #[test]
    fn every_example_is_understood() {
        for (line, _) in PAGES.iter().flat_map(|page| page.examples).chain(FIRST_STEPS) {
            // Quoted text counts as one word.
            let words = line.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
            if let Err(error) = Arguments::read(words) {
                panic!("{line}: {error}");
            }
        }
    }

    /// The first page names every command once, in its group.
    #[test]
    fn every_command_is_in_one_group() {
        let grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let command = command();
        let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(grouped.len(), names.len());
        for name in names {
            assert!(grouped.contains(&name), "{name} is in no group");
        }
        let help = Arguments::read(["colorfast", "--help"]).unwrap_err().to_string();
        let serve = Arguments::read(["colorfast", "serve", "--help"]).unwrap_err().to_string();
        assert!(serve.contains("COLORFAST_LOG"), "{serve}");
        for wanted in ["Release:", "Look:", "Run:", SIDECAR, OUTPUT, "Exit codes:"] {
            assert!(help.contains(wanted), "{wanted}:\n{help}");
        }
    }
}
