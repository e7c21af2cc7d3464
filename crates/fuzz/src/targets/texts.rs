//! Targets that read short texts: selectors, quantities, request lines, headers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Uri};
use longshore_api::duration;
use longshore_api::quantity::{Format, Quantity};
use longshore_api::selector::{FieldSelector, LabelSelector};
use longshore_apiserver::endpoints::continue_token::ContinueToken;
use longshore_apiserver::endpoints::negotiate::{Shapes, negotiate};
use longshore_apiserver::request_info::RequestInfo;

use super::{lines, outcome};
use crate::random::Random;

pub const SELECTOR_WORDS: &[&[u8]] = &[
    b"=",
    b"==",
    b"!=",
    b"!",
    b",",
    b"(",
    b")",
    b" in ",
    b" notin ",
    b">",
    b"<",
    b"\\",
    b"\\,",
    b"\\=",
    b"/",
    b".",
    b" ",
    b"app",
    b"metadata.name",
    b"\xc3\xa9",
    b"()",
    b"1",
];

pub fn label_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines(
        "app=web\napp==web,tier!=db\n!old\na in (b, c),d notin (e),f\nexample.com/key=v\nsize>5,size<10\na=\na in (,)\nin in (in)\nnotin notin (notin,)\n",
    )
}

pub fn labels(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let selector = match LabelSelector::parse(&text) {
        Ok(selector) => selector,
        Err(error) => return error.to_string(),
    };
    let printed = selector.to_string();
    let again = LabelSelector::parse(&printed);
    assert_eq!(again.as_ref().ok(), Some(&selector), "{text:?} is printed as {printed:?}");
    let matches = selector.matches(|key| (key == "app").then_some("web"));
    format!("{} requirements, {matches}", selector.requirements().len().min(9))
}

pub fn field_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines("metadata.name=a\nspec.nodeName!=b,status.phase==Running\na=b\\,c\\=d\\\\\n,\na=\n")
}

pub fn fields(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    match FieldSelector::parse(&text) {
        Ok(selector) => {
            selector.matches(|_| "a");
            format!("{} requirements", selector.requirements().len().min(9))
        }
        Err(error) => error.to_string(),
    }
}

pub fn quantity_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines(
        "0\n1\n-1.5\n+.5\n100m\n1Gi\n1.5Ei\n1e3\n1E-3\n12e9\n1n\n1u\n9223372036854775807\n0.0000000001\n1000000000000000000000E\n",
    )
}

pub fn quantity(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let quantity = match Quantity::parse(&text) {
        Ok(quantity) => quantity,
        Err(error) => return error.to_string(),
    };
    let printed = quantity.to_string();
    let again = Quantity::parse(&printed);
    // A fraction in binary form is rounded up to a whole number.
    let same = |again: &Quantity| {
        *again == quantity
            || quantity.format() == Format::BinarySi && again.value() == quantity.value()
    };
    assert!(again.as_ref().is_ok_and(same), "{text:?} is printed as {printed:?}");
    assert_eq!(again.ok().map(|q| q.to_string()).as_ref(), Some(&printed), "printing is stable");
    // None of these may overflow.
    let sum = quantity.plus(quantity).minus(quantity);
    format!(
        "{:?} {} {} {}",
        quantity.format(),
        quantity.sign(),
        quantity.is_zero(),
        sum.sign() + quantity.value().signum() as i32 + quantity.milli_value().signum() as i32
    )
}

pub fn duration_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines("0\n1s\n1h2m3.5s\n-1.5h\n100ns\n1us\n1µs\n.5m\n2562047h47m16.854775807s\n")
}

pub fn duration(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let nanos = match duration::parse(&text) {
        Ok(nanos) => nanos,
        Err(error) => return error,
    };
    let printed = duration::print(nanos);
    assert_eq!(duration::parse(&printed), Ok(nanos), "{text:?} is printed as {printed:?}");
    "parsed".into()
}

pub fn request_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines(
        "G/api/v1/namespaces/a/pods/b/log?container=c&follow=true\nP/apis/apps/v1/namespaces/a/deployments\nG/api/v1/watch/namespaces/a/pods/b\nD/api/v1/namespaces/a\nU/api/v1/namespaces/a/finalize\nG/api/v1/pods?labelSelector=a%3Db&watch=1&limit=%35&x+y=z+%2B\nG/healthz/etcd?verbose\nG/api/v1/nodes/n/proxy/a/b//c\nG//api//v1/\nG/%2e%2e/%c3%a9?%zz=%\n",
    )
}

pub fn request(input: &[u8]) -> String {
    let Some((method, rest)) = input.split_first() else { return "too short".into() };
    let method = match method % 7 {
        0 => Method::POST,
        1 => Method::GET,
        2 => Method::PUT,
        3 => Method::PATCH,
        4 => Method::DELETE,
        5 => Method::HEAD,
        _ => Method::OPTIONS,
    };
    let Ok(uri) = Uri::try_from(rest) else { return "no URI".into() };
    let info = RequestInfo::parse(&method, &uri);
    let flags = [info.flag("watch"), info.is_resource, info.subresource.is_empty()];
    format!("{} {flags:?} {}", info.verb, info.param("limit").len().min(3))
}

pub fn accept_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines(
        "application/json\napplication/json;as=Table;v=v1;g=meta.k8s.io,application/json\n*/*;q=0.5, application/yaml;q=0.9\napplication/vnd.kubernetes.protobuf;stream=watch\napplication/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList\ntext/*; q=\"1\"\napplication/cbor\n",
    )
}

pub fn accept(input: &[u8]) -> String {
    let mut headers = HeaderMap::new();
    let Ok(value) = HeaderValue::from_bytes(input) else { return "no header".into() };
    headers.insert(ACCEPT, value);
    let info = RequestInfo::parse(&Method::GET, &Uri::from_static("/api/v1/pods"));
    let tables = negotiate(&headers, &info, Shapes::All, true);
    if negotiate(&headers, &info, Shapes::None, true).is_ok() {
        assert!(tables.is_ok(), "an endpoint that can do more can do less");
    }
    match tables {
        Ok(negotiated) => format!("{negotiated:?}"),
        Err(error) => outcome::<()>(Err(error.message), ""),
    }
}

pub fn token_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let texts = [
        r#"{"v":"meta.k8s.io/v1","rv":5,"start":"a\u0000"}"#,
        r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"../x"}"#,
        r#"{"v":"meta.k8s.io/v2","rv":"5","start":7}"#,
        "null",
        "[1]",
    ];
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text).into_bytes();
    let own = ContinueToken::after(b"default/a", "default", random.number() >> 1).into_bytes();
    texts.into_iter().map(encode).chain([own]).collect()
}

/// The input as a token, and as what is in a token.
pub fn token(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let mut outcomes = String::new();
    for token in [text.clone().into_owned(), URL_SAFE_NO_PAD.encode(input)] {
        for namespace in ["", "default"] {
            outcomes.push_str(&match ContinueToken::decode(&token, namespace) {
                Ok(token) => format!("revision {:?}", token.revision.is_some()),
                Err(error) => error.message,
            });
        }
        let newest = ContinueToken::in_newest_state(&token);
        if let Some(newest) = newest {
            assert!(
                ContinueToken::in_newest_state(&newest).is_some(),
                "a token of our own is not read: {newest:?}"
            );
        }
    }
    outcomes
}
