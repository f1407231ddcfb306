//! What was measured so far, in a folder: each part is written as soon as it is known, beside what earlier runs left.

use std::path::{Path, PathBuf};

use anyhow::Context;
use benches::results::{FIGURES, TEXT, origin};

use crate::report::Report;

const PLOT: &str = "latency.svg";

/// A report, and where it is kept.
#[derive(Debug)]
pub struct Record {
    folder: PathBuf,
    report: Report,
    clickhouse: String,
}

impl Record {
    /// Goes on with what is in a folder.
    pub fn open(folder: &Path, clickhouse: String) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let figures = folder.join(FIGURES);
        let report = if figures.exists() {
            let text = std::fs::read_to_string(&figures)?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is of another version of bench; move it away", figures.display()))?
        } else {
            Report::default()
        };
        Ok(Self { folder: folder.to_owned(), report, clickhouse })
    }

    /// Where everything is written to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the text is.
    pub fn file(&self) -> PathBuf {
        self.folder.join(TEXT)
    }

    /// Changes one part, and writes all of it.
    pub fn write(&mut self, part: &str, change: impl FnOnce(&mut Report)) -> anyhow::Result<()> {
        change(&mut self.report);
        self.report.origins.insert(part.to_owned(), origin());
        self.report.clickhouse.clone_from(&self.clickhouse);
        if let Some(plot) = self.report.plot() {
            replace(&self.folder.join(PLOT), &plot)?;
        }
        replace(&self.folder.join(TEXT), &self.report.markdown(PLOT))?;
        replace(&self.folder.join(FIGURES), &serde_json::to_string_pretty(&self.report)?)
    }
}

/// An abort leaves the old file or the new one, and no half of one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::rename(&fresh, path))
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Step;

    #[test]
    fn a_later_run_adds_its_part_and_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let step = |asked| Step { asked, ..Step::default() };
        let mut record = Record::open(folder.path(), "26".to_owned()).unwrap();
        record.write("search", |report| report.search = vec![step(4_321.0)]).unwrap();
        drop(record);
        // What another program adds stays, too.
        benches::results::write_section(folder.path(), "behaviour", "## Behaviour\n\n60 bytes").unwrap();
        let mut record = Record::open(folder.path(), "26".to_owned()).unwrap();
        record.write("long run", |report| report.runs = vec![step(25_000.0)]).unwrap();
        let text = std::fs::read_to_string(record.file()).unwrap();
        assert!(text.contains("| 4,321 ") && text.contains("| 25,000 ") && text.contains("\n60 bytes\n"), "{text}");
    }

    #[test]
    fn figures_of_another_version_are_not_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FIGURES), "{\"search\": 1}").unwrap();
        assert!(Record::open(folder.path(), String::new()).unwrap_err().to_string().contains("move it away"));
    }
}
