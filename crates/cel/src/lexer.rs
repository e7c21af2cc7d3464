//! Splits an expression into tokens.

use crate::issue::Location;

/// What a token is. Names are those that messages use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tok {
    Eof,
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LBracket,
    RBracket,
    LBrace,
    RBrace,
    LParen,
    RParen,
    Dot,
    Comma,
    Minus,
    Exclam,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Ident,
    EscIdent,
}

/// A token: its kind, text and place.
#[derive(Clone, Copy, Debug)]
pub struct Token<'s> {
    /// What it is.
    pub tok: Tok,
    /// As it was written; `<EOF>` at the end.
    pub text: &'s str,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it begins.
    pub location: Location,
}

/// What belongs to no token.
#[derive(Clone, Debug)]
pub struct Bad {
    /// Where it is.
    pub location: Location,
    /// Where it begins, in bytes.
    pub start: usize,
    /// How many bytes it has.
    pub length: usize,
    /// How it is told.
    pub message: String,
}

/// All tokens, with the end as the last one, and what is none.
pub fn lex(source: &str) -> (Vec<Token<'_>>, Vec<Bad>) {
    let bytes = source.as_bytes();
    let (mut tokens, mut bad) = (Vec::new(), Vec::new());
    let (mut at, mut line, mut column) = (0usize, 1i64, 0i64);
    while at < bytes.len() {
        let location = Location { line, column };
        let rest = &source[at..];
        let (kind, length) = next(rest);
        let length = length.max(1);
        let text = &rest[..length];
        match kind {
            Next::Token(tok) => tokens.push(Token { tok, text, start: at, location }),
            Next::Space => {}
            Next::Bad => {
                let message = format!("token recognition error at: '{text}'");
                bad.push(Bad { location, start: at, length, message });
            }
        }
        for c in text.chars() {
            if c == '\n' {
                line += 1;
                column = 0;
            } else {
                column += 1;
            }
        }
        at += length;
    }
    let location = Location { line, column: if source.is_empty() { -1 } else { column } };
    tokens.push(Token { tok: Tok::Eof, text: "<EOF>", start: at, location });
    (tokens, bad)
}

/// White space that would break a message, in words.
pub fn escaped(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

enum Next {
    Token(Tok),
    Space,
    Bad,
}

const OPERATORS: [(&str, Tok); 25] = [
    ("==", Tok::Equals),
    ("!=", Tok::NotEquals),
    ("<=", Tok::LessEquals),
    (">=", Tok::GreaterEquals),
    ("&&", Tok::And),
    ("||", Tok::Or),
    ("<", Tok::Less),
    (">", Tok::Greater),
    ("[", Tok::LBracket),
    ("]", Tok::RBracket),
    ("{", Tok::LBrace),
    ("}", Tok::RBrace),
    ("(", Tok::LParen),
    (")", Tok::RParen),
    (".", Tok::Dot),
    (",", Tok::Comma),
    ("-", Tok::Minus),
    ("!", Tok::Exclam),
    ("?", Tok::Question),
    (":", Tok::Colon),
    ("+", Tok::Plus),
    ("*", Tok::Star),
    ("/", Tok::Slash),
    ("%", Tok::Percent),
    ("\u{0}", Tok::Eof),
];

/// The longest token that `rest` begins with.
fn next(rest: &str) -> (Next, usize) {
    let bytes = rest.as_bytes();
    let first = bytes[0];
    if matches!(first, b' ' | b'\t' | b'\r' | b'\n' | 0x0c) {
        let end = rest.find(|c| !matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}'));
        return (Next::Space, end.unwrap_or(rest.len()));
    }
    if rest.starts_with("//") {
        return (Next::Space, rest.find('\n').unwrap_or(rest.len()));
    }
    if let Some((tok, length)) = text_token(rest) {
        return (Next::Token(tok), length);
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        let end = bytes
            .iter()
            .position(|b| !b.is_ascii_alphanumeric() && *b != b'_')
            .unwrap_or(bytes.len());
        let tok = match &rest[..end] {
            "in" => Tok::In,
            "true" => Tok::True,
            "false" => Tok::False,
            "null" => Tok::Null,
            _ => Tok::Ident,
        };
        return (Next::Token(tok), end);
    }
    if let Some((tok, length)) = number(bytes) {
        return (Next::Token(tok), length);
    }
    if first == b'`' {
        let end = bytes[1..]
            .iter()
            .position(|b| {
                !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'.' | b'-' | b'/' | b' ')
            })
            .map(|end| end + 1);
        return match end {
            Some(end) if end > 1 && bytes[end] == b'`' => (Next::Token(Tok::EscIdent), end + 1),
            Some(end) => (Next::Bad, (end + char_at(rest, end)).min(rest.len())),
            None => (Next::Bad, rest.len()),
        };
    }
    for (text, tok) in OPERATORS {
        if rest.starts_with(text) && tok != Tok::Eof {
            return (Next::Token(tok), text.len());
        }
    }
    // One `&`, `|` or `=` may begin a token: what follows belongs to the mistake.
    let own = char_at(rest, 0);
    if matches!(first, b'&' | b'|' | b'=' | b'"' | b'\'') {
        let wrong =
            if matches!(first, b'"' | b'\'') { unfinished(rest) } else { own + char_at(rest, own) };
        return (Next::Bad, wrong.min(rest.len()));
    }
    (Next::Bad, own)
}

fn char_at(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
}

/// How much of a text that does not end properly was read before that was clear.
fn unfinished(rest: &str) -> usize {
    let quote = rest.as_bytes()[0];
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' | '\r' => return at + c.len_utf8(),
            '\\' => {
                let Some(length) = escape(&rest.as_bytes()[at..]) else {
                    let wrong = at + begun(&rest.as_bytes()[at..]);
                    return (wrong + char_at(rest, wrong)).min(rest.len());
                };
                while chars.peek().is_some_and(|(next, _)| *next < at + length) {
                    chars.next();
                }
            }
            c if c as u32 == u32::from(quote) => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn number(bytes: &[u8]) -> Option<(Tok, usize)> {
    let digits = |from: usize| {
        bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let exponent = |from: usize| {
        if !matches!(bytes.get(from), Some(b'e' | b'E')) {
            return 0;
        }
        let sign = usize::from(matches!(bytes.get(from + 1), Some(b'+' | b'-')));
        match digits(from + 1 + sign) {
            0 => 0,
            count => 1 + sign + count,
        }
    };
    if bytes.starts_with(b"0x") {
        let hex = bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if hex > 0 {
            let unsigned = matches!(bytes.get(2 + hex), Some(b'u' | b'U'));
            return Some(if unsigned { (Tok::Uint, 3 + hex) } else { (Tok::Int, 2 + hex) });
        }
    }
    let whole = digits(0);
    if bytes.get(whole) == Some(&b'.') {
        let fraction = digits(whole + 1);
        if fraction > 0 {
            let end = whole + 1 + fraction;
            return Some((Tok::Float, end + exponent(end)));
        }
    }
    if whole == 0 {
        return None;
    }
    match exponent(whole) {
        0 if matches!(bytes.get(whole), Some(b'u' | b'U')) => Some((Tok::Uint, whole + 1)),
        0 => Some((Tok::Int, whole)),
        more => Some((Tok::Float, whole + more)),
    }
}

/// A text or sequence of bytes, if there is one.
fn text_token(rest: &str) -> Option<(Tok, usize)> {
    let bytes = rest.as_bytes();
    let is_bytes = matches!(bytes[0], b'b' | b'B');
    let prefix = usize::from(is_bytes);
    let raw = matches!(bytes.get(prefix), Some(b'r' | b'R'));
    let start = prefix + usize::from(raw);
    let quote = *bytes.get(start)?;
    if !matches!(quote, b'"' | b'\'') {
        return None;
    }
    let tok = if is_bytes { Tok::Bytes } else { Tok::String };
    let triple = bytes.get(start..start + 3).is_some_and(|three| three.iter().all(|b| *b == quote));
    let long = triple.then(|| text_end(bytes, start + 3, quote, raw, true)).flatten();
    let end = long.or_else(|| text_end(bytes, start + 1, quote, raw, false))?;
    Some((tok, end))
}

fn text_end(bytes: &[u8], mut at: usize, quote: u8, raw: bool, triple: bool) -> Option<usize> {
    while let Some(&byte) = bytes.get(at) {
        if byte == quote {
            if !triple {
                return Some(at + 1);
            }
            if bytes.get(at..at + 3).is_some_and(|three| three.iter().all(|b| *b == quote)) {
                return Some(at + 3);
            }
        }
        if !triple && matches!(byte, b'\n' | b'\r') {
            return None;
        }
        at += if byte == b'\\' && !raw { escape(&bytes[at..])? } else { 1 };
    }
    None
}

/// How much of an escape sequence that is none reads like one.
fn begun(bytes: &[u8]) -> usize {
    let most = match bytes.get(1) {
        Some(b'x' | b'X') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(b'0'..=b'3') => {
            return 2 + usize::from(bytes.get(2).is_some_and(|b| (b'0'..=b'7').contains(b)));
        }
        _ => return 1,
    };
    2 + bytes.iter().skip(2).take(most).take_while(|b| b.is_ascii_hexdigit()).count()
}

/// The length of the escape sequence that `bytes` begin with.
fn escape(bytes: &[u8]) -> Option<usize> {
    let hex = |count: usize| {
        let digits = bytes.get(2..2 + count)?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(2 + count)
    };
    match bytes.get(1)? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`' => {
            Some(2)
        }
        b'x' | b'X' => hex(2),
        b'u' => hex(4),
        b'U' => hex(8),
        b'0'..=b'3' => {
            let octal = bytes.get(2..4)?;
            octal.iter().all(|b| (b'0'..=b'7').contains(b)).then_some(4)
        }
        _ => None,
    }
}
