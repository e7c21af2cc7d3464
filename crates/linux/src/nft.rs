//! Packet rules of the kernel: one text in, applied as one transaction or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parking_lot::Mutex;

/// Where the program is when the search path does not lead to it.
const FALLBACKS: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"];

/// Why rules were not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started or spoken to.
    #[error("cannot run nft: {0}")]
    Run(#[from] std::io::Error),
    /// The program or the kernel refused the rules; nothing was changed.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// Applies texts in the language of nft.
pub trait Nft: Send + Sync + 'static {
    /// Applies a text as one transaction. Blocks until the kernel has answered.
    fn apply(&self, text: &str) -> Result<(), Error>;
}

/// The program `nft` of this machine.
pub struct SystemNft {
    command: Vec<PathBuf>,
}

impl Default for SystemNft {
    fn default() -> Self {
        Self { command: vec![find("nft", &FALLBACKS)] }
    }
}

impl SystemNft {
    /// Applies in a named network namespace (as `ip netns` names them) instead of the own one.
    pub fn in_namespace(name: &str) -> Self {
        let mut command: Vec<PathBuf> = ["ip", "netns", "exec", name].map(PathBuf::from).into();
        command.push(find("nft", &FALLBACKS));
        Self { command }
    }
}

impl Nft for SystemNft {
    fn apply(&self, text: &str) -> Result<(), Error> {
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // nft reads all of its input before it writes; if it ends early, its own words say why.
        let written =
            child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(written?)
    }
}

/// The path of a program: from the search path, else the first of `fallbacks` that is there.
pub fn find(program: &str, fallbacks: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched = std::env::split_paths(&path).map(|folder| folder.join(program));
    let mut all = searched.chain(fallbacks.iter().map(PathBuf::from));
    all.find(|path| Path::is_file(path)).unwrap_or_else(|| PathBuf::from(program))
}

/// Remembers what it was given, for tests.
#[derive(Default)]
pub struct FakeNft {
    applied: Mutex<Vec<String>>,
    refuse: Mutex<usize>,
}

impl FakeNft {
    /// The texts that were applied, oldest first.
    pub fn applied(&self) -> Vec<String> {
        self.applied.lock().clone()
    }

    /// Refuses the next `count` texts.
    pub fn refuse(&self, count: usize) {
        *self.refuse.lock() = count;
    }
}

impl Nft for FakeNft {
    fn apply(&self, text: &str) -> Result<(), Error> {
        let mut refuse = self.refuse.lock();
        if *refuse > 0 {
            *refuse -= 1;
            return Err(Error::Refused("refused by the test".to_owned()));
        }
        self.applied.lock().push(text.to_owned());
        Ok(())
    }
}
