//! The types that expressions see, as schemas declare them.

use std::sync::Arc;

use longshore_api::structural::Node;
use longshore_cel::{Declared, Shape};

/// The type of a schema; none when expressions cannot see its values. `whole`: the schema is of a whole
/// object, whose kind and name are always seen.
pub fn of(node: &Node, whole: bool) -> Option<Arc<Declared>> {
    Declared::from_schema(node, "selfType", whole).map(Arc::new)
}

/// The type of a field by its name in the data; none when expressions cannot see it.
pub fn field<'a>(declared: &'a Declared, name: &str) -> Option<&'a Arc<Declared>> {
    let Shape::Object(object) = &declared.shape else { return None };
    object.fields.get(name).filter(|field| !matches!(field.shape, Shape::Hidden))
}

/// The type of the items of a list or of the entries of a map.
pub fn element(declared: &Declared) -> Option<&Arc<Declared>> {
    match &declared.shape {
        Shape::List(element, _) | Shape::Map(element) => Some(element),
        _ => None,
    }
}
