//! What is known about every field of every API type: the facts that decoding, protobuf, merging,
//! apply, defaults and OpenAPI derive from.
//!
//! The table is text, made by `cargo xtask codegen` and read once, at first use. A line is either
//!
//! - `T GROUP/VERSION.NAME [markers]`, which opens a type, or
//! - `F JSON_NAME SHAPE FLAGS PROTO_NUMBER [markers]`, a field of it in declaration order.
//!
//! A shape is a scalar's name, `@TYPE` for a struct, `[SHAPE` for a list or `{SHAPE` for a map with
//! string keys. Flags: `p` pointer, `o` omitempty, `z` omitzero, `i` inlined struct, `r` required,
//! `n` not required, `-` none. Markers: `list`, `keys`, `struct`, `map`, `patch`, `patchkey`, `default`,
//! `go` and `enum` (values split by `|`, blanks as `~`).

#[cfg(test)]
mod tests;
mod union;

use std::collections::HashMap;
use std::sync::OnceLock;

pub use union::Union;

const TABLE: &str = include_str!("schema/table.txt");

/// A scalar or special type with a wire form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    String,
    /// A boolean.
    Bool,
    /// A 32-bit signed integer.
    Int32,
    /// A 64-bit signed integer.
    Int64,
    /// A double.
    Float64,
    /// Bytes; base64 in JSON.
    Bytes,
    /// A time in whole seconds (RFC 3339).
    Time,
    /// A time in microseconds (RFC 3339).
    MicroTime,
    /// A duration in Go's text form.
    Duration,
    /// A quantity such as `500m`.
    Quantity,
    /// An integer or a string.
    IntOrString,
    /// Any object.
    RawExtension,
    /// A field set of server-side apply.
    FieldsV1,
    /// Any JSON value.
    Json,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A scalar.
    Scalar(Scalar),
    /// A struct: the index of its type; see [`Shape::as_struct`].
    Struct(usize),
    /// A list: the index of its item's shape; see [`Shape::item`].
    List(usize),
    /// A map with string keys: the index of its value's shape; see [`Shape::item`].
    Map(usize),
}

/// How a list, map or struct is merged by server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Replaced as a whole.
    Atomic,
    /// Merged by its parts.
    Granular,
    /// A list of unique scalars.
    Set,
    /// A list of objects with unique keys; see [`Field::keys`].
    Map,
}

/// How strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged rather than replaced.
    pub merge: bool,
    /// Structs are replaced rather than merged.
    pub replace: bool,
    /// Keys that the patch does not name are dropped.
    pub retain_keys: bool,
    /// The key that identifies an item of a merged list of objects; empty for none.
    pub merge_key: &'static str,
}

/// A field of a type.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name in JSON; `-` for an inlined struct.
    pub json_name: &'static str,
    /// Its form.
    pub shape: Shape,
    /// Whether Go holds a pointer: zero values are kept when they were given.
    pub pointer: bool,
    /// Whether Go leaves the zero value out of JSON.
    pub omitempty: bool,
    /// Whether Go leaves the zero struct out of JSON.
    pub omitzero: bool,
    /// Whether the fields of the struct are fields of this type in JSON.
    pub inline: bool,
    /// Whether the API marks the field as required.
    pub required: bool,
    /// Whether the API marks the field as optional.
    pub optional: bool,
    /// The field number in protobuf; 0 for none.
    pub proto_number: u32,
    /// How apply merges the field; `None` for the default of its shape.
    pub topology: Option<Topology>,
    /// The keys of a [`Topology::Map`].
    pub keys: Vec<&'static str>,
    /// How strategic merge patch treats it.
    pub patch: PatchStrategy,
    /// The fixed default as the API declares it.
    pub default: Option<&'static str>,
    /// The Go type as messages name it, when a named type other than a struct is in it.
    pub go_type: Option<&'static str>,
    /// The values of an enumeration, sorted; empty for other fields.
    pub values: Vec<String>,
}

/// A struct type of the API.
#[derive(Clone, Debug)]
pub struct Type {
    /// `GROUP/VERSION.NAME` with the short group name, such as `core/v1.Pod`.
    pub name: &'static str,
    /// Whether apply replaces it as a whole.
    pub atomic: bool,
    /// Fields in declaration order.
    pub fields: Vec<Field>,
    /// The positions of the fields that [`Type::filled`] gives.
    filled: OnceLock<Vec<usize>>,
}

struct Schema {
    types: Vec<Type>,
    shapes: Vec<Shape>,
    by_name: HashMap<&'static str, usize>,
    /// The types of the same name in different packages.
    by_kind: HashMap<&'static str, Vec<usize>>,
}

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::parse(TABLE))
}

/// The type of a kind by its API group (empty for core), version and kind. Kinds of `meta`, such
/// as `Status`, are found under the core group, where they are served.
pub fn kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let short = match group {
        "" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        _ => group.split('.').next().unwrap_or(group),
    };
    let meta = if group.is_empty() { "meta" } else { group };
    let schema = schema();
    let same = schema.by_kind.get(kind)?;
    [group, short, meta].iter().find_map(|package| {
        let mut types = same.iter().map(|index| &schema.types[*index]);
        types.find(|ty| {
            let rest = ty.name.strip_prefix(package).and_then(|rest| rest.strip_prefix('/'));
            let rest = rest.and_then(|rest| rest.strip_prefix(version));
            rest.and_then(|rest| rest.strip_prefix('.')) == Some(kind)
        })
    })
}

/// A type by its name in the table, such as `core/v1.Container`.
pub fn type_named(name: &str) -> Option<&'static Type> {
    let schema = schema();
    schema.by_name.get(name).map(|index| &schema.types[*index])
}

/// All types, sorted by name within their package.
pub fn types() -> &'static [Type] {
    &schema().types
}

impl Type {
    /// The fields that are filled when they are absent, inlined ones, and those that hold such: all
    /// that filling an object has to look at. Most fields are none of these.
    pub(crate) fn filled(&'static self) -> impl Iterator<Item = &'static Field> {
        let positions = self.filled.get_or_init(|| {
            let matters = |field: &Field| {
                let empty = matches!(field.shape, Shape::List(_) | Shape::Map(_));
                field.inline
                    || field.default.is_some()
                    || crate::complete::implied(field).is_some()
                    || (empty && !field.omitempty && !field.pointer)
                    || field.shape.holds_structs()
            };
            (0..self.fields.len()).filter(|at| matters(&self.fields[*at])).collect()
        });
        positions.iter().map(|at| &self.fields[*at])
    }

    /// The field with this JSON name, also of inlined structs.
    pub fn field(&self, json_name: &str) -> Option<&'static Field> {
        // `self` is always an entry of the static table.
        type_named(self.name)?.find(json_name)
    }

    fn find(&'static self, json_name: &str) -> Option<&'static Field> {
        self.find_with_owner(json_name).map(|(_, field)| field)
    }

    /// The field with this JSON name and the type that declares it, which is an inlined one for
    /// fields of inlined structs.
    pub(crate) fn find_with_owner(
        &'static self,
        json_name: &str,
    ) -> Option<(&'static Self, &'static Field)> {
        let own = self.fields.iter().find(|f| !f.inline && f.json_name == json_name);
        own.map(|field| (self, field)).or_else(|| {
            let inlined = self.fields.iter().filter(|f| f.inline);
            inlined.filter_map(|f| f.shape.as_struct()).find_map(|ty| ty.find_with_owner(json_name))
        })
    }
}

impl Shape {
    /// The type of a struct.
    pub fn as_struct(self) -> Option<&'static Type> {
        match self {
            Self::Struct(index) => Some(&schema().types[index]),
            _ => None,
        }
    }

    /// Whether it is a struct or a list or map of them.
    fn holds_structs(self) -> bool {
        match self.item() {
            Some(item) => item.holds_structs(),
            None => matches!(self, Self::Struct(_)),
        }
    }

    /// The shape of a list's items or a map's values.
    pub fn item(self) -> Option<Shape> {
        match self {
            Self::List(index) | Self::Map(index) => Some(schema().shapes[index]),
            _ => None,
        }
    }
}

impl Schema {
    /// Reads the table.
    ///
    /// # Panics
    /// When the table is not as the generator writes it; a test reads all of it.
    fn parse(table: &'static str) -> Self {
        let names = table.lines().filter_map(|line| line.strip_prefix("T "));
        let names = names.map(|line| line.split(' ').next().expect("split gives one part"));
        let mut by_kind: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, name) in names.clone().enumerate() {
            let kind = name.rsplit('.').next().expect("split gives one part");
            by_kind.entry(kind).or_default().push(i);
        }
        let by_name = names.enumerate().map(|(i, name)| (name, i)).collect();
        let mut schema = Self { types: Vec::new(), shapes: Vec::new(), by_name, by_kind };
        for line in table.lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("T") => {
                    let name = words.next().expect("a type has a name");
                    let atomic = words.any(|w| w == "struct=atomic");
                    let (fields, filled) = (Vec::new(), OnceLock::new());
                    schema.types.push(Type { name, atomic, fields, filled });
                }
                Some("F") => {
                    let field = schema.field(words);
                    schema.types.last_mut().expect("a type comes first").fields.push(field);
                }
                _ => {}
            }
        }
        schema
    }

    fn field(&mut self, mut words: std::str::Split<'static, char>) -> Field {
        let mut next = || words.next().expect("a field has four words");
        let (json_name, shape, flags, number) = (next(), next(), next(), next());
        let mut field = Field {
            json_name,
            shape: self.shape(shape),
            pointer: flags.contains('p'),
            omitempty: flags.contains('o'),
            omitzero: flags.contains('z'),
            inline: flags.contains('i'),
            required: flags.contains('r'),
            optional: flags.contains('n'),
            proto_number: number.parse().unwrap_or(0),
            topology: None,
            keys: Vec::new(),
            patch: PatchStrategy::default(),
            default: None,
            go_type: None,
            values: Vec::new(),
        };
        for (marker, value) in words.filter_map(|word| word.split_once('=')) {
            field.mark(marker, value);
        }
        field
    }

    fn shape(&mut self, text: &'static str) -> Shape {
        if let Some(name) = text.strip_prefix('@') {
            return Shape::Struct(self.by_name[name]);
        }
        for (prefix, make) in [('[', Shape::List as fn(usize) -> Shape), ('{', Shape::Map)] {
            if let Some(inner) = text.strip_prefix(prefix) {
                let item = self.shape(inner);
                self.shapes.push(item);
                return make(self.shapes.len() - 1);
            }
        }
        Shape::Scalar(match text {
            "string" => Scalar::String,
            "bool" => Scalar::Bool,
            "int32" => Scalar::Int32,
            "int64" => Scalar::Int64,
            "float64" => Scalar::Float64,
            "bytes" => Scalar::Bytes,
            "time" => Scalar::Time,
            "microtime" => Scalar::MicroTime,
            "duration" => Scalar::Duration,
            "quantity" => Scalar::Quantity,
            "intorstring" => Scalar::IntOrString,
            "raw" => Scalar::RawExtension,
            "fields" => Scalar::FieldsV1,
            "json" => Scalar::Json,
            other => panic!("the schema table has an unknown shape {other}"),
        })
    }
}

impl Field {
    fn mark(&mut self, marker: &str, value: &'static str) {
        match marker {
            "list" | "struct" | "map" => {
                self.topology = Some(match value {
                    "atomic" => Topology::Atomic,
                    "set" => Topology::Set,
                    "map" => Topology::Map,
                    _ => Topology::Granular,
                });
            }
            "keys" => self.keys = value.split(',').collect(),
            "patch" => {
                self.patch.merge = value.split(',').any(|v| v == "merge");
                self.patch.replace = value.split(',').any(|v| v == "replace");
                self.patch.retain_keys = value.split(',').any(|v| v == "retainKeys");
            }
            "patchkey" => self.patch.merge_key = value,
            "default" => self.default = Some(value),
            "go" => self.go_type = Some(value),
            "enum" => self.values = value.split('|').map(|v| v.replace('~', " ")).collect(),
            other => panic!("the schema table has an unknown marker {other}"),
        }
    }
}
