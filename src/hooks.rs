//! Tells receivers of alerts over HTTP, in the format of Alertmanager (`POST /api/v2/alerts`), beside the scoring: what
//! explains and sends has threads of its own behind queues of bounded length. A receiver that is slow, fails or is absent
//! never holds up scoring; what could not be told is counted and said at the end.
//!
//! Alerts of one signature (see the kind `explain`) are told of once in a while, and only so many a minute: the next one
//! that is sent says how many were not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use logweir_stages::explain::{Directories, ExplainParams, Explainer, Explanation, Files};
use logweir_stages::stream::judge::Alert;
use serde_json::{Value, json};

/// Alerts that may wait to be explained, and to be sent to one receiver.
const ALERTS: usize = 1 << 14;
const QUEUE: usize = 1024;
/// Alerts of one request.
const TOGETHER: usize = 64;
/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between attempts: the first, the longest, and how many attempts there are.
const WAITS: (Duration, Duration, u32) = (Duration::from_millis(500), Duration::from_secs(60), 10);
/// Signatures that are remembered.
const SIGNATURES: usize = 4096;
/// How long the end waits for what is left.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Whom to tell, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Addresses of receivers.
    pub(crate) urls: Vec<String>,
    /// Most alerts a minute.
    pub(crate) rate: u32,
    /// How long an alert of a signature keeps others of it back.
    pub(crate) repeat: Duration,
    /// The page that an alert points to.
    pub(crate) link: String,
    /// Sent as `Authorization: Bearer …`; never shown.
    pub(crate) token: Option<String>,
    /// Labels of every alert.
    pub(crate) labels: BTreeMap<String, String>,
    /// Scores at and above it are alerts.
    pub(crate) threshold: f64,
}

/// What became of alerts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    alerts: AtomicU64,
    repeated: AtomicU64,
    over_rate: AtomicU64,
    /// By receiver.
    delivered: Vec<AtomicU64>,
    lost: Vec<AtomicU64>,
    problems: Mutex<BTreeMap<usize, String>>,
}

/// Hands alerts over.
#[derive(Clone)]
pub(crate) struct Teller {
    queue: SyncSender<Box<Alert>>,
    tally: Arc<Tally>,
}

impl Teller {
    /// Hands over an alert; never waits.
    pub(crate) fn tell(&self, alert: Box<Alert>) {
        self.tally.alerts.fetch_add(1, Ordering::SeqCst);
        if self.queue.try_send(alert).is_err() {
            for lost in &self.tally.lost {
                lost.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Sends alerts.
pub(crate) struct Hooks {
    teller: Option<Teller>,
    dispatcher: JoinHandle<()>,
    /// Says of each sender that it has ended.
    done: Receiver<()>,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    names: Vec<String>,
}

impl Hooks {
    /// Begins to send; `models` explain what is sent.
    pub(crate) fn start(settings: Settings, models: Directories) -> std::io::Result<Self> {
        let counters = || (0..settings.urls.len()).map(|_| AtomicU64::new(0)).collect();
        let tally = Arc::new(Tally { delivered: counters(), lost: counters(), ..Tally::default() });
        let stop = Arc::new(AtomicBool::new(false));
        let names = settings.urls.iter().map(|url| without_secrets(url)).collect();
        let (finished, done) = mpsc::channel();
        let mut receivers = Vec::new();
        for (number, url) in settings.urls.iter().enumerate() {
            let (queue, waiting) = mpsc::sync_channel(QUEUE);
            let sender = Sender {
                number,
                url: address(url),
                token: settings.token.clone(),
                tally: Arc::clone(&tally),
                stop: Arc::clone(&stop),
            };
            let finished = finished.clone();
            std::thread::Builder::new().name(format!("hook-{number}")).spawn(move || {
                sender.send(&waiting);
                let _ = finished.send(());
            })?;
            receivers.push(queue);
        }
        let (queue, alerts) = mpsc::sync_channel(ALERTS);
        let shared = Arc::clone(&tally);
        let dispatcher = std::thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || Dispatcher::new(settings, receivers, shared).dispatch(&models, &alerts))?;
        let teller = Teller { queue, tally: Arc::clone(&tally) };
        Ok(Self { teller: Some(teller), dispatcher, done, tally, stop, names })
    }

    /// Returns what hands alerts over; all of these must be gone when the end is to come.
    pub(crate) fn teller(&self) -> Option<Teller> {
        self.teller.clone()
    }

    /// Ends; waits a moment for what is left. Returns what became of the alerts, and what there is to say.
    pub(crate) fn finish(mut self) -> (Value, Vec<String>) {
        self.teller = None;
        // It waits for nobody: what is left to it is work.
        let _ = self.dispatcher.join();
        let end = Instant::now() + LAST_WAIT;
        let in_time = (0..self.names.len())
            .all(|_| self.done.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok());
        if !in_time {
            // Senders that wait for an absent receiver give up what they have, and count it.
            self.stop.store(true, Ordering::SeqCst);
            while self.done.recv_timeout(TIMEOUT / 8).is_ok() {}
        }
        let Tally { alerts, repeated, over_rate, delivered, lost, problems } = &*self.tally;
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let problems = problems.lock().map(|problems| problems.clone()).unwrap_or_default();
        let mut said = Vec::new();
        let mut hooks = Vec::new();
        for (number, name) in self.names.iter().enumerate() {
            let (delivered, lost) = (count(&delivered[number]), count(&lost[number]));
            // What a receiver that hangs still has is neither.
            let hanging = count(alerts) - count(repeated) - count(over_rate);
            let lost = if in_time { lost } else { lost.max(hanging.saturating_sub(delivered)) };
            if lost > 0 {
                let why = problems.get(&number).map_or("it did not answer in time", String::as_str);
                said.push(format!("{lost} alerts were not delivered to {name}: {why}"));
            }
            hooks.push(json!({"url": name, "delivered": delivered, "lost": lost}));
        }
        if count(over_rate) > 0 {
            said.push(format!(
                "{} alerts were more than --hook-rate lets through, and were not sent",
                count(over_rate)
            ));
        }
        let told = json!({
            "alerts": count(alerts), "repeated": count(repeated), "over_rate": count(over_rate), "hooks": hooks,
        });
        (told, said)
    }
}

/// Decides what is sent.
struct Dispatcher {
    settings: Settings,
    receivers: Vec<SyncSender<Value>>,
    tally: Arc<Tally>,
    /// By signature: when it was sent last, and how many were kept back since.
    sent: BTreeMap<String, (Instant, u64)>,
    /// Alerts that may be sent now, and since when that is so.
    tokens: f64,
    filled: Instant,
}

impl Dispatcher {
    fn new(settings: Settings, receivers: Vec<SyncSender<Value>>, tally: Arc<Tally>) -> Self {
        let tokens = f64::from(settings.rate);
        Self { settings, receivers, tally, sent: BTreeMap::new(), tokens, filled: Instant::now() }
    }

    fn dispatch(mut self, models: &Directories, alerts: &Receiver<Box<Alert>>) {
        let params = ExplainParams::default();
        let mut next = alerts.recv().ok();
        // Models are tied to templates, of which there are more once new ones are seen.
        while let Some(first) = next.take() {
            let templates = first.templates().clone();
            let explainer = Explainer::load(models, &templates, Files::default(), &params).ok();
            let mut alert = first.clone();
            loop {
                let explained = explainer.as_ref().and_then(|explainer| {
                    let differences = explainer.differences(&alert.session);
                    Some(explainer.explain(&alert.session, differences.as_ref(), &BTreeMap::new()).ok()?.pop()?.1)
                });
                self.decide(&alert, explained.unwrap_or_default());
                match alerts.recv() {
                    Ok(more) if more.same_templates(&first) => alert = more,
                    Ok(more) => {
                        next = Some(more);
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    fn decide(&mut self, alert: &Alert, mut why: Explanation) {
        if why.signature_id.is_empty() {
            // Nothing explains it: what the scores say has to do.
            why.signature_id =
                logweir_engine::digest::Digest::of_bytes(alert.row.reason.as_bytes()).to_string()[..12].to_owned();
            why.reason.clone_from(&alert.row.reason);
        }
        let now = Instant::now();
        if let Some((last, kept)) = self.sent.get_mut(&why.signature_id)
            && now.duration_since(*last) < self.settings.repeat
        {
            *kept += 1;
            self.tally.repeated.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let rate = f64::from(self.settings.rate);
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * rate / 60.0).min(rate);
        self.filled = now;
        if self.tokens < 1.0 {
            self.tally.over_rate.fetch_add(1, Ordering::SeqCst);
            return;
        }
        self.tokens -= 1.0;
        if self.sent.len() >= SIGNATURES {
            let repeat = self.settings.repeat;
            self.sent.retain(|_, (last, _)| now.duration_since(*last) < repeat);
            if self.sent.len() >= SIGNATURES {
                self.sent.clear();
            }
        }
        let kept = self.sent.insert(why.signature_id.clone(), (now, 0)).map_or(0, |(_, kept)| kept);
        let document = self.document(alert, &why, kept);
        for (number, receiver) in self.receivers.iter().enumerate() {
            if receiver.try_send(document.clone()).is_err() {
                self.tally.lost[number].fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// An alert as Alertmanager takes it. Labels are what alike alerts share.
    fn document(&self, alert: &Alert, why: &Explanation, kept: u64) -> Value {
        let row = &alert.row;
        let mut labels = self.settings.labels.clone();
        labels.insert("alertname".to_owned(), "LogAnomaly".to_owned());
        labels.insert("signature".to_owned(), why.signature_id.clone());
        let starts = DateTime::from_timestamp_micros(row.start).unwrap_or_default();
        json!({
            "labels": labels,
            "annotations": {
                "summary": if why.reason.is_empty() { &row.reason } else { &why.reason },
                "signature": why.signature,
                "session": row.session_id,
                "score": row.fusion_score.to_string(),
                "threshold": self.settings.threshold.to_string(),
                "events": row.events.to_string(),
                "state": row.state.name(),
                "alike_kept_back": kept.to_string(),
            },
            "startsAt": starts.to_rfc3339_opts(SecondsFormat::Millis, true),
            "generatorURL": self.settings.link,
        })
    }
}

/// Sends to one receiver.
struct Sender {
    number: usize,
    url: String,
    token: Option<String>,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
}

/// Why an attempt did not succeed.
enum Trouble {
    /// It may later.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl Sender {
    fn send(&self, waiting: &Receiver<Value>) {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
        let agent = ureq::Agent::new_with_config(config);
        while let Ok(first) = waiting.recv() {
            let mut some = vec![first];
            while some.len() < TOGETHER {
                let Ok(more) = waiting.try_recv() else { break };
                some.push(more);
            }
            let count = some.len() as u64;
            let counters = if self.deliver(&agent, &Value::Array(some).to_string()) {
                &self.tally.delivered
            } else {
                &self.tally.lost
            };
            counters[self.number].fetch_add(count, Ordering::SeqCst);
        }
    }

    /// Tries until it is delivered, refused, or has been tried often enough.
    fn deliver(&self, agent: &ureq::Agent, body: &str) -> bool {
        let (mut wait, longest, attempts) = WAITS;
        for attempt in 1..=attempts {
            if self.stop.load(Ordering::SeqCst) {
                return false;
            }
            match self.attempt(agent, body) {
                Ok(()) => return true,
                Err(trouble) => {
                    let (lasting, why) = match trouble {
                        Trouble::Lasting(why) => (true, why),
                        Trouble::Passing(why) => (false, why),
                    };
                    if let Ok(mut problems) = self.tally.problems.lock() {
                        problems.insert(self.number, why);
                    }
                    if lasting || attempt == attempts {
                        return false;
                    }
                }
            }
            let until = Instant::now() + wait;
            while Instant::now() < until && !self.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            wait = (wait * 2).min(longest);
        }
        false
    }

    fn attempt(&self, agent: &ureq::Agent, body: &str) -> Result<(), Trouble> {
        let mut request = agent.post(&self.url).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match request.send(body) {
            Ok(_) => Ok(()),
            Err(ureq::Error::StatusCode(code)) => {
                let why = format!("it answered with status {code}");
                // Too early, too many, or its own trouble: later may be better.
                Err(if code >= 500 || [408, 425, 429].contains(&code) {
                    Trouble::Passing(why)
                } else {
                    Trouble::Lasting(why)
                })
            }
            Err(error) => Err(Trouble::Passing(error.to_string())),
        }
    }
}

/// Where alerts are sent: the path of Alertmanager, where an address has none.
fn address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let bare = rest.trim_end_matches('/');
    if bare.contains(['/', '?']) { url.to_owned() } else { format!("{}/api/v2/alerts", url.trim_end_matches('/')) }
}

/// An address as it may be shown: without user, password and query.
pub(crate) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = host.rsplit('@').next().unwrap_or_default();
    if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_path_of_alertmanager_and_are_shown_without_secrets() {
        assert_eq!(address("http://a:9093"), "http://a:9093/api/v2/alerts");
        assert_eq!(address("http://a:9093/"), "http://a:9093/api/v2/alerts");
        assert_eq!(address("https://a/hook?x=1"), "https://a/hook?x=1");
        assert_eq!(without_secrets("https://u:p@a/hook?token=1"), "https://a/hook");
        assert_eq!(without_secrets("http://a:1"), "http://a:1");
    }
}
