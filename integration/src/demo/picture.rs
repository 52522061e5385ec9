//! What there is to see at a moment: the slots, and a dot for each client in the colour of the bundle that it talks
//! to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::operator::SlotState;
use super::paint::Paint;
use super::world::{SIDES, Side};

/// Over how long requests are counted for their rate.
const WINDOW: Duration = Duration::from_secs(1);
/// More dots than this are not drawn, but counted.
const DOTS: usize = 64;

/// A client, by the bundle that served its latest turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dot {
    /// It has not been served yet.
    Silent,
    /// Where it began, or where it may come and go.
    Kept(Arc<str>),
    /// It left the slot that was rolled back.
    Moved(Arc<str>),
    /// It was served by an agent that does not know its conversation, and nobody had asked for that.
    Broken(Arc<str>),
}

impl Dot {
    /// The side that serves it.
    #[must_use]
    pub fn side(&self) -> Option<&'static Side> {
        match self {
            Self::Silent => None,
            Self::Kept(bundle) | Self::Moved(bundle) | Self::Broken(bundle) => Side::of(bundle),
        }
    }

    fn drawn(&self, paint: Paint) -> String {
        let glyph = match self {
            Self::Silent => return paint.dim("·"),
            Self::Broken(_) => return paint.bad("✗"),
            Self::Kept(_) => "●",
            Self::Moved(_) => "◆",
        };
        self.side().map_or_else(|| glyph.to_owned(), |side| paint.side(side, glyph))
    }
}

/// Clients of one kind.
#[derive(Clone, Debug)]
pub struct Row {
    /// The kind.
    pub title: &'static str,
    /// The clients.
    pub dots: Vec<Dot>,
}

/// What there is to see.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The slots.
    pub slots: Vec<SlotState>,
    /// Requests in a second to each of [`SIDES`].
    pub rates: [u64; 2],
    /// The clients.
    pub rows: [Row; 3],
    /// Requests that have ended.
    pub requests: u64,
    /// Those of them that got no answer of an agent.
    pub failed: u64,
    /// How long it has been going on.
    pub elapsed: Duration,
}

impl Picture {
    /// How many clients talk to a side.
    #[must_use]
    pub fn talking(&self, side: &Side) -> usize {
        self.rows.iter().flat_map(|row| &row.dots).filter(|dot| dot.side() == Some(side)).count()
    }

    /// What shares are of: without sessions they are of every request.
    fn whole(&self) -> &'static str {
        if self.slots.iter().any(|slot| slot.phase.is_some()) { "new sessions" } else { "all requests" }
    }

    /// As many lines as [`Picture::height`] says.
    #[must_use]
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let whole = self.whole().to_uppercase();
        let header =
            format!("  {:<8}{:<11}{whole:>14}   {:<11}{:>12}{:>9}", "SLOT", "PHASE", "BUNDLE", "REQUESTS/S", "TALKING");
        let mut lines = vec![String::new(), paint.dim(&header)];
        for (side, rate) in SIDES.into_iter().zip(self.rates) {
            let slot = self.slots.iter().find(|slot| slot.slot == side.slot);
            let phase = slot.and_then(|slot| slot.phase.as_deref()).unwrap_or("-");
            let share = slot.map_or_else(|| "-".to_owned(), |slot| share(slot.weight));
            let bundle = slot.and_then(|slot| slot.bundle.as_deref()).unwrap_or("-");
            let name = paint.side(side, &format!("{:<8}", side.slot));
            lines.push(format!("  {name}{phase:<11}{share:>14}   {bundle:<11}{rate:>12}{:>9}", self.talking(side)));
        }
        lines.push(String::new());
        for row in &self.rows {
            let dots: String = row.dots.iter().take(DOTS).map(|dot| dot.drawn(paint)).collect();
            let more = row.dots.len().saturating_sub(DOTS);
            let more = if more == 0 { String::new() } else { paint.dim(&format!(" and {more} more")) };
            lines.push(format!("  {:<17} {dots}{more}", row.title));
        }
        lines.push(String::new());
        let Self { requests, failed, .. } = self;
        let failed = format!("{failed} failed");
        let failed = if self.failed == 0 { failed } else { paint.bad(&failed) };
        let legend = "● kept  ◆ moved by the rollback  ✗ broken";
        lines.push(format!("  {:>4.0?} · {requests} requests, {failed}  {}", self.elapsed, paint.dim(legend)));
        lines
    }

    /// How many lines it takes.
    #[must_use]
    pub const fn height() -> usize {
        2 + SIDES.len() + 1 + 3 + 2
    }

    /// All of it in one sober line.
    #[must_use]
    pub fn line(&self) -> String {
        let slots = self.slots.iter().filter_map(|slot| {
            let side = SIDES.into_iter().position(|side| side.slot == slot.slot)?;
            let phase = slot.phase.as_ref().map_or_else(String::new, |phase| format!(" {phase},"));
            let (share, rate) = (share(slot.weight), self.rates[side]);
            Some(format!(
                "{}:{phase} {share} of {}, {} talking, {rate}/s",
                slot.slot,
                self.whole(),
                self.talking(SIDES[side])
            ))
        });
        let slots: Vec<_> = slots.collect();
        format!("{} | {} requests, {} failed", slots.join(" | "), self.requests, self.failed)
    }
}

fn share(weight: u32) -> String {
    format!("{} %", f64::from(weight) / 100.0)
}

/// Requests in a second, over the last moments.
#[derive(Debug, Default)]
pub struct Speed {
    seen: VecDeque<(Instant, [u64; 2])>,
}

impl Speed {
    /// Takes the counts of this moment and answers the rates.
    pub fn rates(&mut self, now: Instant, counts: [u64; 2]) -> [u64; 2] {
        self.seen.push_back((now, counts));
        while self.seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let Some((since, earlier)) = self.seen.front() else { return [0; 2] };
        let micros = u64::try_from(now.duration_since(*since).as_micros()).unwrap_or(u64::MAX).max(1);
        std::array::from_fn(|side| (counts[side] - earlier[side]) * 1_000_000 / micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates are of the last second, not of all time.
    #[test]
    fn rates_follow_the_last_second() {
        let (mut speed, start) = (Speed::default(), Instant::now());
        assert_eq!(speed.rates(start, [0, 0]), [0, 0]);
        assert_eq!(speed.rates(start + Duration::from_millis(500), [50, 5]), [100, 10]);
        assert_eq!(speed.rates(start + Duration::from_millis(1000), [100, 10]), [100, 10]);
        assert_eq!(speed.rates(start + Duration::from_millis(2000), [100, 310]), [0, 300]);
    }

    /// The live view can be drawn over itself: it always has the same height.
    #[test]
    fn the_height_is_known() {
        let dots =
            vec![Dot::Silent, Dot::Kept("chat-2.3".into()), Dot::Moved("chat-2.4".into()), Dot::Broken("?".into())];
        let row = |title| Row { title, dots: dots.clone() };
        let picture = Picture {
            slots: Vec::new(),
            rates: [0; 2],
            rows: [row("a"), row("b"), row("c")],
            requests: 3,
            failed: 1,
            elapsed: Duration::ZERO,
        };
        assert_eq!(picture.lines(Paint::On).len(), Picture::height());
        assert_eq!(picture.talking(SIDES[0]), 3);
    }
}
