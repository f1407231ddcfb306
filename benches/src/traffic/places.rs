//! Where people are, and whose networks they use.

/// A city, as a GeoIP database tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct City {
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// Region or state.
    pub region: &'static str,
    /// Name.
    pub name: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// IANA name.
    pub time_zone: &'static str,
    /// Language tag (BCP 47) that most people there use.
    pub language: &'static str,
}

const fn city(
    country: &'static str,
    region: &'static str,
    name: &'static str,
    (latitude, longitude): (f64, f64),
    time_zone: &'static str,
    language: &'static str,
) -> City {
    City { country, region, name, latitude, longitude, time_zone, language }
}

/// The cities, the busiest first.
pub const CITIES: &[City] = &[
    city("DE", "Berlin", "Berlin", (52.52, 13.4), "Europe/Berlin", "de-DE"),
    city("US", "California", "San Francisco", (37.77, -122.42), "America/Los_Angeles", "en-US"),
    city("US", "New York", "New York", (40.71, -74.0), "America/New_York", "en-US"),
    city("DE", "Bavaria", "Munich", (48.14, 11.58), "Europe/Berlin", "de-DE"),
    city("DE", "Hamburg", "Hamburg", (53.55, 9.99), "Europe/Berlin", "de-DE"),
    city("GB", "England", "London", (51.51, -0.13), "Europe/London", "en-GB"),
    city("DE", "North Rhine-Westphalia", "Essen", (51.46, 7.01), "Europe/Berlin", "de-DE"),
    city("FR", "Île-de-France", "Paris", (48.86, 2.35), "Europe/Paris", "fr-FR"),
    city("CH", "Zurich", "Zürich", (47.38, 8.54), "Europe/Zurich", "de-CH"),
    city("AT", "Vienna", "Vienna", (48.21, 16.37), "Europe/Vienna", "de-AT"),
    city("US", "Texas", "Austin", (30.27, -97.74), "America/Chicago", "en-US"),
    city("NL", "North Holland", "Amsterdam", (52.37, 4.9), "Europe/Amsterdam", "nl-NL"),
    city("IT", "Lombardy", "Milan", (45.46, 9.19), "Europe/Rome", "it-IT"),
    city("ES", "Madrid", "Madrid", (40.42, -3.7), "Europe/Madrid", "es-ES"),
    city("PL", "Mazovia", "Warsaw", (52.23, 21.01), "Europe/Warsaw", "pl-PL"),
    city("SE", "Stockholm", "Stockholm", (59.33, 18.07), "Europe/Stockholm", "sv-SE"),
    city("IN", "Karnataka", "Bengaluru", (12.97, 77.59), "Asia/Kolkata", "en-IN"),
    city("JP", "Tokyo", "Tokyo", (35.68, 139.69), "Asia/Tokyo", "ja-JP"),
    city("BR", "São Paulo", "São Paulo", (-23.55, -46.63), "America/Sao_Paulo", "pt-BR"),
    city("CA", "Ontario", "Toronto", (43.65, -79.38), "America/Toronto", "en-CA"),
];

/// An internet provider: its organisation, domain and autonomous system.
pub const PROVIDERS: &[(&str, &str, i64)] = &[
    ("Deutsche Telekom AG", "telekom.de", 3_320),
    ("Comcast Cable Communications, LLC", "comcast.net", 7_922),
    ("Vodafone GmbH", "vodafone.de", 3_209),
    ("AT&T Services, Inc.", "att.com", 7_018),
    ("British Telecommunications PLC", "bt.com", 2_856),
    ("Orange S.A.", "orange.com", 3_215),
    ("Telefonica Germany GmbH", "telefonica.de", 6_805),
    ("Swisscom AG", "swisscom.ch", 3_303),
    ("A1 Telekom Austria AG", "a1.net", 8_447),
    ("Verizon Business", "verizon.com", 701),
    // Providers of whom no domain is known.
    ("Stadtwerke Netz", "", 64_500),
    ("Regional Fibre Cooperative", "", 64_501),
];

/// Networks of robots: organisation, domain, autonomous system.
pub const CLOUDS: &[(&str, &str, i64)] =
    &[("Google LLC", "google.com", 15_169), ("Amazon.com, Inc.", "amazon.com", 16_509), ("OVH SAS", "ovh.net", 16_276)];
