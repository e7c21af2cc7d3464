//! Reads Go's syntax and writes the same for the `regex` crate.
//!
//! upstream: Go's regexp/syntax/parse.go, with the flags that regexp.Compile sets

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

/// Highest count of a repetition, also of nested ones together.
const REPEAT_MAX: u32 = 1000;
/// The names of classes in brackets.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// What is wrong, and the part of the pattern that it is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Error {
    what: &'static str,
    part: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.what, self.part)
    }
}

fn error(what: &'static str, part: &str) -> Error {
    Error { what, part: part.to_owned() }
}

/// A group that is open, or the pattern itself.
#[derive(Default)]
struct Group {
    /// Where its last atom begins in what was written; none after `|` and at the start.
    atom: Option<usize>,
    /// The counts of nested repetitions of the last atom, multiplied.
    weight: u32,
    /// The largest of these in the group.
    heaviest: u32,
}

/// Most different classes of letters by name in a pattern.
const NAMED_MAX: usize = 64;

struct Reader<'a> {
    /// The classes of letters that are known to be there.
    named: BTreeSet<String>,
    whole: &'a str,
    rest: &'a str,
    out: String,
    groups: Vec<Group>,
}

/// The pattern in the syntax of the `regex` crate.
pub(super) fn translate(pattern: &str) -> Result<String, Error> {
    let mut reader = Reader {
        named: BTreeSet::new(),
        whole: pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 8),
        groups: vec![Group::default()],
    };
    reader.read()?;
    if reader.groups.len() > 1 {
        return Err(error("missing closing )", pattern));
    }
    Ok(reader.out)
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Error> {
        // The repetition that was read just before.
        let mut last_repeat: Option<&'a str> = None;
        while let Some(letter) = self.rest.chars().next() {
            let before = self.rest;
            let repeated = match letter {
                '*' | '+' | '?' => {
                    self.rest = &before[1..];
                    self.repeat(before, None, &letter.to_string(), last_repeat)?;
                    true
                }
                '{' => match counts(before) {
                    None => {
                        self.literal('{');
                        self.rest = &before[1..];
                        false
                    }
                    Some((text, min, max)) => {
                        self.rest = &before[text.len()..];
                        let valid = min <= REPEAT_MAX
                            && max.is_none_or(|max| max <= REPEAT_MAX && min <= max);
                        if !valid {
                            return Err(error("invalid repeat count", text));
                        }
                        self.repeat(before, Some(max.unwrap_or(min)), text, last_repeat)?;
                        true
                    }
                },
                _ => {
                    self.atom(letter)?;
                    false
                }
            };
            last_repeat = repeated.then_some(before);
        }
        Ok(())
    }

    fn atom(&mut self, letter: char) -> Result<(), Error> {
        let before = self.rest;
        match letter {
            '(' if before[1..].starts_with('?') => return self.special_group(),
            '(' => {
                self.rest = &before[1..];
                self.open("(?:");
            }
            '|' => {
                self.rest = &before[1..];
                self.out.push('|');
                self.top().atom = None;
            }
            ')' => {
                self.rest = &before[1..];
                let closed = self.groups.pop().unwrap_or_default();
                if self.groups.is_empty() {
                    return Err(error("unexpected )", self.whole));
                }
                self.out.push(')');
                let top = self.top();
                top.weight = closed.heaviest.max(1);
                top.heaviest = top.heaviest.max(top.weight);
            }
            '^' | '$' => self.simple(1, if letter == '^' { "(?:^)" } else { "(?:$)" }),
            '.' => self.simple(1, "."),
            '[' => {
                self.begin_atom();
                return self.class();
            }
            '\\' => return self.escape(),
            _ => {
                self.literal(letter);
                self.rest = &before[letter.len_utf8()..];
            }
        }
        Ok(())
    }

    fn top(&mut self) -> &mut Group {
        self.groups.last_mut().expect("the pattern itself is never closed")
    }

    fn begin_atom(&mut self) {
        let at = self.out.len();
        let top = self.top();
        (top.atom, top.weight, top.heaviest) = (Some(at), 1, top.heaviest.max(1));
    }

    fn simple(&mut self, read: usize, written: &str) {
        self.begin_atom();
        self.out.push_str(written);
        self.rest = &self.rest[read..];
    }

    fn literal(&mut self, letter: char) {
        self.begin_atom();
        write_letter(letter, &mut self.out);
    }

    fn open(&mut self, written: &str) {
        self.begin_atom();
        self.out.push_str(written);
        self.groups.push(Group::default());
    }

    /// A repetition of the last atom; `text` is what stands there without a `?` behind it.
    fn repeat(
        &mut self,
        before: &'a str,
        count: Option<u32>,
        text: &str,
        last: Option<&'a str>,
    ) -> Result<(), Error> {
        let mut lazy = "";
        if let Some(after) = self.rest.strip_prefix('?') {
            (self.rest, lazy) = (after, "?");
        }
        let read = |from: &'a str, rest: &str| &from[..from.len() - rest.len()];
        if let Some(last) = last {
            return Err(error("invalid nested repetition operator", read(last, self.rest)));
        }
        let part = read(before, self.rest);
        let Some(atom) = self.top().atom else {
            return Err(error("missing argument to repetition operator", part));
        };
        if let Some(count) = count {
            let top = self.top();
            let weight = top.weight.saturating_mul(count.max(1));
            if count >= 2 && weight > REPEAT_MAX {
                return Err(error("invalid repeat count", part));
            }
            (top.weight, top.heaviest) = (weight, top.heaviest.max(weight));
        }
        // What stands there may be a boundary, which the other syntax does not always repeat.
        if !self.out[atom..].starts_with("(?:") {
            self.out.insert_str(atom, "(?:");
            self.out.push(')');
        }
        self.out.push_str(text);
        self.out.push_str(lazy);
        Ok(())
    }

    /// `(?`: a name, flags, or a group with flags.
    fn special_group(&mut self) -> Result<(), Error> {
        let begin = self.rest;
        let name_at = ["(?P<", "(?<"].into_iter().find(|start| begin.starts_with(start));
        if let Some(start) = name_at {
            let Some(end) = begin.find('>') else {
                return Err(error("invalid named capture", begin));
            };
            let name = &begin[start.len()..end];
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if name.is_empty() || !name.bytes().all(word) {
                return Err(error("invalid named capture", &begin[..=end]));
            }
            self.rest = &begin[end + 1..];
            self.open("(?:");
            return Ok(());
        }
        let (mut negative, mut any) = (false, false);
        let mut length = 2;
        for letter in begin[2..].chars() {
            length += letter.len_utf8();
            match letter {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negative => (negative, any) = (true, false),
                ':' | ')' if !negative || any => {
                    let text = &begin[..length];
                    self.rest = &begin[length..];
                    if letter == ':' {
                        self.open(text);
                    } else if text != "(?)" {
                        self.out.push_str(text);
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(error("invalid or unsupported Perl syntax", &begin[..length]))
    }

    /// A backslash outside of brackets.
    fn escape(&mut self) -> Result<(), Error> {
        let begin = self.rest;
        match begin[1..].chars().next() {
            Some('A') => self.simple(2, "(?:\\A)"),
            Some('z') => self.simple(2, "(?:\\z)"),
            Some('b') => self.simple(2, "(?-u:\\b)"),
            Some('B') => self.simple(2, "(?-u:\\B)"),
            Some('C') => return Err(error("invalid escape sequence", "\\C")),
            Some('Q') => {
                let after = &begin[2..];
                let (text, rest) = after.split_once("\\E").unwrap_or((after, ""));
                text.chars().for_each(|letter| self.literal(letter));
                self.rest = rest;
            }
            _ => {
                if let Some(class) = perl_class(begin) {
                    self.simple(2, class);
                } else if let Some((class, rest)) = self.unicode_class(begin)? {
                    self.begin_atom();
                    self.out.push_str(&class);
                    self.rest = rest;
                } else {
                    let (letter, rest) = escaped(begin)?;
                    self.literal(letter);
                    self.rest = rest;
                }
            }
        }
        Ok(())
    }

    /// `\p{Greek}` and its like.
    fn unicode_class<'b>(&mut self, text: &'b str) -> Result<Option<(String, &'b str)>, Error> {
        let negative = match text.get(..2) {
            Some("\\p") => false,
            Some("\\P") => true,
            _ => return Ok(None),
        };
        let invalid = |part: &str| Err(error("invalid character class range", part));
        let Some(letter) = text[2..].chars().next() else { return invalid(text) };
        let (name, rest) = if letter == '{' {
            let Some(end) = text.find('}') else { return invalid(text) };
            (&text[3..end], &text[end + 1..])
        } else {
            text[2..].split_at(letter.len_utf8())
        };
        let (name, negative) = match name.strip_prefix('^') {
            Some(name) => (name, !negative),
            None => (name, negative),
        };
        let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let class = format!("\\{}{{{name}}}", if negative { 'P' } else { 'p' });
        // Looking for a class takes a while.
        let known = self.named.contains(name);
        let full = !known && self.named.len() >= NAMED_MAX;
        let there = known || (!full && regex::bytes::Regex::new(&class).is_ok());
        if !good || name.is_empty() || !there {
            return invalid(&text[..text.len() - rest.len()]);
        }
        self.named.insert(name.to_owned());
        Ok(Some((class, rest)))
    }

    /// A class in brackets.
    fn class(&mut self) -> Result<(), Error> {
        let begin = self.rest;
        let mut rest = &begin[1..];
        self.out.push('[');
        if let Some(after) = rest.strip_prefix('^') {
            self.out.push('^');
            rest = after;
        }
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if rest.starts_with("[:")
                && let Some(end) = rest.find(":]")
            {
                let (name, after) = rest.split_at(end + 2);
                // The colons of `[:]` are the same one.
                let inner = name.get(2..end).unwrap_or("");
                let plain = inner.strip_prefix('^').unwrap_or(inner);
                if !CLASSES.contains(&plain) {
                    return Err(error("invalid character class range", name));
                }
                self.out.push_str(name);
                rest = after;
                continue;
            }
            if let Some((class, after)) = self.unicode_class(rest)? {
                self.out.push_str(&class);
                rest = after;
                continue;
            }
            if let Some(class) = perl_class(rest) {
                self.out.push_str(class);
                rest = &rest[2..];
                continue;
            }
            let from = rest;
            let (low, after) = class_letter(rest, begin)?;
            rest = after;
            let mut high = low;
            if let Some(after) = rest.strip_prefix('-')
                && !after.starts_with(']')
                && !after.is_empty()
            {
                (high, rest) = class_letter(after, begin)?;
                if high < low {
                    let part = &from[..from.len() - rest.len()];
                    return Err(error("invalid character class range", part));
                }
            }
            write_letter(low, &mut self.out);
            if high != low {
                self.out.push('-');
                write_letter(high, &mut self.out);
            }
        }
        self.out.push(']');
        self.rest = &rest[1..];
        Ok(())
    }
}

/// Writes a letter so that it means nothing else.
fn write_letter(letter: char, out: &mut String) {
    if letter.is_ascii_alphanumeric() {
        out.push(letter);
    } else {
        write!(out, "\\x{{{:X}}}", u32::from(letter)).expect("texts grow");
    }
}

/// One letter inside brackets.
fn class_letter<'a>(rest: &'a str, class: &str) -> Result<(char, &'a str), Error> {
    match rest.chars().next() {
        None => Err(error("missing closing ]", class)),
        Some('\\') => escaped(rest),
        Some(letter) => Ok((letter, &rest[letter.len_utf8()..])),
    }
}

/// The counts of `{2}`, `{2,}` or `{2,3}` with the text; no highest count for an open end.
/// Counts that are too large for a number are above the limit all the same.
fn counts(text: &str) -> Option<(&str, u32, Option<u32>)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let number = |text: &str| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let leading = text.len() > 1 && text.starts_with('0');
        (digits && !leading).then(|| text.parse().unwrap_or(u32::MAX))
    };
    let whole = &text[..=end];
    match inner.split_once(',') {
        None => number(inner).map(|count| (whole, count, Some(count))),
        Some((min, "")) => Some((whole, number(min)?, None)),
        Some((min, max)) => Some((whole, number(min)?, Some(number(max)?))),
    }
}

/// `\d` and its like; Go's are ASCII.
fn perl_class(text: &str) -> Option<&'static str> {
    Some(match text.get(..2)? {
        "\\d" => "[0-9]",
        "\\D" => "[^0-9]",
        "\\s" => "[\\t\\n\\x0C\\r\\x20]",
        "\\S" => "[^\\t\\n\\x0C\\r\\x20]",
        "\\w" => "[0-9A-Za-z_]",
        "\\W" => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// A backslash and what belongs to it, as one letter.
fn escaped(text: &str) -> Result<(char, &str), Error> {
    let mut letters = text[1..].chars();
    let Some(letter) = letters.next() else {
        return Err(error("trailing backslash at end of expression", ""));
    };
    let rest = letters.as_str();
    let invalid = |rest: &str| {
        let part = &text[..text.len() - rest.len()];
        Err(error("invalid escape sequence", part))
    };
    let octal = |text: &str| text.starts_with(|c: char| c.is_digit(8));
    let plain = match letter {
        '1'..='7' if !octal(rest) => return invalid(rest),
        '0'..='7' => {
            let digits = &text[1..];
            let length = digits.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            let value = u32::from_str_radix(&digits[..length], 8).unwrap_or(0);
            return Ok((char::from_u32(value).unwrap_or('\0'), &digits[length..]));
        }
        'x' => return hex(text, rest),
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        _ => return invalid(rest),
    };
    Ok((plain, rest))
}

/// `\x7F` or `\x{10FFFF}`.
fn hex<'a>(text: &'a str, rest: &'a str) -> Result<(char, &'a str), Error> {
    let (digits, after) = match rest.strip_prefix('{') {
        Some(inner) => match inner.split_once('}') {
            Some((digits, after)) => (digits, after),
            None => return Err(error("invalid escape sequence", text)),
        },
        None => match rest.get(..2) {
            Some(digits) => (digits, &rest[2..]),
            None => return Err(error("invalid escape sequence", text)),
        },
    };
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let value = u32::from_str_radix(digits, 16).ok().filter(|_| valid);
    match value.and_then(char::from_u32) {
        Some(letter) => Ok((letter, after)),
        None => Err(error("invalid escape sequence", &text[..text.len() - after.len()])),
    }
}
