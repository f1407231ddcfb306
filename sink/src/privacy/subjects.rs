//! Finds whom a hash is about, among those whom the tables know: the topic tells nobody's name.

use std::collections::HashMap;

use clickhouse::Row;
use schemas::SubjectKind;
use serde::Deserialize;
use service::privacy::keys::{Key, Keys, Subject, normal};

use super::ExecuteError;
use super::requests::Request;
use super::tables::Scope;
use crate::clickhouse::ClickHouse;

/// A name as the tables have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: SubjectKind,
    /// As it is written.
    pub value: String,
    /// Rows up to then go, Unix milliseconds.
    pub until: i64,
    /// Places of the requests that are about it.
    pub requests: Vec<usize>,
}

#[derive(Row, Deserialize)]
struct Name {
    value: String,
}

/// Places of requests, by whom they are about.
type Places = HashMap<(SubjectKind, Subject), Vec<usize>>;

/// Whom the requests of one site are about.
pub struct Wanted<'a> {
    requests: &'a [&'a Request],
    by_key: Vec<(&'a Key, Places)>,
}

impl<'a> Wanted<'a> {
    /// For requests of one site.
    ///
    /// # Errors
    /// Where one was hashed with a key that is not known.
    pub fn new(requests: &'a [&'a Request], keys: &'a Keys) -> Result<Self, ExecuteError> {
        let mut by_name: HashMap<&str, Places> = HashMap::new();
        for (place, request) in requests.iter().enumerate() {
            let of_key = by_name.entry(&request.directive.key_name).or_default();
            of_key.entry((request.kind(), request.subject)).or_default().push(place);
        }
        let key = |(name, subjects): (&str, _)| match keys.get(name) {
            Some(key) => Ok((key, subjects)),
            None => Err(ExecuteError::UnknownKey(name.to_owned())),
        };
        Ok(Self { requests, by_key: by_name.into_iter().map(key).collect::<Result<_, _>>()? })
    }

    /// What is looked for.
    #[must_use]
    pub fn kinds(&self) -> Vec<SubjectKind> {
        let all = [SubjectKind::VisitorId, SubjectKind::Email, SubjectKind::Phone];
        all.into_iter().filter(|kind| self.requests.iter().any(|request| request.kind() == *kind)).collect()
    }

    /// Places of the requests that are about a name, however it is written.
    #[must_use]
    pub fn of(&self, site: &str, kind: SubjectKind, value: &str) -> Vec<usize> {
        let normal = normal(kind, value);
        let places = |(key, subjects): &(&Key, Places)| {
            subjects.get(&(kind, key.hash(site, kind, &normal))).cloned().unwrap_or_default()
        };
        self.by_key.iter().flat_map(places).collect()
    }

    /// Asks the tables.
    ///
    /// # Errors
    /// Where ClickHouse can't be asked.
    pub async fn find(&self, clickhouse: &ClickHouse, scope: &Scope<'_>) -> Result<Vec<Found>, ExecuteError> {
        let mut found = Vec::new();
        for kind in self.kinds() {
            let is_wanted = |name: &Name| !self.of(scope.site, kind, &name.value).is_empty();
            for Name { value } in clickhouse.rows_where(&scope.all_names(kind), is_wanted).await? {
                let requests = self.of(scope.site, kind, &value);
                let until = requests.iter().map(|place| self.requests[*place].directive.issued_at).max();
                found.push(Found { kind, value, until: until.unwrap_or_default(), requests });
            }
        }
        Ok(found)
    }
}
