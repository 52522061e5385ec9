//! A stream that is open is a session in use, for as long as it lasts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Answer, Call, Line, Protocol, Socket};
use integration::mesh::{SLOTS, ask, fresh};
use integration::{Envoy, Mesh, names, scenario, wait, waits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a session may be silent.
const IDLE: Duration = Duration::from_secs(3);
/// How long the streams are busy.
const BUSY: Duration = Duration::from_secs(6);
/// The pause between two words over a stream.
const PACE: Duration = Duration::from_millis(300);
/// Sessions of each kind of client.
const SESSIONS: usize = 5;

/// What a client keeps beside its session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    Nothing,
    Pin,
}

/// A session that has come back once, and holds a stream open.
struct Listener {
    id: String,
    pin: Option<String>,
}

impl Listener {
    /// Its first two requests, at one proxy and then at the other.
    async fn begin(lines: &mut [Line], echo: Echo, number: usize) -> Result<Self> {
        let id = format!("listener-{echo:?}-{number}");
        let (_, answer) = ask(&mut lines[number % 2], &fresh(&id)).await?;
        let mut listener = Self { id, pin: None };
        if echo == Echo::Pin {
            listener.pin = Some(answer.header(names::PIN).context("a new session gets its pin")?);
        }
        let (reply, answer) = ask(&mut lines[(number + 1) % 2], &listener.call("/who")).await?;
        ensure!(reply.slot == "blue", "{reply:?}");
        listener.keep(&answer);
        Ok(listener)
    }

    fn call(&self, path: &str) -> Call {
        let call = Call::get(path).header(names::SESSION, &self.id);
        self.pin.iter().fold(call, |call, pin| call.header(names::PIN, pin))
    }

    fn keep(&mut self, answer: &Answer) {
        self.keep_pin(answer.header(names::PIN));
    }

    fn keep_pin(&mut self, fresh: Option<String>) {
        if let (Some(pin), Some(fresh)) = (&mut self.pin, fresh) {
            *pin = fresh;
        }
    }

    /// Opens a socket, and keeps the pin that the answer to the upgrade carries.
    async fn socket(&mut self, line: &mut Line) -> Result<Socket> {
        let socket = line.socket(&self.call("/socket")).await?;
        let header = |name| socket.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        ensure!(header(names::SERVED_BY).as_deref() == Some("blue"), "{:?}", socket.headers);
        self.keep_pin(header(names::PIN));
        Ok(socket)
    }

    /// Which slot serves it at each proxy.
    async fn comes_back(&self, lines: &mut [Line]) -> Result<Vec<String>> {
        let mut slots = Vec::new();
        for line in lines {
            slots.push(ask(line, &self.call("/who")).await?.0.slot);
        }
        Ok(slots)
    }
}

async fn stage() -> Result<(Mesh, [Envoy; 2])> {
    let pin = json!({"cookie": "never", "idle_timeout_seconds": IDLE.as_secs(), "first_return_seconds": 2});
    let mesh = Mesh::with(json!({"pin": pin, "memory": waits::of_ms(2_000)}), &SLOTS).await?;
    let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
    mesh.until_current(2).await?;
    Ok((mesh, envoys))
}

async fn held(mesh: &Mesh) -> Result<Value> {
    let status = mesh.status().await?;
    let slots = status["slots"].as_array().context("slots")?;
    Ok(slots.iter().find(|found| found["slot"] == "blue").context("the slot")?["sessions"].clone())
}

/// Whether all sessions are counted: of so few, two may share a place in a sketch.
fn is_about_all(found: &Value) -> bool {
    found.as_u64().is_some_and(|found| found.abs_diff(2 * SESSIONS as u64) <= 1)
}

/// All are held while their streams are open.
fn all_held(found: &Value) -> Result<()> {
    ensure!(is_about_all(&found["held"]) && found["in_flight"] == 2 * SESSIONS as u64, "{found}");
    Ok(())
}

/// Says how many of the sessions came back elsewhere than to blue, and how many were held while their streams were open.
async fn judge(
    mesh: &Mesh,
    listeners: &[Listener],
    lines: &mut [Line],
    what: &str,
    still_held: Result<()>,
) -> Result<()> {
    let (mut nothing, mut pinned) = (0, 0);
    for listener in listeners {
        let moved = listener.comes_back(lines).await?.iter().any(|slot| slot != "blue");
        *(if listener.pin.is_some() { &mut pinned } else { &mut nothing }) += usize::from(moved);
    }
    let meanwhile = still_held.as_ref().map_or_else(ToString::to_string, |()| "all".to_owned());
    println!(
        "{what} open for {BUSY:?} with an idle timeout of {IDLE:?}: of {SESSIONS} sessions that echo nothing {nothing} came \
         back elsewhere, of {SESSIONS} that echo their pin {pinned}; held meanwhile: {meanwhile}"
    );
    ensure!(nothing + pinned == 0, "{nothing} that echo nothing and {pinned} that echo their pin came back elsewhere");
    still_held?;
    wait::until_ok("all to be held by blue", wait::LIMIT, || async {
        let found = held(mesh).await?;
        ensure!(is_about_all(&found["held"]), "{found}");
        Ok(())
    })
    .await
}

/// Kept, Accounted: sessions whose event streams are busy for longer than the idle timeout are held all the while; when they
/// break off after a switch their clients come back to the same bundle at either proxy, whether they echo their pins or not.
#[test]
fn a_session_is_in_use_while_its_event_stream_is_open() {
    scenario(async {
        let (mesh, envoys) = stage().await?;
        let mut lines = envoys.each_ref().map(|envoy| Line::new(envoy.address(), Protocol::Http2));
        let (mut listeners, mut streams) = (Vec::new(), Vec::new());
        for number in 0..SESSIONS {
            for echo in [Echo::Nothing, Echo::Pin] {
                let listener = Listener::begin(&mut lines, echo, number).await?;
                let mut stream = lines[number % 2].stream(&listener.call("/stream?events=1000")).await?;
                stream.next().await?.context("the first event")?;
                listeners.push(listener);
                streams.push(stream);
            }
        }
        let began = Instant::now();
        while began.elapsed() < BUSY {
            let waiting = || mesh.agent("blue").waiting() == streams.len();
            wait::until("all streams to wait for their next event", wait::LIMIT, waiting).await?;
            mesh.agent("blue").release();
            for stream in &mut streams {
                stream.next().await?.context("another event")?;
            }
            tokio::time::sleep(PACE).await;
        }
        let found = held(&mesh).await?;
        let still_held = all_held(&found);
        mesh.does("switch green").await?;
        drop(streams);
        judge(&mesh, &listeners, &mut lines, "event streams", still_held).await
    });
}

/// The same of WebSockets, by the shipped configuration as it is: by an upgrade in HTTP/1.1 and by extended CONNECT in HTTP/2,
/// to an agent that speaks HTTP/1.1.
#[test]
fn a_session_is_in_use_while_its_socket_is_open() {
    scenario(async {
        let (mesh, envoys) = stage().await?;
        let mut lines = envoys.each_ref().map(|envoy| Line::new(envoy.address(), Protocol::Http2));
        let mut upgrading = envoys.each_ref().map(|envoy| Line::new(envoy.address(), Protocol::Http1));
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        for number in 0..SESSIONS {
            for echo in [Echo::Nothing, Echo::Pin] {
                let mut listener = Listener::begin(&mut lines, echo, number).await?;
                let by = if number < SESSIONS / 2 { &mut upgrading } else { &mut lines };
                sockets.push(listener.socket(&mut by[number % 2]).await?);
                listeners.push(listener);
            }
        }
        let began = Instant::now();
        while began.elapsed() < BUSY {
            for Socket { bytes, .. } in &mut sockets {
                bytes.write_all(b"still here").await?;
                let mut back = [0; 10];
                bytes.read_exact(&mut back).await?;
                ensure!(&back == b"still here", "{back:?}");
            }
            tokio::time::sleep(PACE).await;
        }
        let found = held(&mesh).await?;
        let still_held = all_held(&found);
        mesh.does("switch green").await?;
        drop(sockets);
        judge(&mesh, &listeners, &mut lines, "sockets", still_held).await
    });
}
