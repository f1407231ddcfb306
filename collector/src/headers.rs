//! The headers of a request, wherever they were read.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The headers of a request.
#[derive(Debug, Clone, Copy)]
pub enum Headers<'a> {
    /// As hyper keeps them.
    Kept(&'a HeaderMap),
    /// As they lie in the buffer that the request was read into.
    Read(&'a [httparse::Header<'a>]),
}

impl<'a> From<&'a HeaderMap> for Headers<'a> {
    fn from(headers: &'a HeaderMap) -> Self {
        Self::Kept(headers)
    }
}

impl<'a> Headers<'a> {
    /// The first value of a name.
    #[must_use]
    pub fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Kept(headers) => headers.get(name).map(HeaderValue::as_bytes),
            Self::Read(headers) => headers.iter().find(|header| is(header, name)).map(|header| header.value),
        }
    }

    /// The first value of a name, where it is text.
    #[must_use]
    pub fn text(self, name: &HeaderName) -> Option<&'a str> {
        self.get(name).and_then(text)
    }

    /// All values of a name, in the order in which they were sent. They may hold items that are no text beside those that
    /// are.
    pub fn all(self, name: HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        let (kept, read) = self.parts();
        let kept = kept.map(|headers| headers.get_all(&name)).into_iter().flatten().map(HeaderValue::as_bytes);
        let read = read.iter().filter(move |header| is(header, &name)).map(|header| header.value);
        kept.chain(read)
    }

    /// The headers whose lower-case names begin with `prefix` and whose values are text.
    pub fn with_prefix<'n>(self, prefix: &'n str) -> impl Iterator<Item = (Cow<'a, str>, &'a str)> + use<'a, 'n> {
        let (kept, read) = self.parts();
        let kept = kept.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let read = read.iter().map(|header| (header.name, header.value));
        let named = kept.chain(read).filter(move |(name, _)| begins(name, prefix));
        named.filter_map(|(name, value)| Some((lower(name), text(value)?)))
    }

    fn parts(self) -> (Option<&'a HeaderMap>, &'a [httparse::Header<'a>]) {
        match self {
            Self::Kept(headers) => (Some(headers), &[]),
            Self::Read(headers) => (None, headers),
        }
    }
}

fn is(header: &httparse::Header<'_>, name: &HeaderName) -> bool {
    header.name.eq_ignore_ascii_case(name.as_str())
}

fn begins(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// A value of visible ASCII, spaces and tabs: what `HeaderValue::to_str` takes for text.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if is_text { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use hyper::header::{COOKIE, ORIGIN};

    use super::*;

    const SENT: [(&str, &[u8]); 7] = [
        ("Host", b"a"),
        ("Cookie", b"a=1"),
        ("cookie", b"b=2"),
        ("COOKIE", b"c=\xff"),
        ("Sec-CH-UA", b"x"),
        ("sec-ch-ua-model", b"\xc3\xa4"),
        ("sec-ch-ua-platform", b"\"L\""),
    ];

    #[test]
    fn what_is_read_is_found_as_in_what_is_kept() {
        let read = SENT.map(|(name, value)| httparse::Header { name, value });
        let mut kept = HeaderMap::new();
        for (name, value) in SENT {
            kept.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        for headers in [Headers::Read(&read), Headers::from(&kept)] {
            assert_eq!((headers.get(&COOKIE), headers.text(&COOKIE)), (Some(&b"a=1"[..]), Some("a=1")));
            assert_eq!(headers.all(COOKIE).collect::<Vec<_>>(), [&b"a=1"[..], b"b=2", b"c=\xff"]);
            assert_eq!(headers.all(COOKIE).rev().collect::<Vec<_>>(), [&b"c=\xff"[..], b"b=2", b"a=1"]);
            assert_eq!(headers.get(&ORIGIN), None);
            let hints: Vec<_> = headers.with_prefix("sec-ch-ua").collect();
            assert_eq!(hints, [("sec-ch-ua".into(), "x"), ("sec-ch-ua-platform".into(), "\"L\"")]);
        }
        let every: Vec<u8> = (0..=255).collect();
        for byte in every.iter().filter(|byte| HeaderValue::from_bytes(&[**byte]).is_ok()) {
            let known = HeaderValue::from_bytes(&[*byte]).unwrap();
            assert_eq!(text(&[*byte]), known.to_str().ok(), "{byte}");
        }
    }
}
