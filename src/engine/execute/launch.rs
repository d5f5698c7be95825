//! A decided stage becomes a job on a thread of its own: what it takes, where it writes, what it may know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::thread::Scope;
use std::time::Instant;

use super::{Coordinator, Message, Running, Shared, State};
use crate::digest::Digest;
use crate::event::{Decision, Event};
use crate::schedule::Grant;
use crate::spec::Action;
use crate::stage::InputFile;
use crate::survey::{Verdict, declared};
use crate::work::{self, Job, Task};

/// Characters of a stage's name that its log file is named by; file systems take 255 bytes.
const MOST_NAME: usize = 160;

impl<'s> Coordinator<'_, 's> {
    /// Starts a stage on a thread of its own.
    pub(super) fn launch<'scope, 'env>(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        grant: Grant,
        sender: &mpsc::Sender<Message>,
        shared: Shared<'env>,
    ) where
        's: 'env,
    {
        let index = grant.stage;
        let verdict = self.verdicts.remove(&index).expect("a stage is decided before it is ready");
        let taken: BTreeSet<usize> = self.running.values().map(|running| running.worker).collect();
        let worker = (0..).find(|number| !taken.contains(number)).expect("there are more numbers than stages");
        let job = self.job(&grant, worker, &verdict, shared);
        let log = matches!(job.task, Task::Shell(_)).then(|| {
            let path = job.log.strip_prefix(shared.root).unwrap_or(&job.log);
            path.to_string_lossy().into_owned()
        });
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        if verdict.decision == Decision::Run {
            self.sink.event(&Event::StageStarted {
                stage: self.name(index).to_owned(),
                key: verdict.key,
                threads: grant.threads,
                attempt: 1,
                expected: self.survey.index.last_seconds(&self.survey.pipeline, self.name(index)),
                reasons: verdict.reasons.clone(),
            });
        }
        self.state[index] = State::Running;
        let running = Running { grant, worker, verdict, started: now, attempt: 1, warnings: Vec::new(), log };
        self.running.insert(index, running);
        let sender = sender.clone();
        scope.spawn(move || {
            let began = Instant::now();
            // The coordinator outlives every worker, so it takes every message.
            let outcome = work::perform(&job, &|note| {
                let _ = sender.send(Message::Note(index, note));
            });
            let _ = sender.send(Message::Ended(index, outcome, began.elapsed().as_secs_f64()));
        });
    }

    fn job<'env>(&self, grant: &Grant, worker: usize, verdict: &Verdict, shared: Shared<'env>) -> Job<'env>
    where
        's: 'env,
    {
        let index = grant.stage;
        let (places, env) = (self.survey.places, self.survey.env);
        let (stage, made) = (self.survey.stage(index), self.survey.made(index));
        let task = match (verdict.decision, &stage.action, made) {
            (Decision::Restore, _, _) => {
                let outputs = verdict.result.as_ref().map(|result| self.records(index, &result.outputs));
                Task::Restore(outputs.unwrap_or_default())
            }
            (_, Action::Shell { command }, _) => Task::Shell(command),
            (_, Action::Builtin { .. }, Some(made)) => Task::Builtin(&*made.stage),
            (_, Action::Builtin { .. }, None) => unreachable!("built-in stages are made when the pipeline is opened"),
        };
        let effect = made.is_some_and(|made| made.stage.effect().is_some());
        let passed = |name: &String| env.get(name).map(|value| (name.clone(), value.clone()));
        let file = |logical: &String| InputFile {
            logical: logical.clone(),
            path: places.place_of(logical.trim_end_matches('/')),
        };
        let files = |slot: &crate::key::SlotRecord| -> Vec<InputFile> {
            let piece = |path: &&String| verdict.inputs.piece.as_ref().is_some_and(|piece| piece.logical == **path);
            let made = |path: &&String| path.starts_with("lineage:") || piece(path);
            slot.iter().flat_map(BTreeMap::keys).filter(|path| !made(path)).map(file).collect()
        };
        let watched = |logical: &String| {
            let stat = self.survey.memo.stat(&places.memo_name(logical))?;
            Some((logical.clone(), places.place_of(logical), stat))
        };
        Job {
            stage: index,
            task,
            key: verdict.key,
            inputs: verdict.inputs.slots.iter().map(|(slot, record)| (slot.clone(), files(record))).collect(),
            documents: verdict.inputs.documents.clone(),
            piece: verdict.inputs.piece.clone(),
            watched: verdict.inputs.watched.iter().filter_map(watched).collect(),
            manifests: verdict.inputs.manifests.clone(),
            outputs: stage.outputs.iter().map(|(slot, o)| (slot.clone(), declared(&o.path, o.directory))).collect(),
            // An effect finds its target and credentials in the environment; what of them matters is in its key.
            env: if effect { env.clone() } else { stage.env.iter().chain(&stage.secrets).filter_map(passed).collect() },
            path: env.get("PATH").map(String::as_str),
            masked: stage.secrets.iter().filter_map(|name| env.get(name).cloned()).collect(),
            threads: grant.threads,
            retries: stage.policy.retries,
            timeout: stage.policy.timeout,
            sandbox: stage.policy.sandbox,
            user_home: env.get("HOME").map(String::as_str),
            root: shared.root,
            scratch: self.orders.temp.join(worker.to_string()),
            log: self
                .survey
                .cache
                .join("logs")
                .join(&self.ended.info.run)
                .join(format!("{}.log", file_name(&stage.name))),
            store: shared.store,
            temp: shared.temp,
            cancelled: shared.cancel,
        }
    }
}

/// Returns a stage's name as a file name: letters, digits and `-_[]=,.` stay. A name that is changed by that, or long,
/// ends in a digest, for two items may differ in just what is lost.
fn file_name(stage: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_[]=,.".contains(c);
    if stage.chars().all(plain) && stage.len() <= MOST_NAME {
        return stage.to_owned();
    }
    let name: String = stage.chars().map(|c| if plain(c) { c } else { '_' }).take(MOST_NAME).collect();
    format!("{name}.{}", Digest::of_bytes(stage.as_bytes()).short())
}
