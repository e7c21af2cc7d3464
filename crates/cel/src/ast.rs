//! Expressions as trees.

use std::sync::Arc;

use crate::issue::Location;

/// A constant that is written in an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// null
    Null,
    /// true, false
    Bool(bool),
    /// 1
    Int(i64),
    /// 1u
    Uint(u64),
    /// 1.0
    Double(f64),
    /// "a"
    String(Arc<str>),
    /// b"a"
    Bytes(Arc<[u8]>),
}

/// Which node of a tree: types and places are kept beside it.
pub type Id = usize;

/// A node.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Its number in this tree.
    pub id: Id,
    /// How deep the tree below it is, as the limit of nesting counts.
    pub depth: u16,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Where a mistake was.
    Wrong,
    /// A constant.
    Literal(Literal),
    /// A name.
    Ident(Arc<str>),
    /// A field, or with `test` whether it is there.
    Select {
        /// Of what.
        operand: Box<Expr>,
        /// Which.
        field: Arc<str>,
        /// From has().
        test: bool,
    },
    /// A function or operator.
    Call {
        /// Of what, for `a.f()`.
        target: Option<Box<Expr>>,
        /// Its name.
        function: Arc<str>,
        /// With what.
        args: Vec<Expr>,
    },
    /// A list; the flags tell elements that may be left out.
    List(Vec<(Expr, bool)>),
    /// A map.
    Map(Vec<Entry<Expr>>),
    /// A struct of this type.
    Struct(Arc<str>, Vec<Entry<Arc<str>>>),
    /// A loop over a list or map.
    Fold(Box<Fold>),
}

/// An entry of a map or struct.
#[derive(Clone, Debug)]
pub struct Entry<K> {
    /// Where it is.
    pub id: Id,
    /// The key.
    pub key: K,
    /// The value.
    pub value: Expr,
    /// Left out when the value is an empty optional.
    pub optional: bool,
}

/// What the macros over lists and maps become.
#[derive(Clone, Debug)]
pub struct Fold {
    /// What is gone over.
    pub range: Expr,
    /// The variable for each element or key.
    pub var: Arc<str>,
    /// The second variable, for values.
    pub var2: Option<Arc<str>>,
    /// The variable that holds what has been found so far.
    pub accu: Arc<str>,
    /// What it begins with.
    pub init: Expr,
    /// Whether to go on.
    pub condition: Expr,
    /// What it becomes with each element.
    pub step: Expr,
    /// What comes of it.
    pub result: Expr,
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Ast {
    /// The whole.
    pub root: Expr,
    /// Where each node is.
    pub locations: Vec<Location>,
}

impl Expr {
    /// The dotted name that nested selections spell.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => {
                let mut name = operand.qualified_name()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    /// Calls with each node, parents first.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        visit(self);
        match &self.kind {
            Kind::Wrong | Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => operand.walk(visit),
            Kind::Call { target, args, .. } => {
                if let Some(target) = target {
                    target.walk(visit);
                }
                args.iter().for_each(|arg| arg.walk(visit));
            }
            Kind::List(elements) => elements.iter().for_each(|(element, _)| element.walk(visit)),
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                entry.key.walk(visit);
                entry.value.walk(visit);
            }),
            Kind::Struct(_, fields) => fields.iter().for_each(|field| field.value.walk(visit)),
            Kind::Fold(fold) => {
                for part in [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result] {
                    part.walk(visit);
                }
            }
        }
    }
}
