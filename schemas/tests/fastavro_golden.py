"""Reads the golden messages with a second implementation of Avro, and writes them again to the same bytes."""

import io
import json
import pathlib
import sys

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

HERE = pathlib.Path(__file__).parent
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
}


def check(name):
    schema = json.loads((HERE.parent / "avro" / f"{name}.v1.avsc").read_text())
    message = (HERE / "golden" / f"{name}.v1.bin").read_bytes()
    canonical = to_parsing_canonical_form(schema)
    rabin = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
    assert message[:2] == b"\xc3\x01", "not a single-object header"
    assert message[2:10] == rabin, f"fingerprint {message[2:10].hex()} is not {rabin.hex()}"
    parsed = fastavro.parse_schema(schema)
    body = io.BytesIO(message[10:])
    record = fastavro.schemaless_reader(body, parsed, None)
    assert body.read() == b"", "bytes are left over"
    for field, value in EXPECTED[name].items():
        assert record[field] == value, f"{field} is {record[field]!r}, not {value!r}"
    again = io.BytesIO()
    fastavro.schemaless_writer(again, parsed, record)
    assert again.getvalue() == message[10:], "written again, the bytes differ"


failed = 0
for name in EXPECTED:
    try:
        check(name)
        print(f"ok - fastavro reads and writes {name}")
    except AssertionError as error:
        failed += 1
        print(f"not ok - fastavro reads and writes {name}: {error}")
print(f"{len(EXPECTED) - failed} passed, {failed} failed")
sys.exit(failed > 0)
