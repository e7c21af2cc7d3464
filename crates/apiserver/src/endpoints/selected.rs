//! Field selectors of objects that webhooks convert: what the fields of a version hold is only known
//! when an object has been converted to it.

use longshore_api::Object;
use longshore_api::selector::FieldSelector;

use crate::cache::Interest;
use crate::registry::Served;

/// Takes from an interest what can only be judged after the conversion.
pub fn late(served: &Served, interest: &mut Interest) -> Option<FieldSelector> {
    if served.converter.is_none() || !served.resource.strategy.converts() {
        return None;
    }
    let of_metadata = |name: &str| matches!(name, "metadata.name" | "metadata.namespace");
    let fields = interest.fields.as_ref()?;
    if fields.requirements().iter().all(|one| of_metadata(&one.field)) {
        return None;
    }
    interest.fields.take()
}

/// Whether a converted object is selected.
pub fn matches(served: &Served, fields: &FieldSelector, object: &Object) -> bool {
    let own = served.resource.strategy.selectable_fields(object);
    fields.matches(|name| match name {
        "metadata.name" => object.name(),
        "metadata.namespace" => object.namespace(),
        _ => own.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value),
    })
}
