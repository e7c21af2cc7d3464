//! Numbers with check digits.

/// The digits of a text without the letters that may stand between them.
fn without(text: &str, ignored: fn(char) -> bool) -> String {
    text.chars().filter(|letter| !ignored(*letter)).collect()
}

fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\n' | '\x0c' | '\r' | ' ' | '-')
}

fn digit(byte: u8) -> u32 {
    u32::from(byte.wrapping_sub(b'0'))
}

pub(super) fn is_isbn10(text: &str) -> bool {
    let text = without(text, is_blank);
    let bytes = text.as_bytes();
    let (Some((last, front)), 10) = (bytes.split_last(), bytes.len()) else { return false };
    if !front.iter().all(u8::is_ascii_digit) || !(last.is_ascii_digit() || *last == b'X') {
        return false;
    }
    let sum: u32 = (1..).zip(front).map(|(weight, byte)| weight * digit(*byte)).sum();
    let last = if *last == b'X' { 10 } else { digit(*last) };
    (sum + 10 * last).is_multiple_of(11)
}

pub(super) fn is_isbn13(text: &str) -> bool {
    let text = without(text, is_blank);
    let bytes = text.as_bytes();
    if bytes.len() != 13 || !bytes.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let weights = [1, 3].into_iter().cycle();
    let sum: u32 = weights.zip(&bytes[..12]).map(|(weight, byte)| weight * digit(*byte)).sum();
    digit(bytes[12]) == (10 - sum % 10) % 10
}

/// The issuers' first digits and lengths, and the check digit.
pub(super) fn is_credit_card(text: &str) -> bool {
    let text = without(text, |letter| !letter.is_ascii_digit());
    let begins = |low: u32, high: u32, width: usize| {
        text.get(..width)
            .and_then(|head| head.parse().ok())
            .is_some_and(|n| (low..=high).contains(&n))
    };
    let known = match text.len() {
        13 => begins(4, 4, 1),
        14 => begins(300, 305, 3) || begins(36, 36, 2) || begins(38, 38, 2),
        15 => {
            begins(34, 34, 2) || begins(37, 37, 2) || begins(2131, 2131, 4) || begins(1800, 1800, 4)
        }
        16 => {
            begins(4, 4, 1)
                || begins(51, 55, 2)
                || begins(6011, 6011, 4)
                || begins(650, 659, 3)
                || begins(35, 35, 2)
        }
        _ => false,
    };
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, byte)| match (index % 2, digit(byte)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    known && sum.is_multiple_of(10)
}

pub(super) fn is_ssn(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 11
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            3 | 6 => matches!(byte, b'-' | b' '),
            _ => byte.is_ascii_digit(),
        })
}
