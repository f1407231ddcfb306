//! The class of a device: what it is held in, or stands on. No list of models can be complete, so marks decide that
//! makers put into user agents for this very purpose.

use schemas::DeviceKind;

use super::client_hints::Hints;

/// What tells the class.
pub(super) struct Clues<'a> {
    pub user_agent: &'a str,
    pub os: &'a str,
    pub model: &'a str,
    pub hints: &'a Hints<'a>,
}

const TELEVISIONS: [&str; 17] = [
    "SmartTV",
    "SMART-TV",
    "Smart TV",
    "HbbTV",
    "AppleTV",
    "Apple TV",
    "GoogleTV",
    "Google TV",
    "Android TV",
    "BRAVIA",
    "CrKey",
    "Roku",
    "Web0S",
    "NetCast",
    "Viera",
    "AFT",
    "DTV",
];
const CONSOLES: [&str; 4] = ["PlayStation", "Xbox", "Nintendo", "Steam Deck"];
const WEARABLES: [&str; 3] = ["Watch", "Wear OS", "SM-R8"];
const TABLETS: [&str; 6] = ["iPad", "Tablet", "tablet", "PlayBook", "Kindle", "Nexus 7"];
const MOBILES: [&str; 9] =
    ["iPhone", "iPod", "Mobile", "Windows Phone", "BlackBerry", "Opera Mini", "KAIOS", "Symbian", "BB10"];

/// The class, or unknown where nothing tells.
pub(super) fn of(clues: &Clues<'_>) -> DeviceKind {
    form_factor(clues.hints.form_factors.unwrap_or_default())
        .or_else(|| marked(clues))
        .unwrap_or_else(|| by_system(clues))
}

/// The hint that was made to tell (<https://wicg.github.io/ua-client-hints/#sec-ch-ua-form-factors>).
fn form_factor(value: &str) -> Option<DeviceKind> {
    let kinds = [
        ("Watch", DeviceKind::Wearable),
        ("XR", DeviceKind::Wearable),
        ("Tablet", DeviceKind::Tablet),
        ("Mobile", DeviceKind::Mobile),
        ("Desktop", DeviceKind::Desktop),
    ];
    kinds.iter().find(|(name, _)| value.contains(name)).map(|(_, kind)| *kind)
}

fn marked(clues: &Clues<'_>) -> Option<DeviceKind> {
    let has = |marks: &[&str]| marks.iter().any(|mark| clues.user_agent.contains(mark));
    // Consoles before televisions, whose marks some of them carry; televisions and wearables before phones, likewise.
    if has(&CONSOLES) {
        return Some(DeviceKind::Console);
    }
    if clues.os == "tvOS" || has(&TELEVISIONS) {
        return Some(DeviceKind::Television);
    }
    if matches!(clues.os, "watchOS" | "Wear OS") || has(&WEARABLES) {
        return Some(DeviceKind::Wearable);
    }
    if has(&TABLETS) || clues.model.contains("iPad") || clues.model.contains("Tab ") {
        return Some(DeviceKind::Tablet);
    }
    None
}

fn by_system(clues: &Clues<'_>) -> DeviceKind {
    if clues.hints.mobile == Some(true) || MOBILES.iter().any(|mark| clues.user_agent.contains(mark)) {
        return DeviceKind::Mobile;
    }
    match clues.os {
        // Google asks makers to leave out `Mobile` on tablets
        // (<https://developer.chrome.com/docs/privacy-security/user-agent>).
        "Android" => DeviceKind::Tablet,
        "iOS" => DeviceKind::Mobile,
        "" => DeviceKind::Unknown,
        os if is_desktop(os) => DeviceKind::Desktop,
        _ => DeviceKind::Unknown,
    }
}

fn is_desktop(os: &str) -> bool {
    let known = [
        "Windows",
        "macOS",
        "Linux",
        "Chrome OS",
        "Ubuntu",
        "Fedora",
        "Debian",
        "Red Hat",
        "SUSE",
        "Arch Linux",
        "Linux Mint",
        "Gentoo",
        "Solaris",
        "FreeBSD",
        "OpenBSD",
        "NetBSD",
        "CentOS",
        "Mageia",
        "Kubuntu",
    ];
    known.iter().any(|name| os.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(user_agent: &str, os: &str, hints: &Hints<'_>) -> DeviceKind {
        of(&Clues { user_agent, os, model: "", hints })
    }

    #[test]
    fn marks_and_systems_tell_the_class() {
        let none = Hints::default();
        for (user_agent, os, expected) in [
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/124", "Windows", DeviceKind::Desktop),
            ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64) Firefox/125", "Ubuntu", DeviceKind::Desktop),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) Mobile/15E148", "iOS", DeviceKind::Mobile),
            ("Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) Mobile/15E148", "iOS", DeviceKind::Tablet),
            ("Mozilla/5.0 (Linux; Android 10; K) Chrome/124 Mobile Safari", "Android", DeviceKind::Mobile),
            ("Mozilla/5.0 (Linux; Android 10; K) Chrome/124 Safari", "Android", DeviceKind::Tablet),
            ("Mozilla/5.0 (PlayStation 5 8.00) Safari", "PlayStation", DeviceKind::Console),
            ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) TV Safari", "Tizen", DeviceKind::Television),
            ("Mozilla/5.0 (Linux; Android 9; AFTKA) Chrome/120 Mobile", "Android", DeviceKind::Television),
            ("MyApp/1 (Watch6,1; watchOS 10)", "watchOS", DeviceKind::Wearable),
            ("something", "", DeviceKind::Unknown),
        ] {
            assert_eq!(kind(user_agent, os, &none), expected, "{user_agent}");
        }
    }

    #[test]
    fn hints_tell_more() {
        let tablet = Hints { form_factors: Some("\"Tablet\""), ..Hints::default() };
        assert_eq!(kind("Chrome Mobile", "Android", &tablet), DeviceKind::Tablet);
        let mobile = Hints { mobile: Some(true), ..Hints::default() };
        assert_eq!(kind("Chrome", "Android", &mobile), DeviceKind::Mobile);
    }
}
