//! The results of record: a text for people, and the figures from which the next run goes on.
//!
//! The program `bench` writes all of the text anew; other programs put a section of their own into both files, and leave
//! the rest as it is.

use std::path::Path;
use std::process::Command;

/// The figures themselves.
pub const FIGURES: &str = "results.json";
/// The text for people.
pub const TEXT: &str = "RESULTS.md";

/// Why results can't be written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A file can't be read or written.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        problem: std::io::Error,
    },
    /// The figures are none.
    #[error("{path} is of another version; move it away: {problem}")]
    Figures {
        /// Where they are.
        path: String,
        /// What is wrong with them.
        problem: serde_json::Error,
    },
}

/// What `git status` leaves out: results that were written a moment ago are no change to what is measured.
const NO_CHANGE: [&str; 5] = [
    "--",
    ":/",
    ":(top,exclude)benches/RESULTS.md",
    ":(top,exclude)benches/results.json",
    ":(top,exclude)benches/*.svg",
];

/// When and of what something is measured that is measured now.
#[must_use]
pub fn origin() -> String {
    let status = [&["status", "--porcelain"][..], &NO_CHANGE].concat();
    let changed = if told("git", &status).is_empty() { "" } else { ", with changes that are not committed" };
    let (date, commit) =
        (told("date", &["-u", "+%Y-%m-%d %H:%M UTC"]), told("git", &["rev-parse", "--short=12", "HEAD"]));
    format!("{date}, commit {commit}{changed}")
}

/// The first line that a program prints, or nothing.
#[must_use]
pub fn told(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Puts a section, which begins with its heading of the second level, in place of the one of the same heading, and under
/// `name` among the figures.
///
/// # Errors
/// Where a file of the folder can't be read or written. What was there is then still there.
pub fn write_section(folder: &Path, name: &str, section: &str) -> Result<(), ResultsError> {
    let (text, figures) = (folder.join(TEXT), folder.join(FIGURES));
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |problem| ResultsError::File { path, problem }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let known = std::fs::read_to_string(&figures).unwrap_or_else(|_| "{}".to_owned());
    let mut known: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&known)
        .map_err(|problem| ResultsError::Figures { path: figures.display().to_string(), problem })?;
    known.insert(name.to_owned(), section.into());
    let told = std::fs::read_to_string(&text).unwrap_or_else(|_| "# Results\n".to_owned());
    std::fs::write(&text, with_section(&told, section)).map_err(failed(&text))?;
    let known = serde_json::Value::Object(known);
    std::fs::write(&figures, format!("{known:#}")).map_err(failed(&figures))
}

/// The text with the section in place of the one of the same heading, else at the end.
fn with_section(text: &str, section: &str) -> String {
    let section = section.trim();
    let heading = section.lines().next().unwrap_or_default();
    let (before, after) = match text.split_once(&format!("\n{heading}\n")) {
        Some((before, old)) => (before, old.find("\n## ").map_or("", |end| &old[end + 1..])),
        None => (text, ""),
    };
    let before = before.trim_end();
    if after.is_empty() { format!("{before}\n\n{section}\n") } else { format!("{before}\n\n{section}\n\n{after}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_last_one() {
        let old = "# Results\n\n## A\n\na\n\n## Behaviour\n\nold\n\n### Disk\n\nold\n\n## Z\n\nz\n";
        let new = "## Behaviour\n\nnew\n";
        assert_eq!(with_section(old, new), "# Results\n\n## A\n\na\n\n## Behaviour\n\nnew\n\n## Z\n\nz\n");
        assert_eq!(with_section(&with_section(old, new), new), with_section(old, new));
        assert_eq!(with_section("# Results\n", new), "# Results\n\n## Behaviour\n\nnew\n");
    }

    #[test]
    fn other_figures_stay() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FIGURES), "{\"micro\": \"m\"}").unwrap();
        write_section(folder.path(), "behaviour", "## Behaviour\n\nnew").unwrap();
        let figures = std::fs::read_to_string(folder.path().join(FIGURES)).unwrap();
        assert!(figures.contains("\"micro\": \"m\"") && figures.contains("## Behaviour"), "{figures}");
        assert_eq!(std::fs::read_to_string(folder.path().join(TEXT)).unwrap(), "# Results\n\n## Behaviour\n\nnew\n");
        std::fs::write(folder.path().join(FIGURES), "[]").unwrap();
        assert!(write_section(folder.path(), "behaviour", "## Behaviour").is_err());
    }
}
