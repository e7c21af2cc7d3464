//! Formats with names, such as those of labels.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/library/format.go

use std::any::Any;

use longshore_api::names;
use longshore_api::structural::formats;
use longshore_api::url::Url;

use super::{Entry, Library, no_overload};
use crate::types::Type;
use crate::value::{Opaque, Value};

/// The library.
pub const FORMATS: Library = Library {
    name: "formats",
    declarations: "
        format.dns1123Label format.dns1123Label() #kubernetes.NamedFormat
        format.dns1123Subdomain format.dns1123Subdomain() #kubernetes.NamedFormat
        format.dns1035Label format.dns1035Label() #kubernetes.NamedFormat
        format.qualifiedName format.qualifiedName() #kubernetes.NamedFormat
        format.dns1123LabelPrefix format.dns1123LabelPrefix() #kubernetes.NamedFormat
        format.dns1123SubdomainPrefix format.dns1123SubdomainPrefix() #kubernetes.NamedFormat
        format.dns1035LabelPrefix format.dns1035LabelPrefix() #kubernetes.NamedFormat
        format.labelValue format.labelValue() #kubernetes.NamedFormat
        format.uri format.uri() #kubernetes.NamedFormat
        format.uuid format.uuid() #kubernetes.NamedFormat
        format.byte format.byte() #kubernetes.NamedFormat
        format.date format.date() #kubernetes.NamedFormat
        format.datetime format.datetime() #kubernetes.NamedFormat
        format.named format-named(string) optional(#kubernetes.NamedFormat)
        validate .format-validate(#kubernetes.NamedFormat, string) optional(list(string))
    ",
    functions: FUNCTIONS,
};

macro_rules! constant {
    ($index:literal) => {
        |_, _| Ok(Value::opaque(Format(&ALL[$index])))
    };
}

const FUNCTIONS: &[Entry] = &[
    ("format.dns1123Label", constant!(0)),
    ("format.dns1123Subdomain", constant!(1)),
    ("format.dns1035Label", constant!(2)),
    ("format.qualifiedName", constant!(3)),
    ("format.dns1123LabelPrefix", constant!(4)),
    ("format.dns1123SubdomainPrefix", constant!(5)),
    ("format.dns1035LabelPrefix", constant!(6)),
    ("format.labelValue", constant!(7)),
    ("format.uri", constant!(8)),
    ("format.uuid", constant!(9)),
    ("format.byte", constant!(10)),
    ("format.date", constant!(11)),
    ("format.datetime", constant!(12)),
    ("format.named", |_, args| match args {
        [Value::String(name)] => {
            let found = ALL.iter().find(|named| named.name == name.as_str());
            Ok(found
                .map_or(Value::Optional(None), |named| Value::some(Value::opaque(Format(named)))))
        }
        _ => no_overload(),
    }),
    ("validate", |_, args| match args {
        [format, Value::String(text)] => {
            let Some(Format(named)) = format.downcast::<Format>() else { return no_overload() };
            let wrong = (named.check)(text.as_str());
            if wrong.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
        }
        _ => no_overload(),
    }),
];

/// A format: its name, how large its pattern is for costs, and what is wrong with a text.
#[derive(Debug)]
struct Named {
    name: &'static str,
    size: u64,
    check: fn(&str) -> Vec<String>,
}

const ALL: [Named; 13] = [
    Named { name: "dns1123Label", size: 30, check: names::is_dns1123_label },
    Named { name: "dns1123Subdomain", size: 60, check: names::is_dns1123_subdomain },
    Named { name: "dns1035Label", size: 30, check: names::is_dns1035_label },
    Named { name: "qualifiedName", size: 60, check: names::is_qualified_name },
    Named {
        name: "dns1123LabelPrefix",
        size: 30,
        check: |text| names::is_dns1123_label(&masked(text)),
    },
    Named {
        name: "dns1123SubdomainPrefix",
        size: 60,
        check: |text| names::is_dns1123_subdomain(&masked(text)),
    },
    Named {
        name: "dns1035LabelPrefix",
        size: 30,
        check: |text| names::is_dns1035_label(&masked(text)),
    },
    Named { name: "labelValue", size: 40, check: names::is_valid_label_value },
    Named {
        name: "uri",
        size: URL_SIZE,
        check: |text| Url::of_request(text).err().into_iter().collect(),
    },
    Named {
        name: "uuid",
        size: UUID_SIZE,
        check: |text| told(text, "uuid", "does not match the UUID format"),
    },
    Named { name: "byte", size: BASE64_SIZE, check: |text| told(text, "byte", "invalid base64") },
    Named { name: "date", size: TIME_SIZE, check: |text| told(text, "date", "invalid date") },
    Named {
        name: "datetime",
        size: TIME_SIZE,
        check: |text| told(text, "datetime", "invalid datetime"),
    },
];

/// The lengths of upstream's patterns, which are costs.
const URL_SIZE: u64 = 1_103;
const BASE64_SIZE: u64 = 84;
const UUID_SIZE: u64 = 70;
const TIME_SIZE: u64 = 71;

/// A beginning of a name may end with a dash.
fn masked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(before) if !before.is_empty() => {
            let mut out: String = before.to_owned();
            out.pop();
            out.push('a');
            out
        }
        _ => text.to_owned(),
    }
}

fn told(text: &str, format: &str, wrong: &str) -> Vec<String> {
    if formats::fits(format, text) { Vec::new() } else { vec![wrong.to_owned()] }
}

#[derive(Debug)]
struct Format(&'static Named);

impl Opaque for Format {
    fn type_of(&self) -> Type {
        Type::object("kubernetes.NamedFormat")
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other.0.name == self.0.name)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// How large the pattern of a format is, for costs.
pub(crate) fn pattern_size(value: &Value<'_>) -> Option<u64> {
    value.downcast::<Format>().map(|format| format.0.size)
}
