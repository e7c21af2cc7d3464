//! The language itself.

use super::{check, cost};

#[test]
fn values() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("-5 % 3", "-2"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1u + 2u", "3u"),
        ("0u - 1u", "error: unsigned integer overflow"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("1.5 + 2.0", "3.5"),
        ("0x10", "16"),
        ("--5", "5"),
        ("!!true", "true"),
        ("!false && true", "true"),
        ("'a' + \"b\"", "\"ab\""),
        ("'''a\nb''' == 'a\\nb'", "true"),
        ("r'\\n'.size()", "2"),
        ("'\\u00fc'.size()", "1"),
        ("b'\\xff'.size()", "1"),
        ("[1, 2] + [3]", "[1, 2, 3]"),
        ("{'a': 1}['a']", "1"),
        ("{'a': 1}.a", "1"),
        ("{'a': 1}.b", "error: no such key: b"),
        ("[1][3]", "error: index out of bounds: 3"),
        ("1 in [1, 2]", "true"),
        ("x in [1, 2]", "false"),
        ("'a' in {'a': 1}", "true"),
        ("1 == 1.0", "1:3 found no matching overload for '_==_' applied to '(int, double)'"),
        ("dyn(1) == 1.0", "true"),
        ("1 < 1.5 && 2u > 1", "true"),
        ("x > 5 ? 'big' : 'small'", "\"big\""),
        ("type(1) == int", "true"),
        ("type([1]) == list", "true"),
        ("null == null", "true"),
        ("string(1.0e21)", "\"1e+21\""),
        ("string(12.5)", "\"12.5\""),
        ("int('abc')", "plan: type conversion error from 'string' to 'int'"),
        ("int(s)", "error: type conversion error from 'string' to 'int'"),
        ("duration('1h').getMinutes()", "60"),
        ("duration('90s') + duration('30s') == duration('2m')", "true"),
        ("timestamp('2024-02-29T10:00:00Z').getDayOfYear()", "59"),
        ("timestamp('2024-02-29T10:00:00Z').getDayOfWeek()", "4"),
        ("timestamp('2024-02-29T10:00:00Z').getHours('+02:00')", "12"),
        ("timestamp('2024-07-01T10:00:00Z').getHours('Europe/Berlin')", "12"),
        ("string(timestamp('2024-02-29T10:00:00.500Z'))", "\"2024-02-29T10:00:00.5Z\""),
        (
            "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z')",
            "duration(86400s)",
        ),
        ("timestamp('2024-02-29T1:00:00Z').getHours()", "1"),
        ("timestamp('2024-02-29t10:00:00Z')", "1:11 invalid timestamp argument"),
        ("timestamp('2024-02-29T10:00:00z')", "1:11 invalid timestamp argument"),
        ("timestamp(0).getHours('Local')", "0"),
        ("timestamp(0).getHours('europe/berlin')", "error: unknown time zone europe/berlin"),
        ("timestamp(0).getHours('../UTC')", "error: time: invalid location name"),
        ("duration(1)", "1:10 invalid duration argument"),
        ("duration(x)", "error: type conversion error from 'int' to 'google.protobuf.Duration'"),
        ("double('-nan')", "plan: type conversion error from 'string' to 'double'"),
        ("dyn(18446744073709551615u) == 18446744073709551615.0", "true"),
        ("[1][dyn(1e300)]", "error: unsupported index value 1e+300 in list"),
        ("duration('1x')", "1:10 invalid duration argument"),
        ("'abc'.matches('(')", "1:15 invalid matches argument"),
    ]);
}

#[test]
fn mistakes_are_absorbed() {
    check(&[
        ("1 / 0 > 0 || true", "true"),
        ("true || 1 / 0 > 0", "true"),
        ("false && 1 / 0 > 0", "false"),
        ("1 / 0 > 0 && true", "error: division by zero"),
        ("[1, 0].exists(i, 1 / i == 1)", "true"),
        ("[0, 1].exists(i, 1 / i == 1)", "true"),
        ("[0, 2].all(i, 1 / i == 1)", "false"),
    ]);
}

#[test]
fn loops() {
    check(&[
        ("[1, 2, 3].all(i, i > 0)", "true"),
        ("[1, 2, 3].exists_one(i, i > 2)", "true"),
        ("[1, 2, 3].map(i, i * 2)", "[2, 4, 6]"),
        ("[1, 2, 3].map(i, i > 1, i * 2)", "[4, 6]"),
        ("[1, 2, 3].filter(i, i > 1)", "[2, 3]"),
        ("{'a': 1, 'b': 2}.map(k, k)", "[\"a\", \"b\"]"),
        ("{'a': 1}.all(k, v, k == 'a' && v == 1)", "true"),
        ("[5, 6].transformList(i, v, i + v)", "[5, 7]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v + 1)", "{\"b\": 3}"),
        ("{'a': 1}.transformMapEntry(k, v, {v: k})", "{1: \"a\"}"),
        ("[1, 2].map(i, [3, 4].map(j, i * j))", "[[3, 4], [6, 8]]"),
    ]);
}

#[test]
fn optionals() {
    check(&[
        ("object.?spec.?replicas.orValue(1)", "3"),
        ("object.?spec.?nope.orValue(1)", "1"),
        ("object.?nope.other.hasValue()", "false"),
        ("optional.of(1).optMap(i, i + 1)", "optional(2)"),
        ("optional.none().optMap(i, i + 1)", "optional.none()"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("[?optional.of(1), ?optional.none()]", "[1]"),
        ("{?'a': optional.none(), 'b': 2}", "{\"b\": 2}"),
        ("[1, 2][?5].orValue(0)", "0"),
        ("has(object.spec.replicas)", "true"),
        ("has(object.spec.nope)", "false"),
        ("has(object.?spec.nope)", "false"),
    ]);
}

#[test]
fn mistakes_of_types() {
    check(&[
        ("y", "1:1 undeclared reference to 'y' (in container '')"),
        ("f(1)", "1:2 undeclared reference to 'f' (in container '')"),
        ("x.f()", "1:4 undeclared reference to 'f' (in container '')"),
        ("x + s", "1:3 found no matching overload for '_+_' applied to '(int, string)'"),
        ("x.size()", "1:7 found no matching overload for 'size' applied to 'int.()'"),
        ("[1, 'a']", "1:5 expected type 'int' but found 'string'"),
        ("s.a", "1:2 type 'string' does not support field selection"),
        (
            "x.all(i, i)",
            "1:1 expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("has(x)", "1:5 invalid argument to has() macro"),
        ("[1].all(1, true)", "1:9 argument must be a simple name"),
        ("if", "1:1 reserved identifier: if"),
        ("99999999999999999999", "1:1 invalid int literal"),
    ]);
}

#[test]
fn costs() {
    let wrong: Vec<_> = [
        ("1", 0),
        ("x", 1),
        ("x + 1", 2),
        ("m.a.b", 3),
        ("has(m.a)", 1),
        ("has(m.a.b)", 2),
        ("m['a']['b']", 3),
        ("m[s]", 2),
        ("s == 'text'", 2),
        ("x > 1 ? m.a : m.b", 3),
        ("[1, 2, 3]", 0),
        ("[x, 2]", 11),
        ("x in [1, 2]", 1),
        ("x in m.l", 4),
        ("true && false", 0),
        ("[1, 2, 3].all(i, i > 0)", 16),
        ("[1, 2].map(i, i)", 27),
        ("s.startsWith('a')", 2),
        ("s.matches('a+')", 2),
        ("s + s", 3),
        ("{'a': x}", 31),
    ]
    .into_iter()
    .filter_map(|(source, wanted)| {
        let found = cost(source);
        (found != wanted).then(|| format!("{source}: wanted {wanted}, found {found}"))
    })
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn estimates() {
    use longshore_api::structural::Schema;

    use crate::{Declared, Environment};

    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 10},
            "open": {"type": "string"},
            "list": {"type": "array", "maxItems": 5, "items": {"type": "integer"}},
            "x-y": {"type": "boolean"},
        },
    });
    let schema = Schema::compile(&schema, false).expect("a good schema");
    let declared = Declared::from_schema(schema.root(), "self", false).expect("it is seen");
    let environment = Environment::new().declared("self", declared.clone().into());
    let wrong: Vec<_> = [
        ("true", 0, 0),
        ("self.name == 'a'", 3, 3),
        ("self.name.startsWith(self.open)", 4, 314_577),
        ("self.list.all(i, i > 0)", 3, 28),
        ("self.x__dash__y", 2, 2),
    ]
    .into_iter()
    .filter_map(|(source, min, max)| {
        let found = environment.compile(source).expect(source).estimate(Some(&declared));
        ((found.min, found.max) != (min, max)).then(|| format!("{source}: {found:?}"))
    })
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
