//! What is known of the form of a kind's objects: a type of the schema table or the schema of a
//! custom resource. What the server does with objects of any kind goes through here.

use serde_json::Value;

use crate::Object;
use crate::managed::Typing;
use crate::normalize::Read;
use crate::schema::{self, Type};
use crate::structural::{Schema, TooLarge};
use crate::{complete, defaults, normalize};

/// The form of a kind's objects.
#[derive(Clone, Debug)]
pub enum Model {
    /// A type of the schema table.
    BuiltIn(&'static Type),
    /// What a definition says.
    Custom(Schema),
}

impl Model {
    /// The model of a built-in kind; none when the table does not have it.
    pub fn built_in(group: &str, version: &str, kind: &str) -> Option<Self> {
        schema::kind(group, version, kind).map(Self::BuiltIn)
    }

    /// The type of a built-in kind.
    pub fn as_type(&self) -> Option<&'static Type> {
        match self {
            Self::BuiltIn(ty) => Some(ty),
            Self::Custom(_) => None,
        }
    }

    /// What server-side apply knows of its objects.
    pub fn typing(&self) -> Typing<'_> {
        match self {
            Self::BuiltIn(ty) => Typing::Known(ty),
            Self::Custom(schema) => Typing::Custom(schema),
        }
    }

    /// Reduces a decoded tree to what the kind knows; gives the paths of unknown fields
    /// and what was given empty.
    ///
    /// # Errors
    /// What of the tree cannot be read, as messages tell it.
    pub fn normalise(&self, value: &mut Value) -> Result<Read, String> {
        match self {
            Self::BuiltIn(ty) => normalize::read(ty, value).map_err(|e| e.to_string()),
            Self::Custom(schema) => {
                let unknown = schema.coerce(value, false).map_err(|e| e.to_string())?;
                Ok(Read { unknown, ..Read::default() })
            }
        }
    }

    /// What Go tells of a JSON document that cannot be read, in place of what [`Self::normalise`] found.
    pub fn explain(&self, source: &[u8]) -> Option<String> {
        let error = normalize::first_error(self.as_type()?, source)?;
        Some(error.to_string())
    }

    /// Fills the fixed defaults of a new state.
    ///
    /// # Errors
    /// When the defaults are larger than any object may be.
    pub fn fill(&self, object: &mut Object) -> Result<(), TooLarge> {
        object.change(|value| match self {
            Self::BuiltIn(ty) => {
                complete::structs(ty, value);
                defaults::apply(ty, value);
                Ok(())
            }
            Self::Custom(schema) => schema.default(value),
        })
    }

    /// Fills what answers always show. Custom objects show what they hold.
    pub fn complete(&self, object: &mut Object) {
        if let Self::BuiltIn(ty) = self {
            object.change(|value| complete::complete(ty, value));
        }
    }

    /// Gives a converted object what its version knows, and no more.
    pub fn recast(&self, object: &mut Object) {
        object.change(|value| match self {
            Self::BuiltIn(ty) => {
                // A conversion gives no value of a wrong type; if one did, it is kept as it is.
                if normalize::normalize(ty, value).is_ok() {
                    complete::complete(ty, value);
                }
            }
            Self::Custom(schema) => {
                // Unknown fields go; malformed metadata was refused when the object was written.
                drop(schema.coerce(value, true));
            }
        });
    }
}
