//! Answers of proxied servers: what points to the server itself is made to point through the proxy.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/proxy/transport.go

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::body::{Body, full};

/// Bytes of a page that is rewritten; a larger one is passed on as it is.
const PAGE_MAX: usize = 8 << 20;
/// The elements with addresses, and the attributes in which these are.
const ATTRIBUTES: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 9] =
    ["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript"];

/// Where a proxied server is seen from outside.
pub(super) struct Place {
    /// The path of the proxy, without a slash at its end.
    pub(super) prefix: String,
    /// The path at the server.
    pub(super) path: String,
    /// Host and port of the server.
    pub(super) server: String,
    /// Host and port that the client asked.
    pub(super) asked: String,
}

impl Place {
    /// Tells the server where it is seen.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Ok(uri) = HeaderValue::from_str(&format!("{}{}", self.prefix, self.path)) {
            headers.insert("x-forwarded-uri", uri);
        }
    }

    /// An address in an answer, as it is right outside.
    fn address(&self, address: &str) -> Option<String> {
        let (host, path) = match address.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || is_scheme(scheme) => {
                let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                rest.split_at(at)
            }
            _ => ("", address),
        };
        let other = !host.is_empty() && host != self.server && host != self.asked;
        if other || !path.starts_with('/') {
            return None;
        }
        let start = if host.is_empty() || host != self.asked {
            ""
        } else {
            &address[..address.len() - path.len()]
        };
        let prefix = if path.starts_with(&self.prefix) { "" } else { &self.prefix };
        Some(format!("{start}{prefix}{path}"))
    }

    /// Changes what an answer says about the server's own addresses.
    pub(super) async fn rewrite(&self, response: Response<Body>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        let text = |name| parts.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        if let Some(location) = text(LOCATION) {
            let changed = self.address(location).and_then(|new| HeaderValue::from_str(&new).ok());
            if let Some(location) = changed {
                parts.headers.insert(LOCATION, location);
            }
            return Response::from_parts(parts, body);
        }
        let kind = text(CONTENT_TYPE).unwrap_or("").split(';').next().unwrap_or("").trim();
        let packed = match text(CONTENT_ENCODING).unwrap_or("") {
            "" => false,
            "gzip" => true,
            _ => return Response::from_parts(parts, body),
        };
        if kind != "text/html" {
            return Response::from_parts(parts, body);
        }
        match collect(body).await {
            Ok(page) => {
                let page = self.page_of(page, packed);
                parts.headers.remove(CONTENT_LENGTH);
                Response::from_parts(parts, full(page))
            }
            Err(body) => Response::from_parts(parts, body),
        }
    }

    /// A page as it is sent on.
    fn page_of(&self, page: Vec<u8>, packed: bool) -> Vec<u8> {
        if !packed {
            return self.page(&page);
        }
        let mut plain = Vec::new();
        let unpack = flate2::read::GzDecoder::new(page.as_slice());
        let limit = u64::try_from(PAGE_MAX).unwrap_or(u64::MAX);
        match unpack.take(limit + 1).read_to_end(&mut plain) {
            Ok(size) if size <= PAGE_MAX => {}
            _ => return page,
        }
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        let written = packer.write_all(&self.page(&plain));
        written.and_then(|()| packer.finish()).unwrap_or(page)
    }

    /// A page with the addresses of its elements rewritten.
    fn page(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len());
        let mut rest = page;
        while let Some(at) = rest.iter().position(|b| *b == b'<') {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with(b"<!--") {
                let end = find(&rest[4..], b"-->").map_or(rest.len(), |end| 4 + end + 3);
                out.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            if !rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
                out.push(b'<');
                rest = &rest[1..];
                continue;
            }
            let end = self.tag(rest, &mut out);
            let name = name_of(&rest[1..]);
            rest = &rest[end..];
            if RAW.contains(&name.as_str()) {
                let close = format!("</{name}");
                let end = find(&rest.to_ascii_lowercase(), close.as_bytes()).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
            }
        }
        out.extend_from_slice(rest);
        out
    }

    /// Writes the tag at the start of `text`; its length.
    fn tag(&self, text: &[u8], out: &mut Vec<u8>) -> usize {
        let name = name_of(&text[1..]);
        let row = ATTRIBUTES.iter().find(|(element, _)| *element == name);
        let attributes = row.map_or(&[][..], |(_, attributes)| *attributes);
        let mut at = 1 + name.len();
        let mut copied = 0;
        let skip = |from: usize, is: &dyn Fn(u8) -> bool| {
            text[from..].iter().position(|b| !is(*b)).map_or(text.len(), |n| from + n)
        };
        let space = |b: u8| b.is_ascii_whitespace() || b == b'/';
        loop {
            at = skip(at, &space);
            match text.get(at) {
                None => break,
                Some(b'>') => {
                    at += 1;
                    break;
                }
                Some(_) => {}
            }
            let start = at;
            at = skip(at + 1, &|b| !space(b) && b != b'=' && b != b'>');
            let key = String::from_utf8_lossy(&text[start..at]).to_ascii_lowercase();
            let equals = skip(at, &|b| b.is_ascii_whitespace());
            if text.get(equals) != Some(&b'=') {
                continue;
            }
            at = skip(equals + 1, &|b| b.is_ascii_whitespace());
            let (from, to, next) = match text.get(at) {
                Some(quote @ (b'"' | b'\'')) => {
                    let to = skip(at + 1, &|b| b != *quote);
                    (at + 1, to, (to + 1).min(text.len()))
                }
                _ => {
                    let to = skip(at, &|b| !b.is_ascii_whitespace() && b != b'>');
                    (at, to, to)
                }
            };
            let value = std::str::from_utf8(&text[from..to]).unwrap_or("");
            if attributes.contains(&key.as_str())
                && let Some(new) = self.address(value)
            {
                out.extend_from_slice(&text[copied..from]);
                out.extend_from_slice(new.as_bytes());
                copied = to;
            }
            at = next;
        }
        out.extend_from_slice(&text[copied..at]);
        at
    }
}

fn is_scheme(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.strip_suffix(':').is_some_and(|scheme| !scheme.is_empty() && scheme.chars().all(good))
}

fn name_of(text: &[u8]) -> String {
    let end = text.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>'));
    String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]).to_ascii_lowercase()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// A whole body, or one that says the same when it is too large or breaks off.
async fn collect(mut body: Body) -> Result<Vec<u8>, Body> {
    let mut page = Vec::new();
    loop {
        match body.frame().await {
            None => return Ok(page),
            Some(Ok(frame)) => {
                page.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if page.len() > PAGE_MAX {
                    break;
                }
            }
            Some(Err(error)) => {
                let first = stream::iter([Ok(Frame::data(Bytes::from(page))), Err(error)]);
                return Err(crate::body::stream(first));
            }
        }
    }
    let first = stream::iter([Ok(Frame::data(Bytes::from(page)))]);
    let rest = http_body_util::BodyStream::new(body);
    Err(crate::body::stream(first.chain(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            prefix: "/p/proxy".to_owned(),
            path: "/x".to_owned(),
            server: "10.0.0.1:80".to_owned(),
            asked: "api:6443".to_owned(),
        }
    }

    #[test]
    fn addresses_of_the_server_lead_through_the_proxy() {
        for (address, want) in [
            ("/a?b=/c", Some("/p/proxy/a?b=/c")),
            ("/p/proxy/a", Some("/p/proxy/a")),
            ("http://10.0.0.1:80/a/", Some("/p/proxy/a/")),
            ("//10.0.0.1:80/a", Some("/p/proxy/a")),
            ("https://api:6443/a", Some("https://api:6443/p/proxy/a")),
            ("https://elsewhere/a", None),
            ("a/b", None),
            ("a//b", None),
            ("mailto:a@b", None),
            ("#top", None),
            ("", None),
        ] {
            assert_eq!(place().address(address).as_deref(), want, "{address}");
        }
    }

    #[test]
    fn only_attributes_with_addresses_change() {
        for (page, want) in [
            (r#"<a href="/r">t</a>"#, r#"<a href="/p/proxy/r">t</a>"#),
            ("<A x Href = '/r' /><p href=/r>", "<A x Href = '/p/proxy/r' /><p href=/r>"),
            (
                "<img src=/i usemap=#m><img alt=\"/x\">",
                "<img src=/p/proxy/i usemap=#m><img alt=\"/x\">",
            ),
            ("<!-- <a href=/r> --><a href=/s>", "<!-- <a href=/r> --><a href=/p/proxy/s>"),
            (
                "<script src=/j>'<a href=/r>'</script>",
                "<script src=/p/proxy/j>'<a href=/r>'</script>",
            ),
            ("a < b <a href=\"/r", "a < b <a href=\"/p/proxy/r"),
            ("<a href=", "<a href="),
            ("<a", "<a"),
            ("</a><", "</a><"),
        ] {
            assert_eq!(String::from_utf8_lossy(&place().page(page.as_bytes())), want);
        }
    }

    #[tokio::test]
    async fn pages_and_redirects_are_rewritten_and_nothing_else() {
        let answer = async |kind: &str, encoding: &str, body: Vec<u8>| {
            let mut response = Response::new(full(body));
            let set = |headers: &mut HeaderMap, name, value: &str| {
                headers.insert(name, HeaderValue::from_str(value).expect("a value"));
            };
            set(response.headers_mut(), CONTENT_TYPE, kind);
            if !encoding.is_empty() {
                set(response.headers_mut(), CONTENT_ENCODING, encoding);
            }
            let body = place().rewrite(response).await.into_body().collect().await;
            body.expect("whole").to_bytes().to_vec()
        };
        let page = b"<a href=/r>".to_vec();
        let changed = b"<a href=/p/proxy/r>".to_vec();
        assert_eq!(answer("text/html; charset=utf-8", "", page.clone()).await, changed);
        assert_eq!(answer("text/plain", "", page.clone()).await, page);
        assert_eq!(answer("text/html", "br", page.clone()).await, page);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&page).expect("packs");
        let packed = answer("text/html", "gzip", packer.finish().expect("packs")).await;
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).expect("unpacks");
        assert_eq!(plain, changed);
        let large = vec![b' '; PAGE_MAX + 1];
        assert_eq!(answer("text/html", "", large.clone()).await, large);
        let mut response = Response::new(full("<a href=/r>"));
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("/login"));
        let response = place().rewrite(response).await;
        assert_eq!(response.headers()[LOCATION], "/p/proxy/login");
    }
}
