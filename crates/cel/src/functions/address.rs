//! Addresses of the internet, and networks.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/library/ip.go, cidr.go

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use longshore_api::netip;

use super::{Context, Entry, Library, convert, no_overload};
use crate::types::Type;
use crate::value::{EvalError, Opaque, Outcome, Value};

/// The library.
pub const ADDRESSES: Library = Library {
    name: "addresses",
    declarations: "
        ip string_to_ip(string) net.IP
        family .ip_family(net.IP) int
        ip.isCanonical ip_is_canonical(string) bool
        isUnspecified .ip_is_unspecified(net.IP) bool
        isLoopback .ip_is_loopback(net.IP) bool
        isLinkLocalMulticast .ip_is_link_local_multicast(net.IP) bool
        isLinkLocalUnicast .ip_is_link_local_unicast(net.IP) bool
        isGlobalUnicast .ip_is_global_unicast(net.IP) bool
        isIP is_ip(string) bool
        string ip_to_string(net.IP) string
        cidr string_to_cidr(string) net.CIDR
        containsIP .cidr_contains_ip_string(net.CIDR, string) bool
        containsIP .cidr_contains_ip_ip(net.CIDR, net.IP) bool
        containsCIDR .cidr_contains_cidr_string(net.CIDR, string) bool
        containsCIDR .cidr_contains_cidr(net.CIDR, net.CIDR) bool
        ip .cidr_ip(net.CIDR) net.IP
        prefixLength .cidr_prefix_length(net.CIDR) int
        masked .cidr_masked(net.CIDR) net.CIDR
        isCIDR is_cidr(string) bool
        string cidr_to_string(net.CIDR) string
    ",
    functions: FUNCTIONS,
};

const FUNCTIONS: &[Entry] = &[
    ("ip", |_, args| match args {
        [Value::String(text)] => Ok(Value::opaque(parse(text.as_str())?)),
        [value] => match value.downcast::<Network>() {
            Some(network) => Ok(Value::opaque(Address(network.address))),
            None => no_overload(),
        },
        _ => no_overload(),
    }),
    ("family", |_, args| of(args, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
    ("ip.isCanonical", |_, args| match args {
        [Value::String(text)] => {
            Ok(Value::Bool(parse(text.as_str())?.0.to_string() == text.as_str()))
        }
        _ => no_overload(),
    }),
    ("isUnspecified", |_, args| of(args, |ip| Value::Bool(ip.is_unspecified()))),
    ("isLoopback", |_, args| of(args, |ip| Value::Bool(ip.is_loopback()))),
    ("isLinkLocalMulticast", |_, args| of(args, |ip| Value::Bool(is_local_multicast(ip)))),
    ("isLinkLocalUnicast", |_, args| of(args, |ip| Value::Bool(is_local_unicast(ip)))),
    ("isGlobalUnicast", |_, args| of(args, |ip| Value::Bool(is_global_unicast(ip)))),
    ("isIP", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(parse(text.as_str()).is_ok())),
        _ => no_overload(),
    }),
    ("string", string),
    ("cidr", |_, args| match args {
        [Value::String(text)] => Ok(Value::opaque(parse_network(text.as_str())?)),
        _ => no_overload(),
    }),
    ("containsIP", contains_ip),
    ("containsCIDR", contains_network),
    ("prefixLength", |_, args| in_network(args, |network| Value::Int(i64::from(network.bits)))),
    ("masked", |_, args| {
        in_network(args, |network| {
            Value::opaque(Network { address: network.first(), bits: network.bits })
        })
    }),
    ("isCIDR", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(parse_network(text.as_str()).is_ok())),
        _ => no_overload(),
    }),
];

/// An address.
#[derive(Debug)]
struct Address(IpAddr);

/// A network: an address in it, and how many bits all of its addresses share.
#[derive(Debug)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Opaque for Address {
    fn type_of(&self) -> Type {
        Type::Opaque("net.IP".into(), Arc::new([]))
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other.0 == self.0)
    }
    fn size(&self) -> Option<u64> {
        Some(if self.0.is_ipv4() { 4 } else { 16 })
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Opaque for Network {
    fn type_of(&self) -> Type {
        Type::Opaque("net.CIDR".into(), Arc::new([]))
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        let other = other.as_any().downcast_ref::<Self>();
        other.is_some_and(|other| other.address == self.address && other.bits == self.bits)
    }
    fn size(&self) -> Option<u64> {
        Some(u64::from(self.bits.div_ceil(8)))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Network {
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4()
            && Self { address: ip, bits: self.bits }.first() == self.first()
    }
}

fn parse(text: &str) -> Result<Address, EvalError> {
    let (ip, zone) = netip::parse(text).map_err(|why| {
        EvalError::new(format!(
            "IP Address {text:?} parse error during conversion from string: {why}"
        ))
    })?;
    if zone.is_some() {
        return Err(EvalError::new(format!("IP address {text:?} with zone value is not allowed")));
    }
    if is_mapped(ip) {
        return Err(EvalError::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed")));
    }
    Ok(Address(ip))
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// upstream: Go's net/netip ParsePrefix
fn parse_network(text: &str) -> Result<Network, EvalError> {
    const PREFIX: &str = "network address parse error during conversion from string";
    let wrong = |why: String| {
        EvalError::new(format!("{PREFIX}: {PREFIX}: netip.ParsePrefix({text:?}): {why}"))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'".to_owned()))?;
    if address.contains('%') {
        return Err(wrong("IPv6 zones cannot be present in a prefix".to_owned()));
    }
    let (address, _) = netip::parse(address).map_err(wrong)?;
    let shape =
        bits.starts_with('0') && bits.len() > 1 || !bits.bytes().all(|b| b.is_ascii_digit());
    let count: Option<u32> = if shape { None } else { bits.parse().ok() };
    let count = count.ok_or_else(|| wrong(format!("bad bits after slash: {bits:?}")))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if count > most {
        return Err(wrong("prefix length out of range".to_owned()));
    }
    if is_mapped(address) {
        return Err(EvalError::new(format!(
            "{PREFIX}: IPv4-mapped IPv6 address {text:?} is not allowed"
        )));
    }
    Ok(Network { address, bits: u8::try_from(count).unwrap_or(128) })
}

fn of<'a>(args: &[Value<'a>], tell: impl Fn(IpAddr) -> Value<'a>) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Address>() {
            Some(address) => Ok(tell(address.0)),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn in_network<'a>(args: &[Value<'a>], tell: impl Fn(&Network) -> Value<'a>) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Network>() {
            Some(network) => Ok(tell(network)),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn is_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast
        && !ip.is_unspecified()
        && !ip.is_loopback()
        && !ip.is_multicast()
        && !is_local_unicast(ip)
}

fn string<'a>(context: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    if let [value @ Value::Opaque(_)] = args {
        if let Some(address) = value.downcast::<Address>() {
            return Ok(Value::text(address.0.to_string()));
        }
        if let Some(network) = value.downcast::<Network>() {
            return Ok(Value::text(format!("{}/{}", network.address, network.bits)));
        }
        return no_overload();
    }
    convert::to_string(context, args)
}

fn contains_ip<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [network, other] = args else { return no_overload() };
    let Some(network) = network.downcast::<Network>() else { return no_overload() };
    let ip = match other {
        // A text that is no address is not told.
        Value::String(text) => match parse(text.as_str()) {
            Ok(address) => address.0,
            Err(_) => return no_overload(),
        },
        other => match other.downcast::<Address>() {
            Some(address) => address.0,
            None => return no_overload(),
        },
    };
    Ok(Value::Bool(network.contains(ip)))
}

fn contains_network<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [network, other] = args else { return no_overload() };
    let Some(network) = network.downcast::<Network>() else { return no_overload() };
    let own;
    let other = match other {
        Value::String(text) => {
            own = parse_network(text.as_str())?;
            &own
        }
        other => match other.downcast::<Network>() {
            Some(other) => other,
            None => return no_overload(),
        },
    };
    Ok(Value::Bool(network.bits <= other.bits && network.contains(other.address)))
}
