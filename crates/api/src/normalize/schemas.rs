//! JSON schemas inside custom resource definitions: some of their fields hold a schema or something
//! else.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1/marshal.go

use serde_json::Value;

use super::{Error, Walk, Wanted};
use crate::schema::{Scalar, Shape, Type, Union};

impl Walk {
    /// Normalises a union. Its unknown fields are dropped and not told, as in upstream; what is
    /// neither form counts as absent.
    pub(super) fn union(
        &mut self,
        ty: &'static Type,
        union: Union,
        value: &mut Value,
    ) -> Result<(), Error> {
        let told = self.read.unknown.len();
        let known = match (union, &mut *value) {
            (Union::Names, Value::Object(entries)) => {
                for value in entries.values_mut() {
                    self.schema_or_names(ty, value)?;
                }
                true
            }
            (_, Value::Object(fields)) => {
                self.fields(ty, fields)?;
                true
            }
            (Union::Schemas, Value::Array(items)) => {
                for item in items {
                    match item {
                        Value::Object(fields) => self.fields(ty, fields)?,
                        other => {
                            let wanted = Wanted {
                                owner: ty,
                                shape: Shape::Scalar(Scalar::Json),
                                go_type: Some("v1.JSONSchemaProps"),
                            };
                            return Err(self.mismatch(other, wanted));
                        }
                    }
                }
                true
            }
            (Union::Bool, Value::Bool(_)) => true,
            (Union::Bool, _) => {
                return Err(Error::Text("boolean or JSON schema expected".into()));
            }
            _ => false,
        };
        self.read.unknown.truncate(told);
        if !known {
            *value = Value::Null;
        }
        Ok(())
    }

    fn schema_or_names(&mut self, ty: &'static Type, value: &mut Value) -> Result<(), Error> {
        match &mut *value {
            Value::Object(fields) => self.fields(ty, fields),
            Value::Array(names) => {
                let wanted =
                    Wanted { owner: ty, shape: Shape::Scalar(Scalar::String), go_type: None };
                names.iter_mut().try_for_each(|name| self.value(wanted, name))
            }
            other => {
                *other = Value::Null;
                Ok(())
            }
        }
    }
}
