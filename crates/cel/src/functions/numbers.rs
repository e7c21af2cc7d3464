//! Quantities and versions.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/library/quantity.go, semverlib.go

use std::any::Any;
use std::cmp::Ordering;

use longshore_api::quantity::Quantity;

use super::{Entry, Library, no_overload};
use crate::types::Type;
use crate::value::{EvalError, Opaque, Outcome, Value};

/// The library.
pub const NUMBERS: Library = Library {
    name: "numbers",
    declarations: "
        quantity string_to_quantity(string) #kubernetes.Quantity
        isQuantity is_quantity_string(string) bool
        sign quantity_sign(#kubernetes.Quantity) int
        isGreaterThan .quantity_is_greater_than(#kubernetes.Quantity, #kubernetes.Quantity) bool
        isLessThan .quantity_is_less_than(#kubernetes.Quantity, #kubernetes.Quantity) bool
        compareTo .quantity_compare_to(#kubernetes.Quantity, #kubernetes.Quantity) int
        asApproximateFloat .quantity_get_float(#kubernetes.Quantity) double
        asInteger .quantity_get_int(#kubernetes.Quantity) int
        isInteger .quantity_is_integer(#kubernetes.Quantity) bool
        add .quantity_add(#kubernetes.Quantity, #kubernetes.Quantity) #kubernetes.Quantity
        add .quantity_add_int(#kubernetes.Quantity, int) #kubernetes.Quantity
        sub .quantity_sub(#kubernetes.Quantity, #kubernetes.Quantity) #kubernetes.Quantity
        sub .quantity_sub_int(#kubernetes.Quantity, int) #kubernetes.Quantity
        semver string_to_semver(string) #kubernetes.Semver
        semver string_bool_to_semver(string, bool) #kubernetes.Semver
        isSemver is_semver_string(string) bool
        isSemver is_semver_string_bool(string, bool) bool
        isGreaterThan .semver_is_greater_than(#kubernetes.Semver, #kubernetes.Semver) bool
        isLessThan .semver_is_less_than(#kubernetes.Semver, #kubernetes.Semver) bool
        compareTo .semver_compare_to(#kubernetes.Semver, #kubernetes.Semver) int
        major .semver_major(#kubernetes.Semver) int
        minor .semver_minor(#kubernetes.Semver) int
        patch .semver_patch(#kubernetes.Semver) int
    ",
    functions: FUNCTIONS,
};

const FUNCTIONS: &[Entry] = &[
    ("quantity", |_, args| match args {
        [Value::String(text)] => match Quantity::parse(text.as_str()) {
            Ok(quantity) => Ok(Value::opaque(Amount(quantity))),
            Err(error) => Err(EvalError::new(error.to_string())),
        },
        _ => no_overload(),
    }),
    ("isQuantity", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text.as_str()).is_ok())),
        _ => no_overload(),
    }),
    ("sign", |_, args| amount(args, |quantity| Ok(Value::Int(i64::from(quantity.sign()))))),
    ("asApproximateFloat", |_, args| {
        amount(args, |quantity| Ok(Value::Double(quantity.approximate())))
    }),
    ("asInteger", |_, args| {
        amount(args, |quantity| match whole(quantity) {
            Some(number) => Ok(Value::Int(number)),
            None => Err(EvalError::new("cannot convert value to integer")),
        })
    }),
    ("isInteger", |_, args| amount(args, |quantity| Ok(Value::Bool(whole(quantity).is_some())))),
    ("add", |_, args| reckon(args, Quantity::plus)),
    ("sub", |_, args| reckon(args, Quantity::minus)),
    ("isGreaterThan", |_, args| Ok(Value::Bool(order(args)? == Ordering::Greater))),
    ("isLessThan", |_, args| Ok(Value::Bool(order(args)? == Ordering::Less))),
    ("compareTo", |_, args| Ok(Value::Int(order(args)? as i64))),
    ("semver", |_, args| version(args).map(Value::opaque)),
    ("isSemver", |_, args| match args.first() {
        Some(Value::String(_)) => Ok(Value::Bool(version(args).is_ok())),
        _ => no_overload(),
    }),
    ("major", |_, args| part(args, |version| version.numbers[0])),
    ("minor", |_, args| part(args, |version| version.numbers[1])),
    ("patch", |_, args| part(args, |version| version.numbers[2])),
];

/// A quantity.
#[derive(Debug)]
struct Amount(Quantity);

impl Opaque for Amount {
    fn type_of(&self) -> Type {
        Type::object("kubernetes.Quantity")
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other.0 == self.0)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn whole(quantity: Quantity) -> Option<i64> {
    let number = quantity.value();
    (Quantity::from_integer(number) == quantity).then_some(number)
}

fn amount<'a>(args: &[Value<'a>], tell: impl Fn(Quantity) -> Outcome<'a>) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Amount>() {
            Some(amount) => tell(amount.0),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn reckon<'a>(args: &[Value<'a>], with: impl Fn(Quantity, Quantity) -> Quantity) -> Outcome<'a> {
    let [one, two] = args else { return no_overload() };
    let Some(one) = one.downcast::<Amount>() else { return no_overload() };
    let two = match two {
        Value::Int(number) => Quantity::from_integer(*number),
        other => match other.downcast::<Amount>() {
            Some(amount) => amount.0,
            None => return no_overload(),
        },
    };
    Ok(Value::opaque(Amount(with(one.0, two))))
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    let [one, two] = args else { return Err(EvalError::no_such_overload()) };
    if let (Some(one), Some(two)) = (one.downcast::<Amount>(), two.downcast::<Amount>()) {
        return Ok(one.0.cmp(&two.0));
    }
    match (one.downcast::<Version>(), two.downcast::<Version>()) {
        (Some(one), Some(two)) => Ok(one.order(two)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A version. What was built does not order it.
#[derive(Debug)]
struct Version {
    numbers: [u64; 3],
    before: Vec<String>,
}

impl Opaque for Version {
    fn type_of(&self) -> Type {
        Type::object("kubernetes.Semver")
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other
            .as_any()
            .downcast_ref::<Self>()
            .is_some_and(|other| self.order(other) == Ordering::Equal)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Version {
    /// upstream: vendor/github.com/blang/semver/v4 Compare
    fn order(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        if numbers != Ordering::Equal {
            return numbers;
        }
        match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        for (one, two) in self.before.iter().zip(&other.before) {
            let order = match (one.parse::<u64>(), two.parse::<u64>()) {
                (Ok(one), Ok(two)) => one.cmp(&two),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => one.cmp(two),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        self.before.len().cmp(&other.before.len())
    }

    /// upstream: vendor/github.com/blang/semver/v4 Parse
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) =
            rest.split_once('+').map_or((*rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, before) =
            rest.split_once('-').map_or((rest, None), |(patch, before)| (patch, Some(before)));
        let numbers = [
            number("Major", "major", major)?,
            number("Minor", "minor", minor)?,
            number("Patch", "patch", patch)?,
        ];
        let mut found = Vec::new();
        for part in before.iter().flat_map(|before| before.split('.')) {
            if part.is_empty() {
                return Err("Prerelease is empty".to_owned());
            }
            if part.bytes().all(|b| b.is_ascii_digit()) {
                if part.len() > 1 && part.starts_with('0') {
                    return Err(format!(
                        "Numeric PreRelease version must not contain leading zeroes {part:?}"
                    ));
                }
                in_range(part)?;
            } else if !is_word(part) {
                return Err(format!("Invalid character(s) found in prerelease {part:?}"));
            }
            found.push(part.to_owned());
        }
        for part in build.iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !is_word(part) {
                return Err(format!("Invalid character(s) found in build meta data {part:?}"));
            }
        }
        Ok(Self { numbers, before: found })
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn number(name: &str, small: &str, text: &str) -> Result<u64, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {small} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes {text:?}"));
    }
    in_range(text)
}

fn in_range(text: &str) -> Result<u64, String> {
    let why = if text.is_empty() { "invalid syntax" } else { "value out of range" };
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

/// Without `v` and leading zeros, with the numbers that are missing.
fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text
        .splitn(3, '.')
        .map(|part| {
            let trimmed = part.trim_start_matches('0');
            if part.len() > 1 && !trimmed.starts_with(|c: char| c.is_ascii_digit()) {
                format!("0{trimmed}")
            } else if part.len() > 1 {
                trimmed.to_owned()
            } else {
                part.to_owned()
            }
        })
        .collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    while parts.len() < 3 {
        parts.push("0".to_owned());
    }
    Ok(parts.join("."))
}

fn version(args: &[Value<'_>]) -> Result<Version, EvalError> {
    let parsed = match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => {
            Version::parse(text.as_str())
        }
        [Value::String(text), Value::Bool(true)] => {
            normalized(text.as_str()).and_then(|text| Version::parse(&text))
        }
        _ => return Err(EvalError::no_such_overload()),
    };
    parsed.map_err(EvalError::new)
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Version) -> u64) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Version>() {
            Some(version) => Ok(Value::Int(of(version) as i64)),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

/// A quantity as a value, for hosts that have some.
pub fn quantity_value<'a>(quantity: Quantity) -> Value<'a> {
    Value::opaque(Amount(quantity))
}

/// A version as a value, for hosts that have some.
///
/// # Errors
/// Why the text is none.
pub fn version_value<'a>(text: &str) -> Result<Value<'a>, String> {
    Version::parse(text).map(Value::opaque)
}
