//! The randomness seam: object UIDs, name suffixes and jitter come from here.

use std::cell::RefCell;
use std::sync::Arc;

use parking_lot::Mutex;

/// Where random bytes come from.
pub trait Rng: Send + Sync + 'static {
    /// Fills the buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A random integer.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random (version 4) UUID as text.
    fn uuid(&self) -> String {
        let mut b = [0; 16];
        self.fill(&mut b);
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(36);
        for (i, byte) in b.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// A random suffix of `length` characters, without vowels and look-alikes.
    ///
    /// upstream: staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go
    fn suffix(&self, length: usize) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
    }
}

/// The operating system's generator, asked for many small numbers at once: every request needs one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

/// Random bytes that a thread keeps in stock.
const STOCK_BYTES: usize = 1024;

thread_local! {
    /// Bytes nobody has got yet, and how many of them there are at the end.
    static STOCK: RefCell<([u8; STOCK_BYTES], usize)> = const { RefCell::new(([0; STOCK_BYTES], 0)) };
}

fn ask_system(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system has a random generator");
}

impl Rng for SystemRng {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() > STOCK_BYTES / 8 {
            return ask_system(buffer);
        }
        STOCK.with_borrow_mut(|(stock, left)| {
            if *left < buffer.len() {
                ask_system(stock);
                *left = STOCK_BYTES;
            }
            let taken = &mut stock[*left - buffer.len()..*left];
            buffer.copy_from_slice(taken);
            // Nobody can read later what somebody was given.
            taken.fill(0);
            *left -= buffer.len();
        });
    }
}

/// A repeatable generator for tests (SplitMix64).
#[derive(Clone, Debug)]
pub struct SeededRng(Arc<Mutex<u64>>);

impl SeededRng {
    /// A generator that always gives the same bytes for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.0.lock();
        for chunk in buffer.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_is_version_four() {
        let uuid = SeededRng::new(7).uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
    }

    #[test]
    fn random_bytes_are_given_once() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| SystemRng.uuid()).collect();
        assert_eq!(ids.len(), 1000);
        let mut large = vec![0; 4 * STOCK_BYTES];
        SystemRng.fill(&mut large);
        assert!(large.chunks(64).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }

    #[test]
    fn suffix_has_the_length_and_no_vowels() {
        let suffix = SystemRng.suffix(64);
        assert_eq!(suffix.len(), 64);
        assert!(!suffix.contains(['a', 'e', 'i', 'o', 'u']));
    }
}
