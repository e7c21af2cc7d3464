//! Request bodies: limited reading, and decoding by content type with field validation.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{create,update}.go,
//! pkg/runtime/serializer/json

use std::num::IntErrorKind;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::BodyExt;
use longshore_api::emptied::Emptied;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::patch::gotext;
use longshore_api::{Gvk, Model, Object, Reason, StatusError, cbor, json, yaml};
use longshore_resources::Resource;
use serde_json::{Map, Value};

use super::kind_check;
use super::negotiate::{self, Format};
use crate::body::Body;

/// The largest request body in bytes.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/server/config.go MaxRequestBodyBytes
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Bytes beyond [`BODY_BYTES_MAX`] that are read and dropped.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads a whole body.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go limitedReadBody
pub async fn read(mut body: Body) -> Result<Bytes, StatusError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&*error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.is_empty() && body.is_end_stream() && data.len() <= BODY_BYTES_MAX {
            // It came in one piece.
            return Ok(data);
        }
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            drain(body).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// 400 for a body that breaks off.
pub fn broken(error: &dyn std::fmt::Display) -> StatusError {
    StatusError::bad_request(format!("the body cannot be read: {error}"))
}

/// 413 for a body that is too large.
pub fn too_large() -> StatusError {
    StatusError::new(
        Reason::RequestEntityTooLarge,
        format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
    )
}

/// Reads on what is not wanted, so that a client that sends before it reads gets its answer.
pub async fn drain(mut body: Body) {
    let mut rest = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        rest = rest.saturating_sub(read);
        if rest == 0 {
            return;
        }
    }
}

/// What happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a warning.
    Warn,
    /// The request fails.
    Strict,
}

impl FieldValidation {
    /// Reads the `fieldValidation` parameter; the default is to warn.
    pub fn parse(text: &str, errors: &mut ErrorList) -> Self {
        match text {
            "" | "Warn" => Self::Warn,
            "Ignore" => Self::Ignore,
            "Strict" => Self::Strict,
            other => {
                let known = ["", "Ignore", "Strict", "Warn"];
                errors.push(Error::not_supported(&Path::new("fieldValidation"), other, &known));
                Self::Warn
            }
        }
    }
}

/// Refuses a media type that no decoder reads.
pub fn check_media_type(headers: &HeaderMap) -> Result<(), StatusError> {
    let named = media_type(headers);
    let known = Format::served(true).iter().any(|format| format.media_type() == named);
    if known { Ok(()) } else { Err(unsupported(false)) }
}

/// The kind that a body has to be of.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub gvk: Gvk,
    /// What is known of its form.
    pub model: Option<Model>,
}

impl Wanted {
    /// The kind of a resource.
    pub fn of(resource: &Resource) -> Self {
        Self { gvk: resource.gvk(), model: resource.model.clone() }
    }

    /// A built-in kind.
    pub fn built_in(gvk: Gvk) -> Self {
        let model = Model::built_in(&gvk.group, &gvk.version, &gvk.kind);
        Self { gvk, model }
    }

    /// Whether the kind is a custom one.
    pub fn is_custom(&self) -> bool {
        matches!(self.model, Some(Model::Custom(_)))
    }
}

/// Decodes an object of the wanted kind. An object without `apiVersion` and `kind` gets them.
pub fn decode(
    headers: &HeaderMap,
    bytes: &[u8],
    want: &Wanted,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, StatusError> {
    let (value, strict) = parse(headers, bytes, &want.gvk)?;
    if want.is_custom() {
        kind_check::check_custom(&value, &want.gvk, bytes)?;
    }
    let source = Source { bytes, json: media_type(headers) == "application/json" };
    normalise_from(value, strict, want, validation, warnings, &source)
}

/// The body that a tree was read from.
struct Source<'a> {
    bytes: &'a [u8],
    json: bool,
}

/// The media type of a request; JSON when none is named, empty for what is none.
///
/// upstream: Go's mime.ParseMediaType
pub fn media_type(headers: &HeaderMap) -> String {
    let whole = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if whole.is_empty() {
        return "application/json".into();
    }
    let (named, mut parameters) = whole.split_once(';').unwrap_or((whole, ""));
    let token = |text: &str| {
        let good = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c);
        !text.is_empty() && text.chars().all(good)
    };
    parameters = parameters.trim_start();
    while !parameters.is_empty() {
        let Some((key, rest)) = parameters.split_once('=') else { return String::new() };
        let Some((value, rest)) = parameter_value(rest) else { return String::new() };
        if !token(key.trim()) || (value.is_empty() && !rest.is_empty()) {
            return String::new();
        }
        parameters = rest.trim_start();
    }
    named.trim().to_lowercase()
}

/// The value of a parameter, quoted or not, and what follows its semicolon.
fn parameter_value(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => text.split_at(text.find(';').unwrap_or(text.len())),
    };
    let rest = rest.trim_start();
    Some((value, if rest.is_empty() { "" } else { rest.strip_prefix(';')? }))
}

/// Reads a body into a tree; also tells repeated fields.
pub fn parse(
    headers: &HeaderMap,
    bytes: &[u8],
    want: &Gvk,
) -> Result<(Value, Vec<String>), StatusError> {
    parse_bare(headers, bytes, want).map_err(|mut error| {
        if error.reason == Reason::BadRequest {
            error.message = format!(
                "the object provided is unrecognized (must be of type {}): {} ({})",
                want.kind,
                error.message,
                preview(bytes)
            );
        }
        error
    })
}

/// Like [`parse`], with errors in the words of the reader alone.
pub fn parse_bare(
    headers: &HeaderMap,
    bytes: &[u8],
    want: &Gvk,
) -> Result<(Value, Vec<String>), StatusError> {
    let bad = |text: String| StatusError::bad_request(text);
    match media_type(headers).as_str() {
        "application/json" => {
            let decoded = json::decode(bytes)
                .map_err(|e| bad(format!("couldn't get version/kind; json parse error: {e}")))?;
            let duplicates = decoded.duplicates.iter();
            let duplicates =
                duplicates.map(|path| format!("duplicate field {}", gotext::quote(path))).collect();
            Ok((decoded.value, duplicates))
        }
        "application/yaml" => {
            let read = yaml::decode_loose(bytes).map_err(|e| bad(e.to_string()))?;
            // A document without content is an object without fields.
            let empty = read.value.is_null();
            let value = if empty { Value::Object(Map::new()) } else { read.value };
            Ok((value, read.duplicates))
        }
        "application/vnd.kubernetes.protobuf" => {
            Ok((super::wire::decode(bytes, want)?, Vec::new()))
        }
        "application/cbor" => {
            let value = cbor::decode(bytes).map_err(|e| bad(e.to_string()))?;
            Ok((value, Vec::new()))
        }
        _ => Err(unsupported(false)),
    }
}

/// 415 for a request's content type.
pub fn unsupported(cbor: bool) -> StatusError {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        negotiate::media_types(cbor)
    );
    StatusError::new(Reason::UnsupportedMediaType, message)
}

/// The start of a bad body as upstream shows it: as text when it looks like JSON, else in
/// hexadecimal.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go summarizeData
pub fn preview(bytes: &[u8]) -> String {
    let Some(first) = bytes.first() else { return "<empty>".into() };
    let (start, rest) = bytes.split_at(bytes.len().min(30));
    let shown = if *first == b'{' {
        String::from_utf8_lossy(start).into_owned()
    } else {
        start.iter().map(|b| format!("{b:02x}")).collect()
    };
    if rest.is_empty() { shown } else { format!("{shown} ...") }
}

/// Checks kind and field types of a decoded tree and reduces it to what the kind knows.
pub fn normalise(
    value: Value,
    strict: Vec<String>,
    want: &Wanted,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, StatusError> {
    let source = Source { bytes: &[], json: false };
    normalise_from(value, strict, want, validation, warnings, &source)
}

fn normalise_from(
    mut value: Value,
    mut strict: Vec<String>,
    want: &Wanted,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
    source: &Source<'_>,
) -> Result<Object, StatusError> {
    let custom = want.is_custom();
    if !custom {
        kind_check::check(&value, &want.gvk, source.bytes, warnings)?;
    }
    let Gvk { version, kind, .. } = &want.gvk;
    let cannot = |why: String| {
        StatusError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    // What says that it is of another kind has another form, and is refused later.
    let own = !custom || kind_check::is_own(&value, &want.gvk);
    let mut emptied = Emptied::default();
    if let Some(model) = want.model.as_ref().filter(|_| own) {
        let read = model.normalise(&mut value).map_err(|why| {
            let explained = source.json.then(|| model.explain(source.bytes)).flatten();
            cannot(explained.unwrap_or(why))
        })?;
        emptied = read.emptied;
        strict.extend(read.unknown.iter().map(|path| match custom {
            true => format!("unknown field \"{path}\""),
            false => format!("unknown field {}", gotext::quote(path)),
        }));
    }
    if let Some(why) = unreadable(&want.gvk, &value) {
        return Err(cannot(why));
    }
    if strict.len() > 1 && source.json && !custom {
        in_order(&mut strict, source.bytes);
    }
    if !strict.is_empty() {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(strict),
            FieldValidation::Strict => {
                return Err(cannot(format!("strict decoding error: {}", strict_text(&strict))));
            }
        }
    }
    let mut object = Object::from_value(value)
        .ok_or_else(|| cannot("json: cannot unmarshal into Go value".into()))?
        .given(emptied);
    if !custom {
        object.set(&["apiVersion"], want.gvk.api_version());
        object.set(&["kind"], kind.as_str());
    }
    Ok(object)
}

/// What is wrong with the annotations that stand for fields of older versions: they are numbers.
///
/// upstream: pkg/apis/apps/v1/conversion.go
pub fn unreadable(gvk: &Gvk, object: &Value) -> Option<String> {
    let annotation = match (&*gvk.group, &*gvk.kind) {
        ("apps", "Deployment") => "deprecated.deployment.rollback.to",
        ("apps", "DaemonSet") => "deprecated.daemonset.template.generation",
        _ => return None,
    };
    let given = object.get("metadata")?.get("annotations")?.get(annotation)?.as_str()?;
    let why = match given.parse::<i64>().err()?.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    let why = format!("strconv.ParseInt: parsing {}: {why}", gotext::quote(given));
    if gvk.kind == "DaemonSet" {
        return Some(why);
    }
    Some(format!("failed to parse annotation[{annotation}]={given} as int64: {why}"))
}

/// Puts what is wrong with fields into the order of the body.
fn in_order(strict: &mut [String], bytes: &[u8]) {
    let paths: Vec<String> = json::paths(bytes).iter().map(|path| gotext::quote(path)).collect();
    let place = |problem: &String| {
        let path = problem.find('"').map_or("", |quote| &problem[quote..]);
        let twice = usize::from(problem.starts_with("duplicate"));
        let mut places = paths.iter().enumerate().filter(|(_, known)| *known == path);
        places.nth(twice).map_or(usize::MAX, |(place, _)| place)
    };
    strict.sort_by_cached_key(place);
}

/// All problems as one text. Those that the YAML reader finds are one error of several lines.
fn strict_text(strict: &[String]) -> String {
    let is_yaml = |problem: &&String| problem.ends_with(yaml::ALREADY_SET);
    let lines: String = strict.iter().filter(is_yaml).map(|line| format!("\n  {line}")).collect();
    let yaml = (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{lines}"));
    let rest = strict.iter().filter(|problem| !is_yaml(problem)).cloned();
    yaml.into_iter().chain(rest).collect::<Vec<_>>().join(", ")
}
