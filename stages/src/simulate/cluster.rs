//! The cluster: nodes, blocks, tasks and jobs, and how they move on.
//!
//! A block is allocated by the writer of a task, written through a pipeline of three nodes, stored, verified now and then,
//! read by later jobs, copied when a replica is missing, and deleted with its data set. Every step puts lines and further
//! steps on the agenda; the log is what is due.

use std::io::Write;

use super::SimulateParams;
use super::change::Change;
use super::dice::Dice;
use super::faults::{Fault, Plan};
use super::noise::Collector;
use super::timeline::{Agenda, Due, Line, Node, Second};
use super::wording::{Message, Words};
use super::workload::{JOBS, OUTAGES, REFERENCE_BLOCKS, REFERENCE_SECONDS};

mod deletion;
mod life;
mod pipeline;
mod verdict;

/// Bytes of a full block: 64 MiB.
const FULL: u32 = 1 << 26;
/// No node.
const NOBODY: u16 = u16::MAX;
/// Nodes A, B and C of the outages and D, which is away during deletions. Other blocks are not placed there.
const SPECIAL: u16 = 4;
const NODE_D: u16 = 3;
/// Thread of the name node that watches replication.
const MONITOR: u32 = 19;

/// A block, from its allocation to the end of the log.
pub(super) struct Block {
    pub(super) id: i64,
    size: u32,
    task: u32,
    /// Second in which all replicas were written; `u32::MAX` before.
    done: u32,
    /// Which messages about it were logged, a bit each.
    pub(super) seen: u32,
    replicas: [u16; 4],
    job: u16,
    fault: Fault,
    /// Read accesses so far.
    reads: u8,
    /// Written by a speculative attempt: removed when the job ends.
    doomed: bool,
    deleted: bool,
    /// Looks anomalous and is labelled normal all the same, or the other way round.
    excused: bool,
}

struct Task {
    job: u16,
    index: u32,
    attempt: u8,
    writer: u16,
    /// Blocks still to write, the short one included.
    left: u32,
}

struct JobState {
    left: u32,
    /// Seconds between two blocks as a multiple of the time to write one.
    pace: f64,
    next_index: u32,
    /// When the last block so far is written.
    end: f64,
    blocks: Vec<u32>,
}

/// What the simulation has come to.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) lines: u64,
    pub(super) several_blocks: u64,
    pub(super) duplicates: u64,
    pub(super) late: u64,
}

/// All state of a simulation.
pub(super) struct Cluster<'a> {
    dice: &'a mut Dice,
    plan: Plan,
    change: &'a Change,
    agenda: Agenda,
    nodes: Vec<Node>,
    pub(super) blocks: Vec<Block>,
    tasks: Vec<Task>,
    jobs: Vec<JobState>,
    batches: Vec<Vec<i64>>,
    /// Blocks that an outage of node A, B or C finds.
    exposed: [Vec<u32>; 3],
    /// Seconds of the simulation for one of the reference.
    stretch: f64,
    /// How many blocks of the reference a block stands for.
    stands_for: f64,
    /// Threads the average node has had.
    threads: f64,
    horizon: f64,
}

impl<'a> Cluster<'a> {
    /// Sets up nodes and jobs for this many blocks and seconds.
    pub(super) fn new(params: &'a SimulateParams, plan: Plan, dice: &'a mut Dice) -> Self {
        let SimulateParams { sessions: blocks, duration: seconds, nodes, ref change, .. } = *params;
        let mut addresses = std::collections::BTreeSet::new();
        let mut list = Vec::new();
        while list.len() < usize::from(nodes) {
            let net = if dice.chance(0.3) { 250 } else { 251 };
            let third = if net == 250 { 5 + dice.below(15) } else { 26 + dice.below(190) };
            let address = format!("10.{net}.{third}.{}", 1 + dice.below(250));
            if addresses.insert(address.clone()) {
                list.push(Node::new(address, dice));
            }
        }
        let horizon = f64::from(seconds);
        let mut cluster = Self {
            plan,
            change,
            agenda: Agenda::new(seconds as usize),
            nodes: list,
            blocks: Vec::with_capacity(blocks as usize),
            tasks: Vec::new(),
            jobs: Vec::new(),
            batches: Vec::new(),
            exposed: [const { Vec::new() }; 3],
            stretch: horizon / REFERENCE_SECONDS,
            stands_for: REFERENCE_BLOCKS / f64::from(blocks.max(1)),
            threads: 145.0,
            horizon,
            dice,
        };
        cluster.start_jobs(blocks);
        for (index, outage) in OUTAGES.iter().enumerate() {
            cluster.agenda.add(outage.at * cluster.stretch, Due::Outage { index: index as u16 });
        }
        cluster
    }

    /// Shares the blocks out among the jobs and starts their first tasks.
    fn start_jobs(&mut self, blocks: u32) {
        let total: f64 = JOBS.iter().map(|job| job.share).sum();
        let (mut share, mut dealt) = (0.0, 0);
        for (number, job) in JOBS.iter().enumerate() {
            share += job.share;
            let upto = (f64::from(blocks) * share / total).round() as u32;
            let left = upto - dealt;
            dealt = upto;
            let (from, to) = (job.from * self.stretch, job.to * self.stretch);
            // Writing takes some seconds more than its median in the mean.
            let file = f64::from(job.blocks) * job.write.0 * 1.08 + job.write.2;
            let files = f64::from(left) / f64::from(job.blocks + 1);
            let slots = (files * file / (to - from)).ceil().max(1.0);
            let rounds = (files / slots).max(0.05);
            self.jobs.push(JobState {
                left,
                pace: ((to - from) / (rounds * file)).min(8.0),
                next_index: 0,
                end: to,
                blocks: Vec::new(),
            });
            for _ in 0..slots as u32 {
                let start = from + self.dice.between(0.0, 12.0_f64.min((to - from) / 4.0));
                self.start_task(number as u16, start, 0);
            }
            // Some 3.5 % of blocks come from second attempts at tasks that seem to hang; the losers are removed.
            let speculative = (f64::from(left) * 0.035 / 8.0).round() as u32;
            for _ in 0..speculative {
                let start = self.dice.between(from + 0.3 * (to - from), to - 0.1 * (to - from));
                self.start_task(number as u16, start, 1);
            }
            self.agenda.add(job.cleanup * self.stretch, Due::Cleanup { job: number as u16 });
        }
    }

    fn start_task(&mut self, job: u16, at: f64, attempt: u8) {
        let spec = &JOBS[usize::from(job)];
        let state = &mut self.jobs[usize::from(job)];
        let index = if attempt == 0 {
            state.next_index += 1;
            state.next_index - 1
        } else {
            self.dice.below(state.next_index.max(1))
        };
        let left = if attempt == 0 { spec.blocks + u32::from(spec.short > 0) } else { 8 };
        let writer = self.ordinary_node(&[]);
        let task = self.tasks.len() as u32;
        self.tasks.push(Task { job, index, attempt, writer, left });
        self.agenda.add(at, Due::Next { task });
    }

    /// Returns a node that is none of `taken` and has no special part.
    fn ordinary_node(&mut self, taken: &[u16]) -> u16 {
        loop {
            let node = SPECIAL + self.dice.below(self.nodes.len() as u32 - u32::from(SPECIAL)) as u16;
            if !taken.contains(&node) {
                return node;
            }
        }
    }

    fn handler(&mut self) -> u32 {
        26 + self.dice.below(10)
    }

    /// Returns the number of a new thread of a node. Numbers grow with the work of the whole cluster, as the nodes share it
    /// evenly; in a simulation of fewer blocks than the reference, a thread stands for several. Early in the run, start-up
    /// work uses almost as many again.
    fn thread(&mut self, at: f64, node: u16) -> u32 {
        let pace = if at < 12_000.0 * self.stretch { 1.8 } else { 1.1 };
        self.threads += pace * self.stands_for / self.nodes.len() as f64;
        self.nodes[usize::from(node)].thread(self.threads)
    }

    fn line(&mut self, at: f64, message: Message, thread: u32, block: u32, nodes: (u16, u16), number: u32) {
        let (node, other) = nodes;
        self.agenda.add(at, Due::Line(Line { message, thread, block, node, other, number }));
    }

    fn at_node(&self, at: f64, node: u16) -> f64 {
        at + self.nodes[usize::from(node)].skew
    }

    /// Runs the whole simulation and writes the log; `time` formats a second, `progress` is told of each.
    pub(super) fn run(
        &mut self,
        mut out: Collector<'_, impl Write>,
        time: impl Fn(u64) -> String,
        progress: &mut dyn FnMut(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut second = Second::default();
        for now in 0..self.horizon as usize {
            let mut index = 0;
            let mut stamp = None;
            while let Some(due) = self.agenda.get(now, index) {
                index += 1;
                if let Due::Line(line) = due {
                    let stamp = stamp.get_or_insert_with(|| time(now as u64));
                    self.say(now, line, stamp.as_bytes(), &mut second, &mut tally);
                } else {
                    self.step(now as f64, due);
                }
            }
            self.agenda.close(now);
            if index > 0 {
                second.flush(|line| out.line(now as u64, line))?;
            }
            out.end_of(now as u64)?;
            progress(now as u64)?;
        }
        out.end_of(u64::MAX)?;
        Ok(Tally { lines: out.lines, duplicates: out.duplicates, late: out.late, ..tally })
    }

    fn step(&mut self, now: f64, due: Due) {
        match due {
            Due::Line(_) => {}
            Due::Next { task } => self.next_block(now, task),
            Due::Read { block, wave } => self.read(now, block, wave),
            Due::Replicate { block, without, plan } => self.replicate(now, block, without, plan),
            Due::Cleanup { job } => self.cleanup(now, job),
            Due::Delete { job } => self.delete(now, job),
            Due::Outage { index } => self.outage(now, usize::from(index)),
        }
    }

    /// Writes a line that is due, unless its block is gone.
    fn say(&mut self, now: usize, line: Line, stamp: &[u8], second: &mut Second, tally: &mut Tally) {
        let Line { message, mut thread, block, node, other, number } = line;
        let address = |node: u16| self.nodes.get(usize::from(node)).map_or("", |n| n.address.as_str());
        if message == Message::AskDelete {
            let batch = std::mem::take(&mut self.batches[number as usize]);
            tally.several_blocks += u64::from(batch.len() > 1);
            let words =
                Words { thread, block: 0, size: 0, node: address(node), other: "", number, path: "", batch: &batch };
            second.line(stamp, |text| message.write(text, &words, false));
            return;
        }
        let known = &mut self.blocks[block as usize];
        if known.deleted && matches!(message, Message::Verified | Message::Served | Message::ServeFailed) {
            return;
        }
        known.seen |= 1 << message as u32;
        if thread == 0 {
            thread = self.thread(now as f64, node);
        }
        let known = &self.blocks[block as usize];
        let path = if message == Message::Allocate { path_of(&self.tasks[known.task as usize]) } else { String::new() };
        let address = |node: u16| self.nodes.get(usize::from(node)).map_or("", |n| n.address.as_str());
        let words = Words {
            thread,
            block: known.id,
            size: known.size,
            node: address(node),
            other: address(other),
            number,
            path: &path,
            batch: &[],
        };
        let reworded = self.change.rewords(message, now as f64 / self.horizon);
        second.line(stamp, |text| message.write(text, &words, reworded));
    }
}

fn path_of(task: &Task) -> String {
    let job = &JOBS[usize::from(task.job)];
    format!(
        "/user/root/{}/_temporary/_task_{}_{:04}_{}_{:06}_{}/part-{:05}",
        job.folder, job.stamp, job.number, job.phase, task.index, task.attempt, task.index
    )
}
