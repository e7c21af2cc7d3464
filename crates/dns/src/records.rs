//! What the cluster's names stand for. Answers are made when they are asked for, from the caches.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use longshore_api::Object;
use longshore_client::Informer;
use serde_json::Value;

/// How long an answer is good for, in seconds.
///
/// upstream: CoreDNS plugin/kubernetes
const TTL: u32 = 5;
/// The version of the specification, told under `dns-version`.
const VERSION: &str = "1.1.0";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// An answer about a name of the cluster.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// The records; none when the name has none of the wanted type.
    pub(crate) records: Vec<Record>,
    /// Addresses of the targets of the records.
    pub(crate) additional: Vec<Record>,
    /// Whether the name exists at all.
    pub(crate) exists: bool,
}

/// The names of the cluster.
pub(crate) struct Zone {
    domain: String,
    services: Informer,
    slices: Informer,
}

/// An address behind a service.
struct Endpoint {
    ip: Ipv4Addr,
    /// Its own name below the service.
    host: String,
    /// Name, protocol and number of its ports.
    ports: Vec<(String, String, u16)>,
}

impl Zone {
    /// The names of a domain.
    pub(crate) fn new(domain: &str, services: Informer, slices: Informer) -> Self {
        let domain = domain.trim_matches('.').to_lowercase();
        Self { domain, services, slices }
    }

    /// Whether a name is for us to answer; `None` when it has to be asked for elsewhere.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let text = name.to_ascii().to_lowercase();
        let text = text.trim_end_matches('.');
        if let Some(reversed) = text.strip_suffix(".in-addr.arpa") {
            return self.reverse(name, reversed);
        }
        let rest = if text == self.domain {
            ""
        } else {
            text.strip_suffix(&self.domain)?.strip_suffix('.')?
        };
        let labels: Vec<&str> = rest.split('.').filter(|l| !l.is_empty()).rev().collect();
        Some(match labels.as_slice() {
            [] | ["svc"] | ["pod"] => exists(),
            ["dns-version"] => {
                let txt = RData::TXT(TXT::new(vec![VERSION.to_owned()]));
                of_type(kind, RecordType::TXT, vec![record(name, txt)])
            }
            ["svc", namespace] => {
                let any = !self.services.list_namespace(namespace).is_empty();
                Answer { exists: any, ..Answer::default() }
            }
            ["svc", namespace, service] => self.service(name, kind, namespace, service),
            ["svc", namespace, service, host] if !host.starts_with('_') => {
                self.host(name, kind, namespace, service, host)
            }
            ["svc", namespace, service, protocol, port] => {
                self.ports(name, kind, namespace, service, Some((protocol, port)))
            }
            ["pod", _namespace, dashed] => pod(name, kind, dashed),
            _ => Answer::default(),
        })
    }

    /// The record that tells who answers for the domain.
    pub(crate) fn authority(&self) -> Record {
        let name = |prefix: &str| {
            Name::from_ascii(format!("{prefix}{}.", self.domain)).unwrap_or_else(|_| Name::root())
        };
        let soa = SOA::new(name("ns.dns."), name("hostmaster."), 1, 7200, 1800, 86_400, TTL);
        Record::from_rdata(name(""), TTL, RData::SOA(soa))
    }

    fn service(&self, name: &Name, kind: RecordType, namespace: &str, service: &str) -> Answer {
        let Some(found) = self.services.get(namespace, service) else { return Answer::default() };
        if found.str(&["spec", "type"]) == "ExternalName" {
            let target = Name::from_ascii(format!("{}.", found.str(&["spec", "externalName"])));
            let records = target.map(|t| vec![record(name, RData::CNAME(CNAME(t)))]);
            return Answer {
                records: records.unwrap_or_default(),
                exists: true,
                ..Answer::default()
            };
        }
        if kind == RecordType::SRV {
            return self.ports(name, kind, namespace, service, None);
        }
        let ips: Vec<Ipv4Addr> = match found.str(&["spec", "clusterIP"]) {
            "None" => self.endpoints(&found).into_iter().map(|e| e.ip).collect(),
            ip => ip.parse().into_iter().collect(),
        };
        let headless_without_pods = found.str(&["spec", "clusterIP"]) == "None" && ips.is_empty();
        let records = ips.into_iter().map(|ip| address(name, ip)).collect();
        let mut answer = of_type(kind, RecordType::A, records);
        answer.exists &= !headless_without_pods;
        answer
    }

    /// A single pod behind a headless service.
    fn host(
        &self,
        name: &Name,
        kind: RecordType,
        namespace: &str,
        service: &str,
        host: &str,
    ) -> Answer {
        let Some(found) = self.services.get(namespace, service) else { return Answer::default() };
        let all = self.endpoints(&found).into_iter().filter(|e| e.host == host);
        let records: Vec<Record> = all.map(|e| address(name, e.ip)).collect();
        if records.is_empty() {
            return Answer::default();
        }
        of_type(kind, RecordType::A, records)
    }

    fn ports(
        &self,
        name: &Name,
        kind: RecordType,
        namespace: &str,
        service: &str,
        wanted: Option<(&str, &str)>,
    ) -> Answer {
        let Some(found) = self.services.get(namespace, service) else { return Answer::default() };
        let fits = |port: &str, protocol: &str| {
            wanted.is_none_or(|(wanted_protocol, wanted_port)| {
                wanted_protocol == format!("_{}", protocol.to_lowercase())
                    && wanted_port == format!("_{port}")
            })
        };
        let own = format!("{service}.{namespace}.svc.{}.", self.domain);
        let mut answer = Answer::default();
        if found.str(&["spec", "clusterIP"]) == "None" {
            for endpoint in self.endpoints(&found) {
                let target = format!("{}.{own}", endpoint.host);
                for (port, protocol, number) in &endpoint.ports {
                    if fits(port, protocol) {
                        answer.add_port(name, &target, *number, endpoint.ip);
                    }
                }
            }
        } else if let Ok(ip) = found.str(&["spec", "clusterIP"]).parse() {
            for port in found.list(&["spec", "ports"]) {
                let text = |key: &str| port[key].as_str().unwrap_or("");
                let number = port["port"].as_u64().and_then(|n| u16::try_from(n).ok());
                if fits(text("name"), text("protocol")) {
                    answer.add_port(name, &own, number.unwrap_or(0), ip);
                }
            }
        }
        answer.exists = !answer.records.is_empty();
        if kind != RecordType::SRV {
            answer.records.clear();
            answer.additional.clear();
        }
        answer
    }

    /// The addresses behind a service that may be told.
    fn endpoints(&self, service: &Object) -> Vec<Endpoint> {
        let all = service.bool(&["spec", "publishNotReadyAddresses"]);
        let slices = self.slices.list_namespace(service.namespace());
        let own = slices.iter().filter(|s| s.label(SERVICE_NAME) == Some(service.name()));
        let mut found = Vec::new();
        for slice in own {
            let ports = slice.list(&["ports"]).iter().map(|p| {
                let text = |key: &str| p[key].as_str().unwrap_or("").to_owned();
                let number = p["port"].as_u64().and_then(|n| u16::try_from(n).ok());
                (text("name"), text("protocol"), number.unwrap_or(0))
            });
            let ports: Vec<_> = ports.collect();
            for endpoint in slice.list(&["endpoints"]) {
                if !all && endpoint["conditions"]["ready"] == Value::Bool(false) {
                    continue;
                }
                let ip = endpoint["addresses"][0].as_str().and_then(|ip| ip.parse().ok());
                let Some(ip) = ip else { continue };
                let dashed = Ipv4Addr::to_string(&ip).replace('.', "-");
                let host = endpoint["hostname"].as_str().map_or(dashed, str::to_owned);
                found.push(Endpoint { ip, host, ports: ports.clone() });
            }
        }
        found
    }

    /// The name of an address; `None` when it is not one of the cluster's.
    fn reverse(&self, name: &Name, reversed: &str) -> Option<Answer> {
        let parts: Vec<&str> = reversed.split('.').rev().collect();
        let ip: Ipv4Addr = parts.join(".").parse().ok()?;
        let text = ip.to_string();
        let target = self.services.list().iter().find_map(|service| {
            let own = format!("{}.{}.svc.{}.", service.name(), service.namespace(), self.domain);
            if service.str(&["spec", "clusterIP"]) == text {
                return Some(own);
            }
            let headless = service.str(&["spec", "clusterIP"]) == "None";
            let mut endpoints = if headless { self.endpoints(service) } else { Vec::new() };
            endpoints.retain(|e| e.ip == ip);
            endpoints.first().map(|e| format!("{}.{own}", e.host))
        })?;
        let target = Name::from_ascii(target).ok()?;
        let records = vec![record(name, RData::PTR(PTR(target)))];
        Some(Answer { records, exists: true, ..Answer::default() })
    }
}

impl Answer {
    fn add_port(&mut self, name: &Name, target: &str, port: u16, ip: Ipv4Addr) {
        let Ok(target) = Name::from_ascii(target) else { return };
        let srv = SRV::new(0, 100, port, target.clone());
        self.records.push(record(name, RData::SRV(srv)));
        let extra = address(&target, ip);
        if !self.additional.contains(&extra) {
            self.additional.push(extra);
        }
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address(name: &Name, ip: Ipv4Addr) -> Record {
    record(name, RData::A(A(ip)))
}

fn exists() -> Answer {
    Answer { exists: true, ..Answer::default() }
}

/// The records if they are of the wanted type.
fn of_type(wanted: RecordType, have: RecordType, records: Vec<Record>) -> Answer {
    let fits = wanted == have || wanted == RecordType::ANY;
    Answer { records: if fits { records } else { Vec::new() }, exists: true, ..Answer::default() }
}

/// A pod by its address with dashes.
fn pod(name: &Name, kind: RecordType, dashed: &str) -> Answer {
    match dashed.replace('-', ".").parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => of_type(kind, RecordType::A, vec![address(name, ip)]),
        _ => Answer::default(),
    }
}
