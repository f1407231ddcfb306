//! What is asked for, and what is answered.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER, SET_COOKIE, VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use service::endpoint::Endpoint;
use service::sites::{Site, Sites, SitesFile};

use crate::body::{self, BodyError, Bounds};
use crate::client::{Client, Forwarding, Peer};
use crate::daily_keys::DailyKeys;
use crate::headers::Headers;
use crate::metrics::Metrics;
use crate::objections::Objections;
use crate::opt_out::{self, Wish};
use crate::outcome::{Outcome, Received};
use crate::pixel_request::PixelRequest;
use crate::publisher::Publisher;
use crate::tag::{self, TagSettings};
use crate::{Options, api, pixel};

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// Where pixels are.
pub const PIXEL: &str = "/p.gif";
const OUTCOME: HeaderName = HeaderName::from_static("x-hitmeter-outcome");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The client hints that tell what the User-Agent header no longer does.
const ACCEPT_CLIENT_HINTS: (HeaderName, HeaderValue) = (
    HeaderName::from_static("accept-ch"),
    HeaderValue::from_static("Sec-CH-UA-Platform-Version, Sec-CH-UA-Model, Sec-CH-UA-Full-Version-List"),
);
/// What is said of a site that is in no file.
pub const UNKNOWN_SITE: &str = "the site is not known";
/// What is said of a site whose hits must not come here.
pub const OTHER_REGION: &str = "the site belongs to another region; send its hits to a collector there";
/// A client that could not be served tries again after this many seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// A pixel's hit that was received and is ready to be published.
#[derive(Debug)]
pub(crate) struct PixelHit {
    started: Instant,
    received: Received,
    prepared: pixel::Prepared,
}

/// All that answering takes.
#[derive(Debug)]
pub struct Collector {
    /// The sites.
    pub sites: Arc<SitesFile>,
    /// Makes hits durable.
    pub publisher: Arc<Publisher>,
    /// The keys of the daily visitor hashes.
    pub daily_keys: DailyKeys,
    /// Who objects.
    pub objections: Objections,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Health and readiness.
    pub endpoint: Endpoint,
    /// The command line.
    pub options: Options,
}

impl Collector {
    /// Answers a request that came from `peer`.
    pub async fn answer<B>(&self, peer: Peer, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let started = Instant::now();
        let answer = self.route(peer, request).await;
        self.answered(started, answer)
    }

    /// Counts a request that was answered.
    fn answered(&self, started: Instant, answer: Answer) -> Answer {
        self.metrics.request(answer.status());
        self.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
        answer
    }

    async fn route<B>(&self, peer: Peer, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let client = self.client(peer, &head.headers);
        let (method, path) = (&head.method, head.uri.path());
        match (method, path) {
            (&Method::GET, PIXEL) => self.pixel(self.receive(&client, head.uri.query().unwrap_or_default())).await,
            (&Method::HEAD, PIXEL) => gif(StatusCode::OK),
            (&Method::POST, "/v1/hits") => {
                let bounds = Bounds { bytes: self.options.body_bytes, time: self.options.body_timeout };
                let answer = match body::read(&head.headers, body, bounds).await {
                    Ok(body) => self.hits(api::prepare(self, &client, &body)).await,
                    Err(BodyError::NotDecodable { encoding, sent }) => {
                        let problem = api::Problem::Undecodable(encoding);
                        self.hits(api::nothing_read(self, &client, &sent, &problem)).await
                    }
                    Err(error) => unreadable(&error),
                };
                self.with_cors(&client, answer)
            }
            (&Method::OPTIONS, "/v1/hits" | "/opt-out" | "/opt-in" | "/opt-status") => self.preflight(&client),
            (&Method::GET | &Method::HEAD, "/t.js") => script(&head.headers),
            (&Method::GET | &Method::HEAD, _) if path.starts_with("/v1/sites/") => {
                self.with_cors(&client, self.tag_settings(&path["/v1/sites/".len()..]))
            }
            (&Method::GET | &Method::POST, "/opt-out") => self.opt(Wish::OptOut, &client, &head.headers),
            (&Method::GET | &Method::POST, "/opt-in") => self.opt(Wish::OptIn, &client, &head.headers),
            (&Method::GET | &Method::POST, "/opt-status") => self.opt(Wish::Status, &client, &head.headers),
            (&Method::GET | &Method::HEAD, "/health" | "/ready") => {
                let empty = Request::builder().method(method).uri(path).body(()).unwrap_or_default();
                self.endpoint.answer(&empty)
            }
            (_, PIXEL | "/t.js" | "/health" | "/ready") => method_not_allowed("GET"),
            (_, "/v1/hits") => method_not_allowed("POST, OPTIONS"),
            (_, "/opt-out" | "/opt-in" | "/opt-status") => method_not_allowed("GET, POST, OPTIONS"),
            _ => problem(StatusCode::NOT_FOUND, "there is nothing here; hits go to /p.gif or /v1/hits"),
        }
    }

    fn client<'a>(&self, peer: Peer, headers: impl Into<Headers<'a>>) -> Client<'a> {
        Client::new(peer, headers, &self.forwarding())
    }

    /// The proxies that are trusted.
    pub(crate) fn forwarding(&self) -> Forwarding<'_> {
        Forwarding { trusted: &self.options.trusted_proxy, header: self.options.forwarding_header }
    }

    fn receive(&self, client: &Client<'_>, query: &str) -> PixelHit {
        let started = Instant::now();
        let received = Received::count(&self.metrics);
        PixelHit { started, received, prepared: pixel::prepare(self, client, query) }
    }

    async fn pixel(&self, hit: PixelHit) -> Answer {
        let PixelHit { received, prepared, .. } = hit;
        let result = self.publisher.publish(prepared.messages).await;
        let outcome = prepared.outcome.after(result);
        let status = if result.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        received.close(outcome);
        let mut answer = gif(status);
        answer.headers_mut().insert(OUTCOME, HeaderValue::from_static(outcome.as_str()));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
        }
        with_cookies(answer, prepared.cookies)
    }

    /// The hit of a pixel that was read without hyper.
    pub(crate) fn receive_pixel(&self, peer: Peer, request: &PixelRequest<'_>) -> PixelHit {
        self.receive(&self.client(peer, Headers::Read(request.headers)), request.query)
    }

    /// Answers it, with a body that is [`pixel::GIF`].
    pub(crate) async fn answer_pixel(&self, hit: PixelHit) -> Answer {
        let started = hit.started;
        self.answered(started, self.pixel(hit).await)
    }

    async fn hits(&self, mut prepared: api::Prepared) -> Answer {
        let result = self.publisher.publish(std::mem::take(&mut prepared.messages)).await;
        prepared.settle(result);
        if let Err(error) = result {
            let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
            answer.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
            return answer;
        }
        with_cookies(json(prepared.answer.status(), &prepared.answer), prepared.cookies)
    }

    /// The site with a key, or what becomes of hits that name it.
    ///
    /// # Errors
    /// Where it is not known, or its hits must not come here.
    pub fn site<'a>(&self, sites: &'a Sites, key: &str) -> Result<&'a Arc<Site>, Outcome> {
        let site = sites.get(key).ok_or(Outcome::DroppedUnknownSite)?;
        if site.belongs_to(self.options.region.as_deref()) { Ok(site) } else { Err(Outcome::DroppedRegion) }
    }

    fn tag_settings(&self, key: &str) -> Answer {
        let sites = self.sites.current();
        let site = match self.site(&sites, key) {
            Ok(site) => site,
            Err(Outcome::DroppedRegion) => return problem(StatusCode::MISDIRECTED_REQUEST, OTHER_REGION),
            Err(_) => return problem(StatusCode::NOT_FOUND, UNKNOWN_SITE),
        };
        let mut answer = json(StatusCode::OK, &TagSettings::of(key, site));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        answer
    }

    fn opt(&self, wish: Wish, client: &Client<'_>, headers: &hyper::HeaderMap) -> Answer {
        let same_site = headers.get(SEC_FETCH_SITE).is_none_or(|site| site != "cross-site");
        if !opt_out::is_permitted(wish, same_site, self.known_origin(client).is_some()) {
            let message = "a page of another site cannot take an objection back; open /opt-in itself";
            return problem(StatusCode::FORBIDDEN, message);
        }
        let opted_out = opt_out::opted_out(wish, client);
        let answer = if client.wants_json() {
            json(StatusCode::OK, &serde_json::json!({ "opted_out": opted_out }))
        } else {
            respond(StatusCode::OK, "text/html; charset=utf-8", opt_out::page(opted_out).into())
        };
        let cookies = opt_out::set_cookies(wish, client, &self.sites.current());
        self.with_cors(client, with_cookies(answer, cookies))
    }

    /// The origin that a script asks from, where it is one of a site's.
    fn known_origin(&self, client: &Client<'_>) -> Option<HeaderValue> {
        let origin = client.origin()?;
        let known = self.sites.current().iter().any(|(_, site)| site.allows_origin(&origin));
        known.then(|| HeaderValue::try_from(origin.as_ref()).ok()).flatten()
    }

    /// Lets the scripts of configured origins read the answer (Fetch standard, "CORS protocol").
    fn with_cors(&self, client: &Client<'_>, mut answer: Answer) -> Answer {
        answer.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = self.known_origin(client) {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            answer.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
        }
        answer
    }

    fn preflight(&self, client: &Client<'_>) -> Answer {
        let mut answer = self.with_cors(client, respond(StatusCode::NO_CONTENT, "text/plain", Bytes::new()));
        if answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            let headers = answer.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("content-type, content-encoding, accept"),
            );
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        }
        answer
    }

    /// Counts parameters that were left out of a hit.
    pub fn count_invalid(&self, names: &[&str]) {
        for name in names {
            self.metrics.invalid_parameters.with_label_values(&[name]).inc();
        }
    }
}

fn unreadable(error: &BodyError) -> Answer {
    let status = match error {
        BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        BodyError::UnknownEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        BodyError::BrokenOff | BodyError::NotDecodable { .. } => StatusCode::BAD_REQUEST,
    };
    problem(status, &error.to_string())
}

fn script(headers: &hyper::HeaderMap) -> Answer {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let compressed = tag::takes_gzip(accepted) && !tag::COMPRESSED.is_empty();
    let etag = tag::etag(compressed);
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let (status, body) = match (known, compressed) {
        (true, _) => (StatusCode::NOT_MODIFIED, Bytes::new()),
        (false, true) => (StatusCode::OK, tag::COMPRESSED.clone()),
        (false, false) => (StatusCode::OK, Bytes::from_static(tag::SCRIPT.as_bytes())),
    };
    let mut answer = respond(status, "text/javascript; charset=utf-8", body);
    let (name, hints) = ACCEPT_CLIENT_HINTS;
    answer.headers_mut().insert(name, hints);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    answer.headers_mut().insert(ETAG, HeaderValue::from_static(etag));
    if compressed && !known {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

fn gif(status: StatusCode) -> Answer {
    respond(status, "image/gif", Bytes::from_static(pixel::GIF))
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, "application/json", body.into()),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into()),
    }
}

fn problem(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({ "error": message }))
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// An answer that nobody may keep, unless it says so.
fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn with_cookies(mut answer: Answer, cookies: Vec<HeaderValue>) -> Answer {
    for cookie in cookies {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}
