//! The cluster: nodes, blocks, tasks and jobs, and how they move on.
//!
//! A block is allocated by the writer of a task, written through a pipeline of three nodes, stored, verified now and then,
//! read by later jobs, copied when a replica is missing, and deleted with its data set. Every step puts lines and further
//! steps on the agenda; the log is what is due.

use std::collections::BTreeMap;
use std::io::Write;

use super::dice::Dice;
use super::faults::{Fault, Plan};
use super::timeline::{Agenda, Copying, Due, Line, Node, Second};
use super::wording::{Message, Words};
use super::workload::{JOBS, OUTAGES, REFERENCE_BLOCKS, REFERENCE_SECONDS};

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
    /// Blocks of which the first try failed come again.
    end: f64,
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
}

/// All state of a simulation.
pub(super) struct Cluster<'a> {
    dice: &'a mut Dice,
    plan: Plan,
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
    horizon: f64,
}

impl<'a> Cluster<'a> {
    /// Sets up nodes and jobs for this many blocks and seconds.
    pub(super) fn new(blocks: u32, seconds: u32, nodes: u16, plan: Plan, dice: &'a mut Dice) -> Self {
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
            agenda: Agenda::new(seconds as usize),
            nodes: list,
            blocks: Vec::with_capacity(blocks as usize),
            tasks: Vec::new(),
            jobs: Vec::new(),
            batches: Vec::new(),
            exposed: [const { Vec::new() }; 3],
            stretch: horizon / REFERENCE_SECONDS,
            stands_for: REFERENCE_BLOCKS / f64::from(blocks.max(1)),
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
        self.tasks.push(Task { job, index, attempt, writer, left, end: at });
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

    /// Returns how many thread numbers a thread uses up now. Early in the run, start-up work uses as many again.
    fn thread_pace(&self, at: f64) -> f64 {
        if at < 4_000.0 * self.stretch { 2.0 * self.stands_for } else { self.stands_for }
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
        out: &mut impl Write,
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
                tally.lines += second.flush(out)?;
            }
            progress(now as u64)?;
        }
        Ok(tally)
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
            let words = Words { thread, block: 0, size: 0, node: address(node), other: "", number, path: "", batch: &batch };
            second.line(stamp, |text| message.write(text, &words));
            return;
        }
        let pace = self.thread_pace(now as f64);
        let known = &mut self.blocks[block as usize];
        if known.deleted && matches!(message, Message::Verified | Message::Served | Message::ServeFailed) {
            return;
        }
        known.seen |= 1 << message as u32;
        if thread == 0 {
            thread = self.nodes[usize::from(node)].thread(pace, self.dice);
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
        second.line(stamp, |text| message.write(text, &words));
    }

    /// Allocates the next block of a task, or ends the task.
    fn next_block(&mut self, now: f64, number: u32) {
        let task = &self.tasks[number as usize];
        let (job, attempt) = (task.job, task.attempt);
        let state = &mut self.jobs[usize::from(job)];
        if state.left == 0 {
            return;
        }
        if task.left == 0 {
            if attempt == 0 {
                let pause = self.dice.between(1.0, 4.0).min(self.stretch * 4.0);
                self.start_task(job, (now + pause).min(self.horizon - 1.0), 0);
            }
            return;
        }
        state.left -= 1;
        let spec = &JOBS[usize::from(job)];
        let short = spec.short > 0 && task.left == 1 && attempt == 0;
        let size = match short {
            true if spec.short > 20_000_000 && self.dice.chance(0.25) => 3_545_000 + self.dice.below(12_000),
            true => spec.short - 6_000 + self.dice.below(20_000),
            false => FULL,
        };
        let fault = self.plan.deal(usize::from(job), short, attempt == 0, self.dice);
        let block = self.blocks.len() as u32;
        let id = self.dice.bits() as i64;
        self.blocks.push(Block {
            id,
            size,
            task: number,
            done: u32::MAX,
            seen: 0,
            replicas: [NOBODY; 4],
            job,
            fault,
            reads: 0,
            doomed: attempt > 0,
            deleted: false,
            excused: false,
        });
        let now = now + self.dice.unit();
        let (end, again) = self.write_block(now, block);
        let task = &mut self.tasks[number as usize];
        task.left -= u32::from(!again);
        task.end = end;
        let state = &mut self.jobs[usize::from(job)];
        state.end = state.end.max(end);
        state.blocks.push(block);
        let took = end - now;
        let next = now + if state.pace < 1.0 { took * state.pace } else { took + spec.write.0 * (state.pace - 1.0) };
        let next = next + self.dice.exponential(0.4);
        self.agenda.add(next.min(self.horizon - 1.0), Due::Next { task: number });
    }

    /// Puts the writing of a block on the agenda; returns when it ends and whether the client must try again.
    fn write_block(&mut self, now: f64, block: u32) -> (f64, bool) {
        let Block { fault, job, task, size, .. } = self.blocks[block as usize];
        let spec = &JOBS[usize::from(job)];
        let writer = self.tasks[task as usize].writer;
        let second = self.ordinary_node(&[writer]);
        let third = self.ordinary_node(&[writer, second]);
        let mut replicas = [writer, second, third];
        let special = match fault {
            Fault::OutageA => Some(0),
            Fault::OutageB => Some(1),
            Fault::OutageC => Some(2),
            Fault::NoFile => Some(NODE_D),
            _ => None,
        };
        if let Some(node) = special {
            replicas[1 + self.dice.below(2) as usize] = node;
        }
        self.blocks[block as usize].replicas = [replicas[0], replicas[1], replicas[2], NOBODY];
        // A node logs the address it receives from, twice.
        let upstream = [replicas[0], replicas[0], replicas[1]];

        let handler = self.handler();
        self.line(now, Message::Allocate, handler, block, (NOBODY, NOBODY), 0);
        let mut at = now;
        let mut threads = [(0, 0); 3];
        let received = match fault {
            Fault::Begin => 1,
            Fault::Write => 2,
            _ => 3,
        };
        for k in 0..received {
            // A lost connection request is repeated after three seconds.
            at += self.dice.exponential(if k == 0 { 0.12 } else { 0.33 });
            at += if k > 0 && self.dice.chance(0.055) { 3.0 } else { 0.0 };
            let pace = self.thread_pace(at);
            let receiver = self.nodes[usize::from(replicas[k])].thread(pace, self.dice);
            let more = self.dice.pick(&[(0.83, 0), (0.085, 1), (0.065, 2), (0.02, 4)]).unwrap_or(6);
            let used = self.nodes[usize::from(replicas[k])].thread(pace, self.dice);
            threads[k] = (receiver, (receiver + 1 + more).min(used.max(receiver + 1)));
            let port = 32_768 + self.dice.below(28_232);
            let seen = self.at_node(at, replicas[k]);
            self.line(seen, Message::Receiving, receiver, block, (upstream[k], upstream[k]), port);
        }
        if fault == Fault::Begin {
            return (at + self.dice.between(6.0, 20.0), true);
        }
        if fault == Fault::Write {
            let broken = at + self.dice.between(2.5, 5.5);
            let seen = self.at_node(broken, replicas[0]);
            self.line(seen, Message::WriteFailed, threads[0].0, block, (NOBODY, NOBODY), 0);
            return (broken + self.dice.between(6.0, 12.0), true);
        }
        if fault == Fault::Receive {
            return (self.recover(at, block, replicas, threads), false);
        }
        let mut took = if size == FULL {
            self.dice.log_normal(spec.write.0, spec.write.1)
        } else if size < 5_000_000 {
            self.dice.log_normal(2.4, 0.9)
        } else {
            self.dice.log_normal(spec.write.2, 0.3)
        };
        if self.dice.chance(0.012) {
            took *= self.dice.between(1.5, 5.0);
        }
        let done = at + took;
        self.store(done, block, replicas, threads);
        (done, false)
    }

    /// Ends the writing of a block: the pipeline closes, the name node learns of the replicas, its later life begins.
    fn store(&mut self, done: f64, block: u32, replicas: [u16; 3], threads: [(u32, u32); 3]) {
        let fault = self.blocks[block as usize].fault;
        let slow = if fault == Fault::Slow { self.dice.below(3) as usize } else { 3 };
        let twice = if fault == Fault::Redundant { self.dice.below(3) as usize } else { 3 };
        let upstream = [replicas[0], replicas[0], replicas[1]];
        for k in 0..3 {
            let closed = self.at_node(done, replicas[k]) + self.dice.exponential(0.12);
            if fault == Fault::Empty {
                let before = closed - self.dice.exponential(0.1);
                self.line(before, Message::EmptyPacket, threads[k].0, block, (NOBODY, NOBODY), 0);
            }
            self.line(closed, Message::Received, threads[k].1, block, (upstream[k], NOBODY), 0);
            let ends = closed + self.dice.exponential(0.035);
            self.line(ends, Message::Terminating, threads[k].1, block, (NOBODY, NOBODY), 2 - k as u32);
            if k == slow {
                continue;
            }
            let mut reported = done + self.dice.exponential(0.3);
            if self.dice.chance(0.007) {
                reported += self.dice.log_normal(60.0, 1.0).min(400.0);
            }
            let handler = self.handler();
            self.line(reported, Message::Stored, handler, block, (replicas[k], NOBODY), 0);
            if k == twice {
                let handler = self.handler();
                let again = reported + self.dice.exponential(0.5);
                self.line(again, Message::Redundant, handler, block, (replicas[k], NOBODY), 0);
            }
        }
        self.blocks[block as usize].done = done as u32;
        self.live(done + 1.0, block);
        match fault {
            Fault::AtOnce => {
                let at = done + self.dice.between(0.0, 1.2);
                self.agenda.add(at, Due::Replicate { block, without: NOBODY, plan: Copying::Surplus });
            }
            Fault::Slow => {
                let at = done + self.dice.log_normal(400.0, 0.5);
                let plan = if self.dice.chance(0.55) { Copying::Fourth } else { Copying::Surplus };
                let without = replicas[slow];
                self.agenda.add(at, Due::Replicate { block, without, plan });
                let handler = self.handler();
                let late = at + self.dice.between(70.0, 500.0);
                self.line(late, Message::Stored, handler, block, (without, NOBODY), 0);
            }
            Fault::OutageA => self.exposed[0].push(block),
            Fault::OutageB => self.exposed[1].push(block),
            Fault::OutageC => self.exposed[2].push(block),
            _ => {}
        }
    }

    /// Plans the verifications and readings of a block that is stored.
    fn live(&mut self, from: f64, block: u32) {
        let Block { job, doomed, .. } = self.blocks[block as usize];
        let spec = &JOBS[usize::from(job)];
        let until = spec.delete.map_or(self.horizon, |at| at * self.stretch).max(from + 1.0);
        let all = self.dice.chance(spec.scan.1);
        for _ in 0..3 {
            if (all || self.dice.chance(spec.scan.0)) && !doomed {
                let at = self.dice.between(from + 100.0 * self.stretch, until);
                self.line(at, Message::Verified, 13, block, (NOBODY, NOBODY), 0);
            }
        }
        if doomed {
            return;
        }
        for (wave, reading) in spec.readings.iter().enumerate() {
            let at = self.dice.between(reading.from, reading.to) * self.stretch;
            if at > from {
                self.agenda.add(at, Due::Read { block, wave: wave as u8 });
            }
        }
    }

    /// A reader goes through a block: some accesses are served, some are broken off by the reader.
    fn read(&mut self, now: f64, block: u32, wave: u8) {
        let Block { job, size, replicas, .. } = self.blocks[block as usize];
        let reading = &JOBS[usize::from(job)].readings[usize::from(wave)];
        let full = size == FULL;
        let crowd;
        let (accesses, pause) = if full && self.dice.chance(reading.crowd) {
            let mut text = [b'x'; 16];
            // The served access comes late: the crowd gives up before.
            text[15 - (self.dice.exponential(3.5) as usize).min(14)] = b'S';
            crowd = text;
            (&crowd[..], 5.0)
        } else {
            let ways = if full { reading.full } else { reading.short };
            (self.dice.pick(ways).unwrap_or("").as_bytes(), reading.pause)
        };
        let mut at = now + self.dice.unit();
        for (index, &access) in accesses.iter().enumerate() {
            if index > 0 {
                at += self.dice.log_normal(pause, 1.0);
                // An aborted read is sometimes taken up again only when the task is tried anew.
                if accesses[index - 1] == b'x' && accesses.len() < 16 && self.dice.chance(0.06) {
                    at += self.dice.between(0.1, 0.9) * (reading.to - reading.from) * self.stretch;
                }
            }
            let node = replicas[self.dice.below(3) as usize];
            let served = access == b'S';
            let local = self.dice.chance(if served { reading.local } else { 0.13 });
            let reader = if local { node } else { self.ordinary_node(&[node]) };
            let message = if served { Message::Served } else { Message::ServeFailed };
            self.line(at, message, 0, block, (node, reader), 0);
        }
        let known = &mut self.blocks[block as usize];
        known.reads = known.reads.saturating_add(accesses.len() as u8);
    }

    /// The pipeline breaks: every node reports it in its own way, the client rebuilds it with the two nodes left, and the
    /// third replica is made afterwards.
    fn recover(&mut self, at: f64, block: u32, replicas: [u16; 3], threads: [(u32, u32); 3]) -> f64 {
        let broken = at + self.dice.between(1.0, 45.0);
        let none = (NOBODY, NOBODY);
        for k in 0..3 {
            let mut at = self.at_node(broken, replicas[k]) + self.dice.exponential(1.2);
            let why = self.dice.below(12);
            if k < 2 && self.dice.chance(0.6) {
                let mirror = (replicas[k], replicas[k + 1]);
                self.line(at, Message::MirrorFailed, threads[k].0, block, mirror, 0);
            }
            at += self.dice.exponential(0.3);
            if self.dice.chance(0.9) {
                self.line(at, Message::ReceiveFailed, threads[k].0, block, none, why);
            }
            let then = at + self.dice.exponential(0.3);
            self.line(then, Message::WriteFailed, threads[k].0, block, none, 0);
            if self.dice.chance(0.35) {
                self.line(at, Message::ResponderInterrupted, threads[k].1, block, none, 2 - k as u32);
            } else {
                self.line(at, Message::ResponderFailed, threads[k].1, block, none, why);
            }
            at += self.dice.exponential(0.3);
            self.line(at, Message::Terminating, threads[k].1, block, none, 2 - k as u32);
        }
        let lost = 1 + self.dice.below(2) as usize;
        let left = if lost == 1 { [replicas[0], replicas[2]] } else { [replicas[0], replicas[1]] };
        let mut at = broken + self.dice.between(2.0, 8.0);
        let offset = self.dice.below(FULL / 65_536) * 65_536;
        let mut anew = [0; 2];
        for k in 0..2 {
            at += self.dice.exponential(0.5);
            let pace = self.thread_pace(at);
            anew[k] = self.nodes[usize::from(left[k])].thread(pace, self.dice);
            let port = 32_768 + self.dice.below(28_232);
            self.line(at, Message::Receiving, anew[k], block, (left[0], left[0]), port);
            if self.dice.chance(0.1) {
                self.line(at, Message::Reopen, anew[k], block, none, 0);
            }
            if self.dice.chance(0.75) {
                let then = at + self.dice.exponential(0.4);
                self.line(then, Message::ChangingOffset, anew[k], block, none, offset);
            }
        }
        let spec = &JOBS[usize::from(self.blocks[block as usize].job)];
        let done = at + self.dice.log_normal(spec.write.0, 0.5);
        for k in 0..2 {
            let closed = done + self.dice.exponential(0.15);
            self.line(closed, Message::Received, anew[k] + 1, block, (left[0], NOBODY), 0);
            self.line(closed, Message::Terminating, anew[k] + 1, block, none, 1 - k as u32);
            let handler = self.handler();
            let then = closed + self.dice.exponential(0.3);
            self.line(then, Message::Stored, handler, block, (left[k], NOBODY), 0);
        }
        if self.dice.chance(0.08) {
            self.line(done + 1.0, Message::AlreadyExists, 13, block, none, 0);
        }
        let known = &mut self.blocks[block as usize];
        known.replicas = [left[0], left[1], NOBODY, NOBODY];
        known.done = done as u32;
        let soon = done + self.dice.between(0.5, 4.0);
        self.agenda.add(soon, Due::Replicate { block, without: NOBODY, plan: Copying::Repair });
        self.live(done + 60.0, block);
        done
    }

    /// The name node has a block copied.
    fn replicate(&mut self, now: f64, block: u32, without: u16, plan: Copying) {
        let Block { replicas, size, deleted, .. } = self.blocks[block as usize];
        let sources: Vec<u16> = replicas.into_iter().filter(|&n| n != NOBODY && n != without).collect();
        let Some(&from) = sources.get(self.dice.below(sources.len() as u32) as usize) else { return };
        if deleted {
            return;
        }
        let to = self.ordinary_node(&replicas);
        let now = now + self.dice.unit();
        self.line(now, Message::AskReplicate, MONITOR, block, (from, to), 0);
        let patient = matches!(plan, Copying::Outage | Copying::Lost);
        let starts = now + if patient { self.dice.exponential(18.0) } else { self.dice.between(0.0, 2.0) };
        let service = self.nodes[usize::from(from)].service;
        self.line(starts, Message::StartingTransfer, service, block, (from, to), 0);
        if plan == Copying::Lost {
            self.lose(starts, block, from, to, without);
            return;
        }
        let at = starts + self.dice.exponential(0.35);
        let pace = self.thread_pace(at);
        let receiver = self.nodes[usize::from(to)].thread(pace, self.dice);
        let sender = self.nodes[usize::from(from)].thread(pace, self.dice);
        let port = 32_768 + self.dice.below(28_232);
        self.line(at, Message::Receiving, receiver, block, (from, from), port);
        let took = if size == FULL { self.dice.log_normal(30.0, 0.4) } else { self.dice.log_normal(1.6, 0.5) };
        let done = at + took;
        let seen = self.at_node(done, to);
        self.line(seen, Message::ReceivedTransfer, receiver, block, (from, from), port);
        let sent = self.at_node(done, from);
        self.line(sent, Message::Transmitted, sender, block, (from, to), 0);
        let handler = self.handler();
        let then = done + self.dice.exponential(0.2);
        self.line(then, Message::Stored, handler, block, (to, NOBODY), 0);
        let known = &mut self.blocks[block as usize];
        match plan {
            Copying::Repair => known.replicas[2] = to,
            Copying::Fourth => known.replicas[3] = to,
            Copying::Surplus | Copying::Outage | Copying::Lost => {
                known.replicas[3] = to;
                let back = if plan == Copying::Outage { self.report_back(done, block, without) } else { done };
                let wait = if size == FULL { self.dice.between(4.0, 12.0) } else { self.dice.between(1.0, 5.0) };
                // The late report of a slow node shows the surplus.
                let late = if without == NOBODY || plan == Copying::Outage { 0.0 } else { 480.0 };
                self.remove_surplus(back + late + wait, block);
            }
        }
    }

    /// A silent node is back and reports a block; returns when.
    fn report_back(&mut self, after: f64, block: u32, node: u16) -> f64 {
        let away = OUTAGES.iter().filter(|o| o.node == usize::from(node) && o.at * self.stretch < after);
        let median = away.last().map_or(200.0, |o| o.back);
        let back = after + self.dice.log_normal(median, 0.25).max(10.0);
        let handler = self.handler();
        self.line(back, Message::Stored, handler, block, (node, NOBODY), 0);
        back
    }

    /// A copy never arrives; the name node notices and asks again.
    fn lose(&mut self, at: f64, block: u32, from: u16, to: u16, without: u16) {
        if self.dice.chance(0.02) {
            let why = self.dice.below(12);
            self.line(at + 3.0, Message::TransferFailed, 0, block, (from, to), why);
        }
        let back = self.dice.chance(0.55);
        if back {
            self.report_back(at, block, without);
        }
        let noticed = at + self.dice.between(600.0, 900.0);
        self.line(noticed, Message::TimedOut, MONITOR + 1, block, (NOBODY, NOBODY), 0);
        if !back || self.dice.chance(0.4) {
            let plan = if back { Copying::Surplus } else { Copying::Outage };
            let without = if back { NOBODY } else { without };
            self.agenda.add(noticed + self.dice.between(1.0, 6.0), Due::Replicate { block, without, plan });
        }
    }

    /// One of four replicas is one too many and goes.
    fn remove_surplus(&mut self, at: f64, block: u32) {
        let pick = self.dice.below(4) as usize;
        let known = &mut self.blocks[block as usize];
        let node = known.replicas[pick];
        known.replicas[pick] = known.replicas[3];
        known.replicas[3] = NOBODY;
        let id = known.id;
        self.ask_delete(at, node, vec![id]);
        let number = self.dice.below(65);
        let service = self.nodes[usize::from(node)].service;
        let then = at + self.dice.between(0.0, 3.0);
        self.line(then, Message::Deleting, service, block, (node, NOBODY), number);
    }

    fn ask_delete(&mut self, at: f64, node: u16, ids: Vec<i64>) {
        if at < self.horizon {
            let batch = self.batches.len() as u32;
            self.batches.push(ids);
            self.line(at, Message::AskDelete, MONITOR, 0, (node, NOBODY), batch);
        }
    }

    /// An outage: what the silent node stores is copied elsewhere.
    fn outage(&mut self, now: f64, index: usize) {
        let outage = &OUTAGES[index];
        for block in self.exposed[outage.node].clone() {
            let known = &self.blocks[block as usize];
            if known.deleted || f64::from(known.done) > now || !known.replicas.contains(&(outage.node as u16)) {
                continue;
            }
            let plan = if self.dice.chance(self.plan.lost) { Copying::Lost } else { Copying::Outage };
            let at = now + self.dice.between(0.0, 180.0);
            self.agenda.add(at, Due::Replicate { block, without: outage.node as u16, plan });
        }
    }

    /// A job is over: what its losing attempts wrote goes at once, then, sooner or later, the data set.
    fn cleanup(&mut self, now: f64, job: u16) {
        let state = &self.jobs[usize::from(job)];
        if state.left > 0 || state.end + 2.0 > now {
            self.agenda.add(now + 4.0, Due::Cleanup { job });
            return;
        }
        let doomed: Vec<u32> =
            state.blocks.iter().copied().filter(|&block| self.blocks[block as usize].doomed).collect();
        self.purge(now, &doomed, 9.0, 12.0, 0.9);
        if let Some(at) = JOBS[usize::from(job)].delete {
            self.agenda.add((at * self.stretch).max(now + 8.0), Due::Delete { job });
        }
    }

    fn delete(&mut self, now: f64, job: u16) {
        let mut blocks = std::mem::take(&mut self.jobs[usize::from(job)].blocks);
        // The folder is deleted file by file.
        blocks.sort_by_key(|&block| self.tasks[self.blocks[block as usize].task as usize].index);
        self.purge(now, &blocks, 25.0, JOBS[usize::from(job)].purge, 0.27);
    }

    /// Deletes blocks: at the name node within `spread` seconds, then batch by batch at the data nodes, after `median`
    /// seconds more or less.
    fn purge(&mut self, now: f64, blocks: &[u32], spread: f64, median: f64, sigma: f64) {
        let handler = self.handler();
        let mut pending: BTreeMap<u16, Vec<(u32, f64)>> = BTreeMap::new();
        for (i, &block) in blocks.iter().enumerate() {
            let known = &mut self.blocks[block as usize];
            if known.deleted || f64::from(known.done) >= now || known.seen & (1 << Message::Stored as u32) == 0 {
                continue;
            }
            known.deleted = true;
            let Block { fault, replicas, .. } = *known;
            let at = now + spread * i as f64 / blocks.len() as f64;
            for node in replicas.into_iter().filter(|&node| node != NOBODY) {
                self.line(at, Message::Invalidate, handler, block, (node, NOBODY), 0);
                if fault == Fault::NoFile && node == NODE_D {
                    self.come_back(at, block);
                } else {
                    pending.entry(node).or_default().push((block, at));
                }
            }
        }
        let limit = (100.0 / self.stands_for).round().clamp(10.0, 100.0) as usize;
        for (node, list) in pending {
            let slow = if self.dice.chance(0.012) { self.dice.between(2.0, 5.0) } else { 1.0 };
            let mut times: Vec<f64> =
                list.chunks(limit).map(|_| median * slow * (1.0 + sigma * self.dice.normal()).max(0.03)).collect();
            times.sort_by(f64::total_cmp);
            for (batch, after) in list.chunks(limit).zip(times) {
                let latest = batch.last().map_or(now, |b| b.1);
                self.purge_batch((now + after).max(latest), node, batch);
            }
        }
    }

    fn purge_batch(&mut self, at: f64, node: u16, batch: &[(u32, f64)]) {
        let mut ids: Vec<i64> = batch.iter().map(|&(block, _)| self.blocks[block as usize].id).collect();
        ids.sort_unstable();
        self.ask_delete(at, node, ids);
        let service = self.nodes[usize::from(node)].service;
        let mut deleting = at + self.dice.between(0.0, 3.0);
        for &(block, _) in batch {
            deleting += self.dice.exponential(0.25);
            let number = self.dice.below(65);
            self.line(deleting, Message::Deleting, service, block, (node, NOBODY), number);
            let Block { fault, replicas, .. } = self.blocks[block as usize];
            let asked_again = match fault {
                Fault::Redelete => replicas[(block % 3) as usize] == node,
                Fault::AtOnce | Fault::Slow | Fault::OutageA | Fault::OutageB | Fault::OutageC => {
                    self.dice.chance(0.17 / 3.0)
                }
                _ => false,
            };
            if asked_again {
                self.delete_again(deleting, block, node);
            }
        }
    }

    /// The name node asks once more for a block that is gone.
    fn delete_again(&mut self, at: f64, block: u32, node: u16) {
        let Block { reads, id, fault, .. } = self.blocks[block as usize];
        let again = at + self.dice.log_normal(110.0, 0.8);
        self.ask_delete(again, node, vec![id]);
        let service = self.nodes[usize::from(node)].service;
        let then = again + self.dice.between(0.0, 3.0);
        self.line(then, Message::DeleteFailed, service, block, (node, NOBODY), 0);
        // Much-read blocks of this kind often count as normal.
        self.blocks[block as usize].excused = fault == Fault::Redelete && reads >= 11 && self.dice.chance(0.5);
    }

    /// Node D returns after a deletion it missed, and reports a block that belongs to no file.
    fn come_back(&mut self, at: f64, block: u32) {
        let back = at + self.dice.between(880.0, 920.0);
        let handler = 27;
        self.line(back, Message::NoFile, handler, block, (NODE_D, NOBODY), 0);
        self.line(back, Message::Stored, handler, block, (NODE_D, NOBODY), 0);
        let asked = back + self.dice.between(6.0, 60.0);
        let id = self.blocks[block as usize].id;
        self.ask_delete(asked, NODE_D, vec![id]);
        let number = self.dice.below(65);
        let service = self.nodes[usize::from(NODE_D)].service;
        let then = asked + self.dice.between(0.0, 3.0);
        self.line(then, Message::Deleting, service, block, (NODE_D, NOBODY), number);
    }
}

impl Block {
    fn logged(&self, message: Message) -> bool {
        self.seen & (1 << message as u32) != 0
    }

    /// Returns whether the block's session counts as anomalous: decided by what was logged of it before the log ended.
    pub(super) fn is_anomaly(&self) -> bool {
        use Message as M;
        let broken = [M::EmptyPacket, M::ReceiveFailed, M::ResponderFailed, M::ResponderInterrupted, M::TimedOut];
        if self.fault == Fault::Begin || broken.iter().any(|&m| self.logged(m)) {
            return true;
        }
        if [M::WriteFailed, M::NoFile, M::Redundant].iter().any(|&m| self.logged(m)) {
            return true;
        }
        // Copies are a fault only in hindsight: of data sets that live on they count as normal operation.
        let copied = self.logged(M::AskReplicate) || self.logged(M::StartingTransfer);
        (copied && self.logged(M::Invalidate)) || (self.logged(M::DeleteFailed) && !self.excused)
    }

    /// Returns the type of an anomalous session, by what was logged; first match wins.
    pub(super) fn kind(&self) -> &'static str {
        use Message as M;
        let any = |messages: &[M]| messages.iter().any(|&m| self.logged(m));
        if self.seen & !(1 << M::Receiving as u32 | 1 << M::Allocate as u32) == 0 {
            "failed_at_the_beginning"
        } else if any(&[M::WriteFailed]) && !any(&[M::Stored]) {
            "write_exception"
        } else if any(&[M::EmptyPacket]) {
            "empty_packet"
        } else if any(&[M::ReceiveFailed, M::ResponderFailed, M::ResponderInterrupted]) {
            "receive_exception"
        } else if any(&[M::TimedOut]) {
            "replication_timed_out"
        } else if any(&[M::NoFile]) {
            "belongs_to_no_file"
        } else if any(&[M::Redundant]) {
            "redundant_report"
        } else if any(&[M::StartingTransfer, M::AskReplicate]) {
            "replication"
        } else if any(&[M::DeleteFailed]) {
            "delete_of_a_missing_block"
        } else {
            "other"
        }
    }

    /// Returns whether the session was still open when the log ended: written or being written, and not deleted.
    pub(super) fn is_open(&self) -> bool {
        !self.logged(Message::Invalidate) && !matches!(self.fault, Fault::Begin | Fault::Write)
    }
}

fn path_of(task: &Task) -> String {
    let job = &JOBS[usize::from(task.job)];
    format!(
        "/user/root/{}/_temporary/_task_{}_{:04}_{}_{:06}_{}/part-{:05}",
        job.folder, job.stamp, job.number, job.phase, task.index, task.attempt, task.index
    )
}
