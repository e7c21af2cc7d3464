//! What an evaluation may take of the machine, whatever it costs in the reference.

use serde_json::{Value as Json, json};

use crate::{CALL_COST_MAX, Environment, EvalError, Evaluation, Extras, Type, Value};

/// Evaluates an expression that sees large data; gives what it costs and whether that was too much.
fn run(source: &str, limit: u64) -> (u64, bool) {
    let numbers: Vec<i64> = (0..20_000).collect();
    let map: serde_json::Map<String, Json> =
        numbers.iter().map(|number| (format!("k{number}"), json!(number))).collect();
    let object = json!({
        "text": "x".repeat(200_000), "list": numbers, "map": map, "pattern": r"\pL{20}",
    });
    let environment = Environment::with_extras(Extras { bind: true, json_patch: false })
        .variable("object", Type::Dyn);
    let program = environment.compile(source).expect(source);
    let variables = [("object", Value::dynamic(&object))];
    let Evaluation { result, cost } = program.evaluate(&variables, limit);
    (cost, matches!(result, Err(EvalError::CostExceeded)))
}

/// `seed` within `depth` pairs of itself.
fn pairs(seed: &str, depth: usize) -> String {
    format!("[{seed}]{}", ".map(a, [a, a])".repeat(depth))
}

#[test]
fn what_costs_nothing_ends() {
    let twice = |depth: usize| {
        let binds = (1..depth).map(|n| format!("cel.bind(a{n}, a{0} + a{0}, ", n - 1));
        let binds: String = binds.collect();
        format!("cel.bind(a0, object.list, {binds}true{})", ")".repeat(depth - 1))
    };
    let formatted =
        format!("'{}'.format([{}])", "%s".repeat(200), vec!["object.text"; 200].join(", "));
    // By its cost none of them is too much.
    let expressions = [
        // Loops.
        "object.list.existsOne(a, object.list.existsOne(b, false))".to_owned(),
        "lists.range(5000).all(i, object.map.exists(k, true))".to_owned(),
        // Functions that go over all of what they cost one for.
        "lists.range(5000).all(i, object.text.charAt(0) == 'x')".to_owned(),
        "lists.range(2000).all(i, [object.map] == [object.map])".to_owned(),
        "lists.range(2000).all(i, [object.map] in [[object.map]])".to_owned(),
        "lists.range(2000).all(i, object.list + [i] != [])".to_owned(),
        "lists.range(2000).all(i, ['a' + object.pattern + string(i)].all(p, !'a'.matches(p)))"
            .to_owned(),
        // What grows.
        twice(40),
        "object.text.replace('', object.text) == ''".to_owned(),
        formatted,
        // What is in itself many times.
        format!("{0} == {0}", pairs("1", 60)),
        format!("'%s'.format([{}])", pairs("1", 60)),
        format!("dyn({}).isSorted()", pairs("1", 60)),
        pairs("1", 60),
    ];
    let endless: Vec<String> =
        expressions.into_iter().filter(|source| !run(source, 100_000).1).collect();
    assert!(endless.is_empty(), "{}", endless.join("\n"));
}

#[test]
fn usual_effort_costs_nothing() {
    for (source, wanted) in [
        ("object.list.all(i, i >= 0)", 100_003),
        ("object.list.exists(i, i == 19999)", 120_003),
        ("size(object.text.replace('x', 'yy')) == 400000", 40_004),
        ("object.map == object.map", 2_004),
        (r"['a', 'b'].all(t, t.matches('[a-z]' + t) || true)", 17),
    ] {
        assert_eq!(run(source, CALL_COST_MAX), (wanted, false), "{source}");
    }
}

#[test]
fn messages_show_no_large_values() {
    let large = pairs("1", 60);
    for source in [
        format!("[[?dyn({large})]]"),
        format!("{{?'a': dyn({large})}}"),
        format!("{{'a': 1}}[dyn({large})]"),
    ] {
        let program = Environment::new().compile(&source).expect("a good expression");
        let error = program.evaluate(&[], CALL_COST_MAX).result.expect_err(&source).to_string();
        assert!(error.ends_with("list(dyn)"), "{error:.200}");
    }
}

#[test]
fn types_do_not_double_without_end() {
    let compile = |source: &str| Environment::new().compile(source).map(|_| ());
    assert!(compile("[1].map(a, {a: a}).map(a, {a: a}).map(a, {a: a})").is_ok());
    let doubled = format!("[1]{}", ".map(a, {a: a})".repeat(60));
    let error = compile(&doubled).expect_err("types that are too large").to_string();
    assert!(error.contains("the types of the expression are too large"), "{error:.200}");
}
