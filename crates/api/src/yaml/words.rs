//! What is wrong with a text that is not YAML, in the words of upstream's reader.
//!
//! upstream: sigs.k8s.io/yaml/goyaml.v2 (decode.go fail, scannerc.go, parserc.go)

const NO_TOKEN: &str = "found character that cannot start any token";
const NO_NODE: &str = "did not find expected node content";

/// Translates an error of our reader; what has no translation is told as it is.
pub(super) fn explain(error: &str, text: &str) -> String {
    let error = error.strip_prefix("error: ").unwrap_or(error);
    let (error, line) = located(error.lines().next().unwrap_or(error));
    if let Some(float) = quoted(error, "non-finite float `") {
        let value = match float.trim_start_matches(['+', '-']).to_lowercase().as_str() {
            ".nan" => "NaN",
            _ if float.starts_with('-') => "-Inf",
            _ => "+Inf",
        };
        return format!("json: unsupported value: {value}");
    }
    // The end of the text starts a line of its own.
    let end = text.matches('\n').count() + usize::from(!text.is_empty() && !text.ends_with('\n'));
    // The line before the one where the reader stops, and its words.
    let (before, why) = match error {
        "mapping values are not allowed in this context" => (line - 1, error.to_owned()),
        _ if error.starts_with("unexpected character: `")
            || error.starts_with("tabs disallowed") =>
        {
            (line - 1, NO_TOKEN.to_owned())
        }
        "unclosed quote" => (text.matches('\n').count(), "found unexpected end of stream".into()),
        "simple key expected ':'" => {
            (next_content(text, line), "could not find expected ':'".into())
        }
        _ => match quoted(error, "unclosed bracket '") {
            // The parser counts the lines before it, the scanner its own, too.
            Some(open) => return told(end, &unclosed(open, text)),
            None => return format!("yaml: {error}"),
        },
    };
    told(if before == 0 { 0 } else { before + 1 }, &why)
}

/// The words and the line of an error such as `line 2 column 6: why`; the line is 1 when it is not
/// told.
fn located(error: &str) -> (&str, usize) {
    let parts = error.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    let Some((place, why)) = parts else { return (error, 1) };
    let line = place.split(' ').next().and_then(|line| line.parse().ok()).unwrap_or(1);
    (why, usize::max(line, 1))
}

/// What stands after `before` up to the end of the quotes that it opens.
fn quoted<'t>(error: &'t str, before: &str) -> Option<&'t str> {
    error.strip_prefix(before)?.split(['`', '\'']).next()
}

fn told(line: usize, why: &str) -> String {
    if line == 0 { format!("yaml: {why}") } else { format!("yaml: line {line}: {why}") }
}

/// What is missing at the end of a text in which a bracket stays open.
fn unclosed(open: &str, text: &str) -> String {
    if text.trim_end().ends_with(['{', '[', ',', ':']) {
        return NO_NODE.to_owned();
    }
    let close = if open == "{" { '}' } else { ']' };
    format!("did not find expected ',' or '{close}'")
}

/// How many lines stand before the first one with content after a line.
fn next_content(text: &str, line: usize) -> usize {
    let lines = text.lines().enumerate().skip(line);
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let found = lines.into_iter().find(|(_, line)| !blank(line));
    found.map_or_else(|| text.lines().count(), |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::super::decode;

    #[test]
    fn what_is_no_yaml_is_told_in_the_words_of_go() {
        for (text, want) in [
            ("a: b: c", "yaml: mapping values are not allowed in this context"),
            ("a: 1\n b: 2\n", "yaml: line 2: mapping values are not allowed in this context"),
            ("@x: y\n", "yaml: found character that cannot start any token"),
            ("a:\n\tb: c\n", "yaml: line 2: found character that cannot start any token"),
            ("a: 1\nb: {c: d\n", "yaml: line 2: did not find expected ',' or '}'"),
            ("a: [b", "yaml: line 1: did not find expected ',' or ']'"),
            ("{", "yaml: line 1: did not find expected node content"),
            ("a: 1\nb c\n", "yaml: line 3: could not find expected ':'"),
            ("a: \"b\nc: d\n", "yaml: line 3: found unexpected end of stream"),
            ("a: .inf\n", "json: unsupported value: +Inf"),
            ("a: -.inf\n", "json: unsupported value: -Inf"),
            ("a: .nan\n", "json: unsupported value: NaN"),
        ] {
            let error = decode(text.as_bytes()).expect_err(text);
            assert_eq!(error.to_string(), want, "{text:?}");
        }
    }
}
