//! Confluent's wire format and registry, against a registry of our own that answers as its REST interface says: no real
//! one can be had from the package registries that the tests may use.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use schemas::codec::decode_all;
use schemas::registry::{Registry, RegistryError};
use schemas::{RawHit, Reader, Record, WireError, Writer};

/// Keeps the schemas it is given, by id from 1. Refuses subjects that start with "closed".
fn start_registry() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let schemas = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&schemas);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &kept);
        }
    });
    (url, schemas)
}

fn answer(mut stream: TcpStream, schemas: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request).unwrap();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let (status, answer) = if path.starts_with("/subjects/closed") {
        ("409 Conflict", r#"{"error_code":409,"message":"incompatible"}"#.to_owned())
    } else if path.starts_with("/subjects/") {
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let mut kept = schemas.lock().unwrap();
        kept.push(value["schema"].as_str().unwrap().to_owned());
        ("200 OK", serde_json::json!({ "id": kept.len() }).to_string())
    } else {
        let id: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        match schemas.lock().unwrap().get(id - 1) {
            Some(schema) => ("200 OK", serde_json::json!({ "schema": schema }).to_string()),
            None => ("404 Not Found", r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
        }
    };
    let length = answer.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}").unwrap();
}

#[test]
fn with_a_registry_messages_are_in_confluents_format_and_readers_take_both() {
    let (url, _) = start_registry();
    let registry = Registry::new(&url);
    let hit = RawHit { site: "demo".into(), received_at: 7, ..RawHit::default() };
    let mut message = Vec::new();
    Writer::for_topic::<RawHit>("hits.raw", Some(&registry)).unwrap().write(&hit, &mut message);
    assert_eq!(message[..5], [0, 0, 0, 0, 1]);
    // Read by another implementation in `fastavro_golden.py`. `WRITE_GOLDEN=1` writes it anew.
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/raw_hit.v1.confluent.bin");
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&golden, &message).unwrap();
    }
    assert_eq!(std::fs::read(golden).unwrap(), message);

    let reader = Reader::new::<RawHit>(Some(registry)).unwrap();
    assert_eq!(decode_all::<RawHit>(&reader.body(&message).unwrap()).unwrap(), hit);
    let mut single = Vec::new();
    Writer::for_topic::<RawHit>("hits.raw", None).unwrap().write(&hit, &mut single);
    assert_eq!(single[..2], [0xc3, 1]);
    assert_eq!(decode_all::<RawHit>(&reader.body(&single).unwrap()).unwrap(), hit);
}

#[test]
fn another_version_is_resolved_into_the_current_one() {
    let (url, schemas) = start_registry();
    let current = *RawHit::VERSIONS.last().unwrap();
    // As a later version would be: a field more, at the front, with a default.
    let later = current.replacen(
        "\"fields\": [",
        "\"fields\": [{\"name\": \"added\", \"type\": \"string\", \"default\": \"\"},",
        1,
    );
    schemas.lock().unwrap().push(later);
    let hit = RawHit { site: "demo".into(), received_at: 7, ..RawHit::default() };
    let mut message = vec![0, 0, 0, 0, 1];
    message.extend_from_slice(&[6, b'n', b'e', b'w']);
    schemas::Encode::encode(&hit, &mut message);
    let reader = Reader::new::<RawHit>(Some(Registry::new(&url))).unwrap();
    let body = reader.body(&message).unwrap();
    assert_eq!(decode_all::<RawHit>(&body).unwrap(), hit);
}

#[test]
fn what_the_registry_says_is_told() {
    let (url, _) = start_registry();
    let registry = Registry::new(&url);
    let refused = Writer::for_topic::<RawHit>("closed", Some(&registry)).unwrap_err();
    assert!(refused.to_string().contains("409") && !refused.is_transient(), "{refused}");
    let reader = Reader::new::<RawHit>(Some(registry)).unwrap();
    assert!(matches!(
        reader.body(&[0, 0, 0, 0, 9, 1]),
        Err(WireError::Registry(RegistryError::Refused { status: 404, .. }))
    ));

    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = Writer::for_topic::<RawHit>("t", Some(&Registry::new(&format!("http://{gone}")))).unwrap_err();
    assert!(unreachable.is_transient() && unreachable.to_string().contains("--schema-registry"), "{unreachable}");
}
