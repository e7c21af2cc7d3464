//! Background processes with a pid file and a log in the cluster's directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::LOOK_EVERY;

/// How long a process may take to end after SIGTERM before it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A process that outlives `up`.
pub struct Daemon {
    pid_file: PathBuf,
    log: PathBuf,
    /// Stands in the process' command line: a reused process number is not mistaken for it.
    mark: String,
}

impl Daemon {
    /// The daemon of that name in the directory.
    pub fn new(dir: &Path, name: &str, mark: String) -> Self {
        Self {
            pid_file: dir.join(format!("{name}.pid")),
            log: dir.join(format!("{name}.log")),
            mark,
        }
    }

    /// Its process number, when it runs.
    pub fn pid(&self) -> Result<Option<u32>> {
        let text = match fs::read_to_string(&self.pid_file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", self.pid_file.display()));
            }
        };
        let Ok(pid) = text.trim().parse() else { return Ok(None) };
        let line = command_line(pid);
        let ours = line.contains(&self.mark) || line.is_empty() && has_program(pid);
        Ok(ours.then_some(pid))
    }

    /// Whether it runs.
    pub fn running(&self) -> Result<bool> {
        Ok(self.pid()?.is_some())
    }

    /// Whether its program file has been replaced since it was started.
    pub fn outdated(&self) -> Result<bool> {
        let Some(pid) = self.pid()? else { return Ok(false) };
        let program =
            fs::read_link(format!("/proc/{pid}/exe")).context("read the program of a process")?;
        Ok(program.to_string_lossy().ends_with(" (deleted)"))
    }

    /// Starts it in a session of its own; the log is appended to.
    pub fn start(&self, command: &Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        // The child leads no process group, so setsid replaces itself with the program and the number stays.
        let child = Command::new("setsid")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        fs::write(&self.pid_file, child.id().to_string()).context("write a pid file")?;
        // Until setsid has become the program, the command line shows both: the mark is there at once.
        Ok(())
    }

    /// Ends it: SIGTERM, and SIGKILL after a while.
    pub fn stop(&self) -> Result<()> {
        if let Some(pid) = self.pid()? {
            signal("TERM", pid);
            let end = Instant::now() + STOP_MAX;
            while self.running()? {
                if Instant::now() > end {
                    signal("KILL", pid);
                }
                ensure!(Instant::now() < end + STOP_MAX, "process {pid} cannot be ended");
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Sends a signal; that the process is gone already is no failure.
pub fn signal(name: &str, pid: u32) {
    if let Err(error) = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).output()
    {
        eprintln!("kill -{name} {pid}: {error}");
    }
}

/// The command line of a process, with spaces; empty when it is gone or a zombie.
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Whether a process runs a program. While it becomes another one, it has no command line, for as long as the disk
/// takes to read the new program's first pages; a zombie and a thread of the kernel never have a program.
///
/// upstream: proc(5), `/proc/pid/exe`
fn has_program(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The numbers of all processes.
pub fn all() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("read /proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_process_runs_until_it_is_a_zombie() {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

        let dir = tempfile::tempdir().unwrap();
        let daemon = |mark: &str| Daemon::new(dir.path(), "one", mark.to_owned());
        assert!(!daemon("cat").running().unwrap());
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        fs::write(dir.path().join("one.pid"), child.id().to_string()).unwrap();
        // Most often it is still becoming `cat` here, and has no command line.
        assert!(daemon("cat").running().unwrap());
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(daemon("cat").running().unwrap());
        assert!(!daemon("dog").running().unwrap(), "the number belongs to another program");
        drop(input);
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child)), ended).unwrap();
        assert!(!daemon("cat").running().unwrap());
        assert!(child.wait().unwrap().success());
    }
}
