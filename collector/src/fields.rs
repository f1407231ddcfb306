//! The names that all protocols share, read from a query string or from JSON.
//!
//! Nothing is interpreted here: values are text as it came, borrowed where it needs no decoding.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode;
use schemas::{Map, Text};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most free properties of one hit.
pub const MOST_PROPERTIES: usize = 100;

/// A text, number or boolean, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scalar<'a>(pub Text<'a>);

/// What a person says to one purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Permission {
    /// Nothing.
    #[default]
    Unsaid,
    /// A plain yes.
    Given,
    /// A plain no.
    Refused,
    /// Something that is neither. Who is asked and does not say yes has not permitted it.
    Unclear,
}

impl Permission {
    /// Of what stands for it in a query string, or as a text in JSON.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "1" | "true" => Self::Given,
            "0" | "false" => Self::Refused,
            _ => Self::Unclear,
        }
    }

    /// Whether the purpose is permitted, where anything was said.
    #[must_use]
    pub fn permits(self) -> Option<bool> {
        (self != Self::Unsaid).then_some(self == Self::Given)
    }
}

/// Business-card fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct ContactFields<'a> {
    #[serde(borrow)]
    /// Full name.
    pub name: Scalar<'a>,
    /// E-mail address.
    pub email: Scalar<'a>,
    /// Telephone number.
    pub phone: Scalar<'a>,
    /// Job title.
    pub job_title: Scalar<'a>,
    /// Company.
    pub company: Scalar<'a>,
    /// Mailing address.
    pub address: Scalar<'a>,
}

/// What the person permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct ConsentFields<'a> {
    /// Measuring visits.
    pub measurement: Permission,
    /// Fitting content to the person.
    pub personalisation: Permission,
    /// Advertising.
    pub advertising: Permission,
    /// Sharing with partners.
    pub partner_sharing: Permission,
    #[serde(borrow)]
    /// Version of the wording that was shown.
    pub wording: Scalar<'a>,
    /// When, Unix milliseconds.
    pub time: Scalar<'a>,
}

/// What a client says about a hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Fields<'a> {
    #[serde(borrow)]
    /// Key of the site.
    pub site: Scalar<'a>,
    /// A kind, or the name of a custom event.
    pub event: Scalar<'a>,
    /// The client's id of the hit.
    pub hit: Scalar<'a>,
    /// The hit id of the page view it belongs to.
    pub page_view: Scalar<'a>,
    /// Address of the page.
    pub url: Scalar<'a>,
    /// Where the visitor came from.
    pub referrer: Scalar<'a>,
    /// Title of the page.
    pub title: Scalar<'a>,
    /// The client's id of the visitor.
    pub visitor: Scalar<'a>,
    /// The client's id of the session.
    pub session: Scalar<'a>,
    /// When it happened, Unix milliseconds.
    pub time: Scalar<'a>,
    /// When it was sent, Unix milliseconds.
    pub sent: Scalar<'a>,
    /// Screen, `WIDTHxHEIGHT`.
    pub screen: Scalar<'a>,
    /// Language tag.
    pub language: Scalar<'a>,
    /// IANA time zone.
    pub timezone: Scalar<'a>,
    /// Visible time so far, milliseconds.
    pub duration: Scalar<'a>,
    /// Address of a file or an outlink.
    pub target: Scalar<'a>,
    /// Site-search term.
    pub search: Scalar<'a>,
    /// Version of the tag.
    pub tag: Scalar<'a>,
    /// Business-card fields.
    pub contact: Option<ContactFields<'a>>,
    /// What the person permitted.
    pub consent: Option<ConsentFields<'a>>,
    #[serde(deserialize_with = "properties")]
    /// Free properties.
    pub properties: Map<'a>,
}

/// Why a query string can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A value is not UTF-8 once decoded.
    #[error("a parameter's value is not UTF-8")]
    NotUtf8,
    /// There are too many properties.
    #[error("there are more than 100 properties")]
    TooManyProperties,
}

impl<'a> Fields<'a> {
    /// Reads a query string (application/x-www-form-urlencoded, WHATWG URL standard), and counts the parameters whose
    /// names mean nothing.
    ///
    /// # Errors
    /// Where a value is not UTF-8, or there are too many properties.
    pub fn from_query(query: &'a str) -> Result<(Self, usize), QueryError> {
        let mut fields = Self::default();
        let mut unknown = 0;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if let Some(slot) = fields.slot(&name) {
                slot.0 = value;
            } else if let Some(purpose) = fields.purpose(&name) {
                *purpose = Permission::of(&value);
            } else if name.starts_with("p.") && name.len() > 2 {
                let key = match name {
                    Cow::Borrowed(name) => Cow::Borrowed(&name[2..]),
                    Cow::Owned(name) => Cow::Owned(name[2..].to_owned()),
                };
                put_property(&mut fields.properties, key, value).map_err(|()| QueryError::TooManyProperties)?;
            } else {
                unknown += 1;
            }
        }
        Ok((fields, unknown))
    }

    fn slot(&mut self, name: &str) -> Option<&mut Scalar<'a>> {
        Some(match name {
            "site" => &mut self.site,
            "event" => &mut self.event,
            "hit" => &mut self.hit,
            "page_view" => &mut self.page_view,
            "url" => &mut self.url,
            "referrer" => &mut self.referrer,
            "title" => &mut self.title,
            "visitor" => &mut self.visitor,
            "session" => &mut self.session,
            "time" => &mut self.time,
            "sent" => &mut self.sent,
            "screen" => &mut self.screen,
            "language" => &mut self.language,
            "timezone" => &mut self.timezone,
            "duration" => &mut self.duration,
            "target" => &mut self.target,
            "search" => &mut self.search,
            "tag" => &mut self.tag,
            "consent.wording" => &mut self.consent.get_or_insert_default().wording,
            "consent.time" => &mut self.consent.get_or_insert_default().time,
            "name" => &mut self.contact.get_or_insert_default().name,
            "email" => &mut self.contact.get_or_insert_default().email,
            "phone" => &mut self.contact.get_or_insert_default().phone,
            "job_title" => &mut self.contact.get_or_insert_default().job_title,
            "company" => &mut self.contact.get_or_insert_default().company,
            "address" => &mut self.contact.get_or_insert_default().address,
            _ => return None,
        })
    }

    fn purpose(&mut self, name: &str) -> Option<&mut Permission> {
        let purpose = name.strip_prefix("consent.")?;
        if !["measurement", "personalisation", "advertising", "partner_sharing"].contains(&purpose) {
            return None;
        }
        let consent = self.consent.get_or_insert_default();
        Some(match purpose {
            "measurement" => &mut consent.measurement,
            "personalisation" => &mut consent.personalisation,
            "advertising" => &mut consent.advertising,
            _ => &mut consent.partner_sharing,
        })
    }

    /// Reads one JSON object, and counts the names that mean nothing.
    ///
    /// # Errors
    /// Where a value is of another type than it should be, with its name and position.
    pub fn from_json(json: &'a str) -> Result<(Self, usize), serde_json::Error> {
        let mut unknown = 0;
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let fields = serde_ignored::deserialize(&mut deserializer, |_| unknown += 1)?;
        deserializer.end()?;
        Ok((fields, unknown))
    }
}

fn decoded(text: &str) -> Result<Text<'_>, QueryError> {
    if !text.bytes().any(|byte| byte == b'+' || byte == b'%') {
        return Ok(Cow::Borrowed(text));
    }
    // Once over it and with one allocation: addresses have an escape every few bytes.
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'+', _) => (b' ', behind),
            (b'%', [high, low, behind @ ..]) if let (Some(high), Some(low)) = (hex(*high), hex(*low)) => {
                (high << 4 | low, behind)
            }
            _ => (*first, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| QueryError::NotUtf8)
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    // Never above 15.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The same of a text that may be broken.
pub(crate) fn decoded_lossy(text: &str) -> String {
    percent_decode(text.replace('+', " ").as_bytes()).decode_utf8_lossy().into_owned()
}

/// The last value of a key wins.
fn put_property<'a>(properties: &mut Map<'a>, key: Text<'a>, value: Text<'a>) -> Result<(), ()> {
    if let Some((_, known)) = properties.0.iter_mut().find(|(known, _)| *known == key) {
        *known = value;
        return Ok(());
    }
    if properties.0.len() == MOST_PROPERTIES {
        return Err(());
    }
    properties.push(key, value);
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number or a boolean")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar(Cow::Owned(number.to_string())))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Scalar(Cow::Borrowed(if truth { "true" } else { "false" })))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::default())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PermissionVisitor)
    }
}

/// Takes whatever comes: were a hit not readable for its answer, it would be kept as it is.
struct PermissionVisitor;

impl<'de> Visitor<'de> for PermissionVisitor {
    type Value = Permission;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("true or false")
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(if truth { Permission::Given } else { Permission::Refused })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Permission::of(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        match number {
            0 | 1 => self.visit_bool(number == 1),
            _ => Ok(Permission::Unclear),
        }
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Permission::Unclear)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Permission::Unclear)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Permission::Unsaid)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Permission::Unclear)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Permission::Unclear)
    }
}

fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<'de>, D::Error> {
    struct Properties;

    impl<'de> Visitor<'de> for Properties {
        type Value = Map<'de>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of texts, numbers and booleans")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Map::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut properties = Map::default();
            while let Some((Scalar(key), Scalar(value))) = access.next_entry()? {
                put_property(&mut properties, key, value)
                    .map_err(|()| A::Error::custom(QueryError::TooManyProperties))?;
            }
            Ok(properties)
        }
    }

    deserializer.deserialize_any(Properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_unknown_names_counted() {
        let query =
            "site=demo&url=https%3A%2F%2Fexample.com%2F%C3%A4+b&p.colour=deep+blue&p.colour=red&nonsense=1&&flag";
        let (fields, unknown) = Fields::from_query(query).unwrap();
        assert_eq!((fields.site.0.as_ref(), fields.url.0.as_ref(), unknown), ("demo", "https://example.com/ä b", 2));
        assert_eq!(fields.properties, Map(vec![("colour".into(), "red".into())]));
    }

    #[test]
    fn consent_is_told_purpose_by_purpose() {
        let query = "consent.measurement=1&consent.advertising=false&consent.partner_sharing=perhaps&consent.wording=v2&consent.x=1";
        let (fields, unknown) = Fields::from_query(query).unwrap();
        let consent = fields.consent.unwrap();
        assert_eq!(
            [consent.measurement, consent.advertising, consent.partner_sharing, consent.personalisation],
            [Permission::Given, Permission::Refused, Permission::Unclear, Permission::Unsaid]
        );
        assert_eq!((consent.wording.0.as_ref(), unknown), ("v2", 1));
    }

    #[test]
    fn a_query_that_is_not_utf8_is_refused() {
        assert_eq!(Fields::from_query("site=demo&title=%ff").unwrap_err(), QueryError::NotUtf8);
    }

    #[test]
    fn json_takes_texts_numbers_booleans_and_nothing() {
        let json = r#"{"site":"demo","time":1700000000000,"title":null,"tag":1.5,"extra":{"a":[1]},
            "contact":{"email":"a@b.example","fax":"1"},"consent":{"measurement":true},
            "properties":{"seats":3,"trial":true,"plan":"gr\u00fcn"}}"#;
        let (fields, unknown) = Fields::from_json(json).unwrap();
        assert_eq!(
            (fields.time.0.as_ref(), fields.title.0.as_ref(), fields.tag.0.as_ref()),
            ("1700000000000", "", "1.5")
        );
        assert_eq!((fields.contact.unwrap().email.0.as_ref(), unknown), ("a@b.example", 2));
        assert_eq!(fields.consent.unwrap().measurement, Permission::Given);
        assert_eq!((fields.properties.get("seats"), fields.properties.get("plan")), (Some("3"), Some("grün")));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = Fields::from_json(r#"{"site":["demo"]}"#).unwrap_err().to_string();
        assert!(error.contains("a text, a number or a boolean") && error.contains("column"), "{error}");
    }

    #[test]
    fn properties_are_bounded() {
        let many: Vec<String> = (0..=MOST_PROPERTIES).map(|number| format!("p.{number}=1")).collect();
        assert_eq!(Fields::from_query(&many.join("&")).unwrap_err(), QueryError::TooManyProperties);
        assert!(Fields::from_query(&many[1..].join("&")).is_ok());
    }
}
