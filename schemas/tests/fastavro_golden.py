"""Reads the golden messages with a second implementation of Avro, and writes them again to the same bytes."""

import datetime
import io
import json
import pathlib
import struct
import sys

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

HERE = pathlib.Path(__file__).parent
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
EXPECTED = {
    "raw_hit": {
        "site": "demo",
        "protocol": "tag",
        "kind": "form",
        "page_url": "https://www.example.com/contact?a=ä",
        "duration_ms": 15000,
        "screen_width": 1920,
        "screen_height": 1080,
        "properties": {"plan": "pro"},
        "sent_at": None,
        "tag_version": "1",
    },
    "enriched_hit": {
        "clock_skew_ms": -500,
        "is_bot": True,
        "enrichment_errors": ["page_url_unreadable"],
    },
    "dead_letter": {
        "stage": "enricher",
        "reason": "undecodable",
        "original": b"\xc3\x01\xff",
        "source_partition": 7,
        "source_offset": 1 << 40,
    },
    "partner_record": {
        "match_kind": "email_domain",
        "match_value": "example.com",
        "attributes": {"industry": "pumps"},
        "permitted_uses": ["measurement"],
        "valid_until": None,
    },
    "privacy_directive": {
        "site": "demo",
        "report": {"stage": "sink", "state": "done", "instance": "", "rows": 7, "reported_at": EPOCH},
    },
}
# In Confluent's format: a zero byte and the id that the registry gave the schema, big-endian.
CONFLUENT = {"raw_hit": {"site": "demo", "page_url": "", "session_id": None}}


def schema_of(name):
    return json.loads((HERE.parent / "avro" / f"{name}.v1.avsc").read_text())


def check_single_object(name):
    schema = schema_of(name)
    message = (HERE / "golden" / f"{name}.v1.bin").read_bytes()
    rabin = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    assert message[:2] == b"\xc3\x01", "not a single-object header"
    assert message[2:10] == rabin, f"fingerprint {message[2:10].hex()} is not {rabin.hex()}"
    check_body(schema, message[10:], EXPECTED[name])


def check_confluent(name):
    message = (HERE / "golden" / f"{name}.v1.confluent.bin").read_bytes()
    assert struct.unpack(">bI", message[:5]) == (0, 1), "not Confluent's header with the first id"
    check_body(schema_of(name), message[5:], CONFLUENT[name])


def check_body(schema, bytes_of_body, expected):
    parsed = fastavro.parse_schema(schema)
    body = io.BytesIO(bytes_of_body)
    record = fastavro.schemaless_reader(body, parsed, None)
    assert body.read() == b"", "bytes are left over"
    for field, value in expected.items():
        assert record[field] == value, f"{field} is {record[field]!r}, not {value!r}"
    again = io.BytesIO()
    fastavro.schemaless_writer(again, parsed, record)
    assert again.getvalue() == bytes_of_body, "written again, the bytes differ"


failed = 0
checks = [(check_single_object, name, "") for name in EXPECTED]
checks += [(check_confluent, name, " in Confluent's format") for name in CONFLUENT]
for check, name, form in checks:
    try:
        check(name)
        print(f"ok - fastavro reads and writes {name}{form}")
    except AssertionError as error:
        failed += 1
        print(f"not ok - fastavro reads and writes {name}{form}: {error}")
print(f"{len(checks) - failed} passed, {failed} failed")
sys.exit(failed > 0)
