//! What an autoscaler remembers, and how far and fast it may go.
//!
//! upstream: pkg/controller/podautoscaler/horizontal.go

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// How long recommendations and changes are remembered, in seconds: no window or period is longer.
///
/// upstream: pkg/apis/autoscaling/validation/validation.go MaxStabilizationWindowSeconds
const KEPT_SECONDS: i64 = 3600;
/// The window of those that state no behaviour, in seconds.
///
/// upstream: pkg/controller/podautoscaler/config HorizontalPodAutoscalerDownscaleStabilizationWindow
const WINDOW_SECONDS: i64 = 300;
/// Most entries of each list. One look every 15 seconds makes 240 an hour.
const ENTRIES_MAX: usize = 512;

/// The counts between which an autoscaler decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Least replicas.
    pub min: i64,
    /// Most replicas.
    pub max: i64,
    /// Replicas now.
    pub current: i64,
}

/// What came of it: the count, and what two conditions say about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Replicas from now on.
    pub replicas: i64,
    /// Reason and message of `AbleToScale`.
    pub able: (&'static str, &'static str),
    /// Whether the count is limited, with reason and message of `ScalingLimited`.
    pub limited: (bool, &'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: (&str, &str) =
    ("DesiredWithinRange", "the desired count is within the acceptable range");

type Entries = Vec<(Timestamp, i64)>;

/// What one autoscaler remembers.
#[derive(Debug, Default)]
pub(super) struct History {
    recommendations: Entries,
    ups: Entries,
    downs: Entries,
}

impl History {
    /// Takes the count at the first look as the first recommendation.
    pub fn begin(&mut self, current: i64, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Notes a change that was made. Without a behaviour nobody asks for it.
    pub fn changed(&mut self, behaviour: &Value, from: i64, to: i64, now: Timestamp) {
        if behaviour.is_null() {
            return;
        }
        let list = if to > from { &mut self.ups } else { &mut self.downs };
        note(list, now, (to - from).abs());
    }

    /// The count that is wanted, brought within the limits.
    pub fn decide(
        &mut self,
        behaviour: &Value,
        wanted: i64,
        bounds: Bounds,
        now: Timestamp,
    ) -> Decision {
        let (stable, why) = if behaviour.is_null() {
            (self.highest(wanted, now), DOWN_STABILIZED)
        } else {
            self.stabilize(behaviour, wanted, bounds.current, now)
        };
        note(&mut self.recommendations, now, wanted);
        let able = if stable == wanted { READY } else { why };
        let (replicas, (reason, message)) = if behaviour.is_null() {
            plain_limits(stable, bounds)
        } else {
            self.limit(behaviour, stable, bounds, now)
        };
        Decision { replicas, able, limited: (replicas != stable, reason, message) }
    }

    /// The highest recommendation of the last minutes.
    fn highest(&self, wanted: i64, now: Timestamp) -> i64 {
        let window = SignedDuration::from_secs(WINDOW_SECONDS);
        let recent = self.recommendations.iter().filter(|(at, _)| age(*at, now) <= window);
        recent.map(|(_, count)| *count).fold(wanted, i64::max)
    }

    /// Nearest to the current count between the lowest recommendation of one window and the
    /// highest of another.
    fn stabilize(
        &self,
        behaviour: &Value,
        wanted: i64,
        current: i64,
        now: Timestamp,
    ) -> (i64, (&'static str, &'static str)) {
        let (mut low, mut high) = (wanted, wanted);
        let (up, down) =
            (seconds(behaviour, "scaleUp", 0), seconds(behaviour, "scaleDown", WINDOW_SECONDS));
        for (at, count) in &self.recommendations {
            if age(*at, now) < up {
                low = low.min(*count);
            }
            if age(*at, now) < down {
                high = high.max(*count);
            }
        }
        let why = if wanted >= current { UP_STABILIZED } else { DOWN_STABILIZED };
        (current.max(low).min(high), why)
    }

    fn limit(
        &self,
        behaviour: &Value,
        wanted: i64,
        bounds: Bounds,
        now: Timestamp,
    ) -> (i64, (&'static str, &'static str)) {
        if wanted > bounds.current {
            let limit = self.reach(behaviour, "scaleUp", bounds.current, now).max(bounds.current);
            let (most, why) =
                if bounds.max > limit { (limit, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
            if wanted > most {
                return (most, why);
            }
        } else if wanted < bounds.current {
            let limit = self.reach(behaviour, "scaleDown", bounds.current, now).min(bounds.current);
            let (least, why) =
                if bounds.min < limit { (limit, DOWN_LIMIT) } else { (bounds.min, TOO_FEW) };
            if wanted < least {
                return (least, why);
            }
        }
        (wanted, WITHIN)
    }

    /// How far the policies of one direction let the count go.
    fn reach(&self, behaviour: &Value, direction: &str, current: i64, now: Timestamp) -> i64 {
        let up = direction == "scaleUp";
        let (rules, given) = (&behaviour[direction], &behaviour[direction]["policies"]);
        let select = rules["selectPolicy"].as_str().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let usual = if up { usual_ups() } else { usual_downs() };
        let policies = given.as_array().or_else(|| usual.as_array()).into_iter().flatten();
        let counts = policies.map(|policy| {
            let period = policy["periodSeconds"].as_i64().unwrap_or(0);
            let start = current - within(&self.ups, period, now) + within(&self.downs, period, now);
            let value = policy["value"].as_i64().unwrap_or(0);
            let value = if up { value } else { -value };
            match policy["type"].as_str() {
                Some("Percent") => percent(start, value, up),
                _ => start.saturating_add(value),
            }
        });
        // The largest change is the highest count on the way up and the lowest on the way down.
        let reach = if (select == "Min") == up { counts.min() } else { counts.max() };
        reach.unwrap_or(current)
    }
}

/// Without a behaviour a count at most doubles, or grows to four.
fn plain_limits(wanted: i64, bounds: Bounds) -> (i64, (&'static str, &'static str)) {
    let limit = (2 * bounds.current).max(4);
    let (most, why) = if bounds.max > limit { (limit, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
    if wanted < bounds.min {
        (bounds.min, TOO_FEW)
    } else if wanted > most {
        (most, why)
    } else {
        (wanted, WITHIN)
    }
}

/// upstream: pkg/apis/autoscaling/v2/defaults.go
fn usual_ups() -> Value {
    json!([
        { "type": "Pods", "value": 4, "periodSeconds": 15 },
        { "type": "Percent", "value": 100, "periodSeconds": 15 },
    ])
}

fn usual_downs() -> Value {
    json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }])
}

/// `count` changed by a percentage: rounded up on the way up, so that one grows at all, and cut
/// on the way down.
fn percent(count: i64, percent: i64, up: bool) -> i64 {
    let hundredths = i128::from(count) * (100 + i128::from(percent));
    let rounded = if up { (hundredths + 99).div_euclid(100) } else { hundredths / 100 };
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

fn seconds(behaviour: &Value, direction: &str, usual: i64) -> SignedDuration {
    let stated = behaviour[direction]["stabilizationWindowSeconds"].as_i64();
    SignedDuration::from_secs(stated.unwrap_or(usual))
}

fn age(at: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(at)
}

/// What was changed within a period.
fn within(list: &Entries, period: i64, now: Timestamp) -> i64 {
    let period = SignedDuration::from_secs(period);
    list.iter().filter(|(at, _)| age(*at, now) < period).map(|(_, change)| change).sum()
}

fn note(list: &mut Entries, now: Timestamp, count: i64) {
    list.retain(|(at, _)| now.as_second() - at.as_second() <= KEPT_SECONDS);
    if list.len() >= ENTRIES_MAX {
        list.remove(0);
    }
    list.push((now, count));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("a time")
    }

    fn bounds(current: i64) -> Bounds {
        Bounds { min: 1, max: 20, current }
    }

    #[test]
    fn without_a_behaviour_it_doubles_and_waits_before_it_shrinks() {
        let mut history = History::default();
        history.begin(3, at(0));
        let up = history.decide(&Value::Null, 15, bounds(3), at(15));
        assert_eq!(
            (up.replicas, up.able, up.limited.0, up.limited.1),
            (6, READY, true, "ScaleUpLimit")
        );
        let down = history.decide(&Value::Null, 2, bounds(15), at(300));
        assert_eq!((down.replicas, down.able), (15, DOWN_STABILIZED));
        // Five minutes after the high recommendation only the low one counts.
        let down = history.decide(&Value::Null, 2, bounds(15), at(316));
        assert_eq!((down.replicas, down.able), (2, READY));
        assert_eq!(down.limited, (false, WITHIN.0, WITHIN.1));
        let few = history.decide(&Value::Null, 0, bounds(2), at(700));
        assert_eq!((few.replicas, few.limited.1), (1, "TooFewReplicas"));
    }

    #[test]
    fn policies_limit_the_rate_in_both_directions() {
        let behaviour = json!({
            "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
                {"type": "Pods", "value": 2, "periodSeconds": 60},
                {"type": "Percent", "value": 50, "periodSeconds": 60},
            ]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [
                {"type": "Pods", "value": 1, "periodSeconds": 60},
            ]},
        });
        let mut history = History::default();
        history.begin(3, at(0));
        let up = history.decide(&behaviour, 9, bounds(3), at(1));
        // Half of three, rounded up, is as much as two pods.
        assert_eq!((up.replicas, up.limited.1), (5, "ScaleUpLimit"));
        history.changed(&behaviour, 3, 5, at(1));
        assert_eq!(history.decide(&behaviour, 9, bounds(5), at(30)).replicas, 5);
        assert_eq!(history.decide(&behaviour, 9, bounds(5), at(61)).replicas, 7);
        let down = history.decide(&behaviour, 1, bounds(5), at(200));
        assert_eq!((down.replicas, down.limited.1), (4, "ScaleDownLimit"));
        let disabled =
            json!({"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}});
        assert_eq!(history.decide(&disabled, 1, bounds(5), at(201)).replicas, 5);
    }

    #[test]
    fn windows_hold_a_count_between_what_was_recommended() {
        let behaviour = json!({
            "scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {"stabilizationWindowSeconds": 60},
        });
        let mut history = History::default();
        history.begin(5, at(0));
        let up = history.decide(&behaviour, 8, bounds(5), at(15));
        assert_eq!((up.replicas, up.able), (5, UP_STABILIZED));
        let up = history.decide(&behaviour, 8, bounds(5), at(60));
        assert_eq!((up.replicas, up.able), (8, READY));
        let down = history.decide(&behaviour, 2, bounds(8), at(100));
        assert_eq!((down.replicas, down.able), (8, DOWN_STABILIZED));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut history = History::default();
        for second in 0..5000 {
            history.decide(&Value::Null, 1, bounds(1), at(second));
        }
        assert_eq!(history.recommendations.len(), ENTRIES_MAX);
        history.decide(&Value::Null, 1, bounds(1), at(20_000));
        assert_eq!(history.recommendations.len(), 1);
    }
}
