//! What the published schemas say in words: about the fields that every object has. `kubectl
//! explain` shows them.

use crate::schema::{Field, Type};

/// About `apiVersion`.
pub(crate) const API_VERSION: &str =
    "APIVersion defines the group and version of the schema that this object is written in.";
/// About `kind`.
pub(crate) const KIND: &str = "Kind names the type of this object, in the singular.";
/// About `metadata` of an object.
pub(crate) const METADATA: &str =
    "Standard object's metadata: its name, its labels, and what the server records of it.";
/// About `metadata` of a list.
const LIST_METADATA: &str =
    "Standard list metadata: the state that was read, and where the rest of it begins.";

/// The fields of an object's metadata.
const OBJECT_META: [(&str, &str); 15] = [
    ("name", "Name is unique among the objects of a kind in a namespace; it never changes."),
    ("generateName", "GenerateName is what the server begins a name with that it makes up."),
    ("namespace", "Namespace is where the object is; empty for kinds of the whole cluster."),
    ("selfLink", "SelfLink is no longer set."),
    ("uid", "UID tells the object from all others, also from an earlier one of its name."),
    (
        "resourceVersion",
        "ResourceVersion changes with every write. Sent back with an update, it makes the update fail when somebody else wrote first.",
    ),
    ("generation", "Generation counts the changes of what is desired."),
    (
        "creationTimestamp",
        "CreationTimestamp is a timestamp of the server's clock when the object was created.",
    ),
    (
        "deletionTimestamp",
        "DeletionTimestamp is the time after which the object may be gone. It is set when a deletion was asked for and something has to be done first.",
    ),
    (
        "deletionGracePeriodSeconds",
        "DeletionGracePeriodSeconds is how long the object may take to end.",
    ),
    ("labels", "Labels are names and values to select objects by."),
    ("annotations", "Annotations are names and values that tools keep with the object."),
    (
        "ownerReferences",
        "OwnerReferences are the objects that this one belongs to: when they are all gone, it is removed.",
    ),
    ("finalizers", "Finalizers name who has something to do before the object may go."),
    ("managedFields", "ManagedFields tells which manager has set which fields."),
];

/// What is said about a field.
pub(super) fn of(ty: &Type, field: &Field) -> Option<&'static str> {
    let inner = field.shape.as_struct().map(|inner| inner.name);
    match (ty.name, field.json_name, inner) {
        ("meta/v1.TypeMeta", "apiVersion", _) => Some(API_VERSION),
        ("meta/v1.TypeMeta", "kind", _) => Some(KIND),
        (_, "metadata", Some("meta/v1.ObjectMeta")) => Some(METADATA),
        (_, "metadata", Some("meta/v1.ListMeta")) => Some(LIST_METADATA),
        ("meta/v1.ObjectMeta", name, _) => {
            OBJECT_META.iter().find(|(field, _)| *field == name).map(|(_, text)| *text)
        }
        _ => None,
    }
}
