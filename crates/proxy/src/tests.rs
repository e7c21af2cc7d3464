use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use longshore_api::Object;
use longshore_client::transport::{Body, full};
use longshore_client::{Client, Transport};
use longshore_linux::nft::FakeNft;
use serde_json::{Value, json};

use super::*;

fn config() -> Config {
    Config {
        node_name: "node-a".to_owned(),
        node_ip: Ipv4Addr::new(192, 0, 2, 1),
        cluster_network: (Ipv4Addr::new(10, 244, 0, 0), 16),
        node_ports: 30000..=32767,
    }
}

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("an object"))
}

fn service(spec: Value) -> Arc<Object> {
    object(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}))
}

fn slice(ports: Value, endpoints: Value) -> Arc<Object> {
    object(json!({
        "metadata": {"name": "web-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
}

fn compile(spec: Value, ports: Value, endpoints: Value) -> Ruleset {
    let ports = service::read(&[service(spec)], &[slice(ports, endpoints)], "node-a");
    ruleset::compile(&config(), &ports, "")
}

fn web(extra: Value) -> Value {
    let mut spec = json!({"type": "ClusterIP", "clusterIP": "10.96.0.20",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]});
    for (key, value) in extra.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    spec
}

fn http() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn ready(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}})
}

fn rules<'a>(ruleset: &'a Ruleset, chain: &str) -> Vec<&'a str> {
    ruleset.chains[chain].rules.iter().map(String::as_str).collect()
}

fn elements(ruleset: &Ruleset, set: &str) -> Vec<String> {
    let elements = ruleset.sets[set].elements.iter();
    elements.map(|(key, verdict)| format!("{key} : {verdict}")).collect()
}

#[test]
fn cluster_ip_is_spread_over_the_endpoints() {
    let rules_of = compile(
        web(json!({})),
        http(),
        json!([ready("10.244.0.5", "node-a"), ready("10.244.1.6", "node-b")]),
    );
    let before = compile(web(json!({})), json!([]), json!([]));
    let choice = "choice-shop/web/tcp/http-b3c5b1ec0e4569e7";
    assert_eq!(
        render::change(&before, &rules_of),
        [
            format!("add chain ip kube-proxy {choice}
add chain ip kube-proxy endpoint-shop/web/tcp/http__10.244.0.5/8080
add chain ip kube-proxy endpoint-shop/web/tcp/http__10.244.1.6/8080
add chain ip kube-proxy service-shop/web/tcp/http
add rule ip kube-proxy {choice} numgen random mod 2 vmap {{ 0 : goto endpoint-shop/web/tcp/http__10.244.0.5/8080, 1 : goto endpoint-shop/web/tcp/http__10.244.1.6/8080 }}
add rule ip kube-proxy endpoint-shop/web/tcp/http__10.244.0.5/8080 ip saddr 10.244.0.5 jump mark-for-masquerade
add rule ip kube-proxy endpoint-shop/web/tcp/http__10.244.0.5/8080 meta l4proto tcp dnat to 10.244.0.5:8080
add rule ip kube-proxy endpoint-shop/web/tcp/http__10.244.1.6/8080 ip saddr 10.244.1.6 jump mark-for-masquerade
add rule ip kube-proxy endpoint-shop/web/tcp/http__10.244.1.6/8080 meta l4proto tcp dnat to 10.244.1.6:8080
add rule ip kube-proxy service-shop/web/tcp/http ip daddr 10.96.0.20 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
add rule ip kube-proxy service-shop/web/tcp/http goto {choice}
"),
            "delete element ip kube-proxy no-endpoint-services { 10.96.0.20 . tcp . 80 : goto reject-chain }
add element ip kube-proxy service-ips { 10.96.0.20 . tcp . 80 : goto service-shop/web/tcp/http }
".to_owned(),
        ]
    );
}

#[test]
fn what_packets_may_be_in_stays_until_nothing_leads_there() {
    let three = compile(
        web(json!({})),
        http(),
        json!([ready("10.244.0.5", "a"), ready("10.244.0.6", "a"), ready("10.244.0.7", "a")]),
    );
    let two = compile(
        web(json!({})),
        http(),
        json!([ready("10.244.0.5", "a"), ready("10.244.0.6", "a")]),
    );
    let [prepared, switched, removed] = &render::change(&three, &two)[..] else { panic!("three") };
    let choice = |rules: &Ruleset| {
        let name = rules.chains.keys().find(|name| name.starts_with("choice-"));
        name.expect("a choice among endpoints").clone()
    };
    let (old, new) = (choice(&three), choice(&two));
    assert_ne!(old, new);
    assert!(
        prepared.starts_with(&format!("add chain ip kube-proxy {new}\nadd rule ")),
        "{prepared}"
    );
    assert!(!prepared.contains("flush") && !prepared.contains("delete"), "{prepared}");
    let service = "service-shop/web/tcp/http";
    assert!(switched.starts_with(&format!("flush chain ip kube-proxy {service}\n")), "{switched}");
    assert!(switched.ends_with(&format!("{service} goto {new}\n")), "{switched}");
    let gone = "endpoint-shop/web/tcp/http__10.244.0.7/8080";
    let lines = |verb: &str| {
        format!("{verb} chain ip kube-proxy {old}\n{verb} chain ip kube-proxy {gone}\n")
    };
    assert_eq!(*removed, lines("flush") + &lines("delete"));
}

#[test]
fn equal_rules_are_no_change() {
    let endpoints = || json!([ready("10.244.0.5", "node-a")]);
    let a = compile(web(json!({})), http(), endpoints());
    let b = compile(web(json!({})), http(), endpoints());
    assert!(render::change(&a, &b).is_empty());
}

#[test]
fn a_service_without_endpoints_refuses() {
    let rules_of = compile(web(json!({"type": "NodePort"})), http(), json!([]));
    assert_eq!(
        elements(&rules_of, "no-endpoint-services"),
        ["10.96.0.20 . tcp . 80 : goto reject-chain"]
    );
    assert_eq!(elements(&rules_of, "no-endpoint-nodeports"), ["tcp . 30080 : goto reject-chain"]);
    assert!(rules_of.sets["service-ips"].elements.is_empty());
}

#[test]
fn local_policy_drops_only_what_comes_from_outside() {
    let spec = web(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["198.51.100.0/24"]}));
    let rules_of = compile(spec, http(), json!([ready("10.244.1.6", "node-b")]));
    assert_eq!(elements(&rules_of, "no-endpoint-services"), ["203.0.113.9 . tcp . 80 : drop"]);
    assert_eq!(elements(&rules_of, "no-endpoint-nodeports"), ["tcp . 30080 : drop"]);
    assert_eq!(
        rules(&rules_of, "external-shop/web/tcp/http"),
        [
            "ip saddr 10.244.0.0/16 goto service-shop/web/tcp/http",
            "fib saddr type local jump mark-for-masquerade",
            "fib saddr type local goto service-shop/web/tcp/http",
        ]
    );
    assert_eq!(
        rules(&rules_of, "firewall-shop/web/tcp/http"),
        ["ip saddr 198.51.100.0/24 return", "drop"]
    );
}

#[test]
fn ending_endpoints_serve_when_no_other_does() {
    let ending = json!({"addresses": ["10.244.0.5"], "nodeName": "node-a",
        "conditions": {"ready": false, "serving": true, "terminating": true}});
    let alone = compile(web(json!({})), http(), json!([ending]));
    assert!(alone.chains.contains_key("endpoint-shop/web/tcp/http__10.244.0.5/8080"));
    let both = compile(web(json!({})), http(), json!([ending, ready("10.244.1.6", "node-b")]));
    assert!(!both.chains.contains_key("endpoint-shop/web/tcp/http__10.244.0.5/8080"));
}

#[test]
fn affinity_outlives_other_changes() {
    let spec = || {
        web(json!({"sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}))
    };
    let one = compile(spec(), http(), json!([ready("10.244.0.5", "node-a")]));
    let two = compile(
        spec(),
        http(),
        json!([ready("10.244.0.5", "node-a"), ready("10.244.1.6", "node-b")]),
    );
    let set = "affinity-60s-shop/web/tcp/http__10.244.0.5/8080";
    assert_eq!(two.sets[set].definition, "type ipv4_addr ; flags dynamic,timeout ; timeout 60s ;");
    let text = render::change(&one, &two).concat();
    assert!(!text.contains(&format!("set ip kube-proxy {set} ")), "{text}");
    let back = render::change(&two, &one).concat();
    assert!(
        back.ends_with(
            "delete set ip kube-proxy affinity-60s-shop/web/tcp/http__10.244.1.6/8080\n"
        )
    );
}

#[test]
fn udp_flows_to_a_gone_endpoint_are_forgotten() {
    let spec = || json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]});
    let ports = || json!([{"name": "", "port": 53, "protocol": "UDP"}]);
    let old = compile(spec(), ports(), json!([ready("10.244.0.5", "a"), ready("10.244.0.6", "a")]));
    let new = compile(spec(), ports(), json!([ready("10.244.0.6", "a")]));
    let origin = ruleset::Origin::Address(Ipv4Addr::new(10, 96, 0, 10), 53);
    let endpoint = Some(Ipv4Addr::new(10, 244, 0, 5));
    assert_eq!(conntrack::stale(&old, &new), [conntrack::Stale { origin, endpoint }]);
}

#[test]
fn services_of_others_and_headless_ones_have_no_rules() {
    for spec in
        [web(json!({"clusterIP": "None"})), web(json!({"type": "ExternalName", "clusterIP": ""}))]
    {
        let rules_of = compile(spec, http(), json!([ready("10.244.0.5", "node-a")]));
        assert!(rules_of.sets["cluster-ips"].elements.is_empty());
    }
}

/// An API without any object.
struct Empty;

type Answer = Result<Response<Body>, longshore_client::Error>;

impl Transport for Empty {
    fn call(&self, request: Request<Body>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        if request.uri().query().is_some_and(|query| query.contains("watch=1")) {
            return Box::pin(std::future::pending());
        }
        let list = json!({ "metadata": { "resourceVersion": "1" }, "items": [] });
        Box::pin(std::future::ready(Ok(Response::new(full(list.to_string())))))
    }
}

#[tokio::test(start_paused = true)]
async fn rules_that_are_refused_or_taken_away_are_made_anew() {
    let shutdown = Shutdown::new();
    let caches = Factory::new(Client::new(Arc::new(Empty)), shutdown.clone());
    let nft = Arc::new(FakeNft::default());
    nft.refuse(1);
    start_with(config(), &caches, nft.clone(), &shutdown);
    let applied = async |count: usize| {
        while nft.applied().len() < count {
            tokio::time::sleep(SPACING).await;
        }
        nft.applied()
    };
    let rules = ruleset::compile(&config(), &[], "");
    let (whole, renewed) = (render::whole(&rules), render::renew(&rules));
    assert_eq!(applied(1).await, [whole.as_str()]);
    let start = tokio::time::Instant::now();
    assert_eq!(applied(2).await, [whole.as_str(), &renewed]);
    assert!(start.elapsed() > RENEW / 2);
    // The next renewal finds nothing.
    nft.refuse(1);
    assert_eq!(applied(3).await, [whole.as_str(), &renewed, &whole]);
    shutdown.cancel();
}
