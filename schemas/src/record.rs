//! The records, as Rust types. What each field means stands in the `.avsc` file of the record.
//!
//! Text that is not known is empty, numbers that are not known are `None`. A text field borrows from the message that
//! it was read from or from the request that it came with; whoever changes one puts an owned text there.

use std::borrow::Cow;

use uuid::Uuid;

use crate::codec::{Map, Text};

/// A record with its schema: every shipped version, oldest first. The last one is what [`crate::codec`] writes.
pub trait Record {
    /// Full name in Avro.
    const NAME: &'static str;
    /// The shipped versions of the schema, as JSON, oldest first.
    const VERSIONS: &'static [&'static str];
}

macro_rules! schema_of {
    ($name:ident, $($file:literal),+) => {
        impl Record for $name<'_> {
            const NAME: &'static str = concat!("hitmeter.", stringify!($name));
            const VERSIONS: &'static [&'static str] = &[$(include_str!(concat!("../avro/", $file))),+];
        }
    };
}

schema_of!(RawHit, "raw_hit.v1.avsc");
schema_of!(EnrichedHit, "enriched_hit.v1.avsc");
schema_of!(DeadLetter, "dead_letter.v1.avsc");
schema_of!(PartnerRecord, "partner_record.v1.avsc");
schema_of!(PrivacyDirective, "privacy_directive.v1.avsc");

symbols! {
    /// How the hit came in.
    pub enum Protocol {
        /// `unknown`.
        Unknown = "unknown",
        /// `pixel`.
        Pixel = "pixel",
        /// `api`.
        Api = "api",
        /// `tag`.
        Tag = "tag",
    }
}

symbols! {
    /// What happened.
    pub enum Kind {
        /// `event`.
        Event = "event",
        /// `page_view`.
        PageView = "page_view",
        /// `download`.
        Download = "download",
        /// `outlink`.
        Outlink = "outlink",
        /// `form`.
        Form = "form",
        /// `identify`.
        Identify = "identify",
        /// `heartbeat`.
        Heartbeat = "heartbeat",
        /// `mail_open`.
        MailOpen = "mail_open",
        /// `search`.
        Search = "search",
    }
}

symbols! {
    /// Where a visitor id comes from.
    pub enum VisitorIdSource {
        /// `none`.
        None = "none",
        /// `cookie`.
        Cookie = "cookie",
        /// `client`.
        Client = "client",
        /// `daily_hash`.
        DailyHash = "daily_hash",
    }
}

symbols! {
    /// What may be kept of an address.
    pub enum IpPolicy {
        /// `none`.
        None = "none",
        /// `truncated`.
        Truncated = "truncated",
        /// `full`.
        Full = "full",
    }
}

symbols! {
    /// Why a hit is anonymous.
    pub enum Signal {
        /// `none`.
        None = "none",
        /// `global_privacy_control`.
        GlobalPrivacyControl = "global_privacy_control",
        /// `do_not_track`.
        DoNotTrack = "do_not_track",
        /// `opt_out`.
        OptOut = "opt_out",
        /// `no_consent`.
        NoConsent = "no_consent",
    }
}

record! {
    /// Business-card fields that the person submitted.
    pub struct Contact<'a> {
        /// Full name.
        pub name: Text<'a>,
        /// E-mail address.
        pub email: Text<'a>,
        /// Telephone number as typed.
        pub phone: Text<'a>,
        /// Job title.
        pub job_title: Text<'a>,
        /// Company.
        pub company: Text<'a>,
        /// Mailing address, one text.
        pub address: Text<'a>,
    }
}

record! {
    /// What the person permitted, purpose by purpose; null where not asked.
    pub struct Consent<'a> {
        /// Measuring visits.
        pub measurement: Option<bool>,
        /// Fitting content to the person.
        pub personalisation: Option<bool>,
        /// Advertising.
        pub advertising: Option<bool>,
        /// Sharing with partners.
        pub partner_sharing: Option<bool>,
        /// Version of the wording that was shown.
        pub wording: Text<'a>,
        /// Client's clock when the choice was made, Unix milliseconds.
        pub given_at: Option<i64>,
    }
}

record! {
    /// One hit as the collector received it. Text that was not sent is empty, numbers that were not sent are null.
    pub struct RawHit<'a> {
        /// Names the hit for ever: the client's UUIDv7 where it sent a valid one, so that its retries are the same hit; else made by the collector.
        pub hit_id: Uuid,
        /// Key of the site, as in sites.toml.
        pub site: Text<'a>,
        /// How the hit came in: the pixel, the JSON API, or the JavaScript tag.
        pub protocol: Protocol,
        /// What happened. A custom event is an `event` with a name.
        pub kind: Kind,
        /// Name of a custom event; empty for every other kind.
        pub event_name: Text<'a>,
        /// Collector's clock on arrival, Unix milliseconds.
        pub received_at: i64,
        /// Client's clock when it happened, Unix milliseconds, not corrected.
        pub client_time: Option<i64>,
        /// Client's clock when it was sent, Unix milliseconds; received_at less this is the client's skew.
        pub sent_at: Option<i64>,
        /// Who: unique within a site. Empty when nothing may be kept.
        pub visitor_id: Text<'a>,
        /// Where visitor_id comes from: the collector's cookie, the client's own id, or a keyed hash that is forgotten after the day.
        pub visitor_id_source: VisitorIdSource,
        /// Session as the cookie or the tag tells; null where sessions are computed from 30-minute gaps.
        pub session_id: Option<Uuid>,
        /// hit_id of the page view that this hit belongs to.
        pub page_view_id: Option<Uuid>,
        /// Address of the page.
        pub page_url: Text<'a>,
        /// Title of the page.
        pub page_title: Text<'a>,
        /// Address the visitor came from.
        pub referrer: Text<'a>,
        /// Address of the file of a download, or of the page of an outlink.
        pub target_url: Text<'a>,
        /// What was searched for on the site.
        pub search_term: Text<'a>,
        /// Visible time on this page view so far, milliseconds.
        pub duration_ms: Option<i64>,
        /// Screen width, CSS pixels.
        pub screen_width: Option<i32>,
        /// Screen height, CSS pixels.
        pub screen_height: Option<i32>,
        /// Language tag (BCP 47) as the client sent it, else the first of Accept-Language.
        pub language: Text<'a>,
        /// Client's time zone, IANA name.
        pub time_zone: Text<'a>,
        /// The User-Agent header.
        pub user_agent: Text<'a>,
        /// Sec-CH-UA-* headers by lower-case name, values as sent.
        pub client_hints: Map<'a>,
        /// Client's address, IPv4 or IPv6 text; cut or empty under a signal.
        pub ip: Text<'a>,
        /// What the site keeps of the address after enriching.
        pub ip_policy: IpPolicy,
        /// The objection under which the hit was made anonymous, if any.
        pub signal: Signal,
        /// Business-card fields that the person submitted.
        pub contact: Option<Contact<'a>>,
        /// What the person permitted; null where nothing was said.
        pub consent: Option<Consent<'a>>,
        /// Free properties.
        pub properties: Map<'a>,
        /// Version of the JavaScript tag; empty for other clients.
        pub tag_version: Text<'a>,
    }
}

record! {
    /// Parts of page_url.
    pub struct PageAddress<'a> {
        /// Host, lower case, without port.
        pub host: Text<'a>,
        /// Path.
        pub path: Text<'a>,
        /// Query without the question mark.
        pub query: Text<'a>,
    }
}

symbols! {
    /// Classes of sources.
    pub enum SourceKind {
        /// `unknown`.
        Unknown = "unknown",
        /// `direct`.
        Direct = "direct",
        /// `internal`.
        Internal = "internal",
        /// `campaign`.
        Campaign = "campaign",
        /// `search`.
        Search = "search",
        /// `social`.
        Social = "social",
        /// `mail`.
        Mail = "mail",
        /// `assistant`.
        Assistant = "assistant",
        /// `referral`.
        Referral = "referral",
    }
}

record! {
    /// Where the visitor came from.
    pub struct Source<'a> {
        /// Class of the source.
        pub kind: SourceKind,
        /// Name of the search engine, network or mailer; else the referring host.
        pub name: Text<'a>,
        /// Search term, where the referrer tells.
        pub term: Text<'a>,
        /// Host of the referrer, lower case.
        pub referrer_host: Text<'a>,
    }
}

record! {
    /// Campaign parameters of page_url.
    pub struct Campaign<'a> {
        /// utm_source.
        pub source: Text<'a>,
        /// utm_medium.
        pub medium: Text<'a>,
        /// utm_campaign.
        pub name: Text<'a>,
        /// utm_term.
        pub term: Text<'a>,
        /// utm_content.
        pub content: Text<'a>,
        /// utm_id.
        pub id: Text<'a>,
        /// Parameter that holds the click id: gclid, fbclid, msclkid, ...
        pub click_id_kind: Text<'a>,
        /// Click id of the advertising network.
        pub click_id: Text<'a>,
    }
}

symbols! {
    /// Classes of devices.
    pub enum DeviceKind {
        /// `unknown`.
        Unknown = "unknown",
        /// `desktop`.
        Desktop = "desktop",
        /// `mobile`.
        Mobile = "mobile",
        /// `tablet`.
        Tablet = "tablet",
        /// `television`.
        Television = "television",
        /// `console`.
        Console = "console",
        /// `wearable`.
        Wearable = "wearable",
        /// `other`.
        Other = "other",
    }
}

record! {
    /// What the user agent and the client hints tell.
    pub struct Device<'a> {
        /// Class of the device.
        pub kind: DeviceKind,
        /// Maker.
        pub brand: Text<'a>,
        /// Model.
        pub model: Text<'a>,
        /// Operating system.
        pub os: Text<'a>,
        /// Its version.
        pub os_version: Text<'a>,
        /// Browser.
        pub browser: Text<'a>,
        /// Its version.
        pub browser_version: Text<'a>,
    }
}

record! {
    /// Where the address is, by the GeoIP database.
    pub struct Place<'a> {
        /// ISO 3166-1 alpha-2 code.
        pub country: Text<'a>,
        /// Region or state.
        pub region: Text<'a>,
        /// City.
        pub city: Text<'a>,
        /// Degrees north.
        pub latitude: Option<f64>,
        /// Degrees east.
        pub longitude: Option<f64>,
        /// IANA name.
        pub time_zone: Text<'a>,
    }
}

record! {
    /// Whose network the address is in.
    pub struct Network<'a> {
        /// Autonomous system number (RFC 1930).
        pub number: Option<i64>,
        /// Its organisation: the ISP, or the company itself.
        pub organisation: Text<'a>,
        /// The organisation's registrable domain, where known.
        pub domain: Text<'a>,
    }
}

record! {
    /// What a partner knows about the hit.
    pub struct PartnerMatch<'a> {
        /// Who supplied it.
        pub partner: Text<'a>,
        /// How it matched: ip_range, email_hash, email_domain, company_domain or visitor_id.
        pub matched_by: Text<'a>,
        /// Company's name.
        pub company_name: Text<'a>,
        /// Company's registrable domain.
        pub company_domain: Text<'a>,
        /// Whatever else the partner knows.
        pub attributes: Map<'a>,
        /// Purposes it may be used for.
        pub permitted_uses: Vec<Text<'a>>,
    }
}

record! {
    /// A hit and what was learned about it. Text that is not known is empty, numbers that are not known are null.
    pub struct EnrichedHit<'a> {
        /// The hit as received, its address cut by the site's policy.
        pub hit: RawHit<'a>,
        /// When it happened: the client's time corrected by its skew and clamped, else received_at. Unix milliseconds.
        pub occurred_at: i64,
        /// Enricher's clock, Unix milliseconds.
        pub enriched_at: i64,
        /// How far the client's clock is behind ours, milliseconds.
        pub clock_skew_ms: Option<i64>,
        /// Parts of page_url.
        pub page: PageAddress<'a>,
        /// Where the visitor came from.
        pub source: Source<'a>,
        /// Campaign parameters of page_url.
        pub campaign: Campaign<'a>,
        /// What the user agent and the client hints tell.
        pub device: Device<'a>,
        /// True for a robot: stored and marked, not dropped.
        pub is_bot: bool,
        /// Which robot, where known.
        pub bot_name: Text<'a>,
        /// Primary language subtag (ISO 639), lower case.
        pub language: Text<'a>,
        /// Where the address is, by the GeoIP database.
        pub place: Place<'a>,
        /// Whose network the address is in.
        pub network: Network<'a>,
        /// What a partner knows about the hit.
        pub partner: Option<PartnerMatch<'a>>,
        /// Build times of the GeoIP databases that were used.
        pub geoip_version: Text<'a>,
        /// All that went wrong while enriching, as names.
        pub enrichment_errors: Vec<Text<'a>>,
    }
}

symbols! {
    /// A service.
    pub enum Stage {
        /// `unknown`.
        Unknown = "unknown",
        /// `collector`.
        Collector = "collector",
        /// `enricher`.
        Enricher = "enricher",
        /// `sink`.
        Sink = "sink",
    }
}

record! {
    /// Something that was meant as a hit and could not be read or stored, with all that is needed to try again.
    pub struct DeadLetter<'a> {
        /// Names the dead letter.
        pub dead_letter_id: Uuid,
        /// Which service gave up on it.
        pub stage: Stage,
        /// Why: a name from the stage's closed list of reasons.
        pub reason: Text<'a>,
        /// What exactly was wrong, for a reader; holds no personal data.
        pub detail: Text<'a>,
        /// Clock of the stage, Unix milliseconds.
        pub dead_at: i64,
        /// Key of the site where it is known.
        pub site: Text<'a>,
        /// The original bytes: the message's value, or the raw request.
        pub original: Cow<'a, [u8]>,
        /// Topic it came from; empty for a request.
        pub source_topic: Text<'a>,
        /// Partition it came from.
        pub source_partition: Option<i32>,
        /// Offset it came from.
        pub source_offset: Option<i64>,
    }
}

symbols! {
    /// How a hit is matched to a record.
    pub enum MatchKind {
        /// `unknown`.
        Unknown = "unknown",
        /// `ip_range`.
        IpRange = "ip_range",
        /// `email_hash`.
        EmailHash = "email_hash",
        /// `email_domain`.
        EmailDomain = "email_domain",
        /// `company_domain`.
        CompanyDomain = "company_domain",
        /// `visitor_id`.
        VisitorId = "visitor_id",
    }
}

record! {
    /// What a partner knows about a network, a company or a person, and what it may be used for.
    pub struct PartnerRecord<'a> {
        /// Who supplied it.
        pub partner: Text<'a>,
        /// How a hit is matched to this record.
        pub match_kind: MatchKind,
        /// A CIDR range, the lower-case hex SHA-256 of a trimmed lower-case e-mail address, a domain, or a visitor id.
        pub match_value: Text<'a>,
        /// The one site it may be used for; empty for all.
        pub site: Text<'a>,
        /// Company's name.
        pub company_name: Text<'a>,
        /// Company's registrable domain.
        pub company_domain: Text<'a>,
        /// Whatever else the partner knows: industry, employees, revenue, ...
        pub attributes: Map<'a>,
        /// Purposes it may be used for: measurement, personalisation, advertising, partner_sharing.
        pub permitted_uses: Vec<Text<'a>>,
        /// Not used from then on, Unix milliseconds.
        pub valid_until: Option<i64>,
        /// When it was published, Unix milliseconds.
        pub updated_at: i64,
    }
}

symbols! {
    /// What names the person.
    pub enum SubjectKind {
        /// `unknown`.
        Unknown = "unknown",
        /// `visitor_id`.
        VisitorId = "visitor_id",
        /// `email`.
        Email = "email",
        /// `phone`.
        Phone = "phone",
    }
}

symbols! {
    /// How far a stage is with a directive.
    pub enum StageState {
        /// `unknown`.
        Unknown = "unknown",
        /// `hidden`: nobody sees the rows any more.
        Hidden = "hidden",
        /// `done`: the rows are physically gone.
        Done = "done",
    }
}

record! {
    /// How far a stage is with a directive.
    pub struct StageReport<'a> {
        /// Which service reports.
        pub stage: Stage,
        /// How far it is.
        pub state: StageState,
        /// Which process of the service.
        pub instance: Text<'a>,
        /// Rows it touched.
        pub rows: i64,
        /// Clock of the stage, Unix milliseconds.
        pub reported_at: i64,
    }
}

symbols! {
    /// The right that is exercised.
    pub enum PrivacyAction {
        /// `unknown`.
        Unknown = "unknown",
        /// `rectify`.
        Rectify = "rectify",
        /// `erase`.
        Erase = "erase",
        /// `forget`.
        Forget = "forget",
        /// `object`.
        Object = "object",
        /// `permit`.
        Permit = "permit",
        /// `withdraw`.
        Withdraw = "withdraw",
    }
}

record! {
    /// What a person asked of us about the data on them, as every stage has to carry it out, or how far a stage is with it.
    pub struct PrivacyDirective<'a> {
        /// Names the request.
        pub directive_id: Uuid,
        /// Key of the site it was made to.
        pub site: Text<'a>,
        /// What names the person.
        pub subject_kind: SubjectKind,
        /// Keyed hash of site, kind and what names the person, lower-case hex.
        pub subject: Text<'a>,
        /// Name of the key that hashed it.
        pub key_name: Text<'a>,
        /// The right that is exercised.
        pub action: PrivacyAction,
        /// When the request was made, Unix milliseconds.
        pub issued_at: i64,
        /// By when it has to be done, Unix milliseconds.
        pub due_at: Option<i64>,
        /// Corrected contact fields, for rectify.
        pub fields: Map<'a>,
        /// Purpose that is permitted or withdrawn.
        pub purpose: Text<'a>,
        /// Partner that is permitted or withdrawn.
        pub partner: Text<'a>,
        /// Version of the wording that the person saw when permitting.
        pub wording: Text<'a>,
        /// Where it is written down that the person said so; names nobody.
        pub evidence: Text<'a>,
        /// Who entered the request.
        pub operator: Text<'a>,
        /// Absent in a directive; else the message tells how far a stage is with it.
        pub report: Option<StageReport<'a>>,
    }
}
