//! `run`: brings stages up to date and shows it happening.

use std::sync::Arc;

use logweir_engine::engine::{Engine, PlanOptions, RunOptions};
use logweir_engine::quick::{self, Quick};

use crate::cli::{Global, RunArgs};
use crate::commands::follow::{self, Follower};
use crate::commands::{Outcome, limit_polars, open, plan, stop_on_signal, watch, with_reading};
use crate::render::diagnostic::Failure;
use crate::render::{Screen, to_stderr};

pub(super) fn run(global: &Global, args: &RunArgs, screen: &Screen) -> Outcome {
    limit_polars(args.jobs);
    let jobs = args.jobs.map_or(0, std::num::NonZero::get);
    let plan_file = args.plan.as_ref().map(std::path::absolute).transpose().map_err(Failure::environment)?;
    if args.dry_run {
        let (targets, force) = (args.targets.clone(), args.force.clone());
        let planning = PlanOptions { targets, force, rehash: args.rehash, jobs };
        return plan::show(&open(global)?.plan(&planning)?, screen);
    }
    let options = RunOptions {
        targets: args.targets.clone(),
        force: args.force.clone(),
        rehash: args.rehash,
        jobs,
        keep_going: args.keep_going,
        plan_file,
    };
    let view = *screen;
    let cancel = stop_on_signal(move || {
        // A terminal view says so itself.
        if !view.json && !view.bars {
            to_stderr("\nstopping; what is finished is kept (again to stop at once)\n");
        }
    })?;
    if args.watch {
        return watch::watch(global, &options, screen, &cancel);
    }
    with_reading(global, |reading| {
        let follower = Follower::new(&options, screen, &cancel);
        // Nothing to do is found out without the pipeline.
        let snapshot = quick::snapshot_of(reading);
        let glance = match quick::run(&snapshot, reading, &options, &follower)? {
            Quick::Done(summary) => {
                if let Some(settings) = quick::told_to(&snapshot) {
                    follower.tell_of(&summary, &settings, reading.project.root());
                }
                return Ok(follower.conclude(&summary));
            }
            Quick::Whole(glance) => glance,
        };
        let engine = Arc::new(Engine::open(reading)?);
        let code = follow::carry_out(follower, &engine, glance)?;
        // The process is about to end: ten thousand stages need not be taken apart first.
        std::mem::forget(engine);
        Ok(code)
    })
}
