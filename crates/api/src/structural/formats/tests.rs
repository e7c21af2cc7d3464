use super::*;

#[test]
fn formats_take_what_upstream_takes() {
    let long_label = "a".repeat(64);
    let cases: [(&str, &[&str], &[&str]); 26] = [
        ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f1f77", ""]),
        ("byte", &["YQ==", "YWI=", "YWJj"], &["", "YQ=", "Y===", "YQ==YQ==", "-_=="]),
        (
            "cidr",
            &["10.0.0.0/8", "010.0.0.0/8", "::/0"],
            &["10.0.0.0", "10.0.0.0/33", "::/129", "/1"],
        ),
        ("creditcard", &["4111 1111 1111 1111", "378282246310005"], &["4111111111111112", "1"]),
        ("date", &["2024-02-29", "0000-01-01"], &["2023-02-29", "2023-13-01", "2023-1-01", ""]),
        (
            "date-time",
            &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
            &["2014-12-15", "2014-12-15T24:30:20Z", "2014-12-15T19:30:20"],
        ),
        (
            "duration",
            &["22 ns", "1h", "3 weeks", "1 hour 2 min", "-1.5s"],
            &["", "1", "abc", "5 x"],
        ),
        (
            "email",
            &["a@b", "A B <a@b.c>", "\"x y\"@b"],
            &["a", "a@", "@b", "a b@c", "a@b, c@d", "a.@b"],
        ),
        ("hexcolor", &["#FFF", "a0b1c2"], &["#FFFF", "ggg"]),
        (
            "hostname",
            &["a", "a-b.example", "1a.example.com"],
            &["", "-a", "a_b", "a.b.", &long_label],
        ),
        ("ipv4", &["1.2.3.4", "001.2.3.4", "::ffff:1.2.3.4"], &["1.2.3", "1.2.3.256", "::1"]),
        ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "fe80::1%eth0", ":"]),
        ("isbn", &["0321751043", "978-0321751041"], &["0321751044", "9780321751042", "1"]),
        ("isbn10", &["0321751043", "080442957X"], &["978-0321751041"]),
        ("isbn13", &["978-0321751041"], &["0321751043"]),
        ("k8s-long-name", &["a.b-c", "1"], &["A", "a..b", "-a", ""]),
        ("k8s-short-name", &["a-b"], &["a.b", "a-", &long_label]),
        (
            "mac",
            &["01:23:45:67:89:ab", "0123.4567.89ab", "01-23-45-67-89-ab-cd-ef"],
            &["01:23:45", "01:23-45:67:89:ab"],
        ),
        ("password", &["", "x"], &[]),
        ("rgbcolor", &["rgb(255, 0,12)"], &["rgb(256,0,0)", "rgb(1,2)"]),
        ("ssn", &["123-45-6789"], &["123456789", "123-45-678"]),
        (
            "uri",
            &["http://a.b/c?d", "/a/b", "mailto:a@b", "http://[::1]:80/", "http://a:b@c"],
            &["", "a/b", "http://a b/", "/a%zz", "http://a:x/", ":a"],
        ),
        (
            "uuid",
            &["123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"],
            &["123", "g23e4567-e89b-12d3-a456-426614174000"],
        ),
        (
            "uuid3",
            &["123e4567-e89b-32d3-a456-426614174000"],
            &["123e4567-e89b-12d3-a456-426614174000"],
        ),
        (
            "uuid4",
            &["123e4567-e89b-42d3-a456-426614174000"],
            &["123e4567-e89b-42d3-c456-426614174000"],
        ),
        (
            "uuid5",
            &["123e4567-e89b-52d3-B456-426614174000"],
            &["123e4567-e89b-42d3-a456-426614174000"],
        ),
    ];
    for (format, good, bad) in cases {
        assert!(is_known(format), "{format}");
        good.iter().for_each(|text| assert!(fits(format, text), "{format} takes {text:?}"));
        bad.iter().for_each(|text| assert!(!fits(format, text), "{format} refuses {text:?}"));
    }
}

#[test]
fn formats_belong_to_types() {
    let cases = [
        ("date-time", "", true),
        ("datetime", "string", true),
        ("int32", "integer", true),
        ("int32", "string", false),
        ("double", "number", true),
        ("date", "object", false),
        ("nope", "string", false),
        ("", "string", false),
    ];
    for (format, kind, want) in cases {
        assert_eq!(belongs(format, kind), want, "{format} of {kind}");
    }
    assert!(fits("nope", "x"), "nobody knows it");
}
