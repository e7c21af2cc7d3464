//! What is wrong with an expression although its types fit: constants that cannot be read, literals of mixed types.
//!
//! upstream: vendor/github.com/google/cel-go/cel/validator.go

use crate::ast::{Expr, Id, Kind, Literal};
use crate::checker::Checked;
use crate::functions::format_text::{self, Clause};
use crate::functions::{self, Context};
use crate::issue::{Issues, Location};
use crate::types::Type;
use crate::value::Value;

/// Looks over a checked expression.
pub fn validate(checked: &Checked, source: &str) -> Result<(), Issues> {
    let mut issues = Issues::new(source);
    literals(checked, &mut issues);
    formats(checked, &mut issues);
    mixed(checked, &checked.ast.root, &mut issues);
    issues.finish()
}

fn location(checked: &Checked, expr: &Expr) -> Location {
    checked.ast.locations.get(expr.id).copied().unwrap_or(Location::NONE)
}

/// Durations, times and patterns that are constants.
fn literals(checked: &Checked, issues: &mut Issues) {
    checked.ast.root.walk(&mut |expr| {
        let Kind::Call { function, args, .. } = &expr.kind else { return };
        let Some(first) = args.first() else { return };
        let Kind::Literal(literal) = &first.kind else { return };
        let good = match (&**function, literal) {
            ("duration" | "timestamp", Literal::String(text)) => {
                let value = Value::text(text.clone());
                functions::find(function)
                    .is_none_or(|known| known(&Context::default(), &[value]).is_ok())
            }
            ("duration" | "timestamp", Literal::Int(number)) => functions::find(function)
                .is_none_or(|known| known(&Context::default(), &[Value::Int(*number)]).is_ok()),
            ("matches", Literal::String(pattern)) => longshore_api::pattern::check(pattern).is_ok(),
            _ => true,
        };
        if !good {
            issues.report(location(checked, first), format!("invalid {function} argument"));
        }
    });
}

/// What is wrong within a constant text with places, and where.
struct Misplaced(Option<Id>, String);

impl From<String> for Misplaced {
    fn from(message: String) -> Self {
        Self(None, message)
    }
}

/// Constant texts with places whose values are of the wrong types or not as many.
///
/// upstream: vendor/github.com/google/cel-go/ext/formatting.go stringFormatValidator
fn formats(checked: &Checked, issues: &mut Issues) {
    checked.ast.root.walk(&mut |expr| {
        let Kind::Call { target: Some(target), function, args } = &expr.kind else { return };
        let (Kind::Literal(Literal::String(text)), [list], "format") = (&target.kind, args.as_slice(), &**function)
        else {
            return;
        };
        let Kind::List(elements) = &list.kind else { return };
        let told = format_text::interpolate(text, elements.len(), &mut |clause, index| {
            let Some((element, _)) = elements.get(index) else { return Ok(String::new()) };
            match misfit(checked, clause, element) {
                None => Ok(String::new()),
                Some(wrong) => {
                    let given = clause.wrong(checked.type_of(wrong).name());
                    Err(Misplaced(Some(wrong.id), format!("error during formatting: {given}")))
                }
            }
        });
        match told {
            Err(Misplaced(id, message)) => {
                let place = checked.ast.locations.get(id.unwrap_or(expr.id)).copied();
                issues.report(place.unwrap_or(Location::NONE), message);
            }
            Ok((_, used)) if used < elements.len() => {
                let count = elements.len();
                issues.report(
                    location(checked, expr),
                    format!("too many arguments supplied to string.format (expected {used}, got {count})"),
                );
            }
            Ok(_) => {}
        }
    });
}

/// The part of a value that does not belong in a place.
fn misfit<'e>(checked: &Checked, clause: Clause, element: &'e Expr) -> Option<&'e Expr> {
    let t = checked.type_of(element);
    let fits = match (clause, t) {
        (_, Type::Dyn) | (Clause::Binary, Type::Bool) => true,
        (Clause::Text, Type::Struct(_) | Type::Opaque(..) | Type::Error | Type::Param(_)) => false,
        (Clause::Text, _) => {
            return match &element.kind {
                Kind::List(elements) => {
                    elements.iter().find_map(|(inner, _)| misfit(checked, clause, inner))
                }
                Kind::Map(entries) => entries.iter().find_map(|entry| {
                    misfit(checked, clause, &entry.key)
                        .or_else(|| misfit(checked, clause, &entry.value))
                }),
                _ => None,
            };
        }
        (
            Clause::Decimal | Clause::Binary | Clause::Octal | Clause::Hex(_),
            Type::Int | Type::Uint,
        ) => true,
        (Clause::Hex(_), Type::String | Type::Bytes) => true,
        (Clause::Fixed(_) | Clause::Scientific, Type::Double | Type::String) => true,
        _ => false,
    };
    (!fits).then_some(element)
}

/// Lists and maps whose elements are of different types, except where a text is formatted.
fn mixed(checked: &Checked, expr: &Expr, issues: &mut Issues) {
    let mut told = |expr: &Expr, expected: &Type, actual: &Type| {
        issues.report(
            location(checked, expr),
            format!("expected type '{expected}' but found '{actual}'"),
        );
    };
    match &expr.kind {
        Kind::Call { function, .. } if &**function == "format" => return,
        Kind::List(elements) => {
            let mut of: Option<Type> = None;
            for (element, optional) in elements {
                let t = inner(checked.type_of(element), *optional);
                match &of {
                    None => of = Some(t),
                    Some(expected) if *expected != t => {
                        told(element, expected, &t);
                        break;
                    }
                    Some(_) => {}
                }
            }
        }
        Kind::Map(entries) => {
            let mut of: Option<(Type, Type)> = None;
            for entry in entries {
                let key = checked.type_of(&entry.key).clone();
                let value = inner(checked.type_of(&entry.value), entry.optional);
                match &of {
                    None => of = Some((key, value)),
                    Some((wanted_key, wanted_value)) => {
                        if *wanted_key != key {
                            told(&entry.key, wanted_key, &key);
                        }
                        if *wanted_value != value {
                            told(&entry.value, wanted_value, &value);
                        }
                    }
                }
            }
        }
        _ => {}
    }
    children(expr, &mut |child| mixed(checked, child, issues));
}

fn inner(t: &Type, optional: bool) -> Type {
    match t.unwrap_optional() {
        Some(of) if optional => of.clone(),
        _ => t.clone(),
    }
}

fn children<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    match &expr.kind {
        Kind::Wrong | Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => visit(operand),
        Kind::Call { target, args, .. } => {
            target.iter().map(|target| &**target).chain(args).for_each(visit)
        }
        Kind::List(elements) => elements.iter().for_each(|(element, _)| visit(element)),
        Kind::Map(entries) => entries.iter().for_each(|entry| {
            visit(&entry.key);
            visit(&entry.value);
        }),
        Kind::Struct(_, fields) => fields.iter().for_each(|field| visit(&field.value)),
        Kind::Fold(fold) => {
            for part in [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result] {
                visit(part);
            }
        }
    }
}
