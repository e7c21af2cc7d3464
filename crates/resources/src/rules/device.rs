//! Expressions that select devices.
//!
//! upstream: staging/src/k8s.io/dynamic-resource-allocation/cel/compile.go

use std::sync::{Arc, LazyLock};

use longshore_api::field::{Error, ErrorList, Path};
use longshore_cel::{CALL_COST_MAX, Declared, Environment, Extras, Shape, Type};

use super::admission::{Broken, shown};

const DRIVER_BYTES_MAX: i64 = 63;
const VALUE_BYTES_MAX: i64 = 64;
/// Most attributes and capacities of a device.
const PARTS_MAX: i64 = 32;

/// What selectors see.
fn environment() -> &'static (Environment, Arc<Declared>) {
    static ENVIRONMENT: LazyLock<(Environment, Arc<Declared>)> = LazyLock::new(|| {
        let value = Declared::new(Shape::Dyn).with_max(VALUE_BYTES_MAX);
        let quantity = Type::Struct("kubernetes.Quantity".into());
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
        let device = Arc::new(device);
        (Environment::with_extras(extras).declared("device", device.clone()), device)
    });
    &ENVIRONMENT
}

/// Checks a selector and tells what is wrong with it.
pub fn check(expression: &str, path: &Path, errors: &mut ErrorList) {
    let (environment, device) = environment();
    let program = match environment.compile(expression) {
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
    } else if program.estimate(Some(device)).max > CALL_COST_MAX {
        errors.push(Error::forbidden(path, "too complex, exceeds cost limit"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_checked() {
        let check = |expression: &str| {
            let mut errors = ErrorList::default();
            check(expression, &Path::new("cel"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
        };
        assert_eq!(check("device.driver == 'd' && device.attributes['d'].model == 'h1'"), "");
        let capacity = "device.capacity['d'].memory.compareTo(quantity('8Gi')) >= 0";
        assert_eq!(check(capacity), "");
        assert!(check("device.driver").contains("must evaluate to bool"));
        assert!(check("device.nope").contains("undefined field 'nope'"));
        let many = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a == b && c == d))))";
        assert!(check(many).contains("too complex, exceeds cost limit"), "{}", check(many));
    }
}
