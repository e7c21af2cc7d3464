//! Charges writes against the quotas of their namespace.
//!
//! Comes last in admission, where upstream's ResourceQuota plugin stands, and writes through the
//! registry, so it is a step of it rather than a plugin. A quota's status is the account: each
//! charge is a compare-and-swap on it, so that writes at the same time cannot both take what is
//! left.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::{Object, StatusError};
use longshore_resources::amounts::{Amounts, add, amounts};
use longshore_resources::quota::Counted;
use serde_json::{Map, Value};

use super::{Own, Registry, Served, UpdateOptions, WriteContext};
use crate::admission::Attributes;
use crate::cache::range;

/// A write that may use more than before.
struct Charge<'a> {
    a: &'a Attributes<'a>,
    counted: Counted,
    new: &'a Object,
    old: Option<&'a Object>,
}

impl Registry {
    /// Charges a write to all quotas that it falls under, or refuses it. A dry run is checked only.
    pub(super) async fn charge(
        &self,
        a: &Attributes<'_>,
        new: &Object,
        old: Option<&Object>,
    ) -> Result<(), StatusError> {
        let new_namespace = a.is("", "namespaces") && a.creates();
        if a.namespace.is_empty() || new_namespace {
            return Ok(());
        }
        let Some(quotas) = self.table().any_version("", "resourcequotas").cloned() else {
            return Ok(());
        };
        let present: Vec<Object> = {
            let (snapshot, _) = quotas.cache.snapshot();
            let all = range(&snapshot, a.namespace, None);
            all.map(|(_, entry)| entry.object()).collect()
        };
        if present.is_empty() {
            return Ok(());
        }
        let Some(counted) = Counted::of(&a.resource.group, &a.resource.plural) else {
            return Ok(());
        };
        if !counted.is_charged(a.subresource, new, old) {
            return Ok(());
        }
        let charge = Charge { a, counted, new, old };
        charge.refuse_negative()?;
        // All of them have to agree before one is charged.
        let mut changed = Vec::new();
        for quota in &present {
            if charge.used_after(quota)?.is_some() {
                changed.push(quota.name());
            }
        }
        if a.dry_run {
            return Ok(());
        }
        for name in changed {
            self.write_used(&quotas, &charge, name).await?;
        }
        Ok(())
    }

    /// Boxed: writing a quota is an update, and updates are charged.
    fn write_used<'a>(
        &'a self,
        quotas: &'a Arc<Served>,
        charge: &'a Charge<'a>,
        name: &'a str,
    ) -> BoxFuture<'a, Result<(), StatusError>> {
        async move {
            let own = Own::default();
            let ctx = WriteContext {
                namespace: charge.a.namespace,
                subresource: "status",
                ..own.context(self, quotas)
            };
            let change = |quota: Option<&Object>| {
                let gone = || StatusError::not_found("", "resourcequotas", name);
                let mut quota = quota.cloned().ok_or_else(gone)?;
                if let Some(used) = charge.used_after(&quota)? {
                    quota.set(&["status", "used"], used);
                }
                Ok(quota)
            };
            match self.update(&ctx, name, UpdateOptions::default(), &change).await {
                // A quota that is gone meanwhile limits nothing.
                Err(error) if error.code == 404 => Ok(()),
                other => other.map(drop),
            }
        }
        .boxed()
    }
}

impl Charge<'_> {
    fn forbidden(&self, why: &str) -> StatusError {
        self.a.forbidden(Some(self.new), why)
    }

    fn refuse_negative(&self) -> Result<(), StatusError> {
        let usage = self.counted.usage(self.new);
        let negative: Vec<&str> =
            usage.iter().filter(|(_, a)| a.sign() < 0).map(|(name, _)| name.as_str()).collect();
        if negative.is_empty() {
            return Ok(());
        }
        let names = negative.join(",");
        Err(self.forbidden(&format!("quota usage is negative for resource(s): {names}")))
    }

    /// What a quota says is used once the write is done; `None` when it does not change that.
    fn used_after(&self, quota: &Object) -> Result<Option<Map<String, Value>>, StatusError> {
        let none = Value::Null;
        let part = |key: &str| amounts(quota.get(&["status", key]).unwrap_or(&none));
        let (hard, used) = (part("hard"), part("used"));
        let limited = self.counted.matching(hard.keys().map(String::as_str));
        if limited.is_empty() || !self.counted.in_scope(quota, self.new) {
            return Ok(None);
        }
        let name = quota.name();
        self.counted
            .constraints(&limited, self.new)
            .map_err(|why| self.forbidden(&format!("failed quota: {name}: {why}")))?;
        if limited.iter().any(|limit| !used.contains_key(*limit)) {
            let names = limited.join(",");
            let why = format!("status unknown for quota: {name}, resources: {names}");
            return Err(self.forbidden(&why));
        }
        let mut asked = self.asked(quota);
        asked.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
        if asked.is_empty() {
            return Ok(None);
        }
        let mut sum = used.clone();
        add(&mut sum, &asked);
        let exceeded: Vec<&str> =
            asked.keys().filter(|name| sum[*name] > hard[*name]).map(String::as_str).collect();
        if !exceeded.is_empty() && self.a.subresource != "status" {
            let told = |amounts: &Amounts| {
                let pairs = exceeded.iter().filter_map(|name| Some((name, amounts.get(*name)?)));
                pairs.map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
            };
            return Err(self.forbidden(&format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                told(&asked),
                told(&used),
                told(&hard)
            )));
        }
        Ok(Some(sum.into_iter().map(|(k, v)| (k, v.to_string().into())).collect()))
    }

    /// What the write takes: of a change only what is more than before, if that was counted here.
    fn asked(&self, quota: &Object) -> Amounts {
        let mut asked = self.counted.usage(self.new);
        let Some(old) = self.old.filter(|old| self.counted.in_scope(quota, old)) else {
            return asked;
        };
        for (name, before) in self.counted.usage(old) {
            if let Some(amount) = asked.get_mut(&name) {
                let more = amount.minus(before);
                *amount = if more.sign() < 0 { more.minus(more) } else { more };
            }
        }
        asked
    }
}
