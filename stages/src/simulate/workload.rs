//! What the simulated cluster is used for: a day and a half of benchmark jobs, one after the other, as the operators of
//! a test cluster run them. Each job writes a data set, later jobs read some of them, and data sets are deleted in bulk.
//!
//! Times are seconds of the 38.6-hour reference run and are stretched to the length asked for. Numbers are rounded
//! summary statistics (medians, rates, shares) of such a run; see `docs/simulator.md`.

/// Length of the reference run in seconds.
pub(super) const REFERENCE_SECONDS: f64 = 139_002.0;
/// Blocks of the reference run; thread numbers and batch sizes scale with it.
pub(super) const REFERENCE_BLOCKS: f64 = 575_061.0;

/// How readers go through a data set: each block is read at some moment of a window.
pub(super) struct Reading {
    /// Window of the first access, reference seconds.
    pub(super) from: f64,
    pub(super) to: f64,
    /// Median pause between two accesses of one block, seconds.
    pub(super) pause: f64,
    /// Share of full blocks that a crowd of readers tears at: 15 aborted reads and a served one.
    pub(super) crowd: f64,
    /// Accesses of a full block (`S` served, `x` aborted by the reader) with their shares; the rest is not read.
    pub(super) full: &'static [(f64, &'static str)],
    /// Accesses of the last, short block of a file.
    pub(super) short: &'static [(f64, &'static str)],
    /// Share of served accesses that stay on the node.
    pub(super) local: f64,
}

/// How much more often than elsewhere a fault hits the blocks of a job (any unit: only the ratios of a row count).
pub(super) struct Weights {
    pub(super) begin: f64,
    pub(super) write: f64,
    pub(super) empty: f64,
    pub(super) no_file: f64,
    pub(super) redundant: f64,
    pub(super) redelete: f64,
    /// Replication faults, percent of the job's blocks: at once, after a slow report, after outages A, B and C.
    pub(super) replicate: [f64; 5],
}

/// A job and the data set it writes.
pub(super) struct Job {
    pub(super) folder: &'static str,
    pub(super) stamp: &'static str,
    pub(super) number: u32,
    /// Map (`m`) or reduce (`r`) tasks write.
    pub(super) phase: char,
    /// Share of all blocks (any unit).
    pub(super) share: f64,
    /// First and last allocation, reference seconds.
    pub(super) from: f64,
    pub(super) to: f64,
    /// Full blocks of one output file; a short one follows where `short` is set.
    pub(super) blocks: u32,
    /// Bytes of the short last block: typical size; 0 for none.
    pub(super) short: u32,
    /// Median seconds to write a full block, its spread, and the median for the short one.
    pub(super) write: (f64, f64, f64),
    /// When the leftovers of speculative task attempts are removed, reference seconds.
    pub(super) cleanup: f64,
    /// When the data set is deleted, if it is.
    pub(super) delete: Option<f64>,
    /// Median seconds between deletion at the name node and at a data node.
    pub(super) purge: f64,
    /// Chance that the scanner verifies a replica in the data set's life, and that it verifies all three of a block.
    pub(super) scan: (f64, f64),
    pub(super) readings: &'static [Reading],
    pub(super) weights: Weights,
}

const ABORTS: &[(f64, &str)] = &[(0.525, "xSx"), (0.465, "xxS")];
const ABORTS_SHORT: &[(f64, &str)] = &[(0.87, "S")];
const TEXT: &[(f64, &str)] = &[(0.465, "SSx"), (0.38, "SxS"), (0.10, "xSS"), (0.05, "SS")];
const TEXT_LATE: &[(f64, &str)] =
    &[(0.13, "SSx"), (0.18, "SxS"), (0.125, "xSS"), (0.035, "SS"), (0.03, "Sx"), (0.015, "xS")];
const TEXT_CUT: &[(f64, &str)] =
    &[(0.39, "SSx"), (0.23, "SxS"), (0.045, "xSS"), (0.05, "SS"), (0.03, "xS"), (0.025, "Sx")];
const TEXT_SHORT: &[(f64, &str)] = &[(0.88, "xS"), (0.05, "xSx"), (0.02, "xSS")];
const TEXT_SHORT_LATE: &[(f64, &str)] = &[(0.5, "x")];

const fn reading(from: f64, to: f64, pause: f64) -> Reading {
    Reading { from, to, pause, crowd: 0.0, full: TEXT, short: TEXT_SHORT, local: 0.55 }
}

const fn sorting(from: f64, to: f64, crowd: f64) -> Reading {
    Reading { from, to, pause: 22.0, crowd, full: ABORTS, short: ABORTS_SHORT, local: 0.24 }
}

const NONE: Weights =
    Weights { begin: 0.0, write: 0.0, empty: 0.0, no_file: 0.0, redundant: 0.0, redelete: 0.0, replicate: [0.0; 5] };

/// Writers of random records: sixteen full blocks and a short one a file.
const RANDOM: Job = Job {
    folder: "rand",
    stamp: "200811101024",
    number: 1,
    phase: 'm',
    share: 500.0,
    from: 0.0,
    to: 0.0,
    blocks: 16,
    short: 3_538_000,
    write: (38.0, 0.34, 2.4),
    cleanup: 0.0,
    delete: None,
    purge: 150.0,
    scan: (0.01, 0.0),
    readings: &[],
    weights: NONE,
};

/// Writers of random text: a longer last block.
const TEXTS: Job = Job { folder: "randtxt", short: 28_490_000, write: (39.0, 0.30, 15.0), ..RANDOM };

/// Sorters: few, long files of whole blocks.
const SORT: Job = Job { folder: "sortrand", phase: 'r', blocks: 88, short: 0, write: (27.0, 0.45, 13.0), ..RANDOM };

/// Word counts: a handful of blocks.
const COUNT: Job =
    Job { folder: "wcnt0", phase: 'r', blocks: 2, short: 0, share: 6.0, write: (14.0, 0.2, 3.0), ..RANDOM };

/// The jobs in order of time.
pub(super) const JOBS: &[Job] = &[
    Job {
        stamp: "200811092030",
        share: 533.0,
        from: 0.0,
        to: 3_668.0,
        cleanup: 3_764.0,
        delete: Some(50_124.0),
        purge: 300.0,
        scan: (0.26, 0.18),
        readings: &[sorting(3_800.0, 8_904.0, 0.08)],
        weights: Weights {
            begin: 6.0,
            write: 8.0,
            no_file: 7.0,
            redundant: 1.0,
            redelete: 6.0,
            replicate: [0.2, 0.0, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        stamp: "200811092030",
        number: 2,
        share: 496.0,
        from: 9_984.0,
        to: 15_380.0,
        cleanup: 15_973.0,
        delete: Some(50_155.0),
        purge: 272.0,
        scan: (0.087, 0.0),
        weights: Weights { begin: 7.0, write: 4.0, no_file: 6.0, redundant: 4.0, ..NONE },
        ..SORT
    },
    Job {
        stamp: "200811092030",
        number: 3,
        share: 518.0,
        from: 16_012.0,
        to: 19_890.0,
        cleanup: 19_908.0,
        delete: Some(50_095.0),
        purge: 325.0,
        scan: (0.026, 0.0),
        readings: &[
            reading(19_944.0, 34_906.0, 90.0),
            reading(37_212.0, 39_010.0, 12.0),
            reading(41_327.0, 43_082.0, 12.0),
            Reading { full: TEXT_LATE, short: TEXT_SHORT_LATE, ..reading(45_391.0, 48_100.0, 18.0) },
        ],
        weights: Weights {
            begin: 9.0,
            write: 8.0,
            no_file: 5.0,
            redundant: 2.0,
            redelete: 14.0,
            replicate: [0.2, 0.0, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..TEXTS
    },
    Job {
        stamp: "200811092030",
        number: 4,
        from: 36_075.0,
        to: 36_387.0,
        cleanup: 36_500.0,
        delete: Some(50_153.0),
        purge: 300.0,
        ..COUNT
    },
    Job {
        share: 499.0,
        from: 50_189.0,
        to: 53_965.0,
        cleanup: 54_055.0,
        delete: Some(87_968.0),
        purge: 211.0,
        scan: (0.28, 0.11),
        readings: &[sorting(57_954.0, 62_717.0, 0.05)],
        weights: Weights {
            begin: 2.0,
            write: 2.0,
            empty: 1.0,
            redundant: 1.0,
            redelete: 0.5,
            replicate: [0.25, 0.8, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        folder: "randtxt2",
        number: 2,
        share: 510.0,
        from: 54_073.0,
        to: 57_815.0,
        cleanup: 57_918.0,
        delete: Some(107_679.0),
        purge: 139.0,
        scan: (0.08, 0.0),
        readings: &[
            reading(70_826.0, 85_630.0, 90.0),
            Reading { full: TEXT_CUT, short: TEXT_SHORT_LATE, ..reading(95_865.0, 107_400.0, 90.0) },
        ],
        weights: Weights {
            begin: 3.0,
            write: 3.0,
            redundant: 1.0,
            redelete: 6.0,
            replicate: [0.3, 0.0, 0.0, 0.0, 1.5],
            ..NONE
        },
        ..TEXTS
    },
    Job {
        folder: "sortrand2",
        number: 3,
        share: 461.0,
        from: 64_309.0,
        to: 70_106.0,
        cleanup: 70_785.0,
        delete: Some(87_942.0),
        purge: 249.0,
        scan: (0.023, 0.0),
        weights: Weights { begin: 1.0, write: 2.0, redundant: 1.0, redelete: 2.0, ..NONE },
        ..SORT
    },
    Job { folder: "wcnt1", number: 4, from: 86_689.0, to: 87_140.0, cleanup: 87_300.0, ..COUNT },
    Job {
        folder: "rand3",
        number: 5,
        share: 474.0,
        from: 88_003.0,
        to: 91_805.0,
        cleanup: 91_855.0,
        delete: Some(91_861.0),
        purge: 149.0,
        scan: (0.0035, 0.0),
        weights: Weights {
            begin: 1.0,
            write: 3.0,
            empty: 2.0,
            redundant: 1.0,
            redelete: 12.0,
            replicate: [0.05, 0.5, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        folder: "randtxt3",
        number: 7,
        share: 535.0,
        from: 91_900.0,
        to: 95_753.0,
        cleanup: 95_828.0,
        delete: Some(115_678.0),
        purge: 216.0,
        scan: (0.047, 0.0),
        weights: Weights {
            begin: 2.0,
            write: 2.0,
            redundant: 1.0,
            redelete: 5.0,
            replicate: [0.05, 0.2, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..TEXTS
    },
    Job {
        folder: "rand4",
        number: 9,
        share: 503.0,
        from: 107_733.0,
        to: 111_686.0,
        cleanup: 111_770.0,
        delete: Some(115_653.0),
        purge: 240.0,
        scan: (0.013, 0.0),
        weights: Weights {
            begin: 1.0,
            write: 1.0,
            empty: 2.0,
            redundant: 1.0,
            redelete: 4.0,
            replicate: [0.05, 0.1, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        folder: "randtxt4",
        number: 10,
        share: 525.0,
        from: 111_784.0,
        to: 115_560.0,
        cleanup: 115_642.0,
        scan: (0.034, 0.0),
        weights: Weights {
            begin: 6.0,
            write: 3.0,
            empty: 1.0,
            redundant: 1.0,
            redelete: 0.5,
            replicate: [0.05, 0.1, 1.0, 1.0, 0.0],
            ..NONE
        },
        ..TEXTS
    },
    Job {
        folder: "rand5",
        number: 11,
        share: 498.0,
        from: 115_708.0,
        to: 119_480.0,
        cleanup: 119_525.0,
        delete: Some(127_246.0),
        purge: 144.0,
        scan: (0.016, 0.0),
        weights: Weights {
            begin: 5.0,
            write: 2.0,
            empty: 3.0,
            no_file: 1.0,
            redundant: 2.0,
            redelete: 5.0,
            replicate: [0.25, 0.8, 0.0, 1.1, 0.0],
        },
        ..RANDOM
    },
    Job {
        folder: "randtxt5",
        number: 12,
        share: 464.0,
        from: 119_534.0,
        to: 123_270.0,
        cleanup: 123_386.0,
        delete: Some(123_394.0),
        purge: 153.0,
        scan: (0.0008, 0.0),
        weights: Weights {
            begin: 1.0,
            write: 2.0,
            redundant: 1.0,
            redelete: 2.0,
            replicate: [0.05, 0.1, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..TEXTS
    },
    Job {
        folder: "rand6",
        number: 13,
        share: 511.0,
        from: 123_426.0,
        to: 127_168.0,
        cleanup: 127_238.0,
        delete: Some(131_015.0),
        purge: 142.0,
        scan: (0.005, 0.0),
        weights: Weights {
            begin: 2.0,
            write: 2.0,
            empty: 0.3,
            redundant: 1.0,
            redelete: 18.0,
            replicate: [0.2, 0.45, 1.5, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        folder: "rand7",
        number: 14,
        share: 535.0,
        from: 127_276.0,
        to: 130_881.0,
        cleanup: 131_004.0,
        weights: Weights {
            begin: 3.0,
            write: 4.0,
            empty: 0.3,
            redundant: 0.5,
            replicate: [0.35, 0.4, 0.6, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        folder: "rand8",
        number: 15,
        share: 517.0,
        from: 131_051.0,
        to: 134_697.0,
        cleanup: 134_766.0,
        weights: Weights {
            begin: 4.0,
            write: 1.0,
            empty: 0.3,
            redundant: 0.5,
            replicate: [0.05, 0.55, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..RANDOM
    },
    Job {
        folder: "randtxt9",
        number: 16,
        share: 513.0,
        from: 134_783.0,
        to: 138_380.0,
        cleanup: 138_520.0,
        delete: Some(138_535.0),
        purge: 69.0,
        scan: (0.005, 0.0),
        weights: Weights {
            begin: 2.0,
            write: 1.0,
            empty: 0.3,
            redundant: 0.5,
            redelete: 0.5,
            replicate: [0.6, 0.05, 0.0, 0.0, 0.0],
            ..NONE
        },
        ..TEXTS
    },
];

/// A data node falls silent for a while; what it stores is replicated elsewhere, then it comes back.
pub(super) struct Outage {
    /// 0, 1, 2: nodes A, B, C.
    pub(super) node: usize,
    /// When the name node gives the node up, reference seconds.
    pub(super) at: f64,
    /// Median seconds until it is back.
    pub(super) back: f64,
}

/// The outages of the run.
pub(super) const OUTAGES: &[Outage] = &[
    Outage { node: 2, at: 88_700.0, back: 380.0 },
    Outage { node: 2, at: 92_600.0, back: 320.0 },
    Outage { node: 0, at: 116_100.0, back: 250.0 },
    Outage { node: 1, at: 123_800.0, back: 1_080.0 },
    Outage { node: 0, at: 127_600.0, back: 200.0 },
    Outage { node: 0, at: 131_500.0, back: 130.0 },
];
