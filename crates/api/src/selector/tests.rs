use serde_json::json;

use super::*;

fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
    let selector = LabelSelector::parse(selector).expect("a good selector");
    selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
}

#[test]
fn requirements_match_as_documented() {
    let labels = [("app", "web"), ("tier", ""), ("rank", "7")];
    for (selector, want) in [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app=db", false),
        ("app!=db", true),
        ("none!=x", true),
        ("app in (db, web)", true),
        ("app notin (db,web)", false),
        ("none notin (a)", true),
        ("app", true),
        ("!app", false),
        ("!none", true),
        ("tier=", true),
        ("tier in ()", true),
        ("rank>6,rank<8", true),
        ("rank>7", false),
        ("app>6", false),
        ("app=web,!none,tier", true),
    ] {
        assert_eq!(matches(selector, &labels), want, "{selector}");
    }
}

#[test]
fn bad_selectors_are_refused() {
    for bad in ["=a", "a b", "a=b c", "a in b", "a in (b", "a,,b", ",a", "a>b", "!", "a in (b c)"] {
        assert!(LabelSelector::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn printing_is_canonical_and_parses_back() {
    for (text, want) in [
        ("b,a=1", "a=1,b"),
        ("x notin (b,a)", "x notin (a,b)"),
        ("x in (a)", "x in (a)"),
        ("!k,z!=1,y>2", "!k,y>2,z!=1"),
    ] {
        let selector = LabelSelector::parse(text).expect("a good selector");
        assert_eq!(selector.to_string(), want);
        assert_eq!(LabelSelector::parse(want).expect("its own text"), selector);
    }
}

#[test]
fn objects_give_the_same_selector_as_text() {
    let value = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    });
    let selector = LabelSelector::from_value(&value).expect("a good selector");
    assert_eq!(selector.to_string(), "app=web,!old,tier in (a,b)");
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    assert!(LabelSelector::from_value(&bad).is_err());
}

#[test]
fn fields_are_split_unescaped_and_compared() {
    let text = r"spec.nodeName=a,status.phase!=Running,metadata.name==x\,y\=z";
    let selector = FieldSelector::parse(text).expect("a good selector");
    let value = |phase: &'static str| {
        move |field: &str| match field {
            "spec.nodeName" => "a",
            "status.phase" => phase,
            "metadata.name" => "x,y=z",
            _ => "",
        }
    };
    assert!(selector.matches(value("Pending")));
    assert!(!selector.matches(value("Running")));
    for bad in ["a", "a=b=c", r"a=\q", r"a=b\"] {
        assert!(FieldSelector::parse(bad).is_err(), "{bad}");
    }
}

/// Anything at all may be sent as a selector.
#[test]
fn no_text_makes_the_parsers_panic() {
    let alphabet: Vec<char> = r"a=!<>(), \é".chars().collect();
    let mut state = 1u64;
    for _ in 0..20_000 {
        let text: String = (0..12)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                alphabet[(state >> 33) as usize % alphabet.len()]
            })
            .collect();
        if let Ok(selector) = LabelSelector::parse(&text) {
            assert_eq!(selector.matches(|_| None), selector.matches_map(None), "{text}");
        }
        let fields = FieldSelector::parse(&text);
        assert!(fields.is_err() || text.chars().any(|c| matches!(c, '=' | ',')), "{text}");
    }
}
