//! What clients see, and what is published of it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::collections::{HashMap, HashSet};

use collector::outcome::Outcome;
use schemas::{DeadLetter, Kind, Protocol, Reader, Signal, VisitorIdSource};
use serde_json::json;
use support::{Fixture, cookies, header, json};
use ureq::http::Response;
use uuid::Uuid;

#[test]
fn a_pixel_becomes_a_hit_under_the_visitors_key() {
    let collector = Fixture::start(&[]);
    let response = collector.get("/p.gif?site=demo&title=Pumps", &[("referer", "https://www.example.com/pumps")]);
    assert_eq!((response.status().as_u16(), response.body().len()), (200, 43));
    assert_eq!(
        (header(&response, "content-type"), header(&response, "cache-control")),
        (Some("image/gif"), Some("no-store"))
    );
    assert_eq!(header(&response, "x-hitmeter-outcome"), Some("accepted"));
    let set = cookies(&response);
    assert!(set[0].starts_with("hitmeter_visitor=") && set[0].contains("Max-Age=34128000"), "{set:?}");
    assert!(set[1].starts_with("hitmeter_session=") && set[1].contains("Max-Age=1800"), "{set:?}");

    let visitor = set[0].split(['=', ';']).nth(1).unwrap().to_owned();
    let published = collector.hits(|key, hit| {
        assert_eq!(key, format!("demo\0{visitor}").as_bytes());
        assert_eq!((hit.kind, hit.protocol, hit.page_title.as_ref()), (Kind::PageView, Protocol::Pixel, "Pumps"));
        assert_eq!((hit.visitor_id.as_ref(), hit.visitor_id_source), (visitor.as_str(), VisitorIdSource::Cookie));
        assert_eq!((hit.page_url.as_ref(), hit.ip.as_ref()), ("https://www.example.com/pumps", "127.0.0.1"));
    });
    assert_eq!(published, 1);
    collector.assert_outcomes_add_up();
}

#[test]
fn the_session_rolls_on_with_its_cookie() {
    let collector = Fixture::start(&[]);
    let first = cookies(&collector.get("/p.gif?site=domain", &[]));
    let pairs: Vec<&str> = first.iter().map(|cookie| cookie.split(';').next().unwrap()).collect();
    let second = cookies(&collector.get("/p.gif?site=domain", &[("cookie", &pairs.join("; "))]));
    assert_eq!(first[1..], second, "the session's cookie is renewed, the visitor's is not");
    assert!(second[0].contains("Max-Age=600") && second[0].contains("Domain=example.com"), "{second:?}");
}

#[test]
fn a_server_that_tells_its_visitor_and_a_mail_that_is_opened_begin_no_session() {
    let collector = Fixture::start(&[]);
    let post =
        collector.post("/v1/hits", &[], r#"[{"site":"demo","visitor":"4711"},{"site":"demo","visitor":"4711"}]"#);
    assert_eq!((json(&post)["accepted"].as_u64(), cookies(&post).len()), (Some(2), 0));
    let mail = cookies(&collector.get("/p.gif?site=demo&event=mail_open", &[]));
    assert!(mail.len() == 1 && mail[0].starts_with("hitmeter_visitor="), "{mail:?}");
    assert_eq!(collector.hits(|_, hit| assert_eq!(hit.session_id, None, "{:?}", hit.kind)), 3);
}

#[test]
fn a_proxy_that_is_trusted_tells_address_and_scheme() {
    let collector = Fixture::start(&["--trusted-proxy", "127.0.0.0/8"]);
    let told = [("x-forwarded-for", "9.9.9.9, 198.51.100.4"), ("x-forwarded-proto", "https")];
    let response = collector.get("/p.gif?site=demo", &told);
    assert!(cookies(&response)[0].ends_with("SameSite=None; Secure"), "{:?}", cookies(&response));
    assert_eq!(collector.hits(|_, hit| assert_eq!(hit.ip, "198.51.100.4")), 1);
}

#[test]
fn the_pixel_answers_a_picture_whatever_comes() {
    let collector = Fixture::start(&[]);
    for (query, outcome) in [
        ("", "dropped_no_site"),
        ("?site=nobody", "dropped_unknown_site"),
        ("?site=demo&title=%ff", "dead_lettered"),
        ("?site=nobody&title=%ff", "dropped_unknown_site"),
    ] {
        let response = collector.get(&format!("/p.gif{query}"), &[]);
        assert_eq!((response.status().as_u16(), response.body().len()), (200, 43), "{query}");
        assert_eq!(header(&response, "x-hitmeter-outcome"), Some(outcome), "{query}");
        assert!(cookies(&response).is_empty());
    }
    let response = collector.get("/p.gif?site=drop", &[("sec-gpc", "1")]);
    assert_eq!(header(&response, "x-hitmeter-outcome"), Some("dropped_objection"));
    assert_eq!(collector.hits(|_, _| ()), 0);

    let letters = letters(&collector);
    assert_eq!(
        letters,
        [("demo".to_owned(), "site=demo&title=%ff".to_owned(), "a parameter's value is not UTF-8".to_owned())]
    );
    collector.assert_outcomes_add_up();
}

/// Site, original and detail of each dead letter.
fn letters(collector: &Fixture) -> Vec<(String, String, String)> {
    let reader = Reader::new::<DeadLetter>(None).unwrap();
    let letter = |(_, value): &(Vec<u8>, Vec<u8>)| {
        let body = reader.body(value).unwrap();
        let letter: DeadLetter = schemas::codec::decode_all(&body).unwrap();
        let original = String::from_utf8_lossy(&letter.original).into_owned();
        (letter.site.into_owned(), original, letter.detail.into_owned())
    };
    collector.messages("hits.dead", 1).iter().map(letter).collect()
}

#[test]
fn under_an_objection_nothing_of_what_cannot_be_read_is_kept() {
    let collector = Fixture::start(&[]);
    let (broken, wrong) = (r#"{"site":"demo","email":"me@x.example""#, r#"{"site":"demo","contact":"me@x.example"}"#);
    for header in [("sec-gpc", "1"), ("dnt", "1"), ("cookie", "hitmeter_opt_out=1")] {
        collector.get("/p.gif?site=demo&email=me@x.example&title=%ff", &[header]);
        for body in [broken, wrong, "me@x.example"] {
            assert_eq!(collector.post("/v1/hits", &[header], body).status().as_u16(), 400);
        }
    }
    let withheld = letters(&collector);
    assert_eq!(withheld.len(), 12);
    for (site, original, detail) in withheld {
        assert!(
            (site == "demo" || site.is_empty()) && original.is_empty() && !detail.contains("me@"),
            "{site} {detail}"
        );
    }
    // A refusal in what was sent counts like a signal, and so does silence where consent is required.
    collector.get("/p.gif?site=demo&consent.measurement=0&title=%ff", &[]);
    collector.post("/v1/hits", &[], r#"{"site":"demo","consent":{"measurement":false},"contact":"me@x.example"}"#);
    collector.post("/v1/hits", &[], r#"{"site":"consent","contact":"me@x.example"}"#);
    assert!(letters(&collector).iter().all(|(_, original, _)| original.is_empty()));
    assert_eq!(collector.metrics.outcome(Outcome::DeadLettered), 15);

    let dropped = collector.post("/v1/hits", &[("dnt", "1")], r#"{"site":"drop","contact":"me@x.example"}"#);
    assert_eq!(dropped.status().as_u16(), 400);
    assert_eq!(collector.metrics.outcome(Outcome::DroppedObjection), 1);
    collector.post("/v1/hits", &[], wrong);
    let kept: Vec<_> = letters(&collector).into_iter().filter(|(_, original, _)| !original.is_empty()).collect();
    let detail = "a value is not of its type, at line 1 column 39".to_owned();
    assert_eq!(kept, [("demo".to_owned(), wrong.to_owned(), detail)], "the detail holds nothing of what was sent");
    collector.assert_outcomes_add_up();
}

#[test]
fn what_cannot_be_read_is_published_only_for_sites_that_may_send_here() {
    let collector = Fixture::start(&[]);
    let stranger = &[("origin", "https://evil.example")][..];
    for (headers, body, status) in [
        (&[][..], r#"{"site":"nobody","contact":"me"}"#, 404),
        (&[], r#"{"site":"nobody","contact":"me"#, 404),
        (&[], r#"{"site":"european","contact":"me"}"#, 421),
        (&[], r#"[{"site":"demo"},{"site":"european","contact":"me"#, 421),
        (stranger, r#"{"site":"demo","contact":"me"}"#, 403),
        (stranger, "broken", 403),
    ] {
        assert_eq!(collector.post("/v1/hits", headers, body).status().as_u16(), status, "{body}");
    }
    assert_eq!(letters(&collector), []);
    collector.assert_outcomes_add_up();
}

#[test]
fn a_body_that_cannot_be_decompressed_is_counted_and_kept_where_every_site_permits_it() {
    let collector = Fixture::start(&[]);
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let answer = collector.post("/v1/hits", &[("content-encoding", encoding)], "me@x.example");
        assert_eq!((answer.status().as_u16(), &json(&answer)["rejected"][0]["index"]), (400, &json!(0)));
    }
    assert!(letters(&collector).len() == 4 && letters(&collector).iter().all(|(_, original, _)| original.is_empty()));
    // Of these sites none asks for consent, and none belongs elsewhere.
    std::fs::write(collector.folder.path().join("sites.toml"), "[sites.only]\n").unwrap();
    collector.until("the sites are read again", || collector.get("/v1/sites/only", &[]).status() == 200);
    collector.post("/v1/hits", &[("content-encoding", "gzip")], "x".repeat(70_000));
    collector.post("/v1/hits", &[("content-encoding", "gzip"), ("dnt", "1")], "me@x.example");
    let originals: Vec<_> = letters(&collector).into_iter().map(|(_, original, _)| original.len()).collect();
    assert_eq!(originals, [0, 0, 0, 0, 65_536, 0]);
    assert_eq!(collector.metrics.outcome(Outcome::DeadLettered), 6);
    collector.assert_outcomes_add_up();
}

#[test]
fn a_site_of_another_region_is_refused_and_nothing_of_it_is_stored() {
    for elsewhere in [&["--region=us"][..], &[]] {
        let collector = Fixture::start(elsewhere);
        for query in ["", "&title=%ff"] {
            let pixel = collector.get(&format!("/p.gif?site=european{query}"), &[]);
            assert_eq!((pixel.status().as_u16(), header(&pixel, "x-hitmeter-outcome")), (200, Some("dropped_region")));
            assert!(cookies(&pixel).is_empty());
        }
        assert_eq!(collector.get("/v1/sites/european", &[]).status(), 421);
        let post = collector.post("/v1/hits", &[], r#"{"site":"european"}"#);
        assert_eq!(post.status(), 421);
        assert!(json(&post)["rejected"][0]["reason"].as_str().unwrap().contains("another region"));
        let both = collector.post("/v1/hits", &[], r#"[{"site":"european"},{"site":"demo"}]"#);
        assert_eq!((both.status().as_u16(), &json(&both)["accepted"]), (200, &json!(1)));
        collector.hits(|_, hit| assert_eq!(hit.site, "demo"));
        assert_eq!(collector.metrics.outcome(Outcome::DroppedRegion), 4);
        collector.assert_outcomes_add_up();
    }
    let at_home = Fixture::start(&["--region=eu"]);
    assert_eq!(at_home.get("/v1/sites/european", &[]).status(), 200);
    let pixel = at_home.get("/p.gif?site=european", &[]);
    assert_eq!(header(&pixel, "x-hitmeter-outcome"), Some("accepted"));
    assert_eq!(at_home.hits(|_, hit| assert_eq!(hit.site, "european")), 1);
}

#[test]
fn every_shape_of_body_is_read() {
    let collector = Fixture::start(&[]);
    for (content_type, body, accepted) in [
        ("application/json", r#"{"site":"demo","event":"download","target":"https://x.example/a.pdf"}"#, 1),
        ("text/plain;charset=UTF-8", r#"[{"site":"demo"},{"site":"demo","contact":null}]"#, 2),
        ("application/x-ndjson", "{\"site\":\"demo\"}\n{\"site\":\"demo\"}\n{\"site\":\"demo\"}\n", 3),
    ] {
        let response = collector.post("/v1/hits", &[("content-type", content_type)], body);
        assert_eq!((response.status().as_u16(), json(&response)), (200, json!({"accepted": accepted, "rejected": []})));
    }
    let mut downloads = 0;
    let mut visitors = std::collections::HashSet::new();
    let published = collector.hits(|_, hit| {
        downloads += usize::from(hit.kind == Kind::Download && hit.target_url == "https://x.example/a.pdf");
        visitors.insert(hit.visitor_id.into_owned());
    });
    // One visitor for each request: the hits of one body come from one client.
    assert_eq!((published, downloads, visitors.len()), (6, 1, 3));
}

#[test]
fn what_is_wrong_is_told_by_its_place_and_the_rest_is_taken() {
    let collector = Fixture::start(&[]);
    let body = r#"[{"site":"demo"},{"site":"nobody"},{"event":"page"},{"site":["demo"]},7,{"site":"demo"}]"#;
    let response = collector.post("/v1/hits", &[], body);
    let answer = json(&response);
    assert_eq!((response.status().as_u16(), &answer["accepted"]), (200, &json!(2)));
    let rejected: Vec<_> =
        answer["rejected"].as_array().unwrap().iter().map(|one| one["index"].as_u64().unwrap()).collect();
    assert_eq!(rejected, [1, 2, 3, 4]);
    assert_eq!(collector.hits(|_, _| ()), 2);
    assert_eq!(collector.messages("hits.dead", 1).len(), 2);
    collector.assert_outcomes_add_up();
    let outcomes = collector.outcomes();
    assert_eq!((outcomes["accepted"], outcomes["dead_lettered"], outcomes["dropped_no_site"]), (2, 2, 1));
}

#[test]
fn a_body_of_which_nothing_is_taken_has_a_status_that_says_why() {
    let collector = Fixture::start(&["--batch-hits", "2", "--body-bytes", "2000"]);
    for (headers, body, status) in [
        (&[][..], "not json".to_owned(), 400),
        (&[], r#"{"site":"nobody"}"#.to_owned(), 404),
        (&[("origin", "https://evil.example")], r#"{"site":"demo"}"#.to_owned(), 403),
        (&[], "x".repeat(2001), 413),
        (&[("content-encoding", "rot13")], "x".to_owned(), 415),
        (&[("content-encoding", "gzip")], "x".to_owned(), 400),
    ] {
        let response = collector.post("/v1/hits", headers, &body);
        assert_eq!(response.status().as_u16(), status, "{headers:?} {body:.20}: {:?}", json(&response));
    }
    collector.assert_outcomes_add_up();
}

#[test]
fn of_a_body_with_too_many_hits_the_rest_is_told_at_once_and_counted_in_full() {
    let collector = Fixture::start(&["--batch-hits", "2"]);
    let beyond = 500_000;
    for body in [
        format!("{}{}", "{\"site\":\"demo\"}\n".repeat(2), "1\n".repeat(beyond)),
        format!("[{{\"site\":\"demo\"}},{{\"site\":\"demo\"}}{}]", ",1".repeat(beyond)),
    ] {
        let response = collector.post("/v1/hits", &[], body);
        assert!(response.body().len() < 1000, "{} bytes are answered", response.body().len());
        let (answer, reason) = (json(&response), "the last 500000 hits are beyond the 2 of one body");
        assert_eq!(answer, json!({"accepted": 2, "rejected": [{"index": 2, "reason": reason}]}));
    }
    assert_eq!(collector.metrics.outcome(Outcome::DroppedBatchTooLarge), 2 * beyond as u64);
    collector.assert_outcomes_add_up();
    let broken = collector.post("/v1/hits", &[], "[1,2,3,4,}");
    assert_eq!((broken.status().as_u16(), json(&broken)["rejected"].as_array().unwrap().len()), (400, 1));
}

#[test]
fn an_objection_is_honoured_before_anything_is_stored() {
    let collector = Fixture::start(&[]);
    let body = r#"{"site":"demo","visitor":"me","session":"0190d5a0-0000-7000-8000-000000000001","contact":{"email":"me@x.example"}}"#;
    for header in [("sec-gpc", "1"), ("dnt", "1"), ("cookie", "hitmeter_opt_out=1")] {
        let response = collector.post("/v1/hits", &[header], body);
        assert_eq!((json(&response)["accepted"].as_u64(), cookies(&response).len()), (Some(1), 0));
    }
    let mut signals = Vec::new();
    collector.hits(|_, hit| {
        assert_eq!((hit.visitor_id_source, hit.session_id, hit.contact), (VisitorIdSource::DailyHash, None, None));
        assert_eq!(hit.ip, "127.0.0.0");
        signals.push(hit.signal.as_str());
    });
    signals.sort_unstable();
    assert_eq!(signals, ["do_not_track", "global_privacy_control", "opt_out"]);

    let dropped = json(&collector.post("/v1/hits", &[("dnt", "1")], r#"{"site":"drop"}"#));
    assert_eq!(dropped, json!({"accepted": 0, "dropped": 1, "rejected": []}));
    collector.assert_outcomes_add_up();
}

#[test]
fn without_the_consent_that_a_site_requires_a_hit_is_anonymous() {
    let collector = Fixture::start(&[]);
    assert!(cookies(&collector.get("/p.gif?site=consent", &[])).is_empty());
    assert_eq!(cookies(&collector.get("/p.gif?site=consent&consent.measurement=1", &[])).len(), 2);
    let mut signals = Vec::new();
    collector.hits(|_, hit| signals.push(hit.signal));
    signals.sort_unstable_by_key(|signal| *signal as u8);
    assert_eq!(signals, [Signal::None, Signal::NoConsent]);
}

/// Whoever is asked and says anything but yes has not permitted it.
#[test]
fn what_is_no_plain_yes_is_no_consent() {
    let collector = Fixture::start(&[]);
    for answer in ["0", "false", "no", "off", "False", "", "2", "granted"] {
        let set = cookies(&collector.get(&format!("/p.gif?site=demo&consent.measurement={answer}"), &[]));
        assert!(set.is_empty(), "{answer}: {set:?}");
    }
    for answer in ["false", "0", "\"false\"", "\"no\"", "\"\"", "2", "-1", "1.5", "[]", "{\"a\":[1]}"] {
        let body =
            format!(r#"{{"site":"demo","consent":{{"measurement":{answer}}},"contact":{{"email":"me@x.example"}}}}"#);
        let response = collector.post("/v1/hits", &[], body);
        assert_eq!((&json(&response)["accepted"], cookies(&response)), (&json!(1), vec![]), "{answer}");
    }
    let refused = collector.hits(|_, hit| {
        assert_eq!((hit.signal, hit.contact), (Signal::NoConsent, None));
        assert_eq!(hit.consent.unwrap().measurement, Some(false));
    });
    assert_eq!(refused, 18);
    let invalid = collector.metrics.invalid_parameters.with_label_values(&["consent.measurement"]);
    assert_eq!(invalid.get(), 6 + 7, "all but the plain ones");
    for answer in ["true", "1", "\"true\"", "\"1\"", "null"] {
        let body = format!(r#"{{"site":"demo","consent":{{"measurement":{answer}}}}}"#);
        assert_eq!(cookies(&collector.post("/v1/hits", &[], body)).len(), 2, "{answer}");
    }
    assert_eq!((letters(&collector), invalid.get()), (vec![], 13));
    collector.assert_outcomes_add_up();
}

#[test]
fn a_refusal_in_what_cannot_be_read_is_one_however_it_is_written() {
    let collector = Fixture::start(&[]);
    for query in ["consent.measurement=no", "consent%2Emeasurement=0", "consent.measurement"] {
        collector.get(&format!("/p.gif?site=demo&email=me@x.example&title=%ff&{query}"), &[]);
    }
    let bodies = [
        r#"{"site":"demo","contact":"me@x.example","consent":{"measurement":"no"}}"#,
        r#"{"site":"demo","contact":"me@x.example","consent":{"measurement":0}}"#,
        r#"{"site":"demo","contact":"me@x.example","consent":false}"#,
        r#"{"site":"demo","contact":"me@x.example","consent":"no"}"#,
        r#"{"site":"demo","contact":"me@x.example","consent":"no""#,
        r#"{"site":"demo","contact":"me@x.example","consent.measurement":"no""#,
        // As one text, in an array in an array, as JavaScript, and as a form.
        r#""{\"site\":\"only\",\"email\":\"me@x.example\",\"consent\":{\"measurement\":false}}""#,
        r#"[[{"site":"only","email":"me@x.example","consent":{"measurement":false}}]]"#,
        "{site: 'only', email: 'me@x.example', consent: {measurement: false}}",
        "site=only&email=me@x.example&consent.measurement=0",
        // Printed over several lines, with a comma too many.
        "{\n\"site\": \"demo\",\n\"email\": \"me@x.example\",\n\"consent\": {\"measurement\": false},\n}",
    ];
    // Where no site is told, something is kept only if no site asks for consent.
    std::fs::write(collector.folder.path().join("sites.toml"), "[sites.demo]\n[sites.only]\n").unwrap();
    collector.until("the sites are read again", || collector.get("/v1/sites/only", &[]).status() == 200);
    for body in bodies {
        collector.post("/v1/hits", &[], body);
    }
    let letters = letters(&collector);
    assert_eq!(letters.len(), 3 + bodies.len());
    for (site, original, detail) in letters {
        assert!(original.is_empty(), "{site} {detail} {original}");
    }
    collector.assert_outcomes_add_up();
}

#[test]
fn a_cookieless_site_has_the_same_visitor_all_day() {
    let collector = Fixture::start(&[]);
    for _ in 0..2 {
        assert!(cookies(&collector.get("/p.gif?site=hash", &[("user-agent", "one")])).is_empty());
    }
    collector.get("/p.gif?site=hash", &[("user-agent", "two")]);
    let mut visitors = std::collections::HashMap::new();
    collector.hits(|_, hit| *visitors.entry(hit.visitor_id.into_owned()).or_insert(0) += 1);
    let mut counts: Vec<_> = visitors.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn scripts_of_configured_origins_may_read_the_answer_and_no_others() {
    let collector = Fixture::start(&[]);
    let ours = [("origin", "https://www.example.com")];
    let response = collector.post("/v1/hits", &ours, r#"{"site":"demo"}"#);
    assert_eq!(header(&response, "access-control-allow-origin"), Some("https://www.example.com"));
    assert_eq!(header(&response, "access-control-allow-credentials"), Some("true"));
    let preflight = collector.options("/v1/hits", &ours);
    assert_eq!(preflight.status().as_u16(), 204);
    assert!(header(&preflight, "access-control-allow-headers").unwrap().contains("content-type"));
    let stranger = collector.options("/v1/hits", &[("origin", "https://evil.example")]);
    assert_eq!((stranger.status().as_u16(), header(&stranger, "access-control-allow-origin")), (204, None));
}

#[test]
fn the_tag_is_served_with_the_settings_of_its_site() {
    let collector = Fixture::start(&[]);
    let mut etags = std::collections::HashSet::new();
    for encoding in ["identity", "gzip"] {
        let script = collector.get("/t.js", &[("accept-encoding", encoding)]);
        assert_eq!(header(&script, "content-encoding"), (encoding == "gzip").then_some("gzip"));
        let text = match encoding {
            "gzip" => std::io::read_to_string(flate2::read::GzDecoder::new(&script.body()[..])).unwrap(),
            _ => String::from_utf8(script.body().clone()).unwrap(),
        };
        assert!(text == collector::tag::SCRIPT && (encoding != "gzip" || script.body().len() < 4000));
        assert_eq!(header(&script, "vary"), Some("accept-encoding"));
        let etag = header(&script, "etag").unwrap();
        let again = collector.get("/t.js", &[("accept-encoding", encoding), ("if-none-match", etag)]);
        assert_eq!((again.status().as_u16(), header(&again, "vary")), (304, Some("accept-encoding")));
        etags.insert(etag.to_owned());
    }
    assert_eq!(etags.len(), 2, "each form has its name");
    let settings = json(&collector.get("/v1/sites/consent", &[]));
    assert_eq!((&settings["consent"], &settings["session_minutes"]), (&json!("required"), &json!(30)));
    assert_eq!(collector.get("/v1/sites/nobody", &[]).status().as_u16(), 404);
}

#[test]
fn a_person_objects_and_takes_it_back() {
    let collector = Fixture::start(&[]);
    let as_json = ("accept", "application/json");
    let out = collector.post("/opt-out", &[as_json], "");
    assert_eq!(json(&out), json!({"opted_out": true}));
    let set = cookies(&out);
    assert!(set[0].starts_with("hitmeter_opt_out=1;"), "{set:?}");
    assert!(set[1].starts_with("hitmeter_visitor=; Path=/; Max-Age=0"), "{set:?}");
    let status = collector.get("/opt-status", &[as_json, ("cookie", "hitmeter_opt_out=1")]);
    assert_eq!(json(&status), json!({"opted_out": true}));
    let page = collector.get("/opt-out", &[]);
    assert!(String::from_utf8_lossy(page.body()).contains("not recorded"), "a page for a person");
    let back = collector.post("/opt-in", &[as_json], "");
    assert!(cookies(&back)[0].starts_with("hitmeter_opt_out=; Path=/; Max-Age=0"));
    let stranger = collector.get("/opt-in", &[("sec-fetch-site", "cross-site")]);
    assert_eq!((stranger.status().as_u16(), cookies(&stranger).len()), (403, 0));
}

/// The tag keeps the choice on the site's cookie domain, where a page of the site sees it.
#[test]
fn an_objection_holds_and_ends_wherever_the_tag_and_the_collector_keep_it() {
    let collector = Fixture::start(&[]);
    let kept = |path: &str, host: &str| {
        let set = cookies(&collector.post(path, &[("host", host)], "")).into_iter();
        let choices = set.filter(|cookie| cookie.starts_with("hitmeter_opt_out="));
        choices.map(|cookie| cookie.replace("hitmeter_opt_out=", "").replace("; SameSite=Lax", "")).collect::<Vec<_>>()
    };
    let (here, domain) = ("1; Path=/; Max-Age=34128000", "1; Path=/; Max-Age=34128000; Domain=example.com");
    assert_eq!(kept("/opt-out", "t.example.com:8080"), [here, domain]);
    assert_eq!(kept("/opt-out", "t.example.org"), [here]);
    let (here, domain) = ("; Path=/; Max-Age=0", "; Path=/; Max-Age=0; Domain=example.com");
    assert_eq!(kept("/opt-in", "t.example.com"), [here, domain]);
    assert_eq!(kept("/opt-in", "t.example.org"), [here]);
    assert_eq!(kept("/opt-status", "t.example.com"), [""; 0]);
}

#[test]
fn what_is_not_there_says_so() {
    let collector = Fixture::start(&[]);
    assert_eq!(collector.get("/nothing", &[]).status().as_u16(), 404);
    let wrong = collector.get("/v1/hits", &[]);
    assert_eq!((wrong.status().as_u16(), header(&wrong, "allow")), (405, Some("POST, OPTIONS")));
    assert_eq!(collector.get("/health", &[]).status().as_u16(), 200);
    assert_eq!(collector.get("/metrics", &[]).status().as_u16(), 404);
}

/// A client that keeps neither an id nor cookies is somebody new with each request, but with the same one sent again.
#[test]
fn a_retry_is_of_the_visitor_that_the_hit_was_of() {
    let collector = Fixture::start(&[]);
    let (first, second) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    let one = format!("/p.gif?site=demo&hit={first}");
    let body = format!(r#"[{{"site":"demo","hit":"{second}"}},{{"site":"demo"}}]"#);
    let visitors = |answers: [Response<Vec<u8>>; 2]| {
        answers
            .map(|answer| cookies(&answer).into_iter().find(|cookie| cookie.starts_with("hitmeter_visitor=")).unwrap())
    };
    let retried = visitors([collector.get(&one, &[]), collector.get(&one, &[])]);
    assert_eq!(retried[0], retried[1]);
    let posted = visitors([collector.post("/v1/hits", &[], &body), collector.post("/v1/hits", &[], &body)]);
    assert_eq!(posted[0], posted[1]);
    // Others are others, although their clients say the same.
    let other = [("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")];
    let [of_other, unnamed] = visitors([collector.get(&one, &other), collector.get("/p.gif?site=demo", &[])]);
    let all = [&retried[0], &posted[0], &of_other, &unnamed];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());

    let mut keys: HashMap<Uuid, Vec<Vec<u8>>> = HashMap::new();
    collector.hits(|key, hit| {
        assert_eq!(hit.visitor_id_source, VisitorIdSource::Cookie);
        assert!(Uuid::try_parse(&hit.visitor_id).is_ok_and(|id| id.get_version_num() == 4));
        keys.entry(hit.hit_id).or_default().push(key.to_vec());
    });
    let of = |hit: &str| keys[&hit.parse::<Uuid>().unwrap()].clone();
    assert_eq!((of(&first).len(), of(&second).len()), (3, 2));
    assert_eq!(of(&second)[0], of(&second)[1]);
}
