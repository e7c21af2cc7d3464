//! What says that the API server lives.

use longshore_client::resource::LEASES;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_a_lease() {
    let cluster = Cluster::start().await;
    cluster
        .until(LEASES, |all| {
            all.iter().any(|lease| {
                // The first 16 bytes of the SHA-256 of "host" and "kube-apiserver" with their lengths before them.
                lease.name() == "apiserver-dd6egxogzxmivwqge6rcnj6rwi"
                    && lease.namespace() == "kube-system"
                    && lease.label("apiserver.kubernetes.io/identity") == Some("kube-apiserver")
                    && lease.label("kubernetes.io/hostname") == Some("host")
                    && lease.str(&["spec", "holderIdentity"]) == format!("{}_1", lease.name())
                    && lease.int(&["spec", "leaseDurationSeconds"]) == Some(3600)
                    && !lease.str(&["spec", "renewTime"]).is_empty()
            })
        })
        .await;
}
