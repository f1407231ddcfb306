//! What browsers tell in `Sec-CH-UA-*` headers (<https://wicg.github.io/ua-client-hints/>), as the collector keeps them:
//! values as sent, which are structured fields (RFC 9651): `?1`, `"Windows"`, `"Chromium";v="124.0", ...`.

use schemas::{Device, Map, Text};

/// All headers that are read.
const HEADERS: [&str; 7] = [
    "sec-ch-ua-platform",
    "sec-ch-ua-platform-version",
    "sec-ch-ua-model",
    "sec-ch-ua-mobile",
    "sec-ch-ua-form-factors",
    "sec-ch-ua-full-version-list",
    "sec-ch-ua",
];
/// Room for their values.
const KEY_BYTES: usize = 192;

/// The hints that say something about the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hints<'a> {
    pub platform: Option<&'a str>,
    pub platform_version: Option<&'a str>,
    pub model: Option<&'a str>,
    pub mobile: Option<bool>,
    pub form_factors: Option<&'a str>,
    /// Name and version of the browser.
    pub browser: Option<(&'a str, &'a str)>,
}

impl<'a> Hints<'a> {
    pub fn read(headers: &'a Map<'_>) -> Self {
        let text =
            |name: &str| headers.get(name).map(unquoted).filter(|value| !value.is_empty() && *value != "Unknown");
        let brands = |name: &str| headers.get(name).and_then(browser);
        Self {
            platform: text("sec-ch-ua-platform"),
            platform_version: text("sec-ch-ua-platform-version"),
            model: text("sec-ch-ua-model"),
            mobile: headers.get("sec-ch-ua-mobile").map(|value| matches!(value.trim(), "?1" | "1" | "true")),
            form_factors: headers.get("sec-ch-ua-form-factors"),
            browser: brands("sec-ch-ua-full-version-list").or_else(|| brands("sec-ch-ua")),
        }
    }

    /// One text for a user agent with these headers, as they were sent: reading them waits until that is not known.
    pub fn key(user_agent: &str, headers: &Map<'_>) -> String {
        let mut key = String::with_capacity(user_agent.len() + KEY_BYTES);
        key.push_str(user_agent);
        for name in HEADERS {
            // No header holds a zero byte.
            key.push('\0');
            key.push_str(headers.get(name).unwrap_or_default());
        }
        key
    }

    /// Puts what the hints say over what the user agent said.
    pub fn apply(&self, device: &mut Device<'static>) {
        self.apply_platform(device);
        if let Some(model) = self.model {
            device.model = Text::Owned(model.to_owned());
        }
        if let Some((brand, version)) = self.browser.filter(|(brand, _)| !is_engine_of_another(brand, &device.browser))
        {
            let name = browser_name(brand);
            // `Chrome Mobile` says more than `Chrome`, and the hint does not deny it.
            if !device.browser.starts_with(name) {
                device.browser = Text::Owned(name.to_owned());
                device.browser_version = Text::Owned(version.to_owned());
            } else if version.contains('.') || device.browser_version.is_empty() {
                // A bare major version is all that the shorter list has; the user agent's is no worse.
                device.browser_version = Text::Owned(version.to_owned());
            }
        }
    }

    fn apply_platform(&self, device: &mut Device<'static>) {
        let Some(platform) = self.platform else { return };
        let name = if platform == "Chromium OS" { "Chrome OS" } else { platform };
        if device.os != name && !(name == "Linux" && is_distribution(&device.os)) {
            device.os = Text::Owned(name.to_owned());
            device.os_version = Text::default();
        }
        if let Some(version) = self.platform_version {
            device.os_version = os_version(name, version);
        }
    }
}

/// Whether an operating system's name is that of a Linux distribution: those the hint would name otherwise are not.
fn is_distribution(os: &str) -> bool {
    !matches!(os, "" | "Windows" | "macOS" | "iOS" | "Android" | "Chrome OS")
}

/// Windows tells the version of its programming interface: 13 and up are Windows 11, 1 to 12 are Windows 10
/// (<https://learn.microsoft.com/microsoft-edge/web-platform/how-to-detect-win11>).
fn os_version(os: &str, version: &str) -> Text<'static> {
    if os == "Windows" {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        return Text::Borrowed(match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
            (13.., _) => "11",
            (1..=12, _) => "10",
            (0, 3) => "8.1",
            (0, 2) => "8",
            (0, 1) => "7",
            _ => "",
        });
    }
    let mut short = version;
    while let Some(shorter) = short.strip_suffix(".0") {
        short = shorter;
    }
    Text::Owned(short.to_owned())
}

/// The names that uap-core gives to the same browsers.
fn browser_name(brand: &str) -> &str {
    match brand {
        "Google Chrome" => "Chrome",
        "Microsoft Edge" => "Edge",
        "Opera GX" | "OperaMobile" => "Opera",
        "YaBrowser" | "Yandex" => "Yandex Browser",
        "Android WebView" => "Chrome Mobile WebView",
        other => other,
    }
}

/// Whether a brand is just what an application shows pages with, whose own name the user agent tells: such as Facebook's.
fn is_engine_of_another(brand: &str, browser: &str) -> bool {
    matches!(brand, "Chromium" | "Android WebView") && !browser.is_empty() && !browser.starts_with("Chrom")
}

fn unquoted(value: &str) -> &str {
    value.trim().trim_matches('"').trim()
}

/// The browser among the brands: not the engine that all share, nor the invented one that keeps servers from counting
/// on the list. Chromium itself where there is no other.
fn browser(list: &str) -> Option<(&str, &str)> {
    let brands: Vec<_> = Brands(list).collect();
    let real = |(name, _): &&(&str, &str)| !is_invented(name);
    let specific = |brand: &&(&str, &str)| real(brand) && brand.0 != "Chromium";
    brands.iter().find(specific).or_else(|| brands.iter().find(real)).copied()
}

/// `Not A;Brand`, `Not(A:Brand`, `Not.A/Brand` and so on.
fn is_invented(name: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphabetic).collect();
    letters.is_empty() || (letters.starts_with("Not") && letters.ends_with("Brand"))
}

/// Reads `"name";v="version", ...`. Names hold any character, so commas count only outside of quotes.
struct Brands<'a>(&'a str);

impl<'a> Iterator for Brands<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.quoted()?;
        let rest = self.0.trim_start();
        let Some(version) = rest.strip_prefix(';').map(str::trim_start).and_then(|rest| rest.strip_prefix("v=")) else {
            return Some((name, ""));
        };
        self.0 = version;
        Some((name, self.quoted().unwrap_or_default()))
    }
}

impl<'a> Brands<'a> {
    fn quoted(&mut self) -> Option<&'a str> {
        let (_, rest) = self.0.split_once('"')?;
        let end = rest.match_indices('"').map(|(at, _)| at).find(|at| !rest[..*at].ends_with('\\'))?;
        self.0 = &rest[end + 1..];
        Some(&rest[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> Map<'static> {
        Map(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    fn applied(device: Device<'static>, pairs: &[(&'static str, &'static str)]) -> Device<'static> {
        let map = map(pairs);
        let mut device = device;
        Hints::read(&map).apply(&mut device);
        device
    }

    #[test]
    fn no_two_sets_of_hints_have_one_key() {
        let all: Vec<_> = HEADERS.iter().map(|name| Hints::key("A", &map(&[(name, "?1")]))).collect();
        let apart: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(apart.len(), HEADERS.len());
        assert_eq!(
            Hints::key("A", &map(&[("sec-ch-ua-arch", "x86")])),
            Hints::key("A", &Map::default()),
            "is not read"
        );
    }

    #[test]
    fn the_browser_is_found_among_the_brands() {
        for (list, expected) in [
            (
                r#""Chromium";v="124.0.6367.91", "Google Chrome";v="124.0.6367.91", "Not-A.Brand";v="99.0.0.0""#,
                Some(("Google Chrome", "124.0.6367.91")),
            ),
            (r#"" Not;A Brand";v="99", "Microsoft Edge";v="97", "Chromium";v="97""#, Some(("Microsoft Edge", "97"))),
            (r#""Not(A:Brand";v="8", "Chromium";v="144""#, Some(("Chromium", "144"))),
            (r#""Not,A \"Brand";v="8", "Brave";v="1""#, Some(("Brave", "1"))),
            (r#""Brave""#, Some(("Brave", ""))),
            (r#""broken"#, None),
            ("", None),
        ] {
            assert_eq!(browser(list), expected, "{list}");
        }
    }

    #[test]
    fn windows_11_is_told_from_10() {
        let frozen = Device { os: "Windows".into(), os_version: "10".into(), ..Device::default() };
        for (version, expected) in
            [("15.0.0", "11"), ("13.0.0", "11"), ("10.0.0", "10"), ("0.3.0", "8.1"), ("0.1", "7")]
        {
            let told = [("sec-ch-ua-platform", "\"Windows\""), ("sec-ch-ua-platform-version", version)];
            assert_eq!(applied(frozen.clone(), &told).os_version, expected, "{version}");
        }
    }

    #[test]
    fn a_frozen_android_is_unfrozen() {
        let frozen = Device {
            os: "Android".into(),
            os_version: "10".into(),
            browser: "Chrome Mobile".into(),
            browser_version: "124.0.0.0".into(),
            ..Device::default()
        };
        let told = [
            ("sec-ch-ua-platform", "\"Android\""),
            ("sec-ch-ua-platform-version", "\"14.0.0\""),
            ("sec-ch-ua-model", "\"Pixel 8\""),
            ("sec-ch-ua-full-version-list", r#""Google Chrome";v="124.0.6367.113", "Chromium";v="124.0.6367.113""#),
        ];
        let device = applied(frozen, &told);
        assert_eq!((&*device.os_version, &*device.model), ("14", "Pixel 8"));
        assert_eq!((&*device.browser, &*device.browser_version), ("Chrome Mobile", "124.0.6367.113"));
    }

    #[test]
    fn a_browser_that_poses_as_chrome_is_named_and_a_distribution_kept() {
        let posing = Device { os: "Ubuntu".into(), browser: "Chrome".into(), ..Device::default() };
        let told = [("sec-ch-ua", r#""Brave";v="124", "Chromium";v="124""#), ("sec-ch-ua-platform", "\"Linux\"")];
        let device = applied(posing, &told);
        assert_eq!((&*device.browser, &*device.browser_version, &*device.os), ("Brave", "124", "Ubuntu"));
    }

    #[test]
    fn the_engine_of_an_application_takes_the_place_of_no_name() {
        for (browser, brand, expected) in [
            ("Facebook", "Android WebView", "Facebook"),
            ("DuckDuckGo Mobile", "Chromium", "DuckDuckGo Mobile"),
            ("Chrome Mobile", "Android WebView", "Chrome Mobile WebView"),
            ("Chrome", "Chromium", "Chromium"),
            ("", "Chromium", "Chromium"),
        ] {
            let told = Device { browser: browser.into(), browser_version: "7.1".into(), ..Device::default() };
            let list: &'static str = format!("\"Not A;Brand\";v=\"99\", \"{brand}\";v=\"124.0\"").leak();
            let device = applied(told, &[("sec-ch-ua", list)]);
            let version = if browser == expected { "7.1" } else { "124.0" };
            assert_eq!((&*device.browser, &*device.browser_version), (expected, version), "{browser} {brand}");
        }
    }

    #[test]
    fn another_platform_forgets_the_version_of_the_first() {
        let posing = Device { os: "macOS".into(), os_version: "10.15.7".into(), ..Device::default() };
        let device = applied(posing, &[("sec-ch-ua-platform", "\"Chromium OS\"")]);
        assert_eq!((&*device.os, &*device.os_version), ("Chrome OS", ""));
    }
}
