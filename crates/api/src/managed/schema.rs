//! What apply knows about the form of a value: the facts of the schema table as it needs them.
//!
//! upstream: k8s.io/kube-openapi/pkg/schemaconv, sigs.k8s.io/structured-merge-diff/v6/schema

use serde_json::Value;

use crate::schema::{Field, Scalar, Shape, Topology, Type};

/// The form of a value somewhere in an object.
#[derive(Clone, Copy)]
pub(super) enum Ref {
    /// As the table says; with the field whose markers hold for it.
    Known(Shape, Option<&'static Field>),
    /// A struct on its own.
    Object(&'static Type),
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

/// A list.
#[derive(Clone, Copy)]
pub(super) struct List {
    /// Whether items have an identity; otherwise the list is one value.
    pub associative: bool,
    /// The fields that identify items; none for a set of scalars.
    pub keys: &'static [&'static str],
    pub item: Ref,
}

/// A struct or map.
#[derive(Clone, Copy)]
pub(super) struct Map {
    /// The fields, when it is a struct.
    pub ty: Option<&'static Type>,
    /// Whether it is one value.
    pub atomic: bool,
    /// The form of what is no field; none when there may not be any.
    pub element: Option<Ref>,
}

/// What may stand at one place.
#[derive(Clone, Copy, Default)]
pub(super) struct Atom {
    pub scalar: Option<ScalarKind>,
    pub list: Option<List>,
    pub map: Option<Map>,
}

/// The one form that holds for a value.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Scalar(ScalarKind),
    List(List),
    Map(Map),
}

impl Ref {
    /// The form of a whole object.
    pub fn object(ty: &'static Type) -> Self {
        Self::Object(ty)
    }

    pub fn atom(self) -> Atom {
        match self {
            Self::Known(shape, field) => known(shape, field),
            Self::Object(ty) => Atom { map: Some(of_struct(ty, None)), ..Atom::default() },
            Self::Deduced => any(false),
            Self::Untyped => any(true),
            Self::Nothing => Atom::default(),
        }
    }

    /// The form that holds for a value: what it is when that may stand here, else what may.
    pub fn form(self, value: Option<&Value>) -> Option<Form> {
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

fn any(atomic: bool) -> Atom {
    let element = if atomic { Ref::Untyped } else { Ref::Deduced };
    Atom {
        scalar: Some(ScalarKind::Any),
        list: Some(List { associative: false, keys: &[], item: Ref::Untyped }),
        map: Some(Map { ty: None, atomic, element: Some(element) }),
    }
}

fn known(shape: Shape, field: Option<&'static Field>) -> Atom {
    let atomic = field.and_then(|f| f.topology).map(|topology| topology == Topology::Atomic);
    let item = || Ref::Known(shape.item().expect("a list or map"), None);
    match shape {
        Shape::Scalar(scalar) => of_scalar(scalar),
        Shape::List(_) => Atom { list: Some(of_list(field, item())), ..Atom::default() },
        Shape::Map(_) => {
            let element = Some(item());
            let map = Map { ty: None, atomic: atomic.unwrap_or(false), element };
            Atom { map: Some(map), ..Atom::default() }
        }
        Shape::Struct(_) => {
            let ty = shape.as_struct().expect("a struct");
            Atom { map: Some(of_struct(ty, atomic)), ..Atom::default() }
        }
    }
}

fn of_struct(ty: &'static Type, atomic: Option<bool>) -> Map {
    Map { ty: Some(ty), atomic: atomic.unwrap_or(ty.atomic), element: None }
}

fn of_scalar(scalar: Scalar) -> Atom {
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
fn of_list(field: Option<&'static Field>, item: Ref) -> List {
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
    List { associative, keys, item }
}

impl Map {
    /// The form of a declared field.
    pub fn field(self, name: &str) -> Option<Ref> {
        let (ty, field) = self.ty?.find_with_owner(name)?;
        Some(of_field(ty, field))
    }

    /// The form of a field or entry.
    pub fn at(self, name: &str) -> Option<Ref> {
        self.field(name).or(self.element)
    }
}

/// The form of a field of a type.
pub(super) fn of_field(ty: &'static Type, field: &'static Field) -> Ref {
    if crate::schema::Union::of(ty, field).is_some() {
        return Ref::Deduced;
    }
    Ref::Known(field.shape, Some(field))
}

impl List {
    /// The value of an absent key field; none when it has no default.
    pub fn key_default(self, name: &str) -> Option<Value> {
        let ty = self.item.atom().map?.ty?;
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
}
