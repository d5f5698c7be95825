//! How a block comes into being: allocation, the pipeline of three nodes, and what may go wrong in it.

use super::{Block, Cluster, FULL, NOBODY, NODE_D};
use crate::simulate::faults::Fault;
use crate::simulate::timeline::{Copying, Due};
use crate::simulate::wording::Message;
use crate::simulate::workload::JOBS;

impl Cluster<'_> {
    /// Allocates the next block of a task, or ends the task.
    pub(super) fn next_block(&mut self, now: f64, number: u32) {
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
        let fault = self.plan.deal(usize::from(job), (short, attempt == 0), now / self.horizon, self.dice);
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
        // A second ahead, so that a clock that is behind is still on time.
        let now = now + 1.0 + self.dice.unit();
        let (end, again) = self.write_block(now, block);
        let task = &mut self.tasks[number as usize];
        task.left -= u32::from(!again);
        let state = &mut self.jobs[usize::from(job)];
        state.end = state.end.max(end);
        state.blocks.push(block);
        let took = end - now;
        let next = now + if state.pace < 1.0 { took * state.pace } else { took + spec.write.0 * (state.pace - 1.0) };
        let next = next + self.dice.exponential(0.4);
        self.agenda.add(next.min(self.horizon - 2.0), Due::Next { task: number });
    }

    /// Puts the writing of a block on the agenda; returns when it ends and whether the client must try again.
    pub(super) fn write_block(&mut self, now: f64, block: u32) -> (f64, bool) {
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
            let brisk = k == 0 || self.dice.chance(0.75);
            at += self.dice.exponential(if brisk { 0.12 } else { 1.0 });
            at += if k > 0 && self.dice.chance(0.055) { 3.0 } else { 0.0 };
            let receiver = self.thread(at, replicas[k]);
            let more = self.dice.pick(&[(0.83, 0), (0.085, 1), (0.065, 2), (0.02, 4)]).unwrap_or(6);
            let used = self.thread(at, replicas[k]);
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
        let mut took = if size == FULL && spec.phase == 'm' {
            (spec.write.0 * (1.0 + spec.write.1 * self.dice.normal())).max(8.0)
        } else if size == FULL {
            self.dice.log_normal(spec.write.0, spec.write.1)
        } else if size < 5_000_000 {
            self.dice.log_normal(2.4, 0.9)
        } else {
            self.dice.log_normal(spec.write.2, 0.3)
        };
        if self.dice.chance(0.012) {
            took *= self.dice.between(1.5, 5.0);
        }
        let done = at + took * self.change.slower(at / self.horizon);
        self.store(done, block, replicas, threads);
        (done, false)
    }

    /// Ends the writing of a block: the pipeline closes, the name node learns of the replicas, its later life begins.
    pub(super) fn store(&mut self, done: f64, block: u32, replicas: [u16; 3], threads: [(u32, u32); 3]) {
        let fault = self.blocks[block as usize].fault;
        let slow = if fault == Fault::Slow { self.dice.below(3) as usize } else { 3 };
        let twice = if fault == Fault::Redundant { self.dice.below(3) as usize } else { 3 };
        let upstream = [replicas[0], replicas[0], replicas[1]];
        for k in 0..3 {
            let closed = self.at_node(done, replicas[k]) + self.dice.exponential(0.06);
            if fault == Fault::Empty {
                let before = closed - self.dice.exponential(0.1);
                self.line(before, Message::EmptyPacket, threads[k].0, block, (NOBODY, NOBODY), 0);
            }
            self.line(closed, Message::Received, threads[k].1, block, (upstream[k], NOBODY), 0);
            let ends = closed + self.dice.exponential(0.02);
            self.line(ends, Message::Terminating, threads[k].1, block, (NOBODY, NOBODY), 2 - k as u32);
            if k == slow {
                continue;
            }
            let mut reported = done + self.dice.exponential(0.15);
            if self.dice.chance(0.01) {
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

    /// The pipeline breaks: every node reports it in its own way, the client rebuilds it with the two nodes left, and the
    /// third replica is made afterwards.
    pub(super) fn recover(&mut self, at: f64, block: u32, replicas: [u16; 3], threads: [(u32, u32); 3]) -> f64 {
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
            anew[k] = self.thread(at, left[k]);
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
}
