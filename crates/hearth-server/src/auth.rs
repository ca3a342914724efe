//! Who may ask: the host a request is meant for, the web page it comes from, the key it carries.
//!
//! Checked in this order, for every method and every path, before routing and before a byte of the body is read. A web
//! page can make a browser send requests to this machine: under a foreign name that resolves to it (DNS rebinding), which
//! the host shows, or across origins, which the origin shows. Neither needs an answer to do harm, so both are refused
//! instead of being answered without CORS headers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hearth_engine::{Owner, Priority};

use crate::{app::App, error::ApiError};

/// Headers a page of a configured origin may send; `x-stainless-…` as well, which the SDKs add.
const ALLOWED_HEADERS: &str =
    "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, openai-beta";
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
/// Headers of ours that such a page may read.
const EXPOSED_HEADERS: HeaderValue =
    HeaderValue::from_static("hearth-notice, request-id, x-request-id, retry-after");

/// Who asks. Taken by handlers.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose work it is.
    pub owner: Owner,
    /// How urgent that owner's work is unless the request says otherwise.
    pub priority: Priority,
    /// The request's id, `req_…`.
    pub request_id: Arc<str>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::internal("a route without the middleware of auth.rs"))
    }
}

/// Names and origins this server answers to.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Whether only this machine can reach the server: then a loopback address is what it is called.
    pub is_loopback: bool,
    /// Further host names, lower case, without port.
    pub hosts: Vec<String>,
    /// Web origins that may ask, as browsers write them.
    pub origins: Vec<Origin>,
}

/// Where a web page comes from: `https://chat.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Why a text is no origin that can be configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Pages of unknown origin, files and sandboxes all look the same.
    #[error("origin '{0}' stands for pages of anybody and cannot be allowed")]
    Anybody(String),
    /// No scheme, or a path after the host.
    #[error("'{0}' is no origin; expected SCHEME://HOST[:PORT]")]
    Form(String),
}

impl Origin {
    /// Checks an origin that somebody configures.
    ///
    /// # Errors
    ///
    /// It is `null`, `*` or of a file, or has another form.
    pub fn parse(text: &str) -> Result<Origin, OriginError> {
        let text = text.to_ascii_lowercase();
        if text == "null" || text == "*" || text.starts_with("file:") {
            return Err(OriginError::Anybody(text));
        }
        let is_host = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"/\\?#@*".contains(&byte))
        };
        let is_scheme = |scheme: &str| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        match text.split_once("://") {
            Some((scheme, host)) if is_scheme(scheme) && is_host(host) => Ok(Origin(text)),
            _ => Err(OriginError::Form(text)),
        }
    }
}

impl Access {
    /// Checks what the request is meant for.
    fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(ApiError::invalid(
                None,
                "the request must have one Host header",
            ));
        };
        let host = host.to_str().unwrap_or("\u{fffd}");
        if host.is_empty() {
            return Err(ApiError::invalid(None, "the Host header is empty"));
        }
        // A request line may carry a host of its own, which proxies believe.
        let authority = uri.authority().map(|authority| authority.as_str());
        if [Some(host), authority]
            .into_iter()
            .flatten()
            .all(|host| self.is_ours(host))
        {
            return Ok(());
        }
        let shown: String = host.chars().take(100).collect();
        Err(ApiError::forbidden(format!(
            "host '{shown}' is not a name of this server; 'hearth serve --allow-host NAME' makes it one"
        )))
    }

    /// Whether a host, with or without port, is one of this server's names.
    fn is_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        if name == "localhost" || self.hosts.contains(&name) {
            return true;
        }
        match address(&name) {
            // A page cannot make a browser send a numeric host that is not the machine it reaches.
            Some(address) => !self.is_loopback || is_loopback(address),
            None => false,
        }
    }

    /// The configured origin a request comes from, `None` when it comes from no page or from our own.
    fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(value) = origins.next() else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or("\u{fffd}").to_ascii_lowercase();
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let is_single = origins.next().is_none();
        if is_single && self.origins.iter().any(|origin| origin.0 == text) {
            return Ok(Some(value.clone()));
        }
        if is_single && host.is_some_and(|host| self.is_own(&text, host)) {
            return Ok(None);
        }
        let shown: String = text.chars().take(100).collect();
        Err(ApiError::forbidden(format!(
            "pages of origin '{shown}' may not ask this server; 'hearth serve --allow-origin ORIGIN' allows one"
        )))
    }

    /// Whether an origin is the one this server's own page has, given the request's host (which was checked).
    fn is_own(&self, origin: &str, host: &str) -> bool {
        let own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        own.is_some_and(|own| own == host.to_ascii_lowercase())
    }
}

/// The name in `name[:port]` or `[v6][:port]`; nothing when the form is another.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

/// The address a host is when it is one, in full notation only: `127.1` and `0x7f000001` are none.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Whether an address is this machine's own, IPv4 in IPv6's clothes included.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The keys a request shows, in every form.
fn shown_keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .filter_map(|value| {
            let value = value.as_bytes();
            let (scheme, key) = value.split_at_checked("bearer ".len())?;
            scheme
                .eq_ignore_ascii_case(b"bearer ")
                .then(|| key.trim_ascii())
        });
    let plain = headers
        .get_all("x-api-key")
        .iter()
        .map(HeaderValue::as_bytes);
    bearer.chain(plain)
}

/// The layer: host, then origin, then key; then the request with its [`Caller`] goes on.
pub async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let origin = match app
        .access
        .check_host(request.headers(), request.uri())
        .and_then(|()| app.access.check_origin(request.headers()))
    {
        Ok(origin) => origin,
        Err(error) => return error.into_response(),
    };
    if let Some(origin) = &origin
        && is_preflight(&request)
    {
        return preflight(request.headers(), origin);
    }
    let mut response = match admit(&app, &mut request) {
        Ok(who) => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(who);
            response
        }
        Err(error) => error.into_response(),
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Checks the key and notes who asks.
fn admit(app: &App, request: &mut Request) -> Result<Who, ApiError> {
    let is_open = matches!(*request.method(), Method::GET | Method::HEAD)
        && request.uri().path() == "/health";
    let (owner, priority, who) = match app.keys.admit(shown_keys(request.headers()))? {
        Some(key) => (key.owner(), key.priority, Who(Arc::from(key.name))),
        None if is_open || !app.keys.are_needed() => Default::default(),
        None => return Err(ApiError::unauthorized()),
    };
    let request_id = request.extensions().get::<RequestId>().cloned();
    let request_id = request_id.unwrap_or_else(RequestId::new).0;
    request.extensions_mut().insert(Caller {
        owner,
        priority,
        request_id,
    });
    Ok(who)
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a browser asks before a page's request; only for configured origins, and without a key, which it never sends here.
fn preflight(headers: &HeaderMap, origin: &HeaderValue) -> Response {
    let asked = headers
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|value| value.to_str().ok());
    let stainless = asked
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| {
            name.len() < 100
                && name.to_ascii_lowercase().starts_with("x-stainless-")
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
    let allowed: Vec<&str> = std::iter::once(ALLOWED_HEADERS)
        .chain(stainless.take(32))
        .collect();
    let allowed = HeaderValue::from_str(&allowed.join(", ")).expect("names of headers are ASCII");
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// The name of the key a request came with, for the log.
#[derive(Clone)]
pub(crate) struct Who(pub Arc<str>);

impl Default for Who {
    fn default() -> Self {
        Who(Arc::from(""))
    }
}

/// What a request is called in logs, in errors and in the answer's head.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// A new one.
    pub fn new() -> Self {
        RequestId(Arc::from(crate::ids::new("req_")))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        RequestId::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn status(result: Result<impl std::fmt::Debug, ApiError>) -> u16 {
        result.map_or_else(|error| error.status.as_u16(), |_| 200)
    }

    fn local() -> Access {
        Access {
            is_loopback: true,
            hosts: vec!["mybox.lan".into()],
            origins: vec![Origin::parse("https://Chat.example:8443").unwrap()],
        }
    }

    #[test]
    fn hosts_on_loopback() {
        let cases = [
            ("localhost", 200),
            ("LocalHost:4327", 200),
            ("localhost:", 200),
            ("127.0.0.1", 200),
            ("127.0.0.1:1", 200),
            ("127.8.9.10:80", 200),
            ("[::1]", 200),
            ("[::1]:4327", 200),
            ("[0:0:0:0:0:0:0:1]:4327", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("mybox.lan:4327", 200),
            ("evil.example", 403),
            ("evil.example:4327", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost.evil.example", 403),
            ("evil-localhost", 403),
            ("localhost.", 403),
            ("x.localhost", 403),
            ("localhost@evil.example", 403),
            ("evil.example@localhost", 403),
            ("localhost:80:80", 403),
            ("localhost:http", 403),
            ("localhost:123456", 403),
            ("localhost/", 403),
            ("localhost, evil.example", 403),
            ("192.168.0.7", 403),
            ("0.0.0.0", 403),
            ("127.1", 403),
            ("2130706433", 403),
            ("0x7f000001", 403),
            ("[::]", 403),
            ("[::1", 403),
            ("::1", 403),
            ("[::1]evil", 403),
            ("[fe80::1%25lo]", 403),
            ("\u{fc}.example", 403),
            ("", 400),
        ];
        for (host, expected) in cases {
            let headers = headers(&[("host", host)]);
            let found = status(local().check_host(&headers, &Uri::from_static("/v1/models")));
            assert_eq!(found, expected, "{host:?}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let uri = Uri::from_static("/");
        assert_eq!(status(local().check_host(&headers(&[]), &uri)), 400);
        let two = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert_eq!(status(local().check_host(&two, &uri)), 400);
        let absolute = Uri::from_static("http://evil.example/v1/models");
        let host = headers(&[("host", "localhost")]);
        assert_eq!(status(local().check_host(&host, &absolute)), 403);
    }

    #[test]
    fn beyond_loopback_addresses_are_names_and_others_must_be_configured() {
        let access = Access {
            is_loopback: false,
            ..local()
        };
        for (host, expected) in [
            ("192.168.0.7:4327", 200),
            ("[fe80::1]", 200),
            ("mybox.lan", 200),
            ("localhost", 200),
            ("other.lan", 403),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(
                status(access.check_host(&headers, &Uri::from_static("/"))),
                expected,
                "{host}"
            );
        }
    }

    #[test]
    fn origins() {
        let cases = [
            ("http://localhost:4327", 200),
            ("https://localhost:4327", 200),
            ("https://chat.example:8443", 200),
            ("https://CHAT.example:8443", 200),
            ("http://chat.example:8443", 403),
            ("https://chat.example", 403),
            ("https://chat.example:8443.evil.example", 403),
            ("https://evil.example", 403),
            ("http://localhost:3000", 403),
            ("http://localhost", 403),
            ("http://127.0.0.1:4327", 403),
            ("http://localhost:4327.evil.example", 403),
            ("http://evil.example#http://localhost:4327", 403),
            ("null", 403),
            ("file://", 403),
            ("", 403),
        ];
        for (origin, expected) in cases {
            let headers = headers(&[("host", "localhost:4327"), ("origin", origin)]);
            assert_eq!(
                status(local().check_origin(&headers)),
                expected,
                "{origin:?}"
            );
        }
        let two = headers(&[
            ("host", "localhost:4327"),
            ("origin", "http://localhost:4327"),
            ("origin", "https://evil.example"),
        ]);
        assert_eq!(status(local().check_origin(&two)), 403);
        assert_eq!(
            local()
                .check_origin(&headers(&[("host", "localhost")]))
                .unwrap(),
            None
        );
    }

    #[test]
    fn origins_of_anybody_cannot_be_configured() {
        for bad in [
            "null",
            "NULL",
            "*",
            "file://",
            "file:///x",
            "chat.example",
            "https://",
            "https://a/b",
            "https://*.example",
            "https://a@b",
            "",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad:?}");
        }
        for good in [
            "http://localhost:3000",
            "https://chat.example",
            "tauri://localhost",
            "vscode-webview://0abc",
        ] {
            assert!(Origin::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn keys_are_found_in_every_form() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(Pairs, &[&str]); 6] = [
            (&[("authorization", "Bearer k1")], &["k1"]),
            (&[("authorization", "bEARER  k1 ")], &["k1"]),
            (&[("x-api-key", "k2")], &["k2"]),
            (
                &[("authorization", "Bearer k1"), ("x-api-key", "k2")],
                &["k1", "k2"],
            ),
            (&[("authorization", "Basic k1")], &[]),
            (&[("authorization", "k1")], &[]),
        ];
        for (pairs, expected) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            let found: Vec<&[u8]> = shown_keys(&map).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|key| key.as_bytes()).collect();
            assert_eq!(found, expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_preflight_allows_the_headers_of_sdks_and_no_others() {
        let asked = headers(&[(
            "access-control-request-headers",
            "authorization, X-Stainless-Lang, x-evil, x-stainless-@",
        )]);
        let response = preflight(&asked, &HeaderValue::from_static("https://chat.example"));
        let allowed = response.headers()["access-control-allow-headers"]
            .to_str()
            .unwrap();
        assert!(
            allowed.ends_with("openai-beta, X-Stainless-Lang"),
            "{allowed}"
        );
        assert_eq!(response.status(), 204);
    }
}
