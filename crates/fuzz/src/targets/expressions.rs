//! The target that reads expressions.

use std::sync::LazyLock;

use longshore_cel::{Environment, Extras, Type, Value};
use serde_json::json;

use super::lines;
use crate::random::Random;

/// What an evaluation may cost here.
const COST_MAX: u64 = 20_000;

pub const WORDS: &[&[u8]] = &[
    b"object",
    b"object.spec.list",
    b".map(x, x)",
    b".all(x, ",
    b".filter(x, ",
    b".exists(k, v, ",
    b"has(object.a)",
    b"?",
    b" : ",
    b"[?",
    b".?",
    b"&&",
    b"||",
    b"!",
    b"-",
    b"(",
    b")",
    b"[",
    b"]",
    b"{",
    b"}",
    b"'a'",
    b"r'\\d+'",
    b"b'\\xff'",
    b"9223372036854775807",
    b"18446744073709551615u",
    b"1e308",
    b"duration('1h')",
    b"timestamp('9999-12-31T23:59:59Z')",
    b"quantity('1Gi')",
    b".matches('(a+)+$')",
    b".split(',')",
    b".join('-')",
    b".format([1])",
    b"'%s'",
    b"optional.of(",
    b".orValue(",
    b"url('https://a:1/b?c=d')",
    b"cidr('10.0.0.0/8')",
    b".containsIP('10.1.1.1')",
    b"semver('1.2.3')",
    b"sets.contains(",
    b"type(",
    b"dyn(",
    b"size(",
];

pub fn seeds(_: &mut Random) -> Vec<Vec<u8>> {
    lines(concat!(
        "object.spec.replicas <= 5 && object.spec.replicas >= 0\n",
        "object.spec.list.all(x, x.name != '' || has(x.port)) ? 'yes' : 'no'\n",
        "object.spec.list.filter(x, x.port > 80).map(x, x.name).join(',').matches('^[a-z,]+$')\n",
        "[1, 2, 3].map(x, x * 2).exists(x, x == 4) && {'a': 1u}.all(k, v, v > 0u && k.size() > 0)\n",
        "quantity('1.5Gi').add(quantity('1')).isGreaterThan(quantity('1G'))\n",
        "object.?metadata.?labels[?'app'].orValue('none').format([1, 2.5, 'x'])\n",
        "timestamp('2026-01-01T00:00:00Z') + duration('24h') > timestamp('2026-01-01T12:00:00Z')\n",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP(ip('10.0.0.1'))\n",
        "url('https://example.com:80/a?b=c').getHost().lowerAscii().split('.')[0].charAt(1)\n",
        "'%d %s %x'.format([42, 'text', b'\\xff']) + string(1.5e10) + string(dyn(1u))\n",
        "semver('1.2.3').compareTo(semver('1.3.0')) < 0 && sets.intersects([1, 2], [2.0, 3u])\n",
        "!(-1 < 1) in [true, false] || object.spec['list'][0] == object.spec.list[size(object.spec.list) - 1]\n",
        "format.dns1123Label().validate('a_b').hasValue() && 'abc'.findAll('[a-c]').isSorted()\n",
    ))
}

pub fn expression(input: &[u8]) -> String {
    static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
        let extras = Extras { bind: true, json_patch: true };
        Environment::with_extras(extras).variable("object", Type::Dyn)
    });
    let text = String::from_utf8_lossy(input);
    let program = match ENVIRONMENT.compile(&text) {
        Ok(program) => program,
        Err(error) => return error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    program.estimate(None);
    let object = json!({
        "metadata": {"name": "a", "labels": {"app": "web"}},
        "spec": {"replicas": 3, "list": [{"name": "x", "port": 80}, {"name": "y", "port": 8080}]},
    });
    let evaluation = program.evaluate(&[("object", Value::dynamic(&object))], COST_MAX);
    match evaluation.result {
        Ok(_) => {
            assert!(evaluation.cost <= COST_MAX, "{text:?} cost {}", evaluation.cost);
            format!("costs {}", (evaluation.cost + 1).ilog2())
        }
        Err(error) => error.to_string(),
    }
}
