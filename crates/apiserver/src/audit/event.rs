//! What is written down of one request, as it goes on.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/audit/{context,request,format}.go

use std::net::IpAddr;

use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::policy::{Level, Stage};
use crate::auth::{Attributes, UserInfo, user_value};

/// Characters of a client's name that are written down.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/audit/request.go maxUserAgentLength
const USER_AGENT_MAX: usize = 1024;

/// One line of an audit log.
#[derive(Clone, Debug)]
pub struct Event(pub(super) Map<String, Value>);

/// What a request says of itself.
pub struct Received<'a> {
    /// Its identifier.
    pub audit_id: &'a str,
    /// Path and query as they were sent.
    pub uri: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Where the connection comes from.
    pub client: IpAddr,
    /// When it came.
    pub at: Timestamp,
    /// What it asks for, and who asks.
    pub attributes: &'a Attributes<'a>,
}

fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
}

impl Event {
    /// What is known when a request comes.
    pub(super) fn new(received: &Received<'_>, level: Level) -> Self {
        let Received { audit_id, uri, headers, attributes, .. } = received;
        let mut event = Map::new();
        let mut set = |key: &str, value: Value| drop(event.insert(key.to_owned(), value));
        set("level", level.name().into());
        set("auditID", (*audit_id).into());
        set("requestURI", (*uri).into());
        set("verb", attributes.verb.into());
        let nobody = attributes.user.name.is_empty();
        set("user", if nobody { json!({}) } else { user_value(attributes.user) });
        set("sourceIPs", json!(sources(headers, received.client)));
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("");
        if !agent.is_empty() {
            set("userAgent", shortened(agent).into());
        }
        if attributes.resource_request {
            let mut object = Map::new();
            for (key, value) in [
                ("resource", attributes.resource),
                ("namespace", attributes.namespace),
                ("name", attributes.name),
                ("apiGroup", attributes.group),
                ("apiVersion", attributes.version),
                ("subresource", attributes.subresource),
            ] {
                if !value.is_empty() {
                    object.insert(key.to_owned(), value.into());
                }
            }
            set("objectRef", object.into());
        }
        set("requestReceivedTimestamp", time(received.at));
        Self(event)
    }

    /// The event as it is sent at a stage.
    pub(super) fn at(&self, stage: Stage, now: Timestamp) -> Self {
        let mut event = self.clone();
        event.0.insert("stage".to_owned(), stage.name().into());
        let at = match stage {
            Stage::RequestReceived => self.0.get("requestReceivedTimestamp").cloned(),
            _ => None,
        };
        event.0.insert("stageTimestamp".to_owned(), at.unwrap_or_else(|| time(now)));
        event
    }

    /// A text for the log. The first one of a key stands.
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.0.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.entry(key.to_owned()).or_insert_with(|| value.into());
        }
    }

    /// Whom the user acts as.
    pub(super) fn impersonate(&mut self, user: &UserInfo) {
        self.0.insert("impersonatedUser".to_owned(), user_value(user));
    }

    /// What was sent: what the path does not say of the object is taken from it.
    pub(super) fn request(&mut self, object: Value, level: Level) {
        if let Some(about) = self.0.get_mut("objectRef").and_then(Value::as_object_mut) {
            for key in ["namespace", "name", "uid", "resourceVersion"] {
                let text = object["metadata"][key].as_str().unwrap_or("");
                if !text.is_empty() && !about.contains_key(key) {
                    about.insert(key.to_owned(), text.into());
                }
            }
        }
        if level >= Level::Request {
            self.0.insert("requestObject".to_owned(), object);
        }
    }

    /// What a `Status` that was answered says.
    pub(super) fn status(&mut self, status: &Value) {
        let mut told = Map::new();
        told.insert("metadata".to_owned(), json!({}));
        for key in ["status", "message", "reason", "details", "code"] {
            if let Some(value) = status.get(key) {
                told.insert(key.to_owned(), value.clone());
            }
        }
        self.0.insert("responseStatus".to_owned(), told.into());
    }

    /// The code of the answer.
    pub(super) fn code(&mut self, code: u16) {
        let status = self.0.entry("responseStatus").or_insert_with(|| json!({"metadata": {}}));
        status["code"] = code.into();
    }

    /// Whether what was answered is known.
    pub(super) fn has_status(&self) -> bool {
        self.0.contains_key("responseStatus")
    }

    pub(super) fn response(&mut self, object: Value) {
        self.0.insert("responseObject".to_owned(), object);
    }

    /// The event as one line of JSON, without its end.
    pub fn json(&self) -> String {
        let mut whole = self.0.clone();
        whole.insert("kind".to_owned(), "Event".into());
        whole.insert("apiVersion".to_owned(), "audit.k8s.io/v1".into());
        Value::Object(whole).to_string()
    }

    /// The event as one line of text, without its end.
    pub fn legacy(&self) -> String {
        let none = Value::Null;
        let of = |key: &str| self.0.get(key).unwrap_or(&none);
        let text = |value: &Value, otherwise: &str| match value.as_str() {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => otherwise.to_owned(),
        };
        let groups = |user: &Value, otherwise: &str| {
            let list = user["groups"].as_array().filter(|list| !list.is_empty());
            let quoted = |group: &Value| format!("{:?}", group.as_str().unwrap_or(""));
            let all = list.map(|list| list.iter().map(quoted).collect::<Vec<_>>().join(","));
            all.unwrap_or_else(|| otherwise.to_owned())
        };
        let (user, other) = (of("user"), of("impersonatedUser"));
        let code = of("responseStatus")["code"].as_u64();
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={:?} groups={:?} as={:?} asgroups={:?} user-agent={:?} namespace={:?} uri={:?} response=\"{}\"",
            text(of("requestReceivedTimestamp"), ""),
            text(of("auditID"), ""),
            text(of("stage"), ""),
            text(&of("sourceIPs")[0], "<unknown>"),
            text(of("verb"), ""),
            text(&user["username"], "<none>"),
            groups(user, "<none>"),
            text(&other["username"], "<self>"),
            groups(other, "<lookup>"),
            text(of("userAgent"), ""),
            text(&of("objectRef")["namespace"], "<none>"),
            text(of("requestURI"), ""),
            code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string()),
        )
    }
}

fn shortened(agent: &str) -> String {
    let short: String = agent.chars().take(USER_AGENT_MAX).collect();
    if short.len() < agent.len() { format!("{short}...TRUNCATED") } else { short }
}

/// Where a request comes from, by what proxies say and by the connection.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/net/http.go SourceIPs
fn sources(headers: &HeaderMap, client: IpAddr) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok();
    let mut all: Vec<IpAddr> = text("x-forwarded-for").split(',').filter_map(parse).collect();
    if let Some(real) = parse(text("x-real-ip"))
        && !all.contains(&real)
    {
        all.push(real);
    }
    if all.last() != Some(&client) {
        all.push(client);
    }
    all.iter().map(ToString::to_string).collect()
}

/// An object without its field managers; also of the items of a list and the rows of a table.
pub(super) fn without_managers(object: &mut Value) {
    let strip = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    strip(object);
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        strip(item);
    }
    for row in object.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        row.get_mut("object").into_iter().for_each(strip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_who_asked_for_what() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "198.51.100.7, 192.0.2.1".parse().expect("a header"));
        headers.insert("x-real-ip", "203.0.113.9".parse().expect("a header"));
        headers.insert("user-agent", "a".repeat(2000).parse().expect("a header"));
        let user = UserInfo::new("jane", &["devs"]);
        let attributes = Attributes {
            user: &user,
            verb: "create",
            group: "apps",
            version: "v1",
            resource: "deployments",
            subresource: "",
            namespace: "a",
            name: "",
            field_selector: "",
            path: "/apis/apps/v1/namespaces/a/deployments",
            resource_request: true,
        };
        let received = Received {
            audit_id: "id",
            uri: "/apis/apps/v1/namespaces/a/deployments?dryRun=All",
            headers: &headers,
            client: IpAddr::from([192, 0, 2, 1]),
            at: "2026-01-02T03:04:05.678901Z".parse().expect("a time"),
            attributes: &attributes,
        };
        let mut event = Event::new(&received, Level::Metadata);
        let now = "2026-01-02T03:04:06Z".parse().expect("a time");
        let first = event.at(Stage::RequestReceived, now);
        let user_agent = format!("{}...TRUNCATED", "a".repeat(1024));
        let first: Value = serde_json::from_str(&first.json()).expect("JSON");
        assert_eq!(
            first,
            json!({
                "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "id",
                "stage": "RequestReceived", "verb": "create", "userAgent": user_agent,
                "requestURI": "/apis/apps/v1/namespaces/a/deployments?dryRun=All",
                "user": {"username": "jane", "groups": ["devs"]},
                "sourceIPs": ["198.51.100.7", "192.0.2.1", "203.0.113.9", "192.0.2.1"],
                "objectRef": {"resource": "deployments", "namespace": "a", "apiGroup": "apps",
                    "apiVersion": "v1"},
                "requestReceivedTimestamp": "2026-01-02T03:04:05.678901Z",
                "stageTimestamp": "2026-01-02T03:04:05.678901Z",
            })
        );
        // The name is known from the object; the object itself is not for this level.
        event.request(json!({"metadata": {"name": "web"}, "spec": {}}), Level::Metadata);
        event.code(201);
        event.annotate("a", "1");
        event.annotate("a", "2");
        let last = event.at(Stage::ResponseComplete, now);
        assert_eq!(last.0["objectRef"]["name"], "web");
        assert!(!last.0.contains_key("requestObject"));
        assert_eq!(last.0["responseStatus"], json!({"metadata": {}, "code": 201}));
        assert_eq!(last.0["annotations"], json!({"a": "1"}));
        assert_eq!(last.0["stageTimestamp"], "2026-01-02T03:04:06.000000Z");
        let line = last.legacy();
        assert!(line.starts_with("2026-01-02T03:04:05.678901Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"198.51.100.7\" method=\"create\" user=\"jane\" groups=\"\\\"devs\\\"\" as=\"<self>\""), "{line}");
        assert!(line.ends_with("response=\"201\""), "{line}");
    }

    #[test]
    fn field_managers_are_left_out_everywhere() {
        let managed = json!({"metadata": {"name": "a", "managedFields": []}});
        let bare = json!({"metadata": {"name": "a"}});
        let mut list = json!({"metadata": {"managedFields": []}, "items": [managed],
            "rows": [{"object": managed}]});
        without_managers(&mut list);
        assert_eq!(list, json!({"metadata": {}, "items": [bare], "rows": [{"object": bare}]}));
    }
}
