//! The texts that take the kernel from one ruleset to another, each a transaction. Pure.
//!
//! Order matters: what is referred to must be there before, and what goes must not be referred to
//! any more. That holds for packets on their way, too: one that a transaction overtakes goes on in the rules
//! from before it, but finds the elements from after it. So what is new is there one transaction before
//! anything leads to it, and what is old stays until nothing has led to it for a transaction: otherwise about
//! one packet in a million would find no way while endpoints come and go.
//! Sets that clients are remembered in are left alone while their endpoint stays.
//!
//! upstream: Linux, net/netfilter/nf_tables_core.c (nft_do_chain), nft_lookup.c

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::ruleset::{Chain, Ruleset};

/// Family and name of the table.
pub const TABLE: &str = "ip kube-proxy";

/// The text that makes the table anew, whatever it held before.
pub fn whole(new: &Ruleset) -> String {
    let table = format!("add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n");
    table + &change(&Ruleset::default(), new).concat()
}

/// The text that deletes the table, whether it is there or not.
pub fn nothing() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// The text that leaves everything as it is; it is refused when somebody has taken the table away.
pub fn renew(of: &Ruleset) -> String {
    let mut text = String::new();
    for (name, chain) in of.chains.iter().filter(|(_, chain)| chain.hook.is_some()) {
        line(&mut text, format_args!("flush chain {TABLE} {name}"));
        rules(&mut text, name, chain);
    }
    text
}

/// The texts that change the table from `old` to `new`, to be applied one after the other; none when they are equal.
pub fn change(old: &Ruleset, new: &Ruleset) -> Vec<String> {
    let mut texts = vec![prepare(old, new), switch(old, new), remove(old, new)];
    texts.retain(|text| !text.is_empty());
    texts
}

/// Adds what is not there yet; nothing leads to it.
fn prepare(old: &Ruleset, new: &Ruleset) -> String {
    let mut text = String::new();
    let out = &mut text;
    let fresh = || new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name));
    // Chains on hooks are for the next step: packets are led to them at once.
    for (name, _) in fresh().filter(|(_, chain)| chain.hook.is_none()) {
        line(out, format_args!("add chain {TABLE} {name}"));
    }
    for (name, set) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        line(out, format_args!("add {} {TABLE} {name} {{ {} }}", set.kind, set.definition));
    }
    for (name, chain) in fresh().filter(|(_, chain)| chain.hook.is_none()) {
        rules(out, name, chain);
    }
    text
}

/// Changes what is there, so that it leads to what is new.
fn switch(old: &Ruleset, new: &Ruleset) -> String {
    let mut text = String::new();
    let out = &mut text;
    let changed = || {
        new.chains.iter().filter(|(name, chain)| match old.chains.get(*name) {
            Some(before) => before.rules != chain.rules,
            None => chain.hook.is_some(),
        })
    };
    for (name, chain) in changed() {
        match chain.hook.filter(|_| !old.chains.contains_key(name)) {
            Some(hook) => line(out, format_args!("add chain {TABLE} {name} {{ {hook} }}")),
            None => line(out, format_args!("flush chain {TABLE} {name}")),
        }
    }
    for (name, chain) in changed() {
        rules(out, name, chain);
    }
    elements(out, old, new);
    text
}

/// Deletes what nothing leads to any more.
fn remove(old: &Ruleset, new: &Ruleset) -> String {
    let mut text = String::new();
    let out = &mut text;
    let gone = || old.chains.keys().filter(|name| !new.chains.contains_key(*name));
    // They refer to one another.
    for name in gone() {
        line(out, format_args!("flush chain {TABLE} {name}"));
    }
    for name in gone() {
        line(out, format_args!("delete chain {TABLE} {name}"));
    }
    for (name, set) in old.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
        line(out, format_args!("delete {} {TABLE} {name}", set.kind));
    }
    text
}

fn rules(out: &mut String, chain: &str, of: &Chain) {
    for rule in &of.rules {
        line(out, format_args!("add rule {TABLE} {chain} {rule}"));
    }
}

fn elements(out: &mut String, old: &Ruleset, new: &Ruleset) {
    let none = BTreeMap::new();
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map_or(&none, |set| &set.elements);
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
