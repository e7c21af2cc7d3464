use std::sync::Arc;

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_base::rng::SeededRng;
use serde_json::{Value, json};

use super::fake::FakeReader;
use super::*;
use crate::pki::{self, Pki};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a valid time")
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

struct Setup {
    reader: Arc<FakeReader>,
    authentication: Authentication,
    pki: Pki,
    _dir: tempfile::TempDir,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = pki::ensure(dir.path(), &["n1".to_owned()], &[], now()).expect("made");
    let reader = Arc::new(FakeReader::default());
    for (resource, value) in [
        ("serviceaccounts", json!({"metadata": {"name": "robot", "namespace": "a", "uid": "u1"}})),
        (
            "pods",
            json!({"metadata": {"name": "p", "namespace": "a", "uid": "u2"},
                "spec": {"serviceAccountName": "robot", "nodeName": "n1",
                    "volumes": [{"name": "s", "secret": {"secretName": "tls"}}]}}),
        ),
        ("nodes", json!({"metadata": {"name": "n1", "uid": "u3"}})),
    ] {
        reader.put("", resource, value);
    }
    let tokens = TokenIssuer::new(
        DEFAULT_ISSUER,
        &pki.service_account_key,
        &pki.service_account_public,
        Arc::new(SeededRng::new(1)),
    )
    .expect("good keys");
    let proxy = FrontProxy::new(&pki.front_proxy_ca.pair().certificates()).expect("trusted");
    let certificates = ClientCertificates::new(&pki.ca.pair().certificates()).expect("trusted");
    let certificates = certificates.with_front_proxy(proxy);
    let authentication = Authentication::new(certificates, Arc::new(tokens), reader.clone());
    Setup { reader, authentication, pki, _dir: dir }
}

impl Setup {
    fn token(&self, spec: Value) -> Result<String, longshore_api::StatusError> {
        let mut request = object(json!({"kind": "TokenRequest", "spec": spec}));
        let tokens = self.authentication.tokens();
        create_token(tokens, self.reader.as_ref(), "a", "robot", &mut request, now())?;
        Ok(request.str(&["status", "token"]).to_owned())
    }

    fn review(&self, token: &str, at: Timestamp) -> Value {
        let mut review = object(json!({"spec": {"token": token}}));
        self.authentication.review_token(&mut review, at).expect("a review");
        review.into_value()["status"].clone()
    }

    fn with_header(&self, name: &'static str, value: &str) -> Result<UserInfo, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header"));
        let credentials = Credentials { headers: &headers, peer_certificates: &[], memo: None };
        let user = self.authentication.authenticate(&credentials, now());
        user.map(Arc::unwrap_or_clone).map_err(|e| e.code)
    }
}

#[test]
fn certificates_name_user_and_groups_until_they_end() {
    let setup = setup();
    let (cert, key) = setup.pki.client_certificate("jane", &["devs"], now()).expect("issued");
    let chain = pki::Pair { cert_pem: cert, key_pem: key }.certificates();
    let headers = HeaderMap::new();
    let credentials = Credentials { headers: &headers, peer_certificates: &chain, memo: None };
    let user = setup.authentication.authenticate(&credentials, now()).expect("good");
    assert_eq!(user.name, "jane");
    assert_eq!(user.groups, ["devs", "system:authenticated"]);
    assert!(user.extra(user::CREDENTIAL_ID).starts_with("X509SHA256="));
    let later = now() + SignedDuration::from_hours(24 * 400);
    let error = setup.authentication.authenticate(&credentials, later).expect_err("expired");
    assert_eq!((error.code, error.message.as_str()), (401, "Unauthorized"));
    // What is remembered about a connection ends with the certificate, too.
    let memo = Memo::default();
    let remembering = Credentials { memo: Some(&memo), ..credentials };
    for _ in 0..2 {
        let user = setup.authentication.authenticate(&remembering, now()).expect("good");
        assert_eq!((user.name.as_str(), user.groups.len()), ("jane", 2));
    }
    setup.authentication.authenticate(&remembering, later).expect_err("expired");
    // A certificate of another authority is no better.
    let stranger = self::setup();
    let error = stranger.authentication.authenticate(&credentials, now()).expect_err("unknown");
    assert_eq!(error.code, 401);
    let nothing = Credentials { headers: &headers, peer_certificates: &[], memo: None };
    let user = setup.authentication.authenticate(&nothing, now()).expect("anonymous");
    assert_eq!(*user, UserInfo::anonymous());
}

#[test]
fn only_a_front_proxy_says_who_the_user_is() {
    let setup = setup();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-remote-user", "jane"),
        ("x-remote-uid", "7"),
        ("x-remote-group", "devs"),
        ("x-remote-group", "ops"),
        ("x-remote-extra-example.com%2fscope", "a"),
        ("x-remote-extra-example.com%2fscope", "b"),
    ] {
        headers.append(name, value.parse().expect("a header"));
    }
    let ask = |headers: &HeaderMap, chain: &[_]| {
        let credentials = Credentials { headers, peer_certificates: chain, memo: None };
        setup.authentication.authenticate(&credentials, now())
    };
    let proxy = setup.pki.front_proxy_client.certificates();
    let user = ask(&headers, &proxy).expect("the proxy is trusted");
    let mut jane = UserInfo::new("jane", &["devs", "ops", "system:authenticated"]);
    jane.extra.insert("example.com/scope".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(*user, jane);
    // It is nobody itself.
    assert_eq!(ask(&HeaderMap::new(), &proxy).expect_err("no user").code, 401);
    // Others do not say who they are: not users, not strangers, and not another certificate of
    // the proxies' authority.
    let (cert, key) = setup.pki.client_certificate("eve", &[], now()).expect("issued");
    let eve = pki::Pair { cert_pem: cert, key_pem: key }.certificates();
    assert_eq!(ask(&headers, &eve).expect("a user").name, "eve");
    assert_eq!(ask(&headers, &[]).expect("anonymous").name, user::ANONYMOUS);
    let subject = pki::Subject {
        common_name: "other-client",
        organizations: &[],
        names: Vec::new(),
        ips: Vec::new(),
        usage: pki::Usage::Client,
    };
    let other = setup.pki.front_proxy_ca.issue(&subject, now()).expect("issued").certificates();
    assert_eq!(ask(&headers, &other).expect_err("not allowed").code, 401);
    let stranger = self::setup().pki.front_proxy_client.certificates();
    assert_eq!(ask(&headers, &stranger).expect_err("unknown").code, 401);
}

#[test]
fn bound_tokens_die_with_their_pod() {
    let setup = setup();
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    let token = setup.token(bound).expect("issued");
    let status = setup.review(&token, now());
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:a:robot");
    assert_eq!(
        status["user"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"])
    );
    assert_eq!(status["user"]["extra"][user::POD_NAME], json!(["p"]));
    assert_eq!(status["user"]["extra"][user::NODE_UID], json!(["u3"]));
    assert_eq!(status["audiences"], json!([DEFAULT_ISSUER]));
    let user = setup.with_header("authorization", &format!("Bearer {token}")).expect("good");
    assert_eq!(user.uid, "u1");
    let expired = setup.review(&token, now() + SignedDuration::from_secs(3_700));
    assert_eq!(expired["error"], "[invalid bearer token, service account token has expired]");
    setup.reader.remove("pods", "p");
    let gone = setup.review(&token, now());
    assert_eq!(
        gone,
        json!({"user": {}, "error":
            "[invalid bearer token, service account token has been invalidated]"})
    );
    assert_eq!(setup.with_header("authorization", &format!("Bearer {token}")), Err(401));
}

#[test]
fn forged_and_foreign_tokens_are_refused() {
    let setup = setup();
    assert_eq!(setup.with_header("authorization", "Bearer garbage"), Err(401));
    assert_eq!(setup.review("garbage", now())["error"], "invalid bearer token");
    let token = setup.token(json!({"audiences": ["vault"]})).expect("issued");
    assert_eq!(
        setup.review(&token, now())["error"],
        "[invalid bearer token, token audiences [\"vault\"] is invalid for the target audiences \
         [\"https://kubernetes.default.svc.cluster.local\"]]"
    );
    let token = setup.token(json!({})).expect("issued");
    let (message, _) = token.rsplit_once('.').expect("three parts");
    assert_eq!(
        setup.review(&format!("{message}.AAAA"), now())["error"],
        "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]"
    );
    // The same claims signed by another cluster's key.
    let other = self::setup().token(json!({})).expect("issued");
    assert_eq!(
        setup.review(&other, now())["error"],
        "[invalid bearer token, invalid signature, no keys found]"
    );
}

#[test]
fn token_requests_are_checked() {
    let setup = setup();
    let message = |spec: Value| setup.token(spec).expect_err("refused").message;
    assert_eq!(
        message(json!({"expirationSeconds": 599})),
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid \
         value: 599: may not specify a duration less than 10 minutes"
    );
    assert_eq!(
        message(json!({"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}})),
        "cannot bind token to object of type /v1, Kind=ConfigMap"
    );
    assert_eq!(
        message(json!({"boundObjectRef":
            {"kind": "Node", "apiVersion": "v1", "name": "n1", "uid": "wrong"}})),
        "Operation cannot be fulfilled on Node \"n1\": the UID in the bound object reference \
         (wrong) does not match the UID in record. The object might have been deleted and then \
         recreated"
    );
}

#[test]
fn websocket_tokens_are_used_and_stripped() {
    use base64::Engine;
    let setup = setup();
    let token = setup.token(json!({})).expect("issued");
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    let protocol = format!("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}");
    let mut headers = HeaderMap::new();
    headers.insert("upgrade", "websocket".parse().expect("a header"));
    headers.insert("sec-websocket-protocol", protocol.parse().expect("a header"));
    let credentials = Credentials { headers: &headers, peer_certificates: &[], memo: None };
    let user = setup.authentication.authenticate(&credentials, now()).expect("good");
    assert_eq!(user.as_service_account(), Some(("a", "robot")));
    strip_credentials(&mut headers);
    assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
}

fn rbac() -> (Arc<FakeReader>, Authorization) {
    let reader = Arc::new(FakeReader::default());
    let group = "rbac.authorization.k8s.io";
    reader.put(
        group,
        "clusterroles",
        json!({"metadata": {"name": "reader"}, "rules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/scale"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}]}),
    );
    reader.put(
        group,
        "clusterrolebindings",
        json!({"metadata": {"name": "b"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "Group", "name": "devs"}]}),
    );
    reader.put(
        group,
        "rolebindings",
        json!({"metadata": {"name": "rb", "namespace": "a"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "absent"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot"}]}),
    );
    let authorization = Authorization::new(reader.clone(), Vec::new());
    (reader, authorization)
}

#[test]
fn rbac_follows_bindings_and_says_why() {
    let (reader, authorization) = rbac();
    let dev = UserInfo::new("jane", &["devs"]);
    let pods = Attributes::for_resource(&dev, "get", "", "pods", "a", "x");
    assert_eq!(
        authorization.authorize(&pods),
        Decision::Allow(
            "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"reader\" to Group \
             \"devs\""
                .to_owned()
        )
    );
    let scale = Attributes { resource: "things", subresource: "scale", ..pods };
    assert!(authorization.authorize(&scale).is_allowed());
    assert!(!authorization.authorize(&Attributes { verb: "delete", ..pods }).is_allowed());
    assert!(authorization.authorize(&Attributes::for_path(&dev, "get", "/logs/a")).is_allowed());
    assert!(!authorization.authorize(&Attributes::for_path(&dev, "get", "/metricsx")).is_allowed());
    let robot = UserInfo::service_account("a", "robot");
    let asked = Attributes { user: &robot, ..pods };
    assert_eq!(
        authorization.authorize(&asked).reason(),
        "RBAC: clusterrole.rbac.authorization.k8s.io \"absent\" not found"
    );
    // A changed role counts at once.
    reader.put(
        "rbac.authorization.k8s.io",
        "clusterroles",
        json!({"metadata": {"name": "absent"}, "rules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
    );
    assert!(authorization.authorize(&asked).is_allowed());
    assert!(!authorization.authorize(&Attributes { namespace: "b", ..asked }).is_allowed());
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let (_, authorization) = rbac();
    let dev = UserInfo::new("jane", &["devs"]);
    let role = |verbs: Value| {
        object(json!({"metadata": {"name": "new"}, "rules": [
            {"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]}))
    };
    let check = |role: &Object| {
        authorization.check_rbac_write(&dev, "roles", "a", "", role, None).map_err(|e| e.message)
    };
    assert_eq!(check(&role(json!(["get"]))), Ok(()));
    assert_eq!(
        check(&role(json!(["get", "create", "delete"]))),
        Err("roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"jane\" \
             (groups=[\"devs\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\" \"delete\"]}"
            .to_owned())
    );
}

#[test]
fn nodes_see_only_what_their_pods_use() {
    let setup = setup();
    let authorization = Authorization::new(setup.reader.clone(), Vec::new());
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let other = UserInfo::new("system:node:n2", &["system:nodes"]);
    let secret = Attributes::for_resource(&node, "get", "", "secrets", "a", "tls");
    assert!(authorization.authorize(&secret).is_allowed());
    assert_eq!(
        authorization.authorize(&Attributes { user: &other, ..secret }).reason(),
        "no relationship found between node 'n2' and this object"
    );
    assert_eq!(
        authorization.authorize(&Attributes { name: "", verb: "list", ..secret }).reason(),
        "No Object name found"
    );
    let pods = Attributes::for_resource(&node, "list", "", "pods", "", "");
    assert_eq!(
        authorization.authorize(&pods).reason(),
        "can only list/watch pods with spec.nodeName field selector"
    );
    let own = Attributes { field_selector: "spec.nodeName=n1", ..pods };
    assert!(authorization.authorize(&own).is_allowed());
    let token = Attributes {
        subresource: "token",
        ..Attributes::for_resource(&node, "create", "", "serviceaccounts", "a", "robot")
    };
    assert!(authorization.authorize(&token).is_allowed());
    assert!(!authorization.authorize(&Attributes { user: &other, ..token }).is_allowed());
}

#[test]
fn impersonation_needs_permission_and_a_name() {
    let (_, authorization) = rbac();
    let admin = UserInfo::new("root", &["system:masters"]);
    let dev = UserInfo::new("jane", &["devs"]);
    let ask = |user, names: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in names {
            headers.append(*name, value.parse().expect("a header"));
        }
        let request = Attributes::for_resource(user, "list", "", "pods", "a", "");
        impersonate(&authorization, &mut headers, &request).map_err(|e| e.message)
    };
    let asked = [("impersonate-user", "amira"), ("impersonate-group", "devs")];
    let user = ask(&admin, &asked).expect("allowed").expect("asked for");
    assert_eq!((user.name.as_str(), user.groups.len()), ("amira", 2));
    let account = ask(&admin, &[("impersonate-user", "system:serviceaccount:a:b")]);
    let groups = account.expect("allowed").expect("asked for").groups;
    assert_eq!(
        groups,
        ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
    );
    assert!(ask(&dev, &asked).expect_err("not allowed").contains("impersonate-on:user-info:list"));
    assert_eq!(
        ask(&admin, &[("impersonate-group", "devs")]),
        Err("requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"devs\"}, \
             Extra:map[string][]string(nil)} without impersonating a user name"
            .to_owned())
    );
}

#[test]
fn reviews_answer_and_validate() {
    let (_, authorization) = rbac();
    let mut review = object(json!({"spec": {"user": "jane", "groups": ["devs"],
        "resourceAttributes": {"verb": "get", "resource": "pods"}}}));
    authorization.review_subject(&mut review).expect("answered");
    assert!(review.bool(&["status", "allowed"]));
    let mut empty = object(json!({"spec": {"user": "jane"}}));
    assert_eq!(
        authorization.review_subject(&mut empty).expect_err("invalid").message,
        ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: \
         exactly one of nonResourceAttributes or resourceAttributes must be specified"
    );
    let mut rules = object(json!({"spec": {"namespace": "a"}}));
    let dev = UserInfo::new("jane", &["devs"]);
    authorization.review_rules(&mut rules, &dev).expect("answered");
    assert_eq!(rules.list(&["status", "resourceRules"]).len(), 1);
    assert_eq!(rules.list(&["status", "nonResourceRules"]).len(), 1);
}
