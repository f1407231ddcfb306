//! What the supervisor tells about itself: one JSON file, and a lock that it holds for as long as it lives.

use crate::settings::Settings;
use local::LocalError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

/// How far the stack, or a part of it, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// On its way.
    Starting,
    /// Does its work.
    Ready,
    /// Did not come up, or ended although it should run.
    Failed,
    /// On its way out.
    Stopping,
}

/// One server, service or site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// Where it listens.
    pub address: String,
    /// Its process, where it has one of its own here.
    pub process_id: Option<u32>,
    /// Its log, where it has one.
    pub log: Option<PathBuf>,
    /// Anything worth knowing.
    pub note: String,
}

/// The whole stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The supervisor's process.
    pub process_id: u32,
    /// How far it is.
    pub phase: Phase,
    /// Why it failed, if it did.
    pub problem: String,
    /// Its parts, in the order in which they start.
    pub parts: Vec<Part>,
}

impl State {
    /// A stack whose supervisor has just started.
    pub fn new() -> Self {
        Self { process_id: std::process::id(), phase: Phase::Starting, problem: String::new(), parts: Vec::new() }
    }

    /// Adds a part, or puts it in the place of the one of the same name.
    pub fn put(&mut self, part: Part) {
        match self.parts.iter_mut().find(|known| known.name == part.name) {
            Some(known) => *known = part,
            None => self.parts.push(part),
        }
    }

    /// Reads what the last supervisor wrote; nothing when there was none or it is not readable.
    pub fn read(settings: &Settings) -> Option<Self> {
        serde_json::from_slice(&fs::read(settings.run("state.json")).ok()?).ok()
    }

    /// Writes it so that a reader sees the old or the new state, never half of one.
    pub fn write(&self, settings: &Settings) -> Result<(), LocalError> {
        let path = settings.run("state.json");
        let fresh = settings.run("state.json.new");
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        fs::write(&fresh, text).map_err(LocalError::file("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(LocalError::file("write", &path))
    }
}

/// Takes the supervisor's lock; nothing when another supervisor holds it, or somebody asks in this moment whether one does.
/// It is free again when the file is closed, so also when the supervisor was killed.
pub fn lock(settings: &Settings) -> Result<Option<File>, LocalError> {
    take(settings, File::try_lock)
}

/// Whether a supervisor lives. Several may ask at once, and none takes another one for a supervisor: what the last one
/// wrote would then be believed, and its process id may be anybody's by now.
pub fn is_running(settings: &Settings) -> Result<bool, LocalError> {
    Ok(take(settings, File::try_lock_shared)?.is_none())
}

fn take(settings: &Settings, lock: impl FnOnce(&File) -> Result<(), TryLockError>) -> Result<Option<File>, LocalError> {
    let path = settings.run("lock");
    let directory = settings.run("");
    fs::create_dir_all(&directory).map_err(LocalError::file("create", &directory))?;
    let file = File::options().create(true).append(true).open(&path).map_err(LocalError::file("open", &path))?;
    match lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(problem)) => Err(LocalError::file("lock", &path)(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::CommandLine;
    use clap::Parser;

    #[test]
    fn who_asks_whether_a_supervisor_lives_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let words = ["hitmeter-local", "status", "--directory", directory.path().to_str().unwrap()];
        let settings = CommandLine::parse_from(words).settings;
        let asking = take(&settings, File::try_lock_shared).unwrap();
        assert!(asking.is_some() && !is_running(&settings).unwrap());
        // A supervisor that starts in that moment has to try again.
        assert!(lock(&settings).unwrap().is_none());
        drop(asking);
        let supervisor = lock(&settings).unwrap();
        assert!(supervisor.is_some() && is_running(&settings).unwrap());
    }
}
