//! Visitors and what they do: drawn at random, in proportions that a business site sees.

use std::fmt::Write;

use fastrand::Rng;
use uuid::Builder;

use super::requests::{BUILD_PLACE, OCTET_PLACE};

/// Of a hundred visitors, so many are robots.
const ROBOTS_PERCENT: u32 = 5;
/// Of a hundred visitors, so many have a user agent that was never seen before, with each of their hits.
const UNSEEN_PERCENT: u32 = 10;
/// Of a hundred visitors, so many come for the first time: without cookies.
const NEW_PERCENT: u32 = 15;
/// Of a hundred visitors, so many object (`Sec-GPC: 1`).
const OBJECTING_PERCENT: u32 = 3;
/// Page addresses are from this many bytes long ...
const SHORTEST_URL: usize = 80;
/// ... to this many.
const LONGEST_URL: usize = 300;

const ROBOTS: [&str; 4] = [
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
];
const LANGUAGES: [&str; 6] =
    ["en-US,en;q=0.9", "en-GB,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "de-CH", "fr-FR,fr;q=0.9,en;q=0.7", "nl,en;q=0.8"];
const TIME_ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Europe/London", "Europe/Zurich"];
const SCREENS: [&str; 5] = ["1920x1080", "1536x864", "2560x1440", "390x844", "412x915"];
const REFERRERS: [&str; 8] = [
    "https://www.google.com/",
    "https://www.google.com/",
    "https://www.bing.com/",
    "https://www.linkedin.com/",
    "https://duckduckgo.com/",
    "https://news.example.org/2026/11/centrifugal-pumps-compared",
    "",
    "",
];
const WORDS: [&str; 16] = [
    "pumps",
    "valves",
    "centrifugal",
    "series",
    "process-water",
    "datasheet",
    "pricing",
    "stainless",
    "support",
    "references",
    "configurator",
    "spare-parts",
    "industry",
    "chemicals",
    "compare",
    "news",
];

/// Somebody, or a robot, with one browser.
#[derive(Debug)]
pub(super) struct Visitor {
    site: String,
    id: String,
    session: String,
    is_new: bool,
    objects: bool,
    user_agent: String,
    language: &'static str,
    time_zone: &'static str,
    screen: &'static str,
    address: String,
}

fn uuid(random: &mut Rng) -> String {
    Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid().to_string()
}

fn one<'a, T: ?Sized>(random: &mut Rng, choices: &[&'a T]) -> &'a T {
    choices[random.usize(..choices.len())]
}

fn percent(random: &mut Rng, share: u32) -> bool {
    random.u32(..100) < share
}

impl Visitor {
    /// Draws one; the first of `user_agents` are the most used.
    pub(super) fn draw(random: &mut Rng, sites: &[String], user_agents: &[&str]) -> Self {
        let user_agent = if percent(random, ROBOTS_PERCENT) {
            one(random, &ROBOTS).to_owned()
        } else {
            let rank = random.f64().powi(3) * user_agents.len() as f64;
            let known = user_agents[rank as usize];
            if percent(random, UNSEEN_PERCENT) { format!("{known} Build/{BUILD_PLACE}") } else { known.to_owned() }
        };
        let mut octets = [0; 3];
        octets[0] = random.u8(1..=223);
        octets[1..].fill_with(|| random.u8(..));
        let [a, b, c] = octets;
        // 10 and 127 are nobody's addresses.
        let a = if a == 10 || a == 127 { 11 } else { a };
        Self {
            site: sites[random.usize(..sites.len())].clone(),
            id: uuid(random),
            session: uuid(random),
            is_new: percent(random, NEW_PERCENT),
            objects: percent(random, OBJECTING_PERCENT),
            user_agent,
            language: one(random, &LANGUAGES),
            time_zone: one(random, &TIME_ZONES),
            screen: one(random, &SCREENS),
            address: format!("{a}.{b}.{c}.{OCTET_PLACE}"),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// What the tag or the pixel tells of a hit, by the collector's names.
    pub(super) fn parameters(&self, hit: &HitText, hit_id: &str) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("site", self.site.clone()),
            ("hit", hit_id.to_owned()),
            ("url", hit.url.clone()),
            ("title", hit.title.clone()),
            ("referrer", hit.referrer.to_owned()),
            ("screen", self.screen.to_owned()),
            ("timezone", self.time_zone.to_owned()),
        ];
        parameters.extend(hit.more.iter().cloned());
        parameters
    }

    /// The headers of a request that a page makes, each line ended.
    pub(super) fn headers(&self, host: &str, page: &str, accept: &str) -> String {
        let Self { user_agent, language, address, .. } = self;
        let mut text = format!(
            "Host: {host}\r\nConnection: keep-alive\r\nX-Forwarded-For: {address}\r\nX-Forwarded-Proto: https\r\n\
             User-Agent: {user_agent}\r\nAccept: {accept}\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
             Accept-Language: {language}\r\nReferer: {page}\r\nSec-Fetch-Dest: image\r\nSec-Fetch-Mode: no-cors\r\n\
             Sec-Fetch-Site: same-site\r\n"
        );
        if user_agent.contains("Chrome/") {
            text.push_str(
                "sec-ch-ua: \"Chromium\";v=\"153\", \"Google Chrome\";v=\"153\", \"Not-A.Brand\";v=\"99\"\r\n\
                 sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Windows\"\r\n",
            );
        }
        if self.objects {
            text.push_str("Sec-GPC: 1\r\n");
        }
        if !self.is_new {
            let Self { id, session, .. } = self;
            // Infallible: it writes to a String.
            let _ = write!(text, "Cookie: hitmeter_visitor={id}; hitmeter_session={session}; theme=dark\r\n");
        }
        text
    }
}

/// What somebody does.
#[derive(Debug)]
pub(super) struct HitText {
    pub(super) url: String,
    title: String,
    referrer: &'static str,
    more: Vec<(&'static str, String)>,
}

impl HitText {
    pub(super) fn draw(random: &mut Rng) -> Self {
        let words = [one(random, &WORDS), one(random, &WORDS), one(random, &WORDS)];
        let mut url = format!("https://www.example.com/{}/{}/{}-{}", words[0], words[1], words[2], random.u32(1..500));
        if percent(random, 20) {
            url.push_str("?utm_source=news&utm_medium=email&utm_campaign=autumn-2026");
        }
        let length = random.usize(SHORTEST_URL..=LONGEST_URL);
        url.push_str(if url.contains('?') { "&q=" } else { "?q=" });
        while url.len() < length {
            url.push_str(one(random, &WORDS));
            url.push('-');
        }
        url.truncate(LONGEST_URL);
        let title = format!("{} {} {}", words[0], words[1], words[2]);
        Self { url, title, referrer: one(random, &REFERRERS), more: kind(random) }
    }
}

/// What makes a hit something else than a page view.
fn kind(random: &mut Rng) -> Vec<(&'static str, String)> {
    let event = |name: &str| ("event", name.to_owned());
    match random.u32(..100) {
        0..2 => {
            let person = random.u32(..100_000);
            vec![
                event("form"),
                ("name", format!("Person {person}")),
                ("email", format!("person{person}@company{}.example", person % 900)),
                ("company", format!("Company {}", person % 900)),
                ("job_title", "Head of Purchasing".to_owned()),
            ]
        }
        2..4 => vec![event("download"), ("target", "https://www.example.com/files/n-series.pdf".to_owned())],
        4..6 => vec![event("outlink"), ("target", "https://partner.example.net/shop".to_owned())],
        6..7 => vec![event("search"), ("search", "pump 400 l/min".to_owned())],
        7..20 => vec![event("heartbeat"), ("duration", (random.u32(1..40) * 15_000).to_string())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pages_have_the_lengths_of_real_ones() {
        let mut random = Rng::with_seed(1);
        for _ in 0..1_000 {
            let hit = HitText::draw(&mut random);
            assert!((SHORTEST_URL..=LONGEST_URL).contains(&hit.url.len()), "{}", hit.url);
        }
    }

    #[test]
    fn one_hit_in_fifty_is_a_form() {
        let mut random = Rng::with_seed(1);
        let is_form = |hit: &HitText| hit.more.iter().any(|(name, _)| *name == "email");
        let forms = (0..10_000).map(|_| HitText::draw(&mut random)).filter(is_form).count();
        assert!((150..250).contains(&forms), "{forms}");
    }
}
