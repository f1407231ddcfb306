//! People who told the site's owner, not the browser, that they object: known by the hashes of the topic `privacy`.
//!
//! Whoever of them comes again is treated as under the opt-out cookie, and gets it, so that from then on the browser says so
//! itself. A collector that can't read the topic yet, or understand all of it, lets hits pass: they are in hits.raw, and the
//! enricher, which judges each of them again, lets none pass before it knows. What can't be read as a hit is judged by nobody
//! else, so that nothing of it is kept then.

use std::cell::Cell;
use std::sync::Arc;

use hyper::header::HeaderValue;
use schemas::SubjectKind;
use service::health::Health;
use service::privacy::asked::Asked;
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

/// Of what can't be read in one request, so many values are held against those who object, each once for each site. That costs
/// keyed hashes, some microseconds, and a body of a few kilobytes may unfold to half a million values.
const MOST_VALUES: usize = 5_000;

/// How many values of a request were held against those who object.
#[derive(Debug, Default)]
pub struct Held(Cell<usize>);

impl Held {
    /// True where so many more may be.
    fn has_room_for(&self, values: usize) -> bool {
        let held = self.0.get() + values;
        let has_room = held <= MOST_VALUES;
        if has_room {
            self.0.set(held);
        }
        has_room
    }
}

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

/// Who objects; none where there are no keys to know them by.
#[derive(Debug, Clone, Default)]
pub struct Objections(Option<Arc<Asked>>);

impl Objections {
    /// Follows the topic until `shutdown`, where there are keys to know people by.
    ///
    /// # Errors
    /// Where the file of the keys is missing or wrong.
    pub fn start(options: &Options, shutdown: &CancellationToken) -> Result<Self, KeysError> {
        let Some(path) = &options.privacy_keys else { return Ok(Self::default()) };
        let asked = Arc::new(Asked::new(Directives::new(Some(Keys::open(path)?))));
        let follower = Follower {
            kafka: options.kafka.clone(),
            client: "collector-privacy",
            asked: Arc::clone(&asked),
            // A collector takes hits without the brokers, so that this is no condition of its readiness.
            health: Health::waiting_for(&[]),
            brokers: None,
            shutdown: shutdown.clone(),
        };
        std::thread::spawn(move || follower.run());
        Ok(Self(Some(asked)))
    }

    /// Whether the person of a hit objects, by whatever names them: the visitor's id or cookie, the address or the number
    /// they submit.
    #[must_use]
    pub fn holds(&self, site: &str, client: &Client<'_>, fields: &Fields<'_>) -> bool {
        let Some(asked) = &self.0 else { return false };
        let directives = asked.directives();
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

    /// Whether the person of something objects that can't be read: by their cookie, or by any value of it, as long as not too
    /// many of the request were `held` against those who do.
    #[must_use]
    pub fn of_unreadable(&self, site: &str, client: &Client<'_>, told: &Told, held: &Held) -> Objects {
        let Some(asked) = &self.0 else { return Objects::No };
        let (is_all_known, directives) = (asked.is_all_known(), asked.directives());
        if is_all_known && !directives.has_objectors(site) {
            return Objects::No;
        }
        let objects = |kind, value: &str| directives.objects_since(site, kind, value).is_some();
        if client.cookie(cookies::VISITOR).is_some_and(|cookie| objects(SubjectKind::VisitorId, cookie)) {
            return Objects::Yes;
        }
        let Some(values) = told.values.as_ref().filter(|values| held.has_room_for(values.len())) else {
            return Objects::Perhaps;
        };
        let kinds = [SubjectKind::VisitorId, SubjectKind::Email, SubjectKind::Phone];
        let is_theirs = |value: &String| kinds.iter().any(|kind| objects(*kind, value));
        match values.iter().any(is_theirs) {
            true => Objects::Yes,
            false if is_all_known => Objects::No,
            false => Objects::Perhaps,
        }
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
