//! Service addresses that are in use, and the ranges they come from.
//!
//! upstream: pkg/registry/networking/{ipaddress,servicecidr}/strategy.go,
//! pkg/apis/networking/validation/validation.go

use std::net::IpAddr;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{text, texts};
use crate::core::pods::validation::common::{IMMUTABLE, dns_subdomain, each, immutable};
use crate::core::pods::validation::network::{legacy_cidr, strict_ip};
use crate::plain::{keep, keep_metadata, status_alone};
use crate::rbac::segment_name;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The rules of addresses in use.
pub(super) struct IpAddresses;

impl Strategy for IpAddresses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec").child("parentRef");
        let Some(parent) = object.get(&["spec", "parentRef"]).filter(|p| !p.is_null()) else {
            errors.push(Error::required(&path, ""));
            return errors;
        };
        if !text(parent, "group").is_empty() {
            dns_subdomain(text(parent, "group"), &path.child("group"), &mut errors);
        }
        for key in ["resource", "name", "namespace"] {
            let value = text(parent, key);
            if value.is_empty() && key != "namespace" {
                errors.push(Error::required(&path.child(key), ""));
            }
            each(value, &path.child(key), &segment_name(value), &mut errors);
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.validate_create(new);
        let key = ["spec", "parentRef"];
        let path = Path::new("spec").child("parentRef");
        immutable(new.get(&key), old.get(&key), &path, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        let mut errors = ErrorList::new();
        strict_ip(name, &Path::new("name"), &mut errors);
        let value = format!("{name:?}: ");
        let detail = |body: String| {
            body.split_once(&value).map_or(body.clone(), |(_, detail)| detail.to_owned())
        };
        errors.into_iter().map(|error| detail(error.body)).collect()
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("ParentRef", "Who uses the address.")]
    }

    fn row(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let parent = object.get(&["spec", "parentRef"]).map(|parent| {
            let mut shown = text(parent, "resource").to_lowercase();
            if !text(parent, "group").is_empty() {
                shown = format!("{shown}.{}", text(parent, "group").to_lowercase());
            }
            for key in ["namespace", "name"] {
                if !text(parent, key).is_empty() {
                    shown = format!("{shown}/{}", text(parent, key));
                }
            }
            shown
        });
        let parent = parent.unwrap_or_else(|| "<none>".to_owned());
        vec![object.name().into(), parent.into()]
    }
}

/// The rules of ranges of service addresses.
pub(super) struct ServiceCidrs;

impl Strategy for ServiceCidrs {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            keep(new, old, "spec");
            keep_metadata(new, old);
        } else {
            keep(new, old, "status");
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        ranges(object)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        if ctx.subresource == "status" {
            return errors;
        }
        let path = Path::new("spec").child("cidrs");
        let null = Value::Null;
        let of = |object: &Object| -> Vec<String> {
            let spec = object.get(&["spec"]).unwrap_or(&null);
            texts(spec, "cidrs").into_iter().map(str::to_owned).collect()
        };
        let (ranges_now, before) = (of(new), of(old));
        let grown = before.len() == 1 && ranges_now.len() == 2;
        if before.len() != ranges_now.len() && !grown {
            let value = new.get(&["spec", "cidrs"]).cloned().unwrap_or(Value::Null);
            errors.push(Error::invalid(&path, value, IMMUTABLE));
            return errors;
        }
        for (i, (range, was)) in ranges_now.iter().zip(&before).enumerate() {
            if range != was {
                errors.push(Error::invalid(&path.index(i), range.as_str(), IMMUTABLE));
            }
        }
        if grown {
            errors.extend(ranges(new));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("CIDRs", "The ranges."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        vec![object.name().into(), texts(spec, "cidrs").join(",").into(), age(object, now)]
    }
}

/// upstream: validateServiceCIDRSpec, IsValidCIDR
fn ranges(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let null = Value::Null;
    let spec = object.get(&["spec"]).unwrap_or(&null);
    let ranges = texts(spec, "cidrs");
    let path = Path::new("spec").child("cidrs");
    if ranges.is_empty() {
        errors.push(Error::required(&path, "at least one CIDR required"));
        return errors;
    }
    if ranges.len() > 2 {
        // The field as the internal type names it.
        let shown = json!({ "CIDRs": ranges });
        errors.push(Error::invalid(&path, shown, "may only hold up to 2 values"));
        return errors;
    }
    let mut families = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        let at = path.index(i);
        let before = errors.len();
        legacy_cidr(range, &at, &[], &mut errors);
        let Some((address, length)) = range.split_once('/') else { continue };
        let Ok(ip) = address.parse::<IpAddr>() else { continue };
        families.push(ip.is_ipv4());
        let wanted = format!("{ip}/{length}");
        if errors.len() == before && wanted != *range {
            let why = format!("must be in canonical form ({wanted:?})");
            errors.push(Error::invalid(&at, *range, &why));
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Error::invalid(&path, ranges, why));
    }
    errors
}
