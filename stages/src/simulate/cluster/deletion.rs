//! The end of blocks: deletion at the name node, and, batch by batch, at the data nodes.

use std::collections::BTreeMap;

use super::{Block, Cluster, MONITOR, NOBODY, NODE_D};
use crate::simulate::faults::Fault;
use crate::simulate::timeline::Due;
use crate::simulate::wording::Message;
use crate::simulate::workload::JOBS;

impl Cluster<'_> {
    /// A job is over: what its losing attempts wrote goes at once, then, sooner or later, the data set.
    pub(super) fn cleanup(&mut self, now: f64, job: u16) {
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

    pub(super) fn delete(&mut self, now: f64, job: u16) {
        let mut blocks = std::mem::take(&mut self.jobs[usize::from(job)].blocks);
        // The folder is deleted file by file.
        blocks.sort_by_key(|&block| self.tasks[self.blocks[block as usize].task as usize].index);
        self.purge(now, &blocks, 25.0, JOBS[usize::from(job)].purge, 0.19);
    }

    /// Deletes blocks: at the name node within `spread` seconds, then batch by batch at the data nodes, after `median`
    /// seconds more or less.
    pub(super) fn purge(&mut self, now: f64, blocks: &[u32], spread: f64, median: f64, sigma: f64) {
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
            let slow = if self.dice.chance(0.025) { self.dice.between(2.0, 5.0) } else { 1.0 };
            let mut times: Vec<f64> =
                list.chunks(limit).map(|_| median * slow * (1.0 + sigma * self.dice.normal()).max(0.03)).collect();
            times.sort_by(f64::total_cmp);
            for (batch, after) in list.chunks(limit).zip(times) {
                let latest = batch.last().map_or(now, |b| b.1);
                self.purge_batch((now + after).max(latest), node, batch);
            }
        }
    }

    pub(super) fn purge_batch(&mut self, at: f64, node: u16, batch: &[(u32, f64)]) {
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
    pub(super) fn delete_again(&mut self, at: f64, block: u32, node: u16) {
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
    pub(super) fn come_back(&mut self, at: f64, block: u32) {
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
    pub(super) fn ask_delete(&mut self, at: f64, node: u16, ids: Vec<i64>) {
        if at < self.horizon {
            let batch = self.batches.len() as u32;
            self.batches.push(ids);
            self.line(at, Message::AskDelete, MONITOR, 0, (node, NOBODY), batch);
        }
    }
}
