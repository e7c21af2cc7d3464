//! Which requests are written down, and how much of them: the first rule that fits a request counts.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/audit/policy

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use crate::auth::Attributes;

/// How much is written down of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what and when.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    RequestResponse,
}

/// All levels by their names.
const LEVELS: [(&str, Level); 4] = [
    ("None", Level::None),
    ("Metadata", Level::Metadata),
    ("Request", Level::Request),
    ("RequestResponse", Level::RequestResponse),
];

impl Level {
    /// As policies and events name it.
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

/// A point in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has come.
    RequestReceived,
    /// A long answer begins.
    ResponseStarted,
    /// It is answered.
    ResponseComplete,
    /// Its handler failed.
    Panic,
}

/// All stages by their names.
const STAGES: [(&str, Stage); 4] = [
    ("RequestReceived", Stage::RequestReceived),
    ("ResponseStarted", Stage::ResponseStarted),
    ("ResponseComplete", Stage::ResponseComplete),
    ("Panic", Stage::Panic),
];

impl Stage {
    /// As policies and events name it.
    pub fn name(self) -> &'static str {
        STAGES.iter().find(|(_, stage)| *stage == self).map_or("", |(name, _)| name)
    }
}

/// What is written down of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// How much.
    pub level: Level,
    /// Not at these stages.
    pub omit_stages: Vec<Stage>,
    /// Whether objects are written down without their field managers.
    pub omit_managed_fields: bool,
}

/// Resources of one group.
#[derive(Clone, Debug, Default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Rule {
    chosen: Chosen,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
}

/// The rules of a server.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    otherwise: Chosen,
}

impl Policy {
    /// The policy in a file's text, YAML or JSON.
    ///
    /// # Errors
    /// When it is no policy, or breaks its rules.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let policy = longshore_api::yaml::decode(text);
        let policy = policy.map_err(|error| format!("failed decoding: {error}"))?;
        let (version, kind) = (policy["apiVersion"].as_str(), policy["kind"].as_str());
        if (version, kind) != (Some("audit.k8s.io/v1"), Some("Policy")) {
            let told = |text: Option<&str>| text.unwrap_or("").to_owned();
            let (version, kind) = (told(version), told(kind));
            return Err(format!("unknown group version field {version}, Kind={kind} in policy"));
        }
        let mut errors = ErrorList::new();
        let everywhere = stages(&policy["omitStages"], &Path::new("omitStages"), &mut errors);
        let omit_managed_fields = policy["omitManagedFields"] == true;
        let path = Path::new("rules");
        let given = policy["rules"].as_array().map_or(&[][..], Vec::as_slice);
        let mut rules = Vec::new();
        for (i, given) in given.iter().enumerate() {
            let mut rule = rule(given, &path.index(i), &mut errors);
            rule.chosen.omit_stages.extend(&everywhere);
            let own = given["omitManagedFields"].as_bool();
            rule.chosen.omit_managed_fields = own.unwrap_or(omit_managed_fields);
            rules.push(rule);
        }
        if !errors.is_empty() {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(all.join(", "));
        }
        if rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        let omit_stages = everywhere;
        let otherwise = Chosen { level: Level::None, omit_stages, omit_managed_fields };
        Ok(Self { rules, otherwise })
    }

    /// What is written down of a request.
    pub fn choose(&self, request: &Attributes<'_>) -> &Chosen {
        let found = self.rules.iter().find(|rule| rule.fits(request));
        found.map_or(&self.otherwise, |rule| &rule.chosen)
    }
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn stages(given: &Value, path: &Path, errors: &mut ErrorList) -> Vec<Stage> {
    let mut found = Vec::new();
    for (i, name) in texts(given).iter().enumerate() {
        match STAGES.iter().find(|(known, _)| known == name) {
            Some((_, stage)) => found.push(*stage),
            None => {
                let all = STAGES.map(|(name, _)| name).join(",");
                let why = format!("allowed stages are {all}");
                errors.push(Error::invalid(&path.index(i), name.as_str(), &why));
            }
        }
    }
    found
}

fn rule(given: &Value, path: &Path, errors: &mut ErrorList) -> Rule {
    let mut rule = Rule {
        users: texts(&given["users"]),
        groups: texts(&given["userGroups"]),
        verbs: texts(&given["verbs"]),
        namespaces: texts(&given["namespaces"]),
        paths: texts(&given["nonResourceURLs"]),
        ..Rule::default()
    };
    let level = given["level"].as_str().unwrap_or("");
    match LEVELS.iter().find(|(name, _)| *name == level) {
        Some((_, level)) => rule.chosen.level = *level,
        None if level.is_empty() => errors.push(Error::required(&path.child("level"), "")),
        None => {
            let known = LEVELS.map(|(name, _)| name);
            errors.push(Error::not_supported(&path.child("level"), level, &known));
        }
    }
    let at = path.child("nonResourceURLs");
    for (i, url) in rule.paths.iter().enumerate().filter(|(_, url)| *url != "*") {
        if !url.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            errors.push(Error::invalid(&at.index(i), url.as_str(), why));
        }
        if url.char_indices().any(|(at, c)| c == '*' && at + 1 < url.len()) {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(Error::invalid(&at.index(i), url.as_str(), why));
        }
    }
    let at = path.child("resources");
    for given in given["resources"].as_array().map_or(&[][..], Vec::as_slice) {
        let one = GroupResources {
            group: given["group"].as_str().unwrap_or("").to_owned(),
            resources: texts(&given["resources"]),
            names: texts(&given["resourceNames"]),
        };
        if !one.group.is_empty() && one.group != "*" {
            let broken = names::is_dns1123_subdomain(&one.group);
            if !broken.is_empty() {
                let why = broken.join(",");
                errors.push(Error::invalid(&at.child("group"), one.group.as_str(), &why));
            }
        }
        if !one.names.is_empty() && one.resources.is_empty() {
            let why = "using resourceNames requires at least one resource";
            errors.push(Error::invalid(&at.child("resourceNames"), one.names.clone(), why));
        }
        rule.resources.push(one);
    }
    rule.chosen.omit_stages = stages(&given["omitStages"], &path.child("omitStages"), errors);
    let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if of_resources && !rule.paths.is_empty() {
        let why = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(Error::invalid(&path.child("nonResourceURLs"), rule.paths.clone(), why));
    }
    rule
}

impl Rule {
    fn fits(&self, request: &Attributes<'_>) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|own| own == wanted);
        if !self.users.is_empty() && !has(&self.users, &request.user.name) {
            return false;
        }
        let in_group = || request.user.groups.iter().any(|group| has(&self.groups, group));
        if !self.groups.is_empty() && !in_group() {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, request.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let namespace = self.namespaces.is_empty() || has(&self.namespaces, request.namespace);
            let resource =
                self.resources.is_empty() || self.resources.iter().any(|own| own.fits(request));
            return request.resource_request && namespace && resource;
        }
        if !self.paths.is_empty() {
            let fits = |spec: &String| {
                let below = spec.strip_suffix('*').map(|start| start.trim_end_matches('*'));
                spec == request.path || below.is_some_and(|start| request.path.starts_with(start))
            };
            return !request.resource_request && self.paths.iter().any(fits);
        }
        true
    }
}

impl GroupResources {
    fn fits(&self, request: &Attributes<'_>) -> bool {
        if self.group != request.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let (resource, sub) = (request.resource, request.subresource);
        let named = self.names.is_empty() || self.names.iter().any(|name| name == request.name);
        let of = |wanted: &String| {
            if wanted == "*" {
                return true;
            }
            match wanted.split_once('/') {
                Some(("*", of)) if !sub.is_empty() => of == sub,
                Some((of, "*")) => of == resource,
                Some((of, part)) => of == resource && part == sub && !sub.is_empty(),
                None => wanted == resource && sub.is_empty(),
            }
        };
        named && self.resources.iter().any(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserInfo;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch], resources: [{group: "", resources: [endpoints]}]}
- {level: None, userGroups: ["system:nodes"], nonResourceURLs: ["/healthz*", "/version"]}
- {level: Request, resources: [{resources: ["pods/status", "*/scale", "secrets/*"]}], omitStages: [Panic]}
- {level: Metadata, namespaces: [kube-system], omitManagedFields: false}
- {level: RequestResponse, resources: [{group: "apps"}, {group: "*", resources: ["configmaps"], resourceNames: ["a"]}]}
"#;

    fn level(user: &UserInfo, verb: &str, what: &[&str; 5]) -> Chosen {
        let [group, namespace, resource, subresource, name] = *what;
        let attributes = Attributes {
            user,
            verb,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            field_selector: "",
            path: name,
            resource_request: !resource.is_empty(),
        };
        Policy::parse(POLICY.as_bytes()).expect("a policy").choose(&attributes).clone()
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let (jane, proxy) = (UserInfo::new("jane", &[]), UserInfo::new("system:kube-proxy", &[]));
        let node = UserInfo::new("n", &["system:nodes"]);
        for (user, verb, what, want) in [
            (&proxy, "watch", ["", "a", "endpoints", "", ""], Level::None),
            (&node, "get", ["", "", "", "", "/healthz/etcd"], Level::None),
            (&jane, "update", ["", "a", "pods", "status", "p"], Level::Request),
            (&jane, "update", ["apps", "a", "deployments", "scale", "d"], Level::RequestResponse),
            (&jane, "update", ["", "a", "replicationcontrollers", "scale", "d"], Level::Request),
            (&jane, "get", ["", "a", "secrets", "", "s"], Level::Request),
            (&jane, "get", ["", "kube-system", "pods", "", "p"], Level::Metadata),
            (&jane, "get", ["", "a", "pods", "", "p"], Level::None),
            (&jane, "get", ["", "a", "configmaps", "", "a"], Level::RequestResponse),
            (&jane, "get", ["", "a", "configmaps", "", "b"], Level::None),
            (&jane, "get", ["", "", "", "", "/healthz"], Level::None),
        ] {
            assert_eq!(level(user, verb, &what).level, want, "{verb} {what:?}");
        }
        let chosen = level(&jane, "get", &["", "a", "secrets", "", "s"]);
        assert_eq!(chosen.omit_stages, [Stage::Panic, Stage::RequestReceived]);
        assert!(chosen.omit_managed_fields);
        assert!(!level(&jane, "get", &["", "kube-system", "pods", "", "p"]).omit_managed_fields);
    }

    #[test]
    fn bad_policies_are_told_why() {
        let with = |rules: &str| {
            let text = format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: {rules}}}");
            Policy::parse(text.as_bytes()).expect_err("a bad policy")
        };
        for (rules, want) in [
            ("[]", "loaded illegal policy with 0 rules"),
            ("[{}]", "rules[0].level: Required value"),
            ("[{level: All}]", "rules[0].level: Unsupported value: \"All\""),
            ("[{level: None, nonResourceURLs: [a]}]", "must begin with a '/' character"),
            ("[{level: None, nonResourceURLs: ['/a*b']}]", "must be the final character"),
            ("[{level: None, omitStages: [Never]}]", "rules[0].omitStages[0]: Invalid value"),
            ("[{level: None, namespaces: [a], nonResourceURLs: ['*']}]", "cannot apply to both"),
            ("[{level: None, resources: [{resourceNames: [a]}]}]", "at least one resource"),
            ("[{level: None, resources: [{group: a/v1}]}]", "resources.group: Invalid value"),
        ] {
            let told = with(rules);
            assert!(told.contains(want), "{told}");
        }
        let other = Policy::parse(b"{apiVersion: v1, kind: Policy}").expect_err("another kind");
        assert_eq!(other, "unknown group version field v1, Kind=Policy in policy");
    }
}
