//! URLs as Go reads them.
//!
//! upstream: Go's net/url

use crate::netip;
use crate::patch::gotext::quote;

/// A URL in parts.
#[derive(Clone, Debug, Default)]
pub struct Url {
    /// The scheme in small letters; empty for none.
    pub scheme: String,
    /// A user and the password.
    user: Option<(String, Option<String>)>,
    /// What follows the scheme where that is no path.
    opaque: String,
    /// The host with the port.
    pub host: String,
    /// The path as it was written.
    path: String,
    /// What follows the question mark; none where there is no such mark.
    query: Option<String>,
    fragment: String,
}

/// Which part of a URL is escaped.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Host,
    Zone,
    Query,
    Other,
}

impl Url {
    /// An absolute URL or path without fragment, as requests have it.
    ///
    /// # Errors
    /// Go's words for what is wrong with it.
    pub fn of_request(text: &str) -> Result<Self, String> {
        read(text, true).map_err(told(text))
    }

    /// Any URL.
    ///
    /// # Errors
    /// Go's words for what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
        let mut url = read(before, false).map_err(told(before))?;
        url.fragment = unescape(fragment, Part::Other).map_err(told(text))?;
        Ok(url)
    }

    /// The name of the host and the port.
    pub fn host_and_port(&self) -> (&str, &str) {
        let colon = self.host.rfind(':').filter(|at| is_port(&self.host[*at..]));
        let (name, port) =
            colon.map_or((&*self.host, ""), |at| (&self.host[..at], &self.host[at + 1..]));
        (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
    }

    /// The path with everything escaped that has to be; as it was where nothing has.
    pub fn escaped_path(&self) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]/%".contains(&b);
        if self.path.bytes().all(plain) {
            return self.path.clone();
        }
        let decoded = unescape(&self.path, Part::Other).unwrap_or_else(|_| self.path.clone());
        let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
        let mut out = String::with_capacity(decoded.len());
        for byte in decoded.bytes() {
            if kept(byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }

    /// The names and values of the query. What cannot be read is left out.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let parts = self.query.as_deref().unwrap_or("").split('&');
        parts.filter(|part| !part.is_empty() && !part.contains(';')).filter_map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((unescape(name, Part::Query).ok()?, unescape(value, Part::Query).ok()?))
        })
    }

    /// How many bytes its parts have.
    pub fn len(&self) -> usize {
        self.host.len() + self.path.len() + self.query.as_deref().map_or(0, str::len)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// URLs are equal when they are written in the same way.
impl PartialEq for Url {
    fn eq(&self, other: &Self) -> bool {
        self.escaped_path() == other.escaped_path()
            && self.scheme == other.scheme
            && self.user == other.user
            && self.opaque == other.opaque
            && self.host == other.host
            && self.query == other.query
            && self.fragment == other.fragment
    }
}

fn told(text: &str) -> impl Fn(String) -> String {
    move |why| format!("parse {}: {why}", quote(text))
}

fn read(text: &str, of_request: bool) -> Result<Url, String> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() && of_request {
        return Err("empty url".to_owned());
    }
    let mut url = Url::default();
    if text == "*" {
        text.clone_into(&mut url.path);
        return Ok(url);
    }
    let (scheme, rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (mut rest, query) =
        rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    url.query = query.map(str::to_owned);
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            rest.clone_into(&mut url.opaque);
            return Ok(url);
        }
        if of_request {
            return Err("invalid URI for request".to_owned());
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let has_host = !scheme.is_empty() || (!of_request && !rest.starts_with("///"));
    if let Some(after) = rest.strip_prefix("//").filter(|_| has_host) {
        let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        (url.user, url.host) = read_authority(&url.scheme, authority)?;
        rest = path;
    }
    unescape(rest, Part::Other)?;
    rest.clone_into(&mut url.path);
    Ok(url)
}

/// The scheme, which may be empty, and what follows.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if index > 0 => {}
            b':' if index == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..index], &text[index + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

type Authority = (Option<(String, Option<String>)>, String);

fn read_authority(scheme: &str, text: &str) -> Result<Authority, String> {
    let (user, host) =
        text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
    let host = read_host(scheme, host)?;
    let Some(user) = user else { return Ok((None, host)) };
    if !user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let (name, password) =
        user.split_once(':').map_or((user, None), |(name, password)| (name, Some(password)));
    let password = password.map(|password| unescape(password, Part::Other)).transpose()?;
    Ok((Some((unescape(name, Part::Other)?, password)), host))
}

fn read_host(scheme: &str, text: &str) -> Result<String, String> {
    let wrong_port = |port: &str| format!("invalid port {} after host", quote(port));
    match text.rfind('[') {
        None => {
            let (first, last) = (text.find(':'), text.rfind(':'));
            // Some servers of other schemes have several.
            let port = if matches!(scheme, "http" | "https") { first } else { last };
            if let Some(port) = port.map(|at| &text[at..]).filter(|port| !is_port(port)) {
                return Err(wrong_port(port));
            }
            unescape(text, Part::Host)
        }
        Some(0) => {
            let end = text.rfind(']').ok_or("missing ']' in host")?;
            let (name, port) = (&text[1..end], &text[end + 1..]);
            if !is_port(port) {
                return Err(wrong_port(port));
            }
            let (name, zone) = name.split_at(name.find("%25").unwrap_or(name.len()));
            let name = unescape(name, Part::Host)? + &unescape(zone, Part::Zone)?;
            let (address, _) = netip::parse(&name).map_err(|why| format!("invalid host: {why}"))?;
            if address.is_ipv4() {
                return Err("invalid IP-literal".to_owned());
            }
            Ok(format!("[{name}]{port}"))
        }
        Some(_) => Err("invalid IP-literal".to_owned()),
    }
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a byte may stand in a host.
fn in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte)
}

fn unescape(text: &str, part: Part) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let escape = &bytes[at..bytes.len().min(at + 3)];
                let code = std::str::from_utf8(&escape[1..])
                    .ok()
                    .filter(|digits| {
                        digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit())
                    })
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let good = |code: &u8| match part {
                    Part::Host => *code >= 0x80 || *code == b'%',
                    Part::Zone => matches!(*code, b'%' | b' ') || in_host(*code),
                    Part::Query | Part::Other => true,
                };
                let code = code.filter(good).ok_or_else(|| {
                    format!("invalid URL escape {}", quote(&String::from_utf8_lossy(escape)))
                })?;
                out.push(code);
                at += 2;
            }
            b'+' if part == Part::Query => out.push(b' '),
            other => {
                let host = matches!(part, Part::Host | Part::Zone);
                if host && other.is_ascii() && !in_host(other) {
                    let shown = quote(&char::from(other).to_string());
                    return Err(format!("invalid character {shown} in host name"));
                }
                out.push(other);
            }
        }
        at += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_as_go_does() {
        for (text, wanted) in [
            ("https://a:1/b?c=d", ""),
            ("mailto:a@b", ""),
            ("/a b?%zz", ""),
            ("//h:x", ""),
            ("*", ""),
            ("http://[::1%25a%20b]:80/", ""),
            ("http://a<b>\u{e9}/", ""),
            ("http://%C3%A9/", ""),
            ("redis://a:1,b:2/", ""),
            ("", "empty url"),
            ("a/b", "invalid URI for request"),
            ("+a:b", "invalid URI for request"),
            (":h", "missing protocol scheme"),
            ("/a%z", "invalid URL escape \"%z\""),
            ("https://example[com", "invalid IP-literal"),
            ("https://[1.2.3.4]/", "invalid IP-literal"),
            ("https://[::1", "missing ']' in host"),
            ("https://[::1]x", "invalid port \"x\" after host"),
            ("https://a:1:80/", "invalid port \":1:80\" after host"),
            ("https://[abc]/", "invalid host: ParseAddr(\"abc\"): unable to parse IP"),
            ("https://us[er@h/", "net/url: invalid userinfo"),
            ("https://u%zz@h/", "invalid URL escape \"%zz\""),
            ("https://a%41b/", "invalid URL escape \"%41\""),
            ("https://a b/", "invalid character \" \" in host name"),
            ("https://h#%zz", "invalid character \"#\" in host name"),
        ] {
            let found = Url::of_request(text).err().unwrap_or_default();
            let wanted =
                if wanted.is_empty() { String::new() } else { format!("parse {text:?}: {wanted}") };
            assert_eq!(found, wanted, "{text}");
        }
        let why = Url::parse("//h:x").map(|_| ());
        assert_eq!(why, Err("parse \"//h:x\": invalid port \":x\" after host".to_owned()));
        assert!(Url::parse("a/b#c").is_ok());
    }

    #[test]
    fn equal_urls_are_written_alike() {
        let same = |one: &str, two: &str| Url::parse(one) == Url::parse(two);
        assert!(same("HTTP://h/a%20b#f", "http://h/a b#f"));
        assert!(!same("http://h/a%2Fb", "http://h/a/b"));
        assert!(!same("http://h/a?", "http://h/a"));
        assert!(!same("http://u:@h/", "http://u@h/"));
        assert!(!same("http://h/#f", "http://h/"));
    }
}
