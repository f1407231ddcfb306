//! What really happened.

use schemas::Kind;

use super::visit::{Session, SharedVisit, Visit};

/// Counts of all the traffic, and where it was asked for every visit.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Counts,
    visits: Option<Vec<SharedVisit>>,
}

/// How much there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hits that arrive, those that arrive twice counted twice.
    pub rows: u64,
    /// Different hits.
    pub hits: u64,
    /// Different hits of robots.
    pub robots_hits: u64,
    /// Sessions.
    pub sessions: u64,
    /// Page views, without those of robots.
    pub page_views: u64,
    /// Hits that arrive more than an hour after they happened.
    pub late: u64,
}

const HOUR: i64 = 3_600_000;

impl Ledger {
    pub(super) fn keep_visits(&mut self) {
        self.visits.get_or_insert_default();
    }

    pub(super) fn note(&mut self, visit: SharedVisit) {
        let counts = &mut self.counts;
        for action in &visit.actions {
            counts.hits += 1;
            counts.rows += 1 + u64::from(action.repeated_at.is_some());
            counts.late += u64::from(action.received_at - action.occurred_at > HOUR);
            if visit.visitor.is_robot() {
                counts.robots_hits += 1;
            } else {
                counts.page_views += u64::from(action.kind == Kind::PageView);
            }
        }
        counts.sessions += u64::from(visit.session != Session::None);
        if let Some(visits) = &mut self.visits {
            visits.push(visit);
        }
    }

    /// How much there was.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Hits that arrive, those that arrive twice counted twice.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts.rows
    }

    /// Every visit, in the order in which they begin, where they were kept: opened mails and robots' rounds, too.
    pub fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.visits.iter().flatten().map(|visit| &**visit)
    }
}
