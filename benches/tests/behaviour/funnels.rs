//! Funnels and retention, found by trying every way through what each visitor did.

use std::collections::{BTreeMap, BTreeSet};

use benches::traffic::DAY;
use benches::traffic::visit::{Action, Visit, Visitor};
use schemas::Kind;

use crate::line;
use crate::stage::{Stage, day, stage};

const SITE: usize = 0;
const WINDOW: i64 = 7 * DAY;

/// Which of the steps '/', '/pumps/%', 'download', 'form' an action is.
fn is_step(stage: &Stage, action: &Action, step: usize) -> bool {
    let path = action.page.map_or("", |page| &stage.world.sites[SITE].pages[page].path);
    match step {
        0 => action.kind == Kind::PageView && path == "/",
        1 => action.kind == Kind::PageView && path.starts_with("/pumps/"),
        2 => action.kind == Kind::Download,
        _ => action.kind == Kind::Form,
    }
}

/// How many of four steps were taken from this action on, each after the one before, within the window.
fn steps_from(stage: &Stage, actions: &[&Action]) -> usize {
    let (mut step, start) = (0, actions[0].occurred_at);
    for action in actions.iter().take_while(|action| action.occurred_at - start <= WINDOW) {
        step += usize::from(step < 4 && is_step(stage, action, step));
    }
    step
}

fn actions_between<'a>(visits: &[&'a Visit], days: std::ops::Range<i64>) -> Vec<&'a Action> {
    let actions = visits.iter().flat_map(|visit| &visit.actions);
    actions.filter(|action| days.contains(&day(action.occurred_at))).collect()
}

#[test]
fn visitors_came_so_far_in_a_funnel() {
    let Some(stage) = stage("visitors_came_so_far_in_a_funnel") else { return };
    let last_day = day(stage.world.settings.end);
    let mut lines = Vec::new();
    for ((_, id), visits) in stage.ledger.visitors().into_iter().filter(|((site, _), _)| *site == SITE) {
        let actions = actions_between(&visits, last_day - 30..last_day);
        let starts = (0..actions.len()).filter(|start| is_step(stage, actions[*start], 0));
        let furthest = starts.map(|start| steps_from(stage, &actions[start..])).max();
        lines.extend(furthest.map(|steps| line!(id, steps)));
    }
    let question = format!(
        "SELECT visitor_id, steps_taken FROM {{database}}.funnel_visitors(site = 'shop', \
         first_day = toDate({}), last_day = toDate({}), steps = ['/', '/pumps/%', 'download', 'form'], \
         window_seconds = {}, strict = 0)",
        last_day - 30,
        last_day - 1,
        WINDOW / 1_000
    );
    stage.compare(&question, lines);
}

#[test]
fn visitors_come_back_after_so_many_days() {
    let Some(stage) = stage("visitors_come_back_after_so_many_days") else { return };
    let end = day(stage.world.settings.end);
    let mut cohorts: BTreeMap<i64, (usize, BTreeMap<i64, usize>)> = BTreeMap::new();
    for ((_, _), visits) in stage.ledger.visitors().into_iter().filter(|((site, _), _)| *site == SITE) {
        let actions =
            visits.iter().filter(|visit| matches!(visit.visitor, Visitor::Known(..))).flat_map(|v| &v.actions);
        let deeds = actions.filter(|action| !matches!(action.kind, Kind::Heartbeat | Kind::MailOpen));
        let days: BTreeSet<i64> = deeds.map(|action| day(action.occurred_at)).collect();
        let Some(first) = days.first().filter(|first| **first >= end - 10) else { continue };
        let (size, later) = cohorts.entry(*first).or_default();
        *size += 1;
        days.iter().for_each(|day| *later.entry(day - first).or_default() += 1);
    }
    let lines = |(first, (size, later)): (i64, (usize, BTreeMap<i64, usize>))| {
        let count = move |number: i64| later.get(&number).copied().unwrap_or_default();
        (0..end - first).map(move |number| line!(first, number, count(number), size)).collect::<Vec<_>>()
    };
    let question = format!(
        "SELECT toUInt16(cohort), period, visitors, cohort_visitors FROM {{database}}.retention(site = 'shop', \
         period = 'day', first_day = toDate({}), last_day = toDate({}))",
        end - 10,
        end - 1
    );
    stage.compare(&question, cohorts.into_iter().flat_map(lines).collect());
}
