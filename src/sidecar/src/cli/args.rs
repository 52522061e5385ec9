//! What can be said on the command line.
//!
//! The doc comments of this file are the help texts; `help` arranges them and adds the examples.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use colorfast_core::ids::{BundleId, IdempotencyKey, ServiceName, SlotName};
use colorfast_core::release::Force;
use colorfast_core::weight::Weight;
use colorfast_core::why::HeaderLine;

use crate::api::tokens::{NodePattern, Role, SubjectName, TokenName};
use crate::cli::keys::KeysCommand;
use crate::cli::presets::PresetCommand;
use crate::cli::render::SnapshotCommand;
use crate::cli::runs::RunCommand;
use crate::cli::{backup, completions, files, help, why};
use crate::server::MEMBER_TTL_MIN;

/// Blue-green releases of AI agents inside Envoy: every session keeps its colour while the mesh changes under it.
#[derive(Debug, Parser)]
#[command(name = "colorfast", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Reads a command line; its first element is the program.
    ///
    /// # Errors
    /// Help, the version or a usage error, each ready to be printed.
    pub fn read<I, T>(line: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        use clap::FromArgMatches as _;
        let mut command = help::command();
        let mut matches = command.try_get_matches_from_mut(line)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// What holds for every command, before or after its name.
///
/// Environment variables are read by `locate`, which must know a flag from a variable to say where a value came from.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The sidecar's data directory, where its address and token are found
    /// [env: COLORFAST_DATA_DIR] [default: $XDG_DATA_HOME/colorfast or ~/.local/share/colorfast]
    #[arg(long, global = true, value_name = "DIR", help_heading = help::SIDECAR)]
    pub data_dir: Option<PathBuf>,
    /// The control API's address, instead of the one in the data directory [env: COLORFAST_CONTROL]
    #[arg(long, global = true, value_name = "URL", help_heading = help::SIDECAR)]
    pub control: Option<String>,
    /// File with the control token, instead of the one in the data directory [env: COLORFAST_CONTROL_TOKEN holds the token itself]
    #[arg(long, global = true, value_name = "FILE", help_heading = help::SIDECAR)]
    pub token_file: Option<PathBuf>,
    /// File with the authorities that the sidecar's certificate may be of, PEM [env: COLORFAST_CA] [default: the system's]
    #[arg(long, global = true, value_name = "FILE", help_heading = help::SIDECAR)]
    pub ca: Option<PathBuf>,
    /// File with a client certificate to show instead of a token, PEM [env: COLORFAST_CERT]
    #[arg(long, global = true, value_name = "FILE", help_heading = help::SIDECAR)]
    pub cert: Option<PathBuf>,
    /// File with its private key, PEM [env: COLORFAST_KEY]
    #[arg(long, global = true, value_name = "FILE", help_heading = help::SIDECAR)]
    pub key: Option<PathBuf>,
    /// An offline store to act on instead of a sidecar: a folder whose log goes with git [env: COLORFAST_STORE]
    #[arg(long, global = true, value_name = "DIR", help_heading = help::SIDECAR,
        conflicts_with_all = ["control", "token_file", "ca", "cert", "key"])]
    pub store: Option<PathBuf>,
    /// The service to act on; may be omitted where there is exactly one [env: COLORFAST_SERVICE]
    #[arg(long, global = true, value_name = "NAME", help_heading = help::RELEASE)]
    pub service: Option<ServiceName>,
    /// How long a verb waits for every proxy to confirm, as in 10s, 500ms or 2m
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = help::RELEASE)]
    pub timeout: Duration,
    /// Do not wait for confirmation
    #[arg(long, global = true, help_heading = help::RELEASE)]
    pub no_wait: bool,
    /// Refuse unless the service is still at version N, as `colorfast status` showed it
    #[arg(long, global = true, value_name = "N", help_heading = help::RELEASE)]
    pub expect_version: Option<u64>,
    /// Carry the verb out once, however often it is sent with this key; a random one is drawn for each command
    #[arg(long, global = true, value_name = "KEY", help_heading = help::RELEASE)]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Print one JSON document on standard output (errors: a problem document on standard error)
    #[arg(long, global = true, help_heading = help::OUTPUT)]
    pub json: bool,
    /// When to use colours; NO_COLOR is obeyed
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = help::OUTPUT)]
    pub color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    // Plain comments: documented values would make clap spread the help over many lines.
    // On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

/// Every command; `help` puts them in order.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar
    Serve(Serve),
    /// Put a backup in the place of the data directory's store, while no sidecar runs there
    Restore(Restore),
    /// Say what is misconfigured in an Envoy: where, why it matters, and what to write instead
    Doctor(Doctor),
    /// List or show presets: settings for the clients of one API, which a service file takes by name
    #[command(subcommand)]
    Preset(PresetCommand),
    /// Print a script that completes command lines
    Completions {
        /// The shell that reads it
        shell: completions::Shell,
    },
    /// Write a man page for every command
    Man {
        /// The folder to write them to; made where it is missing
        folder: PathBuf,
    },
    /// What goes through the control API.
    #[command(flatten)]
    Operator(OperatorCommand),
}

/// What an operator asks of a sidecar.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Apply or show the settings of a service
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Add or show bundles: code, prompts, model, retrieval index and tools of one release
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Put a bundle into an idle slot
    Stage {
        /// The slot, a colour
        slot: SlotName,
        /// The id of the bundle
        bundle: BundleId,
    },
    /// Give a slot a share of the new sessions
    Ramp {
        /// The slot
        slot: SlotName,
        /// Its share: parts of 10,000 as in 250, or a percentage as in 2.5%; 0 drains it
        weight: Weight,
        #[command(flatten)]
        forcing: Forcing,
    },
    /// Take a candidate's share away
    Abort {
        /// The slot
        slot: SlotName,
        /// Make its sessions leave at their next request, rather than let them end there
        #[arg(long)]
        break_pins: bool,
    },
    /// Make a slot live: every new session goes to it
    Switch {
        /// The slot
        slot: SlotName,
        #[command(flatten)]
        forcing: Forcing,
    },
    /// Step back: out of a ramp, or to the slot that was live before
    Rollback {
        /// Let the sessions of the slot that is left end there, rather than leave at their next request
        #[arg(long)]
        keep_pins: bool,
        /// Step back to this slot, rather than to the one that was live before
        #[arg(long, value_name = "SLOT")]
        to: Option<SlotName>,
        #[command(flatten)]
        forcing: Forcing,
    },
    /// Make the last sessions of a draining slot leave it
    Migrate {
        /// The slot
        slot: SlotName,
    },
    /// Set when the last sessions of a draining slot leave by themselves
    Deadline {
        /// The slot
        slot: SlotName,
        /// From now, as in 30m, 12h or 3d; none: they stay until they end
        #[arg(value_name = "TIME", value_parser = deadline)]
        within: Deadline,
    },
    /// Free a slot for the next bundle
    Recycle {
        /// The slot
        slot: SlotName,
        /// Even while it may hold sessions or is kept as a rollback target
        #[arg(long, requires = "reason")]
        force: bool,
        /// Why it is forced; kept in the log
        #[arg(long, value_name = "TEXT", requires = "force")]
        reason: Option<String>,
    },
    /// Explain where a request goes: what every rule says of it
    Why(Box<Why>),
    /// Make a token that reaches a slot whatever its phase, for smoke tests and evals
    PreviewToken {
        /// The slot; it must run a bundle
        slot: SlotName,
        /// How long the token holds, a day at most
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
    /// Show slots and proxies
    Status {
        /// Go on with every change, until Ctrl-C: the same as `colorfast watch`
        #[arg(long, short)]
        watch: bool,
    },
    /// Show slots and proxies, and every change as it happens, until Ctrl-C
    Watch,
    /// Show the log: what was done, when, and by whom
    Events(Events),
    /// Check that the log is whole and unaltered
    VerifyLog,
    /// Copy all that the sidecar keeps into a file, while it goes on
    Backup {
        /// Written whole or not at all, over what is there; - writes to standard output
        file: backup::Target,
    },
    /// Take a proxy that is gone for good out of confirmation
    #[command(subcommand)]
    Member(MemberCommand),
    /// Hold a slot for a run that works without traffic, end that, or list such runs
    #[command(subcommand)]
    Run(RunCommand),
    /// Rotate, retire or list the keys that sign pins, or run tokens
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Make, list or revoke tokens: who may look, give verbs, or be which proxy
    #[command(subcommand)]
    Token(TokenCommand),
    /// Write what proxies decide by into a configuration, to be pushed without a sidecar
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

/// Until when a slot drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// In so many seconds.
    Within(u32),
    /// When its sessions have ended.
    None,
}

impl Deadline {
    /// In how many seconds, where there is one.
    pub fn seconds(self) -> Option<u32> {
        match self {
            Self::Within(seconds) => Some(seconds),
            Self::None => None,
        }
    }
}

fn deadline(text: &str) -> Result<Deadline, String> {
    if text == "none" {
        return Ok(Deadline::None);
    }
    let seconds = lifetime(text)?.as_secs();
    u32::try_from(seconds).map(Deadline::Within).map_err(|_| format!("{text:?} is too long"))
}

/// What overrides the refusal of a slot that is known not to serve.
#[derive(Debug, Args)]
pub struct Forcing {
    /// Even where its agent does not answer, or says that it runs another bundle
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why it is forced; kept in the log
    #[arg(long, value_name = "TEXT", requires = "force")]
    reason: Option<String>,
}

impl Forcing {
    /// The word of force, where it was given.
    pub fn given(self) -> Option<Force> {
        self.reason.filter(|_| self.force).map(|reason| Force { reason })
    }
}

/// `colorfast service …`
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Create a service, or replace its settings
    Apply {
        /// YAML or JSON: `service:` and the settings that are not at their default; - reads standard input
        file: files::Source,
    },
    /// Show the settings of a service, as a file that `apply` takes
    Show {
        /// Every setting that is not at its default, without the preset that it came from
        #[arg(long)]
        expanded: bool,
    },
}

/// `colorfast bundle …`
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Add a bundle, for good: a bundle never changes
    Add {
        /// YAML or JSON: the versions of code, prompts, model, retrieval_index and tools; - reads standard input
        file: files::Source,
        /// The id, a release tag; may stand in the file as `id:` instead
        #[arg(long)]
        id: Option<BundleId>,
    },
    /// Show one bundle
    Show {
        /// Its id
        id: BundleId,
    },
    /// List the bundles of a service, and the slots they are in
    List,
}

/// `colorfast member …`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Wait for a proxy no more; should it come back, it is a member again
    Forget {
        /// `<node id>/<process id>`, as `colorfast status` shows it
        member: String,
    },
}

/// `colorfast token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    #[command(group = clap::ArgGroup::new("grant").required(true).args(["role", "node"]))]
    Create {
        /// Its name: who the log says it was
        name: TokenName,
        /// At the control API: viewer looks, agent holds leases for runs, operator gives verbs, admin makes tokens
        #[arg(long, value_name = "ROLE")]
        role: Option<Role>,
        /// For proxies: the node id that its holder may be, or a pattern as in 'edge-*'
        #[arg(long, value_name = "PATTERN")]
        node: Option<NodePattern>,
        /// No secret: a client certificate with this subject alternative name (DNS name or URI) stands for it
        #[arg(long, value_name = "NAME")]
        certificate: Option<SubjectName>,
        /// How long it is good for, as in 12h or 90d
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// List tokens, without their secrets
    List,
    /// Revoke a token: its holder is refused from the next request on
    Revoke {
        /// Its name
        name: TokenName,
    },
}

/// `colorfast why`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("asked").required(true).multiple(true))]
pub struct Why {
    /// A session id, as the first of the service's session sources carries it
    #[arg(long, value_name = "ID", group = "asked")]
    pub session: Option<String>,
    /// A pin; may be repeated
    #[arg(long, value_name = "TOKEN", group = "asked")]
    pub pin: Vec<String>,
    /// A request header, as in 'x-agent-session: a1'; may be repeated
    #[arg(long, value_name = "LINE", group = "asked", value_parser = why::header)]
    pub header: Vec<HeaderLine>,
    /// The request's method
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// The request's path
    #[arg(long, value_name = "PATH", group = "asked")]
    pub path: Option<String>,
    /// The request's host
    #[arg(long, value_name = "HOST", group = "asked")]
    pub host: Option<String>,
    /// The client's address as the proxy trusts it, for services that place by it
    #[arg(long, value_name = "ADDR:PORT")]
    pub client_address: Option<String>,
    /// A line of the JSON access log of envoy/bootstrap.yaml; - reads it from standard input
    #[arg(long, value_name = "LINE", group = "asked", conflicts_with_all = ["session", "pin", "header", "method", "path", "host"])]
    pub from_log: Option<String>,
    /// Decide by this version of the service, as `colorfast events` shows them; the newest, or the logged one, otherwise
    #[arg(long, value_name = "VERSION")]
    pub at: Option<u64>,
}

/// `colorfast events`
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with every new entry, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Entries after this one, rather than the last ones
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// At most so many entries
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// `colorfast restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// What `colorfast backup` wrote
    pub file: PathBuf,
    /// Even where there is a store already; it is kept beside the restored one
    #[arg(long)]
    pub force: bool,
}

/// `colorfast doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// The admin address of the Envoy to look at
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    pub admin: String,
    /// A bootstrap file to look at instead, YAML or JSON
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    pub config: Option<PathBuf>,
    /// The filter of this release [default: by colorfast_filter.wasm.sha256 beside this program]
    #[arg(long, value_name = "FILE")]
    pub filter: Option<PathBuf>,
}

/// `colorfast serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Where proxies ask; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:18000", value_parser = address)]
    pub discovery: SocketAddr,
    /// Where operators ask; port 0 takes any free one
    // The same id as the global URL, so that this flag stands in its place; hence the same type.
    #[arg(long, value_name = "ADDR:PORT", default_value = CONTROL, value_parser = listener)]
    pub control: String,
    /// Certificate chain of both addresses, PEM; read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authorities whose client certificates may stand for tokens, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// A proxy silent for longer is a member no more
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = member_ttl)]
    pub member_ttl: Duration,
    /// Watch the pods of gateways in this namespace: a proxy whose pod is deleted is a member no more, at once
    #[arg(long, value_name = "NAMESPACE")]
    pub pods_namespace: Option<String>,
    /// Those with these labels, as in istio=ingress
    #[arg(long, value_name = "LABELS", requires = "pods_namespace")]
    pub pods_selector: Option<String>,
    /// Where the token and the authority of the account are that may list and watch them
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount",
        requires = "pods_namespace"
    )]
    pub pods_account: PathBuf,
    /// How often in a row one address may fail to authenticate before it must rest
    // Where a proxy or a NAT stands in front, many clients are one address.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub auth_failures: u32,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How the sidecar writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    // Lines for people.
    Text,
    // One JSON document a line.
    Json,
}

/// Where operators ask, unless they are told otherwise.
pub const CONTROL: &str = "127.0.0.1:18001";
/// Nobody waits longer, and clocks cannot overflow by it.
const DURATION_MAX: Duration = Duration::from_hours(24);

/// Reads a span of time that is not negative.
///
/// # Errors
/// Where it is none, or longer than a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse().ok().and_then(|span: jiff::SignedDuration| Duration::try_from(span).ok());
    span.filter(|span| *span <= DURATION_MAX)
        .ok_or_else(|| format!("{text:?} is not a span of time as in 10s, 500ms or 2m, and a day at most"))
}

/// Reads how long a token is good for: whole days as in 90d, or a span of time as everywhere.
fn lifetime(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()).map(|days| 86_400 * u64::from(days));
    let span = || text.parse().ok().and_then(|span: jiff::SignedDuration| Duration::try_from(span).ok());
    let seconds = days.or_else(|| span().map(|span| span.as_secs())).filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| format!("{text:?} is not a span of time as in 90d, 12h or 30m"))?;
    Ok(Duration::from_secs(seconds))
}

fn member_ttl(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|ttl| match ttl >= MEMBER_TTL_MIN {
        true => Ok(ttl),
        false => Err(format!("{text} is too short: proxies could not poll as often, 1s is the least")),
    })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let rule = |_| format!("{text:?} is not an address to listen on as in {CONTROL} (a URL or a name is none)");
    text.parse().map_err(rule)
}

fn listener(text: &str) -> Result<String, String> {
    address(text).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::read(line.split_whitespace())
    }

    /// Bad arguments end with exit code 2, and the message says what would be right.
    #[test]
    fn bad_arguments_are_usage_errors() {
        let cases = [
            ("colorfast flip", "unrecognized subcommand 'flip'"),
            ("colorfast stage green", "<BUNDLE>"),
            ("colorfast stage Green b1", "a lower-case letter"),
            ("colorfast stage green b/1", "is not a bundle id"),
            ("colorfast ramp green 101%", "parts of 10,000 (0 to 10000), or a percentage"),
            ("colorfast ramp green ten", "is not a weight"),
            ("colorfast switch", "<SLOT>"),
            ("colorfast switch green blue", "unexpected argument 'blue'"),
            ("colorfast rollback --to", "--to <SLOT>"),
            ("colorfast recycle blue --force", "--reason <TEXT>"),
            ("colorfast switch blue --force", "--reason <TEXT>"),
            ("colorfast rollback --reason x", "--force"),
            ("colorfast recycle blue --reason x", "--force"),
            ("colorfast status --service Chat", "is not a service name"),
            ("colorfast status --timeout 10", "as in 10s, 500ms or 2m"),
            ("colorfast status --timeout=-1s", "as in 10s, 500ms or 2m"),
            ("colorfast status --timeout 25h", "a day at most"),
            ("colorfast serve --member-ttl ever", "as in 10s, 500ms or 2m"),
            ("colorfast status --color blue", "[possible values: auto, always, never]"),
            ("colorfast why", "<--session <ID>"),
            ("colorfast why --header x", "is not a header line as in 'x-agent-session: a1'"),
            ("colorfast why --from-log - --session a", "cannot be used with"),
            ("colorfast preview-token green --ttl ever", "as in 10s, 500ms or 2m"),
            ("colorfast events --limit 0", "0 is not in 1..=1000"),
            ("colorfast events --after x", "invalid digit"),
            ("colorfast serve --discovery localhost", "is not an address to listen on"),
            ("colorfast serve --tls-cert c.pem", "--tls-key <FILE>"),
            ("colorfast serve --client-ca c.pem", "--tls-cert <FILE>"),
            ("colorfast serve --member-ttl 0s", "0s is too short: proxies could not poll as often, 1s is the least"),
            ("colorfast serve --control http://127.0.0.1:1", "is not an address to listen on"),
            ("colorfast serve --pods-selector istio=ingress", "--pods-namespace <NAMESPACE>"),
            ("colorfast serve --log-format xml", "[possible values: text, json]"),
            ("colorfast member forget", "<MEMBER>"),
            ("colorfast backup", "<FILE>"),
            ("colorfast restore", "<FILE>"),
            ("colorfast completions tcsh", "[possible values: bash, zsh, fish]"),
            ("colorfast man", "<FOLDER>"),
            ("colorfast token create ci", "<--role <ROLE>|--node <PATTERN>>"),
            ("colorfast token create ci --role root", "is not a role: viewer, agent, operator or admin"),
            ("colorfast token create ci --role viewer --node x", "cannot be used with"),
            ("colorfast token create a/b --role viewer", "is not a token name"),
            ("colorfast token create ci --role viewer --expires 0d", "as in 90d, 12h or 30m"),
            (
                "colorfast token create ci --role viewer --certificate *.example.com",
                "is not a subject alternative name",
            ),
            ("colorfast --store d --control http://127.0.0.1:1 status", "cannot be used with"),
            ("colorfast snapshot render --format xml", "[possible values: istio, envoy]"),
            ("colorfast snapshot render --format istio --template x.yaml", "cannot be used with"),
            ("colorfast service", "apply"),
            ("colorfast", "Usage:"),
        ];
        for (line, wanted) in cases {
            let error = read(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(wanted), "{line}: {error}");
        }
    }

    /// What holds for every command may stand before or after its name.
    #[test]
    fn globals_stand_anywhere() {
        for line in [
            "colorfast --json --service chat --timeout 2m --data-dir d switch green",
            "colorfast switch --json --service chat green --timeout 2m --data-dir d",
        ] {
            let read = read(line).unwrap();
            assert!(read.globals.json, "{line}");
            assert_eq!(read.globals.service.unwrap().as_str(), "chat", "{line}");
            assert_eq!(read.globals.timeout, Duration::from_mins(2), "{line}");
            assert_eq!(read.globals.data_dir, Some("d".into()), "{line}");
        }
    }

    /// `--control` is a URL for operators and an address to listen on for the sidecar.
    #[test]
    fn control_means_two_things() {
        let url = read("colorfast status --control http://127.0.0.1:9").unwrap();
        assert_eq!(url.globals.control.as_deref(), Some("http://127.0.0.1:9"));
        let Command::Serve(serve) = read("colorfast serve").unwrap().command else { panic!("not serve") };
        assert_eq!((serve.control.as_str(), serve.discovery.port()), ("127.0.0.1:18001", 18000));
        let serve = read("colorfast serve --data-dir d --control 127.0.0.1:0").unwrap();
        assert_eq!(serve.globals.data_dir, Some("d".into()));
        let Command::Serve(serve) = serve.command else { panic!("not serve") };
        assert_eq!(serve.control, "127.0.0.1:0");
    }

    /// Tokens live for days, mostly.
    #[test]
    fn lifetimes_are_in_days() {
        let cases = [("90d", 90 * 86_400), ("12h", 43_200), ("1h 30m", 5_400)];
        for (text, seconds) in cases {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "d", "-1d", "ever", "1.5d", "500ms"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }

    /// Weights are read as parts of 10,000 and as percentages.
    #[test]
    fn weights_have_two_forms() {
        for (line, parts) in [("colorfast ramp green 250", 250), ("colorfast ramp green 2.5%", 250)] {
            let command = read(line).unwrap().command;
            let Command::Operator(OperatorCommand::Ramp { weight, .. }) = command else { panic!("not ramp") };
            assert_eq!(weight.parts(), parts);
        }
    }
}
