//! Lists whose schema says how they are compared and added to.

use longshore_api::structural::Schema;
use serde_json::json;

use crate::{CALL_COST_MAX, Declared, Environment, Value};

#[test]
fn sets_and_maps() {
    let item = json!({"type": "object", "properties": {
        "k": {"type": "string"}, "v": {"type": "integer"},
    }});
    let map = json!({
        "type": "array", "items": item,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
    });
    let set = json!({
        "type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set",
    });
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let schema = json!({"type": "object", "properties": {
        "set": set, "other": set, "list": list, "map": map,
    }});
    let schema = Schema::compile(&schema, false).expect("a good schema");
    let declared = Declared::from_schema(schema.root(), "self", false).expect("it is seen");
    let (a, b) = (json!({"k": "a", "v": 1}), json!({"k": "b", "v": 2}));
    let own = json!({"set": [1, 2, 3], "other": [3, 1, 2], "list": [3, 1, 2], "map": [a, b]});
    let turned = json!({"map": [b, a]});
    let changed = json!({"map": [{"k": "b", "v": 5}, {"k": "c", "v": 3}]});
    let data = [("self", &own), ("turned", &turned), ("changed", &changed)];
    let environment = data.iter().fold(Environment::new(), |environment, (name, _)| {
        environment.declared(name, declared.clone().into())
    });
    let wrong: Vec<_> = [
        // Sets have no order, and nothing twice.
        ("self.set == self.other", "true"),
        ("self.set == self.list", "true"),
        ("self.list == [1, 2, 3]", "false"),
        ("self.set == [1, 2]", "false"),
        ("self.set != [1, 2, 4]", "true"),
        ("self.set + [3, 4]", "[1, 2, 3, 4]"),
        ("self.list + [3]", "[3, 1, 2, 3]"),
        // Elements of maps are told apart by their keys; the second one takes the place of the first one.
        ("self.map == turned.map", "true"),
        ("self.map == changed.map", "false"),
        ("(self.map + changed.map).map(e, e.v)", "[1, 5, 3]"),
        ("(self.map + changed.map).map(e, e.k)", "[\"a\", \"b\", \"c\"]"),
        ("self.map + turned.map == self.map", "true"),
    ]
    .into_iter()
    .filter_map(|(source, wanted)| {
        let program = environment.compile(source).expect(source);
        let variables = data.map(|(name, data)| {
            (name, Value::declared(data, &declared).expect("it is as declared"))
        });
        let found = program.evaluate(&variables, CALL_COST_MAX).result;
        let found = found.map_or_else(|error| error.to_string(), |value| format!("{value:?}"));
        (found != wanted).then(|| format!("{source}: wanted {wanted}, found {found}"))
    })
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
