//! Rows that were stored by somebody who had not heard of a request: a sink that is cut off from the topic of requests but not
//! from that of hits stores by what it knew, and a refresh of audiences writes what it asked before. Nobody can tell them, so the
//! sink that erases looks from time to time at what was stored since: the names in these rows are held against all directives.
//! Costs nothing where nobody asked anything.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use clickhouse::Row;
use schemas::SubjectKind;
use serde::Deserialize;
use service::privacy::directives::{Directives, Note};
use service::privacy::keys::Keys;

use super::ExecuteError;
use super::notes::{self, Notes};
use super::requests::Request;
use super::subjects::Wanted;
use crate::audiences::condition::quote;
use crate::clickhouse::{ClickHouse, time};
use crate::fault::Fault;

/// How long after one look the next one is due.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How far a look goes back behind the one before, milliseconds: an insert may take so long.
const OVERLAP: i64 = 2 * 60 * 1000;
/// How far the first look goes back, milliseconds: whoever erased before may have been away for so long.
const FIRST: i64 = 60 * 60 * 1000;

/// When was looked last.
#[derive(Debug, Default)]
pub struct Late {
    /// On the clock of ClickHouse, Unix milliseconds.
    up_to: Option<i64>,
    last: Option<Instant>,
}

/// Names in rows that should not be there.
#[derive(Debug, Default)]
pub struct Found {
    names: HashSet<(String, SubjectKind, String)>,
}

#[derive(Row, Deserialize)]
struct Stored {
    site: String,
    visitor: String,
    email: String,
    phone: String,
    earliest: i64,
}

impl Stored {
    fn names(&self) -> impl Iterator<Item = (SubjectKind, &str)> {
        let all = [
            (SubjectKind::VisitorId, self.visitor.as_str()),
            (SubjectKind::Email, self.email.as_str()),
            (SubjectKind::Phone, self.phone.as_str()),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty())
    }

    /// Names whose rows have to go.
    fn erased<'a>(&'a self, directives: &'a Directives) -> impl Iterator<Item = (SubjectKind, &'a str)> {
        self.names().filter(|(kind, value)| {
            directives.erased_until(&self.site, *kind, value).is_some_and(|until| self.earliest <= until)
        })
    }

    fn notes<'a>(&'a self, directives: &'a Directives) -> impl Iterator<Item = Note> + 'a {
        self.names().flat_map(|(kind, value)| directives.notes(&self.site, kind, value))
    }
}

impl Late {
    /// Whether it is time for the next look.
    #[must_use]
    pub fn is_due(&self, every: Duration) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= every)
    }

    /// What was found up to then is done.
    pub fn looked(&mut self, up_to: i64) {
        (self.up_to, self.last) = (Some(up_to), Some(Instant::now()));
    }

    /// Looks at what was stored since: notes what is to be noted of it, and gives the names whose rows should not be there,
    /// and when that was, Unix milliseconds.
    ///
    /// # Errors
    /// Where ClickHouse does not answer.
    pub async fn look(&self, clickhouse: &ClickHouse, directives: &Directives) -> Result<(i64, Found), ExecuteError> {
        let now = clickhouse.now().await?;
        let since = self.up_to.map_or(now - FIRST, |up_to| up_to - OVERLAP);
        let (mut found, mut notes) = (Found::default(), Notes::new());
        for stored in stored_since(clickhouse, directives, since).await? {
            notes.extend(stored.notes(directives));
            let names = stored.erased(directives);
            found.names.extend(names.map(|(kind, value)| (stored.site.clone(), kind, value.to_owned())));
        }
        notes::write(clickhouse, &notes).await?;
        Ok((now, found))
    }
}

async fn stored_since(clickhouse: &ClickHouse, directives: &Directives, since: i64) -> Result<Vec<Stored>, Fault> {
    let sites: Vec<String> = directives.sites().map(quote).collect();
    if sites.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "{} UNION ALL {}",
        hits_since(clickhouse.database(), &sites.join(", "), since),
        members_since(clickhouse.database(), &sites.join(", "), since)
    );
    let is_wanted =
        |stored: &Stored| stored.erased(directives).next().is_some() || stored.notes(directives).next().is_some();
    clickhouse.rows_where(&query, is_wanted).await
}

fn hits_since(database: &str, sites: &str, since: i64) -> String {
    format!(
        "SELECT toString(site) AS site, visitor_id AS visitor, contact_email AS email, contact_phone AS phone, \
         min(toUnixTimestamp64Milli(least(occurred_at, received_at))) AS earliest FROM {database}.hits \
         WHERE inserted_at > {} AND site IN ({sites}) GROUP BY site, visitor, email, phone",
        time(since)
    )
}

/// Who came into an audience or went out, and is no visitor any more: who came back may be in one again.
fn members_since(database: &str, sites: &str, since: i64) -> String {
    let changes = format!("FROM {database}.audience_changes WHERE changed_at > {} AND site IN ({sites})", time(since));
    let visitors = ["settled_sessions", "mail_opens"].map(|table| {
        format!(
            "SELECT site, visitor_id FROM {database}.{table} WHERE site IN ({sites}) AND visitor_id IN (SELECT member {changes})"
        )
    });
    format!(
        "SELECT DISTINCT toString(site) AS site, member AS visitor, '' AS email, '' AS phone, toInt64(0) AS earliest {changes} \
         AND (site, member) NOT IN ({})",
        visitors.join(" UNION ALL ")
    )
}

impl Found {
    /// Those of the requests that are about the names.
    ///
    /// # Errors
    /// Where one was hashed with a key that is not known.
    pub fn erasures(&self, mut requests: Vec<Request>, keys: &Keys) -> Result<Vec<Request>, ExecuteError> {
        let mut again = Vec::new();
        let sites: HashSet<&str> = self.names.iter().map(|(site, ..)| site.as_str()).collect();
        requests.retain(|request| sites.contains(request.site()));
        for site in sites {
            let of_site: Vec<&Request> = requests.iter().filter(|request| request.site() == site).collect();
            let wanted = Wanted::new(&of_site, keys)?;
            let names = self.names.iter().filter(|(of, ..)| of == site);
            let places: HashSet<usize> = names.flat_map(|(_, kind, value)| wanted.of(site, *kind, value)).collect();
            again.extend(places.into_iter().map(|place| of_site[place].clone()));
        }
        Ok(again)
    }
}
