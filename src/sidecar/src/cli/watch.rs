//! `colorfast watch`: a live view on a terminal, a line per change elsewhere.

mod changes;
mod screen;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use colorfast_core::ids::ServiceName;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::ServiceStatus;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::{status, words};
use screen::Screen;

/// One question is held so long at most: a change between two questions goes unseen for no longer.
const HOLD: Duration = Duration::from_secs(2);
/// New services are looked for, and a sidecar that is away is asked again, this often.
const RETRY: Duration = Duration::from_secs(1);
/// How many changes the live view keeps in sight.
const RECENT: usize = 10;

/// What a watcher tells.
enum News {
    /// A service as it is now.
    Status(Box<ServiceStatus>),
    /// The sidecar does not answer.
    Away,
}

/// Watches one service, or all, until it is interrupted.
///
/// # Errors
/// Where the sidecar is away from the beginning; an outage later on is shown and waited out.
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
    loop {
        tokio::select! {
            () = interrupted.wait() => break,
            _ = clock.tick() => view.draw()?,
            Some(told) = news.recv() => match told {
                News::Away => view.away()?,
                News::Status(status) => {
                    view.take(&status)?;
                    follow(client, &mut watched, &tell, *status);
                }
            }
        }
    }
    view.close()?;
    Ok(Exit::Done)
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
            let (service, mut version) = (status.service.clone(), status.version);
            let mut news = News::Status(Box::new(status));
            // Ends with the receiver.
            while tell.send(news).await.is_ok() {
                news = match client.service_after(&service, version, HOLD).await {
                    Ok(status) => {
                        version = status.version;
                        News::Status(Box::new(status))
                    }
                    Err(_) => {
                        tokio::time::sleep(RETRY).await;
                        News::Away
                    }
                };
            }
        })
    });
}

async fn look_for_services(client: Client, tell: mpsc::Sender<News>) {
    loop {
        tokio::time::sleep(RETRY).await;
        let news = match client.services().await {
            Ok(services) => services.into_iter().map(|status| News::Status(Box::new(status))).collect(),
            Err(_) => vec![News::Away],
        };
        for news in news {
            if tell.send(news).await.is_err() {
                return;
            }
        }
    }
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
    away: bool,
}

impl View {
    fn open(output: Output) -> Result<Self, Failure> {
        let live = output.format == Format::Text && output.is_terminal();
        let screen = live.then(|| Screen::enter(output)).transpose()?;
        Ok(Self { output, screen, services: BTreeMap::new(), recent: VecDeque::new(), away: false })
    }

    /// Takes a service as it is now, and shows what has changed.
    fn take(&mut self, status: &ServiceStatus) -> Result<(), Failure> {
        let known = self.services.get(&status.service);
        if known.is_some_and(|known| known.version > status.version && known.epoch == status.epoch) {
            // An answer that was overtaken by a newer one.
            return Ok(());
        }
        let mut changes = changes::between(known, status);
        self.services.insert(status.service.clone(), status.clone());
        if std::mem::take(&mut self.away) && self.output.format == Format::Text {
            changes.insert(0, "the sidecar is back".to_owned());
        }
        if changes.is_empty() {
            return Ok(());
        }
        if self.output.format == Format::Json {
            return self.output.document_line(status);
        }
        let head = format!("{} {} v{}", words::moment(words::now()), status.service, status.version);
        self.tell(changes.into_iter().map(|change| format!("{head} {change}")))
    }

    fn away(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.away, true) || self.output.format == Format::Json {
            return Ok(());
        }
        let line = format!("{} the sidecar is away: asking again", words::moment(words::now()));
        self.tell(std::iter::once(line))
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
        if self.away {
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
