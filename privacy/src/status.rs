//! What became of requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use schemas::topics::PRIVACY;
use schemas::{PrivacyAction, PrivacyDirective, Stage, StageState};
use uuid::Uuid;

use crate::error::PrivacyError;
use crate::options::StatusOptions;
use crate::sharing::End;
use crate::topic::{Register, blocking, issued_at};
use crate::{now, readable};

/// How far a stage is with a request.
#[derive(Debug, Default)]
pub struct Progress {
    hidden: BTreeSet<String>,
    done: BTreeSet<String>,
    /// Rows that it touched in its last step, of the whole request: each report repeats it.
    pub rows: i64,
    /// When it reported last, Unix milliseconds.
    pub reported_at: i64,
}

/// A request, as far as the topic tells of it.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: Uuid,
    /// The right.
    pub action: PrivacyAction,
    /// When it was made, Unix milliseconds.
    pub issued_at: i64,
    /// By when it has to be done, Unix milliseconds.
    pub due_at: Option<i64>,
    /// Who entered it.
    pub operator: String,
    subjects: BTreeSet<String>,
    /// Whether something newer ended the permission, or the withdrawal.
    is_over: bool,
    /// What stages report.
    pub stages: BTreeMap<&'static str, Progress>,
}

impl Request {
    /// Whether it is about what comes from now on, and holds as soon as it is published: no service takes a hit before it
    /// has read all requests, and `privacy share` reads them each time.
    #[must_use]
    pub fn holds_at_once(&self) -> bool {
        matches!(self.action, PrivacyAction::Permit | PrivacyAction::Withdraw | PrivacyAction::Object)
    }

    /// Whether all that names the person was dealt with where the data is.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let sink = self.stages.get(Stage::Sink.as_str());
        sink.is_some_and(|progress| self.subjects.is_subset(&progress.done))
    }

    /// One word on how it is.
    #[must_use]
    pub fn state(&self, now: i64) -> &'static str {
        match self.due_at {
            _ if self.is_over => "ended",
            _ if self.is_done() => "done",
            _ if self.holds_at_once() => "holds",
            Some(due_at) if due_at < now => "OVERDUE",
            _ => "open",
        }
    }
}

/// The requests that were made of a site, oldest first, with what is asked in them of the customer's other sites. One that a newer
/// took the place of is not among them.
#[must_use]
pub fn requests(register: &Register, site: &str) -> Vec<Request> {
    let name = |said: &PrivacyDirective<'_>| format!("{} {} {}", said.site, said.subject_kind.as_str(), said.subject);
    let ids: BTreeSet<Uuid> = register.directives(site).map(|each| each.directive_id).collect();
    let of_site = || register.all().filter(|each| ids.contains(&each.directive_id));
    let said = Said::at(register, site);
    let mut requests: BTreeMap<Uuid, Request> = BTreeMap::new();
    for directive in of_site().filter(|each| each.report.is_none()) {
        let request = requests.entry(directive.directive_id).or_insert_with(|| Request {
            id: directive.directive_id,
            action: directive.action,
            issued_at: issued_at(directive.directive_id),
            due_at: directive.due_at,
            operator: directive.operator.to_string(),
            subjects: BTreeSet::new(),
            is_over: false,
            stages: BTreeMap::new(),
        });
        request.subjects.insert(name(directive));
        request.is_over |= said.of(directive).iter().any(|other| ends(other, directive));
    }
    for directive in of_site() {
        let Some(report) = &directive.report else { continue };
        let Some(request) = requests.get_mut(&directive.directive_id) else { continue };
        let progress = request.stages.entry(report.stage.as_str()).or_default();
        match report.state {
            StageState::Done => drop(progress.done.insert(name(directive))),
            StageState::Hidden => drop(progress.hidden.insert(name(directive))),
            StageState::Unknown => {}
        }
        progress.rows = progress.rows.max(report.rows);
        progress.reported_at = progress.reported_at.max(report.reported_at);
    }
    let mut requests: Vec<Request> = requests.into_values().collect();
    requests.sort_by_key(|request| (request.issued_at, request.id));
    requests
}

/// What was said of each name at a site.
struct Said<'a>(HashMap<(&'a str, &'a str), Vec<&'a PrivacyDirective<'static>>>);

impl<'a> Said<'a> {
    fn at(register: &'a Register, site: &'a str) -> Self {
        let mut said: HashMap<_, Vec<_>> = HashMap::new();
        for each in register.directives(site) {
            said.entry((each.subject_kind.as_str(), each.subject.as_ref())).or_default().push(each);
        }
        Self(said)
    }

    fn of<'b>(&'b self, directive: &'b PrivacyDirective<'static>) -> &'b [&'a PrivacyDirective<'static>] {
        self.0.get(&(directive.subject_kind.as_str(), directive.subject.as_ref())).map_or(&[], Vec::as_slice)
    }
}

/// Whether what one person said ends a permission or a withdrawal of theirs.
fn ends(said: &PrivacyDirective<'_>, standing: &PrivacyDirective<'_>) -> bool {
    let PrivacyDirective { partner, purpose, issued_at, .. } = standing;
    match standing.action {
        PrivacyAction::Permit => End::of(said, partner, purpose).is_some_and(|end| end.ends(*issued_at)),
        PrivacyAction::Withdraw => {
            let is_about_it = said.partner == *partner && said.purpose == *purpose;
            said.action == PrivacyAction::Permit && is_about_it && said.issued_at > *issued_at
        }
        _ => false,
    }
}

/// Shows requests: each stage's report with `whole`, else a line each.
///
/// # Errors
/// Where the topic can't be read, or there is no such request.
pub async fn run(options: StatusOptions, whole: bool) -> Result<String, PrivacyError> {
    let StatusOptions { id, list } = options;
    list.kafka.set_up_topics("privacy", &[PRIVACY]).await?;
    let kafka = list.kafka;
    let register = blocking(move || Register::read(&kafka)).await?;
    let mut requests = requests(&register, &list.site);
    if let Some(id) = id {
        requests.retain(|request| request.id == id);
        if requests.is_empty() {
            return Err(PrivacyError::NoSuchRequest(id, list.site));
        }
    }
    Ok(show(&requests, whole, now()))
}

fn show(requests: &[Request], whole: bool, now: i64) -> String {
    let mut out = String::new();
    for request in requests {
        let due = request.due_at.map_or_else(|| "-".to_owned(), readable);
        let operator: String = request.operator.chars().filter(|character| !character.is_control()).collect();
        let (id, action, state) = (request.id, request.action.as_str(), request.state(now));
        let _ = writeln!(
            out,
            "{id}  {action:8}  {state:7}  made {}  due {due}  {} directives  by {operator}",
            readable(request.issued_at),
            request.subjects.len(),
        );
        for (stage, progress) in request.stages.iter().filter(|_| whole) {
            let hidden = progress.hidden.union(&progress.done).count();
            let _ = writeln!(
                out,
                "  {stage}: hidden {hidden}, done {} of {}, {} rows in its last step, reported {}",
                progress.done.len(),
                request.subjects.len(),
                progress.rows,
                readable(progress.reported_at),
            );
        }
        if whole && request.stages.is_empty() && !request.holds_at_once() {
            let _ = writeln!(out, "  no stage has reported");
        }
    }
    let overdue = requests.iter().filter(|request| request.state(now) == "OVERDUE").count();
    let _ = writeln!(out, "{} requests, {overdue} overdue", requests.len());
    out
}

#[cfg(test)]
mod tests {
    use schemas::{StageReport, SubjectKind};

    use super::*;
    use crate::topic::directive;

    const ID: Uuid = Uuid::from_u128(7);

    fn asked(subject: &str) -> PrivacyDirective<'static> {
        let named = (SubjectKind::Email, "key", subject.to_owned());
        PrivacyDirective { due_at: Some(100), ..directive(ID, "shop", named, PrivacyAction::Erase, "olga") }
    }

    fn report(subject: &str, state: StageState) -> PrivacyDirective<'static> {
        let report = StageReport { stage: Stage::Sink, state, instance: "one".into(), rows: 3, reported_at: 50 };
        PrivacyDirective { report: Some(report), ..asked(subject) }
    }

    fn state(of: Vec<PrivacyDirective<'static>>, now: i64) -> &'static str {
        requests(&Register::of(of), "shop")[0].state(now)
    }

    #[test]
    fn a_request_is_done_once_everything_that_names_the_person_is() {
        let [a, b] = [asked("a"), asked("b")];
        assert_eq!(state(vec![a.clone(), b.clone()], 100), "open");
        assert_eq!(state(vec![a.clone(), b.clone(), report("a", StageState::Done)], 101), "OVERDUE");
        let halfway = vec![a.clone(), b.clone(), report("a", StageState::Done), report("b", StageState::Hidden)];
        assert_eq!(state(halfway, 100), "open");
        let all = vec![a, b, report("a", StageState::Done), report("b", StageState::Done)];
        assert_eq!(state(all.clone(), 101), "done");
        let text = show(&requests(&Register::of(all), "shop"), true, 101);
        assert!(text.contains("sink: hidden 2, done 2 of 2, 3 rows") && text.contains("0 overdue"), "{text}");
    }

    #[test]
    fn a_request_is_done_once_it_is_at_each_site_of_the_customer() {
        let at_blog = |said: PrivacyDirective<'static>| PrivacyDirective { site: "blog".into(), ..said };
        let (here, there) = (report("a", StageState::Done), at_blog(report("b", StageState::Done)));
        let asked_of_both = vec![asked("a"), at_blog(asked("b")), here];
        assert_eq!(state(asked_of_both.clone(), 100), "open");
        assert_eq!(state([asked_of_both, vec![there]].concat(), 100), "done");
    }

    #[test]
    fn what_is_about_the_future_waits_for_nobody_and_other_sites_are_not_shown() {
        let permit = PrivacyDirective { action: PrivacyAction::Permit, due_at: None, ..asked("a") };
        assert_eq!(state(vec![permit.clone()], 101), "holds");
        let object = PrivacyDirective { action: PrivacyAction::Object, ..asked("a") };
        assert_eq!(state(vec![object], 101), "holds");
        assert!(requests(&Register::of([permit]), "blog").is_empty());
    }

    #[test]
    fn a_permission_that_was_taken_back_holds_no_more() {
        let said = |action, id: u128, at| {
            let id = Uuid::from_u128(id);
            PrivacyDirective {
                action,
                directive_id: id,
                due_at: None,
                issued_at: at,
                partner: "acme".into(),
                ..asked("a")
            }
        };
        let states = |all: &[PrivacyDirective<'static>]| {
            let requests = requests(&Register::of(all.iter().cloned()), "shop");
            requests.iter().map(|request| request.state(101)).collect::<Vec<_>>()
        };
        let permit = said(PrivacyAction::Permit, 1, 10);
        let withdraw = said(PrivacyAction::Withdraw, 2, 11);
        assert_eq!(states(&[permit.clone(), withdraw.clone()]), ["ended", "holds"]);
        assert_eq!(states(&[said(PrivacyAction::Permit, 1, 12), withdraw.clone()]), ["holds", "ended"]);
        let other = PrivacyDirective { partner: "other".into(), ..withdraw };
        assert_eq!(states(&[permit.clone(), other]), ["holds", "holds"]);
        assert_eq!(states(&[permit.clone(), said(PrivacyAction::Object, 2, 9)]), ["ended", "holds"]);
        assert_eq!(states(&[permit.clone(), said(PrivacyAction::Erase, 2, 9)]), ["holds", "open"]);
        assert_eq!(states(&[permit, said(PrivacyAction::Erase, 2, 11)]), ["ended", "open"]);
    }
}
