//! Content negotiation: in which format and shape a response is sent.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/negotiation

use http::HeaderMap;
use http::header::ACCEPT;
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
}

/// What an object is turned into before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object itself.
    Object,
    /// `meta.k8s.io` `Table`.
    Table,
    /// `meta.k8s.io` `PartialObjectMetadata`.
    Metadata,
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
}

impl Format {
    /// The `Content-Type` of single objects.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn from_media_type(name: &str) -> Option<Self> {
        match name {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// Chooses the response format. Only resources have the shapes Table and metadata.
pub fn negotiate(headers: &HeaderMap, info: &RequestInfo) -> Result<Negotiated, StatusError> {
    let mut negotiated = accepted(headers, info.is_resource)?;
    negotiated.pretty |= info.flag("pretty");
    Ok(negotiated)
}

fn accepted(headers: &HeaderMap, shapes: bool) -> Result<Negotiated, StatusError> {
    let accept: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = accept.join(",");
    let mut clauses: Vec<(f32, &str)> = accept
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .map(|c| (quality(c), c))
        .collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    if clauses.is_empty() {
        return Ok(plain(Format::Json));
    }
    clauses.into_iter().find_map(|(_, clause)| accept_clause(clause, shapes)).ok_or_else(|| {
        StatusError::new(
            Reason::NotAcceptable,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    })
}

fn plain(format: Format) -> Negotiated {
    Negotiated { format, shape: Shape::Object, shape_version: "v1".into(), pretty: false }
}

fn parameter<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    clause.split(';').skip(1).find_map(|p| {
        let (key, value) = p.trim().split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"'))
    })
}

fn quality(clause: &str) -> f32 {
    parameter(clause, "q").and_then(|q| q.parse().ok()).unwrap_or(1.0)
}

fn accept_clause(clause: &str, shapes: bool) -> Option<Negotiated> {
    let media = clause.split(';').next().unwrap_or("").trim();
    let mut chosen = plain(Format::from_media_type(media)?);
    chosen.pretty = parameter(clause, "pretty") == Some("1");
    let Some(kind) = parameter(clause, "as") else { return Some(chosen) };
    if !shapes || parameter(clause, "g") != Some("meta.k8s.io") {
        return None;
    }
    chosen.shape_version = parameter(clause, "v").unwrap_or("").to_owned();
    if !matches!(chosen.shape_version.as_str(), "v1" | "v1beta1") {
        return None;
    }
    chosen.shape = match kind {
        "Table" => Shape::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata,
        _ => return None,
    };
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(accept: &str) -> Result<Negotiated, StatusError> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().expect("a valid test header"));
        }
        accepted(&headers, true)
    }

    #[test]
    fn clauses_are_tried_in_order_of_quality() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(choose(table).expect("acceptable").shape, Shape::Table);
        let unknown = "application/json;as=Chair;v=v1;g=meta.k8s.io,application/yaml";
        assert_eq!(choose(unknown).expect("acceptable").format, Format::Yaml);
        let weighted = "application/json;q=0.1, application/yaml;q=0.9";
        assert_eq!(choose(weighted).expect("acceptable").format, Format::Yaml);
        assert_eq!(choose("").expect("acceptable").format, Format::Json);
        assert_eq!(choose("*/*").expect("acceptable").format, Format::Json);
    }

    #[test]
    fn nothing_acceptable_is_406() {
        assert_eq!(choose("text/html").expect_err("not served").code, 406);
    }
}
