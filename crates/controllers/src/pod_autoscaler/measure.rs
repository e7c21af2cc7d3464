//! The metrics of an autoscaler, one after another: the count that each proposes, and what the
//! status tells of it.
//!
//! upstream: pkg/controller/podautoscaler/horizontal.go computeReplicasForMetrics

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::{Format, Quantity};
use longshore_api::selector::LabelSelector;
use serde_json::{Value, json};

use super::replicas::{Question, Samples, Tolerance, float, shared, total};
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
    let question = Question {
        pods,
        resource: "",
        container: "",
        current: scale.wanted(),
        tolerance: tolerance(look.autoscaler),
        now: look.now,
    };
    match spec["type"].as_str().unwrap_or("") {
        "Resource" => of_resource(look, scale, question, &spec["resource"], false).await,
        "ContainerResource" => {
            of_resource(look, scale, question, &spec["containerResource"], true).await
        }
        "Pods" => of_pods(look, scale, question, &spec["pods"]).await,
        "Object" => of_object(look, scale, question, &spec["object"]).await,
        "External" => external(look, scale, question, &spec["external"]).await,
        other => {
            let text = format!("unknown metric source type \"{other}\"");
            Err(Failure { reason: "InvalidMetricSourceType", outer: text.clone(), text })
        }
    }
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

/// The thousandths of a target; none when it is not stated.
fn target(target: &Value, field: &str) -> Option<i64> {
    Quantity::parse(target[field].as_str()?).ok().map(Quantity::milli_value)
}

async fn of_resource(
    look: &Look<'_>,
    scale: &Scale,
    mut question: Question<'_>,
    spec: &Value,
    is_container: bool,
) -> Result<(Proposal, Value), Failure> {
    let text = |field: &str| spec[field].as_str().unwrap_or("");
    let (resource, container) = (text("name"), if is_container { text("container") } else { "" });
    (question.resource, question.container) = (resource, container);
    let failure = |text: String| {
        if is_container {
            let outer = format!("failed to get {container} container metric value: {text}");
            Failure { reason: "FailedGetContainerResourceMetric", text, outer }
        } else {
            let outer = format!("failed to get {resource} resource metric value: {text}");
            Failure { reason: "FailedGetResourceMetric", text, outer }
        }
    };
    let (client, namespace) = (&look.of.ctx.client, look.key.0.as_str());
    let samples = async {
        let got =
            metrics::of_resource(client, namespace, scale.selector(), resource, container).await;
        got.map_err(|error| format!("unable to get metrics for resource {resource}: {error}"))
    };
    let (proposal, metric, current) = if let Some(average) = target(&spec["target"], "averageValue")
    {
        let proposal = samples.await.and_then(|samples| question.by_average(samples, average));
        let proposal = proposal
            .map_err(|error| failure(format!("failed to get {resource} usage: {error}")))?;
        let current = json!({ "averageValue": amount(proposal.average, resource) });
        (proposal, format!("{resource} resource"), current)
    } else if let Some(percent) = spec["target"]["averageUtilization"].as_i64() {
        let proposal = samples.await.and_then(|samples| question.by_utilization(samples, percent));
        let proposal = proposal
            .map_err(|error| failure(format!("failed to get {resource} utilization: {error}")))?;
        let current = json!({
            "averageUtilization": proposal.utilization,
            "averageValue": amount(proposal.average, resource),
        });
        let of = if is_container { "container " } else { "" };
        let metric = format!("{resource} {of}resource utilization (percentage of request)");
        (proposal, metric, current)
    } else {
        let text = "invalid resource metric source: neither an average utilization target nor an \
                    average value (usage) target was set";
        return Err(failure(text.to_owned()));
    };
    let status = if is_container {
        json!({ "type": "ContainerResource", "containerResource": {
            "name": resource, "container": container, "current": current,
        }})
    } else {
        json!({ "type": "Resource", "resource": { "name": resource, "current": current } })
    };
    Ok((Proposal { replicas: proposal.replicas, metric }, status))
}

async fn of_pods(
    look: &Look<'_>,
    scale: &Scale,
    question: Question<'_>,
    spec: &Value,
) -> Result<(Proposal, Value), Failure> {
    let failure = |text: String| {
        let outer = format!("failed to get pods metric value: {text}");
        Failure { reason: "FailedGetPodsMetric", text, outer }
    };
    let metric = Metric::of(spec).map_err(&failure)?;
    let average = target(&spec["target"], "averageValue").unwrap_or(0);
    let (client, namespace) = (&look.of.ctx.client, look.key.0.as_str());
    let got = metrics::of_pods(client, namespace, scale.selector(), metric.asked()).await;
    let got: Result<Samples, String> =
        got.map_err(|error| format!("unable to get metric {}: {error}", metric.name));
    let proposal = got.and_then(|samples| question.by_average(samples, average));
    let proposal = proposal.map_err(&failure)?;
    let status = json!({ "type": "Pods", "pods": {
        "metric": metric.identifier(), "current": { "averageValue": amount(proposal.average, "") },
    }});
    let text = format!("pods metric {}", metric.name);
    Ok((Proposal { replicas: proposal.replicas, metric: text }, status))
}

async fn of_object(
    look: &Look<'_>,
    scale: &Scale,
    question: Question<'_>,
    spec: &Value,
) -> Result<(Proposal, Value), Failure> {
    let failure = |text: String| {
        let outer = format!("failed to get object metric value: {text}");
        Failure { reason: "FailedGetObjectMetric", text, outer }
    };
    let metric = Metric::of(spec).map_err(&failure)?;
    let (object, goal) = (&spec["describedObject"], &spec["target"]);
    let (client, namespace) = (&look.of.ctx.client, look.key.0.as_str());
    let kind = object["kind"].as_str().unwrap_or("");
    let value = async {
        let got = metrics::of_object(client, namespace, object, metric.asked()).await;
        got.map_err(|error| {
            let name = object["name"].as_str().unwrap_or("");
            format!("unable to get metric {}: {kind} on {namespace} {name}/{error}", metric.name)
        })
    };
    let status = |current: Value| {
        json!({ "type": "Object", "object": {
            "metric": metric.identifier(), "describedObject": object, "current": current,
        }})
    };
    if let Some(wanted) = target(goal, "value").filter(|_| goal["type"] == "Value") {
        let value = value.await.map_err(&failure)?;
        let replicas = question.by_ratio(float(value) / float(wanted)).map_err(&failure)?;
        let text = format!("{kind} metric {}", metric.name);
        let status = status(json!({ "value": amount(value, "") }));
        return Ok((Proposal { replicas, metric: text }, status));
    }
    let average = target(goal, "averageValue").filter(|_| goal["type"] == "AverageValue");
    let Some(average) = average else {
        let text = "invalid object metric source: neither a value target nor an average value \
                    target was set";
        return Err(failure(text.to_owned()));
    };
    let value = value.await.map_err(|text| {
        let outer = format!("failed to get {} object metric: {text}", metric.name);
        Failure { text, ..failure(outer) }
    })?;
    let (replicas, each) = shared(value, average, scale.present(), question.tolerance);
    let status = status(json!({ "averageValue": amount(each, "") }));
    Ok((Proposal { replicas, metric: metric.external() }, status))
}

async fn external(
    look: &Look<'_>,
    scale: &Scale,
    question: Question<'_>,
    spec: &Value,
) -> Result<(Proposal, Value), Failure> {
    let name = spec["metric"]["name"].as_str().unwrap_or("").to_owned();
    let failure = |text: String| {
        let outer = format!("failed to get {name} external metric value: {text}");
        Failure { reason: "FailedGetExternalMetric", text, outer }
    };
    let metric = Metric::of(spec).map_err(&failure)?;
    let (client, namespace) = (&look.of.ctx.client, look.key.0.as_str());
    let value = async {
        let (name, selector) = metric.asked();
        let got = metrics::external(client, namespace, name, selector).await;
        let got = got.map_err(|error| {
            let selector = go_selector(&spec["metric"]["selector"]);
            format!("unable to get external metric {namespace}/{name}/{selector}: {error}")
        });
        got.map(|values| total(values.into_iter()))
    };
    let status = |current: Value| {
        json!({ "type": "External", "external": {
            "metric": metric.identifier(), "current": current,
        }})
    };
    if let Some(average) = target(&spec["target"], "averageValue") {
        let value = value.await.map_err(|text| {
            let outer = format!("failed to get {} external metric: {text}", metric.name);
            Failure { text, ..failure(outer) }
        })?;
        let (replicas, each) = shared(value, average, scale.present(), question.tolerance);
        let status = status(json!({ "averageValue": amount(each, "") }));
        return Ok((Proposal { replicas, metric: metric.external() }, status));
    }
    let Some(wanted) = target(&spec["target"], "value") else {
        let text = "invalid external metric source: neither a value target nor an average value \
                    target was set";
        return Err(failure(text.to_owned()));
    };
    let outer = |text: String| {
        let outer = format!("failed to get external metric {}: {text}", metric.name);
        Failure { text, ..failure(outer) }
    };
    let value = value.await.map_err(outer)?;
    let replicas = question.by_ratio(float(value) / float(wanted)).map_err(outer)?;
    let status = status(json!({ "value": amount(value, "") }));
    Ok((Proposal { replicas, metric: metric.external() }, status))
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

    fn identifier(&self) -> Value {
        let mut own = json!({ "name": self.name });
        if self.identifier["selector"].is_object() {
            own["selector"] = self.identifier["selector"].clone();
        }
        own
    }

    fn external(&self) -> String {
        format!("external metric {}({})", self.name, go_selector(&self.identifier["selector"]))
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
