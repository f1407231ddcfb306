//! People who told the site's owner, not the browser, that they object: known by the hashes of the topic `privacy`.
//!
//! Whoever of them comes again is treated as under the opt-out cookie, and gets it, so that from then on the browser says so
//! itself. A collector that can't read the topic yet lets hits pass: the enricher, which judges each of them again, does not.

use std::sync::{Arc, PoisonError, RwLock};

use hyper::header::HeaderValue;
use schemas::SubjectKind;
use service::health::Health;
use service::privacy::directives::Directives;
use service::privacy::follower::Follower;
use service::privacy::keys::{Keys, KeysError};
use service::sites::Sites;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::cookies;
use crate::fields::Fields;
use crate::opt_out::{self, Wish};
use crate::options::Options;
use crate::unreadable::Told;

/// So many values of one request are held against those who object; a hit has fewer.
const MOST_VALUES: usize = 500;

/// Whether somebody objects of whom little can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// They do not.
    No,
    /// Some people of the site do, and this may be one of them.
    Perhaps,
    /// They do.
    Yes,
}

/// Who objects.
#[derive(Debug, Clone, Default)]
pub struct Objections {
    directives: Arc<RwLock<Directives>>,
}

impl Objections {
    /// Follows the topic until `shutdown`, where there are keys to know people by.
    ///
    /// # Errors
    /// Where the file of the keys is missing or wrong.
    pub fn start(options: &Options, shutdown: &CancellationToken) -> Result<Self, KeysError> {
        let Some(path) = &options.privacy_keys else { return Ok(Self::default()) };
        let directives = Arc::new(RwLock::new(Directives::new(Some(Keys::open(path)?))));
        let follower = Follower {
            kafka: options.kafka.clone(),
            client: "collector-privacy",
            directives: Arc::clone(&directives),
            // A collector takes hits without the brokers, so that this is no condition of its readiness.
            health: Health::waiting_for(&[]),
            shutdown: shutdown.clone(),
        };
        std::thread::spawn(move || follower.run(&CancellationToken::new()));
        Ok(Self { directives })
    }

    /// Whether the person of a hit objects, by whatever names them: the visitor's id or cookie, the address or the number
    /// they submit.
    #[must_use]
    pub fn holds(&self, site: &str, client: &Client<'_>, fields: &Fields<'_>) -> bool {
        let directives = self.directives.read().unwrap_or_else(PoisonError::into_inner);
        if directives.is_empty() {
            return false;
        }
        let cookie = client.cookie(cookies::VISITOR);
        let contact = fields.contact.as_ref();
        [
            (SubjectKind::VisitorId, Some(fields.visitor.0.as_ref())),
            (SubjectKind::VisitorId, cookie),
            (SubjectKind::Email, contact.map(|contact| contact.email.0.as_ref())),
            (SubjectKind::Phone, contact.map(|contact| contact.phone.0.as_ref())),
        ]
        .into_iter()
        .filter_map(|(kind, value)| Some((kind, value.filter(|value| !value.is_empty())?)))
        .any(|(kind, value)| directives.objects_since(site, kind, value).is_some())
    }

    /// Whether the person of something objects that can't be read: by their cookie, or by any value of it.
    #[must_use]
    pub fn of_unreadable(&self, site: &str, client: &Client<'_>, told: &Told) -> Objects {
        let directives = self.directives.read().unwrap_or_else(PoisonError::into_inner);
        if !directives.has_objectors(site) {
            return Objects::No;
        }
        let objects = |kind, value: &str| directives.objects_since(site, kind, value).is_some();
        if client.cookie(cookies::VISITOR).is_some_and(|cookie| objects(SubjectKind::VisitorId, cookie)) {
            return Objects::Yes;
        }
        let Some(values) = told.values.as_ref().filter(|values| values.len() <= MOST_VALUES) else {
            return Objects::Perhaps;
        };
        let kinds = [SubjectKind::VisitorId, SubjectKind::Email, SubjectKind::Phone];
        let is_theirs = |value: &String| kinds.iter().any(|kind| objects(*kind, value));
        if values.iter().any(is_theirs) { Objects::Yes } else { Objects::No }
    }
}

/// The cookies by which an objection is known next time; none where the browser has said so itself.
#[must_use]
pub fn set_cookies(client: &Client<'_>, sites: &Sites) -> Vec<HeaderValue> {
    match client.cookie(cookies::OPT_OUT) {
        Some(_) => Vec::new(),
        None => opt_out::set_cookies(Wish::OptOut, client, sites),
    }
}
