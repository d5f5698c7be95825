//! `simulate`: writes a simulated cluster's log and labels.

use logweir_stages::simulate::{SimulateParams, Summary, write};

use crate::cli::SimulateArgs;
use crate::commands::Outcome;
use crate::render::diagnostic::Failure;
use crate::render::progress::Work;
use crate::render::{Screen, text};

pub(super) fn simulate(args: &SimulateArgs, screen: &Screen) -> Outcome {
    let params = SimulateParams { sessions: args.sessions, seed: args.seed, ..SimulateParams::default() };
    if let Some(error) = logweir_engine::stage::Params::check(&params).into_iter().next() {
        let failure = Failure::usage(anyhow::anyhow!("`--{}`: {}", error.path, error.message));
        return Err(match error.help {
            Some(help) => failure.help(help),
            None => failure,
        });
    }
    let work = Work::new("simulating", screen);
    let summary = write(&params, &args.out, &mut |done, total| {
        work.set(done, total, "seconds of log");
        Ok(())
    })
    .map_err(Failure::environment)?;
    drop(work);
    if screen.json {
        screen.json(&summary)?;
    } else {
        screen.data(&sentence(&summary, &args.out.display().to_string()))?;
    }
    Ok(0)
}

fn sentence(summary: &Summary, place: &str) -> String {
    format!(
        "{place}: {} lines of {} simulated sessions, {} anomalous (seed {})\n",
        text::count(summary.lines),
        text::count(summary.sessions),
        text::count(summary.anomalies),
        summary.seed
    )
}
