//! The text that takes the kernel from one ruleset to another, as one transaction. Pure.
//!
//! Order matters: what is referred to must be there before, and what goes must not be referred to
//! any more. Sets that clients are remembered in are left alone while their endpoint stays.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::ruleset::{Chain, Ruleset, Set};

/// Family and name of the table.
pub const TABLE: &str = "ip kube-proxy";

/// The text that makes the table anew, whatever it held before.
pub fn whole(new: &Ruleset) -> String {
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n");
    text.push_str(&change(&Ruleset::default(), new));
    text
}

/// The text that deletes the table, whether it is there or not.
pub fn nothing() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// The text that changes the table from `old` to `new`; empty when they are equal.
pub fn change(old: &Ruleset, new: &Ruleset) -> String {
    let mut text = String::new();
    let out = &mut text;
    // A set whose definition changes is made anew, and so are the rules that refer to it.
    let remade = |name: &String, set: &Set| {
        old.sets.get(name).is_some_and(|o| o.kind != set.kind || o.definition != set.definition)
    };
    let remade: Vec<&String> =
        new.sets.iter().filter(|(n, s)| remade(n, s)).map(|(n, _)| n).collect();
    let refers = |chain: &Chain| {
        chain.rules.iter().any(|r| {
            r.split(' ')
                .any(|word| word.strip_prefix('@').is_some_and(|w| remade.iter().any(|n| *n == w)))
        })
    };
    for (name, chain) in &new.chains {
        if !old.chains.contains_key(name) {
            let hook = chain.hook.map(|hook| format!(" {{ {hook} }}")).unwrap_or_default();
            line(out, format_args!("add chain {TABLE} {name}{hook}"));
        }
    }
    let differs = |name: &String, chain: &Chain| {
        old.chains.get(name).is_none_or(|o| o.rules != chain.rules) || refers(chain)
    };
    for (name, chain) in &old.chains {
        if new.chains.get(name).is_none_or(|n| n.rules != chain.rules || refers(n)) {
            line(out, format_args!("flush chain {TABLE} {name}"));
        }
    }
    for name in &remade {
        line(out, format_args!("delete {} {TABLE} {name}", old.sets[*name].kind));
    }
    for (name, set) in &new.sets {
        if !old.sets.contains_key(name) || remade.contains(&name) {
            line(out, format_args!("add {} {TABLE} {name} {{ {} }}", set.kind, set.definition));
        }
    }
    for (name, chain) in &new.chains {
        if differs(name, chain) {
            for rule in &chain.rules {
                line(out, format_args!("add rule {TABLE} {name} {rule}"));
            }
        }
    }
    elements(out, old, new, &remade);
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
        line(out, format_args!("delete chain {TABLE} {name}"));
    }
    for (name, set) in old.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
        line(out, format_args!("delete {} {TABLE} {name}", set.kind));
    }
    text
}

fn elements(out: &mut String, old: &Ruleset, new: &Ruleset, remade: &[&String]) {
    let none = BTreeMap::new();
    for (name, set) in &new.sets {
        let before = old.sets.get(name).filter(|_| !remade.contains(&name));
        let before = before.map_or(&none, |set| &set.elements);
        let gone = before.iter().filter(|(key, verdict)| set.elements.get(*key) != Some(verdict));
        list(out, "delete", name, gone);
        let fresh = set.elements.iter().filter(|(key, verdict)| before.get(*key) != Some(verdict));
        list(out, "add", name, fresh);
    }
}

fn list<'a>(
    out: &mut String,
    verb: &str,
    set: &str,
    entries: impl Iterator<Item = (&'a String, &'a String)>,
) {
    let entry = |(key, verdict): (&String, &String)| match verdict.as_str() {
        "" => key.clone(),
        verdict => format!("{key} : {verdict}"),
    };
    let entries: Vec<String> = entries.map(entry).collect();
    if !entries.is_empty() {
        line(out, format_args!("{verb} element {TABLE} {set} {{ {} }}", entries.join(", ")));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all text");
}
