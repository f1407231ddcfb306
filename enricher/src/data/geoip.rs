//! GeoIP databases in MaxMind's format (<https://maxmind.github.io/MaxMind-DB/>), replaced while running.
//!
//! A file is read into memory, not mapped: mapping a file that someone may overwrite is undefined behaviour in Rust and
//! a crash in practice. It costs as much memory as the file is long, and twice that for the moment of a replacement.
//!
//! [`GeoIp::look`] is called every few seconds. A file that changed is read, verified from end to end, and only then
//! put in the place of the old one, at once for all workers; the cache of addresses goes with the old one. A file that
//! is damaged, or half written, changes nothing, and is counted.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use maxminddb::Reader;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use schemas::{Network, Place};
use service::stamp::{Stamp, stamp};

use super::geoip_records::{Layout, read_network, read_place};
use super::{DataError, Source};
use crate::enrichments::Problem;

/// What the cache of addresses may hold.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Real entries are some 450 bytes.
const CACHE_ENTRIES: usize = 32 * 1024;
/// What an entry costs besides its text: allocations, and its place in the table.
const ENTRY_BYTES: u64 = 400;

/// What is known of an address.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddressFacts {
    /// The address; none where the text is no address.
    pub address: Option<IpAddr>,
    /// Where it is.
    pub place: Place<'static>,
    /// Whose network it is in.
    pub network: Network<'static>,
    /// What went wrong.
    pub problems: Vec<Problem>,
}

/// Reads an address. IPv4 in the clothes of IPv6 (`::ffff:192.0.2.1`, RFC 4291) is IPv4.
#[must_use]
pub fn read_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Which of the two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// Country, region, city, coordinates, time zone.
    City,
    /// Autonomous system and its organisation.
    Network,
}

impl DatabaseKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::City, Self::Network];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Network => "network",
        }
    }

    fn source(self) -> Source {
        match self {
            Self::City => Source { what: "a GeoIP city database", option: "--geoip-city" },
            Self::Network => Source { what: "a GeoIP network database", option: "--geoip-network" },
        }
    }
}

/// One database, verified.
#[derive(Debug)]
pub struct Database {
    reader: Reader<Vec<u8>>,
    layout: Layout,
}

impl Database {
    /// Reads and verifies a file.
    ///
    /// # Errors
    /// Where it can't be read, is no database, is damaged, or is one of something else.
    pub fn open(kind: DatabaseKind, path: &Path) -> Result<Self, DataError> {
        let source = kind.source();
        let wrong = |reason: String| source.wrong(path, reason);
        let reader = Reader::from_source(source.read(path)?).map_err(|error| wrong(error.to_string()))?;
        reader.verify().map_err(|error| wrong(error.to_string()))?;
        let layout = Layout::of(kind, &reader).map_err(wrong)?;
        Ok(Self { reader, layout })
    }

    /// When it was built, Unix seconds.
    #[must_use]
    pub fn build_epoch(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Its type and when it was built: `GeoLite2-City@1563886800`.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}@{}", self.reader.metadata().database_type, self.build_epoch())
    }

    fn knows_version_of(&self, address: IpAddr) -> bool {
        address.is_ipv4() || self.reader.metadata().ip_version == 6
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<IpAddr, Arc<AddressFacts>> for ByBytes {
    fn weight(&self, _: &IpAddr, facts: &Arc<AddressFacts>) -> u64 {
        let (place, network) = (&facts.place, &facts.network);
        let texts =
            [&place.country, &place.region, &place.city, &place.time_zone, &network.organisation, &network.domain];
        let text: usize = texts.iter().map(|text| text.len()).sum();
        text as u64 + ENTRY_BYTES
    }
}

/// The databases of one moment, with what was looked up in them.
#[derive(Debug)]
pub struct Databases {
    city: Option<Arc<Database>>,
    network: Option<Arc<Database>>,
    version: String,
    cache: Cache<IpAddr, Arc<AddressFacts>, ByBytes>,
    unknown: Arc<AddressFacts>,
}

impl Databases {
    fn new(city: Option<Arc<Database>>, network: Option<Arc<Database>>) -> Self {
        let versions: Vec<String> =
            [&city, &network].into_iter().flatten().map(|database| database.version()).collect();
        let cache = Cache::with_weighter(CACHE_ENTRIES, CACHE_BYTES, ByBytes);
        Self { city, network, version: versions.join(" "), cache, unknown: Arc::default() }
    }

    /// Types and build times: `GeoLite2-City@1563886800 GeoLite2-ASN@1563800400`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// One of the two, where it is there.
    #[must_use]
    pub fn database(&self, kind: DatabaseKind) -> Option<&Arc<Database>> {
        match kind {
            DatabaseKind::City => self.city.as_ref(),
            DatabaseKind::Network => self.network.as_ref(),
        }
    }

    /// What is known of an address, and whether the cache knew. A text that is no address is not looked up.
    #[must_use]
    pub fn look_up(&self, text: &str) -> (Arc<AddressFacts>, bool) {
        let Some(address) = read_address(text) else { return (Arc::clone(&self.unknown), true) };
        if let Some(known) = self.cache.get(&address) {
            return (known, true);
        }
        let facts = Arc::new(self.read(address));
        self.cache.insert(address, Arc::clone(&facts));
        (facts, false)
    }

    fn read(&self, address: IpAddr) -> AddressFacts {
        let mut facts = AddressFacts { address: Some(address), ..AddressFacts::default() };
        if let Some(database) = self.city.as_ref().filter(|database| database.knows_version_of(address)) {
            match read_place(&database.reader, database.layout, address) {
                Ok(place) => facts.place = place,
                Err(_) => facts.problems.push(Problem::PlaceUnreadable),
            }
        }
        if let Some(database) = self.network.as_ref().filter(|database| database.knows_version_of(address)) {
            match read_network(&database.reader, address) {
                Ok(network) => facts.network = network,
                Err(_) => facts.problems.push(Problem::NetworkUnreadable),
            }
        }
        facts
    }
}

#[derive(Debug)]
struct Watched {
    kind: DatabaseKind,
    path: PathBuf,
    seen: Stamp,
}

/// What became of a file that changed.
#[derive(Debug)]
pub struct Reload {
    /// Which database.
    pub kind: DatabaseKind,
    /// Its new version, or why the old one is kept.
    pub result: Result<String, DataError>,
}

/// The databases as their files are now.
#[derive(Debug)]
pub struct GeoIp {
    current: ArcSwap<Databases>,
    watched: Mutex<Vec<Watched>>,
}

impl GeoIp {
    /// Reads the databases that are given. Takes a second or two, since they are verified.
    ///
    /// # Errors
    /// Where one of them can't be used.
    pub fn open(city: Option<&Path>, network: Option<&Path>) -> Result<Self, DataError> {
        let given = [(DatabaseKind::City, city), (DatabaseKind::Network, network)];
        let mut watched = Vec::new();
        let mut opened = [None, None];
        for (place, (kind, path)) in opened.iter_mut().zip(given) {
            let Some(path) = path else { continue };
            // Looked at before it is read: what changes in between is read again.
            watched.push(Watched { kind, path: path.to_owned(), seen: stamp(path) });
            *place = Some(Arc::new(Database::open(kind, path)?));
        }
        let [city, network] = opened;
        Ok(Self { current: ArcSwap::from_pointee(Databases::new(city, network)), watched: Mutex::new(watched) })
    }

    /// The databases now.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<Databases>> {
        self.current.load()
    }

    /// Reads again what changed since it was last looked at. Blocks for as long as reading and verifying takes.
    pub fn look(&self) -> Vec<Reload> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter_mut().filter_map(|file| self.look_at(file)).collect()
    }

    fn look_at(&self, file: &mut Watched) -> Option<Reload> {
        let now = stamp(&file.path);
        if now == file.seen {
            return None;
        }
        file.seen = now;
        let result = Database::open(file.kind, &file.path).map(|database| self.replace(file.kind, database));
        Some(Reload { kind: file.kind, result })
    }

    fn replace(&self, kind: DatabaseKind, database: Database) -> String {
        let version = database.version();
        let (old, new) = (self.current.load_full(), Some(Arc::new(database)));
        let (city, network) = match kind {
            DatabaseKind::City => (new, old.network.clone()),
            DatabaseKind::Network => (old.city.clone(), new),
        };
        self.current.store(Arc::new(Databases::new(city, network)));
        version
    }
}
