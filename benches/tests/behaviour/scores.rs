//! Interests, scores and audiences.

use benches::traffic::visit::{Action, Session, Visit};
use schemas::Kind;
use sink::audiences::run;
use sink::options::{Command, Options, SERVICE};
use tokio_util::sync::CancellationToken;

use crate::line;
use crate::stage::{Stage, day, stage};

const SITE: usize = 0;

/// The content groups of the site `shop`: name, beginning of the path, weight, days in which interest falls to a half.
const GROUPS: [(&str, &str, f64, f64); 2] = [("Pumps", "/pumps/", 1.0, 10.0), ("Docs", "/docs/", 2.0, 0.0)];
/// The rules of the site `shop`: name, kind, beginning of the path, points, days in which they fall to a half, the most.
const RULES: [(&str, Kind, &str, f64, f64, f64); 3] = [
    ("form", Kind::Form, "", 10.0, 7.0, 25.0),
    ("prices", Kind::PageView, "/pricing/", 1.0, 0.0, 5.0),
    ("careers", Kind::PageView, "/careers/", -2.0, 30.0, 6.0),
];

/// The rows of [`GROUPS`].
pub fn group_rows() -> String {
    let row = |(name, path, weight, half_life): &(&str, &str, f64, f64)| {
        format!("('shop', '{name}', ['{path}%'], {weight}, {half_life})")
    };
    GROUPS.iter().map(row).collect::<Vec<_>>().join(", ")
}

/// The rows of [`RULES`].
pub fn rule_rows() -> String {
    let row = |(name, kind, path, points, half_life, cap): &(&str, Kind, &str, f64, f64, f64)| {
        format!("('shop', '{name}', '{}', '{path}%', {points}, {half_life}, {cap})", kind.as_str())
    };
    RULES.iter().map(row).collect::<Vec<_>>().join(", ")
}

fn is_of(stage: &Stage, action: &Action, kind: Kind, path: &str) -> bool {
    let page = action.page.map_or("", |page| &stage.world.sites[SITE].pages[page].path);
    action.kind == kind && page.starts_with(path)
}

/// What is left today of what was worth 1 when an action happened.
fn left(stage: &Stage, action: &Action, half_life: f64) -> f64 {
    // Today is the day after the last, as the traffic ends with the day before.
    let age = day(stage.world.settings.end) - day(action.occurred_at);
    if half_life == 0.0 { 1.0 } else { (-(age as f64) / half_life).exp2() }
}

/// The actions of each visitor of the site.
fn deeds(stage: &Stage) -> impl Iterator<Item = (&str, Vec<&Action>)> {
    let visitors = stage.ledger.visitors().into_iter().filter(|((site, _), _)| *site == SITE);
    visitors.map(|((_, id), visits)| (id, visits.into_iter().flat_map(|visit: &Visit| &visit.actions).collect()))
}

/// Three places, as sums of other orders differ in the sixteenth. The little that is added on both sides parts what lies half
/// between two numbers, as a sixteenth does, which is not rounded alike everywhere.
const A_LITTLE: f64 = 1e-7;

fn rounded(score: f64) -> String {
    let text = format!("{:.3}", score + A_LITTLE);
    if text == "-0.000" { "0.000".to_owned() } else { text }
}

#[test]
fn interests_are_page_views_that_fade() {
    let Some(stage) = stage("interests_are_page_views_that_fade") else { return };
    let mut lines = Vec::new();
    for (id, actions) in deeds(stage) {
        for (group, path, weight, half_life) in GROUPS {
            let views: Vec<_> = actions.iter().filter(|action| is_of(stage, action, Kind::PageView, path)).collect();
            let score: f64 = views.iter().map(|view| weight * left(stage, view, half_life)).sum();
            if !views.is_empty() {
                lines.push(line!(id, group, rounded(score), views.len()));
            }
        }
    }
    let question = format!(
        "SELECT visitor_id, content_group, toDecimalString(score + {A_LITTLE}, 3), page_views FROM {{database}}.interests \
         WHERE site = 'shop'"
    );
    stage.compare(&question, lines);
}

/// What each rule adds to the score of a visitor who did this.
fn parts(stage: &Stage, actions: &[&Action]) -> Vec<f64> {
    let part = |(_, kind, path, points, half_life, cap): &(&str, Kind, &str, f64, f64, f64)| {
        let earned = actions.iter().filter(|action| is_of(stage, action, *kind, path));
        let gains: Vec<f64> = earned.map(|action| points * left(stage, action, *half_life)).collect();
        (!gains.is_empty()).then(|| gains.iter().sum::<f64>().clamp(-cap, *cap))
    };
    RULES.iter().filter_map(part).collect()
}

#[test]
fn scores_are_what_the_rules_add() {
    let Some(stage) = stage("scores_are_what_the_rules_add") else { return };
    let scored = deeds(stage).map(|(id, actions)| (id, parts(stage, &actions))).filter(|(_, parts)| !parts.is_empty());
    let lines = scored.map(|(id, parts)| line!(id, rounded(parts.iter().sum()), parts.len()));
    let question = format!(
        "SELECT visitor_id, replaceOne(toDecimalString(score + {A_LITTLE}, 3), '-0.000', '0.000'), length(parts) \
         FROM {{database}}.lead_scores WHERE site = 'shop'"
    );
    stage.compare(&question, lines.collect());
}

fn audiences(stage: &Stage, words: &[&str]) {
    let database = ["--clickhouse-url", stage.database.url(), "--clickhouse-database", stage.database.name()];
    let words = [&["sink", "audiences"], words, &database].concat();
    let Command::Audiences(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else {
        unreachable!("audiences were asked for")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(options.action, CancellationToken::new(), |_| ())).unwrap();
}

#[test]
fn audiences_are_those_who_fit() {
    let Some(stage) = stage("audiences_are_those_who_fit") else { return };
    for (name, condition) in [
        ("loyal", "sessions >= 3"),
        ("asked", "forms > 0"),
        ("warm", "lead_score_at_least(10)"),
        ("loyal and silent", "audience('loyal') AND NOT audience('asked')"),
    ] {
        audiences(stage, &["define", name, "--site=shop", "--condition", condition]);
    }
    audiences(stage, &["refresh"]);
    let mut lines = Vec::new();
    for ((_, id), visits) in stage.ledger.visitors().into_iter().filter(|((site, _), _)| *site == SITE) {
        if visits[0].visitor.is_anonymous() {
            continue;
        }
        let is_loyal = visits.iter().filter(|visit| visit.session != Session::None).count() >= 3;
        let has_asked = visits.iter().any(|visit| visit.count(Kind::Form) > 0);
        let actions: Vec<&Action> = visits.iter().flat_map(|visit| &visit.actions).collect();
        let is_warm = parts(stage, &actions).iter().sum::<f64>() >= 10.0;
        let fits = [
            ("loyal", is_loyal),
            ("asked", has_asked),
            ("warm", is_warm),
            ("loyal and silent", is_loyal && !has_asked),
        ];
        lines.extend(fits.iter().filter(|(_, fits)| *fits).map(|(name, _)| line!(name, id)));
    }
    let question = "SELECT audience, member FROM {database}.audience_members WHERE site = 'shop' AND is_member";
    stage.compare(question, lines);
}
