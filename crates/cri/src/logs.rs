//! Container logs as the runtime writes them: a time, a stream, a tag and the text on each line.
//!
//! upstream: staging/src/k8s.io/cri-client/pkg/logs/logs.go

use jiff::Timestamp;

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The time as written, with nanoseconds.
    pub time: &'a str,
    /// Whether it came from standard error.
    pub stderr: bool,
    /// Whether the text goes on in the next line.
    pub partial: bool,
    /// The text without its line break.
    pub text: &'a [u8],
}

impl Line<'_> {
    /// The time; `None` when it cannot be read.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Reads one line of a log file without its line break; `None` for one that is no log line.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = parts.next()?.split(|b| *b == b':').next() == Some(b"P");
    Some(Line { time, stderr, partial, text: parts.next().unwrap_or(b"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_four_parts() {
        let line = parse(b"2026-11-24T05:00:00.123456789Z stderr P a  b").expect("a log line");
        assert!(line.stderr && line.partial);
        assert_eq!(line.text, b"a  b");
        assert!(line.timestamp().is_some());
        let empty = parse(b"2026-11-24T05:00:00Z stdout F ").expect("a log line");
        assert!(!empty.partial && empty.text.is_empty());
        for bad in [&b""[..], b"x", b"time stdin F a", b"time stdout"] {
            assert_eq!(parse(bad), None);
        }
    }
}
