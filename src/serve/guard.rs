//! Who may ask what: methods, host names, the token, and the headers that keep a page to itself.
//!
//! On this machine's own addresses no token is asked for, so a web page elsewhere must not be able to ask in its visitor's
//! name: it cannot read answers (same-origin policy), and a name of its own that it lets point here (DNS rebinding) is
//! refused by the `Host` header. On any other address every request needs the token.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use logweir_engine::digest::Digest;

/// What every answer carries; the policy unless the answer has one of its own.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cache-control", "no-cache"),
];

/// Decides who may ask.
pub(super) struct Guard {
    /// The host names a request may be for; none: any.
    hosts: Vec<String>,
    token: Option<String>,
    /// The cookie that carries the token; ports do not tell cookies apart.
    cookie: String,
}

impl Guard {
    /// For a server at `address`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(super) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let cookie = format!("logweir-{}", address.port());
        if address.ip().is_loopback() {
            let own = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
            let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), own];
            return Ok(Self { hosts, token: None, cookie });
        }
        let mut random = [0u8; 24];
        getrandom::fill(&mut random).map_err(|e| anyhow!("no randomness for a token: {e}"))?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { hosts: Vec::new(), token: Some(token), cookie })
    }

    /// The token that requests need.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn is_token(&self, given: &str) -> bool {
        // Digests of equal length, compared to the end: how long it takes tells nothing of the token.
        let digest = |text: &str| *Digest::of_bytes(text.as_bytes()).as_bytes();
        let wanted = digest(self.token.as_deref().unwrap_or_default());
        self.token.is_some() && wanted.iter().zip(digest(given)).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// The token in a header or a cookie.
    fn has_token(&self, headers: &HeaderMap) -> bool {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let bearer = headers.get(header::AUTHORIZATION).map(text);
        let cookies = headers.get_all(header::COOKIE).iter().map(text).collect::<Vec<_>>().join(";");
        let cookies = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut given = cookies.filter(|(name, _)| *name == self.cookie).map(|(_, value)| value);
        bearer.as_deref().and_then(|b| b.strip_prefix("Bearer ")).is_some_and(|token| self.is_token(token.trim()))
            || given.any(|value| self.is_token(value))
    }

    /// An answer instead of the one asked for.
    fn refuse(&self, request: &Request) -> Option<Response> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this server is read-only: GET and HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        if !self.hosts.is_empty() {
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            let name = host
                .rsplit_once(':')
                .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
            if !self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                let text = "this server answers for localhost alone; `logweir serve --addr` opens it to others\n";
                return Some(plain(StatusCode::MISDIRECTED_REQUEST, text));
            }
        }
        if self.token.is_some() && !self.has_token(request.headers()) {
            let query = request.uri().query().unwrap_or_default();
            let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
            if let Some(token) = given.filter(|token| self.is_token(token)) {
                // Out of the address line, into a cookie that scripts cannot read.
                let cookie = format!("{}={token}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
                let mut response = plain(StatusCode::SEE_OTHER, "");
                response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
                if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                    response.headers_mut().insert(header::SET_COOKIE, cookie);
                }
                return Some(response);
            }
            let text = "this server asks for a token: open the address that `logweir serve` printed, or send\n\
                        Authorization: Bearer TOKEN\n";
            let mut response = plain(StatusCode::UNAUTHORIZED, text);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(response);
        }
        None
    }
}

/// Text for people and programs.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Lets through what may pass, and completes every answer.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refuse(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
