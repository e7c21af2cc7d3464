use super::*;

type Rule = fn(&str) -> Vec<String>;

#[test]
fn good_and_bad_names() {
    let long = "a".repeat(64);
    let cases: &[(&str, Rule, &[&str], &[&str])] = &[
        (
            "label",
            is_dns1123_label,
            &["a", "0", "a-b", "123-abc"],
            &["", "-a", "a-", "A", "a.b", "a_b", "é", &long],
        ),
        (
            "subdomain",
            is_dns1123_subdomain,
            &["a", "a.b", "1.2.3", "a-b.c", &long],
            &["", ".", "a.", "a..b", "a.-b", "A.b", "a b"],
        ),
        ("1035", is_dns1035_label, &["a", "a-1"], &["", "1a", "a-", "A", "a.b", &long]),
        (
            "qualified",
            is_qualified_name,
            &["a", "A.b_c-d", "x.io/a", "1"],
            &["", "/", "a/", "/a", "A/b", "a/b/c", "-a", "a-", &long],
        ),
        ("value", is_valid_label_value, &["", "a", "A_b.c-1"], &["-", "a b", "a/", &long]),
        ("key", is_config_map_key, &["a", "A.b", "_", ".a"], &["", ".", "..", "..a", "a/b"]),
    ];
    for (what, rule, good, bad) in cases {
        for text in *good {
            assert_eq!(rule(text), Vec::<String>::new(), "{what}: {text}");
        }
        for text in *bad {
            assert_ne!(rule(text), Vec::<String>::new(), "{what}: {text}");
        }
    }
}

#[test]
fn each_broken_rule_is_told() {
    assert_eq!(is_dns1123_label("a.b"), ["must not contain dots"]);
    assert_eq!(is_dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    assert_eq!(is_valid_label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    assert_eq!(is_dns1123_label(&"A".repeat(64)).len(), 2);
    assert_eq!(is_qualified_name("A/-").len(), 2, "both parts are checked");
    assert!(is_qualified_name("A/b")[0].starts_with("prefix part a lowercase RFC 1123 subdomain"));
    assert_eq!(is_config_map_key("..a"), ["must not start with '..'"]);
    assert_eq!(is_valid_port_num(0), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(is_valid_port_num(65535), Vec::<String>::new());
}
