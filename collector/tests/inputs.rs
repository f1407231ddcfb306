//! A million mutated inputs, below HTTP: query strings, JSON, headers, Avro messages and spool files. None may panic,
//! and none may make the process grow. The seeds of all that is tried are kept in `corpus/`, and in the golden messages of
//! the schemas.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use collector::client::{Client, Forwarding};
use collector::fields::Fields;
use collector::options::ForwardingHeader;
use collector::spool::log::{Bounds, Log};
use collector::spool::record::{self, Front, Record};
use collector::spool::storage::Folder;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use schemas::codec::decode_all;
use schemas::{EnrichedHit, RawHit, Reader};

/// How often each kind of input is tried; five kinds make a million.
const TRIES: usize = 200_000;
/// Spool files that are opened as files, each of which costs the file system some.
const FILES: usize = 2_000;
/// The process may grow by this much over a kind, which is what its largest inputs need many times over.
const LARGEST_GROWTH: usize = 64 * 1024 * 1024;

/// Changes inputs at random, from a seed that is printed.
struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    fn new(name: &str, corpus: Vec<Vec<u8>>) -> Self {
        let chosen = std::env::var("SEED").ok().map(|text| text.parse().unwrap());
        let state = chosen.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        println!("{name}: SEED={state}");
        Self { state, corpus }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random() % bound.max(1) as u64) as usize
    }

    /// One of the corpus, with one to eight changes.
    fn next(&mut self) -> Vec<u8> {
        let chosen = self.below(self.corpus.len());
        let mut input = self.corpus[chosen].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        const TELLING: &[&[u8]] = &[
            b"%",
            b"%00",
            b"%ff",
            b"\"",
            b"\\u",
            b"{",
            b"[",
            b"&",
            b"=",
            b"-1",
            b"99999999999999999999",
            b",",
            b"\x80",
            b"\x00",
        ];
        let (at, byte) = (self.below(input.len()), self.random() as u8);
        match self.below(6) {
            0 if !input.is_empty() => input[at] = byte,
            1 if !input.is_empty() => input[at] ^= 1 << (byte % 8),
            2 => input.truncate(at),
            3 => {
                let telling = TELLING[self.below(TELLING.len())];
                input.splice(at..at, telling.iter().copied());
            }
            4 => {
                let (other, length) = (self.below(self.corpus.len()), self.below(64));
                let piece: Vec<u8> = self.corpus[other].iter().skip(at).take(length).copied().collect();
                input.splice(at..at, piece);
            }
            _ => {
                let end = (at + self.below(16)).min(input.len());
                input.drain(at.min(end)..end);
            }
        }
    }
}

fn corpus(start: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let named = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(start);
    let found: Vec<_> = files.into_iter().filter(named).map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!found.is_empty(), "nothing in the corpus starts with {start}");
    found
}

/// Resident memory of the process, bytes (Linux, proc_pid_statm(5)).
fn memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Tries mutated inputs. Returns how many of them `read` took for good.
fn try_all(name: &str, corpus: Vec<Vec<u8>>, mut read: impl FnMut(&[u8]) -> bool) -> usize {
    let mut mutator = Mutator::new(name, corpus);
    let before = memory();
    let taken = (0..TRIES).filter(|_| read(&mutator.next())).count();
    let growth = memory().saturating_sub(before);
    println!("{name}: {taken} of {TRIES} were taken, memory grew by {growth} bytes");
    assert!(growth < LARGEST_GROWTH, "{name}: memory grew by {growth} bytes");
    assert!(taken > 0 && taken < TRIES, "{name}: all or none were taken, so this tries little");
    taken
}

#[test]
fn query_strings() {
    try_all("query strings", corpus("query"), |input| {
        std::str::from_utf8(input).is_ok_and(|query| Fields::from_query(query).is_ok())
    });
}

#[test]
fn json() {
    try_all("json", corpus("hit"), |input| {
        std::str::from_utf8(input).is_ok_and(|json| Fields::from_json(json).is_ok())
    });
}

#[test]
fn headers() {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    try_all("headers", corpus("headers"), |input| {
        let mut headers = HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let name = HeaderName::from_bytes(&line[..colon]);
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let mut proxied = false;
        for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
            let peer = IpAddr::from([10, 0, 0, 1]);
            let client = Client::new(peer.into(), &headers, &Forwarding { trusted: &trusted, header });
            proxied |= client.ip != peer;
            let _ = (client.host(), client.language(), client.hints(), client.cookie("hitmeter_session"));
        }
        proxied
    });
}

#[test]
fn avro_messages() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/tests/golden");
    let seeds = ["raw_hit.v1.bin", "enriched_hit.v1.bin"].map(|name| std::fs::read(golden.join(name)).unwrap());
    let (raw, enriched) = (Reader::new::<RawHit>(None).unwrap(), Reader::new::<EnrichedHit>(None).unwrap());
    try_all("avro messages", seeds.to_vec(), |input| {
        let is_raw = raw.body(input).is_ok_and(|body| decode_all::<RawHit>(&body).is_ok());
        is_raw || enriched.body(input).is_ok_and(|body| decode_all::<EnrichedHit>(&body).is_ok())
    });
}

fn spool_file() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..5_u8 {
        Record { spooled_at: 1, dead: number == 3, key: &[number; 9], value: &[number; 40] }.write(&mut bytes);
    }
    record::write_probe(&mut bytes);
    bytes
}

#[test]
fn spool_files() {
    try_all("spool records", vec![spool_file()], |input| matches!(record::read(input), Front::Whole(..)));
    let mut mutator = Mutator::new("spool files", vec![spool_file()]);
    let folder = tempfile::tempdir().unwrap();
    let bounds = Bounds { bytes: 100_000, segment_bytes: 1000 };
    for _ in 0..FILES {
        std::fs::write(folder.path().join(format!("{:020}.spool", 0)), mutator.next()).unwrap();
        let mut log = Log::open(Folder::open(folder.path()).unwrap(), bounds, |_, _| ()).unwrap();
        // Each step goes on behind what it read, or could not read, so that this ends.
        loop {
            match log.peek(100, None, |_, _| ()) {
                Ok(Some(to)) => log.advance(to).unwrap(),
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::InvalidData => drop(log.pass_damage().unwrap().unwrap()),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(log.bytes(), 0);
        drop(log);
        std::fs::remove_file(folder.path().join("position")).unwrap_or_default();
    }
}
