//! What is wrong with a text that is not JSON, in the words of Go's scanner.
//!
//! upstream: Go's encoding/json/scanner.go

/// Deepest nesting that Go reads.
const DEPTH_MAX: usize = 10_000;

const VALUE: &str = "looking for beginning of value";
const KEY: &str = "looking for beginning of object key string";

/// Tells where and why Go stops reading; `None` when the text is one JSON value for Go.
pub(super) fn explain(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0, open: Vec::new() };
    match scanner.document() {
        Ok(()) => None,
        Err(Stop::End) => Some("unexpected end of JSON input".into()),
        Err(Stop::At(byte, context)) => {
            Some(format!("invalid character {} {context}", quoted(byte)))
        }
    }
}

/// The text with replacements for the halves of surrogate pairs that stand alone, as Go reads
/// them; `None` when there are none.
pub(super) fn without_lone_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let half = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let code = u32::from_str_radix(hex, 16).ok()?;
        matches!(code, 0xd800..=0xdfff).then_some(code)
    };
    let mut out = String::new();
    let (mut kept, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match (half(at), half(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
            (Some(_), _) => {
                out.push_str(&text[kept..at]);
                out.push_str("\\ufffd");
                at += 6;
                kept = at;
            }
            // The next character is escaped, too.
            (None, _) => at += 2,
        }
    }
    if kept == 0 {
        return None;
    }
    out.push_str(&text[kept..]);
    Some(out)
}

/// Why the scanner stops.
enum Stop {
    /// The text ends too early.
    End,
    /// A byte does not fit.
    At(u8, String),
}

type Step = Result<(), Stop>;

/// What comes next. The scanner does not recurse: hostile texts are deep.
enum Next {
    Value,
    Key,
    /// A value has ended.
    End,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// What is open: `{` or `[`.
    open: Vec<u8>,
}

impl Scanner<'_> {
    fn document(&mut self) -> Step {
        let mut next = Next::Value;
        loop {
            next = match (next, self.open.last().copied()) {
                (Next::Value, _) => self.value()?,
                (Next::Key, _) => self.key()?,
                (Next::End, Some(mode)) => self.after_value(mode)?,
                (Next::End, None) => break,
            };
        }
        match self.peek() {
            Err(Stop::End) => Ok(()),
            Ok(byte) => Err(Stop::At(byte, "after top-level value".into())),
            Err(stop) => Err(stop),
        }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Result<u8, Stop> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.text.get(self.at).copied().ok_or(Stop::End)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = self.text.get(self.at).copied().ok_or(Stop::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// A value; of a container only what opens it.
    fn value(&mut self) -> Result<Next, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'{' => return self.enter(byte, b'}', Next::Key),
            b'[' => return self.enter(byte, b']', Next::Value),
            b'"' => self.string(),
            b'-' => match self.byte()? {
                b'0' => self.after_zero(),
                b'1'..=b'9' => self.digits(),
                byte => Err(Stop::At(byte, "in numeric literal".into())),
            },
            b'0' => self.after_zero(),
            b'1'..=b'9' => self.digits(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Err(Stop::At(byte, VALUE.into())),
        }?;
        Ok(Next::End)
    }

    /// Opens a container; an empty one is closed at once.
    fn enter(&mut self, byte: u8, end: u8, inside: Next) -> Result<Next, Stop> {
        self.open.push(byte);
        if self.open.len() > DEPTH_MAX {
            return Err(Stop::At(byte, "exceeded max depth".into()));
        }
        if self.peek()? != end {
            return Ok(inside);
        }
        self.at += 1;
        self.open.pop();
        Ok(Next::End)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<Next, Stop> {
        match self.peek()? {
            b'"' => self.at += 1,
            byte => return Err(Stop::At(byte, KEY.into())),
        }
        self.string()?;
        match self.peek()? {
            b':' => self.at += 1,
            byte => return Err(Stop::At(byte, "after object key".into())),
        }
        Ok(Next::Value)
    }

    /// What follows a value in an open container: its end, or another value.
    fn after_value(&mut self, mode: u8) -> Result<Next, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        match (mode, byte) {
            (b'{', b',') => Ok(Next::Key),
            (b'[', b',') => Ok(Next::Value),
            (b'{', b'}') | (b'[', b']') => {
                self.open.pop();
                Ok(Next::End)
            }
            (b'{', _) => Err(Stop::At(byte, "after object key:value pair".into())),
            _ => Err(Stop::At(byte, "after array element".into())),
        }
    }

    fn string(&mut self) -> Step {
        loop {
            match self.byte()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                byte if byte < b' ' => return Err(Stop::At(byte, "in string literal".into())),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Step {
        match self.byte()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let byte = self.byte()?;
                    if !byte.is_ascii_hexdigit() {
                        let context = "in \\u hexadecimal character escape";
                        return Err(Stop::At(byte, context.into()));
                    }
                }
                Ok(())
            }
            byte => Err(Stop::At(byte, "in string escape code".into())),
        }
    }

    fn literal(&mut self, word: &str) -> Step {
        for expected in &word.as_bytes()[1..] {
            let byte = self.byte()?;
            if byte != *expected {
                let expected = char::from(*expected);
                let context = format!("in literal {word} (expecting '{expected}')");
                return Err(Stop::At(byte, context));
            }
        }
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn digits(&mut self) -> Step {
        self.skip_digits();
        self.after_zero()
    }

    /// The fraction and exponent of a number.
    fn after_zero(&mut self) -> Step {
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// One digit at least.
    fn digit(&mut self, context: &str) -> Step {
        let byte = self.byte()?;
        if !byte.is_ascii_digit() {
            return Err(Stop::At(byte, context.into()));
        }
        self.skip_digits();
        Ok(())
    }
}

/// A byte as Go shows it: in single quotes, escaped when it does not print.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\\' => r"'\\'".into(),
        7 => r"'\a'".into(),
        8 => r"'\b'".into(),
        9 => r"'\t'".into(),
        10 => r"'\n'".into(),
        11 => r"'\v'".into(),
        12 => r"'\f'".into(),
        13 => r"'\r'".into(),
        0..=31 | 127 => format!("'\\x{byte:02x}'"),
        128..=160 | 173 => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
