//! A record of the spool: one message that still has to go to Kafka.
//!
//! ```text
//! length  u32   of what follows the checksum, little-endian as all numbers here
//! check   u32   CRC-32 (IEEE 802.3) of the length's four bytes and of what follows
//! time    i64   when it was spooled, Unix milliseconds
//! topic   u8    0 hits.raw, 1 hits.dead, 255 none: a probe that is skipped
//! key     u32   length of the key
//! ...           key, then value
//! ```
//!
//! A record is whole when its length and its topic are possible and its checksum is right. Bytes that a crash left behind are told from a
//! record by the checksum, which covers the length too: a run of zeros, as some file systems leave them, is none.

/// Bytes before what the checksum covers of a record's content.
const HEADER: usize = 8;
/// Bytes of the content before the key.
const FIXED: usize = 13;
/// No message is as large; a length beyond is not one. Where something is damaged, a record is looked for at each byte: the
/// less may be one, the less is summed up for it.
const LARGEST: usize = 16 * 1024 * 1024;
/// The topic of a probe.
const PROBE: u8 = 255;

/// A message that was spooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, Unix milliseconds.
    pub spooled_at: i64,
    /// True for hits.dead, false for hits.raw: kinds, since names may change with the configuration.
    pub dead: bool,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl Record<'_> {
    /// Appends the record's bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, self.spooled_at, u8::from(self.dead), self.key, self.value);
    }
}

/// Appends a record that says nothing, by which a disk is tried.
pub fn write_probe(out: &mut Vec<u8>) {
    write(out, 0, PROBE, &[], &[]);
}

fn write(out: &mut Vec<u8>, spooled_at: i64, topic: u8, key: &[u8], value: &[u8]) {
    let length = ((FIXED + key.len() + value.len()) as u32).to_le_bytes();
    out.extend_from_slice(&length);
    let check_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&spooled_at.to_le_bytes());
    out.push(topic);
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    let check = checksum(length, &out[check_at + 4..]);
    out[check_at..check_at + 4].copy_from_slice(&check.to_le_bytes());
}

fn checksum(length: [u8; 4], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(content);
    hasher.finalize()
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front<'a> {
    /// A whole record, and how many bytes it takes; nothing in it for a probe.
    Whole(Option<Record<'a>>, usize),
    /// No whole record: the end, a torn one, or damage.
    Broken,
}

/// Reads the record at the front of `bytes`.
#[must_use]
pub fn read(bytes: &[u8]) -> Front<'_> {
    parse(bytes).map_or(Front::Broken, |(record, length)| Front::Whole(record, length))
}

fn parse(bytes: &[u8]) -> Option<(Option<Record<'_>>, usize)> {
    let (length_bytes, rest) = bytes.split_first_chunk::<4>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length_bytes) as usize;
    if !(FIXED..=LARGEST).contains(&length) || length > rest.len() {
        return None;
    }
    let summed = &rest[..length];
    let (time, content) = summed.split_first_chunk::<8>()?;
    let (topic, content) = content.split_first()?;
    let (key_length, content) = content.split_first_chunk::<4>()?;
    let (key, value) = content.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    if !matches!(*topic, 0 | 1 | PROBE) || checksum(*length_bytes, summed) != u32::from_le_bytes(*check) {
        return None;
    }
    let record = Record { spooled_at: i64::from_le_bytes(*time), dead: *topic == 1, key, value };
    Some(((*topic != PROBE).then_some(record), HEADER + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record<'static> = Record { spooled_at: 7, dead: true, key: b"demo\0v", value: b"a hit" };

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        RECORD.write(&mut bytes);
        write_probe(&mut bytes);
        let first = 8 + 13 + 6 + 5;
        assert_eq!(read(&bytes), Front::Whole(Some(RECORD), first));
        assert_eq!(read(&bytes[first..]), Front::Whole(None, 8 + 13));
    }

    #[test]
    fn a_record_cut_anywhere_is_broken() {
        let mut bytes = Vec::new();
        RECORD.write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Front::Broken, "cut at {end}");
        }
    }

    #[test]
    fn a_record_with_any_bit_changed_is_broken() {
        let mut bytes = Vec::new();
        RECORD.write(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes), Front::Broken, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(read(&[0; 100]), Front::Broken);
    }
}
