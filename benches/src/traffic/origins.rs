//! What brings visitors: search engines, networks, mails, links on other sites, campaigns.

use schemas::SourceKind;

/// One way to come to a site from outside, with all that the enricher makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Class of the source.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// Address that the visitor came from; empty for none.
    pub referrer: String,
    /// Its host.
    pub referrer_host: String,
    /// Search term, where the referrer tells.
    pub term: String,
    /// The link's campaign, where it has one.
    pub campaign: Option<Campaign>,
    /// How many of a thousand arrivals.
    pub share: usize,
}

/// Parameters of a campaign's link.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    /// utm_source.
    pub source: &'static str,
    /// utm_medium.
    pub medium: &'static str,
    /// utm_campaign.
    pub name: String,
    /// Parameter of the click id; empty where the link has none.
    pub click_id_kind: &'static str,
}

impl Campaign {
    /// The query of the link, without a click id.
    #[must_use]
    pub fn query(&self) -> String {
        format!("utm_source={}&utm_medium={}&utm_campaign={}", self.source, self.medium, self.name)
    }
}

fn plain(kind: SourceKind, name: &str, referrer: &str, term: &str, share: usize) -> Origin {
    let host = referrer.split('/').nth(2).unwrap_or_default().to_owned();
    let (name, referrer, term) = (name.to_owned(), referrer.to_owned(), term.to_owned());
    Origin { kind, name, referrer, referrer_host: host, term, campaign: None, share }
}

fn campaign(name: String, (source, medium, click_id_kind): (&'static str, &'static str, &'static str)) -> Origin {
    let referrer = if medium == "cpc" { "https://www.google.com/" } else { "" };
    let campaign = Some(Campaign { source, medium, name, click_id_kind });
    Origin { campaign, ..plain(SourceKind::Campaign, source, referrer, "", 12) }
}

/// All origins, opened mails last; their shares add up to a thousand, near enough.
#[must_use]
pub fn origins() -> Vec<Origin> {
    use SourceKind::{Assistant, Direct, Mail, Referral, Search, Social};
    let mut origins = vec![
        plain(Direct, "", "", "", 290),
        plain(Search, "Google", "https://www.google.com/", "", 200),
        plain(Search, "Bing", "https://www.bing.com/search?q=industrial+pumps", "industrial pumps", 30),
        plain(Search, "Bing", "https://www.bing.com/search?q=pump+prices", "pump prices", 15),
        plain(Search, "DuckDuckGo", "https://duckduckgo.com/", "", 25),
        plain(Social, "LinkedIn", "https://www.linkedin.com/feed", "", 50),
        plain(Social, "Facebook", "https://l.facebook.com/l.php", "", 20),
        plain(Social, "XING", "https://www.xing.com/", "", 10),
        plain(Mail, "Gmail", "https://mail.google.com/mail/u/0", "", 20),
        plain(Mail, "Outlook.com", "https://outlook.live.com/", "", 15),
        plain(Assistant, "ChatGPT", "https://chatgpt.com/", "", 25),
        plain(Assistant, "Perplexity", "https://www.perplexity.ai/", "", 10),
    ];
    for number in 0..30 {
        let host = format!("partner-{number}.example.org");
        origins.push(plain(Referral, &host, &format!("https://{host}/links/{number}.html"), "", 4));
    }
    let channels =
        [("google", "cpc", "gclid"), ("newsletter", "email", ""), ("linkedin", "paid-social", ""), ("fair", "qr", "")];
    for number in 0..14 {
        origins.push(campaign(format!("campaign-{number}"), channels[number % channels.len()]));
    }
    origins.push(plain(Mail, "", "", "", 0));
    origins
}

/// Robots: what the user agent is, and the name that is known for it.
pub const ROBOTS: &[(&str, &str)] = &[
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "bingbot"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "GPTBot",
    ),
    ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "AhrefsBot"),
    ("curl/8.5.0", ""),
    ("python-requests/2.32.3", ""),
];
