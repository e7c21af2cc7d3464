//! The libraries.

use super::check;

#[test]
fn texts() {
    check(&[
        ("'abc'.charAt(1)", "\"b\""),
        ("'abc'.charAt(3)", "\"\""),
        ("'abc'.charAt(4)", "error: index out of range: 4"),
        ("'hello mellow'.indexOf('ello', 2)", "7"),
        ("'hello mellow'.lastIndexOf('ello')", "7"),
        ("'hello mellow'.lastIndexOf('ello', 6)", "1"),
        ("'TacoCat'.lowerAscii()", "\"tacocat\""),
        ("'hello hello'.replace('he', 'we', 1)", "\"wello hello\""),
        ("'hello'.replace('', '-')", "\"-h-e-l-l-o-\""),
        ("'a b c'.split(' ')", "[\"a\", \"b\", \"c\"]"),
        ("'a b c'.split(' ', 2)", "[\"a\", \"b c\"]"),
        ("'abc'.split('')", "[\"a\", \"b\", \"c\"]"),
        ("'tacocat'.substring(4)", "\"cat\""),
        ("'tacocat'.substring(4, 2)", "error: invalid substring range. start: 4, end: 2"),
        ("' a '.trim()", "\"a\""),
        ("['a', 'b'].join('-')", "\"a-b\""),
        ("strings.quote('a\"b')", "\"\\\"a\\\\\\\"b\\\"\""),
        ("'abc 123'.find('[0-9]+')", "\"123\""),
        ("'123 abc 456'.findAll('[0-9]+')", "[\"123\", \"456\"]"),
        ("'123 abc 456'.findAll('[0-9]+', 1)", "[\"123\"]"),
        ("'%s is %d, %.2f, %x'.format(['a', 5, 1234.5, 255])", "\"a is 5, 1,234.50, ff\""),
        ("'%s'.format([[1, 'a', 2.5]])", "\"[1, \\\"a\\\", 2.500000]\""),
        ("'%s'.format([['a\\u0001\\u00e9']])", "\"[\\\"a\\\\x01é\\\"]\""),
        (
            "'%s'.format([[b'\\xff']])",
            "error: error during formatting: could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" to string",
        ),
        ("'%s'.format([{'b': 1, 'a': true}])", "\"{\\\"a\\\":true, \\\"b\\\":1}\""),
        ("'%e'.format([1052.032911275])", "\"1.052033\u{202f}×\u{202f}10⁰³\""),
        (
            "'%d'.format(['a'])",
            "1:14 error during formatting: decimal clause can only be used on integers, was given string",
        ),
        (
            "'%s'.format([1, 2])",
            "1:12 too many arguments supplied to string.format (expected 1, got 2)",
        ),
        ("'%s %s'.format([1])", "1:15 index 1 out of range"),
    ]);
}

#[test]
fn lists_and_sets() {
    check(&[
        ("[1, 2, 3].sum()", "6"),
        ("[1.0][?0].orValue(0.0) + [1.5].sum()", "2.5"),
        ("[1, 2, 3].isSorted()", "true"),
        ("[3, 1].min()", "1"),
        ("[1].filter(i, i > 2).max()", "error: max called on empty list"),
        ("dyn(['a', 'b']).sum()", "error: no such overload: sum(list)"),
        ("dyn([{}]).max()", "error: no such overload: max(list)"),
        ("dyn([{}]).isSorted()", "error: no such overload: isSorted(list)"),
        ("dyn([1]).join(',')", "error: no such overload: join(list, string)"),
        ("[1, 2, 1].indexOf(1)", "0"),
        ("[1, 2, 1].lastIndexOf(1)", "2"),
        ("[1, 2, 3].slice(1, 3)", "[2, 3]"),
        ("[1, 2, 3].slice(1, 4)", "error: cannot slice(1, 4), list is length 3"),
        ("[[1], [2, 3]].flatten()", "[1, 2, 3]"),
        ("[3, 1, 2].sort()", "[1, 2, 3]"),
        ("['bb', 'a'].sortBy(s, s.size())", "[\"a\", \"bb\"]"),
        ("lists.range(3)", "[0, 1, 2]"),
        ("[1, 2].reverse()", "[2, 1]"),
        ("[1, 2, 1].distinct()", "[1, 2]"),
        ("sets.contains([1, 2], [2])", "true"),
        ("sets.equivalent([1, 2], [2, 1, 1])", "true"),
        ("sets.intersects([1], [2])", "false"),
        ("lists.range(100000000)", "error: operation cancelled: actual cost limit exceeded"),
    ]);
}

#[test]
fn urls_and_addresses() {
    check(&[
        ("url('https://a.example:80/p%20q?x=1&x=2#f').getHost()", "\"a.example:80\""),
        ("url('https://[::1]:80/').getHostname()", "\"::1\""),
        ("url('https://a.example:80/').getPort()", "\"80\""),
        ("url('https://a.example/a b').getEscapedPath()", "\"/a%20b\""),
        (
            "url('https://a.example/?x=1&x=2&y').getQuery()",
            "{\"x\": [\"1\", \"2\"], \"y\": [\"\"]}",
        ),
        ("url('/path').getScheme()", "\"\""),
        ("isURL('../a')", "false"),
        ("url('https://[::1]:80') == url('https://[::1]:80/')", "false"),
        ("url('http://h/a?') == url('http://h/a')", "false"),
        ("url('http://h/a%20b') == url('http://h/a b')", "true"),
        (
            "url('https://example[com').getHost()",
            "error: URL parse error during conversion from string: parse \"https://example[com\": invalid IP-literal",
        ),
        (
            "url('a')",
            "error: URL parse error during conversion from string: parse \"a\": invalid URI for request",
        ),
        ("ip('127.0.0.1').family()", "4"),
        ("string(ip('::0001'))", "\"::1\""),
        ("ip.isCanonical('::0001')", "false"),
        ("ip('127.0.0.1').isLoopback()", "true"),
        ("isIP('1.2.3')", "false"),
        (
            "ip('::ffff:1.2.3.4')",
            "error: IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed",
        ),
        (
            "ip('1.2.3.256')",
            "error: IP Address \"1.2.3.256\" parse error during conversion from string: ParseAddr(\"1.2.3.256\"): IPv4 field has value >255",
        ),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"),
        ("cidr('10.0.0.0/8').containsIP('x')", "error: no such overload"),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('0.0.0.0/0'))", "false"),
        ("string(cidr('10.1.2.3/8').masked())", "\"10.0.0.0/8\""),
        ("cidr('10.1.2.3/8').prefixLength()", "8"),
        ("cidr('10.1.2.3/8').ip() == ip('10.1.2.3')", "true"),
        ("isCIDR('10.0.0.0/33')", "false"),
        ("type(ip('1.2.3.4')) == net.IP", "true"),
    ]);
}

#[test]
fn quantities_versions_and_formats() {
    check(&[
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", "true"),
        ("quantity('1.5').isInteger()", "false"),
        ("quantity('50k').asInteger()", "50000"),
        (
            "quantity('9999999999999999999999999999999999999G').asInteger()",
            "error: cannot convert value to integer",
        ),
        ("quantity('500m').asApproximateFloat()", "0.5"),
        ("quantity('1').add(2) == quantity('3')", "true"),
        ("quantity('1').sub(quantity('2')).compareTo(quantity('-1'))", "0"),
        ("sign(quantity('-5'))", "-1"),
        (
            "quantity('5').sign()",
            "1:19 found no matching overload for 'sign' applied to 'kubernetes.Quantity.()'",
        ),
        ("isQuantity('1x')", "false"),
        (
            "quantity('1x')",
            "error: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("semver('1.2.3').minor()", "2"),
        ("semver('1.0.0-alpha').isLessThan(semver('1.0.0'))", "true"),
        ("semver('v1.0', true) == semver('1.0.0')", "true"),
        ("isSemver('1.0')", "false"),
        (
            "semver('1.2.3-99999999999999999999')",
            "error: strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
        ),
        ("semver('1.0')", "error: No Major.Minor.Patch elements found"),
        ("format.dns1123Label().validate('a-b').hasValue()", "false"),
        ("format.named('labelValue').value().validate('-').value().size()", "1"),
        ("format.named('nope').hasValue()", "false"),
    ]);
}
