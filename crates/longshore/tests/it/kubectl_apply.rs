//! What a stock kubectl makes of applied configurations: sets that are pruned, comparisons,
//! conflicts between managers, and the way from client-side to server-side apply.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::server::Server;

const MANAGERS: &str =
    "jsonpath={range .metadata.managedFields[*]}{.manager} {.operation} {.fieldsV1}{\"\\n\"}{end}";
const LAST_APPLIED: &str =
    r#"{"f:metadata":{"f:annotations":{"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}"#;

struct Rig {
    data: tempfile::TempDir,
    server: Server,
}

impl Rig {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path());
        Self { data, server }
    }

    fn folder(&self) -> PathBuf {
        let folder = self.data.path().join("set");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The words of the config map's data, such as `a=1 b=2`.
    fn words(&self, name: &str) -> String {
        let format = "go-template={{range $k, $v := .data}}{{$k}}={{$v}} {{end}}";
        self.server.kubectl(&["get", "configmap", name, "-o", format]).trim().to_owned()
    }

    fn managers(&self, name: &str) -> Vec<String> {
        let text = self.server.kubectl(&["get", "configmap", name, "-o", MANAGERS]);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn write(folder: &Path, name: &str, data: &str) -> String {
    let file = folder.join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{app: x}}}}\ndata: {{{data}}}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

#[test]
fn sets_are_pruned_by_what_their_parent_says() {
    let rig = Rig::start();
    let folder = rig.folder();
    write(&folder, "one", "word: a");
    let second = write(&folder, "two", "word: b");
    let args =
        ["apply", "-n", "default", "--prune", "--applyset=set", "-f", folder.to_str().unwrap()];
    let apply =
        || succeeded(rig.server.command(&args).env("KUBECTL_APPLYSET", "true").output().unwrap());
    let said = apply();
    assert!(said.contains("configmap/one created") && said.contains("configmap/two created"));
    std::fs::remove_file(second).unwrap();
    let said = apply();
    assert!(said.contains("configmap/one unchanged"), "{said}");
    assert!(said.contains("configmap/two pruned"), "{said}");
    let kinds = "jsonpath={.metadata.annotations.applyset\\.kubernetes\\.io/contains-group-kinds}";
    assert_eq!(rig.server.kubectl(&["get", "secret", "set", "-o", kinds]), "ConfigMap");
    let member = "jsonpath={.metadata.labels.applyset\\.kubernetes\\.io/part-of}";
    let id = "jsonpath={.metadata.labels.applyset\\.kubernetes\\.io/id}";
    assert_eq!(
        rig.server.kubectl(&["get", "configmap", "one", "-o", member]),
        rig.server.kubectl(&["get", "secret", "set", "-o", id])
    );
    let left = rig.server.kubectl(&["get", "configmaps", "-l", "app=x", "-o", "name"]);
    assert_eq!(left.trim(), "configmap/one");
}

#[test]
fn objects_are_pruned_by_label() {
    let rig = Rig::start();
    let folder = rig.folder();
    write(&folder, "one", "word: a");
    let second = write(&folder, "two", "word: b");
    let path = folder.to_str().unwrap().to_owned();
    let apply = || {
        let kinds = "--prune-allowlist=core/v1/ConfigMap";
        rig.server.kubectl(&["apply", "--prune", "-l", "app=x", kinds, "-f", &path])
    };
    apply();
    rig.server.kubectl(&["create", "configmap", "other", "--from-literal=word=c"]);
    std::fs::remove_file(second).unwrap();
    let said = apply();
    assert!(said.contains("configmap/two pruned"), "{said}");
    assert_eq!(rig.words("one"), "word=a");
    assert_eq!(rig.words("other"), "word=c", "what was not applied stays");
}

#[test]
fn managers_meet_in_conflicts() {
    let rig = Rig::start();
    let folder = rig.folder();
    let file = write(&folder, "m", "word: a");
    rig.server.kubectl(&["apply", "--server-side", "--field-manager=one", "-f", &file]);
    write(&folder, "m", "word: b");
    let with = |verb: &str, more: &[&str]| {
        let args = [&[verb, "--server-side", "--field-manager=two", "-f", &*file], more].concat();
        rig.server.try_kubectl(&args)
    };
    let conflict = "Apply failed with 1 conflict: conflict with \"one\": .data.word";
    let difference = with("diff", &[]);
    assert!(text(&difference.stderr).contains(conflict), "{}", text(&difference.stderr));
    assert!(difference.status.code().is_some_and(|code| code > 1), "it is no difference");
    let difference = with("diff", &["--force-conflicts"]);
    assert_eq!(difference.status.code(), Some(1), "{}", text(&difference.stderr));
    assert!(text(&difference.stdout).contains("-  word: a\n+  word: b"));
    assert_eq!(rig.words("m"), "word=a", "a comparison changes nothing");
    let refused = with("apply", &[]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains(conflict), "{}", text(&refused.stderr));
    assert_eq!(rig.words("m"), "word=a");
    succeeded(with("apply", &["--force-conflicts"]));
    assert_eq!(rig.words("m"), "word=b");
    let labels = r#""f:metadata":{"f:labels":{"f:app":{}}}"#;
    let want = [
        format!("one Apply {{{labels}}}"),
        format!(r#"two Apply {{"f:data":{{"f:word":{{}}}},{labels}}}"#),
    ];
    assert_eq!(rig.managers("m"), want);
    // What two leaves out, one still has.
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n").unwrap();
    succeeded(with("apply", &[]));
    assert_eq!(rig.words("m"), "");
    assert_eq!(rig.managers("m"), [format!("one Apply {{{labels}}}")]);
}

#[test]
fn configurations_move_to_the_server() {
    let rig = Rig::start();
    let folder = rig.folder();
    for (name, verb) in [("made", &["create", "--save-config"][..]), ("applied", &["apply"][..])] {
        let file = write(&folder, name, "a: '1', b: '2'");
        rig.server.kubectl(&[verb, &["-f", &file]].concat());
        let before = rig.managers(name);
        let manager = if name == "made" { "kubectl-create" } else { "kubectl-client-side-apply" };
        assert!(matches!(&*before, [one] if one.starts_with(&format!("{manager} Update"))));
        write(&folder, name, "a: '3'");
        let said = rig.server.kubectl(&["apply", "--server-side", "-f", &file]);
        assert!(said.contains(&format!("configmap/{name} serverside-applied")), "{said}");
        // The fields that the client had applied are the server's to remove.
        assert_eq!(rig.words(name), "a=3");
        let own = r#"{"f:data":{"f:a":{}},"f:metadata":{"f:labels":{"f:app":{}}}}"#;
        let want =
            [format!("kubectl Apply {own}"), format!("kubectl-last-applied Apply {LAST_APPLIED}")];
        assert_eq!(rig.managers(name), want);
        // The annotation follows, so that the way back is open, too.
        let view = rig.server.kubectl(&["apply", "view-last-applied", "configmap", name]);
        assert!(view.contains("a: \"3\"") && !view.contains("b:"), "{view}");
        write(&folder, name, "b: '4'");
        rig.server.kubectl(&["apply", "-f", &file]);
        assert_eq!(rig.words(name), "b=4");
    }
}
