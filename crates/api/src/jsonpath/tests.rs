//! Tests of paths.

use serde_json::json;

use super::*;

fn found(path: &str, value: &Value) -> Result<Vec<Value>, Failed> {
    let path = JsonPath::parse(path).expect("a path");
    path.find(value).map(|found| found.into_iter().cloned().collect())
}

#[test]
fn paths_lead_to_values() {
    let value = json!({
        "spec": {
            "l": ["x", "y", "z"], "empty": [], "o": {"p": {"q": "deep"}}, "none": null,
            "c": [{"type": "Ready", "n": 1}, {"type": "Other", "n": 2, "more": true}],
        },
        "a.b/c": "dotted",
    });
    for (path, want) in [
        (".spec.l[0]", json!(["x"])),
        (".spec.l[-1]", json!(["z"])),
        (".spec.l[*]", json!(["x", "y", "z"])),
        (".spec.l[0:2]", json!(["x", "y"])),
        (".spec.l[::2]", json!(["x", "z"])),
        (".spec.l[0,2]", json!(["x", "z"])),
        (".spec.empty[*]", json!([])),
        (".spec.none", json!([null])),
        (".spec.none.x", json!([])),
        (".spec.none[0]", json!([])),
        (".missing.x", json!([])),
        (".a\\.b/c", json!(["dotted"])),
        ("['a\\.b/c']", json!(["dotted"])),
        (".spec.c[?(@.type=='Ready')].n", json!([1])),
        (".spec.c[?(@.n>1)].type", json!(["Other"])),
        (".spec.c[?(@.more)].type", json!(["Other"])),
        (".spec.c[?(@.more==true)].n", json!([2])),
        (".spec..q", json!(["deep"])),
        (".spec.o.*", json!([{"q": "deep"}])),
        (".", json!([])),
    ] {
        assert_eq!(found(path, &value).map(Value::from), Ok(want), "{path}");
    }
    for path in [
        ".spec.l[3]",
        ".spec.empty[0]",
        ".spec.o[0]",
        ".spec.o[?(@.x)]",
        ".spec.c[?(@.n=='1')]",
        ".spec.c[?(@.n=1)]",
        "word",
    ] {
        assert_eq!(found(path, &value), Err(Failed), "{path}");
    }
}

#[test]
fn what_is_no_path_is_refused() {
    let deep = format!(".a{}", "[?(".repeat(1000));
    for path in [".a[", ".a[x]", ".a[?(@.b]", "....", "#", "'a", ".a[?(@.b)", &deep] {
        assert!(JsonPath::parse(path).is_err(), "{path}");
    }
}

#[test]
fn a_path_that_gives_too_much_fails() {
    let mut value = json!(1);
    for _ in 0..60 {
        value = json!({ "a": value });
    }
    assert_eq!(found("...*...*...*...*", &value), Err(Failed));
}
