//! What happens in the demo, one step after the other.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::MissedTickBehavior;

use super::crowd::{Crowd, Leaving};
use super::invitation;
use super::operator::{Operator, SlotState, Step, Told};
use super::options::Options;
use super::picture::{Dot, Picture, Speed};
use super::screen::{Screen, Stream};
use super::verdict::{Marks, Verdict};
use super::world::{Agents, GREEN, World};
use crate::wait;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// What is told at each step, with colorfast and without.
const STORY: [(Step, &str, &str); 4] = [
    (
        Step::Stage,
        "Green gets the new bundle: the same code, other prompts, another model. No client reaches it yet.",
        "Green is started. Envoy sends nothing to it yet.",
    ),
    (
        Step::Ramp,
        "Green takes 10 % of the new conversations. Those that have begun stay where they are.",
        "Envoy sends 10 % to green.",
    ),
    (
        Step::Switch,
        "Green takes all new conversations. Those on blue go on there until they end.",
        "Envoy sends everything to green.",
    ),
    (
        Step::Rollback,
        "Green disappoints: its conversations leave it at their next request. Nobody on blue notices.",
        "Green disappoints: Envoy sends everything back to blue.",
    ),
];

/// Plays the demo from its start to its verdict, and hands on what runs still.
///
/// # Errors
/// Where anything does not start, a step is refused, or what it should bring about does not come.
pub async fn play(options: &Options) -> Result<(Verdict, World)> {
    let screen = Screen::new(if options.json { Stream::Err } else { Stream::Out });
    let mut play = Play::start(options, screen).await?;
    let mut marks = Marks::default();
    play.hold(0.15, "every client's first turn", |picture| !picture.rows[0].dots.contains(&Dot::Silent)).await?;
    for (step, with, without) in STORY {
        play.watch.screen.tell(if options.without_filter { without } else { with });
        let told = play.carry_out(step).await?;
        marks.note(step, &told);
        match step {
            Step::Stage => play.hold(0.1, "nothing", |_| true).await?,
            Step::Ramp => play.hold(0.25, "a client of green", |picture| picture.talking(&GREEN) > 0).await?,
            Step::Switch => {
                let more = play.watch.crowd.more()?;
                play.watch.screen.answer(&format!("{more} more clients begin to talk"));
                let all_began = |picture: &Picture| !picture.rows[1].dots.contains(&Dot::Silent);
                play.hold(0.25, "the first turns of those who came later", all_began).await?;
            }
            Step::Rollback => {
                play.watch.leaving = Leaving::OnPurpose;
                play.hold(0.25, "green to be left", |picture| picture.talking(&GREEN) == 0).await?;
            }
        }
    }
    play.end(options, &marks).await
}

struct Play {
    world: World,
    watch: Watch,
    length: Duration,
}

/// What the picture is made of.
struct Watch {
    screen: Screen,
    crowd: Crowd,
    slots: Vec<SlotState>,
    speed: Speed,
    began: Instant,
    leaving: Leaving,
}

impl Play {
    async fn start(options: &Options, screen: Screen) -> Result<Self> {
        let world = if options.without_filter {
            screen.tell("Two agents start, and an Envoy with two workers, without colorfast.");
            Operator::start_without().await?
        } else {
            screen.tell("Two agents start, a sidecar, and an Envoy with two workers.");
            Operator::start_with_colorfast(&screen).await?
        };
        let slots = world.operator.slots().await?;
        let crowd = Crowd::start(world.address(), options.clients())?;
        screen.answer(&format!("Envoy takes requests on http://{}", world.address()));
        screen.tell("Clients talk to blue. An agent keeps its conversations in its own memory.");
        let (speed, began, leaving) = (Speed::default(), Instant::now(), Leaving::Broken);
        Ok(Self { world, watch: Watch { screen, crowd, slots, speed, began, leaving }, length: options.length() })
    }

    /// Carries out a step, and shows the clients meanwhile.
    async fn carry_out(&mut self, step: Step) -> Result<Told> {
        let Self { world, watch, .. } = self;
        let told = during(world.operator.carry_out(step), || drop(watch.draw(&world.agents))).await?;
        if let Some(command) = &told.command {
            watch.screen.command(command);
            watch.screen.answer(&told.answer);
        }
        watch.slots = world.operator.slots().await?;
        Ok(told)
    }

    /// Lets the clients talk for a share of the demo's length, and until there is something to see.
    async fn hold(&mut self, share: f64, what: &str, seen: impl Fn(&Picture) -> bool) -> Result<()> {
        let began = Instant::now();
        let least = self.length.mul_f64(share);
        let mut frames = frames();
        loop {
            frames.tick().await;
            let picture = self.watch.draw(&self.world.agents);
            if began.elapsed() >= least && seen(&picture) {
                self.watch.screen.note(&picture);
                return Ok(());
            }
            if began.elapsed() >= least + wait::LIMIT {
                bail!("waited in vain for {what}: {}", picture.line());
            }
        }
    }

    /// Tells the verdict, and what to try where everything is to run on.
    async fn end(self, options: &Options, marks: &Marks) -> Result<(Verdict, World)> {
        let Self { world, mut watch, .. } = self;
        let picture = watch.draw(&world.agents);
        watch.screen.freeze(&picture);
        let Watch { screen, crowd, began, .. } = watch;
        let reports = crowd.stop().await?;
        let verdict = Verdict::of(&reports, marks, began.elapsed());
        screen.print(&verdict.text(screen.paint()));
        if options.json {
            println!("{}", serde_json::to_string_pretty(&verdict)?);
        }
        if options.keep {
            screen.print(&invitation::text(&world, screen.paint())?);
        }
        Ok((verdict, world))
    }
}

impl Watch {
    fn draw(&mut self, agents: &Agents) -> Picture {
        let now = Instant::now();
        let (requests, failed) = self.crowd.counts();
        let picture = Picture {
            slots: self.slots.clone(),
            rates: self.speed.rates(now, agents.requests()),
            rows: self.crowd.rows(self.leaving),
            requests,
            failed,
            elapsed: self.began.elapsed(),
        };
        self.screen.draw(&picture);
        picture
    }
}

/// Draws while something else goes on.
async fn during<T>(work: impl Future<Output = T>, mut draw: impl FnMut()) -> T {
    let mut frames = frames();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = frames.tick() => draw(),
        }
    }
}

fn frames() -> tokio::time::Interval {
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    frames
}
