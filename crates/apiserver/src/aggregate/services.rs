//! The API services as requests need them, compiled when they change.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_api::Object;
use longshore_api::gvk::compare_versions;
use rustls::ClientConfig;
use serde_json::Value;

use crate::cache::{Entry, ResourceCache};
use crate::outbound::tls::{self, Identity, Trust};
use crate::outbound::{CallError, Target, Tls, services};
use crate::reader::Reader;

/// The API service of the core group: it stands for everything below `/api`.
const CORE: &str = "v1.";

/// One API service.
pub struct ApiService {
    entry: Arc<Entry>,
    path: String,
    /// The group that it is for.
    pub group: String,
    /// The version that it is for.
    pub version: String,
    /// How the group stands among others.
    pub group_priority: i64,
    /// How the version stands among those of the group.
    pub version_priority: i64,
    /// Whether it may be asked.
    pub available: bool,
    /// Where it is served; `None` for what is served here.
    pub remote: Option<Remote>,
}

/// A server behind a Service.
pub struct Remote {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    trust: Option<Vec<u8>>,
    tls: Result<Arc<ClientConfig>, String>,
}

impl ApiService {
    /// The name of the object.
    pub fn name(&self) -> &str {
        self.entry.name()
    }

    /// The object.
    pub fn object(&self) -> Object {
        self.entry.object()
    }

    /// A label of the object.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.entry.label(key)
    }

    /// The path that everything of it lies below.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn new(entry: &Arc<Entry>, before: Option<&Self>, identity: Option<&Identity>) -> Self {
        let object = entry.object();
        let service = object.get(&["spec", "service"]).filter(|service| !service.is_null());
        let old = before.and_then(|before| before.remote.as_ref());
        let remote = service.map(|service| Remote::new(&object, service, old, identity));
        let conditions = object.list(&["status", "conditions"]);
        let is = |c: &Value| c["type"] == "Available" && c["status"] == "True";
        let (group, version) = (object.str(&["spec", "group"]), object.str(&["spec", "version"]));
        let core = entry.name() == CORE;
        Self {
            path: if core { "/api".to_owned() } else { format!("/apis/{group}/{version}") },
            group: group.to_owned(),
            version: version.to_owned(),
            group_priority: object.int(&["spec", "groupPriorityMinimum"]).unwrap_or(0),
            version_priority: object.int(&["spec", "versionPriority"]).unwrap_or(0),
            available: conditions.iter().any(is),
            remote,
            entry: entry.clone(),
        }
    }
}

impl Remote {
    fn new(
        object: &Object,
        service: &Value,
        old: Option<&Self>,
        identity: Option<&Identity>,
    ) -> Self {
        let text = |key: &str| service[key].as_str().unwrap_or("").to_owned();
        let bundle = object.str(&["spec", "caBundle"]);
        let insecure = object.bool(&["spec", "insecureSkipTLSVerify"]);
        let trust = (!insecure).then(|| STANDARD.decode(bundle).unwrap_or_default());
        // Connections are kept for as long as the settings stay the same.
        let tls = match old.filter(|old| old.trust == trust) {
            Some(old) => old.tls.clone(),
            None => {
                let whom = trust.as_deref().map_or(Trust::Anyone, Trust::Authorities);
                tls::config(whom, identity.cloned())
            }
        };
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or(services::DEFAULT_PORT);
        Self { namespace: text("namespace"), service: text("name"), port, trust, tls }
    }

    /// Why it can never be asked: its authorities cannot be used.
    pub fn broken(&self) -> Option<&str> {
        self.tls.as_ref().err().map(String::as_str)
    }

    /// Where it is now.
    ///
    /// # Errors
    /// When its Service cannot be called.
    pub fn target(&self, reader: &dyn Reader) -> Result<Target, CallError> {
        let config = self.tls.clone().map_err(CallError::Other)?;
        let address = services::resolve(reader, &self.namespace, &self.service, self.port)?;
        let server_name = services::server_name(&self.namespace, &self.service);
        let authority = address.to_string();
        Ok(Target { address, tls: Some(Tls { config, server_name }), authority })
    }
}

/// All API services at one time.
#[derive(Default)]
pub struct Table {
    /// The revision that this is the state of.
    pub(super) revision: u64,
    /// In the order in which clients should prefer them.
    services: Vec<Arc<ApiService>>,
    /// Those that are served elsewhere.
    remote: Vec<Arc<ApiService>>,
}

impl Table {
    /// The API services of now. What did not change is taken from the table before.
    pub(super) fn new(cache: &ResourceCache, before: &Self, identity: Option<&Identity>) -> Self {
        let (present, revision) = cache.snapshot();
        let known: HashMap<&str, _> = before.services.iter().map(|old| (old.name(), old)).collect();
        let one = |entry: &Arc<Entry>| match known.get(entry.name()) {
            Some(old) if Arc::ptr_eq(&old.entry, entry) => (*old).clone(),
            old => Arc::new(ApiService::new(entry, old.map(|old| &***old), identity)),
        };
        let mut services: Vec<_> = present.iter().map(|(_, entry)| one(entry)).collect();
        services.sort_by(|a, b| {
            let by_priority = b.group_priority.cmp(&a.group_priority);
            by_priority.then_with(|| a.name().cmp(b.name()))
        });
        let mut remote: Vec<_> = services.iter().filter(|s| s.remote.is_some()).cloned().collect();
        remote.sort_by(|a, b| {
            let by_version = b.version_priority.cmp(&a.version_priority);
            by_version.then_with(|| compare_versions(&b.version, &a.version))
        });
        Self { revision, services, remote }
    }

    /// One API service by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<ApiService>> {
        self.services.iter().find(|service| service.name() == name)
    }

    /// All, in the order in which clients should prefer their groups.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiService>> {
        self.services.iter()
    }

    /// Those that are served elsewhere.
    pub fn remote(&self) -> impl Iterator<Item = &Arc<ApiService>> {
        self.remote.iter()
    }

    /// The API service that a path belongs to, if it is served elsewhere.
    pub fn route(&self, path: &str) -> Option<&Arc<ApiService>> {
        self.remote.iter().find(|service| {
            let own = path.strip_prefix(service.path());
            own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}
