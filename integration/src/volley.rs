//! Many clients at once: connections that are open already, over each of which one request is sent at a given moment.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::names;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One connection for each session, open and silent.
#[derive(Debug)]
pub struct Volley {
    clients: Vec<(String, TcpStream)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Fired {
    /// The slot that served each session, in their order.
    pub slots: Vec<String>,
    /// How long it took to send all.
    pub sent_within: Duration,
    /// From the first request to the last answer.
    pub answered_within: Duration,
}

impl Volley {
    /// Opens the connections.
    ///
    /// # Errors
    /// Where one is not taken.
    pub async fn aimed_at(address: SocketAddr, sessions: &[String]) -> Result<Self> {
        let mut clients = Vec::new();
        for session in sessions {
            let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
            stream.set_nodelay(true)?;
            clients.push((session.clone(), stream));
        }
        Ok(Self { clients })
    }

    /// Sends one request of each session, spread evenly over a time, and waits for all answers.
    ///
    /// # Errors
    /// Where one is not answered by an agent.
    pub async fn fire(self, over: Duration) -> Result<Fired> {
        let (began, count) = (Instant::now(), self.clients.len());
        let mut readers = JoinSet::new();
        for (nth, (session, mut stream)) in self.clients.into_iter().enumerate() {
            let due = began + over.mul_f64(nth as f64 / count as f64);
            if due > Instant::now() + Duration::from_millis(1) {
                tokio::time::sleep_until(due.into()).await;
            }
            let head = format!(
                "GET /who HTTP/1.1\r\nhost: chat.test\r\n{}: {session}\r\nconnection: close\r\n\r\n",
                names::SESSION
            );
            stream.write_all(head.as_bytes()).await?;
            readers.spawn(async move {
                let mut answer = Vec::new();
                tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.context("no answer")??;
                let answer = String::from_utf8_lossy(&answer).into_owned();
                ensure!(answer.starts_with("HTTP/1.1 200 "), "{session}: {answer}");
                let slot = answer.lines().find_map(|line| line.strip_prefix(names::SERVED_BY)?.strip_prefix(": "));
                let slot = slot.with_context(|| format!("{session}: nobody says who has served it: {answer}"))?;
                anyhow::Ok((nth, slot.to_owned()))
            });
        }
        let sent_within = began.elapsed();
        let mut slots = vec![String::new(); count];
        while let Some(answered) = readers.join_next().await {
            let (nth, slot) = answered??;
            slots[nth] = slot;
        }
        Ok(Fired { slots, sent_within, answered_within: began.elapsed() })
    }
}
