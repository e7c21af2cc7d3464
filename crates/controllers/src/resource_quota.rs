//! Quotas: what the objects of a namespace use.
//!
//! The API server charges a quota before it makes an object, so for a moment an account is ahead of what there is. A
//! count that comes to less than the account therefore waits until nobody has charged it for a while, and every
//! charge is checked by a count later on, in case its object did not come to be.
//!
//! upstream: pkg/controller/resourcequota, pkg/quota/v1/install/update_filter.go

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::resource::{RESOURCE_QUOTAS, Resource};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};
use longshore_resources::amounts::{Amounts, add, amounts};
use longshore_resources::quota::Counted;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::common::{Key, key_of};
use crate::kinds::{Kind, follow_definitions};
use crate::{Context, pods};

/// Counts side by side.
const WORKERS: usize = 2;
/// How often usage is counted again although nothing was seen to change.
///
/// upstream: --resource-quota-sync-period
const AGAIN: Duration = Duration::from_secs(300);
/// How long an account has to be left alone before a count may lower it.
const STILL: Duration = Duration::from_millis(250);
/// How long such a count waits for that at most: an account that is charged all the time gives back too.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a charge it is checked.
const CHECK: Duration = Duration::from_secs(5);

/// When accounts changed, and since when counts wait for them to be still.
#[derive(Default)]
struct Times {
    changed: HashMap<Key, Instant>,
    waiting: HashMap<Key, Instant>,
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    queue: Queue<Key>,
    quotas: Informer,
    times: Arc<Mutex<Times>>,
    /// The resources that may be counted, with their cache once a quota asks for them.
    monitors: Arc<Mutex<Vec<Monitor>>>,
}

struct Monitor {
    counted: Counted,
    of: Resource,
    /// The name of its definition; empty for built-in kinds.
    definition: String,
    kind: Option<Kind>,
}

pub(crate) fn start(ctx: Context) {
    let monitors = ctx.config.collected.iter().filter_map(|of| {
        let counted = Counted::of(of.group, of.plural)?;
        Some(Monitor { counted, of: *of, definition: String::new(), kind: None })
    });
    let controller = Controller {
        queue: Queue::new(),
        quotas: ctx.caches.get(RESOURCE_QUOTAS),
        times: Arc::default(),
        monitors: Arc::new(Mutex::new(monitors.collect())),
        ctx,
    };
    let noting = controller.clone();
    controller.quotas.on_change(move |change| noting.note(change));
    let noting = controller.clone();
    let ctx = &controller.ctx;
    follow_definitions(&ctx.client, &ctx.shutdown, move |name, made| {
        noting.note_kind(name, made.resource());
    });
    let (queue, shutdown) = (controller.queue.clone(), controller.ctx.shutdown.clone());
    workers::run("resourcequota-controller", queue, WORKERS, &shutdown, move |key: Key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

impl Controller {
    /// A quota changed: a new limit is counted at once, a charge later.
    fn note(&self, change: &Change) {
        let key = key_of(change.object());
        let mut times = self.times.lock();
        match change {
            Change::Deleted(_) => {
                times.changed.remove(&key);
                times.waiting.remove(&key);
            }
            Change::Applied { old: Some(old), new } => {
                times.changed.insert(key.clone(), Instant::now());
                match old.get(&["spec"]) == new.get(&["spec"]) {
                    true => self.queue.add_after(key, CHECK),
                    false => self.queue.add(key),
                }
            }
            Change::Applied { old: None, .. } => self.queue.add(key),
        }
    }

    /// An object changed: what it gives back is counted at once, what it takes was charged.
    fn note_object(&self, counted: &Counted, change: &Change) {
        let object = change.object();
        for quota in self.quotas.list_namespace(object.namespace()) {
            let counts = match change {
                Change::Deleted(_) => true,
                Change::Applied { old: None, .. } => false,
                Change::Applied { old: Some(old), new } => {
                    counted.in_scope(&quota, old) != counted.in_scope(&quota, new)
                        || counted.usage(old) != counted.usage(new)
                }
            };
            if counts {
                self.queue.add(key_of(&quota));
            }
        }
    }

    /// A custom kind came, went or is served in another version.
    fn note_kind(&self, definition: &str, of: Option<Resource>) {
        let mut monitors = self.monitors.lock();
        if monitors.iter().any(|m| m.definition == definition && Some(m.of) == of) {
            return;
        }
        monitors.retain(|monitor| {
            let gone = monitor.definition == definition;
            if let Some(kind) = monitor.kind.as_ref().filter(|_| gone) {
                kind.stop();
            }
            !gone
        });
        let Some(of) = of else { return };
        let Some(counted) = Counted::of(of.group, of.plural) else { return };
        for quota in self.quotas.list() {
            let hard = quota.get(&["spec", "hard"]).and_then(Value::as_object);
            let limits = hard.into_iter().flatten().map(|(name, _)| name.as_str());
            if !counted.matching(limits).is_empty() {
                self.queue.add(key_of(&quota));
            }
        }
        monitors.push(Monitor { counted, of, definition: definition.to_owned(), kind: None });
    }

    fn follow(&self, monitor: &Monitor) -> Kind {
        let (noting, counted) = (self.clone(), monitor.counted.clone());
        let note = move |change: &Change| noting.note_object(&counted, change);
        let ctx = &self.ctx;
        if monitor.definition.is_empty() {
            let cache = ctx.caches.get(monitor.of);
            cache.on_change(note);
            return Kind::shared(monitor.of, cache, &ctx.shutdown);
        }
        Kind::follow(&ctx.client, monitor.of, None, &ctx.shutdown, note)
    }

    /// The kinds that a quota limits.
    fn kinds(&self, quota: &Object) -> Vec<(Counted, Kind)> {
        let empty = Map::new();
        let hard = quota.get(&["spec", "hard"]).and_then(Value::as_object).unwrap_or(&empty);
        let mut kinds = Vec::new();
        for monitor in self.monitors.lock().iter_mut() {
            if monitor.counted.matching(hard.keys().map(String::as_str)).is_empty() {
                continue;
            }
            let kind = match &monitor.kind {
                Some(kind) => kind.clone(),
                None => self.follow(monitor),
            };
            monitor.kind = Some(kind.clone());
            kinds.push((monitor.counted.clone(), kind));
        }
        kinds
    }

    async fn sync(&self, key: Key) -> Outcome {
        let Some(quota) = self.quotas.get(&key.0, &key.1) else { return Ok(None) };
        let kinds = self.kinds(&quota);
        for (_, kind) in &kinds {
            kind.synced().await;
        }
        let none = Value::Null;
        let part = |path: &[&str]| quota.get(path).unwrap_or(&none);
        let (hard, before) = (part(&["spec", "hard"]), amounts(part(&["status", "used"])));
        let used = count(&quota, &kinds, hard, &before);
        if let Some(pause) = self.pause(&key, &before, &used) {
            return Ok(Some(pause));
        }
        let same = quota.get(&["status", "used"]).is_some() && before == used;
        if same && amounts(part(&["status", "hard"])) == amounts(hard) {
            return Ok(Some(AGAIN));
        }
        let used: Map<String, Value> =
            used.into_iter().map(|(name, amount)| (name, amount.to_string().into())).collect();
        let status = match used.is_empty() {
            true => json!({}),
            false => json!({ "hard": hard, "used": used }),
        };
        // Refused when the account was charged since we looked at it; then all is counted again.
        pods::write_status(&self.ctx, &self.quotas, RESOURCE_QUOTAS, &quota, status).await?;
        Ok(Some(AGAIN))
    }

    /// How long to wait before an account may be lowered.
    fn pause(&self, key: &Key, before: &Amounts, used: &Amounts) -> Option<Duration> {
        let mut times = self.times.lock();
        let lowers = used.iter().any(|(name, amount)| before.get(name).is_some_and(|b| b > amount));
        let since = times.changed.get(key).map_or(STILL, Instant::elapsed);
        if lowers && since < STILL {
            let waits = *times.waiting.entry(key.clone()).or_insert_with(Instant::now);
            if waits.elapsed() < PATIENCE {
                return Some(STILL - since);
            }
        }
        times.waiting.remove(key);
        None
    }
}

/// What is used of each limit. What nobody can count stays as it is.
fn count(quota: &Object, kinds: &[(Counted, Kind)], hard: &Value, before: &Amounts) -> Amounts {
    let hard: Vec<&str> =
        hard.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let (mut sum, mut used) = (Amounts::new(), Amounts::new());
    for (counted, kind) in kinds {
        for object in kind.cache.list_namespace(quota.namespace()) {
            if counted.in_scope(quota, &object) {
                add(&mut sum, &counted.usage(&object));
            }
        }
        for name in counted.matching(hard.iter().copied()) {
            used.insert(name.to_owned(), longshore_api::quantity::Quantity::from_integer(0));
        }
    }
    for name in hard {
        match (sum.get(name), before.get(name)) {
            (Some(amount), _) => used.insert(name.to_owned(), *amount),
            (None, Some(kept)) if !used.contains_key(name) => used.insert(name.to_owned(), *kept),
            _ => None,
        };
    }
    used
}
