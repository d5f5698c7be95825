//! Sends OpenLineage events of a run over HTTP, beside the run: on a thread of its own, through a queue of bounded length.
//! It never slows or fails a run: what cannot be delivered is dropped, and said once at the end.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use logweir_engine::event::{Event, Sink};
use logweir_engine::export::live::{self, Live};
use logweir_engine::spec::OpenLineage;

/// Events of the engine that may wait.
const QUEUE: usize = 4096;
/// After so many failures one after the other nothing more is tried in this run.
const PATIENCE: usize = 3;
/// How long the end of a run waits for what is left.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What became of the events so far.
#[derive(Default)]
struct Tally {
    /// Events of the engine that found the queue full.
    missed: AtomicUsize,
    made: AtomicUsize,
    delivered: AtomicUsize,
    problem: Mutex<Option<String>>,
}

/// Takes the events of one run.
pub(crate) struct Emitter {
    queue: RefCell<Option<SyncSender<(Event, String)>>>,
    done: Receiver<()>,
    tally: Arc<Tally>,
    url: String,
}

impl Emitter {
    /// Begins to send; `key` is the value of the variable the pipeline names for it.
    pub(crate) fn start(settings: &OpenLineage, key: Option<String>, root: &Path) -> Self {
        let (queue, events) = mpsc::sync_channel(QUEUE);
        let (finished, done) = mpsc::sync_channel(1);
        let tally = Arc::new(Tally::default());
        let url = settings.url.clone();
        // Looked at now: what this run records comes after it.
        let live = Live::new(root);
        let (settings, shared) = (settings.clone(), Arc::clone(&tally));
        // Without a thread nothing is sent, and the end says so.
        let _ = std::thread::Builder::new().name("openlineage".to_owned()).spawn(move || {
            send(&settings, key.as_deref(), live, &events, &shared);
            let _ = finished.send(());
        });
        Self { queue: RefCell::new(Some(queue)), done, tally, url }
    }

    /// Ends; waits a moment for what is left. Returns what there is to say.
    pub(crate) fn finish(self) -> Option<String> {
        self.queue.take();
        let in_time = self.done.recv_timeout(LAST_WAIT).is_ok();
        let Tally { missed, made, delivered, problem } = &*self.tally;
        let (made, delivered) = (made.load(Ordering::SeqCst), delivered.load(Ordering::SeqCst));
        let missed = missed.load(Ordering::SeqCst);
        if in_time && missed == 0 && delivered == made {
            return None;
        }
        let problem = problem.lock().ok().and_then(|mut problem| problem.take());
        let problem = problem.unwrap_or_else(|| "it did not answer in time".to_owned());
        let lost = made - delivered + missed;
        let count = if lost == 0 { "some".to_owned() } else { lost.to_string() };
        Some(format!("OpenLineage: {count} events were not delivered to {}: {problem}", self.url))
    }
}

impl Sink for Emitter {
    fn event(&self, event: &Event) {
        if !live::concerns(event) {
            return;
        }
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let full = |queue: &SyncSender<_>| queue.try_send((event.clone(), now)).is_err();
        if self.queue.borrow().as_ref().is_none_or(full) {
            self.tally.missed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Sends everything that comes, in order, until the receiver has failed too often.
fn send(settings: &OpenLineage, key: Option<&str>, mut live: Live, events: &Receiver<(Event, String)>, tally: &Tally) {
    let config = ureq::Agent::config_builder().timeout_global(Some(settings.timeout)).build();
    let agent = ureq::Agent::new_with_config(config);
    let mut failures = 0;
    for (event, time) in events {
        for document in live.events(&event, &time) {
            tally.made.fetch_add(1, Ordering::SeqCst);
            if failures >= PATIENCE {
                continue;
            }
            let mut request = agent.post(&settings.url).header("content-type", "application/json");
            if let Some(key) = key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            match request.send(document.to_string()) {
                Ok(_) => {
                    failures = 0;
                    tally.delivered.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => {
                    failures += 1;
                    if let Ok(mut problem) = tally.problem.lock() {
                        problem.get_or_insert(error.to_string());
                    }
                }
            }
        }
    }
}
