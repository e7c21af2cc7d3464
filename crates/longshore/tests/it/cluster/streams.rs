//! What goes in and out of containers: logs, exec, attach, cp, port-forward, run.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::{Cluster, Space, TOOLBOX};

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("streams");
    pods(&space);
    logs(&space);
    exec(&space);
    terminal(&space);
    attach(&space);
    copy(&space);
    forward(&space);
    one_command(&space);
}

/// A pod with two containers that talk.
fn pods(space: &Space<'_>) {
    space.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: two, labels: {{app: two}}}}\nspec:\n  containers:\n  \
         - {{name: a, image: {TOOLBOX}, command: [sh, -c, 'echo a1; echo a2; echo a3; exec toolbox serve']}}\n  \
         - {{name: b, image: {TOOLBOX}, command: [sh, -c, 'echo b1; while read line; do echo got $line; done'], \
         stdin: true}}\n"
    ));
    space.wait("pod/two", "condition=Ready");
}

/// Lines of a program that goes on; it is killed when dropped.
struct Lines {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Lines {
    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.unwrap())
    }

    /// It says no more, and ends by itself: not because its time is over.
    #[track_caller]
    fn ends(&mut self) {
        assert_eq!(self.next(), None);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Both fail when the program has ended already, which is fine.
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

/// Runs a program with a text as its input; what it prints.
fn with_input(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn logs(space: &Space<'_>) {
    space.eventually(&["logs", "two", "-c", "a"], |log| log == "a1\na2\na3\nserving");
    assert_eq!(space.kubectl(&["logs", "two", "-c", "a", "--tail=2"]), "a3\nserving");
    assert_eq!(space.kubectl(&["logs", "two", "-c", "a", "--tail=0"]), "");
    assert_eq!(space.kubectl(&["logs", "two", "-c", "a", "--limit-bytes=5"]), "a1\na2");
    assert_eq!(space.kubectl(&["logs", "two", "-c", "a", "--since=1h"]).lines().count(), 4);
    assert_eq!(space.kubectl(&["logs", "two", "-c", "a", "--since-time=2100-01-01T00:00:00Z"]), "");
    let stamped = space.kubectl(&["logs", "two", "-c", "a", "--timestamps", "--tail=1"]);
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.len() > 20 && time.contains('T') && text == "serving", "{stamped}");
    let all = space.kubectl(&["logs", "two", "--all-containers", "--prefix"]);
    assert!(all.contains("[pod/two/a] a3") && all.contains("[pod/two/b] b1"), "{all}");
    assert!(space.kubectl(&["logs", "-l", "app=two", "-c", "b"]).contains("b1"));
    let missing = space.try_kubectl(&["logs", "two", "-c", "a", "--previous"]);
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(
        error.contains("previous terminated container \"a\" in pod \"two\" not found"),
        "{error}"
    );

    // Followed while it grows, until the container ends.
    let mut follower = Lines::of(&mut space.command(&["logs", "-f", "two", "-c", "a", "--tail=1"]));
    assert_eq!(follower.next().as_deref(), Some("serving"));
    space.kubectl(&["exec", "two", "-c", "a", "--", "sh", "-c", "echo more > /proc/1/fd/1"]);
    assert_eq!(follower.next().as_deref(), Some("more"));
    // The command may be gone with the container before it can say that it did its work.
    space.try_kubectl(&["exec", "two", "-c", "a", "--", "kill", "1"]);
    follower.ends();
    let count = ".status.containerStatuses[0].restartCount";
    space.wait("pod/two", &format!("jsonpath={{{count}}}=1"));
    let previous = space.kubectl(&["logs", "two", "-c", "a", "--previous"]);
    assert_eq!(previous, "a1\na2\na3\nserving\nmore");
    space.eventually(&["logs", "two", "-c", "a"], |log| log == "a1\na2\na3\nserving");
}

fn exec(space: &Space<'_>) {
    assert_eq!(space.kubectl(&["exec", "two", "-c", "a", "--", "echo", "said"]), "said");
    let failed = space.try_kubectl(&["exec", "two", "--", "sh", "-c", "echo why >&2; exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("why\n"));
    let missing = space.try_kubectl(&["exec", "two", "--", "no-such-program"]);
    assert_ne!(missing.status.code(), Some(0));
    let text = "through\nthe container\n".repeat(10_000);
    assert_eq!(with_input(&mut space.command(&["exec", "-i", "two", "--", "cat"]), &text), text);
}

/// A terminal of this test's own, with a size, which arrives a moment after the start.
fn terminal(space: &Space<'_>) {
    let kubectl = space.command(&[]);
    let words: Vec<String> = std::iter::once(kubectl.get_program())
        .chain(kubectl.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let line = format!(
        "stty rows 33 cols 99 -echo; {} exec -it two -- sh -c 'tty; until stty size | grep 99; do :; done; read word; echo said $word'",
        words.join(" ")
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    for (key, value) in kubectl.get_envs() {
        script.env(key, value.unwrap());
    }
    let mut session = Lines::of(&mut script);
    let mut heard = Vec::new();
    while !heard.iter().any(|line: &String| line.starts_with("33 99")) {
        heard.push(session.next().unwrap_or_else(|| panic!("{heard:?}")));
    }
    assert!(heard.iter().any(|line| line.starts_with("/dev/pts/")), "{heard:?}");
    session.say("word\n");
    while let Some(line) = session.next() {
        heard.push(line);
    }
    session.ends();
    assert!(heard.iter().any(|line| line.trim_end() == "said word"), "{heard:?}");
}

fn attach(space: &Space<'_>) {
    let mut attached = Lines::of(&mut space.command(&["attach", "-i", "two", "-c", "b"]));
    attached.say("hello\n");
    assert_eq!(attached.next().as_deref(), Some("got hello"));
    drop(attached);
    let mut again = Lines::of(&mut space.command(&["attach", "-i", "two", "-c", "b"]));
    again.say("once more\n");
    assert_eq!(again.next().as_deref(), Some("got once more"));
}

fn copy(space: &Space<'_>) {
    let dir = space.cluster.dir().join("copy");
    std::fs::create_dir_all(dir.join("sent/below")).unwrap();
    std::fs::write(dir.join("sent/file"), "content").unwrap();
    std::fs::write(dir.join("sent/below/large"), vec![b'x'; 3 << 20]).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    space.kubectl(&["cp", &path("sent"), "two:/tmp/sent", "-c", "a"]);
    assert_eq!(
        space.shell("two", "cat /tmp/sent/file; wc -c < /tmp/sent/below/large"),
        "content3145728"
    );
    space.kubectl(&["cp", "two:/tmp/sent", &path("back"), "-c", "a"]);
    assert_eq!(std::fs::read(dir.join("back/below/large")).unwrap().len(), 3 << 20);
    assert_eq!(std::fs::read_to_string(dir.join("back/file")).unwrap(), "content");
}

fn forward(space: &Space<'_>) {
    let mut forwarding = Lines::of(&mut space.command(&["port-forward", "pod/two", ":8080"]));
    let line = forwarding.next().unwrap();
    let port = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap();
    let address = format!("127.0.0.1:{port}");
    for _ in 0..3 {
        let to = address.clone();
        let answer = space.cluster.inside(move || get(&to, "/hostname"));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\r\n\r\ntwo"), "{answer}");
    }
}

/// Asks an HTTP server, in the network of this thread.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(super::WAIT_MAX)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A pod for one command, gone afterwards; and a service for a pod.
fn one_command(space: &Space<'_>) {
    let image = format!("--image={TOOLBOX}");
    let run = ["run", "once", "--rm", "-i", "--quiet", "--restart=Never", &image, "--"];
    let command = ["sh", "-c", "read word; echo said $word"];
    let said = with_input(&mut space.command(&[&run[..], &command[..]].concat()), "a word\n");
    assert!(said.contains("said a word"), "{said}");
    assert_eq!(space.kubectl(&["get", "pod", "once", "--ignore-not-found"]), "");

    space.kubectl(&["expose", "pod", "two", "--port=80", "--target-port=8080"]);
    space.eventually(
        &["exec", "two", "--", "wget", "-qO-", "http://two.streams/hostname"],
        |name| name == "two",
    );
}
