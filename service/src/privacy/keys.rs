//! The keys that hash what names a person, and what exactly is hashed.
//!
//! The file has a key a line, the newest first: a name, and 32 bytes as hex digits. New directives are hashed with the
//! newest. An older key stays in the file as long as directives that were hashed with it are to hold.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use schemas::{PrivacyAction, PrivacyDirective, SubjectKind};
use sha2::Sha256;

/// A keyed hash of what names a person.
pub type Subject = [u8; 32];

/// One key.
#[derive(Clone)]
pub struct Key {
    name: String,
    start: Hmac<Sha256>,
}

/// All keys, the newest first.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    keys: Vec<Key>,
}

/// Why a file of keys is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It can't be read.
    #[error("cannot read the privacy keys {}: {cause}; give their path with --privacy-keys", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// It is not what it should be.
    #[error(
        "line {line} of the privacy keys {}: {reason}; write a name and 64 hex digits, as from `openssl rand -hex 32`",
        path.display()
    )]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It was read again, and lacks what it had.
    #[error(
        "key {name:?} is not in the privacy keys {} any more, or is another one, and there are directives that were hashed \
         with it; put it back below the new one",
        path.display()
    )]
    Lost {
        /// Which.
        path: PathBuf,
        /// Name of the key.
        name: String,
    },
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it makes of nothing and nobody, lower-case hex: by that another key under its name is told from it.
    #[must_use]
    pub fn mark(&self) -> String {
        hex::encode(self.hash("", SubjectKind::Unknown, ""))
    }

    /// The hash of what names a person at a site. `value` is [normal](normal) already.
    #[must_use]
    pub fn hash(&self, site: &str, kind: SubjectKind, value: &str) -> Subject {
        let mut mac = self.start.clone();
        for part in [site, kind.as_str(), value] {
            mac.update(part.as_bytes());
            // None of them holds a zero byte.
            mac.update(&[0]);
        }
        mac.finalize().into_bytes().into()
    }
}

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it can't be read or is wrong.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        let text = std::fs::read_to_string(path).map_err(|cause| KeysError::Read { path: path.to_owned(), cause })?;
        let wrong = |line: usize, reason| KeysError::Wrong { path: path.to_owned(), line, reason };
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = read_key(line).map_err(|reason| wrong(index + 1, reason))?;
            if keys.iter().any(|other| other.name == key.name) {
                return Err(wrong(index + 1, "its name was given before"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(wrong(1, "there is no key"));
        }
        Ok(Self { path: path.to_owned(), keys })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// Where it can't be read, is wrong, or lacks one of these keys that is still needed.
    pub fn renewed(&self, is_needed: impl Fn(&Key) -> bool) -> Result<Self, KeysError> {
        let renewed = Self::open(&self.path)?;
        let is_there = |key: &Key| renewed.get(&key.name).is_some_and(|other| other.mark() == key.mark());
        match self.iter().find(|key| is_needed(key) && !is_there(key)) {
            Some(lost) => Err(KeysError::Lost { path: self.path.clone(), name: lost.name.clone() }),
            None => Ok(renewed),
        }
    }

    /// The one that new directives are hashed with.
    #[must_use]
    pub fn newest(&self) -> &Key {
        &self.keys[0]
    }

    /// The key of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Holds the keys against what a directive was hashed with, or the mark of a key.
    ///
    /// # Errors
    /// Where the key is missing, or is another one.
    pub fn check(&self, directive: &PrivacyDirective<'_>) -> Result<(), KeysError> {
        let name = directive.key_name.as_ref();
        let is_right = |key: &Key| !is_mark(directive) || key.mark() == directive.subject;
        if self.get(name).is_some_and(is_right) {
            return Ok(());
        }
        Err(KeysError::Lost { path: self.path.clone(), name: name.to_owned() })
    }

    /// All of them, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

/// Whether a directive asks nothing, and tells the [mark](Key::mark) of the key that the others were hashed with.
#[must_use]
pub fn is_mark(directive: &PrivacyDirective<'_>) -> bool {
    directive.action == PrivacyAction::Unknown && directive.site.is_empty() && directive.report.is_none()
}

fn read_key(line: &str) -> Result<Key, &'static str> {
    let (name, digits) = line.trim().split_once(char::is_whitespace).ok_or("it has one word")?;
    let bytes = hex::decode(digits.trim()).map_err(|_| "its second word is not hex digits")?;
    if bytes.len() != 32 {
        return Err("its key does not have 32 bytes");
    }
    let start = Hmac::new_from_slice(&bytes).map_err(|_| "its key is of no use")?;
    Ok(Key { name: name.to_owned(), start })
}

/// The one way in which an identifier is written before it is hashed, so that what is equal is found equal. Empty where it
/// names nobody.
#[must_use]
pub fn normal(kind: SubjectKind, value: &str) -> String {
    let value = value.trim();
    match kind {
        SubjectKind::Email => value.to_lowercase(),
        SubjectKind::Phone => {
            let digits: String = value.chars().filter(char::is_ascii_digit).collect();
            match digits.strip_prefix("00") {
                _ if digits.is_empty() => digits,
                Some(international) => format!("+{international}"),
                None if value.starts_with('+') => format!("+{digits}"),
                None => digits,
            }
        }
        SubjectKind::VisitorId | SubjectKind::Unknown => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<Keys, KeysError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Keys::open(file.path())
    }

    #[test]
    fn the_newest_key_is_the_first() {
        let keys = open(&format!("second {}\n\nfirst {}\n", "ab".repeat(32), "cd".repeat(32))).unwrap();
        assert_eq!(keys.newest().name(), "second");
        let hash = |name| keys.get(name).unwrap().hash("shop", SubjectKind::VisitorId, "v");
        assert_ne!(hash("first"), hash("second"));
        assert!(!format!("{keys:?}").contains("abab"));
    }

    #[test]
    fn a_file_that_is_read_again_must_have_what_is_needed_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let renewed = |keys: &Keys, text: &str| {
            std::fs::write(file.path(), text).unwrap();
            keys.renewed(|key| key.name() == "one").map(|keys| keys.newest().name().to_owned())
        };
        let [one, two, other] = ["one ab", "two cd", "one ef"].map(|start| start.to_owned() + &start[4..].repeat(31));
        std::fs::write(file.path(), format!("{two}\n{one}")).unwrap();
        let keys = Keys::open(file.path()).unwrap();
        assert_eq!(renewed(&keys, &one).unwrap(), "one");
        for text in [&two, &format!("{two}\n{other}")] {
            assert!(matches!(renewed(&keys, text), Err(KeysError::Lost { name, .. }) if name == "one"), "{text}");
        }
        assert!(matches!(renewed(&keys, "nothing"), Err(KeysError::Wrong { line: 1, .. })));
    }

    #[test]
    fn site_and_kind_are_part_of_a_hash() {
        let keys = open(&format!("one {}", "00".repeat(32))).unwrap();
        let key = keys.newest();
        let hash = key.hash("shop", SubjectKind::VisitorId, "v");
        assert_ne!(hash, key.hash("blog", SubjectKind::VisitorId, "v"));
        assert_ne!(hash, key.hash("shop", SubjectKind::Email, "v"));
        assert_ne!(key.hash("a", SubjectKind::VisitorId, "bc"), key.hash("ab", SubjectKind::VisitorId, "c"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expected) in [
            ("", "no key"),
            ("one\n", "line 1"),
            ("\none abcd\n", "line 2"),
            (&format!("one {0}\none {0}", "ab".repeat(32)), "line 2"),
            (&format!("one {}", "xy".repeat(32)), "not hex"),
        ] {
            let error = open(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} does not say {expected}");
        }
    }

    #[test]
    fn one_address_is_one_subject_however_it_is_written() {
        assert_eq!(normal(SubjectKind::Email, " Ada@Example.COM "), "ada@example.com");
        assert_eq!(normal(SubjectKind::Phone, "+49 (30) 47-11"), "+49304711");
        assert_eq!(normal(SubjectKind::Phone, "0049 30 4711"), "+49304711");
        assert_eq!(normal(SubjectKind::Phone, "030/4711"), "0304711");
        assert_eq!(normal(SubjectKind::Phone, "n/a"), "");
        assert_eq!(normal(SubjectKind::VisitorId, "V-1"), "V-1");
    }
}
