//! Recall of each type of anomaly, by model.

use std::collections::BTreeMap;
use std::path::Path;

use super::Caption;
use super::canvas::{Anchor, GRID, INK, MUTED, grouped, picture};
use super::curves::style;
use super::frame::{SIZE, heading, nothing};
use crate::evaluate::document::TypeRecall;
use crate::support::scoretable::MODELS;

const LEFT: f64 = 430.0;
const RIGHT: f64 = 1280.0;
const TOP: f64 = 190.0;
const BOTTOM: f64 = 940.0;
/// Most types that are shown.
const MOST: usize = 12;

/// Draws the recall of each type, most frequent types first, with the 95 % interval of the fusion.
///
/// # Errors
/// The file cannot be written.
pub fn recall_by_type(
    path: &Path,
    caption: &Caption,
    types: &BTreeMap<String, TypeRecall>,
    key: &str,
) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "Recall of each type of anomaly", caption)?;
        if types.is_empty() {
            return nothing(canvas, "no bars: the test fold has no labelled anomaly");
        }
        let mut order: Vec<(&String, &TypeRecall)> = types.iter().collect();
        order.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(b.0)));
        let left_out = order.len().saturating_sub(MOST);
        order.truncate(MOST);

        let x = |share: f64| LEFT + share * (RIGHT - LEFT);
        for tenth in 0..=5 {
            let share = f64::from(tenth) / 5.0;
            canvas.line(&[(x(share), TOP), (x(share), BOTTOM)], GRID, 1.0)?;
            canvas.text(&format!("{share:.1}"), (x(share), BOTTOM + 26.0), 20.0, INK, Anchor::Centre)?;
        }
        let more = match left_out {
            0 => String::new(),
            n => format!("; {n} rarer types are not shown"),
        };
        let title = format!("recall (share of the type that is flagged, each model at its own threshold){more}");
        canvas.text(&title, (f64::midpoint(LEFT, RIGHT), BOTTOM + 66.0), 21.0, INK, Anchor::Centre)?;

        let models: Vec<(&str, &str)> = MODELS
            .iter()
            .rev()
            .filter(|(name, ..)| *name == "fusion" || order.iter().any(|(_, t)| t.models.contains_key(*name)))
            .map(|&(name, _, title)| (name, title))
            .collect();
        let mut at = 130.0;
        for (name, title) in &models {
            canvas.fill((at, 138.0), (at + 28.0, 158.0), style(name).0, 0.85)?;
            canvas.text(title, (at + 40.0, 148.0), 19.0, INK, Anchor::Left)?;
            at += 40.0 + canvas.width_of(title, 19.0)? + 44.0;
        }
        canvas.line(&[(at, 148.0), (at + 30.0, 148.0)], INK, 2.0)?;
        canvas.text("95 % interval of the fusion", (at + 42.0, 148.0), 19.0, INK, Anchor::Left)?;

        let row = ((BOTTOM - TOP) / order.len() as f64).min(185.0);
        let bar = (row * 0.76 / models.len() as f64).min(32.0);
        for (i, (name, recall)) in order.iter().enumerate() {
            let middle = TOP + row * (i as f64 + 0.5);
            canvas.text(&name.replace('_', " "), (LEFT - 20.0, middle - 12.0), 20.0, INK, Anchor::Right)?;
            let count = format!("{} of {} flagged", grouped(recall.flagged), grouped(recall.count));
            canvas.tell(format!("{}: {count}", name.replace('_', " ")));
            canvas.text(&count, (LEFT - 20.0, middle + 14.0), 17.0, MUTED, Anchor::Right)?;
            let start = middle - bar * models.len() as f64 / 2.0;
            for (m, (model, _)) in models.iter().enumerate() {
                let share = if *model == "fusion" { Some(recall.recall) } else { recall.models.get(*model).copied() };
                let Some(share) = share else { continue };
                let y = start + bar * m as f64;
                // A recall of 0 still shows which bar it is.
                canvas.fill((LEFT, y + 1.0), (x(share).max(LEFT + 3.0), y + bar - 1.0), style(model).0, 0.85)?;
                if let (&"fusion", Some([low, high])) = (model, recall.ci95) {
                    let y = y + bar / 2.0;
                    canvas.line(&[(x(low), y), (x(high), y)], INK, 2.0)?;
                    for end in [low, high] {
                        canvas.line(&[(x(end), y - 6.0), (x(end), y + 6.0)], INK, 2.0)?;
                    }
                }
                canvas.text(&format!("{share:.2}"), (RIGHT + 14.0, y + bar / 2.0), bar.min(17.0), INK, Anchor::Left)?;
            }
        }
        canvas.line(&[(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], MUTED, 1.5)
    })
}
