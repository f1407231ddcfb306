//! Goals, campaigns, and the ways through pages.

use std::collections::BTreeMap;

use benches::traffic::visit::{Action, Session, Visit};
use schemas::{Kind, SourceKind};

use crate::line;
use crate::sessions::{Brought, source};
use crate::stage::{Stage, day, stage};

/// The goals of the site `shop`: name, kind, beginning of the path or nothing, and what it is worth.
const GOALS: [(&str, Kind, &str, f64); 3] = [
    ("prices", Kind::PageView, "/pricing/", 1.5),
    ("sheet", Kind::Download, "", 4.0),
    ("contact", Kind::Form, "", 20.0),
];
const SITE: usize = 0;

/// The rows of [`GOALS`].
pub fn rows() -> String {
    let row = |(goal, kind, path, value): &(&str, Kind, &str, f64)| {
        format!("('shop', '{goal}', '{}', '{path}%', {value})", kind.as_str())
    };
    GOALS.iter().map(row).collect::<Vec<_>>().join(", ")
}

/// Each action that reaches a goal, with its visit and the goal.
fn reached(stage: &Stage) -> impl Iterator<Item = (&Visit, &Action, &'static str, f64)> {
    let visits = stage.ledger.visits().filter(|visit| visit.site == SITE && !visit.visitor.is_robot());
    visits.flat_map(move |visit| {
        let goals = visit.actions.iter().flat_map(|action| GOALS.iter().map(move |goal| (action, goal)));
        goals.filter_map(move |(action, (goal, kind, path, value))| {
            let page = action.page.map_or("", |page| &stage.world.sites[SITE].pages[page].path);
            (action.kind == *kind && page.starts_with(path)).then_some((visit, action, *goal, *value))
        })
    })
}

#[test]
fn conversions_are_the_deeds_that_reach_a_goal() {
    let Some(stage) = stage("conversions_are_the_deeds_that_reach_a_goal") else { return };
    let lines = reached(stage).map(|(visit, action, goal, value)| {
        line!(goal, value, action.hit_id, visit.visitor.id(), action.occurred_at, day(action.occurred_at))
    });
    let question = "SELECT goal, value, hit_id, visitor_id, toUnixTimestamp64Milli(occurred_at), toUInt16(day) \
        FROM {database}.conversions";
    stage.compare(question, lines.collect());
}

/// Kind, name, and the campaign's source, medium and name of what brought each visit of each visitor, by when it began.
fn touches(stage: &Stage) -> BTreeMap<&str, Vec<(i64, [String; 5])>> {
    let mut touches: BTreeMap<&str, Vec<(i64, [String; 5])>> = BTreeMap::new();
    for session in stage.ledger.sessions(&stage.world).filter(|session| session.visit.site == SITE) {
        let [kind, name, _, campaign @ ..] = source(stage, session.origin);
        let [source, medium, campaign] = campaign;
        let touch = [kind, name, source, medium, campaign];
        touches.entry(session.visit.visitor.id()).or_default().push((session.started_at, touch));
    }
    touches.values_mut().for_each(|visits| visits.sort());
    touches
}

#[test]
fn conversions_are_credited_to_the_first_and_the_last_touch() {
    let Some(stage) = stage("conversions_are_credited_to_the_first_and_the_last_touch") else { return };
    let (last_day, touches) = (day(stage.world.settings.end) - 1, touches(stage));
    let mut credits: BTreeMap<(&str, &[String; 5]), [f64; 4]> = BTreeMap::new();
    for (visit, action, goal, value) in reached(stage) {
        let Some(visits) = touches.get(visit.visitor.id()).filter(|_| !visit.visitor.id().is_empty()) else { continue };
        if !(last_day - 19..=last_day).contains(&day(action.occurred_at)) {
            continue;
        }
        let before: Vec<_> =
            visits.iter().filter(|(start, _)| *start <= action.occurred_at).map(|(_, touch)| touch).collect();
        let is_known =
            |touch: &&&[String; 5]| touch[0] != SourceKind::Direct.as_str() && touch[0] != SourceKind::Unknown.as_str();
        let (first, last) = (before[0], before.iter().rev().find(is_known).or(before.last()).unwrap());
        let credit = credits.entry((goal, first)).or_default();
        (credit[0], credit[2]) = (credit[0] + 1.0, credit[2] + value);
        let credit = credits.entry((goal, last)).or_default();
        (credit[1], credit[3]) = (credit[1] + 1.0, credit[3] + value);
    }
    let line = |((goal, touch), credit): ((&str, &[String; 5]), [f64; 4])| {
        line!(goal, touch.join("\t"), credit.map(|number| number.to_string()).join("\t"))
    };
    let question = format!(
        "SELECT * FROM {{database}}.conversion_sources(site = 'shop', first_day = toDate({}), last_day = toDate({last_day}))",
        last_day - 19
    );
    stage.compare(&question, credits.into_iter().map(line).collect());
}

#[test]
fn campaigns_brought_these_visits() {
    let Some(stage) = stage("campaigns_brought_these_visits") else { return };
    let mut campaigns: BTreeMap<_, Brought<'_>> = BTreeMap::new();
    for session in stage.ledger.sessions(&stage.world) {
        let origin = session.origin.map(|place| &stage.world.origins[place]);
        let Some(campaign) = origin.and_then(|origin| origin.campaign.as_ref()) else { continue };
        let names = line!(campaign.source, campaign.medium, campaign.name, campaign.click_id_kind);
        campaigns.entry((session.visit.site, day(session.started_at), names)).or_default().add(&session);
    }
    let line = |((site, day, names), brought): ((usize, i64, String), Brought<'_>)| {
        let counts = line!(brought.sessions, brought.visitors.len(), brought.bounces, brought.page_views);
        line!(stage.site(site), day, names, counts, brought.forms, brought.visible_ms)
    };
    let question = "SELECT site, toUInt16(day), campaign_source, campaign_medium, campaign_name, click_id_kind, sessions, \
        visitors, bounces, page_views, forms, visible_duration_ms FROM {database}.campaigns";
    stage.compare(question, campaigns.into_iter().map(line).collect());
}

#[test]
fn paths_are_what_came_before_and_after() {
    let Some(stage) = stage("paths_are_what_came_before_and_after") else { return };
    let last_day = day(stage.world.settings.end) - 1;
    let mut neighbours: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let visits = stage.ledger.visits().filter(|visit| visit.site == SITE && visit.session != Session::None);
    for visit in visits.filter(|visit| (last_day - 19..=last_day).contains(&day(visit.actions[0].occurred_at))) {
        let views: Vec<_> = visit
            .actions
            .iter()
            .filter(|action| action.kind == Kind::PageView)
            .map(|view| stage.page(SITE, view.page))
            .collect();
        for (place, _) in views.iter().enumerate().filter(|(_, page)| page.ends_with(".com/")) {
            let before = place.checked_sub(1).map_or("(entry)", |before| &views[before]).to_owned();
            let after = views.get(place + 1).map_or("(exit)", |after| after).to_owned();
            *neighbours.entry(("before", before)).or_default() += 1;
            *neighbours.entry(("after", after)).or_default() += 1;
        }
    }
    let question = format!(
        "SELECT position, page, page_views FROM {{database}}.paths(site = 'shop', page = '/', \
         first_day = toDate({}), last_day = toDate({last_day}))",
        last_day - 19
    );
    let line = |((position, page), views): ((&str, String), usize)| line!(position, page, views);
    stage.compare(&question, neighbours.into_iter().map(line).collect());
}
