//! Visitors: they send hits, and remember what was promised for which.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// As a browser would wait, but less: a schedule is short.
const PATIENCE: Duration = Duration::from_secs(3);
/// Visitors at the same time.
const VISITORS: u64 = 4;
/// A browser that nobody takes for a robot: robots are left out of the views.
const USER_AGENT: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
/// The site, one of deploy/local/sites.toml.
pub const SITE: &str = "demo";

/// What was sent, and what was answered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every hit that was sent, with its kind.
    pub sent: HashMap<Uuid, &'static str>,
    /// Those among them that were answered 2xx at least once.
    pub acknowledged: HashSet<Uuid>,
    /// Those that were sent more than once.
    pub repeated: HashSet<Uuid>,
    /// Hits of each visitor that were promised together, in the order of the promises.
    pub promised: HashMap<String, Vec<Vec<Uuid>>>,
    /// Requests by what became of them, for the report.
    pub answers: HashMap<String, u32>,
}

/// Visitors at work.
pub struct Crowd {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Starts visitors of the collector on `port`, whose choices come from `seed`.
    pub fn start(port: u16, seed: u64) -> Self {
        let (ledger, stop) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(AtomicBool::new(false)));
        let visit = |number: u64| {
            let visitor = Visitor {
                random: fastrand::Rng::with_seed(seed ^ (number << 32)),
                collector: format!("http://127.0.0.1:{port}"),
                agent: ureq::Agent::config_builder()
                    .http_status_as_error(false)
                    .timeout_global(Some(PATIENCE))
                    .build()
                    .into(),
                ledger: Arc::clone(&ledger),
                number,
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || visitor.run(&stop))
        };
        let threads = (0..VISITORS).map(visit).collect();
        Self { ledger, stop, threads }
    }

    /// Lets the visitors finish what they are doing.
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a visitor panicked");
        }
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

struct Visitor {
    random: fastrand::Rng,
    collector: String,
    agent: ureq::Agent,
    ledger: Arc<Mutex<Ledger>>,
    number: u64,
}

/// One hit of a visitor, as it is sent and sent again.
struct Hit {
    id: Uuid,
    visitor: String,
    kind: &'static str,
    json: String,
}

impl Visitor {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if self.random.u32(..5) == 0 {
                self.pixel();
            } else {
                self.batch(stop);
            }
            std::thread::sleep(Duration::from_millis(self.random.u64(2..15)));
        }
    }

    /// Several hits in one request; sent again under the same ids when there was no good answer, as the tag does, and
    /// now and then even though there was one, as a client does that lost the answer.
    fn batch(&mut self, stop: &AtomicBool) {
        let hits: Vec<Hit> = (0..self.random.u32(1..6)).map(|_| self.hit()).collect();
        let body = hits.iter().map(|hit| hit.json.as_str()).collect::<Vec<_>>().join("\n");
        self.sending(&hits);
        let mut is_promised = false;
        for attempt in 0..4 {
            if attempt == 1 {
                self.ledger.lock().unwrap().repeated.extend(hits.iter().map(|hit| hit.id));
            }
            let done = self.post(&hits, &body);
            if done && !std::mem::replace(&mut is_promised, true) {
                self.promise(&hits);
            }
            if (done && self.random.u32(..12) != 0) || stop.load(Ordering::Relaxed) || self.random.u32(..6) == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(self.random.u64(20..300)));
        }
    }

    /// True when all hits are acknowledged.
    fn post(&self, hits: &[Hit], body: &str) -> bool {
        let request = self.agent.post(format!("{}/v1/hits", self.collector)).header("User-Agent", USER_AGENT);
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(problem) => {
                self.count(&format!("no answer: {problem}"));
                return false;
            }
        };
        let status = response.status().as_u16();
        let Ok(text) = response.body_mut().read_to_string() else {
            self.count(&format!("{status}, body cut off"));
            return false;
        };
        self.count(&status.to_string());
        if !response.status().is_success() {
            return false;
        }
        let answer: serde_json::Value = serde_json::from_str(&text).expect("an answer that is no JSON");
        let rejected: HashSet<u64> =
            answer["rejected"].as_array().into_iter().flatten().filter_map(|each| each["index"].as_u64()).collect();
        let good = hits.iter().zip(0..).filter(|(_, index)| !rejected.contains(index)).map(|(hit, _)| hit.id);
        self.ledger.lock().unwrap().acknowledged.extend(good);
        rejected.is_empty()
    }

    /// One hit as a picture, never sent again: that is how pixels are.
    fn pixel(&mut self) {
        let (id, visitor) = (Uuid::now_v7(), format!("pixel-{}", self.number));
        let url = format!(
            "{}/p.gif?site={SITE}&hit={id}&visitor={visitor}&url=https%3A%2F%2Fwww.example.com%2Fpixel",
            self.collector
        );
        let hits = [Hit { id, visitor, kind: "page_view", json: String::new() }];
        self.sending(&hits);
        match self.agent.get(url).header("User-Agent", USER_AGENT).call() {
            Ok(response) => {
                let outcome = response.headers().get("x-hitmeter-outcome").and_then(|value| value.to_str().ok());
                let outcome = outcome.unwrap_or("untold").to_owned();
                let success = response.status().is_success();
                self.count(&format!("pixel {} {outcome}", response.status().as_u16()));
                if success {
                    self.ledger.lock().unwrap().acknowledged.insert(id);
                    self.promise(&hits);
                }
            }
            Err(problem) => self.count(&format!("pixel, no answer: {problem}")),
        }
    }

    /// A hit of one of a few visitors, some of whose clocks step far away.
    fn hit(&mut self) -> Hit {
        let id = Uuid::now_v7();
        let kind = self.random.choice(["page", "page", "event", "download", "search"]).unwrap_or("page");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let steps = [0, 0, 0, 0, 0, 90_000, -7_200_000, 86_400_000, -40 * 86_400_000, 10 * 365 * 86_400_000, -now + 1];
        let clock = now + self.random.choice(steps).unwrap_or(0);
        let sent = if self.random.bool() { format!(",\"sent\":{}", clock + 20) } else { String::new() };
        let visitor = format!("visitor-{}", self.number * 5 + self.random.u64(..5));
        let page = self.random.u32(..8);
        let json = format!(
            "{{\"site\":\"{SITE}\",\"hit\":\"{id}\",\"event\":\"{kind}\",\"visitor\":\"{visitor}\",\
             \"url\":\"https://www.example.com/page-{page}\",\"title\":\"Page {page}\",\"time\":{clock}{sent}}}"
        );
        Hit { id, visitor, kind: if kind == "page" { "page_view" } else { kind }, json }
    }

    fn sending(&self, hits: &[Hit]) {
        self.ledger.lock().unwrap().sent.extend(hits.iter().map(|hit| (hit.id, hit.kind)));
    }

    /// All of them are acknowledged, and nothing else of these visitors is on its way.
    fn promise(&self, hits: &[Hit]) {
        let mut together = HashMap::<&str, Vec<Uuid>>::new();
        for hit in hits {
            together.entry(&hit.visitor).or_default().push(hit.id);
        }
        let mut ledger = self.ledger.lock().unwrap();
        for (visitor, ids) in together {
            ledger.promised.entry(visitor.to_owned()).or_default().push(ids);
        }
    }

    fn count(&self, answer: &str) {
        *self.ledger.lock().unwrap().answers.entry(answer.to_owned()).or_default() += 1;
    }
}
