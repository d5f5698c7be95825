//! What happens, as server-sent events: the events of a run under way (`run`, as `run --json` writes them), and that
//! something was recorded (`history`).
//!
//! A run is another process: what it tells is in `cache/events.jsonl`, which is looked at a few times a second. Who comes
//! in the middle of a run is told its beginning first.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::data::Data;
use crate::trail;

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(150);
/// Something is sent at least so often, or a connection that is gone would stay.
const SILENCE: Duration = Duration::from_secs(10);

/// Text as it comes.
struct Stream(mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A stream of events; `place` is given back at its end.
pub(super) fn stream(data: Arc<Data>, place: OwnedSemaphorePermit) -> Response {
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(async move {
        let _place = place;
        let mut watcher = Watcher::new(&data);
        let mut spoke = Instant::now();
        loop {
            let text = watcher.look();
            let text =
                if text.is_empty() && spoke.elapsed() >= SILENCE { ": nothing new\n\n".to_owned() } else { text };
            if !text.is_empty() {
                spoke = Instant::now();
                if send.send(Bytes::from(text)).await.is_err() {
                    return;
                }
            } else if send.is_closed() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    let mut response = Response::new(Body::new(Stream(receive)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Knows what a client was told.
struct Watcher {
    data: Arc<Data>,
    state: u64,
    busy: bool,
    trail: Option<Trail>,
    first: bool,
}

/// The file of events, and how far it was read.
struct Trail {
    file: File,
    /// Tells the file from the one that follows it.
    identity: u64,
    read: u64,
}

impl Watcher {
    fn new(data: &Arc<Data>) -> Self {
        Self { data: Arc::clone(data), state: data.state(), busy: false, trail: None, first: true }
    }

    /// What is new since the last look, as events.
    fn look(&mut self) -> String {
        let mut out = String::new();
        let busy = self.data.is_busy();
        if std::mem::take(&mut self.first) {
            self.busy = busy;
            out.push_str(&event("hello", &json!({"busy": busy})));
            // What an ended run told is in the history.
            self.trail = open(&self.data).map(|mut trail| {
                if !busy {
                    trail.read = trail.file.metadata().map_or(0, |meta| meta.len());
                }
                trail
            });
        }
        let path = trail::place(self.data.root());
        if self.trail.as_ref().map(|trail| trail.identity) != identity(&path) {
            // What the file before still had to say comes first.
            out.push_str(&self.rest());
            self.trail = open(&self.data);
        }
        out.push_str(&self.rest());
        let state = self.data.state();
        if state != self.state || busy != self.busy {
            (self.state, self.busy) = (state, busy);
            out.push_str(&event("history", &json!({"busy": busy})));
        }
        out
    }

    /// Whole lines that were not read before.
    fn rest(&mut self) -> String {
        let Some(trail) = &mut self.trail else { return String::new() };
        let mut bytes = Vec::new();
        if trail.file.metadata().is_ok_and(|meta| meta.len() < trail.read) {
            trail.read = 0;
        }
        let read = trail.file.seek(SeekFrom::Start(trail.read)).and_then(|_| trail.file.read_to_end(&mut bytes));
        if read.is_err() {
            return String::new();
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        trail.read += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        text.lines().map(|line| format!("event: run\ndata: {line}\n\n")).collect()
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn open(data: &Data) -> Option<Trail> {
    let path = trail::place(data.root());
    let file = File::open(&path).ok()?;
    Some(Trail { file, identity: identity(&path)?, read: 0 })
}

#[cfg(unix)]
fn identity(path: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    // A number may be given to the next file at once: the time tells them apart.
    let meta = path.metadata().ok()?;
    let born = meta.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    Some(meta.ino() ^ born.map_or(0, |t| t.as_nanos() as u64).rotate_left(20))
}

#[cfg(not(unix))]
fn identity(path: &std::path::Path) -> Option<u64> {
    let born = path.metadata().ok()?.created().ok()?;
    born.duration_since(std::time::UNIX_EPOCH).ok().map(|t| t.as_nanos() as u64)
}
