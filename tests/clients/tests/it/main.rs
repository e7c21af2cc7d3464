//! Clients that others wrote, against our server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod kube_rs;
mod kubectl;
mod python;

use longshore_test_api::server::Server;

/// A server with controllers and scheduler.
async fn start() -> Server {
    Server::start("kubelet,proxy,dns").await.unwrap()
}
