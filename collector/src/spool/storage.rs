//! Where segments are kept: a folder, or in tests a disk that fails as it is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A place for numbered segments.
pub trait Storage: Send {
    /// A segment that is being written.
    type Segment: Segment;

    /// Numbers of the segments that are there, ascending.
    ///
    /// # Errors
    /// As the disk says.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// Makes an empty segment that is there after a crash.
    ///
    /// # Errors
    /// As the disk says.
    fn create(&self, number: u64) -> io::Result<Self::Segment>;
    /// Bytes of a segment from an offset on, `most` at the most.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where everything is there but the segment; otherwise as the disk says.
    fn read(&self, number: u64, offset: u64, most: usize) -> io::Result<Vec<u8>>;
    /// Removes a segment.
    ///
    /// # Errors
    /// As the disk says.
    fn remove(&self, number: u64) -> io::Result<()>;
    /// Sets a damaged segment aside under another name, for a person to look at.
    ///
    /// # Errors
    /// As the disk says.
    fn set_aside(&self, number: u64) -> io::Result<()>;
    /// Keeps how far the first segment was replayed. It may be lost in a crash: then some is replayed twice.
    ///
    /// # Errors
    /// As the disk says.
    fn keep_position(&self, position: &str) -> io::Result<()>;
    /// What was kept last, if anything.
    fn position(&self) -> Option<String>;
}

/// A segment that is being written.
pub trait Segment: Send {
    /// Adds bytes at the end. After an error some of them may be there.
    ///
    /// # Errors
    /// As the disk says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once all that was added is on the disk.
    ///
    /// # Errors
    /// As the disk says. What was added may then be on the disk or not, and asking again tells nothing (Linux reports
    /// a lost write once).
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held as long as the folder is used: two collectors on one would replay each other's hits.
    _lock: File,
    /// The disk that it was on when it was opened.
    disk: u64,
}

/// The name of a segment's file.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("{number:020}.spool")
}

impl Folder {
    /// Opens a folder, which is made where there is none.
    ///
    /// # Errors
    /// Where it can't be made or written, or another process uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        std::fs::create_dir_all(path)?;
        // A folder that a crash takes back takes its segments along.
        for parent in missing.iter().filter_map(|made| made.parent()) {
            sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => io::Error::other("another collector uses it"),
            std::fs::TryLockError::Error(error) => error,
        })?;
        let disk = std::fs::metadata(path)?.dev();
        Ok(Self { path: path.to_owned(), _lock: lock, disk })
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(file_name(number))
    }

    /// Opens a segment. Where a disk was taken away, another one shows in its place and has none of the segments: they are
    /// not gone, and the error says something else.
    fn open_segment(&self, number: u64) -> io::Result<File> {
        let error = match File::open(self.file(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            result => return result,
        };
        let is_same_disk = std::fs::metadata(&self.path).is_ok_and(|folder| folder.dev() == self.disk);
        Err(if is_same_disk {
            error
        } else {
            io::Error::other("the folder is gone or on another disk; is one unmounted?")
        })
    }

    /// Makes what was created, renamed or removed in the folder last.
    fn sync_folder(&self) -> io::Result<()> {
        sync(&self.path)
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Storage for Folder {
    type Segment = File;

    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".spool"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn create(&self, number: u64) -> io::Result<File> {
        let file = OpenOptions::new().create_new(true).append(true).open(self.file(number))?;
        self.sync_folder()?;
        Ok(file)
    }

    fn read(&self, number: u64, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut file = self.open_segment(number)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        std::fs::remove_file(self.file(number))
    }

    fn set_aside(&self, number: u64) -> io::Result<()> {
        std::fs::rename(self.file(number), self.file(number).with_extension("damaged"))?;
        // It is aside now. If a crash brings the old name back, it is found unreadable once more, and set aside again.
        let _ = self.sync_folder();
        Ok(())
    }

    fn keep_position(&self, position: &str) -> io::Result<()> {
        let new = self.path.join("position.new");
        std::fs::write(&new, position)?;
        std::fs::rename(new, self.path.join("position"))
    }

    fn position(&self) -> Option<String> {
        std::fs::read_to_string(self.path.join("position")).ok()
    }
}

impl Segment for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_gone_only_where_the_disk_is_there() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(&place.path().join("spool")).unwrap();
        folder.create(3).unwrap();
        assert_eq!(folder.read(3, 0, 10).unwrap(), b"");
        folder.remove(3).unwrap();
        assert_eq!(folder.read(3, 0, 10).unwrap_err().kind(), io::ErrorKind::NotFound);
        // As when another file system shows there.
        folder.disk += 1;
        assert_eq!(folder.read(3, 0, 10).unwrap_err().kind(), io::ErrorKind::Other);
        folder.disk -= 1;
        std::fs::remove_dir_all(place.path().join("spool")).unwrap();
        assert_eq!(folder.read(3, 0, 10).unwrap_err().kind(), io::ErrorKind::Other);
    }
}
