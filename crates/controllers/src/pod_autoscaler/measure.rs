//! The metrics of an autoscaler, one after another: the count that each proposes, and what the
//! status tells of it.
//!
//! upstream: pkg/controller/podautoscaler/horizontal.go computeReplicasForMetrics

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::{Format, Quantity};
use longshore_api::selector::LabelSelector;
use longshore_client::Client;
use serde_json::{Value, json};

use super::replicas::{Question, Tolerance, float, shared, total};
use super::scale::Scale;
use super::{Look, metrics};

/// How far a ratio may be from one when nothing is stated.
///
/// upstream: pkg/controller/podautoscaler/config HorizontalPodAutoscalerTolerance
const TOLERANCE: f64 = 0.1;

/// A count that a metric proposes.
#[derive(Debug)]
pub(super) struct Proposal {
    /// Replicas.
    pub replicas: i64,
    /// The metric, in words.
    pub metric: String,
}

/// A count, the failure of metrics that do not decide, and what the status says of each metric.
type Proposed = Result<(Proposal, Option<String>), String>;

/// Why a metric gives no count.
struct Failure {
    /// What the condition and the event of this metric say.
    reason: &'static str,
    text: String,
    /// What the whole says of it.
    outer: String,
}

/// The highest count that any metric proposes. When some fail, the others may raise the count but
/// not lower it.
pub(super) async fn all(look: &mut Look<'_>, scale: &Scale) -> (Proposed, Vec<Value>) {
    let pods = match look.select(scale.selector()) {
        Ok(pods) => pods,
        Err(error) => return (Err(error), Vec::new()),
    };
    let autoscaler = look.autoscaler;
    let specs = autoscaler.list(&["spec", "metrics"]);
    let mut statuses = Vec::with_capacity(specs.len());
    let mut best: Option<Proposal> = None;
    let (mut failed, mut first) = (0, None);
    for spec in specs {
        match one(look, scale, &pods, spec).await {
            Ok((proposal, status)) => {
                statuses.push(status);
                let higher =
                    best.as_ref().is_none_or(|b| b.replicas == 0 || proposal.replicas > b.replicas);
                if higher {
                    best = Some(proposal);
                }
            }
            Err(failure) => {
                look.warn(failure.reason, &failure.text);
                statuses.push(json!({ "type": "" }));
                failed += 1;
                first.get_or_insert(failure);
            }
        }
    }
    let error = first.as_ref().map(|failure| {
        let (outer, of) = (&failure.outer, specs.len());
        format!("invalid metrics ({failed} invalid out of {of}), first error is: {outer}")
    });
    let best = best.filter(|best| failed == 0 || best.replicas >= scale.wanted());
    let Some(best) = best else {
        if let Some(failure) = first {
            let text = format!("the HPA was unable to compute the replica count: {}", failure.text);
            look.condition("ScalingActive", false, failure.reason, &text);
        }
        return (Err(error.unwrap_or_else(|| "there are no metrics".to_owned())), statuses);
    };
    let text =
        format!("the HPA was able to successfully calculate a replica count from {}", best.metric);
    look.condition("ScalingActive", true, "ValidMetricFound", &text);
    (Ok((best, error)), statuses)
}

/// What one metric proposes, and its status.
async fn one(
    look: &Look<'_>,
    scale: &Scale,
    pods: &[Arc<Object>],
    spec: &Value,
) -> Result<(Proposal, Value), Failure> {
    let kind = spec["type"].as_str().unwrap_or("");
    let name = |source: &str, path: &str| spec[source].pointer(path).and_then(Value::as_str);
    // Its field, the reason of its failures, and what they call it.
    let (field, reason, what) = match kind {
        "Resource" => {
            let name = name("resource", "/name").unwrap_or("");
            ("resource", "FailedGetResourceMetric", format!("{name} resource"))
        }
        "ContainerResource" => {
            let name = name("containerResource", "/container").unwrap_or("");
            let reason = "FailedGetContainerResourceMetric";
            ("containerResource", reason, format!("{name} container"))
        }
        "Pods" => ("pods", "FailedGetPodsMetric", "pods".to_owned()),
        "Object" => ("object", "FailedGetObjectMetric", "object".to_owned()),
        "External" => {
            let name = name("external", "/metric/name").unwrap_or("");
            ("external", "FailedGetExternalMetric", format!("{name} external"))
        }
        other => {
            let text = format!("unknown metric source type \"{other}\"");
            return Err(Failure { reason: "InvalidMetricSourceType", outer: text.clone(), text });
        }
    };
    let question = Question {
        pods,
        resource: "",
        container: "",
        current: scale.wanted(),
        tolerance: tolerance(look.autoscaler),
        now: look.now,
    };
    let (client, namespace) = (&look.of.ctx.client, look.key.0.as_str());
    let source = Source { client, namespace, scale, question, spec: &spec[field] };
    let answer = match kind {
        "Pods" => source.of_pods().await,
        "Object" => source.of_object().await,
        "External" => source.external().await,
        _ => source.of_resource().await,
    };
    match answer {
        Ok((proposal, status)) => Ok((proposal, json!({ "type": kind, field: status }))),
        Err(Problem { text, inner }) => {
            let outer = format!("failed to get {what} metric value: {inner}");
            Err(Failure { reason, text, outer })
        }
    }
}

/// Why there is no count, as the condition says it, and as it is said within the whole.
struct Problem {
    text: String,
    inner: String,
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { inner: text.clone(), text }
    }
}

/// Says more of a failure within the whole than in the condition.
fn within(what: String) -> impl Fn(String) -> Problem {
    move |text| Problem { inner: format!("{what}: {text}"), text }
}

fn tolerance(autoscaler: &Object) -> Tolerance {
    let of = |direction: &str| {
        let text = autoscaler.str(&["spec", "behavior", direction, "tolerance"]);
        let stated = Quantity::parse(text).ok();
        stated.map_or(TOLERANCE, |quantity| float(quantity.milli_value()) / 1000.0)
    };
    Tolerance { down: of("scaleDown"), up: of("scaleUp") }
}

/// Thousandths of a resource as a text. Servers of metrics write memory in binary units.
fn amount(value: i64, resource: &str) -> String {
    let quantity = Quantity::from_milli(value);
    let format = if resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
    quantity.in_format(format).to_string()
}

/// One metric of an autoscaler, and what it is asked about.
struct Source<'a> {
    client: &'a Client,
    namespace: &'a str,
    scale: &'a Scale,
    question: Question<'a>,
    spec: &'a Value,
}

/// A count and the status of its metric.
type Answer = Result<(Proposal, Value), Problem>;

impl Source<'_> {
    fn text(&self, field: &str) -> &str {
        self.spec[field].as_str().unwrap_or("")
    }

    /// The thousandths of a target; none when it is not stated.
    fn target(&self, field: &str) -> Option<i64> {
        Quantity::parse(self.spec["target"][field].as_str()?).ok().map(Quantity::milli_value)
    }

    async fn of_resource(self) -> Answer {
        let (resource, container) = (self.text("name"), self.text("container"));
        let question = Question { resource, container, ..self.question };
        let samples = async {
            let selector = self.scale.selector();
            let got =
                metrics::of_resource(self.client, self.namespace, selector, resource, container);
            let failed = |error| format!("unable to get metrics for resource {resource}: {error}");
            got.await.map_err(failed)
        };
        let (proposal, metric, current) = if let Some(average) = self.target("averageValue") {
            let proposal = samples.await.and_then(|samples| question.by_average(samples, average));
            let proposal =
                proposal.map_err(|error| format!("failed to get {resource} usage: {error}"))?;
            let current = json!({ "averageValue": amount(proposal.average, resource) });
            (proposal, format!("{resource} resource"), current)
        } else if let Some(percent) = self.spec["target"]["averageUtilization"].as_i64() {
            let proposal =
                samples.await.and_then(|samples| question.by_utilization(samples, percent));
            let proposal = proposal
                .map_err(|error| format!("failed to get {resource} utilization: {error}"))?;
            let current = json!({
                "averageUtilization": proposal.utilization,
                "averageValue": amount(proposal.average, resource),
            });
            let of = if container.is_empty() { "" } else { "container " };
            let metric = format!("{resource} {of}resource utilization (percentage of request)");
            (proposal, metric, current)
        } else {
            let text = "invalid resource metric source: neither an average utilization target nor \
                        an average value (usage) target was set";
            return Err(text.to_owned().into());
        };
        let mut status = json!({ "name": resource, "current": current });
        if !container.is_empty() {
            status["container"] = container.into();
        }
        Ok((Proposal { replicas: proposal.replicas, metric }, status))
    }

    async fn of_pods(self) -> Answer {
        let metric = Metric::of(self.spec)?;
        let average = self.target("averageValue").unwrap_or(0);
        let selector = self.scale.selector();
        let samples = metrics::of_pods(self.client, self.namespace, selector, metric.asked()).await;
        let samples =
            samples.map_err(|error| format!("unable to get metric {}: {error}", metric.name))?;
        let proposal = self.question.by_average(samples, average)?;
        let status = metric.status(json!({ "averageValue": amount(proposal.average, "") }));
        let text = format!("pods metric {}", metric.name);
        Ok((Proposal { replicas: proposal.replicas, metric: text }, status))
    }

    async fn of_object(self) -> Answer {
        let metric = Metric::of(self.spec)?;
        let (object, namespace) = (&self.spec["describedObject"], self.namespace);
        let kind = object["kind"].as_str().unwrap_or("");
        let value = async {
            let got = metrics::of_object(self.client, namespace, object, metric.asked()).await;
            got.map_err(|error| {
                let name = object["name"].as_str().unwrap_or("");
                format!(
                    "unable to get metric {}: {kind} on {namespace} {name}/{error}",
                    metric.name
                )
            })
        };
        let is = |target: &str| self.spec["target"]["type"] == target;
        let (proposal, current) = if let Some(wanted) = self.target("value").filter(|_| is("Value"))
        {
            let (replicas, current) = self.in_proportion(value.await?, wanted)?;
            (Proposal { replicas, metric: format!("{kind} metric {}", metric.name) }, current)
        } else if let Some(average) = self.target("averageValue").filter(|_| is("AverageValue")) {
            let what = format!("failed to get {} object metric", metric.name);
            self.shared_out(value.await.map_err(within(what))?, average, &metric)
        } else {
            let text = "invalid object metric source: neither a value target nor an average value \
                        target was set";
            return Err(text.to_owned().into());
        };
        let mut status = metric.status(current);
        status["describedObject"] = object.clone();
        Ok((proposal, status))
    }

    async fn external(self) -> Answer {
        let metric = Metric::of(self.spec)?;
        let value = async {
            let (name, selector) = metric.asked();
            let got = metrics::external(self.client, self.namespace, name, selector).await;
            let got = got.map_err(|error| {
                let (namespace, selector) = (self.namespace, metric.go_selector());
                format!("unable to get external metric {namespace}/{name}/{selector}: {error}")
            });
            got.map(|values| total(values.into_iter()))
        };
        let (proposal, current) = if let Some(average) = self.target("averageValue") {
            let what = format!("failed to get {} external metric", metric.name);
            self.shared_out(value.await.map_err(within(what))?, average, &metric)
        } else if let Some(wanted) = self.target("value") {
            let what = within(format!("failed to get external metric {}", metric.name));
            let value = value.await.map_err(&what)?;
            let (replicas, current) = self.in_proportion(value, wanted).map_err(what)?;
            (Proposal { replicas, metric: metric.external() }, current)
        } else {
            let text = "invalid external metric source: neither a value target nor an average \
                        value target was set";
            return Err(text.to_owned().into());
        };
        Ok((proposal, metric.status(current)))
    }

    /// The count at which a value would be as wanted.
    fn in_proportion(&self, value: i64, wanted: i64) -> Result<(i64, Value), String> {
        let replicas = self.question.by_ratio(float(value) / float(wanted))?;
        Ok((replicas, json!({ "value": amount(value, "") })))
    }

    /// The count at which every replica has its share of a value.
    fn shared_out(&self, value: i64, average: i64, metric: &Metric<'_>) -> (Proposal, Value) {
        let tolerance = self.question.tolerance;
        let (replicas, each) = shared(value, average, self.scale.present(), tolerance);
        let current = json!({ "averageValue": amount(each, "") });
        (Proposal { replicas, metric: metric.external() }, current)
    }
}

/// A metric that has a name, and maybe a selector of its own.
struct Metric<'a> {
    name: &'a str,
    identifier: &'a Value,
    selector: String,
}

impl<'a> Metric<'a> {
    fn of(spec: &'a Value) -> Result<Self, String> {
        let identifier = &spec["metric"];
        let selector = match LabelSelector::from_value(&identifier["selector"]) {
            Ok(selector) => selector.to_string(),
            Err(error) => return Err(error.to_string()),
        };
        Ok(Self { name: identifier["name"].as_str().unwrap_or(""), identifier, selector })
    }

    /// Name and selector.
    fn asked(&self) -> (&str, &str) {
        (self.name, &self.selector)
    }

    fn status(&self, current: Value) -> Value {
        let mut own = json!({ "name": self.name });
        if self.identifier["selector"].is_object() {
            own["selector"] = self.identifier["selector"].clone();
        }
        json!({ "metric": own, "current": current })
    }

    fn go_selector(&self) -> String {
        go_selector(&self.identifier["selector"])
    }

    fn external(&self) -> String {
        format!("external metric {}({})", self.name, self.go_selector())
    }
}

/// A selector as upstream's messages have it.
fn go_selector(selector: &Value) -> String {
    if !selector.is_object() {
        return "nil".to_owned();
    }
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {},", text(value))).collect();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let expressions = expressions.map(|expression| {
        let values = expression["values"].as_array().into_iter().flatten().map(text);
        let values: Vec<String> = values.collect();
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text(&expression["key"]),
            text(&expression["operator"]),
            values.join(" ")
        )
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_binary() {
        assert_eq!(amount(250, "cpu"), "250m");
        assert_eq!(amount(64 * 1024 * 1024 * 1000, "memory"), "64Mi");
        assert_eq!(amount(1_500, ""), "1500m");
    }

    #[test]
    fn selectors_in_messages() {
        assert_eq!(go_selector(&Value::Null), "nil");
        let selector = json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}],
        });
        let text = "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:\
                    []LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,\
                    Values:[x y],},},}";
        assert_eq!(go_selector(&selector), text);
    }
}
