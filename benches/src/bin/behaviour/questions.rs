//! What is asked, of whom, and how quick it has to be.

use std::time::Duration;

use anyhow::ensure;
use benches::behaviour::{Answer, BehaviourError, Database};
use benches::traffic::DAY;

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What it is about.
    pub about: &'static str,
    /// Within which it has to be answered.
    pub target: Duration,
    /// The SQL.
    pub sql: String,
}

/// Of whom and of which days is asked.
#[derive(Debug, Clone)]
pub struct Subjects {
    /// A visitor with many visits who gave an address.
    visitor: String,
    /// That address, in lower case.
    contact: String,
    /// A company that a partner knows, with many visits.
    company: String,
    /// The first day of thirty.
    first_day: String,
    /// The last of them.
    last_day: String,
}

impl Subjects {
    /// Looks for them: the busiest, who are the hardest.
    pub fn find(database: &Database, end: i64) -> anyhow::Result<Self> {
        let known = database.lines(
            "SELECT visitor_id, lower(any(contact_email)) FROM {database}.hits WHERE site = 'shop' AND NOT is_bot \
             AND contact_email != '' GROUP BY visitor_id ORDER BY count() DESC, visitor_id LIMIT 1",
        )?;
        let company = database.lines(
            "SELECT company_domain FROM {database}.hits WHERE site = 'shop' AND company_domain != '' \
             GROUP BY company_domain ORDER BY count() DESC LIMIT 1",
        )?;
        ensure!(known.len() == 1 && company.len() == 1, "nobody gave an address, or no company was known");
        let (visitor, contact) = known[0].split_once('\t').unwrap_or_default();
        let days = database.lines(&format!(
            "SELECT toDate({0}), toDate({0}) - 29 SETTINGS session_timezone = 'UTC' FORMAT TSV",
            end.div_euclid(DAY) * DAY / 1_000
        ))?;
        let (last_day, first_day) = days[0].split_once('\t').unwrap_or_default();
        let [visitor, contact, last_day, first_day] = [visitor, contact, last_day, first_day].map(str::to_owned);
        Ok(Self { visitor, contact, company: company[0].clone(), first_day, last_day })
    }
}

/// All questions.
pub fn questions(subjects: &Subjects) -> Vec<Question> {
    let Subjects { visitor, contact, company, first_day, last_day } = subjects;
    let days = format!("site = 'shop' AND day BETWEEN '{first_day}' AND '{last_day}'");
    let between = format!("site = 'shop', first_day = '{first_day}', last_day = '{last_day}'");
    let of_visitor = format!("site = 'shop' AND visitor_id = '{visitor}'");
    let ask = |milliseconds, about, sql: String| Question { about, target: Duration::from_millis(milliseconds), sql };
    let dashboard = [
        (
            "sessions by day, 30 days",
            format!(
                "SELECT day, count(), uniqExact(visitor_id), countIf(is_bounce), avg(visible_duration_ms) \
                 FROM {{database}}.sessions WHERE {days} GROUP BY day ORDER BY day"
            ),
        ),
        (
            "top pages, 30 days",
            format!("SELECT * FROM {{database}}.pages_between({between}) ORDER BY views DESC LIMIT 20"),
        ),
        (
            "sources, 30 days",
            format!(
                "SELECT source_kind, source_name, sum(sessions) AS visits, sum(bounces), sum(forms) \
                 FROM {{database}}.sources WHERE {days} GROUP BY source_kind, source_name ORDER BY visits DESC LIMIT 20"
            ),
        ),
        (
            "companies, 30 days",
            format!("SELECT * FROM {{database}}.companies_between({between}) ORDER BY sessions DESC LIMIT 20"),
        ),
        (
            "companies, 30 days, without contacts, places and partners",
            format!(
                "SELECT company, company_name, evidence, confidence, is_provider, visitors, sessions, page_views, \
                 visible_duration_ms, days, last_seen \
                 FROM {{database}}.companies_between({between}) ORDER BY sessions DESC LIMIT 20"
            ),
        ),
    ];
    let histories = [
        ("one visitor", format!("SELECT * FROM {{database}}.visitors WHERE {of_visitor}")),
        (
            "one visitor's sessions",
            format!("SELECT * FROM {{database}}.sessions WHERE {of_visitor} ORDER BY started_at"),
        ),
        (
            "one visitor's hits",
            format!(
                "SELECT occurred_at, kind, page_path, target_url FROM {{database}}.hits WHERE {of_visitor} \
                 ORDER BY occurred_at LIMIT 1 BY hit_id"
            ),
        ),
        ("one contact", format!("SELECT * FROM {{database}}.contacts WHERE site = 'shop' AND contact = '{contact}'")),
        (
            "one contact's sessions",
            format!(
                "SELECT * FROM {{database}}.contact_sessions(site = 'shop', contact = '{contact}') ORDER BY started_at"
            ),
        ),
        (
            "one company's sessions, 90 days",
            format!(
                "SELECT * FROM {{database}}.sessions WHERE site = 'shop' AND company_domain = '{company}' \
                 AND day >= toDate('{last_day}') - 89 ORDER BY started_at"
            ),
        ),
    ];
    let live = "SELECT * FROM {database}.live_visitors WHERE site = 'shop' ORDER BY last_seen DESC".to_owned();
    let funnel = format!(
        "SELECT * FROM {{database}}.funnel({between}, steps = ['/', '/pumps/%', 'download', 'form'], \
         window_seconds = 604800, strict = 0)"
    );
    let dashboard = dashboard.map(|(about, sql)| ask(300, about, sql));
    let histories = histories.map(|(about, sql)| ask(50, about, sql));
    let others = [ask(20, "who is live", live), ask(2_000, "funnel of 4 steps, 30 days", funnel)];
    dashboard.into_iter().chain(histories).chain(others).collect()
}

/// How long a question takes that reads no table and that nothing of ours changes: counting who saw each of 400 pages among
/// five million made-up views. What other questions take in yardsticks can be held against another hour's.
pub fn yardstick(database: &Database, rounds: usize) -> Result<Duration, BehaviourError> {
    let sql = "SELECT intHash32(number) % 400 AS page, uniqExact(cityHash64(number % 1000003)) FROM numbers_mt(5000000) \
               GROUP BY page ORDER BY page";
    Ok(Figures::of(database, sql, rounds)?.median())
}

/// How a question was answered.
pub struct Measured {
    /// What was asked.
    pub question: Question,
    /// How it was answered; in words where it was not.
    pub answer: Result<Figures, String>,
}

/// Times of all rounds, and the work of the last.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Each, the shortest first.
    pub took: Vec<Duration>,
    /// Rows read.
    pub rows_read: u64,
    /// Bytes read, before compression.
    pub bytes_read: u64,
    /// Lines of the answer.
    pub lines: usize,
}

impl Figures {
    /// Of some rounds, after one that does not count.
    fn of(database: &Database, sql: &str, rounds: usize) -> Result<Self, BehaviourError> {
        database.ask(sql)?;
        let answers: Vec<Answer> = (0..rounds.max(1)).map(|_| database.ask(sql)).collect::<Result<_, _>>()?;
        let mut took: Vec<Duration> = answers.iter().map(|answer| answer.took).collect();
        took.sort_unstable();
        let last = answers.last().cloned().unwrap_or_default();
        let lines = last.text.lines().count();
        Ok(Self { took, rows_read: last.rows_read, bytes_read: last.bytes_read, lines })
    }

    /// The time in the middle.
    pub fn median(&self) -> Duration {
        self.took[self.took.len() / 2]
    }
}

impl Measured {
    /// Asks some rounds.
    pub fn of(question: Question, database: &Database, rounds: usize) -> Self {
        let answer = Figures::of(database, &question.sql, rounds).map_err(|problem| problem.to_string());
        Self { question, answer }
    }
}
