//! Throughput: many clients in a closed loop, each with a connection of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::Bench;
use crate::process::cpu_seconds;
use crate::report::{Goal, Report, median};
use crate::wire::{Ask, Wire};

/// How long a round takes, and how many there are.
const ROUND: Duration = Duration::from_secs(3);
/// Rounds of which the median counts.
pub const ROUNDS: usize = 3;

/// Opens connections and uses each of them once before they are measured.
pub async fn connect(bench: &Bench<'_>, count: usize) -> Result<Vec<Wire>> {
    let connections = try_join_all((0..count).map(|_| async {
        let mut wire = bench.target.connect().await?;
        let code =
            wire.call(&Ask { method: "GET", path: "/version", ..Ask::default() }, |_| {}).await?;
        ensure!(code == 200, "GET /version: {code}");
        anyhow::Ok(wire)
    }));
    connections.await
}

/// What one round came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Operations in a second.
    pub rate: f64,
    /// Processor time of the server for one operation, in microseconds; 0 when it is not known.
    pub server_us: f64,
    /// Processor time of the load for one operation, in microseconds.
    pub load_us: f64,
}

/// Processor time used so far by a server (0 when it is not known) and by this process.
fn used(pid: Option<u32>) -> Result<(f64, f64)> {
    Ok((pid.map_or(Ok(0.0), cpu_seconds)?, cpu_seconds(std::process::id())?))
}

/// Measures what a piece of work costs that does `count` operations.
pub struct Meter {
    pid: Option<u32>,
    start: Instant,
    used: (f64, f64),
}

impl Meter {
    /// Begins now.
    pub fn start(pid: Option<u32>) -> Result<Self> {
        Ok(Self { pid, start: Instant::now(), used: used(pid)? })
    }

    /// Ends now.
    pub fn stop(self, count: f64) -> Result<Round> {
        let seconds = self.start.elapsed().as_secs_f64();
        let now = used(self.pid)?;
        let each = |before: f64, after: f64| (after - before) * 1e6 / count.max(1.0);
        Ok(Round {
            rate: count / seconds,
            server_us: each(self.used.0, now.0),
            load_us: each(self.used.1, now.1),
        })
    }
}

/// Runs all clients for one round. `work` does one operation, given a number that no other has.
pub async fn round<C>(
    pid: Option<u32>,
    clients: &mut [C],
    next: &AtomicU64,
    work: impl AsyncFn(&mut C, u64) -> Result<()>,
) -> Result<Round> {
    let meter = Meter::start(pid)?;
    let end = Instant::now() + ROUND;
    let done = AtomicU64::new(0);
    let work = &work;
    try_join_all(clients.iter_mut().map(|client| async {
        while Instant::now() < end {
            work(client, next.fetch_add(1, Ordering::Relaxed)).await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }))
    .await?;
    meter.stop(done.load(Ordering::Relaxed) as f64)
}

/// The medians of some rounds.
pub fn medians(rounds: &[Round]) -> Round {
    let of = |value: fn(&Round) -> f64| median(&mut rounds.iter().map(value).collect::<Vec<_>>());
    Round { rate: of(|r| r.rate), server_us: of(|r| r.server_us), load_us: of(|r| r.load_us) }
}

/// Reports a rate with what an operation costs.
pub fn report(report: &mut Report, name: &str, round: Round, goal: Goal) {
    report.add(name, round.rate, "/s", goal);
    if round.server_us > 0.0 {
        report.add("  processor of the server for each", round.server_us, "us", Goal::None);
    }
    report.add("  processor of the load for each", round.load_us, "us", Goal::None);
    bound(report, round.server_us, round.load_us);
}

/// What the cores would do in a second if nothing else used them and nothing waited: on a machine
/// that others use too it says more than the rate.
pub fn bound(report: &mut Report, server_us: f64, load_us: f64) {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    if server_us > 0.0 {
        let most = cores * 1e6 / (server_us + load_us);
        report.add("  all cores would allow", most, "/s", Goal::None);
    }
}
