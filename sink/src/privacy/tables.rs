//! Which table holds what of a person, and the statements that are made of that. Pure.

use schemas::SubjectKind;
use uuid::Uuid;

use crate::audiences::condition::quote;
use crate::clickhouse::time;

/// A table whose rows are about one person each.
#[derive(Debug, Clone, Copy)]
pub struct Holding {
    /// Its name.
    pub table: &'static str,
    /// Name of the table that `sink views rebuild` makes beside it, where it makes it anew.
    pub beside: Option<&'static str>,
    /// Columns that name the person, by what they hold.
    pub names: &'static [(SubjectKind, &'static str)],
    /// When a row was told, as an expression.
    pub time: &'static str,
}

/// When a row was told that goes whenever it was.
const WHENEVER: &str = "toDateTime64(0, 3, 'UTC')";

/// Sessions are told of hits: they are deleted whole, and what is left told anew.
pub const SESSIONS: Holding = Holding {
    table: "settled_sessions",
    beside: Some("settled_sessions_next"),
    names: &[(SubjectKind::VisitorId, "visitor_id"), (SubjectKind::Email, "contact_email")],
    time: "started_at",
};

/// The hits.
pub const HITS: Holding = Holding {
    table: "hits",
    beside: None,
    names: &[
        (SubjectKind::VisitorId, "visitor_id"),
        (SubjectKind::Email, "contact_email"),
        (SubjectKind::Phone, "contact_phone"),
    ],
    time: "least(occurred_at, received_at)",
};

/// What is told of hits once and for all. Deleted last, as by these a visitor is found whose sessions are to be told anew.
/// Changes of audiences go whenever a refresh found them: that is not when there were the visits by which somebody fitted, and
/// who fits still comes in anew.
pub const OTHERS: [Holding; 6] = [
    Holding {
        table: "objections",
        beside: None,
        names: &[
            (SubjectKind::VisitorId, "visitor_id"),
            (SubjectKind::Email, "contact"),
            (SubjectKind::Phone, "phone"),
        ],
        time: "objected_at",
    },
    Holding { table: "audience_changes", beside: None, names: &[(SubjectKind::VisitorId, "member")], time: WHENEVER },
    Holding {
        table: "contact_merges",
        beside: None,
        names: &[(SubjectKind::Email, "contact"), (SubjectKind::Email, "merged_into")],
        time: "decided_at",
    },
    Holding { table: "mail_opens", beside: Some("mail_opens_next"), ..HITS },
    Holding {
        table: "contact_links",
        beside: Some("contact_links_next"),
        names: &[(SubjectKind::VisitorId, "visitor_id"), (SubjectKind::Email, "contact")],
        time: "linked_at",
    },
    Holding {
        table: "contact_cards",
        beside: Some("contact_cards_next"),
        names: &[
            (SubjectKind::VisitorId, "visitor_id"),
            (SubjectKind::Email, "contact"),
            (SubjectKind::Email, "email"),
            (SubjectKind::Phone, "phone"),
        ],
        time: "submitted_at",
    },
];

/// Where merges lead, which is told of what is decided. Deleted once that is, whenever it was settled: where somebody decided
/// again since, it is settled again a minute later.
pub const MERGES: Holding = Holding {
    table: "settled_merges",
    beside: None,
    names: &[(SubjectKind::Email, "contact"), (SubjectKind::Email, "person")],
    time: WHENEVER,
};

/// What people tell of their company, which is told of cards and links. Deleted once these are, whenever it was settled: what is
/// left of them is settled again a minute later.
pub const EMPLOYERS: Holding = Holding {
    table: "settled_employers",
    beside: None,
    names: &[(SubjectKind::VisitorId, "visitor_id"), (SubjectKind::Email, "contact")],
    time: WHENEVER,
};

/// Tables that name no person: settings, counts, and what the sink writes down of its own work. A test holds this and the
/// others against the database.
pub const NAMELESS: [&str; 15] = [
    "audience_definitions",
    "content_groups",
    "customer_sites",
    "erased_offsets",
    "erasing",
    "goals",
    "network_kinds",
    "page_titles",
    "privacy_shares",
    "privacy_trail",
    "schema_migrations",
    "score_rules",
    "score_thresholds",
    "settlements",
    "unnamed_views",
];

impl Holding {
    /// The table that is made anew beside it, which holds the same.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.beside.map(|table| Self { table, beside: None, ..self })
    }

    /// How much of something there is, as an expression. Sessions are told again each time they are settled, which ClickHouse
    /// merges when it likes to.
    fn number(&self) -> &'static str {
        if self.table == SESSIONS.table { "uniqExact(visitor_id, session_id)" } else { "count()" }
    }
}

/// Tables whose rows a report counts: what people tell of their company is counted as the cards and links that tell it.
pub fn counted() -> impl Iterator<Item = Holding> {
    [HITS, SESSIONS].into_iter().chain(OTHERS).chain([MERGES])
}

/// All tables with rows about people.
pub fn holdings() -> impl Iterator<Item = Holding> {
    counted().chain([EMPLOYERS])
}

/// Name of the kind that marks visitors whose sessions are told anew.
pub const TOUCHED: &str = "touched";

/// A pass over the rows of one site.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Database.
    pub database: &'a str,
    /// Key of the site.
    pub site: &'a str,
    /// Names the pass.
    pub pass: Uuid,
    /// What kinds of names are looked for.
    pub kinds: &'a [SubjectKind],
    /// The tables in which they are looked for.
    pub holdings: &'a [Holding],
}

impl Scope<'_> {
    fn list(&self, kind: &str) -> String {
        let Self { database, site, pass, .. } = self;
        format!("{database}.erasing WHERE pass = '{pass}' AND site = {} AND kind = '{kind}'", quote(site))
    }

    /// Rows that a column names a subject in, told no later than the subject asked.
    fn named(&self, time: &str, kind: SubjectKind, column: &str) -> String {
        let list = self.list(kind.as_str());
        // Both lists in one order. What is compared is a hash table's answer, however many there are.
        let sorted = |place| {
            format!("(SELECT arrayMap(each -> each.{place}, arraySort(groupArray((value, until)))) FROM {list})")
        };
        format!(
            "({column} IN (SELECT value FROM {list}) AND \
             toUnixTimestamp64Milli({time}) <= transform({column}, {}, {}, toInt64(-1)))",
            sorted(1),
            sorted(2)
        )
    }

    /// The rows of a table that go; none where it can't hold any.
    #[must_use]
    pub fn condition(&self, holding: &Holding) -> Option<String> {
        let wanted = holding.names.iter().filter(|(kind, _)| self.kinds.contains(kind));
        let any: Vec<_> = wanted.map(|(kind, column)| self.named(holding.time, *kind, column)).collect();
        (!any.is_empty()).then(|| format!("site = {} AND ({})", quote(self.site), any.join(" OR ")))
    }

    /// How many rows each name has in a column.
    #[must_use]
    pub fn counts(&self, holding: &Holding, kind: SubjectKind, column: &str) -> String {
        let (condition, site) = (self.named(holding.time, kind, column), quote(self.site));
        format!(
            "SELECT toString({column}) AS value, {} AS rows FROM {}.{} WHERE site = {site} AND {condition} GROUP BY value",
            holding.number(),
            self.database,
            holding.table
        )
    }

    /// All that the tables have for names of a kind.
    #[must_use]
    pub fn all_names(&self, kind: SubjectKind) -> String {
        let mut parts = Vec::new();
        for Holding { table, names, .. } in self.holdings {
            for (_, column) in names.iter().filter(|(of, _)| *of == kind) {
                let (database, site) = (self.database, quote(self.site));
                parts.push(format!(
                    "SELECT DISTINCT toString({column}) AS value FROM {database}.{table} WHERE site = {site} AND {column} != ''"
                ));
            }
        }
        format!("SELECT DISTINCT value FROM ({})", parts.join(" UNION ALL "))
    }

    /// Writes down the visitors whose sessions change.
    #[must_use]
    pub fn touch(&self) -> Option<String> {
        let Self { database, site, pass, .. } = self;
        let with_visitor =
            self.holdings.iter().filter(|holding| holding.names.contains(&(SubjectKind::VisitorId, "visitor_id")));
        let part = |holding: &Holding| {
            let condition = self.condition(holding)?;
            Some(format!("SELECT visitor_id FROM {database}.{} WHERE {condition} AND visitor_id != ''", holding.table))
        };
        let parts: Vec<_> = with_visitor.filter_map(part).collect();
        (!parts.is_empty()).then(|| {
            format!(
                "INSERT INTO {database}.erasing (pass, site, kind, value, until) \
                 SELECT DISTINCT toUUID('{pass}'), {}, '{TOUCHED}', visitor_id, 0 FROM ({})",
                quote(site),
                parts.join(" UNION ALL ")
            )
        })
    }

    fn touched(&self) -> String {
        format!("site = {} AND visitor_id IN (SELECT value FROM {})", quote(self.site), self.list(TOUCHED))
    }

    /// The employers of those who are named, and of touched visitors.
    #[must_use]
    pub fn employers(&self) -> String {
        let conditions = [self.condition(&EMPLOYERS), Some(self.touched())];
        conditions.into_iter().flatten().map(|each| format!("({each})")).collect::<Vec<_>>().join(" OR ")
    }

    /// The sessions of touched visitors that were told before a time, Unix milliseconds.
    #[must_use]
    pub fn told_before(&self, milliseconds: i64) -> String {
        format!("{} AND settled_at < {}", self.touched(), time(milliseconds))
    }

    /// Tells the sessions of touched visitors from the hits that are left, in a table. Counts as no settling of its own.
    #[must_use]
    pub fn tell_anew(&self, table: &str) -> String {
        let (database, touched) = (self.database, self.touched());
        format!(
            "INSERT INTO {database}.{table} SELECT *, false AS is_gone, now64(3, 'UTC') AS settled_at, \
             now64(3, 'UTC') AS settled_until, toUInt64(0) AS settled_rows FROM {database}.sessions_of_hits WHERE {touched}"
        )
    }

    /// Writes down the places of hits that go.
    #[must_use]
    pub fn record(&self) -> Option<String> {
        let (database, condition) = (self.database, self.condition(&HITS)?);
        Some(format!(
            "INSERT INTO {database}.erased_offsets (kafka_partition, first_offset, last_offset) \
             SELECT kafka_partition, kafka_offset, kafka_offset FROM {database}.hits WHERE {condition}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::MIGRATIONS;
    use crate::views::definition::State;

    #[test]
    fn what_is_made_anew_of_a_table_is_known_by_its_name() {
        let is_known = |holding: Holding| {
            let made = State::find(MIGRATIONS, holding.table).ok().map(|state| state.next());
            assert_eq!(holding.beside, made.as_deref(), "{}", holding.table);
        };
        holdings().for_each(is_known);
    }
}
