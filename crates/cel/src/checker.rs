//! Finds the type of every part of an expression, and which functions it calls.
//!
//! upstream: vendor/github.com/google/cel-go/checker/checker.go

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Ast, Entry, Expr, Fold, Id, Kind, Literal};
use crate::decls::{Functions, Overload};
use crate::issue::{Issues, Location};
use crate::types::Type;
use crate::unify::{Mapping, most_general};

/// Tells the checker of structs.
pub trait Types: Send + Sync {
    /// Whether there is a struct of this name.
    fn known(&self, name: &str) -> bool;
    /// The type of a field of a struct.
    fn field(&self, name: &str, field: &str) -> Option<Type>;
}

/// What is known of a checked expression.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The expression, with names resolved.
    pub ast: Ast,
    /// The type of each node.
    pub types: Vec<Option<Type>>,
    /// The overloads that each call may mean.
    pub overloads: Vec<Vec<Arc<str>>>,
}

impl Checked {
    /// The type of a node.
    pub fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id).and_then(Option::as_ref).unwrap_or(&Type::Dyn)
    }
}

/// What names mean where an expression stands.
pub struct Scope<'e> {
    /// The functions.
    pub functions: &'e Functions,
    /// The variables.
    pub variables: &'e dyn Fn(&str) -> Option<Type>,
    /// The structs.
    pub types: &'e dyn Types,
}

/// Checks an expression.
pub fn check(mut ast: Ast, source: &str, scope: &Scope<'_>) -> Result<Checked, Issues> {
    let count = ast.locations.len();
    let mut checker = Checker {
        scope,
        locations: &ast.locations,
        locals: Vec::new(),
        mapping: Mapping::default(),
        types: vec![None; count],
        overloads: vec![Vec::new(); count],
        issues: Issues::new(source),
        fresh: 0,
        references: BTreeMap::new(),
    };
    checker.check(&mut ast.root);
    let Checker { mapping, mut types, overloads, mut issues, .. } = checker;
    if issues.count() == 0 {
        types.iter_mut().flatten().for_each(|t| *t = mapping.substitute(t, true));
    }
    if mapping.is_exhausted() {
        issues = Issues::new(source);
        issues.report(Location::NONE, "the types of the expression are too large".to_owned());
    }
    issues.finish()?;
    Ok(Checked { ast, types, overloads })
}

struct Checker<'e> {
    scope: &'e Scope<'e>,
    locations: &'e [Location],
    locals: Vec<(Arc<str>, Type)>,
    mapping: Mapping,
    types: Vec<Option<Type>>,
    overloads: Vec<Vec<Arc<str>>>,
    issues: Issues,
    fresh: usize,
    references: BTreeMap<String, Option<Type>>,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        let location = self.locations.get(id).copied().unwrap_or(Location::NONE);
        self.issues.report(location, message);
    }

    fn set(&mut self, id: Id, t: Type) {
        self.types[id] = Some(t);
    }

    fn get(&self, expr: &Expr) -> Type {
        self.types[expr.id].clone().unwrap_or(Type::Error)
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
        self.set(id, Type::Error);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, actual: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{actual}'"));
    }

    fn fresh(&mut self) -> Type {
        self.fresh += 1;
        Type::Param(format!("_var{}", self.fresh - 1).into())
    }

    /// The type of a variable, constant or name of a type.
    fn lookup(&mut self, name: &str) -> Option<Type> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some((_, t)) = self.locals.iter().rev().find(|(local, _)| &**local == name) {
            return Some(t.clone());
        }
        if let Some(known) = self.references.get(name) {
            return known.clone();
        }
        let found = (self.scope.variables)(name)
            .or_else(|| {
                self.scope.types.known(name).then(|| Type::Type(Some(Arc::new(Type::object(name)))))
            })
            .or_else(|| builtin(name).map(|t| Type::Type(Some(Arc::new(t)))));
        self.references.insert(name.to_owned(), found.clone());
        found
    }

    fn check(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            Kind::Wrong => self.set(id, Type::Error),
            Kind::Literal(literal) => self.set(id, literal_type(literal)),
            Kind::Ident(_) => self.ident(expr),
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List(elements) => self.list(id, elements),
            Kind::Map(entries) => self.map(id, entries),
            Kind::Struct(name, fields) => self.create(id, name, fields),
            Kind::Fold(fold) => self.fold(id, fold),
        }
    }

    fn ident(&mut self, expr: &mut Expr) {
        let Kind::Ident(name) = &mut expr.kind else { return };
        match self.lookup(name) {
            Some(t) => {
                if let Some(plain) = name.strip_prefix('.') {
                    *name = plain.into();
                }
                self.set(expr.id, t);
            }
            None => {
                let name = name.clone();
                self.undeclared(expr.id, &name);
            }
        }
    }

    fn select(&mut self, expr: &mut Expr) {
        if let Some(name) = expr.qualified_name()
            && let Some(t) = self.lookup(&name)
        {
            let plain = name.strip_prefix('.').unwrap_or(&name);
            expr.kind = Kind::Ident(plain.into());
            self.set(expr.id, t);
            return;
        }
        let id = expr.id;
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        let result = self.field(id, operand, &field.clone(), false);
        let t = if *test { Type::Bool } else { self.mapping.substitute(&result, false) };
        self.set(id, t);
    }

    fn field(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.mapping.substitute(&self.get(operand), false);
        let unwrapped = operand_type.unwrap_optional();
        let target = unwrapped.unwrap_or(&operand_type);
        let result = match target {
            Type::Map(_, value) => (**value).clone(),
            Type::Struct(name) => self.struct_field(id, name, field).unwrap_or(Type::Error),
            Type::Param(_) => {
                self.mapping.fits(&Type::Dyn, target);
                Type::Dyn
            }
            _ => {
                if !target.is_dyn_or_error() {
                    self.report(id, format!("type '{target}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if unwrapped.is_some() || optional { Type::optional(result) } else { result }
    }

    fn struct_field(&mut self, id: Id, name: &str, field: &str) -> Option<Type> {
        if !self.scope.types.known(name) {
            self.report(id, format!("unexpected failed resolution of '{name}'"));
            return None;
        }
        let found = self.scope.types.field(name, field);
        if found.is_none() {
            self.report(id, format!("undefined field '{field}'"));
        }
        found
    }

    fn call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Call { target, function, args } = &mut expr.kind else { return };
        if &**function == "_?._" && target.is_none() && args.len() == 2 {
            return self.optional_select(id, args);
        }
        for arg in args.iter_mut() {
            self.check(arg);
        }
        let functions = self.scope.functions;
        let Some(receiver) = target else {
            let plain = function.strip_prefix('.').unwrap_or(function);
            match functions.get(plain) {
                None => {
                    let name = function.clone();
                    self.undeclared(id, &name);
                }
                Some((name, overloads)) => {
                    *function = name.clone();
                    self.resolve(id, name, overloads, None, args);
                }
            }
            return;
        };
        if let Some(prefix) = receiver.qualified_name() {
            let full = format!("{prefix}.{function}");
            if let Some((name, overloads)) = functions.get(full.strip_prefix('.').unwrap_or(&full))
            {
                *function = name.clone();
                *target = None;
                self.resolve(id, name, overloads, None, args);
                return;
            }
        }
        self.check(receiver);
        match functions.get(function) {
            Some((name, overloads)) => {
                let receiver = self.get(receiver);
                self.resolve(id, name, overloads, Some(receiver), args);
            }
            None => {
                let name = function.clone();
                self.undeclared(id, &name);
            }
        }
    }

    fn optional_select(&mut self, id: Id, args: &mut [Expr]) {
        let [operand, field] = args else { return };
        let Kind::Literal(Literal::String(name)) = &field.kind else {
            self.report(field.id, "unsupported optional field selection".to_owned());
            return;
        };
        let name = name.clone();
        self.set(field.id, Type::String);
        let result = self.field(id, operand, &name, true);
        let t = self.mapping.substitute(&result, false);
        self.set(id, t);
        self.overloads[id] = vec!["select_optional_field".into()];
    }

    fn resolve(
        &mut self,
        id: Id,
        name: &str,
        overloads: &[Overload],
        receiver: Option<Type>,
        args: &[Expr],
    ) {
        let member = receiver.is_some();
        let mut given: Vec<Type> =
            receiver.into_iter().chain(args.iter().map(|arg| self.get(arg))).collect();
        if matches!(name, "_&&_" | "_||_") {
            let mut wrong = false;
            for (arg, t) in args.iter().zip(&given) {
                if !self.mapping.fits(t, &Type::Bool) {
                    self.mismatch(arg.id, &Type::Bool, t);
                    wrong = true;
                }
            }
            self.set(id, if wrong { Type::Error } else { Type::Bool });
            self.overloads[id] =
                overloads.first().map(|overload| overload.id.clone()).into_iter().collect();
            return;
        }
        let (mut result, mut found): (Option<Type>, Vec<Arc<str>>) = (None, Vec::new());
        for overload in overloads.iter().filter(|overload| overload.member == member) {
            let mut own = Mapping::default();
            for parameter in &overload.parameters {
                let fresh = self.fresh();
                own.bind(parameter, fresh);
            }
            let wanted: Vec<Type> =
                overload.args.iter().map(|arg| own.substitute(arg, false)).collect();
            if !self.mapping.fits_all(&given, &wanted) {
                continue;
            }
            found.push(overload.id.clone());
            let gives = self.mapping.substitute(&own.substitute(&overload.result, false), false);
            result = Some(match result {
                Some(before) if !before.is_dyn() && before != gives => Type::Dyn,
                Some(before) => before,
                None => gives,
            });
        }
        match result {
            Some(t) => {
                self.set(id, t);
                self.overloads[id] = found;
            }
            None => {
                for t in &mut given {
                    *t = self.mapping.substitute(t, true);
                }
                let names: Vec<String> = given.iter().map(Type::to_string).collect();
                let signature = match names.split_first() {
                    Some((first, rest)) if member => format!("{first}.({})", rest.join(", ")),
                    _ => format!("({})", names.join(", ")),
                };
                self.report(
                    id,
                    format!("found no matching overload for '{name}' applied to '{signature}'"),
                );
                self.set(id, Type::Error);
            }
        }
    }

    fn unwrapped(&mut self, id: Id, t: Type, optional: bool) -> Type {
        if !optional {
            return t;
        }
        if let Some(of) = t.unwrap_optional() {
            return of.clone();
        }
        if !t.is_dyn() {
            self.mismatch(id, &Type::optional(t.clone()), &t);
        }
        t
    }

    /// The type of elements of which one more is seen. Mixed ones are looked for later, where they are not allowed.
    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.mapping.fits(&previous, &current) {
            return most_general(&previous, &current).clone();
        }
        Type::Dyn
    }

    fn list(&mut self, id: Id, elements: &mut [(Expr, bool)]) {
        let mut of = None;
        for (element, optional) in elements.iter_mut() {
            self.check(element);
            let t = self.get(element);
            let t = self.unwrapped(element.id, t, *optional);
            of = Some(self.join(of, t));
        }
        let of = of.unwrap_or_else(|| self.fresh());
        self.set(id, Type::list(of));
    }

    fn map(&mut self, id: Id, entries: &mut [Entry<Expr>]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries.iter_mut() {
            self.check(&mut entry.key);
            let t = self.get(&entry.key);
            keys = Some(self.join(keys, t));
            self.check(&mut entry.value);
            let t = self.get(&entry.value);
            let t = self.unwrapped(entry.value.id, t, entry.optional);
            values = Some(self.join(values, t));
        }
        let key = keys.unwrap_or_else(|| self.fresh());
        let value = values.unwrap_or_else(|| self.fresh());
        self.set(id, Type::map(key, value));
    }

    fn create(&mut self, id: Id, name: &mut Arc<str>, fields: &mut [Entry<Arc<str>>]) {
        let Some(t) = self.lookup(name) else {
            let name = name.clone();
            return self.undeclared(id, &name);
        };
        if let Some(plain) = name.strip_prefix('.') {
            *name = plain.into();
        }
        let mut result = Type::Error;
        match &t {
            Type::Error => {}
            Type::Type(Some(of)) => match &**of {
                Type::Struct(_) => result = (**of).clone(),
                other => self.report(id, format!("'{}' is not a message type", other.name())),
            },
            other => self.report(id, format!("'{}' is not a type", other.name())),
        }
        self.set(id, result);
        for field in fields.iter_mut() {
            self.check(&mut field.value);
            let wanted =
                self.struct_field(field.id, &name.clone(), &field.key).unwrap_or(Type::Error);
            let t = self.get(&field.value);
            let t = self.unwrapped(field.value.id, t, field.optional);
            if !self.mapping.fits(&wanted, &t) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{t}'",
                    field.key
                );
                self.report(field.id, message);
            }
        }
    }

    fn fold(&mut self, id: Id, fold: &mut Fold) {
        self.check(&mut fold.range);
        self.check(&mut fold.init);
        let range = self.mapping.substitute(&self.get(&fold.range), false);
        let accu = self.get(&fold.init);
        let before = self.locals.len();
        self.locals.push((fold.accu.clone(), accu.clone()));
        let two = fold.var2.is_some();
        let (first, second) = match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.fits(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.locals.push((fold.var.clone(), first));
        if let Some(var2) = &fold.var2 {
            self.locals.push((var2.clone(), second));
        }
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &accu);
        self.locals.truncate(before + 1);
        self.check(&mut fold.result);
        self.locals.truncate(before);
        let t = self.mapping.substitute(&self.get(&fold.result), false);
        self.set(id, t);
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let t = self.get(expr);
        if !self.mapping.fits(wanted, &t) {
            self.mismatch(expr.id, wanted, &t);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The types that have names everywhere.
pub(crate) fn builtin(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "int" => Type::Int,
        "list" => Type::list(Type::Param("A".into())),
        "map" => Type::map(Type::Param("A".into()), Type::Param("B".into())),
        "null_type" => Type::Null,
        "string" => Type::String,
        "type" => Type::Type(None),
        "uint" => Type::Uint,
        "optional_type" => Type::optional(Type::Param("V".into())),
        "net.IP" | "net.CIDR" => Type::Opaque(name.into(), Arc::new([])),
        _ => return None,
    })
}
