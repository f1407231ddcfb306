//! `sink audiences`: named conditions over the views, and who fits them since when.
//!
//! In the order in which a command goes through it:
//!
//! 1. [`options`]: the command line.
//! 2. [`words`], [`condition`]: reads a condition and writes it anew as SQL. Pure.
//! 3. [`catalogue`]: the audiences in `audience_definitions`, whose conditions are read again each time.
//! 4. [`refresh`]: asks who fits, under limits and read-only, and writes into `audience_changes` who came in or went out.
//!
//! What somebody typed reaches ClickHouse only as what [`condition`] made of it. Several may refresh at once: a change that
//! is written twice counts once. The sink itself does nothing of this while it loads.

pub mod catalogue;
pub mod condition;
pub mod options;
pub mod refresh;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tokio_util::sync::CancellationToken;

use crate::clickhouse::ClickHouse;
use crate::error::{ExitCode, SinkError};
use crate::fault::Fault;
use catalogue::{Definition, Members, Purpose, definitions, dropped};
use condition::{Condition, ConditionError};
use options::{Action, DefineOptions, DropOptions, ListOptions, RefreshOptions};
use refresh::Refreshed;

/// Why a command about audiences can't be done.
#[derive(Debug, thiserror::Error)]
pub enum AudienceError {
    /// The condition is not allowed.
    #[error("audience {0}: {1}")]
    Condition(String, ConditionError),
    /// ClickHouse does not take the condition.
    #[error("audience {0}: ClickHouse does not take the condition: {1}")]
    Untaken(String, String),
    /// It asks for an audience that does not exist, or whose members are others.
    #[error(
        "audience {0} asks for {1}, which is no audience of the same site and kind of members; `sink audiences list` shows them"
    )]
    NoSuchPart(String, String),
    /// It asks for itself.
    #[error("audience {0} asks for itself, by way of {1}")]
    Circle(String, String),
    /// It exists with members of another kind.
    #[error("audience {0} has {1} as members; drop it and give the new one another name")]
    OtherMembers(String, String),
    /// It does not exist.
    #[error("no audience {0} of site {1}; `sink audiences list` shows all")]
    NoSuchAudience(String, String),
    /// Others ask for it.
    #[error("audience {0} can't be dropped, as {1} asks for it")]
    Needed(String, String),
    /// The row of an audience is about a view that audiences are not made of.
    #[error("audience {0} is about {1}, which is neither visitors nor companies; define it again")]
    Unknown(String, String),
    /// The row of an audience names a purpose that nobody is asked for.
    #[error("audience {0} serves {1}, which is no purpose that people permit; define it again")]
    UnknownPurpose(String, String),
    /// Companies permit nothing.
    #[error("audience {0} has companies as members, who permit no purpose; --purpose is for visitors")]
    PurposeOfCompanies(String),
    /// ClickHouse can't be used.
    #[error("ClickHouse: {}", .0.message())]
    ClickHouse(Fault),
}

impl From<Fault> for AudienceError {
    fn from(fault: Fault) -> Self {
        Self::ClickHouse(fault)
    }
}

impl AudienceError {
    /// The exit code of a process that ends for this.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::ClickHouse(Fault::Halt(code, _)) => *code,
            _ => ExitCode::Failed,
        }
    }
}

/// Does what the command line says, and hands what is to be printed to `print`.
///
/// # Errors
/// Where a condition is refused or ClickHouse can't be used; see [`AudienceError`].
pub async fn run(action: Action, shutdown: CancellationToken, print: impl Fn(&str)) -> Result<(), SinkError> {
    match action {
        Action::Define(options) => print(&define(&options).await?),
        Action::List(options) => print(&list(&options).await?),
        Action::Drop(options) => print(&drop_audience(&options).await?),
        Action::Refresh(options) => refresh_rounds(&options, &shutdown, print).await?,
    }
    Ok(())
}

async fn define(options: &DefineOptions) -> Result<String, AudienceError> {
    let clickhouse = ClickHouse::new(&options.clickhouse);
    let definition = Definition {
        site: options.site.clone(),
        audience: options.audience.clone(),
        members_are: options.members.view().to_owned(),
        condition: options.condition.clone(),
        description: options.description.clone(),
        purpose: options.purpose.map(Purpose::as_str).unwrap_or_default().to_owned(),
        members: 0,
        said_at: 0,
    };
    if options.purpose.is_some() && options.members != Members::Visitors {
        return Err(AudienceError::PurposeOfCompanies(definition.audience));
    }
    let mut all = definitions(&clickhouse, Some(&options.site)).await?;
    if let Some(old) = all.iter().find(|old| old.audience == definition.audience)
        && old.members_are != definition.members_are
    {
        return Err(AudienceError::OtherMembers(old.audience.clone(), old.members_are.clone()));
    }
    let condition = definition.read(&clickhouse).await?;
    all.retain(|old| old.audience != definition.audience);
    all.push(definition.clone());
    check_parts(&clickhouse, &all, &definition).await?;
    let fitting = refresh::count(&clickhouse, &definition, &condition).await?;
    definition.write(&clickhouse, true).await?;
    let (audience, site, members) = (&definition.audience, &definition.site, &definition.members_are);
    Ok(format!(
        "audience {audience} of site {site}: {fitting} {members} fit now; `sink audiences refresh` lets them in\n"
    ))
}

/// Checks that all audiences that one asks for exist, have members of the same kind, and do not ask for it in turn.
async fn check_parts(clickhouse: &ClickHouse, all: &[Definition], new: &Definition) -> Result<(), AudienceError> {
    let mut asked: Vec<(String, String)> = vec![(new.audience.clone(), String::new())];
    let mut seen = BTreeSet::new();
    while let Some((name, by)) = asked.pop() {
        let same = |other: &&Definition| other.audience == name && other.members_are == new.members_are;
        let Some(definition) = all.iter().find(same) else { return Err(AudienceError::NoSuchPart(by, name)) };
        for part in definition.read(clickhouse).await?.audiences {
            if part == new.audience {
                return Err(AudienceError::Circle(part, name));
            }
            if seen.insert(part.clone()) {
                asked.push((part, name.clone()));
            }
        }
    }
    Ok(())
}

async fn list(options: &ListOptions) -> Result<String, AudienceError> {
    let clickhouse = ClickHouse::new(&options.clickhouse);
    let mut out = String::new();
    for found in definitions(&clickhouse, options.site.as_deref()).await? {
        let Definition { site, audience, members_are, condition, description, purpose, members, .. } = found;
        // Conditions and descriptions are somebody's words, and must not steer the terminal.
        let plain =
            |text: &str| text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect::<String>();
        let _ = writeln!(out, "{}/{}: {members} {members_are}", plain(&site), plain(&audience));
        let _ = writeln!(out, "    {}", plain(&condition));
        if !purpose.is_empty() {
            let _ = writeln!(out, "    for {}", plain(&purpose));
        }
        if !description.is_empty() {
            let _ = writeln!(out, "    {}", plain(&description));
        }
    }
    Ok(out)
}

async fn drop_audience(options: &DropOptions) -> Result<String, AudienceError> {
    let clickhouse = ClickHouse::new(&options.clickhouse);
    let all = definitions(&clickhouse, Some(&options.site)).await?;
    let missing = || AudienceError::NoSuchAudience(options.audience.clone(), options.site.clone());
    let definition = all.iter().find(|found| found.audience == options.audience).ok_or_else(missing)?;
    for other in &all {
        if other.read(&clickhouse).await.is_ok_and(|condition| condition.audiences.contains(&definition.audience)) {
            return Err(AudienceError::Needed(definition.audience.clone(), other.audience.clone()));
        }
    }
    // Dropped first: a refresh that asks from now on lets nobody in. Whom one lets in that has asked already leaves with the next.
    definition.write(&clickhouse, false).await?;
    let with_members = dropped(&clickhouse, Some(&options.site)).await?;
    let left = match with_members.iter().find(|found| found.audience == options.audience) {
        Some(dropped) => refresh::clear(&clickhouse, dropped).await?.left,
        None => 0,
    };
    Ok(format!("audience {} of site {} dropped; {left} left it\n", definition.audience, definition.site))
}

async fn refresh_rounds(
    options: &RefreshOptions,
    shutdown: &CancellationToken,
    print: impl Fn(&str),
) -> Result<(), AudienceError> {
    let clickhouse = ClickHouse::new(&options.clickhouse);
    loop {
        let round = refresh_all(&clickhouse, options.site.as_deref(), &print).await;
        let Some(pause) = options.every else { return round };
        if let Err(error) = round {
            print(&format!("{error}; the next round tries again\n"));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Refreshes all audiences, those that others ask for before these, and empties those that were dropped. One that fails keeps
/// none of the others from it.
///
/// # Errors
/// The first failure, once all others are done.
pub async fn refresh_all(
    clickhouse: &ClickHouse,
    site: Option<&str>,
    print: &impl Fn(&str),
) -> Result<(), AudienceError> {
    let mut failure = None;
    let to_empty = dropped(clickhouse, site).await?;
    let ordered = in_order(clickhouse, definitions(clickhouse, site).await?, &mut failure).await;
    let mut tell = |Definition { site, audience, .. }: &Definition, found| match found {
        Ok(Refreshed { entered: 0, left: 0 }) => {}
        Ok(Refreshed { entered, left }) => print(&format!("{site}/{audience}: {entered} in, {left} out\n")),
        Err(error) => failure = failure.take().or(Some(error)),
    };
    for definition in to_empty {
        tell(&definition, refresh::clear(clickhouse, &definition).await);
    }
    for (definition, condition) in ordered {
        tell(&definition, refresh::refresh(clickhouse, &definition, &condition).await);
    }
    failure.map_or(Ok(()), Err)
}

async fn in_order(
    clickhouse: &ClickHouse,
    all: Vec<Definition>,
    failure: &mut Option<AudienceError>,
) -> Vec<(Definition, Condition)> {
    let mut waiting = BTreeMap::new();
    for definition in all {
        match definition.read(clickhouse).await {
            Ok(condition) => {
                waiting.insert((definition.site.clone(), definition.audience.clone()), (definition, condition));
            }
            Err(error) => *failure = failure.take().or(Some(error)),
        }
    }
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let is_ready = |(definition, condition): &(Definition, Condition)| {
            let part = |name: &String| (definition.site.clone(), name.clone());
            !condition.audiences.iter().any(|name| waiting.contains_key(&part(name)))
        };
        // In a circle, which `define` refuses but rows might say, none is ready: any may be first, by what was known before.
        let ready = waiting.iter().find(|(_, found)| is_ready(found)).or_else(|| waiting.iter().next());
        let Some(key) = ready.map(|(key, _)| key.clone()) else { break };
        ordered.extend(waiting.remove(&key));
    }
    ordered
}
