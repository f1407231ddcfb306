//! What a file looks like from outside, by which a change of it is seen. Taken before the file is read: what changes in
//! between is then read again.

use std::path::Path;
use std::time::SystemTime;

/// When a file was changed, and how long it is; nothing where it can't be looked at.
pub type Stamp = Option<(SystemTime, u64)>;

/// Looks at a file.
#[must_use]
pub fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
