//! A server as a child process whose life hangs on ours.

use crate::{LocalError, Paths};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting.
const POLL: Duration = Duration::from_millis(50);
/// How much of a log is shown with an error, bytes.
const TAIL: u64 = 4_000;

/// What becomes of a server's directory when the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays, and the server is stopped in order.
    Keep,
    /// It is a test's: the server is killed and the directory removed, even when the test process was killed.
    Remove,
}

impl Fate {
    /// The word the launchers take.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Remove => "remove",
        }
    }
}

/// A running child process. It has a pipe of ours as its standard input and ends when that closes, so also when we
/// are killed. Dropping it stops it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stop_within: Duration,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Runs `command`, which must itself end when its standard input closes; both its outputs are appended to `log`.
    /// It gets a process group of its own, so that Ctrl-C in a terminal does not reach it.
    ///
    /// # Errors
    /// When the log can't be opened or the program can't be run.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, LocalError> {
        if let Some(directory) = log.parent() {
            fs::create_dir_all(directory).map_err(LocalError::file("create", directory))?;
        }
        let output =
            File::options().create(true).append(true).open(log).map_err(LocalError::file("open the log", log))?;
        let errors = output.try_clone().map_err(LocalError::file("open the log", log))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| LocalError::Spawn { program: format!("{:?}", command.get_program()), source })?;
        let stop_within = Duration::from_secs(20);
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), stop_within, ended: None })
    }

    /// Runs a `command` that knows nothing of our pipe, under `launch/lifeline.sh`. `directory` is what `fate` is
    /// about.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_on_lifeline(
        name: &str,
        command: &Command,
        log: &Path,
        fate: Fate,
        directory: &Path,
    ) -> Result<Self, LocalError> {
        let mut wrapped = Command::new("sh");
        wrapped.arg(Paths::new().deploy().join("launch/lifeline.sh")).arg(fate.word()).arg(directory);
        wrapped.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        Self::start(name, wrapped, log)
    }

    /// The same process, with another time to end by itself before it is killed (20 s unless told otherwise).
    #[must_use]
    pub fn stop_within(mut self, stop_within: Duration) -> Self {
        self.stop_within = stop_within;
        self
    }

    /// The name it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id, which is also the id of its process group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until `ready` says `Ok`; what it says until then is shown when the time is over.
    ///
    /// # Errors
    /// [`LocalError::Ended`] as soon as the process ends, [`LocalError::NotReady`] after `within`.
    pub fn wait_until(
        &mut self,
        within: Duration,
        mut ready: impl FnMut() -> Result<(), String>,
    ) -> Result<(), LocalError> {
        let deadline = Instant::now() + within;
        loop {
            let answer = ready();
            // Looked at after the answer: who answered may be another program on the same port.
            if self.ended().is_some() {
                return Err(self.ended_error());
            }
            match answer {
                Ok(()) => return Ok(()),
                Err(last) if Instant::now() >= deadline => {
                    return Err(LocalError::NotReady {
                        server: self.name.clone(),
                        seconds: within.as_secs(),
                        last,
                        log: self.log.clone(),
                        tail: tail(&self.log),
                    });
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// Waits for the end of a process that has one task.
    ///
    /// # Errors
    /// [`LocalError::Ended`] when it ended without success, [`LocalError::NotReady`] after `within`.
    pub fn finish(mut self, within: Duration) -> Result<(), LocalError> {
        match self.wait_until(within, || Err("still at it".to_owned())) {
            Err(LocalError::Ended { .. }) if self.ended().is_some_and(|status| status.success()) => Ok(()),
            outcome => outcome,
        }
    }

    /// The error that says that, how and with which last words it ended.
    #[must_use]
    pub fn ended_error(&mut self) -> LocalError {
        LocalError::Ended {
            server: self.name.clone(),
            status: self.ended().map_or_else(|| "still running".to_owned(), |status| status.to_string()),
            log: self.log.clone(),
            tail: tail(&self.log),
        }
    }

    /// Stops it in order, by closing its standard input; kills its process group when that takes too long. True when
    /// it ended by itself in time.
    pub fn stop(&mut self) -> bool {
        drop(self.child.stdin.take());
        if self.wait(self.stop_within, |process| process.ended().is_some()) {
            return true;
        }
        self.kill();
        false
    }

    /// Kills it and everything it started, at once (SIGKILL), and waits until all of that is gone: a server under a
    /// launcher keeps its ports a moment longer than the launcher lives.
    pub fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let Some(group) = group.filter(|_| self.ended().is_none()) else { return };
        // It may have ended in this very moment, which is what is wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let gone =
            |process: &mut Self| process.ended().is_some() && rustix::process::test_kill_process_group(group).is_err();
        self.wait(Duration::from_secs(5), gone);
    }

    fn wait(&mut self, within: Duration, done: impl Fn(&mut Self) -> bool) -> bool {
        let deadline = Instant::now() + within;
        while !done(self) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of a file, as far as they can be read.
#[must_use]
pub fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|problem| format!("(can't be read: {problem})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_that_ends_early_is_told_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("server.log");
        let mut process = Process::start("server", shell("echo no such file >&2; exit 3"), &log).unwrap();
        let error = process.wait_until(Duration::from_secs(10), || Err("silent".to_owned())).unwrap_err();
        assert!(matches!(error, LocalError::Ended { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("no such file"), "{text}");
    }

    #[test]
    fn a_server_on_the_lifeline_is_asked_to_stop_when_the_pipe_closes() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("server.log");
        let script = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let mut process =
            Process::start_on_lifeline("server", &shell(script), &log, Fate::Keep, directory.path()).unwrap();
        let up = || tail(&log).contains("up").then_some(()).ok_or_else(|| "not up".to_owned());
        process.wait_until(Duration::from_secs(10), up).unwrap();
        assert!(process.stop(), "it had to be killed");
        assert!(tail(&log).contains("asked"), "{}", tail(&log));
    }

    #[test]
    fn after_a_kill_nothing_of_the_server_is_left() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let log = directory.path().join("server.log");
            let script = "echo up; for n in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait";
            let mut process =
                Process::start_on_lifeline("server", &shell(script), &log, Fate::Keep, directory.path()).unwrap();
            let up = || tail(&log).contains("up").then_some(()).ok_or_else(|| "not up".to_owned());
            process.wait_until(Duration::from_secs(10), up).unwrap();
            let group = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
            process.kill();
            assert!(rustix::process::test_kill_process_group(group).is_err(), "some of the server still runs");
        }
    }

    #[test]
    fn a_test_server_takes_its_directory_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let log = directory.path().join("server.log");
        let command = shell("exec sleep 600");
        let mut process = Process::start_on_lifeline("server", &command, &log, Fate::Remove, &data).unwrap();
        assert!(process.stop(), "it had to be killed");
        assert!(!data.exists());
    }
}
