//! Runs a target on many inputs.
//!
//! There is no coverage to steer by on a stable compiler. Instead a target tells what kind of
//! outcome an input had, and an input with a new one is kept and changed further.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::mutate::mutate;
use crate::random::Random;
use crate::targets::Target;

/// Inputs that are kept to be changed further.
const CORPUS_MAX: usize = 4_000;
/// The longest that one input may take.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Inputs tried.
    pub executions: u64,
    /// Inputs that were kept because of what they led to.
    pub outcomes: usize,
    /// How long it took.
    pub time: Duration,
    /// The longest time of one input.
    pub slowest: Duration,
    /// The first input that broke the target, and how.
    pub failure: Option<(Vec<u8>, String)>,
}

/// Runs a target until an input breaks it or so many have been tried. The same seed gives the same
/// inputs.
pub fn run(target: &Target, executions: u64, seed: u64) -> Report {
    let mut random = Random::new(seed);
    let mut corpus = (target.seeds)(&mut random);
    let mut seen = HashSet::new();
    let start = Instant::now();
    let mut report = Report {
        executions: 0,
        outcomes: 0,
        time: Duration::ZERO,
        slowest: Duration::ZERO,
        failure: None,
    };
    let fresh = corpus.len();
    for index in 0..executions {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        // The seeds themselves come first.
        let input = match corpus.get(at).filter(|_| at < fresh) {
            Some(seed) => seed.clone(),
            None => {
                let from = random.pick(&corpus).clone();
                mutate(&mut random, &from, &corpus, target.words)
            }
        };
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let took = began.elapsed();
        report.executions += 1;
        report.slowest = report.slowest.max(took);
        match outcome {
            Ok(outcome) => {
                if seen.insert(signature(&outcome)) && corpus.len() < CORPUS_MAX && at >= fresh {
                    corpus.push(input.clone());
                }
            }
            Err(panic) => report.failure = Some((input.clone(), text(&*panic))),
        }
        if took > INPUT_TIME_MAX && report.failure.is_none() {
            report.failure = Some((input, format!("it took {took:?}")));
        }
        if report.failure.is_some() {
            break;
        }
    }
    report.outcomes = seen.len();
    report.time = start.elapsed();
    report
}

/// What an outcome has in common with others: its words without numbers and quoted parts.
fn signature(outcome: &str) -> u64 {
    const WORDS_MAX: usize = 160;
    let mut hasher = DefaultHasher::new();
    let mut quoted = false;
    for byte in outcome.bytes().take(WORDS_MAX) {
        quoted ^= byte == b'"';
        if !quoted && !byte.is_ascii_digit() {
            byte.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
