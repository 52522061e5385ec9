//! An agent that does nothing but read and answer, so that what is measured is the proxy.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};

use super::cpu::{self, Core};
use super::wire::Head;

/// Starts an agent that answers every request with `body`, for as long as the process lives.
///
/// # Errors
/// Where no port can be had.
pub fn start(body: &'static str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // An Envoy that ends closes its connections; there is nobody to tell.
                let _ = cpu::pin(None, Core::Load).and_then(|()| answer(stream, body));
            });
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, body: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (mut buffer, mut filled) = ([0; 16 * 1024], 0);
    loop {
        let read = stream.read(buffer.get_mut(filled..).context("too long a request")?)?;
        ensure!(read > 0, "closed");
        filled += read;
        let Some(head) = Head::of_request(&buffer[..filled])? else { continue };
        let mut left = head.end.checked_sub(filled).context("more came than the request")?;
        while left > 0 {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "closed");
            left = left.checked_sub(read).context("more came than the request")?;
        }
        stream.write_all(answer.as_bytes())?;
        filled = 0;
    }
}
