//! Calls that become other expressions when they are read: has() and the loops.
//!
//! upstream: vendor/github.com/google/cel-go/parser/macro.go, ext/comprehensions.go, ext/bindings.go, ext/lists.go,
//! cel/library.go

use std::sync::Arc;

use crate::ast::{Expr, Fold, Kind, Literal};
use crate::issue::Location;
use crate::parser::{NODES_MAX, Nodes};

/// The variable that a loop collects into. It cannot be written.
pub const ACCUMULATOR: &str = "@result";
const OLD_ACCUMULATOR: &str = "__result__";
const UNUSED: &str = "#unused";
const SORT_INPUT: &str = "@__sortBy_input__";

/// Which macros there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Macros {
    /// optMap and optFlatMap.
    pub optional: bool,
    /// Loops with two variables.
    pub two_variables: bool,
    /// sortBy.
    pub sort_by: bool,
    /// cel.bind.
    pub bind: bool,
}

/// A call that may be one.
pub struct Call<'n> {
    /// Where it is.
    pub location: Location,
    /// Its name.
    pub name: &'n str,
    /// Of what.
    pub target: Option<Expr>,
    /// With what.
    pub args: Vec<Expr>,
}

/// What came of it.
pub enum Outcome<'n> {
    /// It is none.
    None(Call<'n>),
    /// What stands in its place.
    Expanded(Expr),
    /// It is used wrongly.
    Wrong(Location, String),
}

type Made = Result<Expr, (Location, String)>;

/// Expands a call if it is a macro.
pub fn expand<'n>(macros: &Macros, nodes: &mut Nodes, call: Call<'n>) -> Outcome<'n> {
    let Some(kind) = find(macros, &call) else { return Outcome::None(call) };
    let Call { location, target, args, .. } = call;
    let mut make = Make { nodes, at: location };
    let made = match (kind, target) {
        (Known::Has, _) => make.has(args),
        (Known::Bind, _) => make.bind(args),
        (_, None) => return Outcome::Wrong(location, "a macro without target".to_owned()),
        (Known::Loop(over, two), Some(target)) => make.looped(over, two, target, args),
        (Known::Optional(flat), Some(target)) => make.optional(flat, target, args),
        (Known::SortBy, Some(target)) => make.sort_by(target, args),
    };
    match made {
        Ok(expr) => Outcome::Expanded(expr),
        Err((at, message)) => Outcome::Wrong(at, message),
    }
}

#[derive(Clone, Copy)]
enum Known {
    Has,
    Bind,
    Loop(Loop, bool),
    Optional(bool),
    SortBy,
}

#[derive(Clone, Copy, PartialEq)]
enum Loop {
    All,
    Exists,
    ExistsOne,
    List,
    Filter,
    Map,
    MapEntry,
}

fn find(macros: &Macros, call: &Call<'_>) -> Option<Known> {
    let count = call.args.len();
    let Some(target) = &call.target else {
        return (call.name == "has" && count == 1).then_some(Known::Has);
    };
    let one = match (call.name, count) {
        ("all", 2) => Some(Loop::All),
        ("exists", 2) => Some(Loop::Exists),
        ("exists_one" | "existsOne", 2) => Some(Loop::ExistsOne),
        ("map", 2 | 3) => Some(Loop::List),
        ("filter", 2) => Some(Loop::Filter),
        _ => None,
    };
    let two = match (call.name, count) {
        ("all", 3) => Some(Loop::All),
        ("exists", 3) => Some(Loop::Exists),
        ("exists_one" | "existsOne", 3) => Some(Loop::ExistsOne),
        ("transformList", 3 | 4) => Some(Loop::List),
        ("transformMap", 3 | 4) => Some(Loop::Map),
        ("transformMapEntry", 3 | 4) => Some(Loop::MapEntry),
        _ => None,
    };
    if let Some(one) = one {
        return Some(Known::Loop(one, false));
    }
    if let Some(two) = two.filter(|_| macros.two_variables) {
        return Some(Known::Loop(two, true));
    }
    let in_cel = matches!(&target.kind, Kind::Ident(name) if &**name == "cel");
    match (call.name, count) {
        ("optMap", 2) if macros.optional => Some(Known::Optional(false)),
        ("optFlatMap", 2) if macros.optional => Some(Known::Optional(true)),
        ("sortBy", 2) if macros.sort_by => Some(Known::SortBy),
        ("bind", 3) if macros.bind && in_cel => Some(Known::Bind),
        _ => None,
    }
}

struct Make<'n> {
    nodes: &'n mut Nodes,
    at: Location,
}

impl Make<'_> {
    fn expr(&mut self, kind: Kind) -> Expr {
        self.nodes.expr(self.at, kind)
    }

    fn ident(&mut self, name: &Arc<str>) -> Expr {
        self.expr(Kind::Ident(name.clone()))
    }

    fn accu(&mut self) -> Expr {
        self.expr(Kind::Ident(ACCUMULATOR.into()))
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.expr(Kind::Literal(literal))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.expr(Kind::Call { target: None, function: function.into(), args })
    }

    fn member(&mut self, target: Expr, function: &str, args: Vec<Expr>) -> Expr {
        self.expr(Kind::Call { target: Some(Box::new(target)), function: function.into(), args })
    }

    fn wrong<T>(&self, at: &Expr, message: impl Into<String>) -> Result<T, (Location, String)> {
        Err((self.nodes.location(at.id), message.into()))
    }

    fn has(&mut self, args: Vec<Expr>) -> Made {
        let Some(arg) = args.into_iter().next() else {
            return Err((self.at, "invalid argument to has() macro".into()));
        };
        match arg.kind {
            Kind::Select { operand, field, test: false } => {
                Ok(self.expr(Kind::Select { operand, field, test: true }))
            }
            _ => self.wrong(&arg, "invalid argument to has() macro"),
        }
    }

    /// A loop that runs zero times: only its result matters, with one more variable.
    fn bound(&mut self, name: Arc<str>, init: Expr, result: Expr) -> Expr {
        let range = self.expr(Kind::List(Vec::new()));
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(&name);
        let fold = Fold {
            range,
            var: UNUSED.into(),
            var2: None,
            accu: name,
            init,
            condition,
            step,
            result,
        };
        self.expr(Kind::Fold(Box::new(fold)))
    }

    fn bind(&mut self, args: Vec<Expr>) -> Made {
        let Ok([name, init, result]) = <[Expr; 3]>::try_from(args) else {
            return Err((self.at, "cel.bind() takes three arguments".into()));
        };
        match name.kind {
            Kind::Ident(name) => Ok(self.bound(name, init, result)),
            _ => self.wrong(&name, "cel.bind() variable names must be simple identifiers"),
        }
    }

    fn optional(&mut self, flat: bool, target: Expr, args: Vec<Expr>) -> Made {
        let Ok([name, transform]) = <[Expr; 2]>::try_from(args) else {
            return Err((self.at, "two arguments are needed".into()));
        };
        let Kind::Ident(variable) = &name.kind else {
            let own = if flat { "optFlatMap" } else { "optMap" };
            return self.wrong(&name, format!("{own}() variable name must be a simple identifier"));
        };
        let mut size = 0;
        target.walk(&mut |_| size += 1);
        if self.nodes.count() + size > NODES_MAX {
            return self.wrong(&target, "expression becomes too large");
        }
        let again = copy(self.nodes, &target);
        let value = self.member(again, "value", Vec::new());
        let has_value = self.member(target, "hasValue", Vec::new());
        let mut then = self.bound(variable.clone(), value, transform);
        if !flat {
            then = self.call("optional.of", vec![then]);
        }
        let none = self.call("optional.none", Vec::new());
        Ok(self.call("_?_:_", vec![has_value, then, none]))
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Made {
        let input: Arc<str> = SORT_INPUT.into();
        if !matches!(
            target.kind,
            Kind::List(_)
                | Kind::Select { .. }
                | Kind::Ident(_)
                | Kind::Fold(_)
                | Kind::Call { .. }
        ) {
            return self.wrong(
                &target,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            );
        }
        let over = self.ident(&input);
        let keys = self.looped(Loop::List, false, over, args)?;
        let list = self.ident(&input);
        let sorted = self.member(list, "@sortByAssociatedKeys", vec![keys]);
        Ok(self.bound(input, target, sorted))
    }

    fn variable(&self, over: Loop, two: bool, arg: &Expr) -> Result<Arc<str>, (Location, String)> {
        let simple = if !two && matches!(over, Loop::List | Loop::Filter) {
            "argument is not an identifier"
        } else {
            "argument must be a simple name"
        };
        match &arg.kind {
            Kind::Ident(name) => Ok(name.clone()),
            _ => self.wrong(arg, simple),
        }
    }

    fn own(&self, name: &str, arg: &Expr) -> Result<(), (Location, String)> {
        if name == ACCUMULATOR || name == OLD_ACCUMULATOR {
            return self.wrong(arg, "iteration variable overwrites accumulator variable");
        }
        Ok(())
    }

    fn looped(&mut self, over: Loop, two: bool, target: Expr, args: Vec<Expr>) -> Made {
        let mut args = args.into_iter();
        let missing = || (self.at, "arguments are missing".to_owned());
        let first = args.next().ok_or_else(missing)?;
        let var = self.variable(over, two, &first)?;
        let mut var2 = None;
        if two {
            let second = args.next().ok_or_else(missing)?;
            let name = self.variable(over, two, &second)?;
            if name == var {
                return self.wrong(&second, format!("duplicate variable name: {var}"));
            }
            self.own(&var, &first)?;
            self.own(&name, &second)?;
            var2 = Some(name);
        } else {
            self.own(&var, &first)?;
        }
        let given = args.next().ok_or_else(missing)?;
        let more = args.next();
        let (init, condition, step, result);
        match over {
            Loop::All => {
                init = self.literal(Literal::Bool(true));
                let accu = self.accu();
                condition = self.call("@not_strictly_false", vec![accu]);
                let accu = self.accu();
                step = self.call("_&&_", vec![accu, given]);
                result = self.accu();
            }
            Loop::Exists => {
                init = self.literal(Literal::Bool(false));
                let accu = self.accu();
                let not = self.call("!_", vec![accu]);
                condition = self.call("@not_strictly_false", vec![not]);
                let accu = self.accu();
                step = self.call("_||_", vec![accu, given]);
                result = self.accu();
            }
            Loop::ExistsOne => {
                init = self.literal(Literal::Int(0));
                condition = self.literal(Literal::Bool(true));
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                let added = self.call("_+_", vec![accu, one]);
                step = self.choose(Some(given), added);
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                result = self.call("_==_", vec![accu, one]);
            }
            Loop::List | Loop::Filter | Loop::Map | Loop::MapEntry => {
                let (filter, transform) = match (over, more) {
                    (Loop::Filter, _) => (Some(given), first),
                    (_, Some(transform)) => (Some(given), transform),
                    (_, None) => (None, given),
                };
                let map = matches!(over, Loop::Map | Loop::MapEntry);
                init = self.expr(if map { Kind::Map(Vec::new()) } else { Kind::List(Vec::new()) });
                condition = self.literal(Literal::Bool(true));
                let accu = self.accu();
                let added = match over {
                    Loop::Map => {
                        let key = self.ident(&var);
                        self.call("cel.@mapInsert", vec![accu, key, transform])
                    }
                    Loop::MapEntry => self.call("cel.@mapInsert", vec![accu, transform]),
                    _ => {
                        let one = self.expr(Kind::List(vec![(transform, false)]));
                        self.call("_+_", vec![accu, one])
                    }
                };
                step = self.choose(filter, added);
                result = self.accu();
            }
        }
        let accu = ACCUMULATOR.into();
        Ok(self.expr(Kind::Fold(Box::new(Fold {
            range: target,
            var,
            var2,
            accu,
            init,
            condition,
            step,
            result,
        }))))
    }

    /// `then` where the filter holds, else what has been collected.
    fn choose(&mut self, filter: Option<Expr>, then: Expr) -> Expr {
        match filter {
            None => then,
            Some(filter) => {
                let accu = self.accu();
                self.call("_?_:_", vec![filter, then, accu])
            }
        }
    }
}

/// The same expression again with numbers of its own.
fn copy(nodes: &mut Nodes, expr: &Expr) -> Expr {
    let mut again = expr.clone();
    renumber(nodes, &mut again);
    again
}

fn renumber(nodes: &mut Nodes, expr: &mut Expr) {
    expr.id = nodes.id(nodes.location(expr.id));
    match &mut expr.kind {
        Kind::Wrong | Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => renumber(nodes, operand),
        Kind::Call { target, args, .. } => {
            if let Some(target) = target {
                renumber(nodes, target);
            }
            args.iter_mut().for_each(|arg| renumber(nodes, arg));
        }
        Kind::List(elements) => {
            elements.iter_mut().for_each(|(element, _)| renumber(nodes, element))
        }
        Kind::Map(entries) => {
            for entry in entries {
                entry.id = nodes.id(nodes.location(entry.id));
                renumber(nodes, &mut entry.key);
                renumber(nodes, &mut entry.value);
            }
        }
        Kind::Struct(_, fields) => {
            for field in fields {
                field.id = nodes.id(nodes.location(field.id));
                renumber(nodes, &mut field.value);
            }
        }
        Kind::Fold(fold) => {
            for part in [
                &mut fold.range,
                &mut fold.init,
                &mut fold.condition,
                &mut fold.step,
                &mut fold.result,
            ] {
                renumber(nodes, part);
            }
        }
    }
}
