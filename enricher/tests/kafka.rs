//! The enricher on a real Kafka: from topic to topic, partner records, replaced files, workers that come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use common::bed::{Bed, PARTITIONS, RECEIVED, end, look, message, raw_hit, without_files};
use common::{Files, mmdb, until};
use enricher::metrics::{Metrics, Outcome};
use enricher::options::{Command, PartnersCommand, RunOptions, read};
use enricher::partners::command;
use enricher::start;
use prometheus::core::Collector;
use rdkafka::message::Message;
use schemas::codec::decode_all;
use schemas::topics::visitor_key;
use schemas::{DeadLetter, RawHit, Reader, Signal, SourceKind};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn with_files(files: &Files) -> Vec<String> {
    let word = |option: &str, path: &Path| format!("--{option}={}", path.display());
    vec![
        word("geoip-city", &files.city),
        word("geoip-network", &files.network),
        word("user-agent-regexes", &files.expressions),
        word("referrers", &files.referrers),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_are_enriched_in_order_and_what_cant_be_read_is_kept() {
    let test = "hits_are_enriched_in_order_and_what_cant_be_read_is_kept";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let Some(files) = Files::or_skip(test) else { return };
    let bed = Bed::new(stack, "flow");
    let (running, shutdown) = bed.start(&with_files(&files)).await;

    let hits: Vec<RawHit<'_>> = (0..3_000).map(|number| raw_hit(number % 50, number)).collect();
    let mut messages: Vec<_> = hits.iter().map(message).collect();
    let broken = [&b"not a hit"[..], b"\xc3\x01unknown!body", &messages[0].1[..40]].map(<[u8]>::to_vec);
    for (at, bytes) in broken.iter().enumerate() {
        messages.insert(1_000 * at, (b"demo\0visitor-7".to_vec(), bytes.clone()));
    }
    bed.send("hits.raw", &messages);

    let enriched = bed.read("hits.enriched", PARTITIONS, hits.len());
    let mut by_visitor: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    look(&enriched, |hit, message| {
        let mut key = Vec::new();
        visitor_key(&hit.hit.site, &hit.hit.visitor_id, &mut key);
        assert_eq!(message.key(), Some(&key[..]), "the key is the raw hit's");
        by_visitor.entry(hit.hit.visitor_id.to_string()).or_default().push(hit.hit.received_at);
        assert_eq!((&*hit.hit.ip, &*hit.language), ("89.160.20.0", "sv"));
        assert_eq!((&*hit.place.country, &*hit.place.city, hit.network.number), ("SE", "Tumba", Some(29_518)));
        assert_eq!((hit.source.kind, &*hit.campaign.medium), (SourceKind::Campaign, "email"));
        assert_eq!((&*hit.device.browser, &*hit.page.path, hit.is_bot), ("Firefox", "/pumps", false));
        assert_eq!(hit.occurred_at, hit.hit.received_at - 1_000);
        assert!(hit.geoip_version.contains("GeoLite2-City") && hit.enrichment_errors.is_empty());
    });
    assert_eq!(by_visitor.len(), 50);
    for (visitor, times) in &by_visitor {
        assert!(times.len() == 60 && times.is_sorted(), "{visitor}: {times:?}");
    }

    let dead = bed.read("hits.dead", 3, broken.len());
    let reader = Reader::new::<DeadLetter<'_>>(None).unwrap();
    let mut reasons = Vec::new();
    for message in &dead {
        let body = reader.body(message.payload().unwrap()).unwrap();
        let letter: DeadLetter<'_> = decode_all(&body).unwrap();
        assert!(broken.iter().any(|bytes| bytes[..] == *letter.original), "the original bytes are kept");
        assert_eq!((&*letter.site, &*letter.source_topic), ("demo", &*format!("{}hits.raw", bed.prefix)));
        assert!(letter.source_partition.is_some() && letter.source_offset.is_some());
        assert_eq!(message.key(), Some(&b"demo\0visitor-7"[..]));
        reasons.push(letter.reason.to_string());
    }
    reasons.sort();
    assert_eq!(reasons, ["header_missing", "schema_unknown", "undecodable"]);

    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.received.get(), 3_003);
    assert_eq!(metrics.outcomes(), 3_003, "every hit read has one outcome");
    assert_eq!(metrics.hits.with_label_values(&[Outcome::Enriched.as_str()]).get(), 3_000);
    assert_eq!(bed.uncommitted(), 0, "shutting down commits what was read");

    // Whoever starts next goes on behind it.
    let (running, shutdown) = bed.start(&with_files(&files)).await;
    bed.send("hits.raw", &[message(&raw_hit(1, 9_999))]);
    let all = bed.read("hits.enriched", PARTITIONS, 3_001);
    look(&all[3_000..], |_, _| {});
    assert_eq!(end(running, shutdown).await.received.get(), 1);
}

/// Runs `enricher partners ...` with these words and gives what it printed.
/// A first look that needs no Java.
#[tokio::test(flavor = "multi_thread")]
async fn hits_find_their_way_on_either_broker() {
    let Some(stack) = local::stack_or_mock("hits_find_their_way_on_either_broker") else { return };
    let bed = Bed::new(stack, "either");
    let mut words = without_files();
    words.push("--delivery=at-least-once".to_owned());
    let mut partitions = PARTITIONS;
    if stack.is_mock() {
        partitions = 4;
        bed.create_on_mock(&["hits.raw", "hits.enriched", "hits.dead", "partners", "privacy"]);
        words.push("--topic-setup=skip".to_owned());
    }
    let (running, shutdown) = bed.start(&words).await;
    let hits: Vec<RawHit<'_>> = (0..100).map(|number| raw_hit(number % 5, number)).collect();
    bed.send("hits.raw", &hits.iter().map(message).collect::<Vec<_>>());
    let mut found = HashSet::new();
    look(&bed.read("hits.enriched", partitions, hits.len()), |hit, _| {
        found.insert(hit.hit.hit_id);
    });
    assert_eq!(found, hits.iter().map(|hit| hit.hit_id).collect());
    let metrics = end(running, shutdown).await;
    assert_eq!((metrics.received.get(), metrics.outcomes()), (100, 100));
}

fn partners_command(bed: &Bed, words: &[&str]) -> PartnersCommand {
    let words: Vec<String> =
        ["enricher", "partners"].iter().chain(words).map(ToString::to_string).chain(bed.kafka_words()).collect();
    let Command::Partners { command } = read(words.into_iter().map(Into::into)).unwrap().command else {
        panic!("not a partners command");
    };
    *command
}

async fn partners(bed: &Bed, words: &[&str]) -> Result<String, command::CommandError> {
    let mut output = Vec::new();
    match partners_command(bed, words) {
        PartnersCommand::Import(options) => command::import(options, &mut output).await?,
        PartnersCommand::List(options) => command::list(options, &mut output).await?,
        PartnersCommand::Remove(options) => command::remove(options, &mut output).await?,
    }
    Ok(String::from_utf8(output).unwrap())
}

const RECORDS: &str = "partner,match_kind,match_value,site,company_name,permitted_uses\n\
    acme,ip_range,89.160.20.0/24,,Example AB,measurement\n\
    acme,ip_range,89.160.0.0/16,,Provider,measurement\n\
    acme,visitor_id,visitor-1,demo,Person's Company,measurement;advertising\n\
    acme,email_domain,example.com,,Unused,advertising\n";

#[tokio::test(flavor = "multi_thread")]
async fn partner_records_are_published_matched_listed_and_removed() {
    let test = "partner_records_are_published_matched_listed_and_removed";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let bed = Bed::new(stack, "partners");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.csv");
    let path = file.to_str().unwrap();

    std::fs::write(&file, format!("{RECORDS}acme,ip_range,nowhere,,,measurement\n")).unwrap();
    let refused = partners(&bed, &["import", path]).await.unwrap_err().to_string();
    assert!(refused.contains("line 6, match_value: \"nowhere\" is no range"), "{refused}");
    assert!(refused.contains("1 line is wrong; nothing was published"), "{refused}");
    let imported = partners(&bed, &["import", path, "--skip-invalid"]).await.unwrap();
    assert!(imported.contains("4 records published, 1 lines skipped"), "{imported}");
    std::fs::write(&file, RECORDS).unwrap();
    partners(&bed, &["import", path]).await.unwrap();

    let (running, shutdown) = bed.start(&without_files()).await;
    let metrics = running.metrics.clone();
    assert_eq!(metrics.partner_records.get(), 4, "it is ready once all are read, and a repeated import replaces");
    let objecting = RawHit { signal: Signal::OptOut, ip: "89.160.20.0".into(), ..raw_hit(1, 2) };
    bed.send("hits.raw", &[message(&raw_hit(1, 0)), message(&raw_hit(2, 1)), message(&objecting)]);
    let mut found = BTreeMap::new();
    look(&bed.read("hits.enriched", PARTITIONS, 3), |hit, _| {
        let partner = hit.partner.clone().unwrap();
        found
            .insert(hit.hit.received_at - RECEIVED, (partner.matched_by.to_string(), partner.company_name.to_string()));
    });
    let named = |by: &str, company: &str| (by.to_owned(), company.to_owned());
    assert_eq!(found[&0], named("visitor_id", "Person's Company"));
    assert_eq!(found[&1], named("ip_range", "Example AB"));
    assert_eq!(found[&2], named("ip_range", "Example AB"), "nobody who objects is matched by person");

    let listed = partners(&bed, &["list", "--kind", "ip_range"]).await.unwrap();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let printed = folder.path().join("printed.jsonl");
    std::fs::write(&printed, &listed).unwrap();
    let again = partners(&bed, &["import", printed.to_str().unwrap()]).await.unwrap();
    assert!(again.contains("2 records published"), "what is listed can be imported: {again}");

    let empty = partners(&bed, &["remove"]).await.unwrap_err();
    assert!(matches!(empty, command::CommandError::EmptyFilter), "{empty}");
    let removed = partners(&bed, &["remove", "--kind", "ip_range", "--value", "89.160.20.9/24"]).await.unwrap();
    assert_eq!(removed, "1 records removed\n");
    until("the running enricher has forgotten it", || metrics.partner_records.get() == 3).await;
    bed.send("hits.raw", &[message(&raw_hit(2, 3))]);
    let mut last = None;
    look(&bed.read("hits.enriched", PARTITIONS, 4), |hit, _| {
        if hit.hit.received_at == RECEIVED + 3 {
            last = hit.partner.as_ref().map(|partner| partner.company_name.to_string());
        }
    });
    assert_eq!(last.as_deref(), Some("Provider"), "the wider range is what is left");
    assert_eq!(partners(&bed, &["remove", "--partner", "acme"]).await.unwrap(), "3 records removed\n");
    assert_eq!(partners(&bed, &["list"]).await.unwrap(), "");
    end(running, shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_of_a_file_with_a_record_that_no_message_holds() {
    let Some(stack) = local::stack_or_skip("nothing_is_published_of_a_file_with_a_record_that_no_message_holds") else {
        return;
    };
    let bed = Bed::new(stack, "endless");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let line = |domain: &str, attributes: usize| {
        let text = "a".repeat(4_000);
        let attributes: BTreeMap<_, _> = (0..attributes).map(|number| (format!("note {number}"), &text)).collect();
        serde_json::json!({"partner": "acme", "match_kind": "email_domain", "match_value": domain,
            "permitted_uses": ["measurement"], "attributes": attributes})
    };
    std::fs::write(&file, format!("{}\n{}\n", line("example.com", 10), line("example.org", 300))).unwrap();
    let refused = partners(&bed, &["import", file.to_str().unwrap()]).await.unwrap_err().to_string();
    assert!(refused.contains("line 2, attributes"), "{refused}");
    let imported = partners(&bed, &["import", file.to_str().unwrap(), "--skip-invalid"]).await.unwrap();
    assert!(imported.contains("1 records published, 1 lines skipped"), "{imported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cant_be_read_hinders_no_other_and_can_be_removed() {
    let Some(stack) = local::stack_or_skip("a_record_that_cant_be_read_hinders_no_other_and_can_be_removed") else {
        return;
    };
    let bed = Bed::new(stack, "unreadable");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.csv");
    std::fs::write(&file, RECORDS).unwrap();
    partners(&bed, &["import", file.to_str().unwrap()]).await.unwrap();
    // As a later version may write it.
    let unreadable = (b"email_domain\0example.org\0\0acme".to_vec(), b"\xc3\x01unknown!body".to_vec());
    bed.send("partners", &[unreadable]);

    let PartnersCommand::List(options) = partners_command(&bed, &["list"]) else { panic!("not list") };
    let mut output = Vec::new();
    let told = command::list(options, &mut output).await.unwrap_err().to_string();
    assert!(told.contains("1 of the records") && told.contains("upgrade"), "{told}");
    assert_eq!(String::from_utf8(output).unwrap().lines().count(), 4, "the others are listed");
    assert_eq!(partners(&bed, &["remove", "--partner", "acme"]).await.unwrap(), "5 records removed\n");
    assert_eq!(partners(&bed, &["list"]).await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_partitions_that_were_added_are_known() {
    let test = "records_in_partitions_that_were_added_are_known";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let bed = Bed::new(stack, "added");
    let refresh = ["--kafka-property=topic.metadata.refresh.interval.ms=500".to_owned()];
    let (running, shutdown) = bed.start(&[without_files(), refresh.to_vec()].concat()).await;
    bed.add_partitions("partners", 12).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let record = |number| {
        serde_json::json!({"partner": "acme", "match_kind": "email_domain", "match_value": format!("{number}.example"),
            "permitted_uses": ["measurement"]})
    };
    let records: Vec<String> = (0..20).map(|number| record(number).to_string()).collect();
    std::fs::write(&file, records.join("\n")).unwrap();
    partners(&bed, &["import", file.to_str().unwrap()]).await.unwrap();
    let metrics = running.metrics.clone();
    until("the running enricher knows all of them", || metrics.partner_records.get() == 20).await;
    end(running, shutdown).await;
}

/// GeoLite2-ASN has no domains; files in the layouts of IPinfo do.
#[tokio::test(flavor = "multi_thread")]
async fn a_company_is_recognised_by_the_domain_of_its_network() {
    let Some(stack) = local::stack_or_skip("a_company_is_recognised_by_the_domain_of_its_network") else { return };
    let bed = Bed::new(stack, "domains");
    let folder = tempfile::tempdir().unwrap();
    let (database, records) = (folder.path().join("networks.mmdb"), folder.path().join("records.csv"));
    let networks: [mmdb::Network<'_>; 2] = [
        ([89, 160, 20, 0], 24, &[("asn", "AS64500"), ("as_name", "Example AB"), ("as_domain", "www.Example.com")]),
        ([198, 51, 100, 0], 24, &[("asn", "AS64501"), ("name", "Nobody"), ("domain", "example.org")]),
    ];
    std::fs::write(&database, mmdb::database("ipinfo lite", &networks)).unwrap();
    let known = "partner,match_kind,match_value,company_name,permitted_uses\n\
        acme,company_domain,example.com,Example AB,measurement\n";
    std::fs::write(&records, known).unwrap();
    partners(&bed, &["import", records.to_str().unwrap()]).await.unwrap();
    let network = format!("--geoip-network={}", database.display());
    let (running, shutdown) = bed.start(&["--without=geoip-city,user-agents,referrers".to_owned(), network]).await;
    let elsewhere = RawHit { ip: "198.51.100.7".into(), ..raw_hit(2, 1) };
    bed.send("hits.raw", &[message(&raw_hit(1, 0)), message(&elsewhere)]);
    let mut found = BTreeMap::new();
    look(&bed.read("hits.enriched", PARTITIONS, 2), |hit, _| {
        let partner =
            hit.partner.as_ref().map(|partner| (partner.matched_by.to_string(), partner.company_name.to_string()));
        let network = (hit.network.number, hit.network.domain.to_string());
        assert!(hit.enrichment_errors.is_empty());
        found.insert(hit.hit.received_at - RECEIVED, (network, partner));
    });
    let company = ("company_domain".to_owned(), "Example AB".to_owned());
    assert_eq!(found[&0], ((Some(64_500), "example.com".to_owned()), Some(company)));
    assert_eq!(found[&1], ((Some(64_501), "example.org".to_owned()), None));
    end(running, shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_geoip_file_is_replaced_while_hits_pass() {
    let test = "a_geoip_file_is_replaced_while_hits_pass";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let Some(files) = Files::or_skip(test) else { return };
    let bed = Bed::new(stack, "geoip");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.mmdb");
    std::fs::copy(&files.network, &path).unwrap();
    let words =
        vec!["--without=geoip-city,user-agents,referrers".to_owned(), format!("--geoip-network={}", path.display())];
    let (running, shutdown) = bed.start(&words).await;
    let metrics = running.metrics.clone();
    let reloads = |result: &str| metrics.geoip_reloads.with_label_values(&["network", result]).get();

    std::fs::write(&path, b"half a file").unwrap();
    until("the damaged file is noticed", || reloads("failed") == 1).await;
    bed.send("hits.raw", &[message(&raw_hit(0, 0))]);
    look(&bed.read("hits.enriched", PARTITIONS, 1), |hit, _| assert_eq!(hit.network.number, Some(29_518)));
    std::fs::copy(&files.network, &path).unwrap();
    until("the sound file is used", || reloads("succeeded") == 1).await;
    assert!(metrics.geoip_built.with_label_values(&["network"]).get() > 1_500_000_000);
    end(running, shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hit_is_lost_while_workers_come_and_go() {
    let Some(stack) = local::stack_or_skip("no_hit_is_lost_while_workers_come_and_go") else { return };
    let bed = Bed::new(stack, "workers");
    let words = |more: &[&str]| {
        let more = more.iter().map(ToString::to_string);
        without_files().into_iter().chain(["--batch-hits=50".to_owned()]).chain(more).collect::<Vec<_>>()
    };
    let (first, first_shutdown) = bed.start(&words(&["--workers=2"])).await;
    let hits: Vec<RawHit<'_>> = (0..6_000).map(|number| raw_hit(number % 40, number)).collect();
    let messages: Vec<_> = hits.iter().map(message).collect();
    bed.send("hits.raw", &messages[..2_000]);
    let (second, second_shutdown) = bed.start(&words(&["--group-instance-id=second"])).await;
    bed.send("hits.raw", &messages[2_000..4_000]);
    let first = end(first, first_shutdown).await;
    bed.send("hits.raw", &messages[4_000..]);
    until("all is committed", || bed.uncommitted() == 0).await;
    let second = end(second, second_shutdown).await;

    let written =
        first.hits.with_label_values(&["enriched"]).get() + second.hits.with_label_values(&["enriched"]).get();
    assert_eq!(written, 6_000);
    let sent: HashSet<Uuid> = hits.iter().map(|hit| hit.hit_id).collect();
    let mut missing = sent.clone();
    let mut times = 0;
    let retried =
        [&first, &second].iter().map(|metrics| metrics.hits.with_label_values(&["retried"]).get()).sum::<u64>();
    look(&bed.read_all("hits.enriched", PARTITIONS), |hit, _| {
        assert!(sent.contains(&hit.hit.hit_id), "nobody sent this hit");
        missing.remove(&hit.hit.hit_id);
        times += 1;
    });
    assert_eq!(times, 6_000, "no hit twice");
    assert!(missing.is_empty(), "{} hits are missing; {written} were written, {retried} retried", missing.len());
    for metrics in [first, second] {
        assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
        assert!(metrics.received.get() > 0, "both worked");
    }
}

/// What is shown as lag, by partition.
fn lags(metrics: &Metrics) -> BTreeMap<i32, i64> {
    let families = metrics.lag.collect();
    let shown = families[0].get_metric().iter();
    shown.map(|one| (one.get_label()[0].value().parse().unwrap(), one.get_gauge().get_value() as i64)).collect()
}

fn no_lag() -> BTreeMap<i32, i64> {
    (0..PARTITIONS).map(|partition| (partition, 0)).collect()
}

/// In a transaction the offsets are the producer's, so that the consumer's client knows nothing of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_what_is_not_committed() {
    let Some(stack) = local::stack_or_skip("the_lag_is_what_is_not_committed") else { return };
    for delivery in ["exactly-once", "at-least-once"] {
        let bed = Bed::new(stack, delivery);
        let words = |delay: &str| {
            let own = [format!("--delivery={delivery}"), format!("--batch-delay={delay}")];
            without_files().into_iter().chain(own).collect::<Vec<_>>()
        };
        let hits: Vec<_> = (0..200).map(|number| message(&raw_hit(1, number))).collect();
        let (running, shutdown) = bed.start(&words("50")).await;
        bed.send("hits.raw", &hits[..100]);
        until("all is committed", || bed.uncommitted() == 0).await;
        until("no hit waits", || lags(&running.metrics) == no_lag()).await;
        end(running, shutdown).await;

        bed.send("hits.raw", &hits[100..]);
        let (running, shutdown) = bed.start(&words("6000")).await;
        until("a batch waits", || lags(&running.metrics).values().sum::<i64>() == 100).await;
        until("no hit waits", || lags(&running.metrics) == no_lag()).await;
        assert_eq!(bed.uncommitted(), 0);
        end(running, shutdown).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_that_are_gone_before_they_are_read_are_told() {
    let Some(stack) = local::stack_or_skip("hits_that_are_gone_before_they_are_read_are_told") else { return };
    let bed = Bed::new(stack, "gone");
    let hits: Vec<_> = (0..150).map(|number| message(&raw_hit(1, number))).collect();
    let (running, shutdown) = bed.start(&without_files()).await;
    bed.send("hits.raw", &hits[..100]);
    let partition = bed.read("hits.enriched", PARTITIONS, 100)[0].partition();
    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.expired.get(), 0);

    bed.send("hits.raw", &hits[100..]);
    bed.delete_before("hits.raw", partition, 140).await;
    let (running, shutdown) = bed.start(&without_files()).await;
    until("all is committed", || bed.uncommitted() == 0).await;
    let metrics = end(running, shutdown).await;
    assert_eq!((metrics.received.get(), metrics.expired.get()), (10, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_partition_up_shows_no_lag_of_it_any_more() {
    let Some(stack) = local::stack_or_skip("who_gives_a_partition_up_shows_no_lag_of_it_any_more") else { return };
    let bed = Bed::new(stack, "handed");
    let (first, first_shutdown) = bed.start(&without_files()).await;
    let hits: Vec<_> = (0..200).map(|number| message(&raw_hit(number, number))).collect();
    bed.send("hits.raw", &hits);
    until("no hit waits", || bed.uncommitted() == 0 && lags(&first.metrics) == no_lag()).await;
    let (second, second_shutdown) = bed.start(&without_files()).await;
    let shown = || (lags(&first.metrics), lags(&second.metrics));
    until("each shows its own", || {
        let (of_first, of_second) = shown();
        !of_first.is_empty() && !of_second.is_empty() && of_first.len() + of_second.len() == PARTITIONS as usize
    })
    .await;
    // Time for the client to tell again of what it has no longer.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (of_first, of_second) = shown();
    assert_eq!(of_first.len() + of_second.len(), PARTITIONS as usize, "{of_first:?} {of_second:?}");
    assert_eq!(of_first.into_iter().chain(of_second).collect::<BTreeMap<_, _>>(), no_lag());
    end(first, first_shutdown).await;
    end(second, second_shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_that_grows_too_large_is_dead_and_the_next_goes_on() {
    let Some(stack) = local::stack_or_skip("a_hit_that_grows_too_large_is_dead_and_the_next_goes_on") else { return };
    let bed = Bed::new(stack, "large");
    let (running, shutdown) = bed.start(&without_files()).await;
    // Its path stands in the enriched hit a second time, and 1,000,000 bytes is the most that is sent.
    let large = RawHit { page_url: format!("https://www.example.com/{}", "a".repeat(600_000)).into(), ..raw_hit(1, 0) };
    let large = message(&large);
    bed.send("hits.raw", &[large.clone(), message(&raw_hit(1, 1))]);
    look(&bed.read("hits.enriched", PARTITIONS, 1), |hit, _| assert_eq!(hit.hit.received_at, RECEIVED + 1));
    let dead = bed.read("hits.dead", 3, 1);
    let reader = Reader::new::<DeadLetter<'_>>(None).unwrap();
    let body = reader.body(dead[0].payload().unwrap()).unwrap();
    let letter: DeadLetter<'_> = decode_all(&body).unwrap();
    assert_eq!((&*letter.reason, letter.original.len()), ("too_large", 512 * 1024));
    assert!(large.1.starts_with(&letter.original) && letter.detail.contains("are kept"), "{}", letter.detail);
    assert_eq!(end(running, shutdown).await.outcomes(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_wait_while_the_brokers_are_away() {
    if local::stack_or_skip("hits_wait_while_the_brokers_are_away").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = local::free_port().unwrap();
    let kafka = local::Kafka::start(directory.path(), port).unwrap();
    let bed = Bed { brokers: kafka.brokers(), prefix: String::new() };
    let (running, shutdown) = bed.start(&without_files()).await;
    let hits: Vec<RawHit<'_>> = (0..2_000).map(|number| raw_hit(number % 40, number)).collect();
    let messages: Vec<_> = hits.iter().map(message).collect();
    // Whatever the enricher has done with these when the broker goes, and it may be anything.
    bed.send("hits.raw", &messages[..1_000]);
    assert!(kafka.stop());
    let health = running.health.clone();
    until("it is unready", || health.obstacles().iter().any(|obstacle| obstacle.starts_with("broker"))).await;
    let kafka = local::Kafka::start(directory.path(), port).unwrap();
    bed.send("hits.raw", &messages[1_000..]);
    until("it is ready again", || health.obstacles().is_empty()).await;
    until("all is committed", || bed.uncommitted() == 0).await;
    let mut missing: HashSet<Uuid> = hits.iter().map(|hit| hit.hit_id).collect();
    look(&bed.read_all("hits.enriched", PARTITIONS), |hit, _| {
        assert!(missing.remove(&hit.hit.hit_id), "nobody sent this hit, or it is here twice");
    });
    assert!(missing.is_empty(), "{} hits are missing", missing.len());
    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
    kafka.stop();
}

/// Prints how fast one worker is on real files and a real Kafka of the same machine, with transactions and without, in
/// turns, and how much memory it takes with Kafka's client, both caches and the databases.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release -p enricher --test kafka measure -- --ignored --nocapture"]
async fn measure_one_worker() {
    const HITS: usize = 100_000;
    const TURNS: usize = 3;
    let Some(stack) = local::stack_or_skip("measure_one_worker") else { return };
    let Some(files) = Files::or_skip("measure_one_worker") else { return };
    let bed = Bed::new(stack, "measure");
    let user_agents = std::fs::read_to_string(&files.user_agents).unwrap();
    let user_agents: Vec<&str> = user_agents.lines().collect();
    let (running, shutdown) = bed.start(&with_files(&files)).await;
    end(running, shutdown).await;
    for chunk in 0..HITS / 10_000 {
        let hits = (chunk * 10_000..(chunk + 1) * 10_000).map(|number| RawHit {
            user_agent: user_agents[number % user_agents.len()].into(),
            ip: format!("{}.{}.{}.7", 20 + number % 150, number / 150 % 200, number % 13).into(),
            ..raw_hit(number % 5_000, number)
        });
        bed.send("hits.raw", &hits.map(|hit| message(&hit)).collect::<Vec<_>>());
    }
    for turn in 0..TURNS {
        for delivery in ["exactly-once", "at-least-once"] {
            // A group of its own reads all from the beginning; hits that others wrote must not count as written before.
            let own = [
                format!("--delivery={delivery}"),
                format!("--group={}{delivery}-{turn}", bed.prefix),
                "--batch-delay=100".to_owned(),
                "--duplicate-window=0".to_owned(),
            ];
            let words: Vec<String> = with_files(&files).into_iter().chain(own).collect();
            let (running, shutdown) = bed.start(&words).await;
            let metrics = running.metrics.clone();
            // The group has given out the partitions by the first commit.
            until("it has begun", || metrics.outcomes() > 0).await;
            let (begun, before) = (Instant::now(), metrics.outcomes());
            until("all is enriched", || metrics.outcomes() == HITS as u64).await;
            let rate = (HITS as u64 - before) as f64 / begun.elapsed().as_secs_f64();
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let memory = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
            let memory = memory.collect::<Vec<_>>().join(", ");
            eprintln!("{delivery}: {rate:.0} hits a second; of the whole test: {memory}");
            end(running, shutdown).await;
        }
    }
}

#[tokio::test]
async fn half_configured_it_does_not_start() {
    let options = RunOptions::from_words(["--metrics-listen=127.0.0.1:0", "--without=geoip-city"]).unwrap();
    let error = start(options, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("--geoip-network is missing") && error.contains("--without geoip-network"), "{error}");
}
