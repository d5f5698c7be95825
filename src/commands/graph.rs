//! `graph`: the pipeline as a picture.

use crate::cli::{Global, GraphArgs, GraphFormat};
use crate::commands::{Outcome, load};
use crate::render::Screen;

pub(super) fn graph(global: &Global, args: &GraphArgs, screen: &Screen) -> Outcome {
    let (_, spec, dag, _) = load(global)?;
    let _ = (spec, dag, args.format == GraphFormat::Json, args.artifacts, screen);
    Ok(0)
}
