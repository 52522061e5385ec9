//! Many more sessions than a proxy has room for.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use integration::bench::room::{self, Fill, Room};
use integration::numbers::from_environment;
use integration::scenario;

/// Sessions, unless `COLORFAST_SESSIONS` says otherwise.
const SESSIONS: u64 = 200_000;
/// What the proxy has room for.
const ROOM: u32 = 32_768;
/// What the process may grow by once the table is full, in KiB. A record has 32 bytes, so a proxy that kept anything of
/// each session that comes after would grow by three times as much; allocators and V8 take some hundred KiB now and then.
const GROWS_KIB: u64 = 1_024;

/// Cheap: a proxy forgets and counts the sessions that it has no room for, remembers the latest, and takes no more of the
/// machine's memory however many come.
#[test]
fn memory_is_flat_once_the_table_is_full() {
    scenario(async {
        let began = Instant::now();
        let tell = |Fill { came, evictions, resident_kib }: &Fill| {
            println!("{came:>9} sessions, {evictions:>9} evictions, {resident_kib} KiB");
        };
        let room = room::measure(from_environment("COLORFAST_SESSIONS", SESSIONS)?, ROOM, tell).await?;
        println!("{room} It took {:?}.", began.elapsed());
        bounded(&room)
    });
}

fn bounded(room: &Room) -> Result<()> {
    let [_, full, _] = room.resident_kib();
    let after = room.full().count();
    ensure!(after >= 10, "{after} looks at a full table are too few to tell: more sessions are wanted");
    let most = room.full().map(|fill| fill.resident_kib).max().unwrap_or_default();
    ensure!(most <= full + GROWS_KIB, "grew from {full} KiB to {most} KiB with a full table");

    // In the end every bucket has overflowed but for very few, so what has no place has been counted.
    let evictions = room.fill.last().map_or(0, |fill| fill.evictions);
    let (least, free) = (room.sessions.saturating_sub(room.places), room.places / 1_000);
    ensure!((least..=least + free).contains(&evictions), "{evictions} evictions, {least} at least are due");
    // There was room for as many as the settings say, but for the few that met in one bucket.
    let roomy = room.fill.iter().rfind(|fill| fill.came <= room.room.into()).context("a look before")?;
    ensure!(roomy.evictions * 200 <= roomy.came, "{roomy:?}");
    ensure!(room.recent_known == room.recent, "{} of {} are known", room.recent_known, room.recent);
    Ok(())
}
