//! Unified diffs with three lines of context, as Python's and Go's difflib make them.
//!
//! upstream: vendor/github.com/pmezard/go-difflib/difflib/difflib.go

use std::collections::HashMap;

const CONTEXT: usize = 3;
/// From this many lines on, lines that occur often do not start a match.
const POPULAR_FROM: usize = 200;

/// A run of lines that both texts have: start in each, and length.
type Match = (usize, usize, usize);

/// What becomes of lines `a` of the old and `b` of the new text.
#[derive(Clone, Copy)]
struct Step {
    equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

/// The hunks in which two texts differ.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in groups(&a, &b) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let range = |start: usize, end: usize| match end - start {
            1 => format!("{}", start + 1),
            0 => format!("{start},0"),
            length => format!("{},{length}", start + 1),
        };
        let (before, after) = (range(first.a.0, last.a.1), range(first.b.0, last.b.1));
        out.push_str(&format!("@@ -{before} +{after} @@\n"));
        for step in &group {
            let mut lines = |sign: char, lines: &[&str]| {
                for line in lines {
                    out.push(sign);
                    out.push_str(line);
                    out.push('\n');
                }
            };
            if step.equal {
                lines(' ', &a[step.a.0..step.a.1]);
            } else {
                lines('-', &a[step.a.0..step.a.1]);
                lines('+', &b[step.b.0..step.b.1]);
            }
        }
    }
    out
}

/// Changes that are near each other, with the equal lines around them.
fn groups(a: &[&str], b: &[&str]) -> Vec<Vec<Step>> {
    let mut steps = steps(a, b);
    if let Some(first) = steps.first_mut().filter(|s| s.equal) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = steps.last_mut().filter(|s| s.equal) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let mut groups = Vec::new();
    let mut group: Vec<Step> = Vec::new();
    for mut step in steps {
        if step.equal && step.a.1 - step.a.0 > 2 * CONTEXT {
            let (a, b) = ((step.a.0, step.a.0 + CONTEXT), (step.b.0, step.b.0 + CONTEXT));
            group.push(Step { equal: true, a, b });
            groups.push(std::mem::take(&mut group));
            step.a.0 = step.a.1 - CONTEXT;
            step.b.0 = step.b.1 - CONTEXT;
        }
        group.push(step);
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|step| !step.equal));
    groups
}

fn steps(a: &[&str], b: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (at, bt, length) in matches(a, b) {
        if i < at || j < bt {
            steps.push(Step { equal: false, a: (i, at), b: (j, bt) });
        }
        if length > 0 {
            steps.push(Step { equal: true, a: (at, at + length), b: (bt, bt + length) });
        }
        (i, j) = (at + length, bt + length);
    }
    steps
}

/// All runs in order, ended by an empty one.
fn matches(a: &[&str], b: &[&str]) -> Vec<Match> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= POPULAR_FROM {
        let most = b.len() / 100 + 1;
        places.retain(|_, at| at.len() <= most);
    }
    let mut found: Vec<Match> = Vec::new();
    let mut open = vec![(0, a.len(), 0, b.len())];
    while let Some((alo, ahi, blo, bhi)) = open.pop() {
        let (i, j, length) = longest(a, b, &places, (alo, ahi, blo, bhi));
        if length == 0 {
            continue;
        }
        found.push((i, j, length));
        open.push((alo, i, blo, j));
        open.push((i + length, ahi, j + length, bhi));
    }
    found.sort_unstable();
    let mut joined: Vec<Match> = Vec::new();
    for (i, j, length) in found {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += length,
            _ => joined.push((i, j, length)),
        }
    }
    joined.push((a.len(), b.len(), 0));
    joined
}

/// The longest run within bounds; of several the first in `a`, then in `b`.
fn longest(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (alo, ahi, blo, bhi): (usize, usize, usize, usize),
) -> Match {
    let (mut besti, mut bestj, mut best) = (alo, blo, 0);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for (i, line) in a.iter().enumerate().take(ahi).skip(alo) {
        let mut next = HashMap::new();
        for &j in places.get(line).into_iter().flatten() {
            if j < blo {
                continue;
            }
            if j >= bhi {
                break;
            }
            let before = if j == 0 { 0 } else { lengths.get(&(j - 1)).copied().unwrap_or(0) };
            let length = before + 1;
            next.insert(j, length);
            if length > best {
                (besti, bestj, best) = (i + 1 - length, j + 1 - length, length);
            }
        }
        lengths = next;
    }
    // A run also takes in equal lines at its ends that did not start one.
    while besti > alo && bestj > blo && a[besti - 1] == b[bestj - 1] {
        (besti, bestj, best) = (besti - 1, bestj - 1, best + 1);
    }
    while besti + best < ahi && bestj + best < bhi && a[besti + best] == b[bestj + best] {
        best += 1;
    }
    (besti, bestj, best)
}
