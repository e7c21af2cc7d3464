use super::*;

#[test]
fn patterns_match_as_in_go() {
    let cases: [(&str, &[&str], &[&str]); 17] = [
        ("^[a-z]+$", &["abc"], &["", "ABC", "a1", "abc\n"]),
        (r"^\d+$", &["12"], &["\u{663}", "1a"]),
        (r"^\w$", &["_", "a", "9"], &["\u{e9}", "-"]),
        (r"^\s$", &[" ", "\t"], &["\u{a0}", "\u{b}"]),
        (r"^\S\W$", &["a-", "\u{a0}\u{e9}"], &["ab"]),
        (r"\bfoo\b", &["a foo b", "\u{e9}foo"], &["food"]),
        (r"a\B", &["ab"], &["a", "a b"]),
        ("a{,2}$", &["a{,2}"], &["aa"]),
        ("^{a}$", &["{a}"], &["a"]),
        ("^[a&&b]$", &["&", "a"], &["c"]),
        ("^[]a-]$", &["]", "-", "a"], &["b"]),
        (r"^\Q.*\E+$", &[".***"], &["aa"]),
        (r"^(?i)straße$", &["STRAßE"], &["strasse"]),
        (r"^(?P<a>x)(?<b>y)$", &["xy"], &["x"]),
        (r"^[[:alpha:]\p{Greek}\pN]+$", &["aα9"], &["-"]),
        (r"^(?:^)*a?.$", &["ab", "b"], &["\n"]),
        (r"^\x41\x{263A}\101$", &["A\u{263a}A"], &["AA"]),
    ];
    for (pattern, good, bad) in cases {
        let pattern = Pattern::new(pattern);
        for text in good {
            assert_eq!(pattern.matches(text), Ok(true), "{} {text:?}", pattern.as_str());
        }
        for text in bad {
            assert_eq!(pattern.matches(text), Ok(false), "{} {text:?}", pattern.as_str());
        }
    }
}

#[test]
fn bad_patterns_are_told_as_in_go() {
    let cases = [
        ("[a", "missing closing ]: `[a`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*b", "missing argument to repetition operator: `*`"),
        ("(+?)", "missing argument to repetition operator: `+?`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("[[:]a", "invalid character class range: `[:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?<=a)", "invalid named capture: `(?<=a)`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
    ];
    for (pattern, want) in cases {
        let error = check(pattern).expect_err(pattern);
        assert_eq!(error, format!("error parsing regexp: {want}"), "{pattern}");
    }
}

#[test]
fn large_patterns_are_refused() {
    let many = r"\p{L}".repeat(20_000);
    assert!(check(&many).expect_err("too large").contains("expression too large"));
    let names: String = (1..200).map(|i| format!("\\p{{L{}}}", "_".repeat(i))).collect();
    assert!(check(&names).is_err(), "one class has many names");
    let error = check(r"(\p{L}{100}\p{N}{100}){10}").expect_err("too large");
    assert!(error.contains("expression too large"), "{error}");
}
