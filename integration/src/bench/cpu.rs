//! What a process costs, and where it runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The cores that the work is parted over, where there are two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// Where load is made and answered.
    Load,
    /// Where the measured Envoys run.
    Measured,
}

/// The CPU time of a process so far, of all its threads, in user and system mode.
///
/// # Errors
/// Where there is no such process, or the system has no such clock.
#[cfg(target_os = "linux")]
pub fn used(process: u32) -> Result<Duration> {
    use nix::time::{clock_getcpuclockid, clock_gettime};
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(i32::try_from(process)?))?;
    Ok(Duration::from(clock_gettime(clock)?))
}

/// The grain of that clock.
///
/// # Errors
/// Where the system has no such clock.
#[cfg(target_os = "linux")]
pub fn grain() -> Result<Duration> {
    use nix::time::{clock_getcpuclockid, clock_getres};
    Ok(Duration::from(clock_getres(clock_getcpuclockid(nix::unistd::Pid::this())?)?))
}

/// Keeps a thread of this process, or with its id one of another, on a core. With one core alone it stays there anyway.
///
/// # Errors
/// Where the system refuses.
#[cfg(target_os = "linux")]
pub fn pin(thread: Option<u32>, core: Core) -> Result<()> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
    let (Some(first), Some(second)) = (cores.next(), cores.next()) else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(if core == Core::Load { first } else { second })?;
    let thread = thread.map(i32::try_from).transpose()?.unwrap_or_default();
    sched_setaffinity(Pid::from_raw(thread), &set).context("cannot keep a thread on one core")
}

/// Keeps all threads of a process on a core.
///
/// # Errors
/// Where the system refuses.
pub fn pin_process(process: u32, core: Core) -> Result<()> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        pin(Some(thread?.file_name().to_string_lossy().parse()?), core)?;
    }
    Ok(())
}

/// The CPU time of a process: this system has no clock for it.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn used(_: u32) -> Result<Duration> {
    bail!("the benchmark reads the CPU clock of other processes, which needs Linux")
}

/// The grain of that clock.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn grain() -> Result<Duration> {
    bail!("the benchmark reads the CPU clock of other processes, which needs Linux")
}

/// Keeps a thread on a core: not on this system.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn pin(_: Option<u32>, _: Core) -> Result<()> {
    bail!("the benchmark keeps threads on cores, which needs Linux")
}

/// The memory of a process that is resident, in KiB.
///
/// # Errors
/// Where there is no such process.
pub fn resident_kib(process: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmRSS:")) else {
        bail!("the process {process} has no resident memory")
    };
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{line:?} is no number of kB"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The clock goes on with what is done, and is finer than what is measured by far.
    #[test]
    fn work_shows_on_the_clock() {
        let me = std::process::id();
        let (before, mut sum) = (used(me).unwrap(), 0u64);
        for n in 0..2_000_000u64 {
            sum = std::hint::black_box(sum ^ n);
        }
        assert!(used(me).unwrap() > before);
        assert!(grain().unwrap() < Duration::from_micros(100));
        assert!(resident_kib(me).unwrap() > 100);
    }
}
