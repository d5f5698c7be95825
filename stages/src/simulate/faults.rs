//! Which blocks something goes wrong with, and what.
//!
//! Every fault has a rate per job; the blocks it hits are a stratified random sample of the job's blocks (one of every
//! 1/rate), so that the mix of a small simulation is as close to the mix asked for as that of a large one.

use super::change::Since;
use super::dice::Dice;
use super::workload::{JOBS, Job};

/// What goes wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The client gives up right after the allocation.
    Begin,
    /// The client gives up on an exception in the pipeline.
    Write,
    /// The last packet carries no data.
    Empty,
    /// The pipeline breaks and is rebuilt with the nodes left.
    Receive,
    /// A node is away while the data set is deleted, and reports the block afterwards.
    NoFile,
    /// A node reports the block twice.
    Redundant,
    /// The name node asks a node twice to delete the block.
    Redelete,
    /// The block is copied at once, while its third replica is still on its way.
    AtOnce,
    /// A node reports the block so late that it is copied.
    Slow,
    /// A replica is on node A, B or C when that node falls silent.
    OutageA,
    OutageB,
    OutageC,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::Begin,
        Self::Write,
        Self::Empty,
        Self::Receive,
        Self::NoFile,
        Self::Redundant,
        Self::Redelete,
        Self::AtOnce,
        Self::Slow,
        Self::OutageA,
        Self::OutageB,
        Self::OutageC,
    ];

    fn weight(self, job: &Job) -> f64 {
        let weights = &job.weights;
        // Weights are counts among some five hundred blocks, those of replication percents.
        let count = |count: f64| count / 5.0;
        match self {
            Self::None => 0.0,
            Self::Begin => count(weights.begin),
            Self::Write => count(weights.write),
            Self::Empty => count(weights.empty),
            Self::Receive => f64::from(u8::from(job.short > 0)),
            Self::NoFile => count(weights.no_file),
            Self::Redundant => count(weights.redundant),
            Self::Redelete => count(weights.redelete),
            Self::AtOnce => weights.replicate[0],
            Self::Slow => weights.replicate[1],
            Self::OutageA => weights.replicate[2],
            Self::OutageB => weights.replicate[3],
            Self::OutageC => weights.replicate[4],
        }
    }

    /// Whether it takes the short last block of a file.
    fn needs_short(self) -> bool {
        matches!(self, Self::Empty | Self::AtOnce)
    }

    /// Whether the block must live until its data set is deleted or read.
    fn needs_keeping(self) -> bool {
        matches!(self, Self::NoFile | Self::Redelete | Self::Slow | Self::OutageA | Self::OutageB | Self::OutageC)
    }
}

/// Expected sessions of each anomaly type among all sessions, as shares.
pub(super) struct Targets {
    pub(super) begin: f64,
    pub(super) write: f64,
    pub(super) empty: f64,
    pub(super) receive: f64,
    pub(super) timeout: f64,
    pub(super) no_file: f64,
    pub(super) redundant: f64,
    pub(super) replication: f64,
    pub(super) redelete: f64,
}

/// One fault's progress through the blocks: it hits the first fitting block after `expected` passes `next`.
struct Quota {
    expected: f64,
    next: f64,
}

/// Deals faults to blocks in the order they are allocated.
pub(super) struct Plan {
    /// `[job][fault]`: rate per block.
    rates: Vec<[f64; Fault::ALL.len()]>,
    quotas: Vec<Quota>,
    /// Share of the copies asked for in an outage that are lost and time out.
    lost: f64,
    since: Since,
}

impl Plan {
    /// Plans faults so that the types' shares of all blocks are the targets.
    pub(super) fn new(targets: &Targets, since: &Since, dice: &mut Dice) -> Self {
        let total: f64 = JOBS.iter().map(|job| job.share).sum();
        let mean = |faults: &[Fault], all: bool| -> f64 {
            let kept = JOBS.iter().filter(|job| all || job.delete.is_some());
            kept.map(|job| job.share * faults.iter().map(|fault| fault.weight(job)).sum::<f64>()).sum::<f64>() / total
        };
        let copies = [Fault::AtOnce, Fault::Slow, Fault::OutageA, Fault::OutageB, Fault::OutageC];
        let outages = [Fault::OutageA, Fault::OutageB, Fault::OutageC];
        // Only what is deleted afterwards counts as an anomaly of replication.
        let replication = (targets.replication + targets.timeout) / mean(&copies, false);
        let scale = |fault: Fault| match fault {
            Fault::None => 0.0,
            Fault::Begin => targets.begin / mean(&[fault], true),
            Fault::Write => targets.write / mean(&[fault], true),
            Fault::Empty => targets.empty / mean(&[fault], true),
            Fault::Receive => targets.receive / mean(&[fault], true),
            Fault::NoFile => targets.no_file / mean(&[fault], true),
            Fault::Redundant => targets.redundant / mean(&[fault], true),
            // A few of those sessions count as normal: see `Cluster::is_anomaly`.
            Fault::Redelete => targets.redelete * 1.04 / mean(&[fault], true),
            _ => replication,
        };
        let rates = JOBS.iter().map(|job| Fault::ALL.map(|fault| fault.weight(job) * scale(fault))).collect();
        let quotas = Fault::ALL.iter().map(|_| Quota { expected: 0.0, next: dice.unit() }).collect();
        let lost = (targets.timeout / (replication * mean(&outages, true))).clamp(0.0, 1.0);
        Self { rates, quotas, lost, since: since.clone() }
    }

    /// Returns the share of lost copies at a moment of the log, 0 to 1.
    pub(super) fn lost(&self, moment: f64) -> f64 {
        if moment < self.since.replication_timed_out { 0.0 } else { self.lost }
    }

    /// Returns what goes wrong with the next block of a job, which is `short`, or `kept` until its data set goes.
    pub(super) fn deal(&mut self, job: usize, (short, kept): (bool, bool), moment: f64, dice: &mut Dice) -> Fault {
        let mut dealt = Fault::None;
        for ((fault, quota), rate) in Fault::ALL.into_iter().zip(&mut self.quotas).zip(self.rates[job]) {
            if moment < self.since.of(fault) {
                continue;
            }
            quota.expected += rate;
            let fits = rate > 0.0 && (short || !fault.needs_short()) && (kept || !fault.needs_keeping());
            if dealt == Fault::None && fits && quota.expected > quota.next {
                dealt = fault;
                quota.next = quota.next.floor() + 1.0 + dice.unit();
            }
        }
        dealt
    }
}
