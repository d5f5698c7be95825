//! `graph`: the pipeline as a picture.

use crate::cli::{Global, GraphArgs, GraphFormat};
use crate::commands::{Outcome, load};
use crate::render::Screen;
use logweir_engine::draw::Picture;

pub(super) fn graph(global: &Global, args: &GraphArgs, screen: &Screen) -> Outcome {
    let (spec, dag) = load(global)?;
    let picture = Picture::of(&spec, &dag, args.artifacts);
    match args.format {
        GraphFormat::Json => screen.json(&picture.json())?,
        _ if screen.json => screen.json(&picture.json())?,
        GraphFormat::Mermaid => screen.data(&picture.mermaid())?,
        GraphFormat::Dot => screen.data(&picture.dot())?,
        GraphFormat::Svg => screen.data(&picture.svg())?,
    }
    Ok(0)
}
