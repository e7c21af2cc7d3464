//! Runs scenarios.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use futures_util::future::BoxFuture;
use http::Request;
use longshore_client::transport::{Body, full};
use serde_json::{Map, Value, json};

use crate::pattern::{mismatch, short};
use crate::scenario::{Library, Scenario, Step};
use crate::variables::Variables;
use crate::wire::{ANSWER_MAX, Answer, Events, Sender, Wire};

/// How often a request with `until` is sent.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs one scenario from its namespace to its end.
pub async fn run(library: Arc<Library>, scenario: &Scenario, wire: Arc<Wire>) -> Result<()> {
    let id = random_id()?;
    let mut run = Run { library, wire, watches: BTreeMap::new() };
    let mut variables = Variables::default();
    variables.set("id", id.as_str());
    let namespace = format!("t-{id}");
    if scenario.namespace {
        variables.set("ns", namespace.as_str());
        let object = json!({"metadata": {"name": namespace}});
        let made = run.wire.json(http::Method::POST, "/api/v1/namespaces", &object).await?;
        ensure!(made.code == 201, "the namespace is not made: {}", short(&made.value()));
    }
    let outcome = run.steps(&scenario.steps, &mut variables).await;
    if scenario.namespace {
        let path = format!("/api/v1/namespaces/{namespace}");
        let deleted = run.wire.json(http::Method::DELETE, &path, &json!({})).await?;
        // The scenario may have deleted it.
        let code = deleted.code;
        ensure!(
            outcome.is_err() || [200, 202, 404, 409].contains(&code),
            "deleting answers {code}"
        );
    }
    outcome
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Run {
    library: Arc<Library>,
    wire: Arc<Wire>,
    watches: BTreeMap<String, Events>,
}

impl Run {
    fn steps<'a>(
        &'a mut self,
        steps: &'a [Step],
        variables: &'a mut Variables,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (index, step) in steps.iter().enumerate() {
                let outcome = self.step(step, variables).await;
                outcome.with_context(|| format!("step {}{}", index + 1, title(step)))?;
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &Step, variables: &mut Variables) -> Result<()> {
        match step {
            Step::Request(given) => self.request(&filled(given, variables)?, variables).await,
            Step::Watch(name, given) => self.watch(name, &filled(given, variables)?).await,
            Step::Events(name, given) => {
                self.events(name, &filled(given, variables)?, variables).await
            }
            Step::Ends(name) => {
                let mut events = self.watches.remove(name).context("no such watch")?;
                match events.next().await? {
                    None => Ok(()),
                    Some(event) => bail!("another event comes: {}", short(&event)),
                }
            }
            Step::Set(values) => {
                let values = variables.fill(values)?;
                for (name, value) in values.as_object().context("`set` is an object")? {
                    variables.set(name, value.clone());
                }
                Ok(())
            }
            Step::For(name, values, inner) => {
                for value in list(&variables.fill(values)?)? {
                    variables.set(name, value.clone());
                    let outcome = self.steps(inner, variables).await;
                    outcome.with_context(|| format!("{name} = {}", short(&value)))?;
                }
                Ok(())
            }
            Step::Again(inner) => {
                let mut tick = tokio::time::interval(ASK_INTERVAL);
                let end = tokio::time::Instant::now() + ANSWER_MAX;
                loop {
                    tick.tick().await;
                    match self.steps(inner, variables).await {
                        Ok(()) => return Ok(()),
                        Err(error) if tokio::time::Instant::now() > end => return Err(error),
                        Err(_) => {}
                    }
                }
            }
            Step::Use(name, with) => {
                let library = self.library.clone();
                let template = library.templates.get(name).context("no such template")?;
                let mut inner = variables.clone();
                let with = variables.fill(with)?;
                for (name, value) in with.as_object().into_iter().flatten() {
                    inner.set(name, value.clone());
                }
                self.steps(&template.steps, &mut inner).await
            }
        }
    }

    async fn request(
        &mut self,
        given: &Map<String, Value>,
        variables: &mut Variables,
    ) -> Result<()> {
        if given.get("until") != Some(&Value::Bool(true)) {
            let answer = self.wire.send(sender(given), http_request(given)?).await?;
            return judge(given, &answer, variables);
        }
        let mut last = None;
        let asking = async {
            let mut tick = tokio::time::interval(ASK_INTERVAL);
            loop {
                tick.tick().await;
                let answer = self.wire.send(sender(given), http_request(given)?).await?;
                match judge(given, &answer, variables) {
                    Ok(()) => return Ok(()),
                    Err(error) => last = Some(error),
                }
            }
        };
        match tokio::time::timeout(ANSWER_MAX, asking).await {
            Ok(outcome) => outcome,
            Err(_) => Err(last.context("it never answered")?.context("it stays like this")),
        }
    }

    async fn watch(&mut self, name: &str, given: &Map<String, Value>) -> Result<()> {
        let mut request = http_request(given)?;
        let separator = if request.uri().query().is_some() { '&' } else { '?' };
        *request.uri_mut() = format!("{}{separator}watch=true", request.uri()).parse()?;
        let (head, body) = self.wire.open(sender(given), request).await?.into_parts();
        ensure!(head.status.as_u16() == 200, "the watch answers {}", head.status);
        self.watches.insert(name.to_owned(), Events::new(body));
        Ok(())
    }

    async fn events(
        &mut self,
        name: &str,
        given: &Map<String, Value>,
        variables: &mut Variables,
    ) -> Result<()> {
        let watch = self.watches.get_mut(name).context("no such watch")?;
        let wanted = given["match"].as_array().context("`match` is a list")?;
        let mut seen = Vec::new();
        let others = given.get("others") == Some(&Value::Bool(true));
        for (index, pattern) in wanted.iter().enumerate() {
            let event = loop {
                let event = watch.next().await.with_context(|| {
                    format!("the watch has {index} of {} events, next {pattern}", wanted.len())
                })?;
                let event = event.context("the watch ends")?;
                // A server may send bookmarks whenever it likes.
                let unasked = event["type"] == "BOOKMARK" && pattern["type"] != "BOOKMARK";
                if !unasked && (!others || mismatch(pattern, &event).is_none()) {
                    break event;
                }
            };
            if let Some(why) = mismatch(pattern, &event) {
                bail!("event {}: {why}\nin {}", index + 1, short(&event));
            }
            seen.push(event);
        }
        save(given, &Value::Array(seen), &http::HeaderMap::new(), variables)
    }
}

fn filled(given: &Map<String, Value>, variables: &Variables) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for (key, value) in given {
        out.insert(key.clone(), variables.fill(value)?);
    }
    Ok(out)
}

/// The values of a `for`: a list, or whole numbers below `to`.
fn list(values: &Value) -> Result<Vec<Value>> {
    if let Some(list) = values.as_array() {
        return Ok(list.clone());
    }
    let (from, to) = (values["from"].as_u64(), values["to"].as_u64());
    let range = from.zip(to).with_context(|| format!("{values} is no list and no range"))?;
    Ok((range.0..range.1).map(Value::from).collect())
}

fn sender(given: &Map<String, Value>) -> Sender {
    let plain = given.contains_key("token") || given.contains_key("anonymous");
    if plain { Sender::Plain } else { Sender::Admin }
}

fn http_request(given: &Map<String, Value>) -> Result<Request<Body>> {
    let text = |key: &str| given.get(key).and_then(Value::as_str);
    let line = text("request").context("`request` is a method and a path")?;
    let (method, path) = line.split_once(' ').context("`request` is a method and a path")?;
    let mut uri = path.to_owned();
    for (key, value) in given.get("query").and_then(Value::as_object).into_iter().flatten() {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&format!("{key}={}", escape(&plain)));
        }
    }
    let (body, media_type) = body(given)?;
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(media_type) = text("type").or(media_type) {
        request = request.header("content-type", media_type);
    }
    for (name, value) in given.get("headers").and_then(Value::as_object).into_iter().flatten() {
        request = request.header(name, value.as_str().context("a header is a text")?);
    }
    if let Some(token) = text("token") {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(user) = given.get("as") {
        request = request.header("impersonate-user", user["user"].as_str().context("a user")?);
        for group in user["groups"].as_array().into_iter().flatten() {
            request = request.header("impersonate-group", group.as_str().context("a group")?);
        }
    }
    Ok(request.body(full(body))?)
}

fn body(given: &Map<String, Value>) -> Result<(Vec<u8>, Option<&'static str>)> {
    let text = |key: &str| given.get(key).and_then(Value::as_str);
    if let Some(text) = text("text") {
        return Ok((text.as_bytes().to_vec(), Some("application/json")));
    }
    if let Some(text) = text("base64") {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
        return Ok((bytes, Some("application/json")));
    }
    let Some(body) = given.get("body") else { return Ok((Vec::new(), None)) };
    Ok(match text("format").unwrap_or("json") {
        "json" => (body.to_string().into_bytes(), Some("application/json")),
        "yaml" => (longshore_api::yaml::encode(body).into_bytes(), Some("application/yaml")),
        "protobuf" => (
            longshore_api::protobuf::encode_object(body)?,
            Some("application/vnd.kubernetes.protobuf"),
        ),
        other => bail!("no such format: {other}"),
    })
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = text.bytes().map(|byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    });
    escaped.collect()
}

fn judge(given: &Map<String, Value>, answer: &Answer, variables: &mut Variables) -> Result<()> {
    let value = answer.value();
    let shown = || format!("the answer is {} {}", answer.code, short(&value));
    let codes = given.get("expect").with_context(|| format!("`expect` is missing; {}", shown()))?;
    let codes = codes.as_array().map_or(std::slice::from_ref(codes), Vec::as_slice);
    ensure!(codes.iter().any(|code| *code == answer.code), "wanted {codes:?}, but {}", shown());
    if let Some(why) = given.get("match").and_then(|pattern| mismatch(pattern, &value)) {
        bail!("{why}\n{}", shown());
    }
    for (name, pattern) in given.get("header").and_then(Value::as_object).into_iter().flatten() {
        let all: Vec<&str> =
            answer.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
        if let Some(why) = mismatch(pattern, &Value::String(all.join(", "))) {
            bail!("the header {name}{why}; {}", shown());
        }
    }
    save(given, &value, &answer.headers, variables)
}

fn save(
    given: &Map<String, Value>,
    value: &Value,
    headers: &http::HeaderMap,
    variables: &mut Variables,
) -> Result<()> {
    for (name, place) in given.get("save").and_then(Value::as_object).into_iter().flatten() {
        let place = place.as_str().context("`save` names places")?;
        let found = match place.strip_prefix("header:") {
            Some(header) => headers.get(header).and_then(|v| v.to_str().ok()).map(Value::from),
            None => value.pointer(place).cloned(),
        };
        let missing = || format!("there is nothing at {place} in {}", short(value));
        variables.set(name, found.with_context(missing)?);
    }
    Ok(())
}

/// What a step does, for messages.
fn title(step: &Step) -> String {
    let line = |given: &Map<String, Value>| given.get("request").map_or(String::new(), short);
    match step {
        Step::Request(given) => format!(" {}", line(given)),
        Step::Watch(name, given) => format!(" watch {name} {}", line(given)),
        Step::Events(name, _) => format!(" events of {name}"),
        Step::Ends(name) => format!(" the end of {name}"),
        Step::Set(_) => String::new(),
        Step::Again(_) => " until all of them hold".to_owned(),
        Step::For(name, ..) => format!(" for each {name}"),
        Step::Use(name, _) => format!(" from template {name}"),
    }
}
