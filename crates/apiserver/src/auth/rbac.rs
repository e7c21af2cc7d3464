//! Role-based access control over the roles and bindings in the watch caches.
//!
//! Invariant: the compiled form is rebuilt whenever one of the four resources changed, before the
//! next question is answered.
//!
//! upstream: plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation/rule.go

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use longshore_api::Object;
use longshore_api::patch::gotext;
use serde_json::Value;

use super::rule::PolicyRule;
use super::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};
use super::{Attributes, Decision};
use crate::reader::Reader;

/// The API group of roles and bindings.
pub(super) const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// The RBAC authorizer.
pub struct Rbac {
    reader: Arc<dyn Reader>,
    compiled: ArcSwapOption<Compiled>,
}

/// The bindings of one scope, found by subject.
#[derive(Default)]
struct Bindings {
    all: Vec<Binding>,
    /// Index into `all` and into the binding's subjects.
    users: HashMap<String, Vec<(usize, usize)>>,
    groups: HashMap<String, Vec<(usize, usize)>>,
}

struct Binding {
    /// `ClusterRoleBinding "x" of ClusterRole "y" to `.
    description: String,
    /// `User "jane"`.
    subjects: Vec<String>,
    rules: Rules,
}

struct Compiled {
    generations: [u64; 4],
    cluster: Bindings,
    namespaces: HashMap<String, Bindings>,
}

impl Rbac {
    /// An authorizer that reads roles and bindings from `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader, compiled: ArcSwapOption::empty() }
    }

    fn compiled(&self) -> Arc<Compiled> {
        // Read before the objects: a change in between makes the next question compile again.
        let generations = RESOURCES.map(|resource| self.reader.generation(GROUP, resource));
        if let Some(compiled) = self.compiled.load_full()
            && compiled.generations == generations
        {
            return compiled;
        }
        let compiled = Arc::new(Compiled::new(self.reader.as_ref(), generations));
        self.compiled.store(Some(compiled.clone()));
        compiled
    }

    /// Whether a rule allows the request. RBAC never denies.
    pub fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let compiled = self.compiled();
        let mut errors: Vec<String> = Vec::new();
        for (binding, subject) in compiled.visit(a.user, a.namespace) {
            match &binding.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(a)) => {
                    let (what, who) = (&binding.description, &binding.subjects[subject]);
                    return Decision::Allow(format!("RBAC: allowed by {what}{who}"));
                }
                Ok(_) => {}
                Err(error) if errors.contains(error) => {}
                Err(error) => errors.push(error.clone()),
            }
        }
        Decision::NoOpinion(match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// All rules that apply to a user in a namespace (cluster scope when empty), and what could
    /// not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let compiled = self.compiled();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for (binding, _) in compiled.visit(user, namespace) {
            match &binding.rules {
                Ok(own) => rules.extend(own.iter().cloned()),
                Err(error) if errors.contains(error) => {}
                Err(error) => errors.push(error.clone()),
            }
        }
        (rules, errors)
    }

    /// The rules of the role a binding refers to.
    pub fn role_rules(&self, role_ref: &Value, namespace: &str) -> Result<Vec<PolicyRule>, String> {
        referenced(self.reader.as_ref(), role_ref, namespace).map(|object| rules_of(&object))
    }
}

fn rules_of(role: &Object) -> Vec<PolicyRule> {
    PolicyRule::list_from(role.list(&["rules"]))
}

/// What a role grants, or why that is not known.
type Rules = Result<Arc<[PolicyRule]>, String>;

fn referenced(
    reader: &dyn Reader,
    role_ref: &Value,
    namespace: &str,
) -> Result<Arc<Object>, String> {
    let text = |key: &str| role_ref[key].as_str().unwrap_or("");
    let (resource, singular, scope) = match text("kind") {
        "Role" => ("roles", "role", namespace),
        "ClusterRole" => ("clusterroles", "clusterrole", ""),
        other => return Err(format!("unsupported role reference kind: {}", gotext::quote(other))),
    };
    reader
        .get(GROUP, resource, scope, text("name"))
        .ok_or_else(|| format!("{singular}.{GROUP} {} not found", gotext::quote(text("name"))))
}

impl Compiled {
    fn new(reader: &dyn Reader, generations: [u64; 4]) -> Self {
        let mut cache: HashMap<(String, String), Rules> = HashMap::new();
        let mut rules = |role_ref: &Value, namespace: &str| {
            let name = role_ref["name"].as_str().unwrap_or("").to_owned();
            // Cluster roles are shared by the bindings of all namespaces.
            let scope = if role_ref["kind"] == "Role" { namespace } else { "" };
            cache
                .entry((scope.to_owned(), name))
                .or_insert_with(|| {
                    referenced(reader, role_ref, namespace).map(|role| rules_of(&role).into())
                })
                .clone()
        };
        let mut cluster = Bindings::default();
        for object in reader.list(GROUP, "clusterrolebindings", "") {
            cluster.add(&object, "ClusterRoleBinding", object.name(), "", &mut rules);
        }
        let mut namespaces: HashMap<String, Bindings> = HashMap::new();
        for object in reader.list(GROUP, "rolebindings", "") {
            let namespace = object.namespace();
            let name = format!("{}/{namespace}", object.name());
            let bindings = namespaces.entry(namespace.to_owned()).or_default();
            bindings.add(&object, "RoleBinding", &name, namespace, &mut rules);
        }
        Self { generations, cluster, namespaces }
    }

    fn visit(&self, user: &UserInfo, namespace: &str) -> impl Iterator<Item = (&Binding, usize)> {
        let local = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        std::iter::once(&self.cluster).chain(local).flat_map(|bindings| bindings.of(user))
    }
}

impl Bindings {
    fn add(
        &mut self,
        object: &Object,
        kind: &str,
        name: &str,
        namespace: &str,
        rules: &mut dyn FnMut(&Value, &str) -> Rules,
    ) {
        let Some(role_ref) = object.get(&["roleRef"]) else { return };
        let at = self.all.len();
        let mut subjects = Vec::new();
        for subject in object.list(&["subjects"]) {
            let text = |key: &str| subject[key].as_str().unwrap_or("");
            let number = subjects.len();
            let mut described = text("name").to_owned();
            match text("kind") {
                "User" => self.users.entry(described.clone()).or_default().push((at, number)),
                "Group" => self.groups.entry(described.clone()).or_default().push((at, number)),
                "ServiceAccount" => {
                    let own = text("namespace");
                    let scope = if own.is_empty() { namespace } else { own };
                    described = format!("{}/{scope}", text("name"));
                    if !scope.is_empty() {
                        let user = format!("{SERVICE_ACCOUNT_PREFIX}{scope}:{}", text("name"));
                        self.users.entry(user).or_default().push((at, number));
                    }
                }
                _ => {}
            }
            subjects.push(format!("{} {}", text("kind"), gotext::quote(&described)));
        }
        let role = |key: &str| role_ref[key].as_str().unwrap_or("");
        let description = format!(
            "{kind} {} of {} {} to ",
            gotext::quote(name),
            role("kind"),
            gotext::quote(role("name"))
        );
        self.all.push(Binding { description, subjects, rules: rules(role_ref, namespace) });
    }

    /// The bindings of a user with the first subject that applies, in the bindings' order.
    fn of(&self, user: &UserInfo) -> Vec<(&Binding, usize)> {
        let own = self.users.get(&user.name).into_iter();
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        let mut found: Vec<(usize, usize)> = own.chain(groups).flatten().copied().collect();
        found.sort_unstable();
        found.dedup_by_key(|(binding, _)| *binding);
        found.into_iter().map(|(binding, subject)| (&self.all[binding], subject)).collect()
    }
}
