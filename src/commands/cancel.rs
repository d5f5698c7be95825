//! `cancel`: asks the process that holds the project's lock to stop, as Ctrl-C would.

use serde_json::json;

use crate::cli::Global;
use crate::commands::{Outcome, find};
use crate::render::Screen;

pub(super) fn cancel(global: &Global, screen: &Screen) -> Outcome {
    let project = find(global)?;
    let asked = project.interrupt()?;
    if screen.json {
        screen.json(&json!({"pid": asked}))?;
        return Ok(0);
    }
    screen.note(&match asked {
        Some(pid) => format!("asked pid {pid} to stop; what is finished is kept, `logweir run` goes on from there"),
        None => "nothing runs here".to_owned(),
    });
    Ok(0)
}
