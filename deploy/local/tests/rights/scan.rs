//! Finds what names people, wherever it was copied to: in rows, messages, files.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ledger::Hit;
use crate::people::Subject;

/// What names somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// Their address, or its hash.
    Email,
    /// Their number.
    Phone,
    /// Their name.
    Name,
    /// What their name is corrected to.
    Correction,
    /// What stands in properties and queries.
    Account,
    /// What a partner knows.
    Attribute,
    /// A device.
    Visitor,
    /// A session.
    Session,
    /// Where a device comes from.
    Address,
    /// A hit, by its place in the ledger.
    Hit(usize),
}

/// Something that was found: whose it is, and what.
pub type Found = (usize, What);

/// Everything that names anybody.
#[derive(Default)]
pub struct Needles {
    words: HashMap<String, Vec<Found>>,
    ids: HashMap<u128, Vec<Found>>,
    addresses: HashMap<Ipv4Addr, Vec<Found>>,
}

/// Letters and digits of a mark: `zq` and ten more.
const MARK: usize = 12;
/// Digits of a telephone number without the country's.
const PHONE: usize = 12;
/// Hexadecimal digits of a hash.
const HASH: usize = 64;
/// Characters of a written id.
const ID: usize = 36;

impl Needles {
    /// Of these people and these hits.
    pub fn new(subjects: &[Subject], hits: &[Hit]) -> Self {
        let mut needles = Self::default();
        for subject in subjects {
            let number = subject.number;
            let mut word =
                |word: &str, what| needles.words.entry(word.to_lowercase()).or_default().push((number, what));
            word(&subject.email[..MARK], What::Email);
            word(&hex::encode(Sha256::digest(&subject.email)), What::Email);
            word(&subject.phone[2..], What::Phone);
            word(&subject.name[..MARK], What::Name);
            word(&subject.corrected[..MARK], What::Correction);
            word(&subject.account, What::Account);
            subject.attribute.iter().for_each(|attribute| word(attribute, What::Attribute));
            for device in &subject.devices {
                word(&device.visitor, What::Visitor);
                needles.addresses.entry(device.address).or_default().push((number, What::Address));
                for session in device.sessions {
                    needles.ids.entry(session.as_u128()).or_default().push((number, What::Session));
                }
            }
        }
        for (place, hit) in hits.iter().enumerate() {
            needles.ids.entry(hit.id.as_u128()).or_default().push((hit.subject, What::Hit(place)));
        }
        needles
    }

    /// What stands in a text, or in bytes that hold texts; each as often as it stands there.
    pub fn find(&self, bytes: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        for start in 0..bytes.len() {
            let rest = &bytes[start..];
            let is_first = |belongs: fn(&u8) -> bool| start == 0 || !belongs(&bytes[start - 1]);
            let run = |belongs: fn(&u8) -> bool| rest.iter().take_while(|byte| belongs(byte)).count();
            match rest[0] {
                b'z' | b'Z' => self.find_word(rest, MARK, &mut found),
                b'7' => self.find_word(rest, PHONE, &mut found),
                b'1' if rest.starts_with(b"198.") => self.find_address(rest, &mut found),
                _ => {}
            }
            if rest[0].is_ascii_hexdigit() && is_first(u8::is_ascii_hexdigit) {
                match run(u8::is_ascii_hexdigit) {
                    HASH => self.find_word(rest, HASH, &mut found),
                    8 => self.find_written_id(rest, &mut found),
                    _ => {}
                }
            }
            self.find_id(rest, &mut found);
        }
        found
    }

    fn find_word(&self, rest: &[u8], length: usize, found: &mut Vec<Found>) {
        let word = rest.get(..length).and_then(|word| std::str::from_utf8(word).ok());
        found.extend(word.and_then(|word| self.words.get(&word.to_lowercase())).into_iter().flatten());
    }

    fn find_address(&self, rest: &[u8], found: &mut Vec<Found>) {
        let end = rest.iter().take(15).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let text = std::str::from_utf8(&rest[..end]).unwrap_or_default().trim_end_matches('.');
        let address = text.parse::<Ipv4Addr>().ok();
        found.extend(address.and_then(|address| self.addresses.get(&address)).into_iter().flatten());
    }

    fn find_written_id(&self, rest: &[u8], found: &mut Vec<Found>) {
        let text = rest.get(..ID).and_then(|text| std::str::from_utf8(text).ok());
        let id = text.and_then(|text| Uuid::try_parse(text).ok());
        found.extend(id.and_then(|id| self.ids.get(&id.as_u128())).into_iter().flatten());
    }

    /// An id as 16 bytes. Its version and variant stand at fixed places, which spares most of the looking.
    fn find_id(&self, rest: &[u8], found: &mut Vec<Found>) {
        let Some(bytes) = rest.first_chunk::<16>() else { return };
        if matches!(bytes[6] >> 4, 4 | 7) && bytes[8] >> 6 == 2 {
            found.extend(self.ids.get(&u128::from_be_bytes(*bytes)).into_iter().flatten());
        }
    }
}

/// Texts as they stand in a list of a statement. None of them holds a quote.
pub fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(|text| format!("'{text}'")).collect::<Vec<_>>().join(", ")
}

/// The search is itself held against what it has to find: else nothing found would mean nothing.
#[test]
fn everything_that_names_somebody_is_found_however_it_stands_there() {
    let subjects = crate::people::draw(7, 20);
    let needles = Needles::new(&subjects, &[]);
    let mut random = fastrand::Rng::with_seed(7);
    for subject in &subjects {
        let device = &subject.devices[0];
        let texts = [
            (What::Email, format!("x{}?", subject.written_email(&mut random))),
            (What::Email, hex::encode(Sha256::digest(&subject.email))),
            (What::Phone, format!("\"{}\"", subject.written_phone(&mut random))),
            (What::Phone, subject.phone.clone()),
            (What::Name, subject.name.to_uppercase()),
            (What::Account, format!("%3Faccount%3D{}%26", subject.account)),
            (What::Visitor, format!("shop\0{}", device.visitor)),
            (What::Address, format!("'::ffff:{}'", device.address)),
            (What::Address, format!("{}.", device.address)),
            (What::Session, format!("'{}'", device.sessions[0])),
        ];
        for (what, text) in texts {
            assert!(needles.find(text.as_bytes()).contains(&(subject.number, what)), "{what:?} in {text:?}");
        }
        let binary = [&b"ab"[..], device.sessions[1].as_bytes(), b"c"].concat();
        assert!(needles.find(&binary).contains(&(subject.number, What::Session)));
    }
    assert_eq!(needles.find(b"zq00001 198.18.0.1x 2026-11-25 12:00:00 4970000000"), []);
}
