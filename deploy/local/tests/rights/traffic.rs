//! The people at work: each device introduces itself by a form, then they come and go while others exercise their rights.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use uuid::Uuid;

use crate::ledger::{Form, Hit, Ledger, now};
use crate::people::{SITES, Site, Subject, sites_of};

/// Clients at the same time.
const CLIENTS: usize = 3;
/// Between two requests of a client, milliseconds.
const PAUSE: std::ops::Range<u64> = 15..60;
/// A browser that nobody takes for a robot.
const USER_AGENT: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
/// Pages of each site.
const PAGES: u32 = 8;
/// The page whose hits ClickHouse refuses for as long as a constraint says so.
pub const REFUSED_PAGE: &str = "/refused";

/// What the threads of a run share.
pub struct Crowd {
    /// Everybody.
    pub subjects: Vec<Subject>,
    /// What was done.
    pub ledger: Mutex<Ledger>,
    /// Whoever holds this of somebody decides what they do.
    turns: Vec<Mutex<Mood>>,
    collector: String,
    introduced: AtomicUsize,
    has_ended: AtomicBool,
}

/// Whether somebody still comes.
#[derive(Debug, Default)]
pub struct Mood {
    /// They do not come any more.
    pub is_gone: bool,
}

/// One request of a device.
pub struct Visit<'a> {
    /// Who.
    pub subject: &'a Subject,
    /// Where.
    pub site: &'static Site,
    /// From which device; none for one that was never seen before.
    pub device: Option<usize>,
    /// What.
    pub actions: Vec<Action>,
    /// When, where the client says so, Unix milliseconds.
    pub occurred: Option<i64>,
}

/// One hit of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A page view.
    Page,
    /// A download.
    Download,
    /// A form with a card.
    Form,
    /// A page view that ClickHouse refuses at first.
    Refused,
}

impl Crowd {
    /// Nobody has come yet.
    pub fn new(subjects: Vec<Subject>, collector: &str) -> Arc<Self> {
        let turns = subjects.iter().map(|_| Mutex::default()).collect();
        Arc::new(Self {
            subjects,
            ledger: Mutex::default(),
            turns,
            collector: format!("http://{collector}"),
            introduced: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Keeps somebody still for as long as the answer is held.
    pub fn hold(&self, subject: usize) -> MutexGuard<'_, Mood> {
        self.turns[subject].lock().unwrap()
    }

    /// Whether everybody has introduced themselves.
    pub fn is_introduced(&self) -> bool {
        self.introduced.load(Ordering::Relaxed) == CLIENTS
    }

    /// Starts the clients.
    pub fn start(self: &Arc<Self>, seed: u64) -> Vec<JoinHandle<()>> {
        let client = |number: usize| {
            let (crowd, random) = (Arc::clone(self), Rng::with_seed(seed ^ ((number as u64 + 1) << 32)));
            std::thread::spawn(move || Client::new(&crowd, random).run(number))
        };
        (0..CLIENTS).map(client).collect()
    }

    /// Lets them finish what they are doing.
    pub fn finish(&self, clients: Vec<JoinHandle<()>>) {
        self.has_ended.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("a client panicked"));
    }
}

/// Sends what some people do.
pub struct Client<'a> {
    crowd: &'a Crowd,
    random: Rng,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    /// With choices of its own.
    pub fn new(crowd: &'a Crowd, random: Rng) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        Self { crowd, random, agent: config.timeout_global(Some(Duration::from_secs(30))).build().into() }
    }

    fn run(mut self, number: usize) {
        let crowd = self.crowd;
        let mine: Vec<&Subject> = crowd.subjects.iter().filter(|subject| subject.number % CLIENTS == number).collect();
        for subject in &mine {
            let _turn = crowd.hold(subject.number);
            (0..subject.devices.len()).for_each(|device| self.introduce(subject, device));
        }
        crowd.introduced.fetch_add(1, Ordering::Relaxed);
        while !crowd.has_ended.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(self.random.u64(PAUSE)));
            let subject = mine[self.random.usize(..mine.len())];
            let turn = crowd.turns[subject.number].try_lock();
            // Who is being asked about keeps still, and nobody waits for them.
            if let Ok(turn) = turn
                && !turn.is_gone
            {
                self.come(subject);
            }
        }
    }

    /// A device is seen for the first time at each site of the customer, and says whose it is.
    fn introduce(&mut self, subject: &Subject, device: usize) {
        for site in sites_of(subject.customer) {
            let mut actions = vec![Action::Page, Action::Form];
            if self.random.u32(..8) == 0 {
                actions.push(Action::Refused);
            }
            self.send(&Visit { subject, site, device: Some(device), actions, occurred: None });
        }
    }

    /// Somebody does something on one of their devices.
    pub fn come(&mut self, subject: &Subject) {
        let sites: Vec<&'static Site> = sites_of(subject.customer).collect();
        let site = sites[self.random.usize(..sites.len())];
        let device = Some(self.random.usize(..subject.devices.len()));
        let of =
            [Action::Page, Action::Page, Action::Page, Action::Page, Action::Download, Action::Download, Action::Form];
        let actions = (0..self.random.usize(1..5)).map(|_| of[self.random.usize(..of.len())]).collect();
        self.send(&Visit { subject, site, device, actions, occurred: None });
    }

    /// Sends a visit, which has to be acknowledged.
    pub fn send(&mut self, visit: &Visit<'_>) {
        let sent = now();
        let (mut hits, mut lines) = (Vec::new(), Vec::new());
        for action in &visit.actions {
            let (hit, line) = self.hit(visit, *action, sent);
            hits.push(hit);
            lines.push(line);
        }
        let address =
            visit.device.map_or("192.0.2.1".to_owned(), |device| visit.subject.devices[device].address.to_string());
        let request = self.agent.post(format!("{}/v1/hits", self.crowd.collector));
        let request = request.header("User-Agent", USER_AGENT).header("X-Forwarded-For", address);
        let mut answer = request.send(lines.join("\n")).expect("the collector does not answer");
        let cookies = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
        let is_opted_out = cookies.into_iter().any(|cookie| cookie.starts_with("hitmeter_opt_out=1"));
        let text = answer.body_mut().read_to_string().unwrap();
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(answer.status().is_success() && told["rejected"] == json!([]), "{}: {text}", answer.status());
        let answered = now();
        hits.iter_mut().for_each(|hit| (hit.answered, hit.is_opted_out) = (answered, is_opted_out));
        self.crowd.ledger.lock().unwrap().hits.extend(hits);
    }

    fn hit(&mut self, visit: &Visit<'_>, action: Action, sent: i64) -> (Hit, String) {
        let Visit { subject, site, .. } = visit;
        let (id, page) = (Uuid::now_v7(), self.random.u32(..PAGES));
        let path = if action == Action::Refused { REFUSED_PAGE.to_owned() } else { format!("/page-{page}") };
        // Every third tells who it is where nobody expects it.
        let account = (self.random.u32(..3) == 0).then_some(&subject.account);
        let query = account.map(|account| format!("?account={account}")).unwrap_or_default();
        let (name, kind) = match action {
            Action::Page | Action::Refused => ("page", "page_view"),
            Action::Download => ("download", "download"),
            Action::Form => ("form", "form"),
        };
        let mut line = json!({
            "site": site.key, "hit": id.to_string(), "event": name, "title": format!("Page {page}"),
            "url": format!("https://{}.example.com{path}{query}", site.key),
        });
        match visit.device {
            Some(device) => {
                let device = &subject.devices[device];
                let place = SITES.iter().position(|each| each == *site).unwrap_or_default();
                (line["visitor"], line["session"]) = (json!(device.visitor), json!(device.sessions[place].to_string()));
            }
            None => line["visitor"] = json!(format!("late-{}", id.simple())),
        }
        if action == Action::Download {
            line["target"] = json!(format!("https://{}.example.com/files/sheet-{page}.pdf{query}", site.key));
        }
        if let Some(account) = account {
            line["properties"] = json!({"account": account});
        }
        if let Some(at) = visit.occurred {
            line["time"] = json!(at);
        }
        let form = (action == Action::Form).then(|| Form {
            email: subject.written_email(&mut self.random),
            phone: subject.written_phone(&mut self.random),
        });
        if let Some(Form { email, phone }) = &form {
            line["contact"] = json!({"name": subject.name, "email": email, "phone": phone, "company": "Steel Ltd"});
        }
        let hit = Hit {
            id,
            subject: subject.number,
            device: visit.device,
            site,
            kind,
            path,
            form,
            occurred: visit.occurred,
            sent,
            answered: 0,
            is_opted_out: false,
        };
        (hit, line.to_string())
    }
}
