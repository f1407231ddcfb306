//! The cookies that the collector sets (RFC 6265bis).

use hyper::header::HeaderValue;

/// Who: a UUID.
pub const VISITOR: &str = "hitmeter_visitor";
/// Which session: a UUIDv7.
pub const SESSION: &str = "hitmeter_session";
/// The person objects: `1`.
pub const OPT_OUT: &str = "hitmeter_opt_out";

/// 13 months, the longest that the French and other authorities permit such a cookie.
pub const THIRTEEN_MONTHS_SECONDS: u64 = 395 * 24 * 3600;

/// Where cookies are valid.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The domain and all below it; the answering host alone where absent.
    pub domain: Option<&'a str>,
    /// True where the client came by https. Only then may a page of another site have the cookie sent along.
    pub secure: bool,
}

/// A `Set-Cookie` header. Nothing where the value can't stand in one.
#[must_use]
pub fn set(name: &str, value: &str, max_age_seconds: u64, scope: Scope<'_>) -> Option<HeaderValue> {
    let max_age = max_age_seconds.to_string();
    let (domain_is, domain) = scope.domain.map_or(("", ""), |domain| ("; Domain=", domain));
    let reach = if scope.secure { "; SameSite=None; Secure" } else { "; SameSite=Lax" };
    // In one piece of the right length: every pixel's answer has one.
    HeaderValue::try_from([name, "=", value, "; Path=/; Max-Age=", &max_age, domain_is, domain, reach].concat()).ok()
}

/// A `Set-Cookie` header that removes a cookie.
#[must_use]
pub fn remove(name: &str, scope: Scope<'_>) -> Option<HeaderValue> {
    set(name, "", 0, scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_https_other_sites_pages_send_it_too() {
        let secure = set(SESSION, "x", 1800, Scope { domain: Some("example.com"), secure: true }).unwrap();
        assert_eq!(secure, "hitmeter_session=x; Path=/; Max-Age=1800; Domain=example.com; SameSite=None; Secure");
        let plain = set(SESSION, "x", 1800, Scope { domain: None, secure: false }).unwrap();
        assert_eq!(plain, "hitmeter_session=x; Path=/; Max-Age=1800; SameSite=Lax");
        assert_eq!(
            remove(VISITOR, Scope { domain: None, secure: false }).unwrap(),
            "hitmeter_visitor=; Path=/; Max-Age=0; SameSite=Lax"
        );
    }
}
