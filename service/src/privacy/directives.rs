//! All directives in memory, and what they mean for one hit.
//!
//! | right | a hit from before the request | a hit from after it |
//! |---|---|---|
//! | erase | is not there | is kept |
//! | forget | is not there | is kept under another visitor id |
//! | object | is kept | is kept without anything that identifies |
//!
//! A correction and an objection are also noted beside the hits that are kept ([`Note`]), for whoever asks for them. The others
//! are not about hits. As directives stay in the topic, it makes no difference when a hit comes: a replayed day, a
//! replayed dead letter and a hit that a browser sends a week late are judged as they would have been then.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::{Contact, PrivacyAction, PrivacyDirective, SubjectKind};
use uuid::Uuid;

use super::keys::{Key, Keys, KeysError, Subject, is_mark, normal};

/// What is to be done with a hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It is dropped: whoever it is about had it erased.
    Erase,
    /// Everything that identifies is taken off.
    Anonymise,
    /// It is kept under another visitor id, as the person is not to be linked with the past.
    Rename {
        /// That id.
        visitor: String,
        /// Up to when all is past, Unix milliseconds.
        since: i64,
    },
}

/// What names the person of a hit.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// Key of the site.
    pub site: &'a str,
    /// Visitor id; empty where there is none.
    pub visitor: &'a str,
    /// What was submitted, if anything was.
    pub contact: Option<&'a Contact<'a>>,
    /// When it happened, Unix milliseconds; the earliest that is known.
    pub at: i64,
}

/// What is noted of somebody's name where rows with it are stored: these rows stay as they are, and whoever reads them has to
/// know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// Key of the site.
    pub site: String,
    /// What the name is.
    pub kind: SubjectKind,
    /// The name, as the row has it.
    pub value: String,
    /// The request.
    pub request: Uuid,
    /// When it was made, Unix milliseconds.
    pub at: i64,
    /// What is said.
    pub what: Noted,
}

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Noted {
    /// The person objects.
    Objection,
    /// The person had contact fields corrected.
    Correction(Arc<Correction>),
}

/// Corrected contact fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Correction {
    /// Who entered it.
    pub operator: String,
    /// Fields and their right values.
    pub fields: Vec<(String, String)>,
}

impl Correction {
    /// The right value of a field; empty where it was not corrected.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.as_str())
    }
}

/// Rights of one subject: times, Unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rights {
    erased: Option<i64>,
    forgotten: Option<i64>,
    objected: Option<i64>,
}

impl Rights {
    /// The latest of each right.
    fn of<'a>(said: impl Iterator<Item = &'a Word>) -> Self {
        let mut rights = Self::default();
        for word in said {
            let time = match word.action {
                PrivacyAction::Erase => &mut rights.erased,
                PrivacyAction::Forget => &mut rights.forgotten,
                PrivacyAction::Object => &mut rights.objected,
                _ => continue,
            };
            *time = (*time).max(Some(word.at));
        }
        rights
    }

    /// Up to when rows have to go.
    fn erased_until(&self) -> Option<i64> {
        self.erased.max(self.forgotten)
    }
}

/// Whom a directive is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    site: String,
    key_name: String,
    kind: SubjectKind,
    subject: Subject,
}

/// What is needed of one directive.
#[derive(Debug)]
struct Word {
    action: PrivacyAction,
    at: i64,
    request: Uuid,
    correction: Option<Arc<Correction>>,
}

impl Word {
    fn of(directive: &PrivacyDirective<'_>) -> Self {
        let fields = directive.fields.0.iter().map(|(field, value)| (field.to_string(), value.to_string()));
        let correction = || Correction { operator: directive.operator.to_string(), fields: fields.collect() };
        Self {
            action: directive.action,
            at: directive.issued_at,
            request: directive.directive_id,
            correction: (directive.action == PrivacyAction::Rectify).then(|| Arc::new(correction())),
        }
    }

    fn noted(&self) -> Option<Noted> {
        match &self.correction {
            Some(correction) => Some(Noted::Correction(Arc::clone(correction))),
            None => (self.action == PrivacyAction::Object).then_some(Noted::Objection),
        }
    }
}

/// The directives about one person, by their key in the topic.
type Said = HashMap<Vec<u8>, Word>;

/// The directives about each person of a site.
#[derive(Debug, Default)]
struct OfSite {
    people: HashMap<(SubjectKind, Subject), Said>,
    /// How many directives were hashed with each key.
    key_names: HashMap<String, usize>,
    /// How many of them are objections.
    objecting: usize,
    /// How many are corrections.
    corrected: usize,
}

impl OfSite {
    /// Where directives of this right are counted that are noted beside hits.
    fn noted(&mut self, action: PrivacyAction) -> Option<&mut usize> {
        match action {
            PrivacyAction::Object => Some(&mut self.objecting),
            PrivacyAction::Rectify => Some(&mut self.corrected),
            _ => None,
        }
    }
}

/// All directives that are about hits.
#[derive(Debug, Default)]
pub struct Directives {
    keys: Option<Keys>,
    places: HashMap<Vec<u8>, Place>,
    sites: HashMap<String, OfSite>,
    keeps_corrections: bool,
}

/// Why a directive can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There are no keys at all.
    #[error("there are directives but no keys to know the people by; give the file with --privacy-keys")]
    NoKeys,
    /// The key is not in the file.
    #[error("a directive was hashed with key {0:?}, which is not in the file of --privacy-keys")]
    UnknownKey(String),
    /// The key of the file is another one.
    #[error("key {0:?} of the file of --privacy-keys is another one than that which directives were hashed with")]
    AnotherKey(String),
    /// The subject is not a hash.
    #[error("the subject of a directive is not 64 hex digits")]
    Subject,
}

impl Directives {
    /// Without any directive yet.
    #[must_use]
    pub fn new(keys: Option<Keys>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The same, with corrections: they hold personal data, which not every stage needs.
    #[must_use]
    pub fn with_corrections(self) -> Self {
        Self { keeps_corrections: true, ..self }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Reads the file of the keys again, as after a directive whose key is not known.
    ///
    /// # Errors
    /// Where it can't be used, or lacks a key that a directive was hashed with: the keys stay as they were.
    pub fn renew_keys(&mut self) -> Result<(), KeysError> {
        let is_needed = |key: &Key| self.sites.values().any(|site| site.key_names.contains_key(key.name()));
        if let Some(keys) = &self.keys {
            self.keys = Some(keys.renewed(is_needed)?);
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes in what the topic has under a key; nothing where it was removed.
    ///
    /// # Errors
    /// Where the directive can't be carried out: what was there under its key holds on.
    pub fn apply(&mut self, key: &[u8], directive: Option<&PrivacyDirective<'_>>) -> Result<(), Unusable> {
        if let (Some(directive), Some(keys)) = (directive.filter(|each| is_mark(each)), &self.keys) {
            let is_another = |key: &Key| key.mark() != directive.subject;
            return match keys.get(&directive.key_name).is_some_and(is_another) {
                true => Err(Unusable::AnotherKey(directive.key_name.clone().into_owned())),
                false => Ok(()),
            };
        }
        let is_about_hits = |each: &&PrivacyDirective<'_>| match each.action {
            _ if each.report.is_some() => false,
            PrivacyAction::Erase | PrivacyAction::Forget | PrivacyAction::Object => true,
            PrivacyAction::Rectify => self.keeps_corrections,
            _ => false,
        };
        let Some(directive) = directive.filter(is_about_hits) else {
            self.remove(key);
            return Ok(());
        };
        let place = self.place(directive)?;
        self.remove(key);
        let site = self.sites.entry(place.site.clone()).or_default();
        *site.key_names.entry(place.key_name.clone()).or_default() += 1;
        if let Some(count) = site.noted(directive.action) {
            *count += 1;
        }
        let person = site.people.entry((place.kind, place.subject)).or_default();
        person.insert(key.to_vec(), Word::of(directive));
        self.places.insert(key.to_vec(), place);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(place) = self.places.remove(key) else { return };
        let Some(site) = self.sites.get_mut(&place.site) else { return };
        let of = (place.kind, place.subject);
        if let Some(person) = site.people.get_mut(&of) {
            let word = person.remove(key);
            if person.is_empty() {
                site.people.remove(&of);
            }
            if let Some(count) = word.and_then(|word| site.noted(word.action)) {
                *count -= 1;
            }
        }
        if let Some(count) = site.key_names.get_mut(&place.key_name) {
            *count -= 1;
        }
        site.key_names.retain(|_, count| *count > 0);
        if site.people.is_empty() {
            self.sites.remove(&place.site);
        }
    }

    fn place(&self, directive: &PrivacyDirective<'_>) -> Result<Place, Unusable> {
        let keys = self.keys.as_ref().ok_or(Unusable::NoKeys)?;
        if keys.get(&directive.key_name).is_none() {
            return Err(Unusable::UnknownKey(directive.key_name.clone().into_owned()));
        }
        let mut subject = Subject::default();
        hex::decode_to_slice(directive.subject.as_bytes(), &mut subject).map_err(|_| Unusable::Subject)?;
        Ok(Place {
            site: directive.site.clone().into_owned(),
            key_name: directive.key_name.clone().into_owned(),
            kind: directive.subject_kind,
            subject,
        })
    }

    /// What is to be done with a hit. Costs nothing for sites without directives.
    #[must_use]
    pub fn judge(&self, person: &Person<'_>) -> Verdict {
        let Some(site) = self.sites.get(person.site) else { return Verdict::Keep };
        let mut verdict = Verdict::Keep;
        for (kind, value) in identifiers(person) {
            let Some((rights, subject)) = self.rights(site, person.site, kind, &value) else { continue };
            let is_past = |time: Option<i64>| time.is_some_and(|time| person.at <= time);
            let is_since = |time: Option<i64>| time.is_some_and(|time| person.at > time);
            if is_past(rights.erased) || is_past(rights.forgotten) {
                return Verdict::Erase;
            }
            if is_since(rights.objected) {
                verdict = Verdict::Anonymise;
            } else if is_since(rights.forgotten) && kind == SubjectKind::VisitorId && verdict == Verdict::Keep {
                let since = rights.forgotten.unwrap_or_default();
                verdict = Verdict::Rename { visitor: another_id(&subject, since), since };
            }
        }
        verdict
    }

    fn rights(&self, of: &OfSite, site: &str, kind: SubjectKind, value: &str) -> Option<(Rights, Subject)> {
        let all = self.said(of, site, kind, value);
        // Of whom was forgotten, the one that this was asked of, whatever was asked since under another key: by that their
        // later hits are known.
        let subject = all.iter().max_by_key(|(said, _)| Rights::of(said.values()).forgotten)?.1;
        Some((Rights::of(all.iter().flat_map(|(said, _)| said.values())), subject))
    }

    /// What was said of somebody, under each key.
    fn said<'a>(&self, of: &'a OfSite, site: &str, kind: SubjectKind, value: &str) -> Vec<(&'a Said, Subject)> {
        let Some(keys) = &self.keys else { return Vec::new() };
        let under = |key: &Key| {
            let subject = key.hash(site, kind, value);
            of.people.get(&(kind, subject)).map(|said| (said, subject))
        };
        keys.iter().filter(|key| of.key_names.contains_key(key.name())).filter_map(under).collect()
    }

    /// Sites that somebody asked something of.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        self.sites.keys().map(String::as_str)
    }

    /// What is to be noted where a row is stored that names this person. Nothing of a request from before an erasure: what is
    /// stored after that is not linked with it.
    #[must_use]
    pub fn notes_on(&self, person: &Person<'_>) -> Vec<Note> {
        let told = names(person);
        told.flat_map(|(kind, value)| self.notes(person.site, kind, value)).collect()
    }

    /// What is to be noted of one name.
    #[must_use]
    pub fn notes(&self, site: &str, kind: SubjectKind, value: &str) -> Vec<Note> {
        let Some(of) = self.sites.get(site).filter(|of| of.objecting + of.corrected > 0) else { return Vec::new() };
        let all = self.said(of, site, kind, &normal(kind, value));
        let erased_until = Rights::of(all.iter().flat_map(|(said, _)| said.values())).erased_until();
        let words = all.iter().flat_map(|(said, _)| said.values()).filter(|word| Some(word.at) > erased_until);
        let note = |word: &Word| {
            let (site, value) = (site.to_owned(), value.to_owned());
            Some(Note { site, kind, value, request: word.request, at: word.at, what: word.noted()? })
        };
        words.filter_map(note).collect()
    }

    /// Whether the rows of an identifier of a site have to go, and those up to when, Unix milliseconds.
    #[must_use]
    pub fn erased_until(&self, site: &str, kind: SubjectKind, value: &str) -> Option<i64> {
        let (rights, _) = self.rights(self.sites.get(site)?, site, kind, &normal(kind, value))?;
        rights.erased_until()
    }

    /// Whether anybody at all objects at a site.
    #[must_use]
    pub fn has_objectors(&self, site: &str) -> bool {
        self.sites.get(site).is_some_and(|site| site.objecting > 0)
    }

    /// Since when a person objects, Unix milliseconds.
    #[must_use]
    pub fn objects_since(&self, site: &str, kind: SubjectKind, value: &str) -> Option<i64> {
        self.rights(self.sites.get(site)?, site, kind, &normal(kind, value))?.0.objected
    }
}

fn names<'a>(person: &Person<'a>) -> impl Iterator<Item = (SubjectKind, &'a str)> + use<'a> {
    let contact = person.contact;
    [
        (SubjectKind::VisitorId, Some(person.visitor)),
        (SubjectKind::Email, contact.map(|contact| contact.email.as_ref())),
        (SubjectKind::Phone, contact.map(|contact| contact.phone.as_ref())),
    ]
    .into_iter()
    .filter_map(|(kind, value)| Some((kind, value.filter(|value| !value.is_empty())?)))
}

fn identifiers(person: &Person<'_>) -> impl Iterator<Item = (SubjectKind, String)> {
    names(person).map(|(kind, value)| (kind, normal(kind, value))).filter(|(_, value)| !value.is_empty())
}

/// The visitor id under which hits of a visitor are kept who was forgotten at a time, Unix milliseconds: the same for all later
/// hits, and tells nobody the one from before.
#[must_use]
pub fn another_id(subject: &Subject, forgotten_at: i64) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::new().chain_update(subject).chain_update(forgotten_at.to_be_bytes()).finalize();
    hex::encode(&hash[..16])
}

#[cfg(test)]
mod tests {
    use schemas::topics::privacy_key;

    use super::*;

    const NOON: i64 = 1_000_000;

    fn keys() -> Keys {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("new {}\nold {}\n", "ab".repeat(32), "cd".repeat(32))).unwrap();
        Keys::open(file.path()).unwrap()
    }

    fn directive(
        action: PrivacyAction,
        key_name: &'static str,
        kind: SubjectKind,
        value: &str,
    ) -> PrivacyDirective<'static> {
        let subject = keys().get(key_name).unwrap().hash("shop", kind, value);
        PrivacyDirective {
            site: "shop".into(),
            subject_kind: kind,
            subject: hex::encode(subject).into(),
            key_name: key_name.into(),
            action,
            issued_at: NOON,
            ..PrivacyDirective::default()
        }
    }

    fn with(all: &[PrivacyDirective<'_>]) -> Directives {
        let mut directives = Directives::new(Some(keys()));
        all.iter().for_each(|each| directives.apply(&privacy_key(each), Some(each)).unwrap());
        directives
    }

    fn judge(directives: &Directives, visitor: &str, email: &str, at: i64) -> Verdict {
        let contact = Contact { email: email.to_owned().into(), ..Contact::default() };
        directives.judge(&Person { site: "shop", visitor, contact: Some(&contact), at })
    }

    #[test]
    fn what_was_before_an_erasure_goes_and_what_comes_after_it_stays() {
        let directives = with(&[directive(PrivacyAction::Erase, "new", SubjectKind::VisitorId, "anna")]);
        assert_eq!(judge(&directives, "anna", "", NOON), Verdict::Erase);
        assert_eq!(judge(&directives, "anna", "", NOON + 1), Verdict::Keep);
        assert_eq!(judge(&directives, "ben", "", NOON), Verdict::Keep);
        let elsewhere = Person { site: "blog", visitor: "anna", contact: None, at: NOON };
        assert_eq!(directives.judge(&elsewhere), Verdict::Keep);
    }

    #[test]
    fn an_address_is_known_however_it_is_written_and_under_an_older_key() {
        let directives = with(&[directive(PrivacyAction::Erase, "old", SubjectKind::Email, "anna@steel.example")]);
        assert_eq!(judge(&directives, "x", " Anna@Steel.example", NOON), Verdict::Erase);
        assert_eq!(directives.erased_until("shop", SubjectKind::Email, "ANNA@steel.example"), Some(NOON));
        assert_eq!(directives.erased_until("shop", SubjectKind::VisitorId, "anna@steel.example"), None);
    }

    #[test]
    fn who_objects_is_counted_without_identifiers_from_then_on() {
        let directives = with(&[directive(PrivacyAction::Object, "new", SubjectKind::VisitorId, "anna")]);
        assert_eq!(judge(&directives, "anna", "", NOON), Verdict::Keep);
        assert_eq!(judge(&directives, "anna", "", NOON + 1), Verdict::Anonymise);
    }

    #[test]
    fn who_is_forgotten_comes_back_as_somebody_else_but_always_the_same() {
        let directives = with(&[directive(PrivacyAction::Forget, "new", SubjectKind::VisitorId, "anna")]);
        assert_eq!(judge(&directives, "anna", "", NOON), Verdict::Erase);
        let renamed = judge(&directives, "anna", "", NOON + 1);
        let Verdict::Rename { visitor: name, since: NOON } = &renamed else { panic!("{renamed:?}") };
        assert_eq!(judge(&directives, "anna", "", NOON + 2), renamed);
        assert!(!name.contains("anna") && name.len() == 32);
        // What is asked under a newer key is about the same person.
        let mut erase = directive(PrivacyAction::Erase, "new", SubjectKind::VisitorId, "anna");
        erase.issued_at = NOON + 5;
        let forget = directive(PrivacyAction::Forget, "old", SubjectKind::VisitorId, "anna");
        let before = judge(&with(std::slice::from_ref(&forget)), "anna", "", NOON + 10);
        assert_eq!(judge(&with(&[forget, erase]), "anna", "", NOON + 10), before);
    }

    #[test]
    fn a_newer_request_takes_the_place_of_an_older_and_a_removed_one_holds_no_more() {
        let mut directives = with(&[]);
        let first = directive(PrivacyAction::Erase, "new", SubjectKind::VisitorId, "anna");
        let second = PrivacyDirective { issued_at: NOON + 10, ..first.clone() };
        let key = privacy_key(&first);
        assert_eq!(key, privacy_key(&second));
        directives.apply(&key, Some(&first)).unwrap();
        directives.apply(&key, Some(&second)).unwrap();
        assert_eq!(judge(&directives, "anna", "", NOON + 10), Verdict::Erase);
        directives.apply(&key, None).unwrap();
        assert_eq!(judge(&directives, "anna", "", NOON), Verdict::Keep);
        assert!(directives.is_empty());
    }

    #[test]
    fn what_cannot_be_carried_out_is_told() {
        let one = directive(PrivacyAction::Erase, "new", SubjectKind::VisitorId, "anna");
        let mut without_keys = Directives::new(None);
        assert_eq!(without_keys.apply(b"k", Some(&one)), Err(Unusable::NoKeys));
        let lost = PrivacyDirective { key_name: "lost".into(), ..one.clone() };
        assert_eq!(with(&[]).apply(b"k", Some(&lost)), Err(Unusable::UnknownKey("lost".to_owned())));
        let odd = PrivacyDirective { subject: "zz".into(), ..one.clone() };
        assert_eq!(with(&[]).apply(b"k", Some(&odd)), Err(Unusable::Subject));
        // What is not understood takes the place of nothing.
        let mut directives = with(std::slice::from_ref(&one));
        assert!(directives.apply(&privacy_key(&one), Some(&lost)).is_err());
        assert_eq!(judge(&directives, "anna", "", NOON), Verdict::Erase);
    }

    #[test]
    fn another_key_under_the_name_of_the_one_that_was_used_is_told_apart() {
        let (right, wrong) = (keys().get("new").unwrap().mark(), keys().get("old").unwrap().mark());
        let mark = |subject: String| PrivacyDirective {
            subject: subject.into(),
            key_name: "new".into(),
            ..PrivacyDirective::default()
        };
        let mut directives = with(&[mark(right)]);
        assert!(directives.is_empty());
        assert_eq!(directives.apply(b"k", Some(&mark(wrong))), Err(Unusable::AnotherKey("new".to_owned())));
    }

    #[test]
    fn objections_and_corrections_are_noted_of_each_name_unless_an_erasure_is_newer() {
        let object = directive(PrivacyAction::Object, "new", SubjectKind::VisitorId, "anna");
        let mut fields = schemas::Map::default();
        fields.push("name", "Anna B");
        let rectify = directive(PrivacyAction::Rectify, "old", SubjectKind::Email, "anna@steel.example");
        let rectify = PrivacyDirective { fields, operator: "olga".into(), ..rectify };
        let notes = |directives: &Directives| {
            let contact = Contact { email: " Anna@steel.example".into(), ..Contact::default() };
            directives.notes_on(&Person { site: "shop", visitor: "anna", contact: Some(&contact), at: 0 })
        };
        let without = with(&[object.clone(), rectify.clone()]);
        assert_eq!(notes(&without).len(), 1, "corrections are kept only where they are asked for");

        let mut all = Directives::new(Some(keys())).with_corrections();
        let mut say = |directive: &PrivacyDirective<'_>| {
            all.apply(&privacy_key(directive), Some(directive)).unwrap();
            notes(&all)
        };
        assert_eq!(say(&object)[0].what, Noted::Objection);
        let found = say(&rectify);
        let Noted::Correction(correction) = &found[1].what else { panic!("no correction: {found:?}") };
        assert_eq!((found[1].value.as_str(), found[1].at), (" Anna@steel.example", NOON));
        assert_eq!((correction.field("name"), correction.field("phone")), ("Anna B", ""));
        assert_eq!(correction.operator, "olga");
        let erase = directive(PrivacyAction::Erase, "new", SubjectKind::Email, "anna@steel.example");
        assert_eq!(say(&PrivacyDirective { issued_at: NOON - 1, ..erase.clone() }).len(), 2);
        assert_eq!(say(&erase).iter().map(|note| note.kind).collect::<Vec<_>>(), [SubjectKind::VisitorId]);
        all.apply(&privacy_key(&object), None).unwrap();
        assert!(notes(&all).is_empty());
    }

    #[test]
    fn reports_and_rights_that_are_not_about_hits_change_no_verdict() {
        let mut report = directive(PrivacyAction::Erase, "new", SubjectKind::VisitorId, "anna");
        report.report = Some(schemas::StageReport::default());
        let permit = directive(PrivacyAction::Permit, "new", SubjectKind::VisitorId, "anna");
        let directives = with(&[report, permit]);
        assert_eq!(judge(&directives, "anna", "", NOON), Verdict::Keep);
    }
}
