//! What may run out on a node, how much is left, and when that is too little.
//!
//! upstream: pkg/kubelet/eviction/{api/types.go,helpers.go}

use std::path::Path;

use longshore_api::quantity::{Format, Quantity};

/// Something that may run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory of the node.
    Memory,
    /// Bytes where pods' volumes and logs lie.
    NodeBytes,
    /// Inodes there.
    NodeInodes,
    /// Bytes where images and containers lie.
    ImageBytes,
    /// Inodes there.
    ImageInodes,
    /// Numbers of processes.
    Pids,
}

impl Signal {
    const ALL: [(&'static str, Self); 6] = [
        ("memory.available", Self::Memory),
        ("nodefs.available", Self::NodeBytes),
        ("nodefs.inodesFree", Self::NodeInodes),
        ("imagefs.available", Self::ImageBytes),
        ("imagefs.inodesFree", Self::ImageInodes),
        ("pid.available", Self::Pids),
    ];

    /// The condition that a node has when there is too little.
    pub(crate) fn condition(self) -> Condition {
        match self {
            Self::Memory => Condition::Memory,
            Self::Pids => Condition::Pid,
            _ => Condition::Disk,
        }
    }

    /// The resource that is taken back from pods.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::NodeInodes | Self::ImageInodes => "inodes",
            Self::NodeBytes | Self::ImageBytes => "ephemeral-storage",
        }
    }
}

/// What a node lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    Disk,
    Memory,
    Pid,
}

impl Condition {
    /// Its type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "DiskPressure",
            Self::Memory => "MemoryPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// An amount, or a share of all there is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Whole(i64),
    Share(f64),
}

/// The least of something that has to be left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub(crate) signal: Signal,
    least: Amount,
}

/// The thresholds of a node that states none.
///
/// upstream: pkg/kubelet/eviction/defaults_linux.go
pub const DEFAULT: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,\
                           imagefs.available<15%,imagefs.inodesFree<5%";

/// Reads thresholds such as `memory.available<100Mi,nodefs.available<10%`. A share of nothing is
/// no threshold.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Vec<Threshold>, String> {
    let mut all: Vec<Threshold> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, least) = part
            .split_once('<')
            .ok_or_else(|| format!("{part:?} is not of the form NAME<LEAST"))?;
        let known = Signal::ALL.iter().find(|(known, _)| *known == name);
        let (_, signal) = known.ok_or_else(|| {
            let names: Vec<&str> = Signal::ALL.iter().map(|(name, _)| *name).collect();
            format!("{name:?} is not one of {}", names.join(", "))
        })?;
        let wrong =
            || format!("{least:?} is neither an amount such as 100Mi nor a share such as 5%");
        let least = match least.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.parse().map_err(|_| wrong())?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(wrong());
                }
                Amount::Share(percent / 100.0)
            }
            None => Amount::Whole(Quantity::parse(least).map_err(|_| wrong())?.value()),
        };
        if all.iter().any(|other| other.signal == *signal) {
            return Err(format!("{name:?} is there twice"));
        }
        if least != Amount::Share(0.0) {
            all.push(Threshold { signal: *signal, least });
        }
    }
    Ok(all)
}

/// How much there is and how much is left; nothing where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) capacity: i64,
    pub(crate) available: i64,
}

impl Threshold {
    fn amount(&self, level: Level) -> i64 {
        match self.least {
            Amount::Whole(amount) => amount,
            Amount::Share(share) => part(level.capacity, share),
        }
    }

    /// Whether too little is left.
    pub(crate) fn is_met(&self, level: Level) -> bool {
        level.capacity > 0 && level.available < self.amount(level)
    }

    /// The threshold and what is left, in words.
    pub(crate) fn told(&self, level: Level) -> String {
        let (least, left) = (self.amount(level), level.available);
        format!("Threshold quantity: {}, available: {}. ", binary(least), binary(kib(left)))
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a share of an amount need not be exact"
)]
fn part(whole: i64, share: f64) -> i64 {
    (whole as f64 * share) as i64
}

/// Cut to whole KiB, as far as there are any.
fn kib(bytes: i64) -> i64 {
    if bytes < 1024 { bytes } else { bytes / 1024 * 1024 }
}

/// Bytes as quantities are written.
pub(crate) fn binary(bytes: i64) -> String {
    Quantity::from_integer(bytes).in_format(Format::BinarySi).to_string()
}

/// Memory that is left: free, or in files that nobody has used lately.
///
/// upstream: the working set of the root control group
pub(crate) fn memory(meminfo: &str) -> Level {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: Option<i64> = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    let available = bytes("MemFree").saturating_add(bytes("Inactive(file)"));
    Level { capacity: bytes("MemTotal"), available }
}

/// Bytes and inodes of the file system of a path.
pub(crate) fn disk(path: &Path) -> (Level, Level) {
    let Ok(stat) = rustix::fs::statvfs(path) else { return Default::default() };
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let bytes = |blocks: u64| number(blocks.saturating_mul(stat.f_frsize));
    (
        Level { capacity: bytes(stat.f_blocks), available: bytes(stat.f_bavail) },
        Level { capacity: number(stat.f_files), available: number(stat.f_favail) },
    )
}

/// Numbers of processes: `loadavg` tells how many there are.
pub(crate) fn pids(pid_max: &str, threads_max: &str, loadavg: &str) -> Level {
    let number = |text: &str| text.trim().parse::<i64>().ok();
    let capacity = [number(pid_max), number(threads_max)].into_iter().flatten().min();
    let running = loadavg.split_whitespace().nth(3).and_then(|text| text.split_once('/'));
    match (capacity, running.and_then(|(_, all)| number(all))) {
        (Some(capacity), Some(running)) => Level { capacity, available: capacity - running },
        _ => Level::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_amounts_or_shares() {
        let all = parse(DEFAULT).expect("good");
        assert_eq!(all.len(), 5);
        let memory = all[0];
        let level = |available| Level { capacity: 1 << 30, available };
        assert!(memory.is_met(level(99 << 20)));
        assert!(!memory.is_met(level(100 << 20)));
        let bytes = all[1];
        assert!(bytes.is_met(level(100 << 20)) && !bytes.is_met(level(110 << 20)));
        // Some file systems count no inodes.
        assert!(!all[2].is_met(Level::default()));
        assert_eq!(
            memory.told(level((50 << 20) + 10)),
            "Threshold quantity: 100Mi, available: 50Mi. "
        );
        assert_eq!(parse("imagefs.available<0%"), Ok(Vec::new()));
        for wrong in ["memory", "memory.available<x", "a<1", "nodefs.available<101%"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("pid.available<1,pid.available<2").is_err());
    }

    #[test]
    fn levels_are_read() {
        let text = "MemTotal:  1000 kB\nMemFree:  300 kB\nInactive(file):   50 kB\n";
        assert_eq!(memory(text), Level { capacity: 1_024_000, available: 358_400 });
        let level = Level { capacity: 4000, available: 3750 };
        assert_eq!(pids("32768\n", "4000\n", "0.1 0.2 0.3 2/250 9999"), level);
        assert_eq!(pids("x", "", ""), Level::default());
        let (bytes, _) = disk(Path::new("/"));
        assert!(bytes.capacity > 0 && bytes.available <= bytes.capacity);
    }
}
