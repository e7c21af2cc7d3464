//! What apply knows about the form of a value: the facts of the schema table as it needs them.
//!
//! upstream: k8s.io/kube-openapi/pkg/schemaconv, sigs.k8s.io/structured-merge-diff/v6/schema

use serde_json::Value;

use super::custom::Place;
use crate::schema::{Field, Scalar, Shape, Topology, Type};
use crate::structural;

/// The form of whole objects.
#[derive(Clone, Copy, Debug)]
pub enum Typing<'a> {
    /// A built-in kind.
    Known(&'static Type),
    /// A custom resource with a schema.
    Custom(&'a structural::Schema),
    /// Any object: maps are merged, lists are not.
    Deduced,
}

impl From<&'static Type> for Typing<'_> {
    fn from(ty: &'static Type) -> Self {
        Self::Known(ty)
    }
}

impl Typing<'_> {
    /// The type of a built-in kind.
    pub(super) fn known(self) -> Option<&'static Type> {
        match self {
            Self::Known(ty) => Some(ty),
            Self::Custom(_) | Self::Deduced => None,
        }
    }
}

/// The form of a value somewhere in an object.
#[derive(Clone, Copy)]
pub(super) enum Ref<'a> {
    /// As the table says; with the field whose markers hold for it.
    Known(Shape, Option<&'static Field>),
    /// A struct on its own.
    Object(&'static Type),
    /// As a structural schema says.
    Structural(Place<'a>),
    /// Any value: maps are merged, lists are not.
    Deduced,
    /// Any value, as a whole.
    Untyped,
    /// No value.
    Nothing,
}

/// The scalars that validation tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Numeric,
    String,
    Boolean,
    Any,
}

/// The names of fields that identify items.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    Known(&'static [&'static str]),
    Custom(&'a [String]),
}

impl<'a> Keys<'a> {
    pub fn is_empty(self) -> bool {
        match self {
            Self::Known(names) => names.is_empty(),
            Self::Custom(names) => names.is_empty(),
        }
    }

    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let (known, custom): (&[&str], &[String]) = match self {
            Self::Known(names) => (names, &[]),
            Self::Custom(names) => (&[], names),
        };
        known.iter().copied().chain(custom.iter().map(String::as_str))
    }
}

/// A list.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    /// Whether items have an identity; otherwise the list is one value.
    pub associative: bool,
    /// The fields that identify items; none for a set of scalars.
    pub keys: Keys<'a>,
    pub item: Ref<'a>,
}

/// The declared fields of a map.
#[derive(Clone, Copy)]
pub(super) enum Declared<'a> {
    /// It has none.
    None,
    /// Those of a struct.
    Known(&'static Type),
    /// Those that a schema lists.
    Custom(Place<'a>),
}

/// A struct or map.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub fields: Declared<'a>,
    /// Whether it is one value.
    pub atomic: bool,
    /// The form of what is no field; none when there may not be any.
    pub element: Option<Ref<'a>>,
}

/// What may stand at one place.
#[derive(Clone, Copy, Default)]
pub(super) struct Atom<'a> {
    pub scalar: Option<ScalarKind>,
    pub list: Option<List<'a>>,
    pub map: Option<Map<'a>>,
}

/// The one form that holds for a value.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Scalar(ScalarKind),
    List(List<'a>),
    Map(Map<'a>),
}

impl<'a> Ref<'a> {
    /// The form of a whole object.
    pub fn object(typing: impl Into<Typing<'a>>) -> Self {
        match typing.into() {
            Typing::Known(ty) => Self::Object(ty),
            Typing::Custom(schema) => Self::Structural(Place::root(schema)),
            Typing::Deduced => Self::Deduced,
        }
    }

    pub fn atom(self) -> Atom<'a> {
        match self {
            Self::Known(shape, field) => known(shape, field),
            Self::Object(ty) => Atom { map: Some(of_struct(ty, None)), ..Atom::default() },
            Self::Structural(place) => place.atom(),
            Self::Deduced => any(false),
            Self::Untyped => any(true),
            Self::Nothing => Atom::default(),
        }
    }

    /// The form that holds for a value: what it is when that may stand here, else what may.
    pub fn form(self, value: Option<&Value>) -> Option<Form<'a>> {
        let atom = self.atom();
        let list = atom.list.map(Form::List);
        let map = atom.map.map(Form::Map);
        let scalar = atom.scalar.map(Form::Scalar);
        let fits = match value {
            None | Some(Value::Null) => None,
            Some(Value::Array(_)) => list,
            Some(Value::Object(_)) => map,
            Some(_) => scalar,
        };
        fits.or(map).or(scalar).or(list)
    }
}

fn any<'a>(atomic: bool) -> Atom<'a> {
    let element = if atomic { Ref::Untyped } else { Ref::Deduced };
    Atom {
        scalar: Some(ScalarKind::Any),
        list: Some(List { associative: false, keys: Keys::Known(&[]), item: Ref::Untyped }),
        map: Some(Map { fields: Declared::None, atomic, element: Some(element) }),
    }
}

fn known<'a>(shape: Shape, field: Option<&'static Field>) -> Atom<'a> {
    let atomic = field.and_then(|f| f.topology).map(|topology| topology == Topology::Atomic);
    let item = || Ref::Known(shape.item().expect("a list or map"), None);
    match shape {
        Shape::Scalar(scalar) => of_scalar(scalar),
        Shape::List(_) => Atom { list: Some(of_list(field, item())), ..Atom::default() },
        Shape::Map(_) => {
            let element = Some(item());
            let fields = Declared::None;
            let map = Map { fields, atomic: atomic.unwrap_or(false), element };
            Atom { map: Some(map), ..Atom::default() }
        }
        Shape::Struct(_) => {
            let ty = shape.as_struct().expect("a struct");
            Atom { map: Some(of_struct(ty, atomic)), ..Atom::default() }
        }
    }
}

fn of_struct<'a>(ty: &'static Type, atomic: Option<bool>) -> Map<'a> {
    Map { fields: Declared::Known(ty), atomic: atomic.unwrap_or(ty.atomic), element: None }
}

fn of_scalar<'a>(scalar: Scalar) -> Atom<'a> {
    let kind = match scalar {
        Scalar::String | Scalar::Bytes | Scalar::Duration => ScalarKind::String,
        Scalar::Bool => ScalarKind::Boolean,
        Scalar::Int32 | Scalar::Int64 | Scalar::Float64 => ScalarKind::Numeric,
        Scalar::Time | Scalar::MicroTime | Scalar::Quantity => ScalarKind::Any,
        Scalar::IntOrString | Scalar::Json => return any(false),
        Scalar::FieldsV1 => return Atom { map: any(false).map, ..Atom::default() },
        Scalar::RawExtension => return any(true),
    };
    Atom { scalar: Some(kind), ..Atom::default() }
}

/// upstream: k8s.io/kube-openapi/pkg/schemaconv/smd.go getListElementRelationship
fn of_list<'a>(field: Option<&'static Field>, item: Ref<'a>) -> List<'a> {
    let (associative, keys): (bool, &'static [&'static str]) = match field {
        None => (false, &[]),
        Some(field) => match field.topology {
            Some(Topology::Set) => (true, &[]),
            Some(Topology::Map) => (true, &field.keys),
            Some(_) => (false, &[]),
            None if field.patch.merge && !field.patch.merge_key.is_empty() => {
                (true, std::slice::from_ref(&field.patch.merge_key))
            }
            None => (field.patch.merge, &[]),
        },
    };
    List { associative, keys: Keys::Known(keys), item }
}

impl<'a> Map<'a> {
    /// The form of a declared field.
    pub fn field(self, name: &str) -> Option<Ref<'a>> {
        match self.fields {
            Declared::None => None,
            Declared::Known(ty) => {
                let (ty, field) = ty.find_with_owner(name)?;
                Some(of_field(ty, field))
            }
            Declared::Custom(place) => place.field(name),
        }
    }

    /// The form of a field or entry.
    pub fn at(self, name: &str) -> Option<Ref<'a>> {
        self.field(name).or(self.element)
    }
}

/// The form of a field of a type.
pub(super) fn of_field<'a>(ty: &'static Type, field: &'static Field) -> Ref<'a> {
    if crate::schema::Union::of(ty, field).is_some() {
        return Ref::Deduced;
    }
    Ref::Known(field.shape, Some(field))
}

impl List<'_> {
    /// The value of an absent key field; none when it has no default.
    pub fn key_default(self, name: &str) -> Option<Value> {
        match self.item.atom().map?.fields {
            Declared::None => None,
            Declared::Known(ty) => known_default(ty, name),
            Declared::Custom(place) => place.default_of(name),
        }
    }
}

fn known_default(ty: &'static Type, name: &str) -> Option<Value> {
    let (_, field) = ty.find_with_owner(name)?;
    let Shape::Scalar(scalar) = field.shape else { return None };
    // Fields that are always written have their zero value as the default.
    let text = match field.default {
        Some(text) => text,
        None if field.pointer || field.omitempty => return None,
        None => match scalar {
            Scalar::Int32 | Scalar::Int64 | Scalar::Float64 => "0",
            Scalar::Bool => "false",
            _ => "",
        },
    };
    match scalar {
        Scalar::Bool => Some(Value::Bool(text == "true")),
        Scalar::Int32 | Scalar::Int64 => Some(text.parse::<i64>().ok()?.into()),
        _ => Some(text.into()),
    }
}
