//! What a file looks like from outside, by which a change of it is seen. Taken before the file is read: what changes in
//! between is then read again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// When a file was changed, seconds and their billionths: what is in it, and what is known of it, as who may read it.
type Times = [(i64, i64); 2];

/// When a file was changed, and how long it is; nothing where it can't be looked at.
pub type Stamp = Option<(Times, u64)>;

/// Looks at a file.
#[must_use]
pub fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((times(&metadata), metadata.len()))
}

fn times(metadata: &Metadata) -> Times {
    [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())]
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_file_that_may_be_read_now_has_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        set_permissions(file.path(), Permissions::from_mode(0o000)).unwrap();
        let before = stamp(file.path());
        assert_eq!(stamp(file.path()), before);
        // Times of files move on by milliseconds only.
        let deadline = Instant::now() + Duration::from_secs(10);
        while stamp(file.path()) == before {
            assert!(Instant::now() < deadline);
            set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
        }
    }
}
