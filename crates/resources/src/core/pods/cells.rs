//! Cells that the tables of pods and workloads share.
//!
//! upstream: pkg/printers/internalversion/printers.go,
//! staging/src/k8s.io/apimachinery/pkg/util/duration

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use serde_json::Value;

use super::tree::{list, text};
use crate::table::Column;

/// The name column.
pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name of the object.",
    priority: 0,
};
/// The age column.
pub(crate) const AGE: Column = text_column("Age", "Time since the object was created.");
/// The wide columns that tell the containers of a template.
pub(crate) const CONTAINERS: Column = wide("Containers", "Names of the template's containers.");
/// See [`CONTAINERS`].
pub(crate) const IMAGES: Column = wide("Images", "Images of the template's containers.");
/// The wide column of a selector.
pub(crate) const SELECTOR: Column = wide("Selector", "What the selected pods have in common.");

/// A column of texts.
pub(crate) const fn text_column(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

/// A column of numbers.
pub(crate) const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}

/// A column of texts that only wide tables show.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

/// The age of an object.
pub(crate) fn age(object: &Object, now: Timestamp) -> Value {
    since(object.str(&["metadata", "creationTimestamp"]), now).into()
}

/// The time that has passed since a timestamp.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human(now.as_second() - time.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// A duration as people read it; exact enough for its size.
pub(crate) fn human(seconds: i64) -> String {
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// The names and the images of a template's containers.
pub(crate) fn containers(template: Option<&Value>) -> [Value; 2] {
    let spec = template.and_then(|t| t.get("spec")).unwrap_or(&Value::Null);
    let column = |key: &str| {
        let items: Vec<&str> = list(spec, "containers").iter().map(|c| text(c, key)).collect();
        Value::from(items.join(","))
    };
    [column("name"), column("image")]
}

/// A map of labels in one text.
pub(crate) fn labels(map: Option<&Value>) -> String {
    let mut pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if pairs.is_empty() {
        return "<none>".to_owned();
    }
    pairs.sort();
    pairs.join(",")
}

/// A selector in one text.
pub(crate) fn selector(selector: Option<&Value>) -> String {
    match selector.map(LabelSelector::from_value) {
        None => "<none>".to_owned(),
        Some(Err(_)) => "<error>".to_owned(),
        Some(Ok(selector)) if selector.is_empty() => "<none>".to_owned(),
        Some(Ok(selector)) => selector.to_string(),
    }
}

/// An integer field as a cell; 0 when absent.
pub(crate) fn count(object: &Object, path: &[&str]) -> Value {
    object.int(path).unwrap_or(0).into()
}

/// The first items of a list, and how many more there are.
pub(crate) fn shortened(items: &[String], max: usize) -> String {
    if items.is_empty() {
        return "<unset>".to_owned();
    }
    if items.len() > max {
        return format!("{} + {} more...", items[..max].join(","), items.len() - max);
    }
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_people_need() {
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 120, "3h2m"),
            (9 * 3600, "9h"),
            (49 * 3600, "2d1h"),
            (9 * 86400, "9d"),
            (800 * 86400, "2y70d"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(human(seconds), want, "{seconds}");
        }
    }
}
