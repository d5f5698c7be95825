//! Work on a database that may fall silent: a stopped server, a network that swallows everything. The library waits for
//! ever then, so the work runs on a thread of its own, and whoever waits for it gives up when it shows no progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How the work shows that it goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<State>);

#[derive(Debug, Default)]
struct State {
    beats: AtomicU64,
    abandoned: AtomicBool,
}

impl Pulse {
    /// Shows progress: an answer came, some bytes were taken.
    ///
    /// # Errors
    /// Nobody waits any more: the work must end, and must not commit.
    pub(super) fn beat(&self) -> Result<(), Abandoned> {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        if self.0.abandoned.load(Ordering::SeqCst) { Err(Abandoned) } else { Ok(()) }
    }
}

/// Nobody waits for the work any more.
#[derive(Debug)]
pub(super) struct Abandoned;

impl std::fmt::Display for Abandoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("given up")
    }
}

impl std::error::Error for Abandoned {}

/// Why the work was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// No progress for as long as the patience lasts.
    Silent,
    /// The run was interrupted.
    Cancelled,
    /// The work panicked.
    Panicked,
}

/// Runs `work` until it ends, shows no progress for `patience`, or `cancelled` says so. Work that was given up goes on in
/// its thread until it next shows progress or the program ends.
pub(super) fn watched<T: Send + 'static>(
    patience: Duration,
    cancelled: impl Fn() -> bool,
    work: impl FnOnce(&Pulse) -> T + Send + 'static,
) -> Result<T, GivenUp> {
    let pulse = Pulse::default();
    let (sender, receiver) = sync_channel(1);
    let own = pulse.clone();
    let spawned = std::thread::Builder::new().name("export".to_owned()).spawn(move || {
        // Nobody listens when the work was given up.
        let _ = sender.send(work(&own));
    });
    if spawned.is_err() {
        return Err(GivenUp::Panicked);
    }
    let (mut seen, mut waited) = (0, Duration::ZERO);
    loop {
        let why = match receiver.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => GivenUp::Panicked,
            Err(RecvTimeoutError::Timeout) => {
                let beats = pulse.0.beats.load(Ordering::Relaxed);
                waited = if beats == seen { waited + LOOK } else { Duration::ZERO };
                seen = beats;
                match waited >= patience {
                    _ if cancelled() => GivenUp::Cancelled,
                    true => GivenUp::Silent,
                    false => continue,
                }
            }
        };
        pulse.0.abandoned.store(true, Ordering::SeqCst);
        return Err(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_goes_on_is_waited_for_and_silent_work_is_not() {
        let patience = LOOK * 4;
        let long = watched(
            patience,
            || false,
            move |pulse| {
                for _ in 0..12 {
                    std::thread::sleep(LOOK);
                    pulse.beat().unwrap();
                }
                "done"
            },
        );
        assert_eq!(long, Ok("done"));
        let (sender, receiver) = std::sync::mpsc::channel();
        let silent = watched(
            patience,
            || false,
            move |pulse| {
                let waiting: Result<(), _> = receiver.recv();
                (waiting.is_ok(), pulse.beat().is_err())
            },
        );
        assert_eq!(silent, Err(GivenUp::Silent));
        sender.send(()).unwrap();
    }

    #[test]
    fn an_interruption_or_a_panic_ends_the_wait() {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let cancelled = watched(Duration::from_secs(3600), || true, move |_| receiver.recv().is_ok());
        assert_eq!(cancelled, Err(GivenUp::Cancelled));
        assert_eq!(
            watched(Duration::from_secs(3600), || false, |_| -> () { panic!("wanted by the test") }),
            Err(GivenUp::Panicked)
        );
    }
}
