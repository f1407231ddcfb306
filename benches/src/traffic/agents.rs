//! Browsers and devices, from the user agents that deploy/local/fetch.py brings, else from a few of our own.

use std::path::Path;

use schemas::DeviceKind;

/// A browser on a device, with what the enricher would make of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// The User-Agent header.
    pub user_agent: String,
    /// Class of the device.
    pub kind: DeviceKind,
    /// Operating system.
    pub os: &'static str,
    /// Browser.
    pub browser: &'static str,
    /// Its version.
    pub browser_version: String,
    /// Width and height, CSS pixels.
    pub screen: (i32, i32),
}

const FEW: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
];

/// What stands in a user agent, and the operating system and class of device it stands for. The first that fits.
const SYSTEMS: &[(&str, &str, DeviceKind)] = &[
    ("iPhone", "iOS", DeviceKind::Mobile),
    ("iPad", "iOS", DeviceKind::Tablet),
    ("Android", "Android", DeviceKind::Mobile),
    ("Windows", "Windows", DeviceKind::Desktop),
    ("Mac OS X", "Mac OS X", DeviceKind::Desktop),
    ("CrOS", "Chrome OS", DeviceKind::Desktop),
    ("Linux", "Linux", DeviceKind::Desktop),
];

/// What stands before the version of a browser in a user agent, and its name. The first that fits.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome Mobile iOS"),
    ("Version/", "Safari"),
];

impl Agent {
    fn new(user_agent: &str) -> Self {
        let system = SYSTEMS.iter().find(|(mark, ..)| user_agent.contains(mark));
        let (os, kind) = system.map_or(("", DeviceKind::Unknown), |(_, os, kind)| (*os, *kind));
        let browser = BROWSERS.iter().find_map(|(mark, name)| Some((*name, user_agent.split_once(mark)?.1)));
        let (browser, version) = browser.unwrap_or_default();
        let version = version.split(['.', ' ']).next().unwrap_or_default().to_owned();
        let screen = if kind == DeviceKind::Desktop { (1920, 1080) } else { (393, 852) };
        Self { user_agent: user_agent.to_owned(), kind, os, browser, browser_version: version, screen }
    }

    /// Whether it stands on a desk.
    #[must_use]
    pub fn is_desktop(&self) -> bool {
        self.kind == DeviceKind::Desktop
    }
}

/// The real user agents where they were fetched, the most used first, else a few.
#[must_use]
pub fn agents() -> Vec<Agent> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/data/user-agents.txt");
    let fetched = std::fs::read_to_string(path).unwrap_or_default();
    let mut agents: Vec<Agent> = fetched.lines().map(Agent::new).filter(|agent| !agent.os.is_empty()).collect();
    if agents.len() < FEW.len() {
        agents = FEW.iter().copied().map(Agent::new).collect();
    }
    agents
}
