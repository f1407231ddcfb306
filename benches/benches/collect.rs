//! One hit through the collector, without its sockets and without Kafka: from a query string or a JSON object to the
//! bytes of hits.raw.
#![allow(clippy::unwrap_used, reason = "a measurement that fails here has failed")]

use collector::assemble::{Context, assemble};
use collector::client::{Client, Forwarding};
use collector::daily_keys::DailyKeys;
use collector::fields::Fields;
use collector::identity::Newcomer;
use collector::options::ForwardingHeader;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use hyper::HeaderMap;
use schemas::{Protocol, RawHit, Signal, Writer};
use service::sites::Site;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// As the tag's pixel sends it.
const QUERY: &str = "site=shop&hit=0190d5a0-0000-7000-8000-000000000001\
    &url=https%3A%2F%2Fwww.example.com%2Fproducts%2Fcentrifugal%2Fseries-4000%3Futm_source%3Dnews%26utm_medium%3Demail\
    &title=Centrifugal+pumps+series+4000&referrer=https%3A%2F%2Fwww.google.com%2F&screen=1920x1080\
    &timezone=Europe%2FZurich";
const JSON: &str = r#"{"site":"shop","hit":"0190d5a0-0000-7000-8000-000000000001",
    "url":"https://www.example.com/products/centrifugal/series-4000?utm_source=news&utm_medium=email",
    "title":"Centrifugal pumps series 4000","referrer":"https://www.google.com/","screen":"1920x1080",
    "timezone":"Europe/Zurich","visitor":"4b9b1f04-6a8f-4d8e-9e4f-5d1f3f2f9a77",
    "session":"0190d5a0-0000-7000-8000-000000000002"}"#;

fn main() {
    divan::main();
}

/// What a browser sends by itself.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "collector.example.com"),
        ("x-forwarded-for", "203.0.113.77"),
        ("x-forwarded-proto", "https"),
        (
            "user-agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36",
        ),
        ("accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "de-CH,de;q=0.9,en;q=0.8"),
        ("referer", "https://www.example.com/products/centrifugal/series-4000"),
        ("sec-fetch-dest", "image"),
        ("sec-ch-ua", "\"Chromium\";v=\"153\", \"Google Chrome\";v=\"153\", \"Not-A.Brand\";v=\"99\""),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", "\"Windows\""),
        (
            "cookie",
            "hitmeter_visitor=4b9b1f04-6a8f-4d8e-9e4f-5d1f3f2f9a77; hitmeter_session=0190d5a0-0000-7000-8000-000000000002",
        ),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

#[divan::bench]
fn query(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_str(QUERY)).bench_local(|| Fields::from_query(black_box(QUERY)).unwrap().1);
}

#[divan::bench]
fn json(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_str(JSON)).bench_local(|| Fields::from_json(black_box(JSON)).unwrap().1);
}

/// Everything between the request's head and the message, cookies of the answer included.
#[divan::bench]
fn query_to_message(bencher: Bencher<'_, '_>) {
    let (headers, site, keys) = (headers(), Site::default(), DailyKeys::default());
    let trusted = ["127.0.0.1/32".parse().unwrap()];
    let forwarding = Forwarding { trusted: &trusted, header: ForwardingHeader::XForwardedFor };
    let writer = Writer::single_object::<RawHit<'_>>().unwrap();
    let mut out = Vec::with_capacity(4_096);
    bencher.counter(BytesCount::of_str(QUERY)).bench_local(|| {
        out.clear();
        let client = Client::new(std::net::IpAddr::from([127, 0, 0, 1]).into(), black_box(&headers), &forwarding);
        let (fields, _) = Fields::from_query(black_box(QUERY)).unwrap();
        let newcomer = Newcomer::default();
        let context = Context {
            site_key: "shop",
            site: &site,
            protocol: Protocol::Pixel,
            signal: Signal::None,
            keys: &keys,
            newcomer: &newcomer,
            received_at: 1_767_225_600_000,
        };
        let assembled = assemble(fields, &client, context);
        writer.write(&assembled.hit, &mut out);
        assembled.identity.cookies(&site, &client).count() + out.len()
    });
}
