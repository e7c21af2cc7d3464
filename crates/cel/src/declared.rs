//! What data looks like: the types of its parts for the checker, how to read it, and how large it may become.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/types.go

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checker::Types;
use crate::escape;
use crate::types::Type;

/// The largest request, which bounds everything that has no bound of its own.
pub const REQUEST_MAX: i64 = 3 * 1024 * 1024;

/// The declaration of some data.
#[derive(Clone, Debug)]
pub struct Declared {
    /// What it is.
    pub shape: Shape,
    /// Most elements of a list or map, longest text.
    pub max: i64,
    /// Fewest bytes that it takes in a request.
    pub min_size: i64,
    /// May be null.
    pub nullable: bool,
}

/// What data is.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Anything.
    Dyn,
    /// A whole number or a text.
    IntOrString,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// A text.
    String,
    /// A text that stands for bytes, in base64.
    Bytes,
    /// A text that stands for a length of time.
    Duration,
    /// A text that stands for a day.
    Date,
    /// A text that stands for a moment.
    Timestamp,
    /// A list.
    List(Arc<Declared>, ListKind),
    /// A map with keys of text.
    Map(Arc<Declared>),
    /// A struct.
    Object(Arc<Object>),
    /// A value of a library, by the type that the checker knows: never read from data.
    Typed(Type),
    /// Data without declaration. It can be compared and is not reachable otherwise.
    Hidden,
}

/// How a list is compared and added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// By position.
    Atomic,
    /// Without order.
    Set,
    /// By these fields of its elements.
    Map(Arc<[String]>),
}

/// A struct.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name, for messages and the checker.
    pub name: Arc<str>,
    /// Its fields by the names in the data.
    pub fields: BTreeMap<String, Arc<Declared>>,
}

impl Object {
    /// The field that an expression names.
    pub fn field(&self, name: &str) -> Option<&Arc<Declared>> {
        let plain = escape::unescape(name)?;
        let found = self.fields.get(&*plain)?;
        // A name that had to be escaped is not to be had without; a reserved word is.
        let reachable = escape::escape(&plain).is_some_and(|escaped| escaped == name)
            || escape::is_reserved(name);
        (reachable && !matches!(found.shape, Shape::Hidden)).then_some(found)
    }
}

impl Declared {
    /// With the usual limits of its shape.
    pub fn new(shape: Shape) -> Self {
        let (max, min_size) = match &shape {
            Shape::Dyn | Shape::Hidden | Shape::Typed(_) => (0, 1),
            Shape::IntOrString => (REQUEST_MAX - 2, 1),
            Shape::Bool => (0, 4),
            Shape::Int | Shape::Double => (0, 1),
            Shape::String | Shape::Bytes => (REQUEST_MAX - 2, 2),
            Shape::Duration => (32, 3),
            Shape::Date => (12, 12),
            Shape::Timestamp => (32, 21),
            Shape::List(items, _) => ((REQUEST_MAX - 2) / (items.min_size + 1), 2),
            Shape::Map(values) => ((REQUEST_MAX - 2) / (values.min_size + 6), 2),
            Shape::Object(_) => (0, 2),
        };
        Self { shape, max, min_size, nullable: false }
    }

    /// With a limit of its own.
    pub fn with_max(mut self, max: i64) -> Self {
        self.max = max.max(0);
        self
    }

    /// A struct with these fields.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, Declared)>) -> Self {
        let fields = fields.into_iter().map(|(name, field)| (name, Arc::new(field))).collect();
        Self::new(Shape::Object(Arc::new(Object { name: name.into(), fields })))
    }

    /// A list of these.
    pub fn list(items: Declared) -> Self {
        Self::new(Shape::List(Arc::new(items), ListKind::Atomic))
    }

    /// A map to these.
    pub fn map(values: Declared) -> Self {
        Self::new(Shape::Map(Arc::new(values)))
    }

    /// Its type.
    pub fn type_of(&self) -> Type {
        match &self.shape {
            Shape::Dyn | Shape::IntOrString | Shape::Hidden => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Date | Shape::Timestamp => Type::Timestamp,
            Shape::List(items, _) => Type::list(items.type_of()),
            Shape::Map(values) => Type::map(Type::String, values.type_of()),
            Shape::Object(object) => Type::Struct(object.name.clone()),
            Shape::Typed(t) => t.clone(),
        }
    }

    /// All structs in it, by name.
    pub fn collect(&self, into: &mut BTreeMap<Arc<str>, Arc<Object>>) {
        match &self.shape {
            Shape::List(inner, _) | Shape::Map(inner) => inner.collect(into),
            Shape::Object(object) => {
                let known = into.insert(object.name.clone(), object.clone()).is_some();
                let fields = object.fields.values().filter(|_| !known);
                fields.for_each(|field| field.collect(into));
            }
            _ => {}
        }
    }
}

/// The structs of an environment.
#[derive(Clone, Debug, Default)]
pub struct Structs(pub BTreeMap<Arc<str>, Arc<Object>>);

impl Types for Structs {
    fn known(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn field(&self, name: &str, field: &str) -> Option<Type> {
        self.0.get(name)?.field(field).map(|declared| declared.type_of())
    }
}
