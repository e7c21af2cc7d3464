//! Content negotiation: in which format and shape a response is sent.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/negotiation,
//! github.com/munnerz/goautoneg

use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};
use longshore_api::{Reason, StatusError};

use crate::request_info::RequestInfo;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/cbor`.
    Cbor,
}

/// The formats in the order in which they are told; CBOR last, where it is served.
const FORMATS: [Format; 4] = [Format::Json, Format::Yaml, Format::Protobuf, Format::Cbor];

/// What an object is turned into before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object itself.
    Object,
    /// `meta.k8s.io` `Table`.
    Table,
    /// `meta.k8s.io` `PartialObjectMetadata`.
    Metadata,
    /// `meta.k8s.io` `PartialObjectMetadataList`.
    MetadataList,
    /// `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`.
    Discovery,
}

/// The shapes that an endpoint can send besides the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shapes {
    /// None.
    None,
    /// Metadata only: what is never listed has no columns.
    Metadata,
    /// Metadata and tables.
    All,
    /// Metadata and tables; the object itself has no protobuf form.
    Custom,
    /// Only aggregated discovery, not the object itself.
    Discovery,
}

/// The outcome of negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Wire format.
    pub format: Format,
    /// Shape.
    pub shape: Shape,
    /// Version of the shape's group: `v1` or `v1beta1`.
    pub shape_version: String,
    /// JSON with indentation (`pretty`).
    pub pretty: bool,
    /// The format of a failure; `None` when every acceptable form is one that a failure cannot
    /// take: it then is JSON for people.
    pub failure: Option<Format>,
}

impl Format {
    /// The `Content-Type` of single objects.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Cbor => "application/cbor",
        }
    }

    /// The `Content-Type` of a watch; `None` where there is none.
    pub fn stream_media_type(self) -> Option<&'static str> {
        match self {
            Self::Json => Some("application/json"),
            Self::Yaml => None,
            Self::Protobuf => Some("application/vnd.kubernetes.protobuf;stream=watch"),
            Self::Cbor => Some("application/cbor-seq"),
        }
    }

    /// The formats that are served.
    pub fn served(cbor: bool) -> &'static [Self] {
        if cbor { &FORMATS } else { &FORMATS[..3] }
    }
}

/// The media types of the served formats.
pub fn media_types(cbor: bool) -> String {
    let names: Vec<&str> = Format::served(cbor).iter().map(|format| format.media_type()).collect();
    names.join(", ")
}

/// The media types in which watches are served.
pub fn stream_media_types(cbor: bool) -> String {
    let name = |format: &Format| match format {
        Format::Yaml => None,
        Format::Cbor => Some("application/cbor-seq".to_owned()),
        other => Some(format!("{};stream=watch", other.media_type())),
    };
    let names: Vec<String> = Format::served(cbor).iter().filter_map(name).collect();
    names.join(", ")
}

/// 406 with the media types that would do.
pub fn not_acceptable(media_types: &str) -> StatusError {
    let message = format!("only the following media types are accepted: {media_types}");
    StatusError::new(Reason::NotAcceptable, message)
}

/// Chooses the form of the response.
pub fn negotiate(
    headers: &HeaderMap,
    info: &RequestInfo,
    shapes: Shapes,
    cbor: bool,
) -> Result<Negotiated, StatusError> {
    let formats = Format::served(cbor);
    let accept = header(headers);
    let chosen = choose(accept, formats, shapes);
    let mut chosen = chosen.ok_or_else(|| not_acceptable(&media_types(cbor)))?;
    chosen.failure = choose(accept, formats, Shapes::None).map(|plain| plain.format);
    chosen.pretty |= for_people(headers, info);
    Ok(chosen)
}

/// The first `Accept` header.
pub fn header(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The best form for an `Accept` header, if one is acceptable.
pub fn choose(accept: &str, formats: &[Format], shapes: Shapes) -> Option<Negotiated> {
    if accept.is_empty() {
        return (shapes != Shapes::Discovery).then(|| plain(Format::Json));
    }
    let clauses = clauses(accept);
    let mut candidates = clauses.iter().flat_map(|clause| {
        let matching = formats.iter().filter(|format| clause.matches(**format));
        matching.map(move |format| (clause, *format))
    });
    candidates.find_map(|(clause, format)| clause.accept(format, shapes))
}

/// The first of some forms, told by their subtypes of `application`, that an `Accept` header names.
///
/// upstream: k8s.io/kube-openapi/pkg/handler/handler.go RegisterOpenAPIVersionedService
pub fn choose_subtype<T: Copy>(accept: &str, forms: &[(&str, T)]) -> Option<T> {
    let accept = if accept.is_empty() { "*/*" } else { accept };
    let fits = |wanted: &str, given: &str| wanted == given || wanted == "*";
    clauses(accept).iter().filter(|clause| fits(clause.kind, "application")).find_map(|clause| {
        forms.iter().find(|(name, _)| fits(clause.subtype, name)).map(|(_, form)| *form)
    })
}

/// Whether JSON is indented: when asked for in the query, or for clients that people read.
fn for_people(headers: &HeaderMap, info: &RequestInfo) -> bool {
    match info.param("pretty") {
        "" => {
            let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
        }
        text => matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

fn plain(format: Format) -> Negotiated {
    Negotiated {
        format,
        shape: Shape::Object,
        shape_version: "v1".into(),
        pretty: false,
        failure: Some(format),
    }
}

/// One alternative of an `Accept` header.
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The alternatives in the order in which they are tried: by quality, exact ones first. The order
/// is not a consistent one, so the sort is done as upstream does it.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause> = Vec::new();
    for clause in header.split(',').filter_map(Clause::parse) {
        let mut at = clauses.len();
        clauses.push(clause);
        while at > 0 && clauses[at].before(&clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
    clauses
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let trim = |text: &'a str| text.trim_matches(' ');
        let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = match media.split_once('/') {
            None | Some((_, "")) if trim(media.split('/').next().unwrap_or("")) == "*" => {
                ("*", "*")
            }
            None | Some((_, "")) => return None,
            Some((_, subtype))
                if subtype.split_once('/').is_some_and(|(_, rest)| !rest.is_empty()) =>
            {
                return None;
            }
            Some((kind, subtype)) => (trim(kind), trim(subtype.trim_end_matches('/'))),
        };
        let mut clause = Self { kind, subtype, quality: 1.0, parameters: Vec::new() };
        for parameter in parameters.split(';') {
            let Some((key, value)) = parameter.split_once('=') else { continue };
            if value.is_empty() || value.contains('=') {
                continue;
            }
            match trim(key) {
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                key => clause.parameters.push((key, trim(value))),
            }
        }
        Some(clause)
    }

    fn before(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }

    fn matches(&self, format: Format) -> bool {
        let (kind, subtype) = format.media_type().split_once('/').unwrap_or_default();
        (self.kind == kind && (self.subtype == subtype || self.subtype == "*"))
            || (self.kind == "*" && self.subtype == "*")
    }

    /// A parameter; the last of its name counts.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn accept(&self, format: Format, shapes: Shapes) -> Option<Negotiated> {
        if let Some(stream) = self.parameter("stream")
            && (stream != "watch" || format == Format::Yaml)
        {
            return None;
        }
        if let Some(version) = self.parameter("sv")
            && (version != "v1" || shapes == Shapes::None)
        {
            return None;
        }
        let mut chosen = plain(format);
        chosen.pretty = self.parameter("pretty") == Some("1");
        let target = ["as", "g", "v"].map(|name| self.parameter(name));
        if target == [None; 3] {
            let refused = match shapes {
                Shapes::Discovery => true,
                Shapes::Custom => format == Format::Protobuf,
                _ => false,
            };
            return (!refused).then_some(chosen);
        }
        let [kind, group, version] = target.map(Option::unwrap_or_default);
        chosen.shape = shape(shapes, format, kind, group, version)?;
        chosen.shape_version = version.to_owned();
        Some(chosen)
    }
}

fn shape(shapes: Shapes, format: Format, kind: &str, group: &str, version: &str) -> Option<Shape> {
    match shapes {
        Shapes::None => return None,
        Shapes::Discovery => {
            let wanted = ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2");
            return ((kind, group, version) == wanted).then_some(Shape::Discovery);
        }
        Shapes::Metadata | Shapes::All | Shapes::Custom => {}
    }
    if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") {
        return None;
    }
    match kind {
        "Table" => {
            let can = shapes != Shapes::Metadata && matches!(format, Format::Json | Format::Yaml);
            can.then_some(Shape::Table)
        }
        "PartialObjectMetadata" => Some(Shape::Metadata),
        "PartialObjectMetadataList" => Some(Shape::MetadataList),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(accept: &str) -> Option<Negotiated> {
        choose(accept, Format::served(true), Shapes::All)
    }

    #[test]
    fn clauses_are_tried_in_order_of_quality() {
        let shape = |accept: &str| best(accept).expect("acceptable").shape;
        let format = |accept: &str| best(accept).expect("acceptable").format;
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(shape(&format!("{table},application/json")), Shape::Table);
        assert_eq!(shape(&format!("{table};q=0.1,application/json;q=0.9")), Shape::Object);
        let twice = "application/json;as=Table;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        assert_eq!(shape(twice), Shape::Metadata);
        let unknown = "application/json;as=Chair;v=v1;g=meta.k8s.io,application/yaml";
        for (accept, want) in [
            (unknown, Format::Yaml),
            ("application/json;q=0.1, application/yaml;q=0.9", Format::Yaml),
            ("*/*, application/yaml", Format::Yaml),
            ("application/*, application/yaml", Format::Yaml),
            ("application/yaml;q=0.3, */*;q=0.8", Format::Json),
            ("application/cbor;q=0.9, application/json;q=0.5", Format::Cbor),
            ("", Format::Json),
            ("*", Format::Json),
            ("*/*", Format::Json),
            (",,application/json;;", Format::Json),
            ("application/json;q=abc", Format::Json),
        ] {
            assert_eq!(format(accept), want, "{accept}");
        }
    }

    #[test]
    fn what_no_form_fits_is_refused() {
        for accept in [
            "text/html",
            "application",
            "application/json/extra",
            ";",
            "application/json;v=v1",
            "application/json;stream=other",
            "application/json;as=Table;v=v2;g=meta.k8s.io",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
        ] {
            assert_eq!(best(accept), None, "{accept}");
        }
        assert_eq!(choose("application/cbor", Format::served(false), Shapes::All), None);
    }

    #[test]
    fn aggregated_discovery_is_one_form_of_its_own() {
        let choose = |accept| choose(accept, Format::served(false), Shapes::Discovery);
        let v2 = "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList";
        let both = format!("application/json;q=0.9,{v2};q=0.1");
        assert_eq!(choose(&both).expect("acceptable").shape, Shape::Discovery);
        assert_eq!(choose("application/json"), None);
        assert_eq!(choose(&v2.replace("v2;", "v2beta1;")), None);
    }
}
