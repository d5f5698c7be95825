//! The life of a stored block: verifications, readings, and copies when a replica is missing or late.

use super::{Block, Cluster, FULL, MONITOR, NOBODY};
use crate::simulate::timeline::{Copying, Due};
use crate::simulate::wording::Message;
use crate::simulate::workload::{JOBS, OUTAGES};

impl Cluster<'_> {
    /// Plans the verifications and readings of a block that is stored.
    pub(super) fn live(&mut self, from: f64, block: u32) {
        let Block { job, doomed, .. } = self.blocks[block as usize];
        let spec = &JOBS[usize::from(job)];
        let until = spec.delete.map_or(self.horizon, |at| at * self.stretch).max(from + 1.0);
        let more = self.change.slower(from / self.horizon);
        let all = self.dice.chance(spec.scan.1 * more);
        for _ in 0..3 {
            if (all || self.dice.chance(spec.scan.0 * more)) && !doomed {
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
    pub(super) fn read(&mut self, now: f64, block: u32, wave: u8) {
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

    /// The name node has a block copied.
    pub(super) fn replicate(&mut self, now: f64, block: u32, without: u16, plan: Copying) {
        let Block { replicas, size, deleted, .. } = self.blocks[block as usize];
        let sources: Vec<u16> = replicas.into_iter().filter(|&n| n != NOBODY && n != without).collect();
        let Some(&from) = sources.get(self.dice.below(sources.len() as u32) as usize) else { return };
        if deleted {
            // The name node finds the request stale.
            self.line(now, Message::NotNeeded, MONITOR, block, (NOBODY, NOBODY), 0);
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
        let receiver = self.thread(at, to);
        let sender = self.thread(at, from);
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
    pub(super) fn report_back(&mut self, after: f64, block: u32, node: u16) -> f64 {
        let mut away = OUTAGES.iter().filter(|o| o.node == usize::from(node) && o.at * self.stretch < after);
        let median = away.next_back().map_or(200.0, |o| o.back);
        let back = after + self.dice.log_normal(median, 0.25).max(10.0);
        let handler = self.handler();
        self.line(back, Message::Stored, handler, block, (node, NOBODY), 0);
        back
    }

    /// A copy never arrives; the name node notices and asks again.
    pub(super) fn lose(&mut self, at: f64, block: u32, from: u16, to: u16, without: u16) {
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
    pub(super) fn remove_surplus(&mut self, at: f64, block: u32) {
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

    /// An outage: what the silent node stores is copied elsewhere.
    pub(super) fn outage(&mut self, now: f64, index: usize) {
        let outage = &OUTAGES[index];
        for block in self.exposed[outage.node].clone() {
            let known = &self.blocks[block as usize];
            if known.deleted || f64::from(known.done) > now || !known.replicas.contains(&(outage.node as u16)) {
                continue;
            }
            let plan =
                if self.dice.chance(self.plan.lost(now / self.horizon)) { Copying::Lost } else { Copying::Outage };
            let at = now + self.dice.between(0.0, 180.0);
            self.agenda.add(at, Due::Replicate { block, without: outage.node as u16, plan });
        }
    }
}
