//! The network configuration of one node, for the standard CNI plugins.

use std::path::Path;

use serde_json::json;

/// The file's name; it sorts early, because the runtime takes the first.
const FILE: &str = "10-longshore.conflist";
/// The bridge that pods are connected to.
const BRIDGE: &str = "lsh0";

/// Writes the configuration for a node's part of the pod network, if it is another one. Addresses
/// that are taken are written down in `leases`.
pub(crate) fn write(dir: &Path, leases: &Path, pod_cidr: &str) -> std::io::Result<()> {
    let config = json!({
        "cniVersion": "0.4.0", "name": "longshore",
        "plugins": [
            {
                "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true,
                "hairpinMode": true, "promiscMode": false,
                "ipam": {
                    "type": "host-local", "dataDir": leases.display().to_string(),
                    "ranges": [[{ "subnet": pod_cidr }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    });
    let text = format!("{config:#}\n");
    let path = dir.join(FILE);
    if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let temporary = dir.join(format!(".{FILE}.new"));
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, path)
}
