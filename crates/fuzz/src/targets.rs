//! The table of targets.

mod bodies;
mod expressions;
mod managed;
mod patches;
mod structural;
mod texts;

use serde_json::Value;

use crate::generate;
use crate::random::Random;

/// Something that reads what a client sends.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it does with an input.
    pub about: &'static str,
    /// Good inputs to begin with.
    pub seeds: fn(&mut Random) -> Vec<Vec<u8>>,
    /// Texts that mean something to it.
    pub words: &'static [&'static [u8]],
    /// Reads an input and tells what came of it. Panics when a law is broken.
    pub run: fn(&[u8]) -> String,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "json",
        about: "decodes JSON; what is decoded decodes to itself again",
        seeds: bodies::json_seeds,
        words: bodies::JSON_WORDS,
        run: bodies::json,
    },
    Target {
        name: "yaml",
        about: "decodes YAML; what is decoded survives encoding",
        seeds: bodies::yaml_seeds,
        words: bodies::YAML_WORDS,
        run: bodies::yaml,
    },
    Target {
        name: "protobuf",
        about: "decodes enveloped protobuf objects of every kind",
        seeds: bodies::protobuf_seeds,
        words: &[b"k8s\0", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x00"],
        run: bodies::protobuf,
    },
    Target {
        name: "cbor",
        about: "decodes CBOR; what is decoded survives encoding",
        seeds: bodies::cbor_seeds,
        words: &[
            b"\xd9\xd9\xf7",
            b"\x5f",
            b"\x9f",
            b"\xbf",
            b"\xff",
            b"\xfb\x7f\xf0",
            b"\xc2",
            b"\x1b\xff",
        ],
        run: bodies::cbor,
    },
    Target {
        name: "body",
        about: "a request body in any format, with its media type, as an object of any kind",
        seeds: bodies::body_seeds,
        words: bodies::JSON_WORDS,
        run: bodies::body,
    },
    Target {
        name: "object",
        about: "an object of any kind through defaults, preparation, validation and printing",
        seeds: bodies::object_seeds,
        words: bodies::JSON_WORDS,
        run: bodies::object,
    },
    Target {
        name: "json-patch",
        about: "applies a JSON patch",
        seeds: patches::json_seeds,
        words: patches::WORDS,
        run: patches::json,
    },
    Target {
        name: "merge-patch",
        about: "applies a merge patch; it may be applied twice",
        seeds: patches::merge_seeds,
        words: patches::WORDS,
        run: patches::merge,
    },
    Target {
        name: "strategic-patch",
        about: "applies a strategic merge patch to an object of any kind",
        seeds: patches::strategic_seeds,
        words: patches::WORDS,
        run: patches::strategic,
    },
    Target {
        name: "managed-fields",
        about: "updates an object with the managed fields that a client sends",
        seeds: managed::seeds,
        words: managed::WORDS,
        run: managed::managed,
    },
    Target {
        name: "apply",
        about: "applies a configuration over another manager's; it may be applied twice",
        seeds: managed::apply_seeds,
        words: patches::WORDS,
        run: managed::applied,
    },
    Target {
        name: "structural-schema",
        about: "compiles a schema of custom resources; prunes, fills and checks an object by it",
        seeds: structural::seeds,
        words: structural::WORDS,
        run: structural::structural,
    },
    Target {
        name: "pattern",
        about: "reads a regular expression; a good one can be matched",
        seeds: structural::pattern_seeds,
        words: &[b"(?P<", b"(?i", b"{2,3}", b"[[:", b":]]", b"\\p{", b"\\Q", b"\\x{", b"|", b"\\"],
        run: structural::patterns,
    },
    Target {
        name: "expression",
        about: "compiles an expression and evaluates it; it costs no more than it may",
        seeds: expressions::seeds,
        words: expressions::WORDS,
        run: expressions::expression,
    },
    Target {
        name: "label-selector",
        about: "parses a label selector; what is printed parses to the same",
        seeds: texts::label_seeds,
        words: texts::SELECTOR_WORDS,
        run: texts::labels,
    },
    Target {
        name: "field-selector",
        about: "parses a field selector",
        seeds: texts::field_seeds,
        words: texts::SELECTOR_WORDS,
        run: texts::fields,
    },
    Target {
        name: "quantity",
        about: "parses a quantity; what is printed is the same number",
        seeds: texts::quantity_seeds,
        words: &[b"e", b"E", b"Ki", b"Ei", b"m", b"n", b".", b"-", b"00000000000000000000"],
        run: texts::quantity,
    },
    Target {
        name: "duration",
        about: "parses a duration; what is printed is the same duration",
        seeds: texts::duration_seeds,
        words: &[b"h", b"m", b"s", b"ms", b"us", b"ns", b".", b"-", b"9223372036854775807"],
        run: texts::duration,
    },
    Target {
        name: "continue-token",
        about: "reads a continue token",
        seeds: texts::token_seeds,
        words: &[
            b"\"v\":",
            b"\"rv\":",
            b"\"start\":",
            b"meta.k8s.io/v1",
            b"\\u0000",
            b"..",
            b"/",
            b"-1",
            b"e30",
            b"=",
        ],
        run: texts::token,
    },
    Target {
        name: "request-line",
        about: "parses the method, path and query of a request",
        seeds: texts::request_seeds,
        words: &[
            b"/api",
            b"/apis",
            b"/namespaces/",
            b"/watch/",
            b"%2f",
            b"%",
            b"?",
            b"&watch=",
            b"+",
        ],
        run: texts::request,
    },
    Target {
        name: "accept",
        about: "negotiates the format of an answer",
        seeds: texts::accept_seeds,
        words: &[b";q=", b";as=", b";g=", b";v=", b",", b"*/*", b"application/", b"\""],
        run: texts::accept,
    },
];

/// Splits an input: its first two bytes choose a kind, the rest is for it.
fn chosen<'a, T>(input: &'a [u8], of: &'static [T]) -> Option<(&'static T, &'a [u8])> {
    let (head, rest) = input.split_first_chunk::<2>()?;
    Some((&of[usize::from(u16::from_le_bytes(*head)) % of.len()], rest))
}

/// The two bytes that choose an entry.
fn choice(index: usize) -> [u8; 2] {
    u16::try_from(index).unwrap_or(0).to_le_bytes()
}

/// One random object of every kind, in the order of [`generate::kinds`].
fn objects(random: &mut Random) -> Vec<Value> {
    generate::kinds().iter().map(|(gvk, ty)| generate::object(random, gvk, ty)).collect()
}

fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

/// An outcome from a result.
fn outcome<T>(result: Result<T, impl std::fmt::Display>, good: &str) -> String {
    match result {
        Ok(_) => good.to_owned(),
        Err(error) => error.to_string(),
    }
}
