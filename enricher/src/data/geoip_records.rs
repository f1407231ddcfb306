//! What stands in the records of GeoIP databases.
//!
//! MaxMind's city records are nested (`country.iso_code`, `city.names.en`); others that use the same file format are
//! flat (`country_code`, `city`). Network records differ in the names of their fields only.

use std::net::IpAddr;

use maxminddb::{MaxMindDbError, Reader, WithinOptions, path};
use schemas::{Network, Place, Text};
use serde::Deserialize;

use super::geoip::DatabaseKind;

/// How records of a city database are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Nested,
    Flat,
}

/// Records that are looked at to learn what a database holds.
const SAMPLE: usize = 1_000;

impl Layout {
    /// Learns the layout from the first records, and that the database is of its kind at all.
    pub fn of(kind: DatabaseKind, reader: &Reader<Vec<u8>>) -> Result<Self, String> {
        let networks = reader.networks(WithinOptions::default()).map_err(|error| error.to_string())?;
        for record in networks.take(SAMPLE).flatten() {
            let has = |path: &[maxminddb::PathElement<'_>]| {
                matches!(record.decode_path::<serde::de::IgnoredAny>(path), Ok(Some(_)))
            };
            let found = match kind {
                DatabaseKind::City if has(&path!["country", "iso_code"]) => Some(Self::Nested),
                DatabaseKind::City if has(&path!["country_code"]) => Some(Self::Flat),
                DatabaseKind::Network => {
                    (has(&path!["autonomous_system_number"]) || has(&path!["asn"])).then_some(Self::Flat)
                }
                DatabaseKind::City => None,
            };
            if let Some(layout) = found {
                return Ok(layout);
            }
        }
        let holds = &reader.metadata().database_type;
        Err(format!(
            "it holds {holds:?}, whose records have no {}",
            match kind {
                DatabaseKind::City => "country",
                DatabaseKind::Network => "autonomous system number",
            }
        ))
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Nested<'a> {
    #[serde(borrow)]
    country: Country<'a>,
    #[serde(borrow)]
    subdivisions: Vec<Named<'a>>,
    #[serde(borrow)]
    city: Named<'a>,
    #[serde(borrow)]
    location: Location<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Country<'a> {
    iso_code: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named<'a> {
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: Names<'a>,
}

/// Names in English, so that a city has one name whoever visits.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Names<'a> {
    en: Option<&'a str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Location<'a> {
    latitude: Option<f64>,
    longitude: Option<f64>,
    time_zone: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Flat<'a> {
    country_code: &'a str,
    state1: &'a str,
    city: &'a str,
    latitude: Option<f64>,
    longitude: Option<f64>,
    timezone: Option<&'a str>,
}

fn owned(text: &str) -> Text<'static> {
    Text::Owned(text.to_owned())
}

/// Where an address is; nothing where the database does not know.
pub(super) fn read_place(
    reader: &Reader<Vec<u8>>,
    layout: Layout,
    address: IpAddr,
) -> Result<Place<'static>, MaxMindDbError> {
    let found = reader.lookup(address)?;
    Ok(match layout {
        Layout::Nested => found.decode::<Nested>()?.map(nested),
        Layout::Flat => found.decode::<Flat>()?.map(flat),
    }
    .unwrap_or_default())
}

fn nested(record: Nested<'_>) -> Place<'static> {
    // The first subdivision is the largest: a state, not its county.
    let region = record.subdivisions.first().and_then(|region| region.names.en.or(region.iso_code));
    Place {
        country: owned(record.country.iso_code),
        region: owned(region.unwrap_or_default()),
        city: owned(record.city.names.en.unwrap_or_default()),
        latitude: record.location.latitude,
        longitude: record.location.longitude,
        time_zone: owned(record.location.time_zone),
    }
}

fn flat(record: Flat<'_>) -> Place<'static> {
    Place {
        country: owned(record.country_code),
        region: owned(record.state1),
        city: owned(record.city),
        latitude: record.latitude,
        longitude: record.longitude,
        time_zone: owned(record.timezone.unwrap_or_default()),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NetworkRecord<'a> {
    autonomous_system_number: Option<i64>,
    autonomous_system_organization: Option<&'a str>,
    /// `AS15169`, as IPinfo writes it.
    asn: Option<&'a str>,
    as_name: Option<&'a str>,
    name: Option<&'a str>,
    as_domain: Option<&'a str>,
    domain: Option<&'a str>,
}

/// Whose network an address is in; nothing where the database does not know.
pub(super) fn read_network(reader: &Reader<Vec<u8>>, address: IpAddr) -> Result<Network<'static>, MaxMindDbError> {
    Ok(reader.lookup(address)?.decode::<NetworkRecord>()?.map(network).unwrap_or_default())
}

fn network(record: NetworkRecord<'_>) -> Network<'static> {
    let number = record.asn.and_then(|asn| asn.trim_start_matches("AS").parse().ok());
    let name = record.autonomous_system_organization.or(record.as_name).or(record.name);
    let domain = record.as_domain.or(record.domain).unwrap_or_default().to_lowercase();
    Network {
        number: record.autonomous_system_number.or(number),
        organisation: owned(name.unwrap_or_default()),
        domain: owned(psl::domain_str(&domain).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_records_of_both_kinds_are_read() {
        let maxmind = NetworkRecord {
            autonomous_system_number: Some(15169),
            autonomous_system_organization: Some("Google LLC"),
            ..NetworkRecord::default()
        };
        let expected = Network { number: Some(15169), organisation: "Google LLC".into(), domain: "".into() };
        assert_eq!(network(maxmind), expected);
        let other = NetworkRecord {
            asn: Some("AS15169"),
            as_name: Some("Google LLC"),
            as_domain: Some("WWW.Google.com"),
            ..NetworkRecord::default()
        };
        assert_eq!(network(other), Network { domain: "google.com".into(), ..expected });
    }

    #[test]
    fn the_largest_region_counts() {
        let json = r#"{"country": {"iso_code": "GB"}, "city": {"names": {"en": "Wimbledon", "de": "W"}},
            "subdivisions": [{"iso_code": "ENG", "names": {"en": "England"}}, {"iso_code": "MRT"}],
            "location": {"latitude": 51.4, "longitude": -0.2, "time_zone": "Europe/London"}}"#;
        let place = nested(serde_json::from_str(json).unwrap());
        assert_eq!((&*place.country, &*place.region, &*place.city), ("GB", "England", "Wimbledon"));
        let json = r#"{"country_code": "AT", "state1": "Vienna", "city": "Vienna", "latitude": 48.2, "postcode": "1"}"#;
        let place = flat(serde_json::from_str(json).unwrap());
        assert_eq!((&*place.country, &*place.region, place.latitude), ("AT", "Vienna", Some(48.2)));
    }
}
