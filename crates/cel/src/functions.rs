//! The functions: what the libraries declare and what they do.

mod address;
pub(crate) mod authorizer;
pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod format_text;
mod lists;
pub(crate) mod numbers;
mod optional;
mod strings;
mod times;
mod urls;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use longshore_api::pattern::Pattern;

use crate::ops;
use crate::value::{EvalError, Outcome, Value};

/// What a function needs besides its arguments.
#[derive(Default)]
pub struct Context<'c> {
    /// A pattern that was read before.
    pub pattern: Option<&'c Pattern>,
    /// Which overload is called, if that is clear.
    pub overload: Option<&'c str>,
}

/// A function. Of a member the first argument is what it is called on.
pub type Function = for<'a> fn(&Context<'_>, &[Value<'a>]) -> Outcome<'a>;

/// A function with its name.
pub type Entry = (&'static str, Function);

/// A part of the functions, as environments choose them.
pub struct Library {
    /// Its name.
    pub name: &'static str,
    /// What it declares; see `Functions::add`.
    pub declarations: &'static str,
    /// What its functions do. One name may have been given by another library before: then that one asks this one.
    pub functions: &'static [Entry],
}

/// Every library.
pub const LIBRARIES: &[Library] = &[
    Library {
        name: "standard",
        declarations: include_str!("functions/standard.txt"),
        functions: ops::FUNCTIONS,
    },
    Library { name: "conversions", declarations: "", functions: convert::FUNCTIONS },
    Library { name: "times", declarations: "", functions: times::FUNCTIONS },
    Library {
        name: "optional",
        declarations: include_str!("functions/optional.txt"),
        functions: optional::FUNCTIONS,
    },
    lists::LISTS,
    strings::STRINGS,
    strings::JSON_PATCH,
    urls::URLS,
    numbers::NUMBERS,
    address::ADDRESSES,
    format::FORMATS,
    authorizer::AUTHORIZER,
];

/// The function of a name.
pub fn find(name: &str) -> Option<Function> {
    static ALL: LazyLock<BTreeMap<&'static str, Function>> = LazyLock::new(|| {
        LIBRARIES.iter().flat_map(|library| library.functions.iter().copied()).collect()
    });
    ALL.get(name).copied()
}

/// For arguments that a function does not take.
pub(crate) fn no_overload<'a>() -> Outcome<'a> {
    Err(EvalError::no_such_overload())
}
