//! Random histories of one object, checked against a model that knows nothing of trees: cells with
//! values, containers that are there while they hold something, and who manages which of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Filter, OneVersion, Write, apply, track};
use crate::Object;
use crate::schema::Type;

/// The containers and how their items are written in a field set.
const CONTAINERS: [&str; 3] = ["data", "labels", "finalizers"];
const HISTORIES: u64 = 400;
const STEPS: usize = 40;

/// A container, or an item of one.
type Cell = (&'static str, Option<&'static str>);
type Cells = BTreeMap<Cell, &'static str>;
/// Name of a manager, and whether it applies.
type Manager = (&'static str, bool);

/// Small deterministic random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).expect("an index")]
    }

    /// Some items with values; items of the set have themselves as the value.
    fn cells(&mut self) -> Cells {
        let mut cells = Cells::new();
        for container in CONTAINERS {
            for item in ["x.y/a", "x.y/b", "x.y/c"] {
                if self.roll(3) == 0 {
                    let value = self.pick(&["1", "2"]);
                    let set = container == "finalizers";
                    cells.insert((container, Some(item)), if set { item } else { value });
                }
            }
        }
        cells
    }
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    exists: bool,
    cells: Cells,
    owners: BTreeMap<Manager, BTreeSet<Cell>>,
}

impl Model {
    fn containers(cells: &Cells) -> BTreeSet<Cell> {
        cells.keys().map(|(container, _)| (*container, None)).collect()
    }

    fn lose(&mut self, lost: &BTreeSet<Cell>, but: Option<Manager>) {
        for (manager, owned) in &mut self.owners {
            if but != Some(*manager) {
                owned.retain(|cell| !lost.contains(cell));
            }
        }
        self.owners.retain(|_, owned| !owned.is_empty());
    }

    fn update(&mut self, name: &'static str, wanted: &Cells) {
        let tracked = !self.exists || !self.owners.is_empty();
        let (before, after) = (Self::containers(&self.cells), Self::containers(wanted));
        let mut changed: BTreeSet<Cell> = wanted
            .iter()
            .filter(|(c, v)| self.cells.get(*c) != Some(*v))
            .map(|(c, _)| *c)
            .collect();
        changed.extend(after.difference(&before));
        let mut gone: BTreeSet<Cell> =
            self.cells.keys().filter(|cell| !wanted.contains_key(*cell)).copied().collect();
        gone.extend(before.difference(&after));
        if tracked {
            self.lose(&changed, None);
            self.lose(&gone, None);
            if !changed.is_empty() {
                self.owners.entry((name, false)).or_default().extend(changed);
            }
        }
        self.exists = true;
        self.cells = wanted.clone();
    }

    /// The conflicts, or none when the configuration was applied.
    fn apply(&mut self, name: &'static str, config: &Cells, force: bool) -> BTreeSet<Cell> {
        let own = (name, true);
        let mut next = self.clone();
        if next.owners.is_empty() && next.exists && !next.cells.is_empty() {
            let mut all: BTreeSet<Cell> = next.cells.keys().copied().collect();
            all.extend(Self::containers(&next.cells));
            next.owners.insert(("before-first-apply", false), all);
        }
        let last = next.owners.insert(own, config.keys().copied().collect()).unwrap_or_default();
        let (before, wanted) = (Self::containers(&next.cells), Self::containers(config));
        let mut changed: BTreeSet<Cell> = config
            .iter()
            .filter(|(c, v)| next.cells.get(*c) != Some(*v))
            .map(|(c, _)| *c)
            .collect();
        changed.extend(wanted.difference(&before));
        let others = |cell: &Cell| {
            next.owners.iter().any(|(manager, owned)| *manager != own && owned.contains(cell))
        };
        let conflicts: BTreeSet<Cell> = changed.iter().filter(|c| others(c)).copied().collect();
        if !conflicts.is_empty() && !force {
            return conflicts;
        }
        let dropped: BTreeSet<Cell> =
            last.iter().filter(|c| !config.contains_key(*c) && !others(c)).copied().collect();
        next.lose(&changed, Some(own));
        next.cells.extend(config);
        next.cells.retain(|cell, _| !dropped.contains(cell));
        // A list that loses its last item goes with it; an empty map stays until it is stored.
        let list = "finalizers";
        let was_in_list = dropped.iter().any(|(container, _)| *container == list);
        if was_in_list && !Self::containers(&next.cells).contains(&(list, None)) {
            next.lose(&BTreeSet::from([(list, None)]), None);
        }
        next.owners.retain(|_, owned| !owned.is_empty());
        next.exists = true;
        *self = next;
        BTreeSet::new()
    }
}

/// A config map that holds the cells.
fn object(cells: &Cells) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    for ((container, item), value) in cells {
        let item = item.expect("only items have values");
        match *container {
            "data" => object["data"][item] = json!(value),
            "labels" => object["metadata"]["labels"][item] = json!(value),
            _ => {
                let list = &mut object["metadata"]["finalizers"];
                if list.is_null() {
                    *list = json!([]);
                }
                list.as_array_mut().expect("a list").push(json!(item));
            }
        }
    }
    object
}

fn known(text: &str) -> &'static str {
    let all = ["x.y/a", "x.y/b", "x.y/c", "1", "2", "p", "q", "r", "u", "w", "before-first-apply"];
    all.into_iter().find(|known| *known == text).expect("a text of the test")
}

/// What the model says of the object.
fn read(object: &Object) -> Model {
    let mut model = Model { exists: true, ..Model::default() };
    let map =
        |path: &[&str]| object.get(path).and_then(Value::as_object).cloned().unwrap_or_default();
    for (container, map) in [("data", map(&["data"])), ("labels", map(&["metadata", "labels"]))] {
        for (key, value) in &map {
            let value = known(value.as_str().expect("a text"));
            model.cells.insert((container, Some(known(key))), value);
        }
    }
    for item in object.finalizers() {
        model.cells.insert(("finalizers", Some(known(item))), known(item));
    }
    for entry in object.list(&["metadata", "managedFields"]) {
        let manager = known(entry["manager"].as_str().expect("a name"));
        let mut owned = BTreeSet::new();
        let fields = &entry["fieldsV1"];
        for (container, set) in [
            ("data", &fields["f:data"]),
            ("labels", &fields["f:metadata"]["f:labels"]),
            ("finalizers", &fields["f:metadata"]["f:finalizers"]),
        ] {
            let Some(set) = set.as_object() else { continue };
            if set.is_empty() || set.contains_key(".") {
                owned.insert((container, None));
            }
            for name in set.keys().filter(|name| *name != ".") {
                let text = name.get(2..).unwrap_or("").trim_matches('"');
                owned.insert((container, Some(known(text))));
            }
        }
        model.owners.insert((manager, entry["operation"] == "Apply"), owned);
    }
    model
}

fn write(ty: &'static Type, manager: &'static str) -> Write<'static> {
    Write {
        ty: ty.into(),
        api_version: "v1",
        subresource: "",
        manager,
        now: "2026-01-01T00:00:00Z",
        filter: Filter::All,
        versions: &OneVersion,
    }
}

#[test]
fn random_histories_agree_with_the_model() {
    let ty = crate::schema::kind("", "v1", "ConfigMap").expect("a built-in kind");
    let mut refused = 0;
    for seed in 0..HISTORIES {
        let mut dice = Dice(seed);
        let mut model = Model::default();
        let mut live = Object::default();
        for step in 0..STEPS {
            let cells = dice.cells();
            let at = format!("history {seed}, step {step}: {cells:?} on {model:?}");
            if dice.roll(3) == 0 {
                let name = dice.pick(&["u", "w"]);
                let mut new = Object::from_value(object(&cells)).expect("an object");
                if model.exists {
                    new.set(&["metadata", "uid"], "u");
                }
                track(&write(ty, name), &live, &mut new);
                live = new;
                model.update(name, &cells);
            } else {
                let (name, force) = (dice.pick(&["p", "q", "r"]), dice.roll(3) == 0);
                let config = object(&cells);
                let outcome = apply(&write(ty, name), "ConfigMap", &live, &config, force);
                let conflicts = model.apply(name, &cells, force);
                match outcome {
                    Ok(new) => {
                        assert!(conflicts.is_empty(), "{name} should be refused: {at}");
                        live = new;
                    }
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.code, 409, "{error} {at}");
                        let told: BTreeSet<&str> =
                            error.causes.iter().map(|cause| cause.field.as_str()).collect();
                        assert_eq!(told.len(), conflicts.len(), "{told:?} {conflicts:?} {at}");
                        continue;
                    }
                }
            }
            live.set(&["metadata", "uid"], "u");
            assert_eq!(read(&live), model, "{at}");
        }
    }
    assert!(refused > 500, "the histories have conflicts: {refused}");
}

#[test]
fn what_was_applied_is_read_back() {
    let ty = crate::schema::kind("", "v1", "ConfigMap").expect("a built-in kind");
    let mut dice = Dice(7);
    let mut live = Object::default();
    for _ in 0..HISTORIES {
        let cells = dice.cells();
        let name = dice.pick(&["p", "q", "r"]);
        live = apply(&write(ty, name), "ConfigMap", &live, &object(&cells), true).expect("forced");
        live.set(&["metadata", "uid"], "u");
        let read = read(&live);
        for (cell, value) in &cells {
            assert_eq!(read.cells.get(cell), Some(value));
            assert!(read.owners[&(name, true)].contains(cell));
        }
        // Applying it again changes nothing.
        let again = apply(&write(ty, name), "ConfigMap", &live, &object(&cells), false);
        assert_eq!(again.expect("no conflict"), live);
    }
    assert!(
        live.root().get("data").is_none_or(|data| !data.as_object().is_some_and(Map::is_empty))
    );
}
