//! An answer: made once, compressed once, known by its tag.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use logweir_engine::digest::Digest;
use serde_json::Value;

use crate::render::diagnostic::Failure;

/// Shorter ones are sent as they are.
const WORTH_IT: usize = 1024;

/// Content with its type.
#[derive(Clone)]
pub(super) struct Answer {
    kind: &'static str,
    body: Bytes,
    zipped: Option<Bytes>,
    tag: String,
    /// A security policy of its own.
    policy: Option<&'static str>,
}

impl Answer {
    /// Makes one; text is compressed.
    pub(super) fn new(kind: &'static str, body: Vec<u8>) -> Self {
        let tag = format!("W/\"{}\"", Digest::of_bytes(&body).short());
        let text = kind.starts_with("text/") || kind.contains("json") || kind.contains("svg");
        let zipped = (text && body.len() >= WORTH_IT).then(|| zip(&body)).flatten();
        Self { kind, body: Bytes::from(body), zipped, tag, policy: None }
    }

    /// As JSON.
    pub(super) fn json(value: &Value) -> Self {
        Self::new("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// With a security policy of its own.
    pub(super) fn with_policy(self, policy: &'static str) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Bytes that it takes in memory.
    fn size(&self) -> usize {
        self.body.len() + self.zipped.as_ref().map_or(0, Bytes::len)
    }

    /// To a request: nothing where the client has it already, compressed where it can take that.
    pub(super) fn respond(&self, request: &HeaderMap) -> Response {
        let known = request.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        let known = known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == self.tag));
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Some(policy) = self.policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        let body = match &self.zipped {
            Some(zipped) if takes_gzip(request) => {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                zipped
            }
            _ => &self.body,
        };
        *response.body_mut() = Body::from(body.clone());
        response
    }
}

fn zip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|q| q.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0));
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

/// What went wrong, for programs and people.
pub(super) fn refusal(failure: &Failure) -> (StatusCode, Answer) {
    let status = match failure.exit_code() {
        2 | 3 => StatusCode::NOT_FOUND,
        1 => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Answer::json(&failure.to_json().unwrap_or_default()))
}

/// Most answers, and most bytes of them, that are kept.
const KEPT: usize = 128;
const KEPT_BYTES: usize = 64 << 20;

/// Answers that stay true until something is recorded.
#[derive(Default)]
pub(super) struct Answers(Mutex<(u64, BTreeMap<String, Answer>)>);

impl Answers {
    /// The answer to a question in this state of the records.
    pub(super) fn get(&self, state: u64, question: &str) -> Option<Answer> {
        let kept = self.0.lock().ok()?;
        if kept.0 == state { kept.1.get(question).cloned() } else { None }
    }

    /// Keeps one; answers of other states are dropped, and all where they are too many.
    pub(super) fn keep(&self, state: u64, question: String, answer: &Answer) {
        let Ok(mut kept) = self.0.lock() else { return };
        let size: usize = kept.1.values().map(Answer::size).sum();
        if kept.0 != state || kept.1.len() >= KEPT || size + answer.size() > KEPT_BYTES {
            *kept = (state, BTreeMap::new());
        }
        kept.1.insert(question, answer.clone());
    }
}
