use serde_json::json;

use super::*;

fn entry(name: &str, operation: &str, version: &str, time: &str) -> Value {
    json!({
        "manager": name, "operation": operation, "apiVersion": version, "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}},
    })
}

#[test]
fn entries_are_read_and_written_in_order() {
    let entries = json!([
        entry("b", "Apply", "v1", "2026-01-02T00:00:00Z"),
        entry("a", "Update", "v1", "2026-01-01T00:00:00Z"),
        entry("a", "Update", "v2", "2026-01-01T00:00:00Z"),
        entry("0", "Update", "v1", "2026-01-03T00:00:00Z"),
    ]);
    let Value::Array(list) = &entries else { unreachable!("written as a list") };
    let mut shuffled = list.clone();
    shuffled.reverse();
    let managers = decode(&shuffled).expect("valid entries");
    assert_eq!(encode(&managers), Some(entries));
    assert_eq!(encode(&Managers::new()), None);
}

#[test]
fn an_applier_has_one_entry_for_all_versions() {
    let entries = [entry("a", "Apply", "v1", ""), entry("a", "Apply", "v2", "")];
    let managers = decode(&entries).expect("valid entries");
    assert_eq!(managers.len(), 1);
    assert_eq!(managers.values().next().map(|e| &*e.api_version), Some("v2"));
}

#[test]
fn bad_entries_are_refused() {
    let good = entry("a", "Update", "v1", "2026-01-01T00:00:00Z");
    for (key, value, why) in [
        ("operation", json!("Patch"), "operation must be `Apply` or `Update`"),
        ("apiVersion", json!(""), "apiVersion must not be empty"),
        ("fieldsType", json!(null), "missing fieldsType in managed fields entry 0"),
        ("fieldsType", json!("V2"), "invalid fieldsType \"V2\" in managed fields entry 0"),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        assert_eq!(decode(&[bad]), Err(why.to_owned()));
    }
    let mut bad = good;
    bad["fieldsV1"] = json!({"data": {}});
    assert!(decode(&[bad]).is_err());
}

#[test]
fn empty_lists_and_entries_ask_to_forget() {
    assert!(asks_to_forget(&[]));
    assert!(asks_to_forget(&[json!({})]));
    assert!(!asks_to_forget(&[json!({"manager": "a"})]));
    assert!(!asks_to_forget(&[json!({}), json!({})]));
}
