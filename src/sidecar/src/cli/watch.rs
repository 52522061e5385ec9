//! `colorfast watch`: a live view on a terminal, a line per change elsewhere.

mod changes;
mod screen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use colorfast_core::ids::ServiceName;
use colorfast_core::release::{Entry, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::ServiceStatus;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::{status, words};
use screen::Screen;

/// A sidecar that is away is asked again this often.
const RETRY: Duration = Duration::from_secs(1);
/// How many changes the live view keeps in sight.
const RECENT: usize = 10;

/// What a watcher tells.
enum News {
    /// A service as it is now.
    Status(Box<ServiceStatus>),
    /// All services as they are now.
    List(Vec<ServiceStatus>),
    /// The sidecar does not answer to this question.
    Away(Question),
    /// It answers, but not with what was asked for: asking again would help nobody.
    Failed(Failure),
}

/// What is asked again and again: for one service, or for the list of all (none).
type Question = Option<ServiceName>;

/// Watches one service, or all, until it is interrupted.
///
/// # Errors
/// Where the sidecar is away from the beginning, or refuses; an outage later on is shown and waited out.
pub async fn run(client: &Client, output: &Output, service: Option<&ServiceName>) -> Result<Exit, Failure> {
    let first = match service {
        Some(service) => vec![client.service(service).await?],
        None => client.services().await?,
    };
    let (tell, mut news) = mpsc::channel(64);
    let mut watched = BTreeMap::new();
    for status in first {
        follow(client, &mut watched, &tell, status);
    }
    if service.is_none() {
        tokio::spawn(look_for_services(client.clone(), tell.clone()));
    }
    let mut view = View::open(*output)?;
    let mut interrupted = Interrupted::listen()?;
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    let failed = loop {
        tokio::select! {
            () = interrupted.wait() => break None,
            _ = clock.tick() => view.draw()?,
            Some(told) = news.recv() => match told {
                News::Away(question) => view.away(question)?,
                News::Failed(failure) => break Some(failure),
                News::Status(status) => {
                    view.back(&Some(status.service.clone()))?;
                    view.take(&status)?;
                }
                News::List(services) => {
                    view.back(&None)?;
                    for status in services {
                        view.take(&status)?;
                        follow(client, &mut watched, &tell, status);
                    }
                }
            }
        }
    };
    view.close()?;
    failed.map_or(Ok(Exit::Done), Err)
}

/// Has a service followed by a task of its own, unless it is already.
fn follow(
    client: &Client,
    watched: &mut BTreeMap<ServiceName, tokio::task::JoinHandle<()>>,
    tell: &mpsc::Sender<News>,
    status: ServiceStatus,
) {
    watched.entry(status.service.clone()).or_insert_with(|| {
        let (client, tell) = (client.clone(), tell.clone());
        tokio::spawn(async move {
            let service = status.service.clone();
            if tell.send(News::Status(Box::new(status))).await.is_ok() {
                watch_service(client, service, tell).await;
            }
        })
    });
}

/// Tells a service whenever it changes, over every outage; ends with the receiver.
async fn watch_service(client: Client, service: ServiceName, tell: mpsc::Sender<News>) {
    loop {
        let failure = match client.watch(&service).await {
            Ok(mut statuses) => loop {
                match statuses.next().await {
                    Ok(status) => {
                        if tell.send(News::Status(status)).await.is_err() {
                            return;
                        }
                    }
                    Err(failure) => break failure,
                }
            },
            Err(failure) => failure,
        };
        if tell.send(unanswered(Some(service.clone()), failure).await).await.is_err() {
            return;
        }
    }
}

/// Tells the list of services whenever one is created, over every outage; ends with the receiver.
async fn look_for_services(client: Client, tell: mpsc::Sender<News>) {
    let mut seen = None;
    loop {
        let Err(failure) = new_services(&client, &mut seen, &tell).await else { return };
        if tell.send(unanswered(None, failure).await).await.is_err() {
            return;
        }
    }
}

/// Follows the log from its end on, or from the entry `seen`, as far as it goes.
async fn new_services(client: &Client, seen: &mut Option<u64>, tell: &mpsc::Sender<News>) -> Result<(), Failure> {
    let mut after = match *seen {
        Some(seen) => seen,
        None => client.events(None, 0, 1).await?.head,
    };
    // What was created before the log is followed is in the list.
    if tell.send(News::List(client.services().await?)).await.is_err() {
        return Ok(());
    }
    let mut entries = client.follow(None, after).await?;
    loop {
        *seen = Some(after);
        let entry: Entry = entries.next().await?;
        after = entry.seq;
        if let Event::ServiceCreated { .. } = entry.event
            && tell.send(News::List(client.services().await?)).await.is_err()
        {
            return Ok(());
        }
    }
}

/// What a question is told to have come to, once it can be asked again.
async fn unanswered(question: Question, failure: Failure) -> News {
    if failure.exit() != Exit::Outage {
        return News::Failed(failure);
    }
    tokio::time::sleep(RETRY).await;
    News::Away(question)
}

/// Ctrl-C, or a polite request to end.
struct Interrupted {
    terminate: tokio::signal::unix::Signal,
}

impl Interrupted {
    fn listen() -> Result<Self, Failure> {
        let terminate = signal(SignalKind::terminate());
        let terminate = terminate.map_err(|error| Failure::outage(format!("cannot listen to signals: {error}")))?;
        Ok(Self { terminate })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What is shown.
struct View {
    output: Output,
    screen: Option<Screen>,
    services: BTreeMap<ServiceName, ServiceStatus>,
    recent: VecDeque<String>,
    /// The questions that get no answer: one that does says nothing about the others.
    away: BTreeSet<Question>,
}

impl View {
    fn open(output: Output) -> Result<Self, Failure> {
        let live = output.format == Format::Text && output.is_terminal();
        let screen = live.then(|| Screen::enter(output)).transpose()?;
        Ok(Self { output, screen, services: BTreeMap::new(), recent: VecDeque::new(), away: BTreeSet::new() })
    }

    /// Takes a service as it is now, and shows what has changed.
    fn take(&mut self, status: &ServiceStatus) -> Result<(), Failure> {
        let known = self.services.get(&status.service);
        if known.is_some_and(|known| known.version > status.version && known.epoch == status.epoch) {
            // An answer that was overtaken by a newer one.
            return Ok(());
        }
        let changes = changes::between(known, status);
        self.services.insert(status.service.clone(), status.clone());
        if changes.is_empty() {
            return Ok(());
        }
        if self.output.format == Format::Json {
            return self.output.document_line(status);
        }
        let head = format!("{} {} v{}", words::moment(words::now()), status.service, status.version);
        self.tell(changes.into_iter().map(|change| format!("{head} {change}")))
    }

    fn away(&mut self, question: Question) -> Result<(), Failure> {
        let first = self.away.is_empty();
        self.away.insert(question);
        if first { self.tell_of_sidecar("is away: asking again") } else { Ok(()) }
    }

    fn back(&mut self, question: &Question) -> Result<(), Failure> {
        let last = self.away.remove(question) && self.away.is_empty();
        if last { self.tell_of_sidecar("is back") } else { Ok(()) }
    }

    /// Programs read what changes about services alone.
    fn tell_of_sidecar(&mut self, what: &str) -> Result<(), Failure> {
        if self.output.format == Format::Json {
            return Ok(());
        }
        self.tell(std::iter::once(format!("{} the sidecar {what}", words::moment(words::now()))))
    }

    fn tell(&mut self, lines: impl Iterator<Item = String>) -> Result<(), Failure> {
        for line in lines {
            if self.screen.is_none() {
                self.output.line(&line)?;
            }
            self.recent.push_back(line);
        }
        let excess = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..excess);
        self.draw()
    }

    /// Draws the live view anew; times grow older by themselves.
    fn draw(&mut self) -> Result<(), Failure> {
        let page = self.page();
        self.screen.as_mut().map_or(Ok(()), |screen| screen.show(&page))
    }

    fn page(&self) -> String {
        let now = words::now();
        let paint = self.output.paint;
        let mut page = String::new();
        if !self.away.is_empty() {
            page.push_str(&paint.bad("the sidecar is away, what follows is what it said last"));
            page.push_str("\n\n");
        }
        if self.services.is_empty() {
            page.push_str("there is no service yet: `colorfast service apply FILE` creates one\n");
        }
        for status in self.services.values() {
            page.push_str(&status::page(status, now, &self.output));
            page.push('\n');
        }
        for line in &self.recent {
            page.push_str(&paint.dim(line));
            page.push('\n');
        }
        page
    }

    /// Leaves the last view where the shell goes on.
    fn close(mut self) -> Result<(), Failure> {
        match self.screen.take() {
            Some(screen) => {
                drop(screen);
                self.output.text(&self.page())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::fake::{self, Fake};

    /// Only an outage is waited out: what the sidecar refuses ends the watching, and says why.
    #[tokio::test]
    async fn refusals_end_it() {
        for (status, code) in [(401, "unauthenticated"), (404, "no-service")] {
            let fake = Fake::start(move |asked| match asked.line.contains("/watch") {
                true => (status, fake::problem(status, code)),
                false => (200, json!([fake::status(3)])),
            })
            .await;
            let output = Output::plain();
            let ended = tokio::time::timeout(Duration::from_secs(10), run(&fake.client, &output, None)).await;
            let failure = ended.expect(code).expect_err(code);
            assert_eq!(failure.exit(), Exit::Refused, "{code}");
        }
    }

    /// The sidecar is away from the first question without an answer until none is left, and each is told once.
    #[test]
    fn an_outage_is_told_once() {
        let mut view = View::open(Output::plain()).unwrap();
        let (chat, code) = (Some("chat".parse().unwrap()), Some("code".parse().unwrap()));
        view.away(chat.clone()).unwrap();
        view.back(&code).unwrap();
        view.away(code.clone()).unwrap();
        view.away(chat.clone()).unwrap();
        view.back(&chat).unwrap();
        assert!(view.page().contains("the sidecar is away"), "{}", view.page());
        view.back(&code).unwrap();
        view.back(&code).unwrap();
        let told: Vec<_> = view.recent.iter().filter_map(|line| Some(line.split_once("the sidecar ")?.1)).collect();
        assert_eq!(told, ["is away: asking again", "is back"]);
        assert!(!view.page().contains("what follows is what it said last"));
    }
}
