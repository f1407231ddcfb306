//! What was sent, and what was asked for: kept by whoever sent and asked, and not by what is to be tested.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::people::{Right, Site, Subject};

/// Now, Unix milliseconds.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What was submitted with a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Address, as it was written.
    pub email: String,
    /// Telephone number, as it was written.
    pub phone: String,
}

/// A hit that the collector acknowledged.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub subject: usize,
    /// Which of their devices it came from; none for one that was never seen before.
    pub device: Option<usize>,
    /// Where.
    pub site: &'static Site,
    /// What, as the table names it.
    pub kind: &'static str,
    /// Path of the page.
    pub path: String,
    /// What was submitted.
    pub form: Option<Form>,
    /// When it happened, where the client says so, Unix milliseconds.
    pub occurred: Option<i64>,
    /// The collector received it after this, Unix milliseconds.
    pub sent: i64,
    /// And before this.
    pub answered: i64,
    /// Whether the answer set the opt-out cookie.
    pub is_opted_out: bool,
}

impl Hit {
    /// Whether it is from before a time, as a request compares it; none where that can't be told.
    pub fn is_before(&self, from: i64, to: i64) -> Option<bool> {
        let (first, last) =
            self.occurred.map_or((self.sent, self.answered), |at| (at.min(self.sent), at.min(self.answered)));
        if last <= from { Some(true) } else { (first > to).then_some(false) }
    }
}

/// A request that was published, or may have been.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whose.
    pub subject: usize,
    /// For what.
    pub right: Right,
    /// The request; that of the last run, where one was killed before.
    pub id: Uuid,
    /// It was made after this, Unix milliseconds: when the first run began.
    pub from: i64,
    /// And takes effect no later than this, as the last run says.
    pub to: i64,
    /// What the receipt says.
    pub receipt: String,
    /// Whether a first run was killed.
    pub was_killed: bool,
}

/// What is to be in the table of a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A row that tells all.
    Whole,
    /// A row under another visitor id than the device's.
    Renamed,
    /// A row that tells nobody.
    Nameless,
    /// No row.
    Gone,
    /// Whether it came before the request or after it can't be told.
    Unclear,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Hits.
    pub hits: Vec<Hit>,
    /// Requests.
    pub asked: Vec<Asked>,
}

impl Ledger {
    /// Hits of somebody.
    pub fn of(&self, subject: usize) -> impl Iterator<Item = &Hit> {
        self.hits.iter().filter(move |hit| hit.subject == subject)
    }

    /// What somebody asked for, of the rights that change what is kept of hits.
    pub fn request(&self, subject: usize) -> Option<&Asked> {
        let changes =
            |right| !matches!(right, Right::None | Right::Access | Right::Permit | Right::Withdraw | Right::Rectify);
        self.asked.iter().find(|asked| asked.subject == subject && changes(asked.right))
    }

    /// What is to be in the table of a hit.
    pub fn fate(&self, subjects: &[Subject], hit: &Hit) -> Fate {
        let Some(asked) = self.request(hit.subject) else { return Fate::Whole };
        debug_assert_eq!(subjects[hit.subject].right, asked.right);
        match (asked.right, hit.is_before(asked.from, asked.to)) {
            (_, None) => Fate::Unclear,
            (Right::Object, Some(true)) | (Right::EraseAndReturn | Right::Erase, Some(false)) => Fate::Whole,
            (Right::Object, Some(false)) if hit.site.drops_objectors => Fate::Gone,
            (Right::Object, Some(false)) => Fate::Nameless,
            (Right::Forget, Some(false)) => Fate::Renamed,
            (_, Some(true)) => Fate::Gone,
            (..) => Fate::Whole,
        }
    }
}
