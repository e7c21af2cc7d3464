//! `cargo xtask tidy`: the rules of this repository that a compiler does not know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Usage;

/// The layer of every crate (ARCHITECTURE.md): a dependency goes to a strictly lower one.
const LAYERS: &[(&str, u8)] = &[
    ("longshore", 6),
    ("longshore-api", 1),
    ("longshore-apiserver", 4),
    ("longshore-base", 0),
    ("longshore-bench", 7),
    ("longshore-cel", 2),
    ("longshore-client", 3),
    ("longshore-controllers", 5),
    ("longshore-cri", 2),
    ("longshore-dns", 5),
    ("longshore-fuzz", 7),
    ("longshore-image-hello", 0),
    ("longshore-image-pause", 0),
    ("longshore-image-toolbox", 0),
    ("longshore-kubelet", 5),
    ("longshore-linux", 2),
    ("longshore-proxy", 5),
    ("longshore-resources", 3),
    ("longshore-scheduler", 5),
    ("longshore-store", 2),
    ("longshore-test-api", 7),
    ("longshore-test-clients", 8),
    ("xtask", 7),
];

/// Crates that may depend on the store beside it: nobody else knows keys and revisions.
const STORE_USERS: &[&str] = &["longshore", "longshore-apiserver"];

/// Longest source file, in lines: 600 and room for the last few. Tests, tables and generated files may be longer.
const LINES_MAX: usize = 650;

/// Words that never come into the tree, and why. Written in halves so that this file passes.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it or leave it out"),
    (concat!("#[ign", "ore"), "a test that does not run proves nothing"),
    (concat!("#[allow(", "dead_code)]"), "remove what nobody uses"),
    (
        concat!("thread::", "sleep("),
        "wait for the event (the development tasks and programs of others excepted)",
    ),
];

/// A rule: what is wrong, one line each.
type Rule = fn(&Tree) -> Result<Vec<String>>;

/// Every rule.
const RULES: &[(&str, Rule)] = &[
    ("layers", layers),
    ("dependencies", dependencies),
    ("lints", lints),
    ("heads", heads),
    ("lengths", lengths),
    ("words", words),
    ("white space", white_space),
    ("decisions", decisions),
    ("test binaries", test_binaries),
];

/// The files of the repository.
struct Tree {
    root: PathBuf,
    /// Tracked text files by their path.
    files: BTreeMap<String, String>,
}

impl Tree {
    fn read() -> Result<Self> {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let output =
            Command::new("git").current_dir(&root).args(list).output().context("run git")?;
        ensure!(output.status.success(), "git ls-files failed: tidy needs a git working tree");
        let mut files = BTreeMap::new();
        for path in String::from_utf8(output.stdout)?.lines() {
            // A file may be deleted but still known to git, or not be text.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self { root, files })
    }

    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs"))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// The `tidy` task.
pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), Usage("tidy takes no arguments".to_owned()));
    let tree = Tree::read()?;
    let mut count = 0;
    for (name, rule) in RULES {
        for line in rule(&tree).with_context(|| format!("rule {name}"))? {
            eprintln!("{name}: {line}");
            count += 1;
        }
    }
    if count > 0 {
        bail!("{count} things are not tidy");
    }
    Ok(())
}

/// What cargo knows of our packages.
fn metadata(tree: &Tree) -> Result<Value> {
    let arguments = ["metadata", "--format-version=1", "--no-deps"];
    let output = Command::new(env!("CARGO"))
        .current_dir(&tree.root)
        .args(arguments)
        .output()
        .context("run cargo")?;
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

fn dependencies(tree: &Tree) -> Result<Vec<String>> {
    let metadata = metadata(tree)?;
    let root = tree.root.canonicalize().context("the root of the repository")?;
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let manifest = package["manifest_path"].as_str().context("a package without a path")?;
        let path = Path::new(manifest).parent().and_then(|dir| dir.strip_prefix(&root).ok());
        let folder = path.context("a package outside of the repository")?.display().to_string();
        let own: Vec<&str> = tree
            .rust()
            .filter(|(path, _)| path.starts_with(&format!("{folder}/")))
            .map(|(_, text)| text)
            .collect();
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            let name = dependency["name"].as_str().unwrap_or_default().replace('-', "_");
            let word = |text: &str| {
                text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
            };
            if !own.iter().any(|text| word(text)) {
                wrong.push(format!("{folder}/Cargo.toml: nothing uses {}", dependency["name"]));
            }
        }
    }
    Ok(wrong)
}

fn layers(tree: &Tree) -> Result<Vec<String>> {
    let metadata = metadata(tree)?;
    let layer =
        |name: &str| LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        let Some(own) = layer(name) else {
            wrong.push(format!(
                "{name} has no layer: add it to ARCHITECTURE.md and xtask/src/tidy.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            let to = dependency["name"].as_str().unwrap_or_default();
            if let Some(other) = layer(to)
                && other >= own
                && name != to
            {
                wrong.push(format!("{name} (layer {own}) must not depend on {to} (layer {other})"));
            }
            if to == "longshore-store"
                && dependency["kind"].is_null()
                && !STORE_USERS.contains(&name)
            {
                wrong.push(format!("{name} must not know the store"));
            }
        }
    }
    Ok(wrong)
}

fn lints(tree: &Tree) -> Result<Vec<String>> {
    let manifests = tree.files.iter().filter(|(path, _)| path.ends_with("/Cargo.toml"));
    // A crate that overrides a lint lists all of them, with the reason above.
    let has = |text: &str| {
        text.contains("[lints]\nworkspace = true")
            || text.contains("# ") && text.contains("[lints.rust]")
    };
    Ok(manifests
        .filter(|(_, text)| !has(text))
        .map(|(path, _)| {
            format!("{path} does not take the lints of the workspace, and gives no reason")
        })
        .collect())
}

fn heads(tree: &Tree) -> Result<Vec<String>> {
    let headless = |text: &str| !text.trim_start().starts_with("//!");
    Ok(tree
        .rust()
        .filter(|(path, text)| headless(text) && !is_generated(text) && !path.ends_with("tests.rs"))
        .map(|(path, _)| format!("{path} does not begin with //! and what it is for"))
        .collect())
}

fn lengths(tree: &Tree) -> Result<Vec<String>> {
    let may_be_long = |path: &str, text: &str| is_generated(text) || path.contains("/tests");
    Ok(tree
        .rust()
        .filter(|(path, text)| text.lines().count() > LINES_MAX && !may_be_long(path, text))
        .map(|(path, text)| {
            format!("{path} has {} lines, more than {LINES_MAX}: split it", text.lines().count())
        })
        .collect())
}

fn words(tree: &Tree) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (path, text) in tree.rust() {
        for (word, why) in FORBIDDEN {
            let excepted = word.ends_with("sleep(")
                && ["xtask/", "images/", "crates/bench/"].iter().any(|p| path.starts_with(p));
            if !excepted && text.contains(word) {
                wrong.push(format!("{path} has {word}: {why}"));
            }
        }
    }
    Ok(wrong)
}

fn white_space(tree: &Tree) -> Result<Vec<String>> {
    let kinds = [".md", ".rs", ".toml", ".yaml"];
    let checked =
        tree.files.iter().filter(|(path, _)| kinds.iter().any(|kind| path.ends_with(kind)));
    let ends_badly = |text: &str| !text.is_empty() && !text.ends_with('\n');
    let mut wrong = Vec::new();
    for (path, text) in checked {
        if let Some(line) = text.lines().position(|line| line.ends_with([' ', '\t'])) {
            wrong.push(format!("{path}:{} ends with white space", line + 1));
        }
        if ends_badly(text) {
            wrong.push(format!("{path} does not end with a line end"));
        }
    }
    Ok(wrong)
}

/// Decisions are numbered without a gap and each says where it stands.
fn decisions(tree: &Tree) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let records = tree.files.iter().filter(|(path, _)| path.starts_with("docs/adr/0"));
    for (index, (path, text)) in records.enumerate() {
        if !path.starts_with(&format!("docs/adr/{:04}-", index + 1)) {
            wrong.push(format!("{path}: number {:04} is missing or taken twice", index + 1));
        }
        if !text.starts_with("# ") {
            wrong.push(format!("{path} does not begin with a title"));
        }
    }
    Ok(wrong)
}

/// One integration test binary per crate: every further one is linked again.
fn test_binaries(tree: &Tree) -> Result<Vec<String>> {
    let extra = |path: &str| {
        let inside = path.strip_prefix("crates/").or_else(|| path.strip_prefix("tests/"));
        let inside = inside.and_then(|rest| rest.split_once("/tests/"));
        inside.is_some_and(|(_, file)| !file.starts_with("it/"))
    };
    Ok(tree
        .rust()
        .filter(|(path, _)| extra(path))
        .map(|(path, _)| format!("{path}: integration tests are modules of tests/it/main.rs"))
        .collect())
}

fn is_generated(text: &str) -> bool {
    text.lines().take(3).any(|line| line.contains("enerated by"))
}
