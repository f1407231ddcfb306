//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use schemas::SubjectKind;
use service::options::{KafkaOptions, Service};
use uuid::Uuid;

use crate::error::PrivacyError;
use crate::subject::Identifier;

/// The program among the services.
pub const SERVICE: Service = Service { name: "privacy", metrics_listen: "" };

/// The rights of the people behind the hits.
#[derive(Debug, Clone, Parser)]
#[command(name = "privacy", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Have everything that is held on a person removed
    Erase(Box<RightOptions>),
    /// The same, and what comes later of the same visitor is not linked with the past
    Forget(Box<RightOptions>),
    /// Have a person counted without identifiers from now on
    Object(Box<RightOptions>),
    /// Have fields of a contact corrected
    Rectify(Box<RectifyOptions>),
    /// Show how far the stages are with requests
    Status(Box<StatusOptions>),
    /// List the requests of a site
    List(ListOptions),
    /// Write everything that is held on a person into a folder
    Access(Box<AccessOptions>),
    /// Note that a person permits a partner something
    Permit(Box<PermitOptions>),
    /// Note that a person takes such a permission back
    Withdraw(Box<WithdrawOptions>),
    /// Write the contacts that permit it into a file for a partner
    Share(Box<ShareOptions>),
    /// List who was given to a partner and does not permit it any more
    Notices(NoticesOptions),
}

/// How to reach ClickHouse.
#[derive(Debug, Clone, Args)]
pub struct ClickHouseOptions {
    /// ClickHouse's HTTP interface
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8123")]
    pub clickhouse_url: String,
    /// User, who may read all tables and insert into `privacy_trail` and `privacy_shares`
    #[arg(long, value_name = "USER", default_value = "default")]
    pub clickhouse_user: String,
    /// Password; better given in the environment than on the command line
    #[arg(long, value_name = "PASSWORD", default_value = "", hide_env_values = true, hide_default_value = true)]
    pub clickhouse_password: Secret,
    /// Database
    #[arg(long, value_name = "NAME", default_value = "hitmeter", value_parser = identifier)]
    pub clickhouse_database: String,
}

/// Where everything is.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// Where the topics are.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// File with the keys that hash what names a person, the newest first
    #[arg(long, value_name = "FILE")]
    pub privacy_keys: PathBuf,
}

/// Whom it is about.
#[derive(Debug, Clone, Default, Args)]
pub struct SubjectOptions {
    /// Key of the site that the request was made to
    #[arg(long, value_name = "KEY")]
    pub site: String,
    /// E-mail address of the person; may be given more than once, as all that name them
    #[arg(long, value_name = "ADDRESS")]
    pub email: Vec<String>,
    /// Telephone number
    #[arg(long, value_name = "NUMBER")]
    pub phone: Vec<String>,
    /// Visitor id
    #[arg(long, value_name = "ID")]
    pub visitor: Vec<String>,
    /// Visitor id, address or number that is not to be followed, such as that of a shared computer; may be given more than
    /// once
    #[arg(long, value_name = "VISITOR")]
    pub without: Vec<String>,
}

impl SubjectOptions {
    /// What is given.
    ///
    /// # Errors
    /// Where nothing is.
    pub fn given(&self) -> Result<Vec<Identifier>, PrivacyError> {
        let of = |kind, values: &[String]| -> Vec<_> {
            values.iter().filter_map(|value| Identifier::new(kind, value)).collect()
        };
        let given = [
            of(SubjectKind::Email, &self.email),
            of(SubjectKind::Phone, &self.phone),
            of(SubjectKind::VisitorId, &self.visitor),
        ]
        .concat();
        if given.is_empty() { Err(PrivacyError::NoSubject) } else { Ok(given) }
    }

    /// Whether an identifier is one of those that are not to be followed.
    #[must_use]
    pub fn cuts(&self, identifier: &Identifier) -> bool {
        self.without.iter().any(|value| Identifier::new(identifier.kind, value).as_ref() == Some(identifier))
    }
}

/// Options of `privacy erase`, `forget` and `object`.
#[derive(Debug, Clone, Args)]
pub struct RightOptions {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// Whom it is about.
    #[command(flatten)]
    pub subject: SubjectOptions,
    /// Who enters the request
    #[arg(long, value_name = "NAME")]
    pub operator: String,
    /// Days until it has to be done
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u16).range(0..=365))]
    pub due: u16,
    /// Show what would be touched, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show what names the person, else it is numbered
    #[arg(long)]
    pub show: bool,
}

/// Options of `privacy rectify`.
#[derive(Debug, Clone, Args)]
pub struct RectifyOptions {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// Key of the site
    #[arg(long, value_name = "KEY")]
    pub site: String,
    /// E-mail address of the contact
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// A field and its right value: name, email, phone, job_title, company or address; may be given more than once
    #[arg(long, value_name = "FIELD=VALUE", required = true, value_parser = field_value)]
    pub set: Vec<(String, String)>,
    /// Who enters the request
    #[arg(long, value_name = "NAME")]
    pub operator: String,
    /// Days until it has to be done
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u16).range(0..=365))]
    pub due: u16,
}

/// Options of `privacy status`.
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    /// The request; all of them where it is not given
    #[arg(value_name = "ID")]
    pub id: Option<Uuid>,
    /// Where the topic is, and which site.
    #[command(flatten)]
    pub list: ListOptions,
}

/// Options of `privacy list`.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// Where the topic is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Key of the site
    #[arg(long, value_name = "KEY")]
    pub site: String,
}

impl From<ListOptions> for StatusOptions {
    fn from(list: ListOptions) -> Self {
        Self { id: None, list }
    }
}

/// Options of `privacy access`.
#[derive(Debug, Clone, Args)]
pub struct AccessOptions {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// Whom it is about.
    #[command(flatten)]
    pub subject: SubjectOptions,
    /// Who asks
    #[arg(long, value_name = "NAME")]
    pub operator: String,
    /// Folder that is made, and must not be there yet
    #[arg(long, value_name = "FOLDER")]
    pub output: PathBuf,
}

/// Who permits what to whom.
#[derive(Debug, Clone, Args)]
pub struct Permission {
    /// Key of the site
    #[arg(long, value_name = "KEY")]
    pub site: String,
    /// E-mail address of the person
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// Partner that it is about
    #[arg(long, value_name = "PARTNER")]
    pub partner: String,
    /// Purpose that it is about
    #[arg(long, value_name = "PURPOSE")]
    pub purpose: String,
    /// Who enters it
    #[arg(long, value_name = "NAME")]
    pub operator: String,
}

/// Options of `privacy permit`.
#[derive(Debug, Clone, Args)]
pub struct PermitOptions {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// What is permitted.
    #[command(flatten)]
    pub permission: Permission,
    /// Version of the wording that the person saw
    #[arg(long, value_name = "VERSION", default_value = "")]
    pub wording: String,
    /// Where it is written down that the person said so; must not name them
    #[arg(long, value_name = "REFERENCE", default_value = "")]
    pub evidence: String,
}

/// Options of `privacy withdraw`.
#[derive(Debug, Clone, Args)]
pub struct WithdrawOptions {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// What is not permitted any more.
    #[command(flatten)]
    pub permission: Permission,
}

/// Options of `privacy share`.
#[derive(Debug, Clone, Args)]
pub struct ShareOptions {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// Partner that gets the file
    #[arg(value_name = "PARTNER")]
    pub partner: String,
    /// Purpose that the partner gets it for
    #[arg(long, value_name = "PURPOSE")]
    pub purpose: String,
    /// Key of the site
    #[arg(long, value_name = "KEY")]
    pub site: String,
    /// Fields that are given, separated by commas: name, email, phone, job_title, company, address
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', required = true)]
    pub fields: Vec<String>,
    /// File that is made, and must not be there yet
    #[arg(long, value_name = "FILE.csv")]
    pub output: PathBuf,
    /// Who gives it
    #[arg(long, value_name = "NAME")]
    pub operator: String,
}

/// Options of `privacy notices`.
#[derive(Debug, Clone, Args)]
pub struct NoticesOptions {
    /// Where the topic is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Partner that is to be told
    #[arg(value_name = "PARTNER")]
    pub partner: String,
    /// Key of the site
    #[arg(long, value_name = "KEY")]
    pub site: String,
}

/// A text that is not shown in logs.
#[derive(Clone, Default)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(hidden)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A name that stands in statements as it is.
fn identifier(text: &str) -> Result<String, String> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_well && text.chars().all(is_word) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name of letters, digits and underscores that starts with no digit"))
}

/// The value is a person's, so it is not repeated in a message.
fn field_value(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("it is not of the form field=value")?;
    Ok((field.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../README.md");

    fn erase(words: &[&str]) -> Result<RightOptions, clap::Error> {
        let start = ["privacy", "erase", "--privacy-keys=keys", "--site=shop", "--operator=olga"];
        match SERVICE.parse_from::<Options>(&[&start, words].concat())?.command {
            Command::Erase(options) => Ok(*options),
            _ => panic!("an erasure was asked for"),
        }
    }

    #[test]
    fn the_readme_lists_every_option() {
        service::documentation::check_options(README, &SERVICE.command::<Options>()).unwrap();
    }

    #[test]
    fn what_names_nobody_is_refused() {
        assert!(matches!(erase(&[]).unwrap().subject.given(), Err(PrivacyError::NoSubject)));
        assert!(matches!(erase(&["--email", " "]).unwrap().subject.given(), Err(PrivacyError::NoSubject)));
        let given = erase(&["--email", "A@x.example", "--visitor=v", "--visitor=w"]).unwrap().subject.given().unwrap();
        assert_eq!(given.len(), 3);
        assert_eq!(given[0].value, "a@x.example");
    }

    #[test]
    fn what_is_cut_is_known_however_it_is_written() {
        let options = erase(&["--email=a@x.example", "--without", "B@x.example"]).unwrap().subject;
        assert!(options.cuts(&Identifier::new(SubjectKind::Email, "b@X.example").unwrap()));
        assert!(!options.cuts(&Identifier::new(SubjectKind::Email, "a@x.example").unwrap()));
    }

    #[test]
    fn a_wrong_correction_does_not_repeat_what_it_holds() {
        assert!(!field_value("Ada Lovelace").unwrap_err().contains("Ada"));
        assert_eq!(field_value("name=A=B"), Ok(("name".to_owned(), "A=B".to_owned())));
    }
}
