//! Every scenario of `cases`, against one server.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use longshore_test_api::run::run;
use longshore_test_api::scenario::Library;
use longshore_test_api::server::{Server, Target};

/// The folder of scenarios.
pub const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
/// Scenarios that run at the same time.
const CONCURRENT: usize = 12;
/// Names a part of the names of those that run; all of them run without it.
const ONLY: &str = "LONGSHORE_TEST_ONLY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds() {
    let library = Arc::new(Library::read(Path::new(CASES)).unwrap());
    let target = Target::find().await.unwrap();
    let only = std::env::var(ONLY).unwrap_or_default();
    let chosen: Vec<_> = library.scenarios.iter().filter(|s| s.name.contains(&only)).collect();
    assert!(!chosen.is_empty(), "no scenario is named like {only:?}");
    let outcomes = stream::iter(chosen).map(|scenario| {
        let (library, wire) = (library.clone(), target.wire.clone());
        async move { (scenario, run(library, scenario, wire).await) }
    });
    let mut outcomes: Vec<_> = outcomes.buffer_unordered(CONCURRENT).collect().await;
    outcomes.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let mut failures = String::new();
    let mut failed = 0;
    for (scenario, outcome) in &outcomes {
        if let Err(error) = outcome {
            failed += 1;
            writeln!(failures, "{}: {error:#}\n", scenario.name).unwrap();
        }
    }
    let count = outcomes.len();
    assert!(failed == 0, "{failed} of {count} scenarios fail:\n\n{failures}");
    let log = target.server.as_ref().map_or_else(String::new, Server::log);
    assert!(!log.contains("panicked"), "{log}");
    println!("{count} scenarios hold");
}
