//! Simulated proxies: discovery clients of our own that poll, take what comes and acknowledge it, as the filter's leader
//! does, and do nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use colorfast_core::names::{DISCOVERY_PATH, SNAPSHOT_TYPE_URL};
use colorfast_core::wire::discovery::{DiscoveryRequest, DiscoveryResponse, Node, NodeMetadata};
use colorfast_core::wire::ticket::Ticket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::wire::Head;
use crate::mesh::CHAT;

/// After a failure a client asks again, as a proxy does.
const AGAIN: Duration = Duration::from_millis(200);

/// Simulated members; they leave when this is dropped.
#[derive(Debug)]
pub struct Members {
    more: tokio::sync::mpsc::UnboundedSender<u32>,
    _end: oneshot::Sender<()>,
}

/// Whom they ask.
#[derive(Clone, Debug)]
struct Sidecar {
    address: SocketAddr,
    token: String,
}

impl Members {
    /// Nobody yet. All of them live on one thread, so that they take no more of the machine than they must.
    #[must_use]
    pub fn new(address: SocketAddr, token: String) -> Self {
        let sidecar = Arc::new(Sidecar { address, token });
        let (more, mut wanted) = tokio::sync::mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async move {
                let mut clients = JoinSet::new();
                let come = async {
                    while let Some(number) = wanted.recv().await {
                        clients.spawn(live(Arc::clone(&sidecar), number));
                    }
                };
                tokio::select! {
                    () = come => {}
                    _ = ended => {}
                }
            });
        });
        Self { more, _end: end }
    }

    /// Has the members of these numbers come.
    pub fn come(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let _ = self.more.send(number);
        }
    }
}

/// One member's life.
async fn live(sidecar: Arc<Sidecar>, number: u32) {
    let mut member = Member::new(number);
    loop {
        // A sidecar that is away, or a switch that broke a connection: the proxy asks again.
        let _ = member.ask(&sidecar).await;
        tokio::time::sleep(AGAIN).await;
    }
}

/// What a member knows.
struct Member {
    node: Node,
    version: String,
    nonce: String,
    /// What proves that it is itself, once it was given one.
    ticket: Option<Ticket>,
}

impl Member {
    fn new(number: u32) -> Self {
        let metadata = NodeMetadata { process_id: format!("{:016x}", u64::from(number) + 1) };
        let node = Node { id: format!("bench-{number:04}"), metadata };
        Self { node, version: String::new(), nonce: String::new(), ticket: None }
    }

    /// Polls over one connection until it breaks.
    async fn ask(&mut self, sidecar: &Sidecar) -> Result<()> {
        let mut stream = TcpStream::connect(sidecar.address).await?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(4096);
        loop {
            stream.write_all(&self.poll(sidecar)?).await?;
            buffer.clear();
            let head = loop {
                ensure!(stream.read_buf(&mut buffer).await? > 0, "closed");
                if let Some(head) = Head::of_response(&buffer)?
                    && buffer.len() >= head.end
                {
                    break head;
                }
            };
            match head.status {
                200 => self.take(buffer.get(head.body..head.end).context("a body")?)?,
                // Nothing newer came while the poll was held open.
                304 => {}
                status => bail!("a poll was answered with {status}"),
            }
        }
    }

    fn poll(&self, sidecar: &Sidecar) -> Result<Vec<u8>> {
        let body = serde_json::to_vec(&DiscoveryRequest {
            version_info: self.version.clone(),
            response_nonce: self.nonce.clone(),
            resource_names: vec![CHAT.parse()?],
            type_url: SNAPSHOT_TYPE_URL.to_owned(),
            node: self.node.clone(),
            ticket: self.ticket.clone(),
            error_detail: None,
            corrected: None,
        })?;
        let Sidecar { address, token } = sidecar;
        let length = body.len();
        let mut request = format!(
            "POST {DISCOVERY_PATH} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(&body);
        Ok(request)
    }

    fn take(&mut self, body: &[u8]) -> Result<()> {
        let answer: DiscoveryResponse = serde_json::from_slice(body)?;
        (self.version, self.nonce) = (answer.version_info, answer.nonce);
        self.ticket = answer.ticket.or(self.ticket.take());
        Ok(())
    }
}
