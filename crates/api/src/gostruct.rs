//! Values as upstream's internal Go structs print as JSON: messages of validation hold such text.
//!
//! Internal structs have no JSON tags: fields print in the order of their declaration under their
//! Go names, zero values included. Structs of `meta` keep their tags.
//!
//! upstream: pkg/apis/*/types.go, staging/src/k8s.io/apimachinery/pkg/util/validation/field/errors.go

mod diff;
mod internal;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::field::ErrorList;
use crate::gvk::Gvk;
use crate::patch::touched::Touched;
use crate::schema::{self, Field, Scalar, Shape, Type};

/// A value ready to be printed, with its fields in order.
enum Tree {
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A value of a type of the table, such as `core/v1.PodSpec`, on one line.
pub fn print(ty: &str, value: &Value) -> String {
    schema::type_named(ty).map_or_else(|| value.to_string(), |ty| line(&of_struct(ty, value)))
}

/// The differences of two values of a type as lines of a unified diff.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/diff/diff.go
pub fn difference(ty: &str, old: &Value, new: &Value) -> String {
    let print = |value: &Value| {
        let tree = schema::type_named(ty).map_or_else(|| plain(value), |ty| of_struct(ty, value));
        let mut out = String::new();
        write(&tree, Some(0), &mut out);
        out
    };
    diff::unified(&print(old), &print(new))
}

/// A value of a type, or a list of them, with the JSON tags of the published type.
pub fn published(ty: &str, value: &Value) -> String {
    let Some(ty) = schema::type_named(ty) else { return value.to_string() };
    let one = |value: &Value| {
        let (empty, mut out) = (Map::new(), Vec::new());
        tagged(ty, value.as_object().unwrap_or(&empty), &mut out);
        Tree::Map(out)
    };
    line(&match value {
        Value::Array(items) => Tree::List(items.iter().map(one).collect()),
        value => one(value),
    })
}

/// A patched document as upstream prints it: what the patch did not take apart is in the order of its
/// type, all else in the order of its keys.
pub fn patched(gvk: &Gvk, old: &Value, new: &Value, touched: &Touched) -> String {
    let Some(ty) = schema::kind(&gvk.group, &gvk.version, &gvk.kind) else {
        return new.to_string();
    };
    let Value::Object(fields) = new else { return new.to_string() };
    let mut path = Vec::new();
    let fields = fields.iter().map(|(key, value)| {
        let shape = ty.field(key).map(|field| field.shape);
        path.push(key.clone());
        let shown = changed(shape, old.get(key), value, (&mut path, touched));
        path.pop();
        (key.clone(), shown)
    });
    line(&Tree::Map(fields.collect()))
}

fn changed(
    shape: Option<Shape>,
    old: Option<&Value>,
    new: &Value,
    (path, touched): (&mut Vec<String>, &Touched),
) -> Tree {
    if let Some(shape) = shape.filter(|_| old == Some(new) && !touched.contains(path)) {
        return tree(shape, false, Some(new), false);
    }
    match new {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let inner = shape.and_then(|shape| match shape.as_struct() {
                    Some(ty) => ty.field(key).map(|field| field.shape),
                    None => shape.item(),
                });
                path.push(key.clone());
                let before = old.and_then(|old| old.get(key));
                let shown = changed(inner, before, value, (&mut *path, touched));
                path.pop();
                (key.clone(), shown)
            });
            Tree::Map(fields.collect())
        }
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(i, item)| {
                path.push(i.to_string());
                let before = old.and_then(|old| old.get(i));
                let inner = shape.and_then(Shape::item);
                let shown = changed(inner, before, item, (&mut *path, touched));
                path.pop();
                shown
            });
            Tree::List(items.collect())
        }
        scalar => plain(scalar),
    }
}

/// Prints the trees in the errors of an object of a kind as upstream does, where the field tells
/// of what type they are.
pub fn render(group: &str, version: &str, kind: &str, errors: &mut ErrorList) {
    let Some(ty) = schema::kind(group, version, kind) else { return };
    for error in errors {
        let Some(value) = error.tree() else { continue };
        if let Some((shape, pointer)) = find(ty, &error.field)
            && (fits(shape, value) || (value.is_null() && !pointer))
        {
            let text = line(&tree(shape, pointer, Some(value), true));
            error.print_tree(&text);
        }
    }
}

/// Gives an object the fields that a conversion from upstream's internal type adds: pointers there
/// are none inside.
pub fn converted(ty: &'static Type, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    for field in &ty.fields {
        if field.pointer && internal::is_value(ty.name, field.json_name) {
            let number = matches!(field.shape, Shape::Scalar(_));
            let entry = fields.entry(field.json_name).or_insert(Value::Null);
            if number && entry.is_null() {
                *entry = 0.into();
            }
        } else if let (Some(inner), Some(value)) =
            (field.shape.as_struct(), fields.get_mut(field.json_name))
        {
            converted(inner, value);
        }
    }
}

/// Whether a value can be of a shape.
fn fits(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Struct(_) | Shape::Map(_) => value.is_object() || value.is_null(),
        Shape::List(_) => value.is_array() || value.is_null(),
        Shape::Scalar(_) => false,
    }
}

/// The shape of the field at a path such as `spec.ports[0].name`, and whether it is a pointer.
fn find(root: &'static Type, path: &str) -> Option<(Shape, bool)> {
    let mut at: Option<(Shape, bool)> = None;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (_, after) = inner.split_once(']')?;
            at = Some((at?.0.item()?, false));
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let owner = match at {
            None => root,
            Some((shape, _)) => shape.as_struct()?,
        };
        let field = owner.field(name)?;
        at = Some((field.shape, field.pointer));
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    at
}

fn of_struct(ty: &'static Type, value: &Value) -> Tree {
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let mut out = Vec::new();
    if is_meta(ty) {
        tagged(ty, fields, &mut out);
    } else {
        let moved = internal::moved(ty, fields);
        untagged(ty, moved.as_ref().unwrap_or(fields), &mut out);
    }
    Tree::Map(out)
}

/// Structs of `meta` are the same inside and outside.
fn is_meta(ty: &Type) -> bool {
    ty.name.starts_with("meta/")
}

/// The fields of a struct with JSON tags: empty ones may be left out.
fn tagged(ty: &'static Type, fields: &Map<String, Value>, out: &mut Vec<(String, Tree)>) {
    for field in &ty.fields {
        if let Some(inlined) = field.shape.as_struct().filter(|_| field.inline) {
            tagged(inlined, fields, out);
            continue;
        }
        let value = fields.get(field.json_name).filter(|v| !v.is_null());
        let empty = value.is_none_or(|value| match (field.shape, value) {
            (Shape::List(_), Value::Array(items)) => items.is_empty(),
            (Shape::Map(_), Value::Object(entries)) => entries.is_empty(),
            _ => false,
        });
        if empty && (field.omitempty || (field.omitzero && value.is_none())) {
            continue;
        }
        let value = tree(field.shape, field.pointer, value, false);
        out.push((field.json_name.to_owned(), value));
    }
}

/// The fields of an internal struct.
fn untagged(ty: &'static Type, fields: &Map<String, Value>, out: &mut Vec<(String, Tree)>) {
    if let Some(order) = internal::order(ty.name) {
        for name in order.split(' ') {
            match name.split_once('=') {
                Some((name, zero)) => {
                    let value = fields.get(&internal::json_name(name));
                    let value = value.map_or_else(|| Tree::Text(zero.to_owned()), plain);
                    out.push((name.to_owned(), value));
                }
                None => {
                    let mut known = ty.fields.iter().filter(|f| !f.inline);
                    let named = |f: &&Field| internal::go_name(ty.name, f.json_name) == name;
                    if let Some(field) = known.find(named) {
                        push(ty, field, fields, out);
                    }
                }
            }
        }
        return;
    }
    for field in &ty.fields {
        push(ty, field, fields, out);
    }
}

fn push(
    ty: &'static Type,
    field: &'static Field,
    fields: &Map<String, Value>,
    out: &mut Vec<(String, Tree)>,
) {
    let inner = field.shape.as_struct();
    if let Some(inlined) = inner.filter(|_| field.inline) {
        if !inlined.name.ends_with("TypeMeta") {
            untagged(inlined, fields, out);
        }
        return;
    }
    let value = fields.get(field.json_name);
    // Metadata is embedded: its fields are the struct's own.
    if let Some(meta) = inner.filter(|ty| field.json_name == "metadata" && is_meta(ty)) {
        let empty = Map::new();
        tagged(meta, value.and_then(Value::as_object).unwrap_or(&empty), out);
        return;
    }
    let name = internal::go_name(ty.name, field.json_name);
    let pointer = field.pointer && !internal::is_value(ty.name, field.json_name);
    out.push((name, tree(field.shape, pointer, value, true)));
}

fn tree(shape: Shape, pointer: bool, value: Option<&Value>, inside: bool) -> Tree {
    let Some(value) = value.filter(|v| !v.is_null()) else {
        return zero(shape, pointer);
    };
    let item = |value: &Value| {
        let shape = shape.item().expect("lists and maps have items");
        tree(shape, false, Some(value), inside)
    };
    match (shape, value) {
        (Shape::Struct(_), Value::Object(fields)) => {
            let ty = shape.as_struct().expect("a struct");
            if inside || is_meta(ty) {
                return of_struct(ty, value);
            }
            let mut out = Vec::new();
            tagged(ty, fields, &mut out);
            Tree::Map(out)
        }
        (Shape::List(_), Value::Array(items)) => Tree::List(items.iter().map(item).collect()),
        (Shape::Map(_), Value::Object(entries)) => {
            Tree::Map(entries.iter().map(|(key, value)| (key.clone(), item(value))).collect())
        }
        _ => plain(value),
    }
}

fn zero(shape: Shape, pointer: bool) -> Tree {
    let text = match shape {
        _ if pointer => "null",
        Shape::Struct(_) => {
            return of_struct(shape.as_struct().expect("a struct"), &Value::Null);
        }
        Shape::List(_) | Shape::Map(_) => "null",
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => "\"\"",
            Scalar::Bool => "false",
            Scalar::Int32 | Scalar::Int64 | Scalar::Float64 | Scalar::IntOrString => "0",
            Scalar::Quantity => "\"0\"",
            Scalar::Duration => "\"0s\"",
            _ => "null",
        },
    };
    Tree::Text(text.to_owned())
}

fn plain(value: &Value) -> Tree {
    match value {
        Value::Array(items) => Tree::List(items.iter().map(plain).collect()),
        Value::Object(fields) => {
            Tree::Map(fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Value::String(text) => Tree::Text(quote(text)),
        other => Tree::Text(other.to_string()),
    }
}

/// A text as Go's encoding/json writes it.
pub fn quote(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn line(tree: &Tree) -> String {
    let mut out = String::new();
    write(tree, None, &mut out);
    out
}

/// Writes a tree, on one line or indented by one blank for each level.
fn write(tree: &Tree, indent: Option<usize>, out: &mut String) {
    let inner = indent.map(|level| level + 1);
    let start = |level: Option<usize>, out: &mut String| {
        if let Some(level) = level {
            out.push('\n');
            out.push_str(&" ".repeat(level));
        }
    };
    match tree {
        Tree::Text(text) => out.push_str(text),
        Tree::List(items) if items.is_empty() => out.push_str("[]"),
        Tree::Map(fields) if fields.is_empty() => out.push_str("{}"),
        Tree::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                start(inner, out);
                write(item, inner, out);
            }
            start(indent, out);
            out.push(']');
        }
        Tree::Map(fields) => {
            out.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                start(inner, out);
                out.push_str(&quote(key));
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write(value, inner, out);
            }
            start(indent, out);
            out.push('}');
        }
    }
}
