//! Every target takes some thousand inputs of a fixed seed.

use longshore_fuzz::engine;
use longshore_fuzz::targets::TARGETS;

/// Inputs for each target: enough to run all the seeds and some of what comes from them.
const EXECUTIONS: u64 = 4_000;

#[test]
fn every_target_takes_what_comes() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let report = engine::run(target, EXECUTIONS, 1);
        if let Some((input, why)) = report.failure {
            broken.push(format!("{}: {why}\n  {:?}", target.name, String::from_utf8_lossy(&input)));
            continue;
        }
        assert!(report.outcomes > 1, "{}: all inputs come to the same", target.name);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
