use std::path::Path;

use serde_json::json;

use super::*;

#[test]
fn scalars_are_read_as_in_go() {
    let text = "mode: 0644\nquoted: \"0644\"\nflag: true\nnothing: null\nlist: [1, -2, 1.5]\n";
    let want = json!({
        "mode": 420, "quoted": "0644", "flag": true, "nothing": null, "list": [1, -2, 1.5],
    });
    assert_eq!(decode(text.as_bytes()).expect("YAML"), want);
}

#[test]
fn bad_and_hostile_documents_are_errors() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(",");
        bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    for bad in ["a: [", "a: 1\na: 2\n", &bomb] {
        assert!(decode(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(30)]);
    }
    assert!(decode(&[0xff, 0xfe, b'a']).is_err(), "not UTF-8");
}

/// Each kind is recorded in JSON and in YAML: both must be the same object.
#[test]
fn the_recorded_vectors_agree_with_their_json() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/api-testdata-v1.36");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    for file in files {
        let path = file.expect("the folder is readable").path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let yaml = decode(&std::fs::read(&path).expect("the file is readable")).expect("YAML");
        let json = std::fs::read(path.with_extension("json")).expect("the file is readable");
        let json = crate::json::decode(&json).expect("JSON").value;
        assert_eq!(yaml, json, "{}", path.display());
        let text = std::fs::read_to_string(&path).expect("the file is readable");
        assert_eq!(encode(&json), text, "{} is written otherwise", path.display());
    }
}

#[test]
fn texts_that_look_like_something_else_round_trip() {
    let texts = [
        "",
        "true",
        "null",
        "~",
        "1",
        "0644",
        "1e3",
        "1_000",
        "0x1f",
        "2026-01-01",
        "yes",
        "on",
        "a: b",
        "- a",
        "# c",
        "a #b",
        "'q'",
        "\"q\"",
        "multi\nline",
        "trail \n",
        "\ttab",
        "*a",
        "&a",
        "!t",
        "@x",
        "%y",
        "a\u{0}b",
        "\u{feff}",
        "=",
        "<<",
        ".inf",
        ".nan",
        "0o17",
        "1:30",
    ];
    for text in texts {
        let value = json!({ "k": text, "l": [text] });
        let yaml = encode(&value);
        assert_eq!(decode(yaml.as_bytes()).expect("YAML"), value, "{yaml}");
    }
}

#[test]
fn a_loose_reader_takes_the_first_document_and_the_last_of_repeated_keys() {
    let loose = |text: &str| decode_loose(text.as_bytes()).expect("a document");
    let plain = |value| Loose { value, duplicates: Vec::new() };
    assert_eq!(loose("a: 1\n---\nb: 2\n"), plain(json!({"a": 1})));
    assert_eq!(loose("# nothing\n"), plain(Value::Null));
    assert_eq!(loose(""), plain(Value::Null));
    assert_eq!(loose("x: {<<: {a: 1}, b: 2}"), plain(json!({"x": {"a": 1, "b": 2}})));
    let repeated = loose("a: 1\nb:\n  c: 1\n  c: 2\n");
    assert_eq!(repeated.value, json!({"a": 1, "b": {"c": 2}}));
    let want = "line 4: key \"c\" already set in map";
    assert_eq!(repeated.repeated().as_deref(), Some(want));
    assert!(decode_loose(b"a: [b").is_err());
}

#[test]
fn repeated_keys_are_told_with_the_lines_of_their_values() {
    let text = "a: 1\nm:\n  n: b\n  n: c\nm:\n  - x: 1\n    x: 2\n";
    assert!(decode(text.as_bytes()).is_err());
    let read = decode_loose(text.as_bytes()).expect("YAML");
    assert_eq!(read.value, json!({"a": 1, "m": [{"x": 2}]}));
    let want = [
        "line 4: key \"n\" already set in map",
        "line 6: key \"m\" already set in map",
        "line 7: key \"x\" already set in map",
    ];
    assert_eq!(read.duplicates, want);
    assert!(decode_loose(b"a: [").is_err());
}

#[test]
fn only_the_first_document_counts() {
    for text in ["a: 1\n---\na: 2\n", "---\na: 1\n---\nb", "# c\n%YAML 1.1\n---\na: 1\n...\n---\n"]
    {
        assert_eq!(decode(text.as_bytes()).expect("YAML"), json!({"a": 1}), "{text}");
    }
    let block = "a: |\n  ---\n  x\n";
    assert_eq!(decode(block.as_bytes()).expect("YAML"), json!({"a": "---\nx\n"}));
}

#[test]
fn whole_numbers_are_integers() {
    let read = decode(b"a: 3.0\nb: 2.5\nc: 1e3\n").expect("YAML");
    assert_eq!(read, json!({"a": 3, "b": 2.5, "c": 1000}));
}

#[test]
fn deep_documents_are_refused_on_a_small_stack() {
    for depth in [60, 200, 100_000] {
        for text in [
            format!("a: 1\na: {}{}", "{a: ".repeat(depth), "}".repeat(depth)),
            format!("a: 1\na: {}{}", "[".repeat(depth), "]".repeat(depth)),
            format!("a: 1\nb: {}", "- ".repeat(depth)),
        ] {
            // The threads of tests have the stack of the server's workers.
            assert!(decode_loose(text.as_bytes()).is_err() || depth == 60, "{depth}");
        }
    }
}

#[test]
fn texts_are_quoted_as_in_go() {
    for (text, want) in [
        ("", "\"\""),
        ("f:data", "f:data"),
        (".", "."),
        ("k:{\"name\":\"a\"}", "k:{\"name\":\"a\"}"),
        ("a: b", "'a: b'"),
        ("a #b", "'a #b'"),
        ("it's", "it's"),
        ("'q", "'''q'"),
        ("y", "\"y\""),
        ("yes!", "yes!"),
        ("1e3", "\"1e3\""),
        ("1e", "1e"),
        ("1_000", "\"1_000\""),
        ("0x1f", "\"0x1f\""),
        ("1.2.3", "1.2.3"),
        ("12:30", "\"12:30\""),
        ("2026-11-26", "\"2026-11-26\""),
        ("2026-13-26", "2026-13-26"),
        ("2026-11-26T01:02:03Z", "\"2026-11-26T01:02:03Z\""),
        (".5", "\".5\""),
        (".inf", "\".inf\""),
        ("- a", "'- a'"),
        ("-a", "-a"),
        (" a", "' a'"),
        ("a\tb", "\"a\\tb\""),
        ("\u{1f600}", "\"\\U0001F600\""),
        ("a\nb", "|-\n  a\n  b"),
        ("a\nb\n", "|\n  a\n  b"),
        ("a\n\n", "|+\n  a\n"),
        (" a\nb", "|2-\n   a\n  b"),
        ("a\nb ", "\"a\\nb \""),
    ] {
        let written = encode(&json!({ "k": text }));
        assert_eq!(written, format!("k: {want}\n"), "{text:?}");
        let back = decode(written.as_bytes()).expect("YAML");
        assert_eq!(back, json!({ "k": text }), "{text:?}");
    }
}

#[test]
fn trees_are_laid_out_as_in_go() {
    let value = json!({
        "b": [1, [2, [3]], {"x": null, "y": []}, "t"], "a": {"n": {}, "10": true, "9": 1.5},
        ".": 1, "f:b": [{"k": [{"z": "m\nn"}]}], "B": 1e21,
    });
    let want = [
        ".: 1",
        "B: 1e+21",
        "a:",
        "  \"9\": 1.5",
        "  \"10\": true",
        "  \"n\": {}",
        "b:",
        "- 1",
        "- - 2",
        "  - - 3",
        "- x: null",
        "  \"y\": []",
        "- t",
        "f:b:",
        "- k:",
        "  - z: |-",
        "      m",
        "      n",
        "",
    ];
    assert_eq!(encode(&value), want.join("\n"));
    let long = "k".repeat(129);
    let want = format!("? {long}\n: a: 1\n  b: 2\n");
    assert_eq!(encode(&json!({ (&*long): {"a": 1, "b": 2} })), want);
}
