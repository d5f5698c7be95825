//! The built-in stage kinds of logweir: logs to sessions, features, models, scores and reports.
//!
//! One module a kind, in the order of the data flow; `support` holds what several share. Adding a kind is one file and
//! one line in [`registry`]. What each stage hands to the next is written down in `docs/artifacts.md`.

pub mod simulate;

pub mod drain;
pub mod logs;

pub mod parse;
pub mod templates;

pub mod label;
pub mod sequences;
pub mod sessionize;
pub mod split;

pub mod degrade;

pub mod featurize;

pub mod autoencoder;
pub mod lightgbm;
pub mod profile;

pub mod learning_curves;

pub mod fusion;

pub mod score;
pub mod score_logs;
pub mod stream;

pub mod session_lines;

pub mod drift;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod plots;
pub mod report;
pub mod study;

pub mod compare;
pub mod describe;
pub mod detect;
pub mod support;

#[cfg(test)]
mod testing;

use logweir_engine::stage::Registry;

include!(concat!(env!("OUT_DIR"), "/code_digests.rs"));

/// Returns the digest of a module of this package, everything it uses here and the locked libraries it computes with.
///
/// # Panics
/// There is no such module: a kind named one that does not exist.
pub fn code(module: &str) -> [u8; 32] {
    let found = CODE_DIGESTS.iter().find(|(name, _)| *name == module);
    found.expect("build.rs lists every module of this package").1
}

/// Returns every built-in kind. The only list of stages.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add(simulate::kind());
    registry.add(parse::kind());
    registry.add(templates::kind());
    registry.add(sessionize::kind());
    registry.add(sequences::kind());
    registry.add(label::kind());
    registry.add(split::kind());
    registry.add(degrade::kind());
    registry.add(featurize::kind());
    registry.add(lightgbm::kind());
    registry.add(autoencoder::kind());
    registry.add(profile::kind());
    registry.add(learning_curves::kind());
    registry.add(fusion::kind());
    registry.add(evaluate::kind());
    registry.add(drift::kind());
    registry.add(explain::kind());
    registry.add(export::kind());
    registry.add(report::kind());
    registry.add(study::kind());
    registry
}
