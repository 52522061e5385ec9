//! A server of one file, as a store of build artifacts is to whoever downloads from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::serve;

/// A running server, whatever path it is asked for.
#[derive(Debug)]
pub struct Artifacts {
    address: SocketAddr,
    downloads: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

impl Artifacts {
    /// Serves a file on a free port.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn serve(file: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (file, downloads) = (Bytes::from(file), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&downloads);
        let server = tokio::spawn(serve(listener, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let body = Full::new(file.clone());
            async move { Response::new(body) }
        }));
        Ok(Self { address, downloads, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often the file was asked for.
    #[must_use]
    pub fn downloads(&self) -> u64 {
        self.downloads.load(Ordering::Relaxed)
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        self.server.abort();
    }
}
