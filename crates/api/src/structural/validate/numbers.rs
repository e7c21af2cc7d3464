//! Rules of numbers.
//!
//! upstream: k8s.io/kube-openapi/pkg/validation/validate/validator.go numberValidator, values.go

use serde_json::{Number, Value};

use super::found::Rule;
use super::{Types, Values, Walk};
use crate::patch::gotext;
use crate::structural::{Kind, Node};

/// A number as Go decodes it.
#[derive(Clone, Copy)]
enum Decoded {
    Int(i64),
    Float(f64),
}

impl Decoded {
    fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Float(number) => gotext::plain(&number.into()),
        }
    }
}

/// Whether a float is a whole number that JSON can hold exactly.
///
/// upstream: github.com/go-openapi/swag IsFloat64AJSONInteger
pub(super) fn is_whole(number: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    const EPSILON: f64 = 1e-9;
    if !number.is_finite() || number.abs() > LARGEST {
        return false;
    }
    let cut = number.trunc();
    if number == cut {
        return true;
    }
    // Go compares with the cut positive number, so negative ones have to be whole.
    let cut = if number < 0.0 { return false } else { cut };
    let difference = (number - cut).abs();
    cut != 0.0 && difference / (number.abs() + cut.abs()) < EPSILON
}

/// Go's conversion of a float: it cuts off.
fn cut(number: f64) -> i64 {
    number as i64
}

/// Whether a number is of a type and format; the message names them.
fn out_of_range(number: Decoded, node: &Node, format: &str) -> Option<String> {
    let kind = match node.kind {
        Kind::Integer => "integer",
        Kind::Number => "number",
        _ => return None,
    };
    let fits = match (kind, format) {
        ("integer", format) => {
            let whole = match number {
                Decoded::Int(number) => Some(number),
                Decoded::Float(number) => {
                    let inside = number.fract() == 0.0 && number.abs() < 9.2e18;
                    inside.then(|| cut(number))
                }
            };
            whole.is_some_and(|number| format != "int32" || i32::try_from(number).is_ok())
        }
        (_, "float") => (number.float() as f32).is_finite(),
        _ => true,
    };
    let of = match format {
        "" => "(default format)".to_owned(),
        format => format!("with format {format}"),
    };
    (!fits).then(|| format!("value must be of type {kind} {of}"))
}

impl Walk {
    pub(super) fn number(&mut self, node: &Node, values: &Values, number: &Number) {
        let shown = Value::Number(number.clone());
        let number = match number.as_i64() {
            Some(number) => Decoded::Int(number),
            None => Decoded::Float(number.as_f64().unwrap_or(0.0)),
        };
        let one = matches!(node.types(self.reading), Types::One(_));
        let format = match (one, &node.kind, values.format.as_str()) {
            (true, Kind::Integer, format @ ("int32" | "int64"))
            | (true, Kind::Number, format @ ("float" | "double")) => format,
            _ => "",
        };
        let untyped = Node::default();
        let node = if one { node } else { &untyped };
        let ranged = |walk: &mut Self, number: Decoded, what: &str| {
            let Some(why) = out_of_range(number, node, format) else { return true };
            let message = format!("{what} {why} in {}", walk.path);
            walk.tell(Rule::Whole, message);
            false
        };
        ranged(self, number, "Checked");
        if let Some(factor) = values.multiple_of {
            let typed = ranged(self, Decoded::Float(factor), "MultipleOf");
            self.multiple(
                if typed { number } else { Decoded::Float(number.float()) },
                factor,
                &shown,
            );
        }
        // Upstream adds what it finds about the lower bound first.
        for (bound, what, upper, exclusive) in [
            (values.minimum, "Minimum boundary", false, values.exclusive_minimum),
            (values.maximum, "Maximum boundary", true, values.exclusive_maximum),
        ] {
            let Some(bound) = bound else { continue };
            let typed = ranged(self, Decoded::Float(bound), what);
            let number = if typed { number } else { Decoded::Float(number.float()) };
            let (beyond, bound) = match number {
                Decoded::Int(number) => {
                    let bound = cut(bound);
                    let order = if upper { number.cmp(&bound) } else { bound.cmp(&number) };
                    (order.is_gt() || (exclusive && order.is_eq()), bound.to_string())
                }
                Decoded::Float(number) => {
                    let beyond = if upper { number > bound } else { number < bound };
                    let at = number == bound;
                    (beyond || (exclusive && at), Decoded::Float(bound).text())
                }
            };
            if beyond {
                let than = match (upper, exclusive) {
                    (true, false) => "less than or equal to",
                    (true, true) => "less than",
                    (false, false) => "greater than or equal to",
                    (false, true) => "greater than",
                };
                let message = format!("{} in body should be {than} {bound}", self.path);
                self.tell(Rule::Other(shown.clone()), message);
            }
        }
        self.matched += 1;
    }

    fn multiple(&mut self, number: Decoded, factor: f64, shown: &Value) {
        let (multiple, factor) = match number {
            Decoded::Int(number) => {
                let factor = cut(factor);
                let multiple = (factor > 0).then(|| number.wrapping_rem(factor) == 0);
                (multiple, Decoded::Int(factor))
            }
            Decoded::Float(number) => {
                let times = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
                ((factor > 0.0).then(|| is_whole(times)), Decoded::Float(factor))
            }
        };
        let text = factor.text();
        match multiple {
            Some(true) => {}
            Some(false) => {
                let message = format!("{} in body should be a multiple of {text}", self.path);
                self.tell(Rule::Other(shown.clone()), message);
            }
            None => {
                let path = &self.path;
                let message =
                    format!("factor MultipleOf declared for {path} must be positive: {text}");
                let factor = match factor {
                    Decoded::Int(factor) => factor.into(),
                    Decoded::Float(factor) => factor.into(),
                };
                self.tell(Rule::Other(factor), message);
            }
        }
    }
}
