//! `run`: brings stages up to date and shows it happening.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logweir_engine::engine::{PlanOptions, RunOptions};

use crate::cli::{Global, RunArgs};
use crate::commands::{Outcome, follow, limit_polars, open, plan, watch};
use crate::render::diagnostic::Failure;
use crate::render::{Screen, to_stderr};

pub(super) fn run(global: &Global, args: &RunArgs, screen: &Screen) -> Outcome {
    limit_polars(args.jobs);
    let jobs = args.jobs.map_or(0, std::num::NonZero::get);
    let plan_file = args.plan.as_ref().map(std::path::absolute).transpose().map_err(Failure::environment)?;
    let options = RunOptions {
        targets: args.targets.clone(),
        force: args.force.clone(),
        rehash: args.rehash,
        jobs,
        keep_going: args.keep_going,
        plan_file,
    };
    if args.watch {
        return watch::watch(global, &options, screen, &stop_on_signal(*screen)?);
    }
    let engine = open(global)?;
    if args.dry_run {
        let RunOptions { targets, force, rehash, jobs, .. } = options;
        return plan::show(&engine.plan(&PlanOptions { targets, force, rehash, jobs })?, screen);
    }
    follow::carry_out(&Arc::new(engine), &options, screen, &stop_on_signal(*screen)?)
}

/// Ctrl-C (or a termination signal) once stops cleanly, twice at once.
fn stop_on_signal(screen: Screen) -> Result<Arc<AtomicBool>, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            #[expect(clippy::disallowed_methods, reason = "asked for twice: not even destructors are waited for")]
            std::process::exit(130);
        }
        // A terminal view says so itself.
        if !screen.json && !screen.bars {
            to_stderr("\nstopping; what is finished is kept (again to stop at once)\n");
        }
    })
    .map_err(|e| Failure::environment(anyhow::Error::new(e).context("cannot catch signals")))?;
    Ok(cancel)
}
