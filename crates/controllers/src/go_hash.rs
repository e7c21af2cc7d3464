//! Orders that follow from how Go prints values: upstream sorts ports by a hash of their text.
//!
//! upstream: pkg/util/hash/hash.go, FNV-1a with 128 bits

use serde_json::Value;

const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

fn fnv(text: &str) -> u128 {
    text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

fn text<'a>(port: &'a Value, key: &str, absent: &'a str) -> &'a str {
    port[key].as_str().unwrap_or(absent)
}

/// Where a port stands among those of Endpoints.
pub(crate) fn endpoints_port(port: &Value) -> u128 {
    fnv(&format!(
        "(v1.EndpointPort){{Name:(string){} Port:(int32){} Protocol:(v1.Protocol){} \
         AppProtocol:(*string){}}}",
        text(port, "name", ""),
        port["port"],
        text(port, "protocol", ""),
        text(port, "appProtocol", "<nil>"),
    ))
}

/// Where a port stands among those of an EndpointSlice.
pub(crate) fn slice_port(port: &Value) -> u128 {
    fnv(&format!(
        "(v1.EndpointPort){{Name:(*string){} Protocol:(*v1.Protocol){} Port:(*int32){} \
         AppProtocol:(*string){}}}",
        text(port, "name", "<nil>"),
        text(port, "protocol", "<nil>"),
        port["port"],
        text(port, "appProtocol", "<nil>"),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_stand_in_upstreams_order() {
        let port = |name: &str, number: i64, protocol: &str| json!({ "name": name, "port": number, "protocol": protocol });
        let mut ports = [
            port("zz", 9, "TCP"),
            port("aa", 8, "TCP"),
            port("mm", 10, "UDP"),
            port("bb", 8, "TCP"),
        ];
        for order in [endpoints_port, slice_port] {
            ports.sort_by_key(order);
            let names: Vec<&str> = ports.iter().filter_map(|p| p["name"].as_str()).collect();
            assert_eq!(names, ["bb", "mm", "aa", "zz"]);
        }
    }
}
