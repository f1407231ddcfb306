//! Holds the schemas against each other, against what was shipped, and the Rust types against them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use schemas::wire::{fingerprint, parse_versions};
use schemas::{
    Campaign, Consent, Contact, DeadLetter, Device, EnrichedHit, Network, PageAddress, PartnerMatch, PartnerRecord,
    Place, PrivacyDirective, RawHit, Record, Source, StageReport,
};

/// Fingerprints of all versions that were ever shipped. A line is added with a version and never changed.
const SHIPPED: &[(&str, usize, &str)] = &[
    ("hitmeter.RawHit", 1, "f49d71f83d87db48"),
    ("hitmeter.EnrichedHit", 1, "37e08572b9efb9f5"),
    ("hitmeter.DeadLetter", 1, "26e2729722310ca1"),
    ("hitmeter.PartnerRecord", 1, "f527cd3120091e9b"),
    ("hitmeter.PrivacyDirective", 1, "e7c676975639eeeb"),
];

fn versions() -> Vec<(&'static str, Vec<Schema>)> {
    fn of<R: Record>() -> (&'static str, Vec<Schema>) {
        (R::NAME, parse_versions::<R>().unwrap())
    }
    vec![of::<RawHit>(), of::<EnrichedHit>(), of::<DeadLetter>(), of::<PartnerRecord>(), of::<PrivacyDirective>()]
}

#[test]
fn a_shipped_version_is_never_edited() {
    let hex =
        |schema: &Schema| fingerprint(schema).unwrap().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let now: Vec<_> = versions()
        .iter()
        .flat_map(|(name, all)| all.iter().enumerate().map(|(index, schema)| (*name, index + 1, hex(schema))))
        .collect();
    let shipped: Vec<_> = SHIPPED.iter().map(|(name, version, print)| (*name, *version, (*print).to_owned())).collect();
    assert_eq!(now, shipped);
}

/// The fingerprint of `"null"` that the Avro specification's own implementation gives, little-endian.
#[test]
fn fingerprints_are_the_specifications() {
    let null = fingerprint(&Schema::parse_str("\"null\"").unwrap()).unwrap();
    assert_eq!(u64::from_le_bytes(null), 0x63dd_24e7_cc25_8f8a);
    let time = Schema::parse_str(r#"{"type":"long","logicalType":"timestamp-millis"}"#).unwrap();
    let long = Schema::parse_str("\"long\"").unwrap();
    assert_eq!(fingerprint(&time).unwrap(), fingerprint(&long).unwrap());
}

#[test]
fn every_version_reads_every_other() {
    for (name, all) in versions() {
        for (writer, reader) in all.iter().flat_map(|writer| all.iter().map(move |reader| (writer, reader))) {
            SchemaCompatibility::can_read(writer, reader).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// The check above can fail: a field without a default breaks it; one with a default does not.
#[test]
fn an_incompatible_change_is_noticed() {
    let current = RawHit::VERSIONS.last().unwrap();
    let added = current.replacen("\"fields\": [", "\"fields\": [{\"name\": \"added\", \"type\": \"string\"},", 1);
    let (old, new) = (Schema::parse_str(current).unwrap(), Schema::parse_str(&added).unwrap());
    assert!(SchemaCompatibility::can_read(&old, &new).is_err());
    let harmless = added.replacen("\"type\": \"string\"}", "\"type\": \"string\", \"default\": \"\"}", 1);
    assert!(SchemaCompatibility::mutual_read(&old, &Schema::parse_str(&harmless).unwrap()).is_ok());
}

/// A record's name, and its fields with their docs.
type Fields = (String, Vec<(String, Option<String>)>);

/// Every record within a schema.
fn fields_of(schema: &Schema, found: &mut Vec<Fields>) {
    match schema {
        Schema::Record(record) => {
            let fields = record.fields.iter().map(|field| (field.name.clone(), field.doc.clone())).collect();
            found.push((record.name.name.clone(), fields));
            record.fields.iter().for_each(|field| fields_of(&field.schema, found));
        }
        Schema::Union(union) => union.variants().iter().for_each(|variant| fields_of(variant, found)),
        _ => {}
    }
}

#[test]
fn the_rust_types_have_the_fields_of_the_schemas_in_their_order() {
    let types: &[(&str, &[&str])] = &[
        ("RawHit", RawHit::FIELDS),
        ("Contact", Contact::FIELDS),
        ("Consent", Consent::FIELDS),
        ("EnrichedHit", EnrichedHit::FIELDS),
        ("PageAddress", PageAddress::FIELDS),
        ("Source", Source::FIELDS),
        ("Campaign", Campaign::FIELDS),
        ("Device", Device::FIELDS),
        ("Place", Place::FIELDS),
        ("Network", Network::FIELDS),
        ("PartnerMatch", PartnerMatch::FIELDS),
        ("DeadLetter", DeadLetter::FIELDS),
        ("PartnerRecord", PartnerRecord::FIELDS),
        ("PrivacyDirective", PrivacyDirective::FIELDS),
        ("StageReport", StageReport::FIELDS),
    ];
    for (_, all) in versions() {
        let mut found = Vec::new();
        fields_of(all.last().unwrap(), &mut found);
        for (record, fields) in found {
            let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let (_, expected) =
                types.iter().find(|(name, _)| *name == record).unwrap_or_else(|| panic!("no type {record}"));
            assert_eq!(&names, expected, "{record}");
            for (field, doc) in &fields {
                assert!(doc.as_ref().is_some_and(|doc| !doc.is_empty()), "{record}.{field} has no doc");
            }
        }
    }
}

#[test]
fn the_hit_inside_an_enriched_hit_is_the_raw_hit() {
    let enriched = parse_versions::<EnrichedHit>().unwrap().pop().unwrap();
    let raw = parse_versions::<RawHit>().unwrap().pop().unwrap();
    let Schema::Record(record) = &enriched else { panic!("not a record") };
    assert_eq!(record.fields[0].schema.canonical_form(), raw.canonical_form());
}
