//! The table `hits` as the sink writes it: which column holds what of a hit.
//!
//! Names and types stand in `migrations/0001_hits.sql`, with a COMMENT for each; `run` holds the table against
//! [`HitColumns::names_and_types`] when it starts. Columns that ClickHouse fills (`inserted_at`) are not here.

use schemas::{
    Contact, DeviceKind, EnrichedHit, IpPolicy, Kind, PartnerMatch, Protocol, Signal, SourceKind, VisitorIdSource,
};
use uuid::Uuid;

use crate::native::compression::CompressError;
use crate::native::{
    Addresses, Column, Dictionary, Frames, Lists, Maps, Nullable, Numbers, Symbol, Symbols, Texts, Timestamps, Uuids,
    write_block_header, write_column,
};

/// Where a hit stands in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinates {
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
}

/// Bytes that a row takes in the columns besides its text, at most: fixed widths, and four bytes for each place in a
/// dictionary. Held against the columns by a test.
pub const FIXED_ROW_BYTES: usize = 409;

macro_rules! hit_columns {
    (|$hit:ident, $coordinates:ident, $partner:ident, $contact:ident, $consent:ident|
     $($name:ident: $column:ty = $value:expr,)*) => {
        /// All columns of a block of `hits` while it is built.
        #[derive(Debug, Default)]
        pub struct HitColumns { $($name: $column,)* }

        impl HitColumns {
            /// How many columns there are.
            pub const COUNT: usize = [$(stringify!($name)),*].len();

            /// Names and ClickHouse's types of the columns, in the order in which they are written.
            #[must_use]
            pub fn names_and_types() -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), <$column>::type_name())),*]
            }

            /// Appends one hit as the next row.
            pub fn push(&mut self, $hit: &EnrichedHit<'_>, $coordinates: Coordinates) {
                let (no_partner, no_contact, no_consent) = Default::default();
                let $partner: &PartnerMatch<'_> = $hit.partner.as_ref().unwrap_or(&no_partner);
                let $contact: &Contact<'_> = $hit.hit.contact.as_ref().unwrap_or(&no_contact);
                let $consent = $hit.hit.consent.as_ref().unwrap_or(&no_consent);
                $(self.$name.push($value);)*
            }

            /// Takes out all hits; the memory stays for the next ones.
            pub fn clear(&mut self) {
                $(self.$name.clear();)*
            }

            fn write_columns(&self, frames: &mut Frames) -> Result<(), CompressError> {
                $(
                    write_column(stringify!($name), &self.$name, frames.buffer());
                    frames.settle()?;
                )*
                Ok(())
            }

            #[cfg(test)]
            fn rows_of_each(&self) -> Vec<usize> {
                vec![$(self.$name.rows()),*]
            }
        }
    };
}

hit_columns! { |hit, coordinates, partner, contact, consent|
    hit_id: Uuids = hit.hit.hit_id,
    site: Dictionary = &hit.hit.site,
    protocol: Symbols<Protocol> = hit.hit.protocol,
    kind: Symbols<Kind> = hit.hit.kind,
    event_name: Dictionary = &hit.hit.event_name,
    received_at: Timestamps = hit.hit.received_at,
    occurred_at: Timestamps = hit.occurred_at,
    enriched_at: Timestamps = hit.enriched_at,
    client_time: Nullable<Timestamps> = hit.hit.client_time,
    sent_at: Nullable<Timestamps> = hit.hit.sent_at,
    clock_skew_ms: Nullable<Numbers<i64>> = hit.clock_skew_ms,
    visitor_id: Texts = &hit.hit.visitor_id,
    visitor_id_source: Symbols<VisitorIdSource> = hit.hit.visitor_id_source,
    session_id: Uuids = hit.hit.session_id.unwrap_or(Uuid::nil()),
    page_view_id: Uuids = hit.hit.page_view_id.unwrap_or(Uuid::nil()),
    page_url: Texts = &hit.hit.page_url,
    page_title: Dictionary = &hit.hit.page_title,
    page_host: Dictionary = &hit.page.host,
    page_path: Dictionary = &hit.page.path,
    page_query: Texts = &hit.page.query,
    referrer: Texts = &hit.hit.referrer,
    referrer_host: Dictionary = &hit.source.referrer_host,
    target_url: Texts = &hit.hit.target_url,
    search_term: Texts = &hit.hit.search_term,
    duration_ms: Numbers<u32> = hit.hit.duration_ms.map_or(0, saturating_u32),
    screen_width: Numbers<u16> = hit.hit.screen_width.map_or(0, saturating_u16),
    screen_height: Numbers<u16> = hit.hit.screen_height.map_or(0, saturating_u16),
    language: Dictionary = &hit.language,
    language_tag: Dictionary = &hit.hit.language,
    time_zone: Dictionary = &hit.hit.time_zone,
    user_agent: Dictionary = &hit.hit.user_agent,
    client_hints: Maps = &hit.hit.client_hints.0,
    ip: Addresses = &hit.hit.ip,
    ip_policy: Symbols<IpPolicy> = hit.hit.ip_policy,
    signal: Symbols<Signal> = hit.hit.signal,
    source_kind: Symbols<SourceKind> = hit.source.kind,
    source_name: Dictionary = &hit.source.name,
    source_term: Texts = &hit.source.term,
    campaign_source: Dictionary = &hit.campaign.source,
    campaign_medium: Dictionary = &hit.campaign.medium,
    campaign_name: Dictionary = &hit.campaign.name,
    campaign_term: Dictionary = &hit.campaign.term,
    campaign_content: Dictionary = &hit.campaign.content,
    campaign_id: Dictionary = &hit.campaign.id,
    click_id_kind: Dictionary = &hit.campaign.click_id_kind,
    click_id: Texts = &hit.campaign.click_id,
    device_kind: Symbols<DeviceKind> = hit.device.kind,
    device_brand: Dictionary = &hit.device.brand,
    device_model: Dictionary = &hit.device.model,
    os: Dictionary = &hit.device.os,
    os_version: Dictionary = &hit.device.os_version,
    browser: Dictionary = &hit.device.browser,
    browser_version: Dictionary = &hit.device.browser_version,
    is_bot: Numbers<bool> = hit.is_bot,
    bot_name: Dictionary = &hit.bot_name,
    country: Dictionary = &hit.place.country,
    region: Dictionary = &hit.place.region,
    city: Dictionary = &hit.place.city,
    latitude: Nullable<Numbers<f64>> = hit.place.latitude,
    longitude: Nullable<Numbers<f64>> = hit.place.longitude,
    place_time_zone: Dictionary = &hit.place.time_zone,
    network_number: Numbers<u32> = hit.network.number.map_or(0, saturating_u32),
    network_organisation: Dictionary = &hit.network.organisation,
    network_domain: Dictionary = &hit.network.domain,
    partner: Dictionary = &partner.partner,
    partner_matched_by: Dictionary = &partner.matched_by,
    company_name: Dictionary = &partner.company_name,
    company_domain: Dictionary = &partner.company_domain,
    partner_attributes: Maps = &partner.attributes.0,
    partner_permitted_uses: Lists = &partner.permitted_uses,
    contact_name: Texts = &contact.name,
    contact_email: Texts = &contact.email,
    contact_phone: Texts = &contact.phone,
    contact_job_title: Texts = &contact.job_title,
    contact_company: Texts = &contact.company,
    contact_address: Texts = &contact.address,
    consent_measurement: Nullable<Numbers<bool>> = consent.measurement,
    consent_personalisation: Nullable<Numbers<bool>> = consent.personalisation,
    consent_advertising: Nullable<Numbers<bool>> = consent.advertising,
    consent_partner_sharing: Nullable<Numbers<bool>> = consent.partner_sharing,
    consent_wording: Dictionary = &consent.wording,
    consent_given_at: Nullable<Timestamps> = consent.given_at,
    properties: Maps = &hit.hit.properties.0,
    tag_version: Dictionary = &hit.hit.tag_version,
    geoip_version: Dictionary = &hit.geoip_version,
    enrichment_errors: Lists = &hit.enrichment_errors,
    kafka_partition: Numbers<i32> = coordinates.partition,
    kafka_offset: Numbers<i64> = coordinates.offset,
}

macro_rules! symbols {
    ($($name:ident),*) => {$(
        impl Symbol for $name {
            const ALL: &'static [Self] = $name::ALL;

            fn text(self) -> &'static str {
                self.as_str()
            }

            #[inline]
            fn place(self) -> u8 {
                // An enum of Avro is numbered in the order of its list.
                self as u8
            }
        }
    )*};
}

symbols!(Protocol, Kind, VisitorIdSource, IpPolicy, Signal, SourceKind, DeviceKind);

/// What is told and does not fit becomes the nearest that does.
fn saturating_u32(number: i64) -> u32 {
    number.clamp(0, u32::MAX.into()) as u32
}

fn saturating_u16(number: i32) -> u16 {
    number.clamp(0, u16::MAX.into()) as u16
}

impl HitColumns {
    /// How many hits there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.hit_id.rows()
    }

    /// When the hits were received, Unix milliseconds, as the table holds it.
    #[must_use]
    pub fn received_at(&self) -> &[i64] {
        self.received_at.values()
    }

    /// The columns as one block of Native format in LZ4 frames, ready to be sent. The same hits give the same bytes.
    ///
    /// # Errors
    /// Where the block cannot be compressed, which would be a bug.
    pub fn block(&self) -> Result<Block, CompressError> {
        let mut frames = Frames::default();
        write_block_header(Self::COUNT, self.rows(), frames.buffer());
        self.write_columns(&mut frames)?;
        Ok(Block { rows: self.rows(), uncompressed_bytes: frames.uncompressed(), frames: frames.finish()? })
    }

    /// The head of the statement that inserts such a block: table and columns by name, so that the table may have
    /// more columns than this version knows.
    #[must_use]
    pub fn insert_statement(table: &str) -> String {
        let names: Vec<_> = Self::names_and_types().into_iter().map(|(name, _)| name).collect();
        format!("INSERT INTO {table} ({}) FORMAT Native", names.join(", "))
    }
}

/// Rows that are ready to be sent.
#[derive(Debug, Clone)]
pub struct Block {
    /// How many.
    pub rows: usize,
    /// Size before compression.
    pub uncompressed_bytes: usize,
    /// The LZ4 frames.
    pub frames: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_adds_a_row_to_every_column() {
        let mut columns = HitColumns::default();
        columns.push(&EnrichedHit::default(), Coordinates { partition: 1, offset: 2 });
        assert_eq!(columns.rows_of_each(), vec![1; HitColumns::COUNT]);
    }

    fn places_are_those_of_the_list<S: Symbol>() {
        for (place, symbol) in S::ALL.iter().enumerate() {
            assert_eq!(usize::from(symbol.place()), place, "{}", symbol.text());
        }
    }

    #[test]
    fn symbols_stand_where_their_place_says() {
        places_are_those_of_the_list::<Protocol>();
        places_are_those_of_the_list::<Kind>();
        places_are_those_of_the_list::<VisitorIdSource>();
        places_are_those_of_the_list::<IpPolicy>();
        places_are_those_of_the_list::<Signal>();
        places_are_those_of_the_list::<SourceKind>();
        places_are_those_of_the_list::<DeviceKind>();
    }

    #[test]
    fn the_fixed_bytes_of_a_row_cover_its_columns() {
        let width = |kind: &str| match kind {
            "Bool" => 1,
            "UInt16" => 2,
            "UInt32" | "Int32" | "LowCardinality(String)" => 4,
            "Int64" | "DateTime64(3, 'UTC')" => 8,
            "Nullable(Bool)" => 2,
            "Nullable(Float64)" | "Nullable(Int64)" | "Nullable(DateTime64(3, 'UTC'))" => 9,
            "UUID" | "IPv6" => 16,
            // A length of one byte.
            "String" => 1,
            // An end of eight bytes.
            "Array(LowCardinality(String))" | "Map(LowCardinality(String), String)" => 8,
            other => panic!("{other} is new here"),
        };
        let sum: usize = HitColumns::names_and_types().iter().map(|(_, kind)| width(kind)).sum();
        assert_eq!(FIXED_ROW_BYTES, sum);
    }
}
