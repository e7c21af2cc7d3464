//! Expressions that select devices.
//!
//! upstream: staging/src/k8s.io/dynamic-resource-allocation/cel/compile.go

use std::sync::{Arc, LazyLock};

use longshore_api::field::{Error, ErrorList, Path};
use longshore_cel::{CALL_COST_MAX, Declared, Environment, Extras, Shape, Type};

use super::admission::{Broken, shown};
use super::cost_max;

const DRIVER_BYTES_MAX: i64 = 63;
const VALUE_BYTES_MAX: i64 = 64;
/// Most attributes and capacities of a device.
const PARTS_MAX: i64 = 32;

/// What selectors see.
fn environment() -> &'static Environment {
    static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
        let value = Declared::new(Shape::Dyn).with_max(VALUE_BYTES_MAX);
        let quantity = Type::Opaque("kubernetes.Quantity".into(), Arc::new([]));
        let of = |value: Declared| {
            Declared::map(Declared::map(value).with_max(PARTS_MAX)).with_max(PARTS_MAX)
        };
        let fields = [
            ("driver", Declared::new(Shape::String).with_max(DRIVER_BYTES_MAX)),
            ("attributes", of(value)),
            ("capacity", of(Declared::new(Shape::Typed(quantity)))),
            ("allowMultipleAllocations", Declared::new(Shape::Bool).with_max(1)),
        ];
        let fields = fields.map(|(name, declared)| (name.to_owned(), declared));
        let device = Declared::object("kubernetes.DRADevice", fields);
        let extras = Extras { bind: true, ..Extras::default() };
        Environment::with_extras(extras).declared("device", Arc::new(device))
    });
    &ENVIRONMENT
}

/// Checks a selector and tells what is wrong with it.
pub fn check(expression: &str, path: &Path, errors: &mut ErrorList) {
    let program = match environment().compile(expression) {
        Ok(program) => program,
        Err(why) => {
            errors.push(Broken::from(why).of_field(path, expression));
            return;
        }
    };
    let found = program.output_type();
    if !matches!(found, Type::Bool | Type::Dyn) {
        let why = format!("must evaluate to bool or the unknown type, not {}", shown(found));
        errors.push(Error::invalid(path, expression, &why));
    } else if cost_max(&program) > CALL_COST_MAX {
        errors.push(Error::forbidden(path, "too complex, exceeds cost limit"));
    }
}
