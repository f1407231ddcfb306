//! Whether a program made the hit. Such hits are kept and marked: analysts leave them out, operators find them.

use std::borrow::Cow;

use schemas::{EnrichedHit, Kind, Protocol, VisitorIdSource};

use super::{Context, lend};

/// Programs that fetch a mail's images for the person who opens it: the hit is a person's.
const MAIL_PROXIES: [&str; 3] = ["GoogleImageProxy", "YahooMailProxy", "OutlookImageProxy"];

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    let raw = &hit.hit;
    if raw.protocol == Protocol::Api && raw.visitor_id_source == VisitorIdSource::Client {
        // A server reports what a person did whom it knows. The user agent is the server's, and tells nothing of them.
        return;
    }
    if raw.user_agent.trim().is_empty() {
        // Every browser has a user agent. Servers that report for a person through the API may well send none.
        hit.is_bot = matches!(raw.protocol, Protocol::Pixel | Protocol::Tag);
        return;
    }
    if raw.kind == Kind::MailOpen && MAIL_PROXIES.iter().any(|proxy| raw.user_agent.contains(proxy)) {
        return;
    }
    if context.user_agent.is_bot {
        hit.is_bot = true;
        hit.bot_name = lend(&context.user_agent.bot_name);
    } else {
        hit.bot_name = Cow::Borrowed("");
    }
}

#[cfg(test)]
mod tests {
    use schemas::RawHit;

    use super::super::testing::Knowledge;
    use super::*;
    use crate::data::user_agents::UserAgents;

    fn bot(user_agent: &str, kind: Kind, protocol: Protocol) -> (bool, String) {
        bot_of(VisitorIdSource::Cookie, user_agent, kind, protocol)
    }

    fn bot_of(visitor_id_source: VisitorIdSource, user_agent: &str, kind: Kind, protocol: Protocol) -> (bool, String) {
        let facts = UserAgents::without_expressions().look_up(user_agent, &schemas::Map::default()).0;
        let knowledge = Knowledge { user_agent: (*facts).clone(), ..Knowledge::default() };
        let raw = RawHit { user_agent: user_agent.into(), kind, protocol, visitor_id_source, ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        add(&mut hit, &knowledge.context());
        (hit.is_bot, hit.bot_name.into_owned())
    }

    #[test]
    fn a_missing_user_agent_is_a_robot_unless_a_server_reports() {
        assert_eq!(bot("", Kind::PageView, Protocol::Pixel), (true, String::new()));
        assert_eq!(bot(" ", Kind::PageView, Protocol::Tag), (true, String::new()));
        assert_eq!(bot("", Kind::PageView, Protocol::Api), (false, String::new()));
    }

    #[test]
    fn a_robot_is_named() {
        assert_eq!(bot("curl/8.5.0", Kind::PageView, Protocol::Pixel), (true, "curl".to_owned()));
    }

    #[test]
    fn a_server_that_reports_for_a_visitor_it_knows_is_no_robot() {
        let of = |source, protocol| bot_of(source, "curl/8.5.0", Kind::Form, protocol).0;
        assert!(!of(VisitorIdSource::Client, Protocol::Api));
        assert!(of(VisitorIdSource::Cookie, Protocol::Api));
        assert!(of(VisitorIdSource::Client, Protocol::Pixel));
    }

    #[test]
    fn a_mail_opened_through_a_proxy_is_a_persons() {
        let proxy = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
        assert_eq!(bot(proxy, Kind::MailOpen, Protocol::Pixel), (false, String::new()));
    }
}
