//! `simulate`: writes a simulated cluster's log and labels.

use anyhow::anyhow;
use logweir_engine::stage::ParamError;
use logweir_stages::simulate::{SimulateParams, Summary, kind, write};
use serde_json::{Value, json};

use crate::cli::SimulateArgs;
use crate::commands::Outcome;
use crate::render::diagnostic::Failure;
use crate::render::progress::Work;
use crate::render::{Screen, text};

pub(super) fn simulate(args: &SimulateArgs, screen: &Screen) -> Outcome {
    let params = parameters(args)?;
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

fn parameters(args: &SimulateArgs) -> Result<SimulateParams, Failure> {
    let mut given = json!({"sessions": args.sessions, "seed": args.seed});
    for with in &args.with {
        let help = "write --with PATH=VALUE, e.g. --with noise.late=0.01; logweir stages simulate lists all";
        let bad = |what: &str| Failure::usage(anyhow!("`--with {with}`: {what}")).help(help);
        let (path, value) = with.split_once('=').ok_or_else(|| bad("no `=`"))?;
        if matches!(path, "sessions" | "seed") {
            return Err(bad("has an option of its own"));
        }
        // What is no number, list or mapping is a text.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let mut place = &mut given;
        for name in path.split('.') {
            if place.is_null() {
                *place = json!({});
            }
            let Value::Object(map) = place else { return Err(bad("is inside of another value")) };
            place = map.entry(name).or_insert(Value::Null);
        }
        *place = value;
    }
    let refused = |errors: Vec<ParamError>| {
        let error = errors.into_iter().next().expect("a refusal has a reason");
        let option = if matches!(error.path.as_str(), "sessions" | "seed") { "" } else { "with " };
        let failure = Failure::usage(anyhow!("`--{option}{}`: {}", error.path, error.message));
        match error.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    };
    (kind().make)(&given).map_err(refused)?;
    serde_json::from_value(given).map_err(|error| Failure::bug(error.to_string()))
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
