//! A session is found by any of its names: the first source that has an id decides, and the ids of later sources are further
//! names of the session that a request came to.

use anyhow::{Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{SLOTS, ask};
use integration::{Envoy, Mesh, scenario, waits};
use serde_json::{Value, json};

/// How much of a body is read.
const BOUND: usize = 4_096;
/// Conversations, and the turns of each after its body has outgrown the bound.
const CONVERSATIONS: usize = 8;
const TURNS: usize = 3;

fn settings() -> Value {
    json!({
        "session_sources": [{"body": "/prompt_cache_key"}, {"header": "session-id"}],
        "body": {"prefix_bytes": BOUND},
        "memory": waits::of_ms(2_000),
    })
}

async fn proxies(mesh: &Mesh) -> Result<[Envoy; 2]> {
    let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
    mesh.until_current(2).await?;
    Ok(envoys)
}

/// A turn of a conversation whose key stands behind all that was said before.
fn turn(key: &str, header: &str, said: usize) -> Call {
    let body = format!(r#"{{"input":"{}","prompt_cache_key":"{key}"}}"#, "x".repeat(said));
    Call::post("/who", body).header("content-type", "application/json").header("session-id", header)
}

/// Kept: a conversation whose body outgrows what is read of it stays on its bundle at either proxy, since the id that its
/// header shows, which never decided, is a name of it, too.
#[test]
fn a_body_that_outgrows_the_bound_keeps_its_session() {
    scenario(async {
        let mesh = Mesh::with(settings(), &SLOTS).await?;
        let envoys = proxies(&mesh).await?;
        let mut lines = envoys.each_ref().map(|envoy| Line::new(envoy.address(), Protocol::Http1));
        let call = |number: usize, said| turn(&format!("key-{number}"), &format!("header-{number}"), said);
        for number in 0..CONVERSATIONS {
            let (reply, _) = ask(&mut lines[number % 2], &call(number, 10)).await?;
            ensure!(reply.slot == "blue", "{reply:?}");
        }
        mesh.does("switch green").await?;
        let mut hops = 0;
        for nth in 0..TURNS {
            for number in 0..CONVERSATIONS {
                let (reply, _) = ask(&mut lines[(number + nth) % 2], &call(number, BOUND * (nth + 1))).await?;
                hops += usize::from(reply.slot != "blue");
            }
        }
        let turns = CONVERSATIONS * TURNS;
        println!("{hops} of {turns} turns hopped whose bodies had outgrown {BOUND} bytes");
        ensure!(hops == 0, "{hops} of {turns} turns hopped");
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Kept, Atomic: an id of the first source that nobody knows begins a session, though a later source shows one that is known,
/// as a user's id is, of all whose conversations it is a name: no new conversation is pulled to the old bundle, and none of
/// the old ones from it. A request that lacks the first id goes where the newest went.
#[test]
fn a_users_id_pulls_no_new_conversation_to_an_old_bundle() {
    scenario(async {
        let mesh = Mesh::with(settings(), &SLOTS).await?;
        let envoys = proxies(&mesh).await?;
        let mut lines = envoys.each_ref().map(|envoy| Line::new(envoy.address(), Protocol::Http1));
        let (reply, _) = ask(&mut lines[0], &turn("old", "user-7", 10)).await?;
        ensure!(reply.slot == "blue", "{reply:?}");
        mesh.does("switch green").await?;
        let alone = Call::get("/who").header("session-id", "user-7");
        for (what, call, slot) in [
            ("the user's id alone", alone.clone(), "blue"),
            ("a new conversation", turn("new", "user-7", 10), "green"),
            ("the old conversation", turn("old", "user-7", 10), "blue"),
            ("another new conversation", turn("newest", "user-7", 10), "green"),
            ("the user's id alone", alone, "green"),
        ] {
            // At either proxy, the one that saw the session last included.
            for line in &mut lines {
                let (reply, _) = ask(line, &call).await?;
                ensure!(reply.slot == slot, "{what} went to {}, by {}", reply.slot, reply.decision);
            }
        }
        Ok(())
    });
}
