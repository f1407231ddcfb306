//! Writes small databases in MaxMind's format (<https://maxmind.github.io/MaxMind-DB/>): IPv4 networks with records of
//! texts.

use std::net::Ipv4Addr;

/// A network and its record.
pub type Network<'a> = ([u8; 4], u8, &'a [(&'a str, &'a str)]);

enum Place {
    Empty,
    Node(usize),
    Data(usize),
}

const RECORD_BITS: u16 = 32;
const SEPARATOR: [u8; 16] = [0; 16];

/// The bytes of a database of this type. No network may hold another.
pub fn database(database_type: &str, networks: &[Network<'_>]) -> Vec<u8> {
    let mut nodes = vec![[Place::Empty, Place::Empty]];
    let mut data = Vec::new();
    for (address, length, record) in networks {
        let bits = u32::from(Ipv4Addr::from(*address));
        let side = |depth: u8| usize::from(bits >> (31 - depth) & 1 == 1);
        let mut at = 0;
        for depth in 0..length - 1 {
            at = match nodes[at][side(depth)] {
                Place::Node(next) => next,
                _ => {
                    nodes.push([Place::Empty, Place::Empty]);
                    let next = nodes.len() - 1;
                    nodes[at][side(depth)] = Place::Node(next);
                    next
                }
            };
        }
        nodes[at][side(length - 1)] = Place::Data(data.len());
        let texts: Vec<_> = record.iter().map(|(name, value)| (*name, text(value))).collect();
        data.extend(map(&texts));
    }
    let count = nodes.len();
    let number = |place: &Place| match place {
        Place::Empty => count,
        Place::Node(node) => *node,
        Place::Data(at) => count + SEPARATOR.len() + at,
    };
    let tree = nodes.iter().flatten().flat_map(|place| (number(place) as u32).to_be_bytes());
    let mut bytes: Vec<u8> = tree.collect();
    bytes.extend(SEPARATOR);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    bytes.extend(map(&[
        ("node_count", [&[6 << 5 | 4][..], &(count as u32).to_be_bytes()].concat()),
        ("record_size", short(RECORD_BITS)),
        ("ip_version", short(4)),
        ("database_type", text(database_type)),
        ("languages", [&[1, 4][..], &text("en")].concat()),
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        ("build_epoch", [&[8, 2][..], &1_700_000_000u64.to_be_bytes()].concat()),
        ("description", map(&[("en", text("written by a test"))])),
    ]));
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let length = text.len() as u8;
    let control = if length < 29 { vec![2 << 5 | length] } else { vec![2 << 5 | 29, length - 29] };
    [&control, text.as_bytes()].concat()
}

fn short(number: u16) -> Vec<u8> {
    [&[5 << 5 | 2][..], &number.to_be_bytes()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![7 << 5 | pairs.len() as u8];
    for (name, value) in pairs {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}
