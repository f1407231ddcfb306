//! Whom the proof is about: people with several devices at the sites of two customers, and what each will ask for.
//!
//! Everything that names somebody is drawn here, and holds a mark that stands nowhere else, so that it is found again
//! wherever it is copied to: see [`crate::scan`].

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use fastrand::Rng;
use uuid::Uuid;

/// A site: its key, and the customer whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Key.
    pub key: &'static str,
    /// Whose it is.
    pub customer: usize,
    /// Whether hits of those who object are dropped, rather than counted without identifiers.
    pub drops_objectors: bool,
}

/// All sites.
pub const SITES: [Site; 3] = [
    Site { key: "shop", customer: 0, drops_objectors: false },
    Site { key: "docs", customer: 0, drops_objectors: false },
    Site { key: "pumps", customer: 1, drops_objectors: true },
];

/// Sites of a customer.
pub fn sites_of(customer: usize) -> impl Iterator<Item = &'static Site> {
    SITES.iter().filter(move |site| site.customer == customer)
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Right {
    /// Nothing: they are not to notice that others do.
    None,
    /// To be told what is held on them.
    Access,
    /// That everything goes. They never come again.
    Erase,
    /// The same, and they come again, also while it is carried out.
    EraseAndReturn,
    /// That everything goes, and that they are not recognised when they come again.
    Forget,
    /// That nothing that identifies is kept from now on.
    Object,
    /// That a partner may have their card.
    Permit,
    /// The same, and later not any more.
    Withdraw,
    /// That a field of their card is corrected.
    Rectify,
}

/// How many of a hundred ask for what.
const SHARES: [(Right, usize); 9] = [
    (Right::Erase, 12),
    (Right::EraseAndReturn, 6),
    (Right::Forget, 6),
    (Right::Object, 7),
    (Right::Access, 4),
    (Right::Permit, 4),
    (Right::Withdraw, 3),
    (Right::Rectify, 6),
    (Right::None, 52),
];

/// A browser of somebody.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its visitor id, at all sites of the customer.
    pub visitor: String,
    /// Where it comes from.
    pub address: Ipv4Addr,
    /// Its session at each site, by place in [`SITES`].
    pub sessions: [Uuid; SITES.len()],
}

/// Somebody, as one customer knows them. Who is known to both customers is two of these, with one card.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Place among all.
    pub number: usize,
    /// Who knows them.
    pub customer: usize,
    /// Their address, in lower case.
    pub email: String,
    /// Digits of their telephone number, with the country's.
    pub phone: String,
    /// Their name.
    pub name: String,
    /// What their name is corrected to, where they ask for that.
    pub corrected: String,
    /// Stands in free properties and in queries of pages.
    pub account: String,
    /// Stands in what a partner knows of them, where one does.
    pub attribute: Option<String>,
    /// Their browsers at this customer.
    pub devices: Vec<Device>,
    /// What they ask for.
    pub right: Right,
    /// Whether they keep still while they ask, so that every row about them can be counted before.
    pub keeps_still: bool,
}

impl Subject {
    /// The number, in one of the ways in which people write it.
    pub fn written_phone(&self, random: &mut Rng) -> String {
        let (country, rest) = self.phone.split_at(2);
        random.choice([format!("+{country} {rest}"), format!("00{country} ({rest})")]).unwrap_or_default()
    }

    /// The address, in one of the ways in which people write it.
    pub fn written_email(&self, random: &mut Rng) -> String {
        random.choice([self.email.clone(), self.email.replacen("zq", "Zq", 1)]).unwrap_or_default()
    }
}

/// Draws marks, each once.
struct Marks {
    random: Rng,
    next: u32,
}

impl Marks {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// `zq`, five digits that tell marks apart, and five letters that nobody would write by chance.
    fn word(&mut self) -> String {
        let mut word = format!("zq{:05}", self.number());
        (0..5).for_each(|_| word.push(self.random.lowercase()));
        word
    }

    /// 14 digits: a country's two, a 7, five that tell numbers apart, and six more.
    fn phone(&mut self) -> String {
        let mut digits = format!("497{:05}", self.number());
        let _ = write!(digits, "{:06}", self.random.u32(..1_000_000));
        digits
    }

    /// One of the network for benchmarks (RFC 2544), which belongs to nobody. Its last byte is never 0, which would be the
    /// same address when it is cut.
    fn address(&mut self) -> Ipv4Addr {
        let number = self.number();
        let [.., high, low] = (number / 254).to_be_bytes();
        Ipv4Addr::new(198, 18 + (high & 1), low, u8::try_from(number % 254).unwrap_or_default() + 1)
    }

    fn device(&mut self) -> Device {
        let mut session = || uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid();
        let sessions = std::array::from_fn(|_| session());
        Device { visitor: self.word(), address: self.address(), sessions }
    }
}

/// Draws `count` people from a seed; one in eight is known to both customers.
pub fn draw(seed: u64, count: usize) -> Vec<Subject> {
    let mut random = Rng::with_seed(seed);
    let mut marks = Marks { random: random.fork(), next: 0 };
    let mut rights: Vec<Right> =
        SHARES.iter().flat_map(|(right, share)| std::iter::repeat_n(*right, share * count / 100)).collect();
    rights.resize(count, Right::None);
    random.shuffle(&mut rights);
    let mut subjects: Vec<Subject> = Vec::new();
    for right in rights {
        let first = Subject {
            number: subjects.len(),
            customer: random.usize(..2),
            email: format!("{}@steel.example", marks.word()),
            phone: marks.phone(),
            name: format!("Z{} Meyer", &marks.word()[1..]),
            corrected: format!("Z{} Meyer-Schulz", &marks.word()[1..]),
            account: marks.word(),
            attribute: random.bool().then(|| marks.word()),
            devices: (0..random.usize(1..4)).map(|_| marks.device()).collect(),
            right,
            keeps_still: !matches!(right, Right::EraseAndReturn | Right::Forget)
                && (matches!(right, Right::Erase | Right::Rectify) || random.bool()),
        };
        let is_known_twice = random.u32(..8) == 0;
        let twin = Subject {
            number: first.number + 1,
            customer: 1 - first.customer,
            account: marks.word(),
            devices: vec![marks.device()],
            right: Right::None,
            ..first.clone()
        };
        subjects.push(first);
        subjects.extend(is_known_twice.then_some(twin));
    }
    subjects
}
