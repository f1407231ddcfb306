//! The first visit: one hit through the pixel, and its row.

use crate::settings::Settings;
use anyhow::{Context, bail};
use local::{Paths, clickhouse};
use std::time::{Duration, Instant};

/// How long the row may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(90);

/// What to try first.
pub const QUERIES: [&str; 3] = [
    "SELECT * FROM hitmeter.sessions ORDER BY started_at DESC LIMIT 3 FORMAT Vertical",
    "SELECT * FROM hitmeter.pages ORDER BY views DESC LIMIT 10 FORMAT PrettyCompact",
    "SELECT * FROM hitmeter.live_visitors ORDER BY last_seen DESC LIMIT 3 FORMAT Vertical",
];

/// Sends one page view of the demo site as a browser would, and returns its hit id.
pub fn send(settings: &Settings) -> anyhow::Result<String> {
    let hit = uuid::Uuid::now_v7().to_string();
    let list = Paths::new().user_agents();
    let agents = std::fs::read_to_string(&list).with_context(|| format!("can't read {}", list.display()))?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(agents.lines().next().unwrap_or_default())
        .build()
        .into();
    let answer = agent
        .get(format!("{}/p.gif", settings.collector_url()))
        .query("site", "demo")
        .query("hit", &hit)
        .query("url", format!("{}/", settings.site_url()))
        .query("title", "The first visit, sent by make up")
        .query("referrer", "https://www.google.com/")
        .call()
        .context("the collector does not answer")?;
    if !answer.status().is_success() {
        bail!("the collector answered {} to the first visit", answer.status());
    }
    Ok(hit)
}

/// The row of a hit, as soon as it is in ClickHouse.
pub fn row(settings: &Settings, hit: &str) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT * FROM hitmeter.hits WHERE hit_id = '{hit}' LIMIT 1 FORMAT Vertical SETTINGS output_format_pretty_color = 0"
    );
    Ok(without_defaults(&arrived(settings, hit, &sql)?))
}

/// Has the visit of a hit settled at once, instead of within a minute.
pub fn settle(settings: &Settings, hit: &str) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT session_id FROM hitmeter.sessions \
         WHERE (site, visitor_id) IN (SELECT site, visitor_id FROM hitmeter.hits WHERE hit_id = '{hit}')"
    );
    query(settings, "SYSTEM REFRESH VIEW hitmeter.settle_sessions")?;
    arrived(settings, hit, &sql).map(drop)
}

fn query(settings: &Settings, sql: &str) -> anyhow::Result<String> {
    let (user, password) = (&settings.clickhouse_user, &settings.clickhouse_password);
    Ok(clickhouse::query_with_password(&settings.clickhouse_url(), user, password, sql)?)
}

/// The answer, as soon as there is one.
fn arrived(settings: &Settings, hit: &str, sql: &str) -> anyhow::Result<String> {
    let started = Instant::now();
    loop {
        let row = query(settings, sql)?;
        if !row.is_empty() {
            return Ok(row);
        }
        if started.elapsed() > ARRIVES_WITHIN {
            bail!(
                "the visit {hit} is not in ClickHouse after {} s; see the logs with `make status`",
                ARRIVES_WITHIN.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A row in `Vertical` format without the columns that say nothing.
fn without_defaults(row: &str) -> String {
    let empty = |line: &str| {
        line.split_once(':').is_some_and(|(_, value)| matches!(value.trim(), "" | "0" | "ᴺᵁᴸᴸ" | "[]" | "{}" | "false"))
    };
    row.lines().filter(|line| !empty(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let row = "Row 1:\n──────\nsite:    demo\ntitle:   \ncount:   0\ncity:    ᴺᵁᴸᴸ\nurl:     http://a:80/";
        assert_eq!(without_defaults(row), "──────\nsite:    demo\nurl:     http://a:80/");
    }
}
