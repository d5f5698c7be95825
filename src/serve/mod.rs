//! The web page of a project: what was run, with which numbers, which alerts, and where each comes from.
//!
//! Owns: HTTP. Answers are what commands say with `--json`; the page itself is embedded (`page`), loads nothing from other
//! hosts and needs no network. Read-only: GET and HEAD. Nothing outside of the project can be named, and of its files only
//! those in `reports/` are handed out. `guard` decides who may ask.
//!
//! One thread speaks HTTP; what reads records runs on a few others, and is kept until the run log grows.

mod alerts;
mod answer;
mod data;
mod events;
mod files;
mod guard;
mod pages;
mod routes;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use logweir_engine::engine::Engine;
use tokio::sync::{Notify, Semaphore};

use crate::cli::Global;
use crate::render::diagnostic::Failure;
use data::Data;
use guard::Guard;

/// Most connections at a time.
const CONNECTIONS: usize = 256;
/// Threads that read records.
const READERS: usize = 4;
/// How long a client may take to send its request's head.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends a server from another thread.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<Notify>);

impl Stop {
    /// Ends it.
    pub(crate) fn stop(&self) {
        self.0.notify_one();
    }
}

/// A server that is about to run.
pub(crate) struct Server {
    data: Arc<Data>,
    guard: Arc<Guard>,
    address: SocketAddr,
}

impl Server {
    /// Of a project, to listen at `address`.
    ///
    /// # Errors
    /// There is no randomness for a token.
    pub(crate) fn new(global: &Global, engine: Engine, address: SocketAddr) -> Result<Self, Failure> {
        let guard = Arc::new(Guard::new(address).map_err(Failure::environment)?);
        Ok(Self { data: Arc::new(Data::new(global.clone(), engine)), guard, address })
    }

    /// Whether other hosts may ask.
    pub(crate) fn is_open(&self) -> bool {
        self.guard.token().is_some()
    }

    /// The address to open in a browser, with the token if one is asked for.
    pub(crate) fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        let token = self.guard.token().map(|token| format!("?token={token}")).unwrap_or_default();
        format!("http://{host}:{}/{token}", self.address.port())
    }

    /// Answers until it is stopped.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(crate) fn run(self, listener: TcpListener, stop: &Stop) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READERS)
            .build()
            .context("cannot start threads")?;
        listener.set_nonblocking(true).context("cannot use the socket")?;
        let router = routes::router(self.data, self.guard);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).context("cannot use the socket")?;
            tokio::spawn(accept(listener, router));
            stop.0.notified().await;
            anyhow::Ok(())
        })?;
        // Streams of events never end by themselves.
        runtime.shutdown_timeout(Duration::from_millis(200));
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, mostly: others will close some.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        tokio::spawn(async move {
            // A client that goes away is no error of the server.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}
