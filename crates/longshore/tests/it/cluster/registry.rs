//! Images from a registry: a local one, with and without a password.

use std::fs::File;
use std::process::Child;
use std::time::Instant;

use super::{Cluster, Space, TOOLBOX, WAIT_MAX};

/// The registry's address in the cluster's network.
const REGISTRY: &str = "127.0.0.1:5000";
/// User and password `puller`/`secret`, as the registry keeps them.
const USERS: &str = "puller:$2b$04$1VIKQ0TguuA6CANrxSBxX.6NiBr.7PNR38uf3mTM7Qig6rsmC00Kq";

/// A registry server; killed when dropped.
struct Registry(Child);

impl Registry {
    fn start(cluster: &Cluster) -> Self {
        let dir = cluster.dir().join("registry");
        std::fs::create_dir(&dir).unwrap();
        let (base, users) = (dir.display(), dir.join("users"));
        std::fs::write(&users, USERS).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {base}/data}}}}\n\
             http: {{addr: '{REGISTRY}'}}\nauth: {{htpasswd: {{realm: test, path: {base}/users}}}}\n"
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        // The runtime is told that this one speaks plain HTTP.
        let hosts = cluster.state().join("containerd/certs.d").join(REGISTRY);
        std::fs::create_dir_all(&hosts).unwrap();
        let text = format!(
            "server = \"http://{REGISTRY}\"\n[host.\"http://{REGISTRY}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::write(hosts.join("hosts.toml"), text).unwrap();
        let log = File::create(dir.join("log")).unwrap();
        let child = cluster
            .command("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed: ./x test installs it");
        Self(child)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        if self.0.kill().is_ok() {
            self.0.wait().unwrap();
        }
    }
}

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("registry");
    let _registry = Registry::start(cluster);
    let image = format!("{REGISTRY}/team/toolbox:v1");
    push(cluster, &image);

    pod(&space, "secret", &image, "  imagePullSecrets: [{name: puller}]\n");
    let waiting = ".status.containerStatuses[0].state.waiting";
    let reason = ["get", "pod", "secret", "-o", &format!("jsonpath={{{waiting}.reason}}")];
    space.eventually(&reason, |reason| matches!(reason, "ErrImagePull" | "ImagePullBackOff"));
    let server = format!("--docker-server={REGISTRY}");
    space.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "puller",
        &server,
        "--docker-username=puller",
        "--docker-password=secret",
    ]);
    space.wait("pod/secret", "condition=Ready");
    assert_eq!(space.field("pod/secret", ".status.containerStatuses[0].image"), image);
    assert!(
        space
            .field("pod/secret", ".status.containerStatuses[0].imageID")
            .starts_with(&format!("{REGISTRY}/team/toolbox@sha256:"))
    );
    for text in [
        format!("Pulling image \"{image}\""),
        format!("Failed to pull image \"{image}\": "),
        "Error: ErrImagePull".to_owned(),
        format!("Back-off pulling image \"{image}\""),
        format!("Successfully pulled image \"{image}\" in "),
        " bytes.".to_owned(),
    ] {
        space.told("secret", &text);
    }
    // A pull is asked for though the image is there.
    pod(&space, "always", &image, "  imagePullSecrets: [{name: puller}]\n");
    space.wait("pod/always", "condition=Ready");

    pod(
        &space,
        "missing",
        &format!("{REGISTRY}/team/none:v1"),
        "  imagePullSecrets: [{name: puller}]\n",
    );
    space.wait("pod/missing", &format!("jsonpath={{{waiting}.reason}}=ImagePullBackOff"));
    let message = space.field("pod/missing", &format!("{waiting}.message"));
    assert!(
        message.starts_with(&format!(
            "Back-off pulling image \"{REGISTRY}/team/none:v1\": ErrImagePull: "
        )),
        "{message}"
    );
}

fn pod(space: &Space<'_>, name: &str, image: &str, more: &str) {
    space.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  \
         containers: [{{name: toolbox, image: '{image}', imagePullPolicy: Always}}]\n"
    ));
}

/// Puts the toolbox into the registry, once that answers.
fn push(cluster: &Cluster, image: &str) {
    let ctr = |arguments: &[&str]| {
        let socket = cluster.state().join("containerd/containerd.sock");
        let mut command = cluster.command("ctr");
        command
            .arg("--address")
            .arg(socket)
            .args(["--namespace", "k8s.io", "images"])
            .args(arguments);
        command.output().unwrap()
    };
    assert!(ctr(&["tag", TOOLBOX, image]).status.success());
    let end = Instant::now() + WAIT_MAX;
    loop {
        let pushed = ctr(&["push", "--plain-http", "--user", "puller:secret", image]);
        if pushed.status.success() {
            break;
        }
        assert!(Instant::now() < end, "{}", String::from_utf8_lossy(&pushed.stderr));
    }
    assert!(ctr(&["rm", "--sync", image]).status.success());
}
