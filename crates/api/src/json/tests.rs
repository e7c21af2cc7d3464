use serde_json::json;

use super::*;

#[test]
fn duplicates_are_reported_with_their_path() {
    let body = br#"{"a":1,"a":2,"l":[{"x":1},{"x":1,"x":2,"x":3}],"o":{"p":{"q":1,"q":1}}}"#;
    let decoded = decode(body).expect("JSON");
    assert_eq!(decoded.duplicates, ["a", "l[1].x", "o.p.q"]);
    assert_eq!(decoded.value["a"], 2, "the last value counts");
}

#[test]
fn numbers_are_as_in_go() {
    let decoded = decode(b"[1,-2,1.5,9223372036854775807,9223372036854775808,1e3]").expect("JSON");
    let list = decoded.value;
    assert_eq!(list[3], json!(i64::MAX));
    assert!(list[4].is_f64(), "what does not fit into 64 bits is a float");
    assert!(list[5].is_f64());
}

#[test]
fn bad_bodies_are_errors() {
    let deep = "[".repeat(100_000);
    for bad in
        ["", "  ", "{", "{\"a\":}", "nul", "{}{}", "{a:1}", "\"\\x\"", "[1,]", "1e999", &deep]
    {
        assert!(decode(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(20)]);
    }
}

#[test]
fn plain_documents_decode_as_serde_json_does() {
    let body = json!({"a": [null, true, "x\u{e9}\n"], "b": {"c": {}, "d": []}, "": -0.5});
    let decoded = decode(body.to_string().as_bytes()).expect("JSON");
    assert_eq!(decoded, Decoded { value: body, duplicates: Vec::new() });
}

/// Many repeated keys must not become an even larger error.
#[test]
fn reported_duplicates_are_limited() {
    let pairs: Vec<String> = (0..5000).map(|i| format!("\"k{}\":1", i / 2)).collect();
    let decoded = decode(format!("{{{}}}", pairs.join(",")).as_bytes()).expect("JSON");
    assert_eq!(decoded.duplicates.len(), 100);
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let alphabet = b"{}[]\":,0e-.\\untrfalse \xff\x00";
    let mut state = 7u64;
    for _ in 0..50_000 {
        let bytes: Vec<u8> = (0..24)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                alphabet[(state >> 33) as usize % alphabet.len()]
            })
            .collect();
        let ours = decode(&bytes).map(|d| d.value).ok();
        let theirs = serde_json::from_str::<Value>(&String::from_utf8_lossy(&bytes)).ok();
        assert_eq!(ours, theirs, "{bytes:?}");
    }
}

#[test]
fn errors_are_told_in_gos_words() {
    for (text, want) in [
        ("", "unexpected end of JSON input"),
        (" {\"a\":", "unexpected end of JSON input"),
        ("apiVersion: v1", "invalid character 'a' looking for beginning of value"),
        ("{} {}", "invalid character '{' after top-level value"),
        ("{'a': 1}", "invalid character '\\'' looking for beginning of object key string"),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":0x10}", "invalid character 'x' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("--1", "invalid character '-' in numeric literal"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1ex", "invalid character 'x' in exponent of numeric literal"),
        ("\"a\nb\"", "invalid character '\\n' in string literal"),
        ("\"\\x\"", "invalid character 'x' in string escape code"),
        ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
    ] {
        let error = decode(text.as_bytes()).expect_err("not JSON").to_string();
        assert_eq!(error, want, "{text}");
    }
    let deep = "[".repeat(10_001);
    let error = decode(deep.as_bytes()).expect_err("too deep").to_string();
    assert_eq!(error, "invalid character '[' exceeded max depth");
    assert_eq!(decode(b"\"a\xffb\"").expect("lenient").value, "a\u{fffd}b");
}

#[test]
fn paths_come_in_the_order_of_the_document() {
    let body = br#"{"z":{"b":1,"a":[{"k":1}]},"c":2,"z":3}"#;
    assert_eq!(paths(body), ["z", "z.b", "z.a", "z.a[0].k", "c", "z"]);
    assert_eq!(paths(br#"{"a":1,"b":}"#), ["a", "b"]);
}

#[test]
fn halves_of_surrogate_pairs_are_replaced() {
    for (text, want) in [
        (r#""\ud800 lone""#, "\u{fffd} lone"),
        (r#""\udc00\ud83d\ude00\\ud800""#, "\u{fffd}\u{1f600}\\ud800"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
    ] {
        assert_eq!(decode(text.as_bytes()).expect("JSON").value, Value::from(want), "{text}");
    }
    assert!(decode(br#""\ud8""#).is_err(), "half an escape");
}
