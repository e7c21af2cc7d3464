//! Declarations of functions, read from the tables of the libraries.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{Type, split};

/// One way to call a function.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Its name, by which costs know it.
    pub id: Arc<str>,
    /// Called as `a.f()`.
    pub member: bool,
    /// What it takes; of a member the first is what it is called on.
    pub args: Vec<Type>,
    /// What it gives.
    pub result: Type,
    /// The parameters in its types.
    pub parameters: Vec<Arc<str>>,
}

/// Functions by name.
#[derive(Clone, Debug, Default)]
pub struct Functions(BTreeMap<Arc<str>, Vec<Overload>>);

impl Functions {
    /// Adds the lines of a table: `function overload(types) type`, the name of a member begins with a dot. What is no
    /// such line is told by its text.
    pub fn add(&mut self, table: &str) -> Result<(), String> {
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, overload) = parse(line).ok_or_else(|| format!("no declaration: {line}"))?;
            self.0.entry(name.into()).or_default().push(overload);
        }
        Ok(())
    }

    /// The ways to call a function.
    pub fn get(&self, name: &str) -> Option<(&Arc<str>, &[Overload])> {
        self.0.get_key_value(name).map(|(name, overloads)| (name, overloads.as_slice()))
    }
}

fn parse(line: &str) -> Option<(&str, Overload)> {
    let (name, rest) = line.split_once(' ')?;
    let (id, rest) = rest.split_once('(')?;
    let mut depth = 1usize;
    let end = rest.char_indices().find_map(|(at, c)| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth - 1,
            _ => depth,
        };
        (depth == 0).then_some(at)
    })?;
    let args = split(&rest[..end]).into_iter().map(Type::parse).collect::<Option<Vec<_>>>()?;
    let result = Type::parse(&rest[end + 1..])?;
    let mut parameters = Vec::new();
    for part in args.iter().chain([&result]) {
        collect(part, &mut parameters);
    }
    let member = id.starts_with('.');
    Some((
        name,
        Overload { id: id.trim_start_matches('.').into(), member, args, result, parameters },
    ))
}

fn collect(part: &Type, into: &mut Vec<Arc<str>>) {
    match part {
        Type::Param(name) if !into.contains(name) => into.push(name.clone()),
        _ => part.parameters().into_iter().for_each(|inner| collect(inner, into)),
    }
}
