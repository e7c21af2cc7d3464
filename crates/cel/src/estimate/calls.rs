//! What calls may cost, by function and overload.
//!
//! upstream: vendor/github.com/google/cel-go/checker/cost.go functionCost, ext/lists.go, ext/sets.go,
//! staging/src/k8s.io/apiserver/pkg/cel/library/cost.go

use super::{Coster, Entries, Estimate, Part};
use crate::ast::{Expr, Kind, Literal};
use crate::cost::{LIST, PATTERN, STRUCT, TRAVERSAL};
use crate::types::Type;

/// A cost, and the size of the result where it is known.
type Told = (Estimate, Option<Estimate>);

const ONE: Estimate = Estimate::fixed(1);

impl<'e> Coster<'e> {
    pub(super) fn overload(
        &mut self,
        expr: &'e Expr,
        function: &str,
        overload: &str,
        target: Option<&Part<'e>>,
        args: &[Part<'e>],
        costs: &[Estimate],
    ) -> Told {
        let sum = costs.iter().fold(Estimate::fixed(0), |sum, cost| sum.add(*cost));
        let told = self
            .listed(overload, target, args)
            .or_else(|| self.library(function, overload, target, args));
        if let Some((cost, size)) = told {
            return (cost.add(sum), size);
        }
        let size = |part: &Part<'_>| part.size.unwrap_or(Estimate::UNKNOWN);
        match (overload, target, args) {
            ("string_format", Some(target), _) => (size(target).factor(TRAVERSAL).add(sum), None),
            ("string_to_bytes", _, [arg]) => {
                let own = size(arg);
                let result = Estimate { min: own.min, max: own.max.wrapping_mul(4) };
                (own.factor(TRAVERSAL).add(sum), Some(result))
            }
            ("bytes_to_string", _, [arg]) => {
                let own = size(arg);
                (own.factor(TRAVERSAL).add(sum), Some(Estimate { min: own.min / 4, max: own.max }))
            }
            ("strings_quote", _, [arg]) => {
                let own = size(arg);
                let result = Estimate {
                    min: own.min.wrapping_add(2),
                    max: own.max.wrapping_mul(2).wrapping_add(2),
                };
                (own.factor(TRAVERSAL).add(sum), Some(result))
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => {
                (size(arg).factor(TRAVERSAL).add(sum), None)
            }
            ("in_list", _, [_, list]) => (size(list).add(sum), None),
            ("matches_string", Some(target), [pattern]) => {
                (matching(size(target), size(pattern)).add(sum), None)
            }
            ("contains_string", Some(target), [part]) => {
                (size(target).factor(TRAVERSAL).times(size(part).factor(TRAVERSAL)).add(sum), None)
            }
            ("logical_or" | "logical_and", _, _) => match costs {
                [left, right] => (Estimate { min: left.min, max: left.add(*right).max }, None),
                _ => (sum, None),
            },
            ("conditional", _, [_, then, otherwise]) => {
                let result = size(then).union(size(otherwise));
                let entries = self.both(then, otherwise);
                self.set_entries(expr, entries);
                (costs[0].add(costs[1].union(costs[2])), Some(result))
            }
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let result = size(left).add(size(right));
                let entries = self.both(left, right);
                self.set_entries(expr, entries);
                let cost = if overload == "add_list" { ONE } else { result.factor(TRAVERSAL) };
                (cost.add(sum), Some(result))
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [left, right],
            ) => {
                let max = size(left).max.min(size(right).max);
                (Estimate { min: u64::from(max > 0), max }.factor(TRAVERSAL).add(sum), None)
            }
            _ => (ONE.add(sum), None),
        }
    }

    fn both(&self, one: &Part<'e>, two: &Part<'e>) -> Option<Entries> {
        Entries::union(self.entries_of(one.expr?), self.entries_of(two.expr?))
    }

    /// The size of a part, also where only its path tells it.
    fn told(&self, part: &Part<'_>) -> Estimate {
        part.size.or_else(|| self.declared(&part.path)).unwrap_or(Estimate::UNKNOWN)
    }

    /// The elements of a list.
    fn elements(&self, list: &Part<'e>) -> Option<Part<'e>> {
        let t = list.t.parameters().into_iter().next()?;
        let mut path = list.path.clone();
        if !path.is_empty() {
            path.push("@items".into());
        }
        Some(Part { expr: None, path, t, size: None })
    }

    /// Functions of lists and sets, by their overloads.
    fn listed(&self, overload: &str, target: Option<&Part<'e>>, args: &[Part<'e>]) -> Option<Told> {
        let listing = |factor: f64, size: Estimate| {
            Some((size.factor(factor).add(Estimate::fixed(1 + LIST)), Some(size)))
        };
        let sorting = |part: &Part<'e>| {
            let size = self.told(part);
            let texts = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
            listing(if texts { 2.0 + TRAVERSAL } else { 2.0 }, size.times(size))
        };
        match (overload, target, args) {
            ("list_slice", Some(target), [start, end]) => {
                let most = self.told(target).max;
                listing(1.0, Estimate::fixed(whole(end, most).wrapping_sub(whole(start, 0))))
            }
            ("list_flatten" | "list_flatten_int", Some(target), [] | [_]) => {
                let depth = args.first().map_or(1, |depth| whole(depth, u64::MAX));
                listing(depth as f64, self.told(target))
            }
            ("lists_range", None, [count]) => listing(1.0, Estimate::fixed(whole(count, u64::MAX))),
            ("list_reverse", Some(target), []) => listing(1.0, self.told(target)),
            ("list_distinct", Some(target), []) => {
                let size = self.told(target);
                listing(2.0, size.times(size))
            }
            (_, Some(target), [])
                if overload.starts_with("list_") && overload.ends_with("_sort") =>
            {
                sorting(target)
            }
            (_, Some(_), [keys]) if overload.ends_with("_sortByAssociatedKeys") => sorting(keys),
            (
                "list_sets_contains_list"
                | "list_sets_intersects_list"
                | "list_sets_equivalent_list",
                _,
                [one, two],
            ) => {
                let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
                Some((self.told(one).times(self.told(two)).factor(factor).add(ONE), None))
            }
            _ => None,
        }
    }

    /// Functions of Kubernetes, by their names.
    fn library(
        &self,
        function: &str,
        overload: &str,
        target: Option<&Part<'e>>,
        args: &[Part<'e>],
    ) -> Option<Told> {
        let first = || args.first().map(|arg| self.told(arg));
        let parsed = |factor: f64| first().map(|size| (size.factor(factor * TRAVERSAL), None));
        match function {
            "check" => Some((Estimate::fixed(350_000), None)),
            "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => Some((ONE, None)),
            "fieldSelector" | "labelSelector" if args.len() == 1 => {
                let size = first()?;
                let requirements = size.factor(0.5).factor((LIST + STRUCT) as f64);
                Some((Estimate::fixed(LIST).add(size.factor(TRAVERSAL)).add(requirements), None))
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let target = target?;
                let size = self.told(target);
                Some(match self.elements(target) {
                    Some(elements) => {
                        let mut each = ONE;
                        if matches!(elements.t, Type::String | Type::Bytes) {
                            each = each.add(self.told(&elements).factor(TRAVERSAL));
                        }
                        (size.times(each), None)
                    }
                    None => (size.factor(TRAVERSAL), None),
                })
            }
            "url" | "jsonpatch.escapeKey" if args.len() == 1 => {
                let size = first()?;
                Some((size.factor(TRAVERSAL), Some(size)))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.told(target?);
                Some((size.factor(TRAVERSAL), Some(size)))
            }
            "replace" if args.len() >= 2 => {
                let size = self.told(target?);
                let result = replaced(size, self.told(&args[0]), self.told(&args[1]));
                Some((size.factor(2.0 * TRAVERSAL), Some(result)))
            }
            "split" => {
                let size = self.told(target?);
                let max = match args.get(1) {
                    Some(most) => match most.expr.map(|expr| &expr.kind) {
                        Some(Kind::Literal(Literal::Int(most))) => *most as u64,
                        _ => size.max,
                    },
                    None => size.max,
                };
                Some((size.factor(2.0 * TRAVERSAL), Some(Estimate { min: 0, max })))
            }
            "join" => {
                let target = target?;
                let count = self.told(target);
                let mut size = Estimate::fixed(0);
                if let Some(elements) = self.elements(target) {
                    size = count.times(self.told(&elements));
                }
                if let Some(separator) = first() {
                    let between = Estimate {
                        min: count.min.saturating_sub(1),
                        max: count.max.saturating_sub(1),
                    };
                    size = size.add(separator.times(between));
                }
                Some((size.factor(TRAVERSAL), Some(size)))
            }
            "find" | "findAll" => {
                let size = self.told(target?);
                let result = Estimate { min: 0, max: size.max };
                Some((matching(size, first()?), Some(result)))
            }
            "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                parsed(1.0)
            }
            "ip" if overload == "cidr_ip" => Some((ONE, None)),
            "ip" => parsed(1.0),
            "ip.isCanonical" => parsed(2.0),
            "containsIP" | "containsCIDR" => {
                let size = Estimate { min: 4, max: 16 };
                let mut cost = size.add(size).factor(TRAVERSAL);
                if function == "containsCIDR" {
                    cost = cost.add(size.factor(TRAVERSAL)).add(ONE);
                }
                if matches!(overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
                    cost = cost.add(first()?.factor(TRAVERSAL));
                }
                Some((cost, None))
            }
            "validate" => Some((first()?.factor(TRAVERSAL).factor(128.0 * PATTERN), None)),
            "_==_" => match args {
                [one, two] if one.t == two.t => match one.t.name() {
                    "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => {
                        Some((ONE, None))
                    }
                    name if name.starts_with("kubernetes.authorization.") => Some((ONE, None)),
                    "kubernetes.NamedFormat" => {
                        Some((Estimate { min: 1, max: 64 }.factor(TRAVERSAL), None))
                    }
                    "kubernetes.URL" => {
                        let max = two.size.map_or(1, |size| size.max);
                        Some((Estimate { min: 1, max }.factor(TRAVERSAL), None))
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

fn matching(text: Estimate, pattern: Estimate) -> Estimate {
    text.add(ONE).factor(TRAVERSAL).times(pattern.factor(PATTERN))
}

/// A constant whole number.
fn whole(part: &Part<'_>, otherwise: u64) -> u64 {
    match part.expr.map(|expr| &expr.kind) {
        Some(Kind::Literal(Literal::Int(number))) => u64::try_from(*number).unwrap_or(0),
        _ => otherwise,
    }
}

/// How long a text becomes when parts of it are replaced.
fn replaced(text: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let (mut count, mut kept) = (Estimate::fixed(0), Estimate::fixed(0));
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = (text.max as f64 / old.min as f64).ceil() as u64;
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = (text.min as f64 / old.max as f64).ceil() as u64;
    }
    count.times(new).add(kept)
}
