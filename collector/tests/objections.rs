//! Who objects by another way than the browser is known at the next contact.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

mod support;

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemas::codec::decode_all;
use schemas::topics::privacy_key;
use schemas::{DeadLetter, PrivacyAction, PrivacyDirective, Reader, Signal, SubjectKind, VisitorIdSource, Writer};
use service::privacy::keys::{Key, Keys, normal};
use support::{Fixture, cookies, header};

const ONE: &str = "one 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\n";

fn object(collector: &Fixture, keys: &Keys, site: &'static str, kind: SubjectKind, value: &str) {
    object_under(keys.newest(), collector, site, kind, value);
}

fn object_under(key: &Key, collector: &Fixture, site: &'static str, kind: SubjectKind, value: &str) {
    let directive = PrivacyDirective {
        site: site.into(),
        subject_kind: kind,
        subject: hex::encode(key.hash(site, kind, &normal(kind, value))).into(),
        key_name: key.name().into(),
        action: PrivacyAction::Object,
        ..PrivacyDirective::default()
    };
    let mut message = Vec::new();
    Writer::single_object::<PrivacyDirective<'_>>().unwrap().write(&directive, &mut message);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", collector.broker.bootstrap_servers()).create().unwrap();
    let topic_key = privacy_key(&directive);
    producer.send(BaseRecord::to("privacy").key(&topic_key).payload(&message)).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// A collector with keys that has been told of Ada's visitor id and address. The file has to stay.
fn where_ada_objects() -> (tempfile::NamedTempFile, Keys, Fixture) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ONE).unwrap();
    let keys = Keys::open(file.path()).unwrap();
    let collector = Fixture::start(&[&format!("--privacy-keys={}", file.path().display())]);
    object(&collector, &keys, "demo", SubjectKind::VisitorId, "v-1");
    object(&collector, &keys, "demo", SubjectKind::Email, "ada@steel.example");
    (file, keys, collector)
}

#[test]
fn who_objects_is_known_again_and_gets_the_cookie_that_says_so() {
    let (_file, keys, collector) = where_ada_objects();
    object(&collector, &keys, "drop", SubjectKind::VisitorId, "v-1");

    let known = [("cookie", "hitmeter_visitor=v-1")];
    let says_so = |cookies: &[String]| cookies.iter().any(|cookie| cookie.starts_with("hitmeter_opt_out=1"));
    collector.until("the objection is known", || says_so(&cookies(&collector.get("/p.gif?site=demo", &known))));
    let signals = || {
        let mut found = Vec::new();
        collector.hits(|_, hit| found.push(hit.signal));
        (found.iter().filter(|signal| **signal == Signal::None).count(), found.len())
    };
    let before = signals();

    let forgets = |cookies: &[String]| cookies.iter().any(|cookie| cookie.starts_with("hitmeter_visitor=; "));
    assert!(forgets(&cookies(&collector.get("/p.gif?site=demo", &known))));
    let form = r#"{"site":"demo","event":"form","visitor":"somebody","contact":{"email":"Ada@Steel.example"}}"#;
    assert!(says_so(&cookies(&collector.post("/v1/hits", &[], form))));
    let dropped = collector.get("/p.gif?site=drop", &known);
    assert_eq!(header(&dropped, "x-hitmeter-outcome"), Some("dropped_objection"));
    assert!(says_so(&cookies(&dropped)));
    // A browser that says so itself needs to be told nothing.
    assert!(cookies(&collector.get("/p.gif?site=demo", &[("cookie", "hitmeter_opt_out=1")])).is_empty());
    // Others are as they were.
    assert!(!says_so(&cookies(&collector.get("/p.gif?site=demo", &[("cookie", "hitmeter_visitor=v-2")]))));

    let after = signals();
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 4));
    collector.hits(|key, hit| {
        if hit.signal == Signal::OptOut {
            assert_eq!((hit.visitor_id_source, hit.contact), (VisitorIdSource::DailyHash, None));
            assert!(!String::from_utf8_lossy(key).contains("v-1"));
        }
    });
    collector.assert_outcomes_add_up();
}

/// What a site's people sent that can't be read is kept as a dead letter, but nothing of those who object.
#[test]
fn nothing_is_kept_of_what_cannot_be_read_where_its_person_objects_or_may() {
    let (_file, keys, collector) = where_ada_objects();
    object(&collector, &keys, "demo", SubjectKind::Phone, "+49304711");
    object(&collector, &keys, "drop", SubjectKind::VisitorId, "v-9");
    let says_so = |visitor: &str, site: &str, more: &str| {
        let cookie = format!("hitmeter_visitor={visitor}");
        let answer = collector.get(&format!("/p.gif?site={site}{more}"), &[("cookie", cookie.as_str())]);
        cookies(&answer).iter().any(|cookie| cookie.starts_with("hitmeter_opt_out=1"))
    };
    collector.until("the visitor is known", || says_so("v-1", "demo", ""));
    collector.until("the address is known", || says_so("x", "demo", "&email=ada@steel.example"));
    collector.until("the number is known", || says_so("x", "demo", "&phone=%2B49304711"));
    collector.until("the other visitor is known", || says_so("v-9", "drop", ""));

    let others = r#"{"site":"demo","contact":"ben@steel.example"}"#;
    collector.post("/v1/hits", &[], others);
    collector.get("/p.gif?site=demo&email=ben@steel.example&title=%ff", &[]);
    // By a cookie, in the wrong place, in a query, in what is no JSON, and where no site is told.
    collector.post("/v1/hits", &[("cookie", "hitmeter_visitor=v-1")], others);
    collector.post("/v1/hits", &[], r#"{"site":"demo","contact":"Ada@steel.example"}"#);
    collector.get("/p.gif?site=demo&phone=0049+(30)+4711&title=%ff", &[]);
    collector.post("/v1/hits", &[], r#"{"site":"demo","contact":{"email":"ada@steel.example""#);
    collector.post("/v1/hits", &[], r#"["ada@steel.example"#);
    // That site drops what is under an objection.
    collector.post("/v1/hits", &[], r#"{"site":"drop","visitor":["v-9"]}"#);

    let kept = ["site=demo&email=ben@steel.example&title=%ff", others];
    assert_eq!(originals(&collector), [&[""; 5], &kept[..]].concat());
    collector.assert_outcomes_add_up();
}

/// Looking for people in it costs time: a body of few bytes must not take seconds.
#[test]
fn of_a_body_with_many_values_only_so_much_is_kept_as_can_be_looked_through() {
    let (_file, keys, collector) = where_ada_objects();
    object(&collector, &keys, "demo", SubjectKind::VisitorId, "v-1");
    collector.until("the visitor is known", || {
        let answer = collector.get("/p.gif?site=demo", &[("cookie", "hitmeter_visitor=v-1")]);
        cookies(&answer).iter().any(|cookie| cookie.starts_with("hitmeter_opt_out=1"))
    });
    // With the names and the site, 403 values each.
    let item = format!(r#"{{"site":"demo","title":[{}]}}"#, ["1"; 400].join(","));
    collector.post("/v1/hits", &[], format!("[{}]", [item.as_str(); 20].join(",")));
    assert_eq!(originals(&collector), [[""; 8].as_slice(), [item.as_str(); 12].as_slice()].concat());
    collector.assert_outcomes_add_up();
}

/// What the dead letters keep of what was sent.
fn originals(collector: &Fixture) -> Vec<String> {
    let reader = Reader::new::<DeadLetter<'_>>(None).unwrap();
    let original = |(_, value): &(Vec<u8>, Vec<u8>)| {
        let body = reader.body(value).unwrap();
        let letter: DeadLetter<'_> = decode_all(&body).unwrap();
        String::from_utf8_lossy(&letter.original).into_owned()
    };
    let mut originals: Vec<_> = collector.messages("hits.dead", 1).iter().map(original).collect();
    originals.sort();
    originals
}

/// Keys are changed while the collector runs: what it understands holds, and what it does not, once its file has the key.
#[test]
fn one_objection_that_is_not_understood_holds_up_no_other() {
    let (file, keys, collector) = where_ada_objects();
    let says_so = |visitor: &str| {
        let cookie = format!("hitmeter_visitor={visitor}");
        let answer = collector.get("/p.gif?site=demo", &[("cookie", cookie.as_str())]);
        cookies(&answer).iter().any(|cookie| cookie.starts_with("hitmeter_opt_out=1"))
    };
    collector.until("the visitor is known", || says_so("v-1"));
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), format!("two {}\n{ONE}", "a5".repeat(32))).unwrap();
    let both = Keys::open(other.path()).unwrap();

    object(&collector, &both, "demo", SubjectKind::VisitorId, "v-2");
    object(&collector, &keys, "demo", SubjectKind::VisitorId, "v-3");
    collector.until("the other visitor is known", || says_so("v-3"));
    assert!(says_so("v-1") && !says_so("v-2"));
    // Whose it is can't be told, and hits.dead is judged by nobody else. At this site nobody is known to object.
    collector.post("/v1/hits", &[], r#"{"site":"hash","visitor":["v-2"]}"#);
    assert_eq!(originals(&collector), [""]);

    std::fs::copy(other.path(), file.path()).unwrap();
    collector.until("the visitor is known", || says_so("v-2"));
    let kept = r#"{"site":"hash","visitor":["v-9"]}"#;
    collector.until("all are known", || {
        collector.post("/v1/hits", &[], kept);
        originals(&collector).iter().any(|original| original == kept)
    });
    collector.assert_outcomes_add_up();
}
