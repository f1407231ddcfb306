//! The real files: GeoIP databases, user agents, referrers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

mod common;

use std::path::Path;

use common::Files;
use enricher::data::geoip::{DatabaseKind, GeoIp};
use enricher::data::referrers::Referrers;
use enricher::data::user_agents::UserAgents;
use schemas::{DeviceKind, Map, SourceKind};

fn geoip(files: &Files) -> GeoIp {
    GeoIp::open(Some(&files.city), Some(&files.network)).unwrap()
}

/// What MaxMind's own pages and the registries of the networks say about these addresses.
#[test]
fn well_known_addresses_are_where_they_are() {
    let Some(files) = Files::or_skip("well_known_addresses_are_where_they_are") else { return };
    let geoip = geoip(&files);
    let databases = geoip.current();
    for (address, country, city, time_zone, network) in [
        ("8.8.8.8", "US", "", "America/Chicago", Some(15_169)),
        ("81.2.69.142", "GB", "Wimbledon", "Europe/London", Some(20_712)),
        ("89.160.20.112", "SE", "Tumba", "Europe/Stockholm", Some(29_518)),
        ("::ffff:89.160.20.112", "SE", "Tumba", "Europe/Stockholm", Some(29_518)),
        ("2001:4860:4860::8888", "US", "", "America/Chicago", Some(15_169)),
        ("2a00:1450:4001:82a::200e", "DE", "Frankfurt am Main", "Europe/Berlin", Some(15_169)),
        ("127.0.0.1", "", "", "", None),
        ("10.1.2.3", "", "", "", None),
        ("fe80::1", "", "", "", None),
    ] {
        let (facts, _) = databases.look_up(address);
        let place = &facts.place;
        assert_eq!((&*place.country, &*place.city, &*place.time_zone), (country, city, time_zone), "{address}");
        assert_eq!(facts.network.number, network, "{address}");
        assert!(facts.problems.is_empty(), "{address}");
    }
    let (sweden, cached) = databases.look_up("89.160.20.112");
    assert!(cached);
    assert_eq!((sweden.place.latitude, sweden.place.longitude), (Some(59.1986), Some(17.8332)));
    assert_eq!(sweden.network.organisation, "Bredband2 AB");
    assert!(databases.version().starts_with("GeoLite2-City@15"), "{}", databases.version());
    assert!(databases.version().contains(" GeoLite2-ASN@15"), "{}", databases.version());
}

#[test]
fn a_database_of_the_other_kind_is_refused() {
    let Some(files) = Files::or_skip("a_database_of_the_other_kind_is_refused") else { return };
    let error = GeoIp::open(Some(&files.network), None).unwrap_err().to_string();
    assert!(error.contains("GeoLite2-ASN") && error.contains("--geoip-city"), "{error}");
}

fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_damaged_file_keeps_the_old_database_and_a_sound_one_replaces_it() {
    let Some(files) = Files::or_skip("a_damaged_file_keeps_the_old_database_and_a_sound_one_replaces_it") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.mmdb");
    let sound = std::fs::read(&files.network).unwrap();
    std::fs::write(&path, &sound).unwrap();
    let geoip = GeoIp::open(None, Some(&path)).unwrap();
    let number = || geoip.current().look_up("8.8.8.8").0.network.number;
    assert_eq!(number(), Some(15_169));
    assert!(geoip.look().is_empty(), "nothing changed");

    let mut scrambled = sound.clone();
    for byte in &mut scrambled[2_000_000..2_000_200] {
        *byte = 0xff;
    }
    for damaged in [&sound[..sound.len() / 2], &scrambled[..], b"", b"no database"] {
        replace(&path, damaged);
        let reloads = geoip.look();
        assert_eq!(reloads.len(), 1);
        assert_eq!(reloads[0].kind, DatabaseKind::Network);
        assert!(reloads[0].result.is_err());
        assert_eq!(number(), Some(15_169), "the old one is kept");
        assert!(geoip.look().is_empty(), "a file is tried once");
    }

    // The same database, built a second later: its build time is the last number of its metadata.
    let marker = b"build_epoch";
    let at = sound.windows(marker.len()).rposition(|window| window == marker).unwrap() + marker.len();
    let mut newer = sound.clone();
    let control = newer[at];
    let length = usize::from(control & 0x1f);
    newer[at + 1 + length] += 1;
    let before = geoip.current().version().to_owned();
    replace(&path, &newer);
    let reloads = geoip.look();
    assert!(reloads[0].result.is_ok(), "{reloads:?}");
    assert_ne!(geoip.current().version(), before);
    let (_, cached) = geoip.current().look_up("8.8.8.8");
    assert!(!cached, "the cache went with the old database");
    assert_eq!(number(), Some(15_169));

    std::fs::remove_file(&path).unwrap();
    assert!(geoip.look()[0].result.is_err());
    assert_eq!(number(), Some(15_169), "a file that is gone changes nothing");
}

#[test]
fn real_browsers_are_recognised_and_none_is_taken_for_a_robot() {
    let Some(files) = Files::or_skip("real_browsers_are_recognised_and_none_is_taken_for_a_robot") else { return };
    let user_agents = UserAgents::open(&files.expressions).unwrap();
    let list = std::fs::read_to_string(&files.user_agents).unwrap();
    let mut known = 0;
    for line in list.lines() {
        let (facts, _) = user_agents.look_up(line, &Map::default());
        assert!(!facts.is_bot, "taken for a robot: {line}");
        let device = &facts.device;
        let complete = !device.browser.is_empty()
            && device.browser_version.contains(|character: char| character.is_ascii_digit())
            && !device.os.is_empty()
            && device.kind != DeviceKind::Unknown;
        known += usize::from(complete);
    }
    let all = list.lines().count();
    assert!(all > 900, "{all} user agents");
    assert!(known * 100 >= all * 97, "only {known} of {all} are known in full");
}

#[test]
fn devices_are_read_as_a_person_reads_them() {
    let Some(files) = Files::or_skip("devices_are_read_as_a_person_reads_them") else { return };
    let user_agents = UserAgents::open(&files.expressions).unwrap();
    for (user_agent, expected) in [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 Edg/124.0.2478.51",
            (DeviceKind::Desktop, "", "", "Windows", "10", "Edge", "124.0.2478.51"),
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4.1 Safari/605.1.15",
            (DeviceKind::Desktop, "Apple", "Mac", "macOS", "10.15.7", "Safari", "17.4.1"),
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4.1 Mobile/15E148 Safari/604.1",
            (DeviceKind::Mobile, "Apple", "iPhone", "iOS", "17.4.1", "Mobile Safari", "17.4.1"),
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
            (DeviceKind::Tablet, "Apple", "iPad", "iOS", "16.6", "Mobile Safari", "16.6"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
            (DeviceKind::Mobile, "", "", "Android", "10", "Chrome Mobile", "124.0.0.0"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36",
            (DeviceKind::Mobile, "Samsung", "SM-S918B", "Android", "13", "Samsung Internet", "23.0"),
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
            (DeviceKind::Desktop, "", "", "Linux", "", "Firefox", "125.0"),
        ),
    ] {
        let (facts, _) = user_agents.look_up(user_agent, &Map::default());
        let device = &facts.device;
        let (brand, model, os, browser) = (&*device.brand, &*device.model, &*device.os, &*device.browser);
        let found = (device.kind, brand, model, os, &*device.os_version, browser, &*device.browser_version);
        assert_eq!(found, expected, "{user_agent}");
    }
}

#[test]
fn a_model_from_the_hints_gets_its_maker() {
    let Some(files) = Files::or_skip("a_model_from_the_hints_gets_its_maker") else { return };
    let user_agents = UserAgents::open(&files.expressions).unwrap();
    let frozen = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36";
    let mut hints = Map::default();
    hints.push("sec-ch-ua-model", "\"SM-S918B\"");
    hints.push("sec-ch-ua-platform", "\"Android\"");
    hints.push("sec-ch-ua-platform-version", "\"14.0.0\"");
    let (facts, _) = user_agents.look_up(frozen, &hints);
    let device = &facts.device;
    assert_eq!((&*device.brand, &*device.model, &*device.os_version), ("Samsung", "SM-S918B", "14"));
}

/// From the pages on which their operators tell their names.
const ROBOTS: [(&str, &str); 14] = [
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36",
        "bingbot",
    ),
    ("DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)", "DuckDuckBot"),
    ("Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", "YandexBot"),
    ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "AhrefsBot"),
    ("Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", "SemrushBot"),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", ""),
    ("LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)", "LinkedInBot"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "GPTBot",
    ),
    ("Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)", "ClaudeBot"),
    ("python-requests/2.31.0", "Python Requests"),
    ("curl/8.5.0", "curl"),
    ("Wget/1.21.4", "Wget"),
    (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/124.0.6367.91 Safari/537.36",
        "HeadlessChrome",
    ),
];

#[test]
fn robots_are_marked_and_named() {
    let Some(files) = Files::or_skip("robots_are_marked_and_named") else { return };
    let user_agents = UserAgents::open(&files.expressions).unwrap();
    for (user_agent, name) in ROBOTS {
        let (facts, _) = user_agents.look_up(user_agent, &Map::default());
        assert!(facts.is_bot, "not taken for a robot: {user_agent}");
        assert_eq!(facts.device.kind, DeviceKind::Other, "{user_agent}");
        if !name.is_empty() {
            assert_eq!(facts.bot_name, name, "{user_agent}");
        }
    }
}

#[test]
fn well_known_referrers_are_known() {
    let Some(files) = Files::or_skip("well_known_referrers_are_known") else { return };
    let referrers = Referrers::open(&files.referrers).unwrap();
    assert!(referrers.len() > 2_000);
    for (host, path, expected) in [
        ("www.google.com", "/", Some((SourceKind::Search, "Google"))),
        ("www.google.co.uk", "/search", Some((SourceKind::Search, "Google"))),
        ("google.de", "/imgres", Some((SourceKind::Search, "Google Images"))),
        ("www.bing.com", "/search", Some((SourceKind::Search, "Bing"))),
        ("duckduckgo.com", "/", Some((SourceKind::Search, "DuckDuckGo"))),
        ("t.co", "/abc", Some((SourceKind::Social, "Twitter"))),
        ("www.linkedin.com", "/feed", Some((SourceKind::Social, "LinkedIn"))),
        ("mail.google.com", "/", Some((SourceKind::Mail, "Gmail"))),
        ("chatgpt.com", "/", Some((SourceKind::Assistant, "ChatGPT"))),
        ("www.perplexity.ai", "/search", Some((SourceKind::Assistant, "Perplexity"))),
        ("gemini.google.com", "/app", Some((SourceKind::Assistant, "Gemini"))),
        ("copilot.microsoft.com", "/", Some((SourceKind::Assistant, "Copilot"))),
        ("claude.ai", "/chat", Some((SourceKind::Assistant, "Claude"))),
        ("docs.google.com", "/document", None),
        ("www.example.com", "/", None),
    ] {
        let found = referrers.find(host, path).map(|found| (found.kind, &*found.name));
        assert_eq!(found, expected, "{host}{path}");
    }
    let google = referrers.find("www.google.com", "/").unwrap();
    assert_eq!(google.parameters, ["q", "query", "Keywords"]);
}
