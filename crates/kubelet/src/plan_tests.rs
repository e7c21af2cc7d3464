use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::observe::Sandbox;

fn pod(policy: &str, init: &[&str], main: &[&str]) -> Object {
    let list = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| match name.strip_prefix('+') {
                Some(name) => json!({ "name": name, "image": "i", "restartPolicy": "Always" }),
                None => json!({ "name": name, "image": "i" }),
            })
            .collect()
    };
    Object::from_value(json!({ "spec": {
        "restartPolicy": policy, "initContainers": list(init), "containers": list(main),
    }}))
    .expect("an object")
}

pub(crate) fn container(name: &str, state: State, exit_code: i32) -> Container {
    Container {
        id: format!("id-{name}"),
        name: name.into(),
        attempt: 0,
        state,
        sandbox: "s".into(),
        hash: hash(&json!({ "name": name, "image": "i" })),
        image: "i".into(),
        image_id: "i".into(),
        created: Timestamp::UNIX_EPOCH,
        started: None,
        finished: None,
        exit_code,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
    }
}

fn observed(containers: Vec<Container>) -> Observed {
    let sandbox = Sandbox { id: "s".into(), attempt: 0, ready: true, created: 0, ips: Vec::new() };
    Observed { sandboxes: vec![sandbox], containers }
}

fn good(_: &str) -> Health {
    Health { started: true, broken: false }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_then_its_containers_in_order() {
    let pod = pod("Always", &["i", "+side"], &["a", "b"]);
    let plan = decide(&pod, &Observed::default(), false, &good);
    assert_eq!(plan.make_sandbox, Some(0));
    let steps: [(Vec<Container>, &[&str]); 4] = [
        (vec![], &["i"]),
        (vec![container("i", State::Running, 0)], &[]),
        (vec![container("i", State::Exited, 0)], &["side"]),
        (vec![container("i", State::Exited, 0), container("side", State::Running, 0)], &["a", "b"]),
    ];
    for (containers, start) in steps {
        assert_eq!(decide(&pod, &observed(containers), false, &good).start, start);
    }
}

#[test]
fn restart_policies() {
    for (policy, exit_code, starts) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let pod = pod(policy, &[], &["a", "b"]);
        let seen = observed(vec![
            container("a", State::Exited, exit_code),
            container("b", State::Running, 0),
        ]);
        let plan = decide(&pod, &seen, false, &good);
        assert_eq!(plan.start == ["a"], starts, "{policy} {exit_code}");
        assert!(plan.stop.is_empty());
    }
}

#[test]
fn a_pod_that_ends_stops_containers_then_sandboxes_then_is_finished() {
    let pod = pod("Always", &[], &["a"]);
    let plan = decide(&pod, &observed(vec![container("a", State::Running, 0)]), true, &good);
    assert_eq!(plan.stop, [("id-a".to_owned(), Why::PodEnds)]);
    assert!(plan.stop_sandboxes.is_empty() && !plan.finished);
    let plan = decide(&pod, &observed(vec![container("a", State::Exited, 0)]), true, &good);
    assert_eq!(plan.stop_sandboxes, ["s"]);
    let mut gone = observed(vec![container("a", State::Exited, 0)]);
    gone.sandboxes[0].ready = false;
    assert!(decide(&pod, &gone, true, &good).finished);
}

#[test]
fn unhealthy_and_changed_containers_are_stopped() {
    let pod = pod("Always", &[], &["a"]);
    let seen = observed(vec![container("a", State::Running, 0)]);
    let broken = |_: &str| Health { started: true, broken: true };
    assert_eq!(decide(&pod, &seen, false, &broken).stop[0].1, Why::Unhealthy);
    let mut changed = pod.clone();
    changed.set(&["spec", "containers"], json!([{ "name": "a", "image": "other" }]));
    assert_eq!(decide(&changed, &seen, false, &good).stop[0].1, Why::Changed);
}

#[test]
fn a_lost_sandbox_is_replaced() {
    let pod = pod("Always", &[], &["a"]);
    let mut seen = observed(vec![container("a", State::Running, 0)]);
    seen.sandboxes[0].ready = false;
    let plan = decide(&pod, &seen, false, &good);
    assert_eq!(plan.make_sandbox, Some(1));
    assert_eq!(plan.stop, [("id-a".to_owned(), Why::SandboxGone)]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let pod = pod("Never", &["i"], &["a"]);
    let seen = observed(vec![container("i", State::Exited, 1)]);
    assert!(is_over(&pod, &seen));
}

#[test]
fn events_name_the_list_of_a_container() {
    let pod = pod("Always", &["+a"], &["b"]);
    assert_eq!(path(&pod, "a"), "spec.initContainers{a}");
    assert_eq!(path(&pod, "b"), "spec.containers{b}");
}
