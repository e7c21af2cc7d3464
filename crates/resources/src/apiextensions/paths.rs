//! Paths to fields in a schema, such as `.spec.names['a.b']`.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go
//! ValidFieldPath

use longshore_api::structural::Node;

const NOT_THERE: &str = "does not refer to a valid field";
const AT_END: &str = "unexpected end of JSON path";

/// Follows a path; gives the schema at its end, when there is one, and its steps.
///
/// # Errors
/// Why it leads nowhere.
pub(crate) fn follow<'a>(
    path: &str,
    schema: &'a Node,
    brackets: bool,
) -> Result<(Option<&'a Node>, Vec<String>), String> {
    let mut at = Some(schema);
    let mut steps = Vec::new();
    let mut words = words(path);
    while let Some(word) = words.next() {
        let name = match word {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let word = words.next().ok_or(AT_END)?;
                let inner = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\''));
                let Some(inner) = inner else {
                    return Err(format!("expected single quoted string but got {word}"));
                };
                inner.replace("\\'", "'").replace("\\\\", "\\")
            }
            "." => words.next().ok_or(AT_END)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let node = at.ok_or(NOT_THERE)?;
        at = if node.properties.is_empty() {
            node.field(&name).ok_or(NOT_THERE)?
        } else {
            Some(node.properties.get(&name).ok_or(NOT_THERE)?)
        };
        steps.push(name);
        if word == "[" {
            match words.next().ok_or(AT_END)? {
                "]" => {}
                other => return Err(format!("expected ] but got {other}")),
            }
        }
    }
    Ok((at, steps))
}

/// Splits a path into dots, brackets and what stands between them; quoted texts are whole.
fn words(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let mut before = None;
        let end = rest.char_indices().find_map(|(index, letter)| {
            let after_escape = before.replace(letter) == Some('\\');
            if rest.starts_with('\'') {
                let closes = index > 0 && letter == '\'' && !after_escape;
                return closes.then_some(index + 1);
            }
            matches!(letter, '.' | '[' | ']').then_some(index.max(1))
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_followed() {
        let schema = json!({"properties": {
            "spec": {"properties": {"a.b": {"type": "string"}, "c": {"type": "integer"}}},
            "map": {"additionalProperties": {"type": "boolean"}},
            "any": {"additionalProperties": true},
            "text": {"type": "string"},
        }});
        let schema = Node::compile(&schema).expect("structural");
        let cases = [
            (".spec.c", Ok("integer")),
            (".spec['a.b']", Ok("string")),
            ("['spec']['a.b']", Ok("string")),
            (".map.x", Ok("boolean")),
            (".any.x", Ok("")),
            (".any.x.y", Err(NOT_THERE)),
            (".spec.d", Err(NOT_THERE)),
            (".text.x", Err(NOT_THERE)),
            (".spec.", Err(AT_END)),
            ("spec", Err("expected [ or . but got: spec")),
            (".spec[c]", Err("expected single quoted string but got c")),
            (".spec['c'", Err(AT_END)),
            (".spec['c'.", Err("expected ] but got .")),
            (".spec['c", Err("expected single quoted string but got 'c")),
        ];
        for (path, want) in cases {
            let found = follow(path, &schema, true);
            let kind = found.map(|(node, _)| node.map_or("", |node| node.kind.name()));
            assert_eq!(kind, want.map_err(str::to_owned), "{path}");
        }
        let refused = follow(".spec['c']", &schema, false);
        assert_eq!(refused.err().as_deref(), Some("array notation is not allowed"));
    }
}
