//! What clients are told when a request fails.

use std::sync::Arc;

use http::Method;
use longshore_client::Client;
use serde_json::json;

use crate::server::{Answer, Server};

#[tokio::test]
async fn the_code_counts_also_when_the_answer_is_no_status() {
    let server = Server::default();
    let client = Client::new(Arc::new(server.clone()));
    for (answer, wanted) in [
        (Answer::Text(404, "404 page not found\n"), "404 page not found"),
        (
            Answer::Json(404, json!({ "kind": "Status", "message": "no such thing" })),
            "no such thing",
        ),
        (Answer::Text(404, ""), ""),
    ] {
        server.will(answer);
        let error = client.raw(Method::GET, "/apis/gone/v1", None).await.expect_err("a failure");
        assert!(error.is_not_found() && error.to_string().contains(wanted), "{error}");
    }
    server.will(Answer::Text(200, "ok"));
    let error = client.raw(Method::GET, "/apis/gone/v1", None).await.expect_err("a failure");
    assert!(!error.is_not_found(), "{error}");
}
