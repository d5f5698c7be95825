//! The confusion matrix: counts, and shares of each row.

use std::path::Path;

use super::Caption;
use super::canvas::{Anchor, BLUE, INK, MUTED, PAPER, VERMILION, grouped, picture, short};
use super::frame::{SIZE, heading, nothing};
use crate::evaluate::document::Confusion;

const LEFT: f64 = 300.0;
const TOP: f64 = 230.0;
const WIDE: f64 = 370.0;
const HIGH: f64 = 345.0;
const GAP: f64 = 8.0;

/// Draws a confusion matrix; without labels, says so.
///
/// # Errors
/// The file cannot be written.
pub fn confusion(
    path: &Path,
    caption: &Caption,
    counts: Option<&Confusion>,
    threshold: f64,
    key: &str,
) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "Decisions of the fusion against the labels", caption)?;
        let Some(counts) = counts else {
            return nothing(canvas, "no matrix: the test fold has no labelled sessions");
        };
        let rows = [
            ("anomalous", [(counts.tp, "true positives", true), (counts.fn_, "missed", false)]),
            ("normal", [(counts.fp, "false alarms", false), (counts.tn, "true negatives", true)]),
        ];
        for (name, [(flagged, ..), (not, ..)]) in [("anomalous", rows[0].1), ("normal", rows[1].1)] {
            let (all, flagged) = (grouped(flagged + not), grouped(flagged));
            canvas.tell(format!("of {all} {name} sessions {flagged} are flagged"));
        }
        for (column, name) in ["flagged", "not flagged"].iter().enumerate() {
            let x = LEFT + (column as f64 + 0.5) * WIDE;
            canvas.text(name, (x, TOP - 32.0), 26.0, INK, Anchor::Centre)?;
        }
        canvas.text("decision", (LEFT + WIDE, TOP - 78.0), 22.0, MUTED, Anchor::Centre)?;
        canvas.upwards("label", (90.0, TOP + HIGH), 22.0, MUTED)?;
        for (r, (name, cells)) in rows.iter().enumerate() {
            let y = TOP + r as f64 * HIGH;
            let total = cells[0].0 + cells[1].0;
            canvas.text(name, (LEFT - 24.0, y + HIGH / 2.0 - 16.0), 26.0, INK, Anchor::Right)?;
            canvas.text(&grouped(total), (LEFT - 24.0, y + HIGH / 2.0 + 20.0), 21.0, MUTED, Anchor::Right)?;
            for (c, &(count, what, right)) in cells.iter().enumerate() {
                let x = LEFT + c as f64 * WIDE;
                let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
                // The shade follows the share of the row; a wrong decision is visible from a few per mille on.
                let depth = if right { 0.12 + 0.78 * share } else { (share.sqrt() * 1.2).clamp(0.06, 0.9) };
                let colour = if right { BLUE } else { VERMILION };
                let depth = if count == 0 { 0.06 } else { depth };
                canvas.fill((x, y), (x + WIDE - GAP, y + HIGH - GAP), colour, depth)?;
                let (ink, soft) = if depth > 0.5 { (PAPER, PAPER) } else { (INK, MUTED) };
                let middle = (x + (WIDE - GAP) / 2.0, y + (HIGH - GAP) / 2.0);
                canvas.bold(&grouped(count), (middle.0, middle.1 - 26.0), 50.0, ink, Anchor::Centre)?;
                let of = if total == 0 {
                    "no such sessions".to_owned()
                } else {
                    format!("{:.2} % of the row", share * 100.0)
                };
                canvas.text(&of, (middle.0, middle.1 + 28.0), 22.0, soft, Anchor::Centre)?;
                canvas.text(what, (middle.0, middle.1 + 64.0), 20.0, soft, Anchor::Centre)?;
            }
        }
        let share = |part: u64, rest: u64| if part + rest == 0 { 0.0 } else { part as f64 / (part + rest) as f64 };
        let (precision, recall) = (share(counts.tp, counts.fp), share(counts.tp, counts.fn_));
        let f1 = if counts.tp == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        let facts = [
            ("precision", format!("{precision:.4}")),
            ("recall", format!("{recall:.4}")),
            ("F1", format!("{f1:.4}")),
            ("false-positive rate", format!("{:.3} %", 100.0 * share(counts.fp, counts.tn))),
            ("threshold", short(threshold)),
        ];
        canvas.tell(facts.each_ref().map(|(name, value)| format!("{name} {value}")).join(", "));
        for (i, (name, value)) in facts.iter().enumerate() {
            let y = TOP + 40.0 + i as f64 * 134.0;
            canvas.text(name, (LEFT + 2.0 * WIDE + 56.0, y), 21.0, MUTED, Anchor::Left)?;
            canvas.bold(value, (LEFT + 2.0 * WIDE + 56.0, y + 38.0), 32.0, INK, Anchor::Left)?;
        }
        let note = "flagged: fused score at or above the threshold, which was chosen on the validation fold";
        canvas.text(note, (LEFT, TOP + 2.0 * HIGH + 44.0), 21.0, MUTED, Anchor::Left)
    })
}
