//! What a quoted text says.
//!
//! upstream: vendor/github.com/google/cel-go/parser/unescape.go

/// The text between the quotes of a text.
pub fn string(quoted: &str) -> Result<String, &'static str> {
    let (body, raw) = body(quoted);
    if raw || !body.contains('\\') {
        return Ok(body);
    }
    let mut out = String::with_capacity(body.len());
    let mut rest = body.as_str();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (code, length) = escape(&rest.as_bytes()[at..])?;
        out.push(char::from_u32(code).ok_or("invalid unicode code point")?);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The bytes between the quotes.
pub fn bytes(quoted: &str) -> Result<Vec<u8>, &'static str> {
    let (body, raw) = body(quoted);
    if raw {
        return Ok(body.into_bytes());
    }
    let body = body.as_bytes();
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        if byte != b'\\' {
            out.push(byte);
            at += 1;
            continue;
        }
        if matches!(body.get(at + 1), Some(b'u' | b'U')) {
            return Err("unable to unescape string");
        }
        let (code, length) = escape(&body[at..])?;
        out.push(u8::try_from(code).map_err(|_| "unable to unescape string")?);
        at += length;
    }
    Ok(out)
}

/// Without prefix and quotes, line ends as one character, and whether escapes mean themselves.
fn body(quoted: &str) -> (String, bool) {
    let text = quoted.replace("\r\n", "\n").replace('\r', "\n");
    let raw = text.starts_with(['r', 'R']);
    let text = if raw { &text[1..] } else { text.as_str() };
    let triple = text.len() >= 6 && (text.starts_with("\"\"\"") || text.starts_with("'''"));
    let cut = if triple { 3 } else { 1 };
    (text.get(cut..text.len().saturating_sub(cut)).unwrap_or_default().to_owned(), raw)
}

/// The character that an escape sequence means, and how long the sequence is.
fn escape(bytes: &[u8]) -> Result<(u32, usize), &'static str> {
    const WRONG: &str = "unable to unescape string";
    let digits = |from: usize, count: usize, radix: u32| {
        let text = bytes
            .get(from..from + count)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .ok_or(WRONG)?;
        Ok((u32::from_str_radix(text, radix).map_err(|_| WRONG)?, from + count))
    };
    let simple = |code: u8| Ok((u32::from(code), 2));
    match bytes.get(1).ok_or(WRONG)? {
        b'a' => simple(7),
        b'b' => simple(8),
        b'f' => simple(12),
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'v' => simple(11),
        other @ (b'\\' | b'\'' | b'"' | b'`' | b'?') => simple(*other),
        b'x' | b'X' => digits(2, 2, 16),
        b'u' => digits(2, 4, 16),
        b'U' => digits(2, 8, 16),
        b'0'..=b'3' => digits(1, 3, 8),
        _ => Err(WRONG),
    }
}
