//! Random changes of bytes.

use crate::random::Random;

/// The longest input.
pub const INPUT_MAX: usize = 16 * 1024;
/// Changes made to one input, at most.
const CHANGES_MAX: usize = 6;
/// Bytes that stand at the borders of what readers tell apart.
const EDGES: &[u8] =
    &[0x00, 0x01, 0x20, 0x2f, 0x5c, 0x7f, 0x80, 0xc0, 0xe0, 0xf8, 0xff, b'"', b'-', b'9'];

/// Changes an input. `others` gives parts to put in, `words` are texts that the target knows.
pub fn mutate(random: &mut Random, input: &[u8], others: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..1 + random.below(CHANGES_MAX) {
        change(random, &mut out, others, words);
    }
    out.truncate(INPUT_MAX);
    out
}

fn change(random: &mut Random, out: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]]) {
    let at = random.below(out.len() + 1);
    let length = 1 + random.below(16);
    let end = (at + length).min(out.len());
    match random.below(9) {
        0 if at < out.len() => out[at] ^= 1 << random.below(8),
        1 if at < out.len() => out[at] = *random.pick(EDGES),
        2 => {
            out.insert(at, random.number() as u8);
        }
        3 => {
            out.drain(at..end);
        }
        4 => {
            // A part again, many times.
            let part = out[at..end].to_vec();
            let times_max = if random.one_in(20) { 300 } else { 4 };
            let times = 1 + random.below(times_max);
            let repeated = part.repeat(times);
            out.splice(at..at, repeated);
        }
        5 if !words.is_empty() => {
            let word = random.pick(words).to_vec();
            out.splice(at..at, word);
        }
        6 if !words.is_empty() => {
            let word = random.pick(words).to_vec();
            out.splice(at..end, word);
        }
        7 if !others.is_empty() => {
            let other = random.pick(others);
            let from = random.below(other.len() + 1);
            let to = (from + 1 + random.below(64)).min(other.len());
            out.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            let to = random.below(out.len() + 1);
            let part = out[at..end].to_vec();
            out.splice(to..to, part);
        }
    }
}
