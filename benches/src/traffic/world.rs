//! What stays the same while people come and go: sites, companies, networks, origins, devices.

use schemas::IpPolicy;

use super::agents::{Agent, agents};
use super::dice::Dice;
use super::origins::{Origin, origins};
use super::places::{CITIES, CLOUDS, City, PROVIDERS};
use super::settings::Settings;

/// How a site sends its hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The JavaScript tag: session ids, visible time, corrected clocks.
    Tag,
    /// A server: visitor ids of its own and no sessions.
    Api,
    /// A picture: the collector's cookies, and nothing but the page.
    Pixel,
}

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Address.
    pub url: String,
    /// Path.
    pub path: String,
    /// Title.
    pub title: String,
}

/// A site.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its key.
    pub key: &'static str,
    /// Host of its pages.
    pub host: String,
    /// Who owns it: sites of one customer share visitor and session ids.
    pub customer: usize,
    /// How it sends hits.
    pub client: Client,
    /// What it keeps of addresses.
    pub ip_policy: IpPolicy,
    /// How many of a hundred of its customer's visits.
    pub share: usize,
    /// The most viewed first.
    pub pages: Vec<Page>,
    /// Addresses of files, the most loaded first.
    pub files: Vec<String>,
    /// Addresses of other sites, the most followed first.
    pub links: Vec<String>,
}

/// A network that people come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Organisation.
    pub organisation: String,
    /// Registrable domain; empty where not known.
    pub domain: String,
    /// Autonomous system.
    pub number: i64,
    /// The first two bytes of its addresses.
    pub prefix: (u8, u8),
}

/// A company that people come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Company {
    /// Name.
    pub name: String,
    /// Registrable domain.
    pub domain: String,
    /// Where its offices are, places in [`CITIES`].
    pub offices: Vec<usize>,
    /// The network of its offices, a place in [`World::networks`]: its own, or a provider's.
    pub network: usize,
    /// Whether a partner knows whose the addresses of its offices are.
    pub is_known_to_partner: bool,
    /// What the partner calls its trade.
    pub industry: &'static str,
}

/// Everything that stays.
#[derive(Debug)]
pub struct World {
    /// What it was made from.
    pub settings: Settings,
    /// Sites.
    pub sites: Vec<Site>,
    /// Companies, the busiest first.
    pub companies: Vec<Company>,
    /// Networks: those of providers, then those of robots, then those of companies.
    pub networks: Vec<Network>,
    /// Origins.
    pub origins: Vec<Origin>,
    /// Browsers, the most used first.
    pub agents: Vec<Agent>,
    /// A place in `origins` for each of a thousand arrivals.
    pub(super) lottery: Vec<usize>,
}

/// What partners are called here.
pub const PARTNER: &str = "Data House";

const INDUSTRIES: &[&str] = &["Pumps", "Steel", "Logistics", "Chemicals", "Software", "Printing", "Machinery"];
const NAMES: &[&str] =
    &["Alder", "Birch", "Cedar", "Delta", "Ember", "Falcon", "Granite", "Harbour", "Iris", "Juniper"];
const TOPICS: &[&str] = &["products", "pumps", "pricing", "support", "blog", "careers", "cases", "docs"];

/// Key, customer, client, share of its customer's visits, policy, pages.
const SITES: &[(&str, usize, Client, usize, IpPolicy, usize)] = &[
    ("shop", 0, Client::Tag, 60, IpPolicy::Full, 400),
    ("pumps", 1, Client::Api, 100, IpPolicy::Full, 200),
    ("docs", 0, Client::Tag, 25, IpPolicy::Truncated, 800),
    ("blog", 0, Client::Tag, 15, IpPolicy::None, 300),
    ("portal", 2, Client::Pixel, 100, IpPolicy::Truncated, 100),
];

/// Customers there can be.
pub(super) const CUSTOMERS: usize = 3;

fn site(index: usize) -> Site {
    let (key, customer, client, share, ip_policy, count) = SITES[index];
    let host = format!("{key}.example.com");
    let page = |number: usize| {
        let topic = TOPICS[number % TOPICS.len()];
        let path = if number == 0 { "/".to_owned() } else { format!("/{topic}/article-{number}") };
        Page { url: format!("https://{host}{path}"), title: format!("{topic} {number} | {key}"), path }
    };
    let pages = (0..count).map(page).collect();
    let files = (0..30).map(|number| format!("https://{host}/files/data-sheet-{number}.pdf")).collect();
    let links = (0..20).map(|number| format!("https://supplier-{number}.example.net/")).collect();
    Site { key, customer, client, ip_policy, share, pages, files, links, host }
}

fn network((organisation, domain, number): (&str, &str, i64), place: usize) -> Network {
    let prefix = (20 + (place / 250) as u8, (place % 250) as u8);
    Network { organisation: organisation.to_owned(), domain: domain.to_owned(), number, prefix }
}

impl World {
    /// Makes a world.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let sites = (0..settings.sites.clamp(1, SITES.len())).map(site).collect();
        let shared = PROVIDERS.iter().chain(CLOUDS).enumerate();
        let networks = shared.map(|(place, network_of)| network(*network_of, place)).collect();
        let origins = origins();
        let places = origins.iter().enumerate();
        let lottery = places.flat_map(|(place, origin)| std::iter::repeat_n(place, origin.share)).collect();
        let mut world = Self { sites, companies: Vec::new(), networks, origins, agents: agents(), lottery, settings };
        for number in 0..world.settings.companies {
            world.add_company(number);
        }
        world
    }

    fn add_company(&mut self, number: usize) {
        let mut dice = Dice::of(self.settings.seed, 1, number as u64);
        let name = format!("{} {} {number}", NAMES[number % NAMES.len()], dice.pick(INDUSTRIES));
        let ending = dice.pick(&["com", "de", "co.uk", "net"]);
        let domain = format!("{}-{number}.{ending}", NAMES[number % NAMES.len()].to_lowercase());
        let offices = (0..=dice.below(3)).map(|_| dice.popular(CITIES.len())).collect();
        let network = if dice.chance(0.35) {
            let place = self.networks.len();
            let told = if dice.chance(0.8) { domain.as_str() } else { "" };
            self.networks.push(network((&name, told, 200_000 + number as i64), place));
            place
        } else {
            dice.below(PROVIDERS.len())
        };
        let is_known_to_partner = dice.chance(0.4);
        let industry = dice.pick(INDUSTRIES);
        self.companies.push(Company { name, domain, offices, network, is_known_to_partner, industry });
    }

    /// Places of the sites of a customer.
    pub(super) fn sites_of(&self, customer: usize) -> Vec<usize> {
        (0..self.sites.len()).filter(|place| self.sites[*place].customer == customer).collect()
    }

    /// The city of a place.
    #[must_use]
    pub fn city(&self, place: usize) -> &'static City {
        &CITIES[place % CITIES.len()]
    }
}
