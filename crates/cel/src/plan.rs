//! From a checked expression to what is evaluated: names are places, calls are functions, constant parts are values.
//!
//! upstream: vendor/github.com/google/cel-go/interpreter/planner.go, decorators.go

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_api::pattern::Pattern;

use crate::ast::{Expr, Kind, Literal};
use crate::checker::{Checked, builtin};
use crate::functions::{self, Context, Function};
use crate::types::Type;
use crate::value::{Items, Key, List, Map, Value};

/// What is evaluated.
#[derive(Debug)]
pub enum Node {
    /// A constant.
    Constant(Value<'static>),
    /// A variable and what is selected of it.
    Attribute(Box<Attribute>),
    /// A function.
    Call(Box<Call>),
    /// `==`, or `!=` with true.
    Equal(Box<[Node; 2]>, bool),
    /// `&&`, or `||` with true.
    Logic(Box<[Node; 2]>, bool),
    /// `or`, or `orValue` with true, of optionals.
    OptionalOr(Box<[Node; 2]>, bool),
    /// A list.
    List(Vec<(Node, bool)>),
    /// A map.
    Map(Vec<(Node, Node, bool)>),
    /// A struct.
    Struct(Arc<str>, Vec<(Arc<str>, Node, bool)>),
    /// A loop.
    Fold(Box<FoldNode>),
    /// Whether something is in a constant list.
    InSet(Box<Node>, BTreeSet<Key>),
}

/// A variable, or another beginning, with selections.
#[derive(Debug)]
pub struct Attribute {
    /// Where it begins.
    pub root: Root,
    /// What is selected of it.
    pub qualifiers: Vec<Qualifier>,
    /// Only whether the last selection is there.
    pub test: bool,
}

/// Where an attribute begins.
#[derive(Debug)]
pub enum Root {
    /// A variable.
    Variable(Arc<str>),
    /// A variable of a loop; with true it is not read again.
    Local(usize, bool),
    /// Any other value.
    Value(Node),
    /// A choice.
    Choice(Box<[Node; 3]>),
}

/// A selection.
#[derive(Debug)]
pub struct Qualifier {
    /// By what.
    pub key: Node,
    /// Nothing when it is not there.
    pub optional: bool,
}

/// A call of a function.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub name: Arc<str>,
    /// Which overload, if it is clear.
    pub overload: Option<Arc<str>>,
    /// What it does.
    pub function: Function,
    /// With what.
    pub args: Vec<Node>,
    /// A constant pattern.
    pub pattern: Option<Pattern>,
}

/// A loop.
#[derive(Debug)]
pub struct FoldNode {
    pub range: Node,
    pub two: bool,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

/// The functions that convert types: of constants they are constants.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

/// Plans a checked expression.
pub fn plan(checked: &Checked) -> Result<Node, String> {
    Planner { checked, locals: Vec::new() }.node(&checked.ast.root)
}

struct Planner<'c> {
    checked: &'c Checked,
    locals: Vec<Arc<str>>,
}

impl Planner<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, String> {
        match &expr.kind {
            Kind::Wrong => Err("the expression is wrong".to_owned()),
            Kind::Literal(literal) => Ok(Node::Constant(literal_value(literal))),
            Kind::Ident(name) => Ok(self.ident(expr, name)),
            Kind::Select { operand, field, test } => {
                let operand = self.node(operand)?;
                let key = Node::Constant(Value::text(field.clone()));
                let mut attribute = select(operand, key, false);
                attribute.test = *test;
                Ok(Node::Attribute(Box::new(attribute)))
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|entry| {
                        Ok((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional))
                    })
                    .collect::<Result<Vec<_>, String>>()?;
                Ok(constant_map(entries))
            }
            Kind::Struct(name, fields) => {
                let fields = fields
                    .iter()
                    .map(|field| Ok((field.key.clone(), self.node(&field.value)?, field.optional)))
                    .collect::<Result<Vec<_>, String>>()?;
                Ok(Node::Struct(name.clone(), fields))
            }
            Kind::Fold(fold) => {
                let range = self.node(&fold.range)?;
                let init = self.node(&fold.init)?;
                let before = self.locals.len();
                self.locals.push(fold.accu.clone());
                self.locals.push(fold.var.clone());
                self.locals.extend(fold.var2.clone());
                let condition = self.node(&fold.condition)?;
                let mut step = self.node(&fold.step)?;
                self.locals.truncate(before + 1);
                let result = self.node(&fold.result)?;
                self.locals.truncate(before);
                take_accumulator(&mut step, before);
                let two = fold.var2.is_some();
                Ok(Node::Fold(Box::new(FoldNode { range, two, init, condition, step, result })))
            }
        }
    }

    fn ident(&mut self, expr: &Expr, name: &Arc<str>) -> Node {
        let root = match self.locals.iter().rposition(|local| local == name) {
            Some(index) => Root::Local(index, false),
            None => match self.checked.type_of(expr) {
                // The name of a type is what it names.
                Type::Type(Some(_)) if builtin(name).is_some() => {
                    return Node::Constant(Value::Type(builtin(name).unwrap_or(Type::Dyn)));
                }
                _ => Root::Variable(name.clone()),
            },
        };
        Node::Attribute(Box::new(Attribute { root, qualifiers: Vec::new(), test: false }))
    }

    fn list(&mut self, elements: &[(Expr, bool)]) -> Result<Node, String> {
        let elements = elements
            .iter()
            .map(|(element, optional)| Ok((self.node(element)?, *optional)))
            .collect::<Result<Vec<_>, String>>()?;
        if elements
            .iter()
            .any(|(element, optional)| *optional || !matches!(element, Node::Constant(_)))
        {
            return Ok(Node::List(elements));
        }
        let values = elements
            .into_iter()
            .filter_map(|(element, _)| match element {
                Node::Constant(value) => Some(value),
                _ => None,
            })
            .collect();
        Ok(Node::Constant(Value::list(values)))
    }

    fn call(&mut self, expr: &Expr) -> Result<Node, String> {
        let Kind::Call { target, function, args } = &expr.kind else {
            return Err("the expression is wrong".to_owned());
        };
        let mut nodes = target
            .iter()
            .map(|target| &**target)
            .chain(args)
            .map(|arg| self.node(arg))
            .collect::<Result<Vec<_>, String>>()?;
        let overloads = self.checked.overloads.get(expr.id).map_or(&[][..], Vec::as_slice);
        let overload = match overloads {
            [one] => Some(one.clone()),
            _ => None,
        };
        let member = target.is_some();
        match (&**function, nodes.len()) {
            ("_?:_" | "_?:", _) => {}
            ("_?_:_", 3) => {
                let Ok(parts) = <[Node; 3]>::try_from(nodes) else {
                    return Err(no_function(function));
                };
                let root = Root::Choice(Box::new(parts));
                return Ok(Node::Attribute(Box::new(Attribute {
                    root,
                    qualifiers: Vec::new(),
                    test: false,
                })));
            }
            ("_[_]" | "_[?_]" | "_?._", 2) => {
                let (Some(key), Some(operand)) = (nodes.pop(), nodes.pop()) else {
                    return Err(no_function(function));
                };
                return Ok(Node::Attribute(Box::new(select(operand, key, &**function != "_[_]"))));
            }
            (name @ ("_&&_" | "_||_" | "_==_" | "_!=_" | "or" | "orValue"), 2)
                if !member || name.starts_with("or") =>
            {
                let Ok(parts) = <[Node; 2]>::try_from(nodes) else {
                    return Err(no_function(function));
                };
                let parts = Box::new(parts);
                return Ok(match name {
                    "_&&_" => Node::Logic(parts, false),
                    "_||_" => Node::Logic(parts, true),
                    "_==_" => Node::Equal(parts, false),
                    "_!=_" => Node::Equal(parts, true),
                    "or" => Node::OptionalOr(parts, false),
                    _ => Node::OptionalOr(parts, true),
                });
            }
            ("@in", 2) if overload.as_deref() == Some("in_list") => {
                if let Some(set) = constant_set(&nodes[1]) {
                    if set.is_empty() {
                        return Ok(Node::Constant(Value::Bool(false)));
                    }
                    return Ok(Node::InSet(Box::new(nodes.swap_remove(0)), set));
                }
            }
            _ => {}
        }
        let known = functions::find(function).ok_or_else(|| no_function(function))?;
        if let [Node::Constant(value)] = nodes.as_slice()
            && !member
            && CONVERSIONS.contains(&&**function)
        {
            let value = known(&Context::default(), std::slice::from_ref(value))
                .map_err(|error| error.to_string())?;
            return Ok(Node::Constant(value));
        }
        let mut found = None;
        if matches!(&**function, "matches" | "find" | "findAll")
            && let Some(Node::Constant(Value::String(text))) = nodes.get(1)
        {
            let pattern = Pattern::new(text.as_str());
            pattern.check()?;
            found = Some(pattern);
        }
        Ok(Node::Call(Box::new(Call {
            name: function.clone(),
            overload,
            function: known,
            args: nodes,
            pattern: found,
        })))
    }
}

fn no_function(name: &str) -> String {
    format!("no such overload: {name}")
}

/// One more selection of an attribute, or the first of any other value.
fn select(operand: Node, key: Node, optional: bool) -> Attribute {
    let mut attribute = match operand {
        Node::Attribute(attribute) if !attribute.test => *attribute,
        other => Attribute { root: Root::Value(other), qualifiers: Vec::new(), test: false },
    };
    attribute.qualifiers.push(Qualifier { key, optional });
    attribute
}

fn literal_value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(truth) => Value::Bool(*truth),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::text(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

fn constant_map(entries: Vec<(Node, Node, bool)>) -> Node {
    let mut known = std::collections::BTreeMap::new();
    for (key, value, optional) in &entries {
        let (Node::Constant(key), Node::Constant(value), false) = (key, value, optional) else {
            return Node::Map(entries);
        };
        let Some(key) = Key::of(key) else { return Node::Map(entries) };
        known.insert(key, value.clone());
    }
    Node::Constant(Value::Map(Map::Made(Arc::new(known))))
}

/// The elements of a constant list of simple values.
fn constant_set(node: &Node) -> Option<BTreeSet<Key>> {
    let Node::Constant(Value::List(List { items: Items::Made(items), .. })) = node else {
        return None;
    };
    items.iter().map(Key::of).collect()
}

/// Lets the step of a loop that adds to what was collected have it for its own.
fn take_accumulator(step: &mut Node, accumulator: usize) {
    match step {
        Node::Call(call) if matches!(&*call.name, "_+_" | "cel.@mapInsert") => {
            if let Some(Node::Attribute(first)) = call.args.first_mut()
                && let Root::Local(index, take) = &mut first.root
                && *index == accumulator
                && first.qualifiers.is_empty()
            {
                *take = true;
            }
        }
        Node::Attribute(attribute) if attribute.qualifiers.is_empty() => {
            if let Root::Choice(parts) = &mut attribute.root {
                take_accumulator(&mut parts[1], accumulator);
            }
        }
        _ => {}
    }
}
