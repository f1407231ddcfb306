//! Requests as browsers send them, made before the run: while it lasts, only what differs from hit to hit is written
//! into their bytes.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use local::Paths;

use super::hit_ids::HitIds;
use super::people::{HitText, Visitor};

/// Requests that are prepared. More would be more varied, and each send would wait longer for memory.
const PREPARED: usize = 8_192;
/// Requests of bodies that are prepared: each holds many hits.
const PREPARED_BODIES: usize = 256;
/// Visitors whose hits they are.
const VISITORS: usize = 4_096;
/// A hit id as text.
const ID_LENGTH: usize = 36;
/// Where a hit id goes.
const ID_PLACE: &str = "00000000-0000-0000-0000-000000000000";
/// Where the last octet of a client's address goes: three digits, from 100 to 249.
pub(super) const OCTET_PLACE: &str = "@@@";
/// Where the build of a user agent goes that nobody has seen: six digits.
pub(super) const BUILD_PLACE: &str = "######";

/// By which way hits come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /p.gif`, one hit each.
    Pixel,
    /// `POST /v1/hits` with so many hits in a JSON array.
    Batch(u32),
}

impl Endpoint {
    /// Hits of one request.
    #[must_use]
    pub fn hits(self) -> u64 {
        match self {
            Self::Pixel => 1,
            Self::Batch(hits) => u64::from(hits),
        }
    }
}

/// One prepared request, and the places in it that are written anew each time.
#[derive(Debug)]
struct Prepared {
    bytes: Vec<u8>,
    ids: Vec<usize>,
    octet: Option<usize>,
    build: Option<usize>,
}

/// All prepared requests.
#[derive(Debug)]
pub struct Requests {
    prepared: Vec<Prepared>,
    hit_ids: HitIds,
    endpoint: Endpoint,
    sent: u64,
}

impl Requests {
    /// Prepares requests to `host` for `sites`, the same for the same seed.
    ///
    /// # Errors
    /// Where the list of user agents can't be read, which deploy/local/fetch.py brings.
    pub fn prepare(host: &str, sites: &[String], endpoint: Endpoint, seed: u64) -> io::Result<Self> {
        let user_agents = std::fs::read_to_string(Paths::new().user_agents())?;
        let user_agents: Vec<&str> = user_agents.lines().collect();
        let mut random = Rng::with_seed(seed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let visitors: Vec<Visitor> = (0..VISITORS).map(|_| Visitor::draw(&mut random, sites, &user_agents)).collect();
        let pick = |random: &mut Rng| random.usize(..visitors.len());
        let prepared = match endpoint {
            Endpoint::Pixel => (0..PREPARED)
                .map(|_| {
                    let visitor = &visitors[pick(&mut random)];
                    Prepared::of(pixel(host, visitor, &HitText::draw(&mut random)))
                })
                .collect(),
            Endpoint::Batch(hits) => (0..PREPARED_BODIES)
                .map(|_| {
                    let sender = &visitors[pick(&mut random)];
                    let items: Vec<String> =
                        (0..hits).map(|_| json(&visitors[pick(&mut random)], &HitText::draw(&mut random))).collect();
                    Prepared::of(batch(host, sender, &items))
                })
                .collect(),
        };
        Ok(Self { prepared, hit_ids: HitIds::new(seed, now), endpoint, sent: 0 })
    }

    /// How the hits of this run are named.
    #[must_use]
    pub fn hit_ids(&self) -> HitIds {
        self.hit_ids
    }

    /// By which way the hits come.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The next request: its number from 0, and its bytes. The hits of request n are numbered from n times the hits of
    /// one request.
    pub fn take(&mut self) -> (u64, &[u8]) {
        let number = self.sent;
        self.sent += 1;
        let count = self.prepared.len() as u64;
        let (index, round) = ((number % count) as usize, number / count);
        let request = &mut self.prepared[index];
        let first = number * self.endpoint.hits();
        for (sequence, place) in (first..).zip(&request.ids) {
            let id = self.hit_ids.id(sequence);
            id.hyphenated().encode_lower(&mut request.bytes[*place..*place + ID_LENGTH]);
        }
        if let Some(place) = request.octet {
            write_number(&mut request.bytes[place..place + OCTET_PLACE.len()], 100 + round % 150);
        }
        if let Some(place) = request.build {
            write_number(&mut request.bytes[place..place + BUILD_PLACE.len()], number % 1_000_000);
        }
        (number, &request.bytes)
    }
}

/// Writes a number with as many digits as there is room for.
fn write_number(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl Prepared {
    fn of(text: String) -> Self {
        let ids = text.match_indices(ID_PLACE).map(|(place, _)| place).collect();
        let (octet, build) = (text.find(OCTET_PLACE), text.find(BUILD_PLACE));
        Self { bytes: text.into_bytes(), ids, octet, build }
    }
}

fn pixel(host: &str, visitor: &Visitor, hit: &HitText) -> String {
    let query = form_urlencoded(&visitor.parameters(hit, ID_PLACE));
    let headers = visitor.headers(host, &hit.url, "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8");
    format!("GET /p.gif?{query} HTTP/1.1\r\n{headers}\r\n")
}

fn json(visitor: &Visitor, hit: &HitText) -> String {
    let mut parameters = visitor.parameters(hit, ID_PLACE);
    let contact: Vec<_> = parameters.extract_if(.., |(name, _)| CONTACT.contains(name)).collect();
    let mut object: serde_json::Map<String, serde_json::Value> =
        parameters.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    object.insert("visitor".to_owned(), visitor.id().into());
    object.insert("session".to_owned(), visitor.session().into());
    if !contact.is_empty() {
        let contact: serde_json::Map<_, _> =
            contact.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        object.insert("contact".to_owned(), contact.into());
    }
    serde_json::Value::Object(object).to_string()
}

/// Parameters that a JSON hit has in its `contact`.
const CONTACT: [&str; 6] = ["name", "email", "phone", "job_title", "company", "address"];

fn batch(host: &str, sender: &Visitor, items: &[String]) -> String {
    let body = format!("[{}]", items.join(","));
    let headers = sender.headers(host, "https://www.example.com/", "application/json");
    let length = body.len();
    format!(
        "POST /v1/hits HTTP/1.1\r\n{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Names and values as `application/x-www-form-urlencoded` (WHATWG URL standard), as browsers write them.
fn form_urlencoded(parameters: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
                b' ' => text.push('+'),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_forms_do() {
        let parameters = [("url", "https://a.example/?b=c d".to_owned()), ("x", "ä".to_owned())];
        assert_eq!(form_urlencoded(&parameters), "url=https%3A%2F%2Fa.example%2F%3Fb%3Dc+d&x=%C3%A4");
    }

    #[test]
    fn numbers_fill_their_place() {
        let mut place = *b"######";
        write_number(&mut place, 42);
        assert_eq!(&place, b"000042");
    }

    #[test]
    fn what_differs_is_written_anew_each_time() {
        let mut prepared = Requests {
            prepared: vec![Prepared::of(format!("GET /?hit={ID_PLACE} X: 1.2.3.@@@ U: a/######"))],
            hit_ids: HitIds::new(1, 5),
            endpoint: Endpoint::Pixel,
            sent: 0,
        };
        let first = prepared.take().1.to_vec();
        let (number, second) = prepared.take();
        let id = prepared_id(second);
        assert_eq!((number, second.len()), (1, first.len()));
        assert!(first.ends_with(b"X: 1.2.3.100 U: a/000000") && second.ends_with(b"X: 1.2.3.101 U: a/000001"));
        assert_eq!(HitIds::new(1, 5).sequence(id), Some(1));
    }

    fn prepared_id(request: &[u8]) -> uuid::Uuid {
        uuid::Uuid::try_parse_ascii(&request[10..46]).unwrap()
    }
}
