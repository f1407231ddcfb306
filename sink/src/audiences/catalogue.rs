//! Audiences as the database has them.

use clap::ValueEnum;
use clickhouse::Row;
use serde::Deserialize;

use super::AudienceError;
use super::condition::{Condition, Scope, quote};
use crate::clickhouse::{ClickHouse, time};
use crate::fault::Fault;

/// Who the members of an audience are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Members {
    /// Visitors who can be recognised on another day.
    Visitors,
    /// Companies.
    Companies,
}

impl Members {
    /// The view that the condition is about.
    #[must_use]
    pub fn view(self) -> &'static str {
        match self {
            Self::Visitors => "visitors",
            Self::Companies => "companies",
        }
    }

    /// The column that names a member.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Visitors => "visitor_id",
            Self::Companies => "company",
        }
    }

    /// What holds for all members of an audience that serves a purpose: they permit it. Silence is no permission.
    #[must_use]
    pub fn permitting(self, database: &str, site: &str, purpose: Option<Purpose>) -> String {
        match purpose {
            None => "TRUE".to_owned(),
            Some(purpose) => format!(
                "`{}` IN (SELECT visitor_id FROM {database}.consents WHERE site = {site} AND purpose = '{}' AND is_permitted)",
                self.key(),
                purpose.as_str()
            ),
        }
    }

    /// What holds for all members, whatever the condition is. Whoever objects by a signal is in no audience: their id is
    /// forgotten after the day, so they could only ever come in. Whoever told us that they object leaves, and never comes back.
    /// `site` is quoted.
    #[must_use]
    pub fn always(self, database: &str, site: &str) -> String {
        match self {
            Self::Visitors => format!(
                "NOT `is_anonymous` AND `visitor_id` NOT IN (SELECT visitor_id FROM {database}.objectors WHERE site = {site})"
            ),
            Self::Companies => "`company` != ''".to_owned(),
        }
    }

    fn of_view(view: &str) -> Option<Self> {
        Self::value_variants().iter().find(|members| members.view() == view).copied()
    }
}

/// What an audience is used for besides analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Purpose {
    /// Fitting content to people.
    Personalisation,
    /// Advertising.
    Advertising,
    /// Giving it to partners.
    PartnerSharing,
}

impl Purpose {
    /// The name, as in the view `consents`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Personalisation => "personalisation",
            Self::Advertising => "advertising",
            Self::PartnerSharing => "partner_sharing",
        }
    }
}

/// An audience, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
pub struct Definition {
    /// Key of the site.
    pub site: String,
    /// Name.
    pub audience: String,
    /// View that the condition is about.
    pub members_are: String,
    /// The condition, as somebody wrote it.
    pub condition: String,
    /// What it is for.
    pub description: String,
    /// Purpose that it serves; empty for none.
    pub purpose: String,
    /// How many are in it now.
    pub members: u64,
    /// When this was said, Unix milliseconds; 0 where it was not yet.
    pub said_at: i64,
}

impl Definition {
    /// Who its members are.
    ///
    /// # Errors
    /// Where the row names another view, which no `define` wrote.
    pub fn members_are(&self) -> Result<Members, AudienceError> {
        let unknown = || AudienceError::Unknown(self.audience.clone(), self.members_are.clone());
        Members::of_view(&self.members_are).ok_or_else(unknown)
    }

    /// The purpose that it serves.
    ///
    /// # Errors
    /// Where the row names another one, which no `define` wrote: nobody can have permitted that.
    pub fn purpose(&self) -> Result<Option<Purpose>, AudienceError> {
        let unknown = || AudienceError::UnknownPurpose(self.audience.clone(), self.purpose.clone());
        let known = || Purpose::value_variants().iter().find(|purpose| purpose.as_str() == self.purpose).copied();
        if self.purpose.is_empty() { Ok(None) } else { known().map(Some).ok_or_else(unknown) }
    }

    /// Whether nobody has said anything else of it since.
    ///
    /// # Errors
    /// Where ClickHouse can't be asked.
    pub async fn is_newest(&self, clickhouse: &ClickHouse) -> Result<bool, Fault> {
        let (database, said_at) = (clickhouse.database(), self.said_at);
        let (site, audience) = (quote(&self.site), quote(&self.audience));
        let query = format!(
            "SELECT audience FROM {database}.audience_definitions WHERE site = {site} AND audience = {audience} \
             AND changed_at > {} LIMIT 1",
            time(said_at)
        );
        Ok(clickhouse.rows::<String>(&query).await?.is_empty())
    }

    /// Reads its condition, each time anew: what stands in the table might have been written by somebody else.
    ///
    /// # Errors
    /// Where it is not allowed, or ClickHouse can't be asked for the columns of the view.
    pub async fn read(&self, clickhouse: &ClickHouse) -> Result<Condition, AudienceError> {
        let members = self.members_are()?;
        let columns = clickhouse.columns(members.view()).await?;
        let columns: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        let scope = Scope {
            database: clickhouse.database(),
            site: &self.site,
            view: members.view(),
            key: members.key(),
            columns: &columns,
        };
        let refused = |error| AudienceError::Condition(self.audience.clone(), error);
        Condition::read(&self.condition, &scope).map_err(refused)
    }

    /// Writes it, as active or as dropped.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn write(&self, clickhouse: &ClickHouse, is_active: bool) -> Result<(), Fault> {
        let values = [&self.site, &self.audience, &self.members_are, &self.condition, &self.description, &self.purpose];
        let values = values.map(|value| quote(value)).join(", ");
        let statement = format!(
            "INSERT INTO {}.audience_definitions (site, audience, members_are, condition, description, purpose, is_active) \
             SETTINGS async_insert = 0 VALUES ({values}, {is_active})",
            clickhouse.database()
        );
        clickhouse.execute(&statement).await
    }
}

/// All audiences, or those of one site, by site and name.
///
/// # Errors
/// The class of the failure.
pub async fn definitions(clickhouse: &ClickHouse, site: Option<&str>) -> Result<Vec<Definition>, Fault> {
    let audiences = format!("SELECT *, defined_at AS changed_at FROM {}.audiences", clickhouse.database());
    read(clickhouse, &audiences, site).await
}

/// Those that were dropped and have members nevertheless, as a refresh that was under way let them in.
///
/// # Errors
/// The class of the failure.
pub async fn dropped(clickhouse: &ClickHouse, site: Option<&str>) -> Result<Vec<Definition>, Fault> {
    let database = clickhouse.database();
    let audiences = format!(
        "SELECT * FROM (SELECT * FROM {database}.audience_definitions FINAL WHERE NOT is_active) AS d \
         INNER JOIN (SELECT site, audience, count() AS members FROM {database}.audience_members WHERE is_member \
         GROUP BY site, audience) AS m USING (site, audience)"
    );
    read(clickhouse, &audiences, site).await
}

async fn read(clickhouse: &ClickHouse, audiences: &str, site: Option<&str>) -> Result<Vec<Definition>, Fault> {
    let condition = site.map_or_else(|| "1".to_owned(), |site| format!("site = {}", quote(site)));
    let query = format!(
        "SELECT toString(site) AS site, audience, toString(members_are) AS members_are, condition, description, \
         toString(purpose) AS purpose, members, toUnixTimestamp64Milli(changed_at) AS said_at \
         FROM ({audiences}) WHERE {condition} ORDER BY site, audience"
    );
    clickhouse.rows(&query).await
}
