//! Which address answers what.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::answer::{Answer, refusal};
use super::data::Data;
use super::guard::{Guard, guard, plain};
use super::{alerts, events, files, pages};
use crate::render::diagnostic::Failure;

/// Most pages that follow what happens.
const FOLLOWERS: usize = 64;
/// Runs listed, and runs whose numbers are listed, unless more are asked for.
const RUNS: usize = 100;
const SERIES: usize = 30;

#[derive(Clone)]
struct App {
    data: Arc<Data>,
    followers: Arc<Semaphore>,
}

/// All routes.
pub(super) fn router(data: Arc<Data>, protection: Arc<Guard>) -> Router {
    let app = App { data, followers: Arc::new(Semaphore::new(FOLLOWERS)) };
    Router::new()
        .route("/", get(page))
        .route("/app.js", get(page))
        .route("/style.css", get(page))
        .route("/api/overview", get(overview))
        .route("/api/runs", get(runs))
        .route("/api/runs/{run}", get(run))
        .route("/api/runs/{run}/graph", get(graph))
        .route("/api/metrics", get(metrics))
        .route("/api/diff", get(diff))
        .route("/api/lineage", get(lineage))
        .route("/api/impact", get(impact))
        .route("/api/alerts", get(list_alerts))
        .route("/api/session", get(session))
        .route("/api/events", get(follow))
        .route("/reports/{*path}", get(report))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "there is nothing here\n") })
        .with_state(app)
        .layer(middleware::from_fn_with_state(protection, guard))
}

async fn page(uri: Uri, headers: HeaderMap) -> Response {
    match pages::part(uri.path()) {
        Some(answer) => answer.respond(&headers),
        None => plain(StatusCode::NOT_FOUND, "there is nothing here\n"),
    }
}

/// Asks on another thread.
async fn ask<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(ask).await.ok()
}

/// Answers with JSON, from what is kept if nothing was recorded since.
async fn json(
    app: App,
    question: Option<String>,
    headers: HeaderMap,
    make: impl FnOnce(&Data) -> Result<Value, Failure> + Send + 'static,
) -> Response {
    let answer = ask(move || {
        let state = app.data.state();
        if let Some(kept) = question.as_deref().and_then(|question| app.data.answers.get(state, question)) {
            return (StatusCode::OK, kept);
        }
        match make(&app.data) {
            Ok(value) => {
                let answer = Answer::json(&value);
                if let Some(question) = question {
                    app.data.answers.keep(state, question, &answer);
                }
                (StatusCode::OK, answer)
            }
            Err(failure) => refusal(&failure),
        }
    });
    match answer.await {
        Some((StatusCode::OK, answer)) => answer.respond(&headers),
        Some((status, answer)) => {
            let mut response = answer.respond(&HeaderMap::new());
            *response.status_mut() = status;
            response
        }
        None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer panicked: this is a bug in logweir\n"),
    }
}

fn question(uri: &Uri) -> Option<String> {
    uri.path_and_query().map(ToString::to_string)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    n: Option<usize>,
    /// Patterns over names of metrics, separated by commas.
    metrics: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    target: String,
    run: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Two {
    from: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSession {
    id: String,
    run: Option<String>,
}

async fn overview(State(app): State<App>, headers: HeaderMap) -> Response {
    json(app, None, headers, Data::overview).await
}

async fn runs(State(app): State<App>, uri: Uri, headers: HeaderMap, Query(many): Query<Many>) -> Response {
    json(app, question(&uri), headers, move |data| data.runs(many.n.unwrap_or(RUNS))).await
}

async fn run(State(app): State<App>, uri: Uri, headers: HeaderMap, Path(run): Path<String>) -> Response {
    json(app, question(&uri), headers, move |data| data.show(&run)).await
}

async fn graph(State(app): State<App>, uri: Uri, headers: HeaderMap, Path(run): Path<String>) -> Response {
    json(app, question(&uri), headers, move |data| data.graph(&run)).await
}

async fn metrics(State(app): State<App>, uri: Uri, headers: HeaderMap, Query(many): Query<Many>) -> Response {
    let patterns = many.metrics.unwrap_or_default();
    let patterns: Vec<String> = patterns.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    json(app, question(&uri), headers, move |data| data.metrics(many.n.unwrap_or(SERIES), &patterns)).await
}

async fn diff(State(app): State<App>, uri: Uri, headers: HeaderMap, Query(two): Query<Two>) -> Response {
    json(app, question(&uri), headers, move |data| data.diff(&two.from, &two.to)).await
}

// Lineage looks at files, which change without a run: it is asked anew.
async fn lineage(State(app): State<App>, headers: HeaderMap, Query(about): Query<About>) -> Response {
    json(app, None, headers, move |data| data.lineage(&about.target, about.run.as_deref(), false)).await
}

async fn impact(State(app): State<App>, headers: HeaderMap, Query(about): Query<About>) -> Response {
    json(app, None, headers, move |data| data.lineage(&about.target, about.run.as_deref(), true)).await
}

async fn list_alerts(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    Query(asked): Query<alerts::Question>,
) -> Response {
    json(app, question(&uri), headers, move |data| data.list_alerts(&asked)).await
}

async fn session(State(app): State<App>, uri: Uri, headers: HeaderMap, Query(of): Query<OfSession>) -> Response {
    json(app, question(&uri), headers, move |data| data.session(&of.id, of.run.as_deref())).await
}

async fn follow(State(app): State<App>) -> Response {
    match app.followers.try_acquire_owned() {
        Ok(place) => events::stream(app.data, place),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages follow already\n"),
    }
}

async fn report(State(app): State<App>, headers: HeaderMap, Path(path): Path<String>) -> Response {
    match ask(move || files::read(app.data.root(), &path)).await.flatten() {
        Some(answer) => answer.respond(&headers),
        None => plain(StatusCode::NOT_FOUND, "reports/ has no such file\n"),
    }
}
