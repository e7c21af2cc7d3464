//! What is wrong with an expression although its types fit: constants that cannot be read, literals of mixed types.
//!
//! upstream: vendor/github.com/google/cel-go/cel/validator.go

use crate::ast::{Expr, Kind, Literal};
use crate::checker::Checked;
use crate::functions::{self, Context};
use crate::issue::{Issues, Location};
use crate::types::Type;
use crate::value::Value;

/// Looks over a checked expression.
pub fn validate(checked: &Checked, source: &str) -> Result<(), Issues> {
    let mut issues = Issues::new(source);
    literals(checked, &mut issues);
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
