//! What a user agent and the client hints tell: browser, operating system, device, robot.
//!
//! uap-core's regular expressions read the user agent, isbot's patterns tell robots. Browsers have frozen their user
//! agents, so client hints, where they were sent, override them. One look-up costs some ten microseconds, so results
//! are cached, bounded in bytes, for all workers together.

use std::path::Path;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use schemas::{Device, DeviceKind, Map, Text};
use ua_parser::{Extractor, Regexes};

use super::client_hints::Hints;
use super::device_kind::{self, Clues};
use super::{DataError, Source};

const FILE: Source =
    Source { what: "a file of user-agent expressions (uap-core's regexes.yaml)", option: "--user-agent-regexes" };

/// What the cache may hold.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Real entries are some 500 bytes.
const CACHE_ENTRIES: usize = 32 * 1024;
/// What an entry costs besides its text: allocations, and its place in the table.
const ENTRY_BYTES: u64 = 320;
/// Longer user agents are cut: real ones end far before, and the expressions should not work for strangers.
const LONGEST_USER_AGENT: usize = 1_024;

/// What is known of a user agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserAgentFacts {
    /// Device, system and browser.
    pub device: Device<'static>,
    /// True for a robot.
    pub is_bot: bool,
    /// Which robot, where known.
    pub bot_name: Text<'static>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<str>, Arc<UserAgentFacts>> for ByBytes {
    fn weight(&self, key: &Box<str>, facts: &Arc<UserAgentFacts>) -> u64 {
        let device = &facts.device;
        let texts = [&device.brand, &device.model, &device.os, &device.os_version, &device.browser, &facts.bot_name];
        let text: usize = texts.iter().map(|text| text.len()).sum();
        (key.len() + text) as u64 + ENTRY_BYTES
    }
}

/// Reads user agents.
pub struct UserAgents {
    expressions: Option<Extractor<'static>>,
    bots: isbot::Bots,
    cache: Cache<Box<str>, Arc<UserAgentFacts>, ByBytes>,
}

impl std::fmt::Debug for UserAgents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("UserAgents").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

impl UserAgents {
    /// Reads the expressions from a file of uap-core.
    ///
    /// # Errors
    /// Where the file can't be read or is no such file.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let bytes = FILE.read(path)?;
        let parsed: Regexes<'static> = serde_saphyr::from_slice(&bytes).map_err(|error| FILE.wrong(path, error))?;
        let expressions = Extractor::try_from(parsed).map_err(|error| FILE.wrong(path, error))?;
        Ok(Self { expressions: Some(expressions), ..Self::without_expressions() })
    }

    /// Knows robots and client hints only.
    #[must_use]
    pub fn without_expressions() -> Self {
        let cache = Cache::with_weighter(CACHE_ENTRIES, CACHE_BYTES, ByBytes);
        Self { expressions: None, bots: isbot::Bots::default(), cache }
    }

    /// What a user agent and client hints tell, and whether the cache knew.
    #[must_use]
    pub fn look_up(&self, user_agent: &str, client_hints: &Map<'_>) -> (Arc<UserAgentFacts>, bool) {
        let user_agent = cut(user_agent);
        if client_hints.0.is_empty() {
            return self.cached(user_agent, || self.read(user_agent, &Hints::default()));
        }
        let key = Hints::key(user_agent, client_hints);
        self.cached(&key, || self.read(user_agent, &Hints::read(client_hints)))
    }

    fn cached(&self, key: &str, read: impl FnOnce() -> UserAgentFacts) -> (Arc<UserAgentFacts>, bool) {
        if let Some(known) = self.cache.get(key) {
            return (known, true);
        }
        let facts = Arc::new(read());
        self.cache.insert(key.into(), Arc::clone(&facts));
        (facts, false)
    }

    fn read(&self, user_agent: &str, hints: &Hints<'_>) -> UserAgentFacts {
        let mut parsed = self.parse(user_agent);
        let is_bot = parsed.is_spider || self.bots.is_bot(user_agent);
        if is_bot {
            let bot_name = if parsed.device.browser.is_empty() {
                first_product(user_agent)
            } else {
                parsed.device.browser.clone()
            };
            parsed.device.kind = DeviceKind::Other;
            return UserAgentFacts { device: parsed.device, is_bot, bot_name };
        }
        if hints.model.is_some() {
            self.name_maker(&mut parsed.device, hints);
        }
        hints.apply(&mut parsed.device);
        let device = &parsed.device;
        parsed.device.kind = device_kind::of(&Clues { user_agent, os: &device.os, model: &device.model, hints });
        UserAgentFacts { device: parsed.device, ..UserAgentFacts::default() }
    }

    fn parse(&self, user_agent: &str) -> Parsed {
        let mut parsed = Parsed::default();
        let Some(expressions) = &self.expressions else { return parsed };
        let (browser, os, device) = expressions.extract(user_agent);
        if let Some(browser) = browser {
            let parts = [browser.major, browser.minor, browser.patch, browser.patch_minor];
            parsed.device.browser = Text::Owned(browser.family.into_owned());
            parsed.device.browser_version = version(&parts);
        }
        if let Some(os) = os {
            let parts = [os.major.as_deref(), os.minor.as_deref(), os.patch.as_deref(), os.patch_minor.as_deref()];
            parsed.device.os = os_name(&os.os);
            parsed.device.os_version = version(&parts);
        }
        if let Some(device) = device {
            parsed.is_spider = device.device == "Spider";
            parsed.device.brand = known(device.brand.as_deref().unwrap_or_default());
            parsed.device.model = known(device.model.as_deref().unwrap_or_default());
        }
        parsed
    }

    /// Finds the maker of a model that only the hints name: as if the user agent still named it, as it once did.
    fn name_maker(&self, device: &mut Device<'static>, hints: &Hints<'_>) {
        let (Some(expressions), Some(model)) = (&self.expressions, hints.model) else { return };
        let unfrozen = format!("Mozilla/5.0 (Linux; Android 13; {model}) AppleWebKit/537.36 Mobile Safari/537.36");
        device.brand = Text::default();
        if let Some(found) = expressions.dev.extract(&unfrozen) {
            device.brand = known(found.brand.as_deref().unwrap_or_default());
        }
    }
}

#[derive(Default)]
struct Parsed {
    device: Device<'static>,
    is_spider: bool,
}

fn cut(user_agent: &str) -> &str {
    &user_agent[..user_agent.floor_char_boundary(LONGEST_USER_AGENT)]
}

/// `major.minor.patch` as far as it is known.
fn version(parts: &[Option<&str>]) -> Text<'static> {
    let known: Vec<&str> = parts.iter().map_while(|part| part.filter(|part| !part.is_empty())).collect();
    Text::Owned(known.join("."))
}

/// The name that Apple uses since 2016, and client hints do.
fn os_name(name: &str) -> Text<'static> {
    match name {
        "Mac OS X" => Text::Borrowed("macOS"),
        "Other" => Text::Borrowed(""),
        name => Text::Owned(name.to_owned()),
    }
}

/// What uap-core says, without its words for not knowing: it names kinds of devices there, and `K` is what Chrome puts
/// in the place of every model.
fn known(name: &str) -> Text<'static> {
    let unknown = name.starts_with("Generic") || matches!(name, "K" | "Other" | "Spider" | "Smartphone" | "Desktop");
    if unknown { Text::default() } else { Text::Owned(name.to_owned()) }
}

/// What stands before the first slash or blank: `curl` of `curl/8.5.0`.
fn first_product(user_agent: &str) -> Text<'static> {
    let product = user_agent.trim().split(['/', ' ', ';', '(']).next().unwrap_or_default();
    // Robots that pose as browsers name themselves further back, where no expression knew them.
    if product == "Mozilla" { Text::default() } else { Text::Owned(product.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_look_up_is_answered_from_the_cache_and_hints_are_told_apart() {
        let user_agents = UserAgents::without_expressions();
        let none = Map::default();
        assert!(!user_agents.look_up("A/1", &none).1);
        assert!(user_agents.look_up("A/1", &none).1);
        let mut hints = Map::default();
        hints.push("sec-ch-ua-platform", "\"Windows\"");
        let (facts, cached) = user_agents.look_up("A/1", &hints);
        assert!(!cached);
        assert_eq!(facts.device.os, "Windows");
    }

    #[test]
    fn the_cache_is_bounded_in_bytes() {
        let user_agents = UserAgents::without_expressions();
        for number in 0..40_000 {
            let _ = user_agents.look_up(&format!("{number:01000}"), &Map::default());
        }
        assert!(user_agents.cache.weight() <= CACHE_BYTES && user_agents.cache.len() > 1_000);
    }

    #[test]
    fn an_endless_user_agent_is_cut_between_characters() {
        let endless = "ä".repeat(10_000);
        assert_eq!(cut(&endless).len(), LONGEST_USER_AGENT);
        assert_eq!(cut(&format!("x{endless}")).len(), LONGEST_USER_AGENT - 1);
    }

    #[test]
    fn a_robot_is_named_by_its_first_product() {
        assert_eq!(first_product("python-requests/2.31.0"), "python-requests");
        assert_eq!(first_product("Mozilla/5.0 (compatible; somebot/1)"), "");
    }
}
