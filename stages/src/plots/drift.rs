//! Drift: how far new sessions are from the reference by each measure, against chance and history, and the templates whose
//! share of events moved most.

use std::path::Path;

use plotters::style::RGBColor;

use super::Caption;
use super::canvas::{Anchor, BLUE, Canvas, GREEN, GRID, INK, MUTED, ORANGE, VERMILION, picture};
use super::frame::{SIZE, heading, nothing};
use crate::drift::document::{Drift, Verdict};

const LEFT: f64 = 130.0;
/// Where labels end and data begin and end.
const FROM: f64 = 560.0;
const TO: f64 = 1330.0;
const TOP: f64 = 205.0;
const ROW: f64 = 40.0;
/// Most templates that are shown.
const TEMPLATES: usize = 9;

fn colour(verdict: Verdict) -> RGBColor {
    match verdict {
        Verdict::Stable => GREEN,
        Verdict::Watch => ORANGE,
        Verdict::Refit => VERMILION,
    }
}

/// Draws what a drift report says.
///
/// # Errors
/// The file cannot be written.
pub fn drift(path: &Path, caption: &Caption, drift: &Drift, key: &str) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        let title = drift.verdict.map_or("Drift".to_owned(), |v| format!("Drift: {}", v.name()));
        heading(canvas, &title, caption)?;
        if drift.measures.is_empty() {
            return nothing(canvas, &drift.reason);
        }
        canvas.tell(drift.reason.as_str());
        for m in &drift.measures {
            canvas.tell(format!("{}: divergence {:.4} bits, {}", m.title, m.divergence, m.verdict.name()));
        }
        let bottom = measures(canvas, drift)?;
        templates(canvas, drift, bottom + 150.0)
    })
}

/// As much of a text as fits, from its beginning.
fn beginning(canvas: &Canvas<'_>, text: &str, size: f64, room: f64) -> anyhow::Result<String> {
    if canvas.width_of(text, size)? <= room {
        return Ok(text.to_owned());
    }
    let letters: Vec<char> = text.chars().collect();
    let (mut low, mut high) = (0, letters.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        let cut: String = letters[..middle].iter().chain(&['…']).collect();
        if canvas.width_of(&cut, size)? <= room { low = middle } else { high = middle - 1 }
    }
    Ok(letters[..low].iter().chain(&['…']).collect())
}

/// An axis below rows: ticks in units of the data, with labels.
fn axis(canvas: &Canvas<'_>, (top, bottom): (f64, f64), ticks: &[(f64, String)], title: &str) -> anyhow::Result<()> {
    for (share, label) in ticks {
        let x = FROM + share * (TO - FROM);
        canvas.line(&[(x, top), (x, bottom)], GRID, 1.0)?;
        canvas.text(label, (x, bottom + 22.0), 18.0, INK, Anchor::Centre)?;
    }
    canvas.line(&[(FROM, bottom), (TO, bottom)], MUTED, 1.5)?;
    canvas.text(title, (f64::midpoint(FROM, TO), bottom + 54.0), 20.0, INK, Anchor::Centre)
}

fn measures(canvas: &Canvas<'_>, drift: &Drift) -> anyhow::Result<f64> {
    let bottom = TOP + ROW * drift.measures.len() as f64;
    let values = drift.measures.iter().flat_map(|m| [m.divergence, m.chance, m.history]);
    let least = values.filter(|v| *v > 0.0).fold(1.0, f64::min);
    let from = least.log10().floor().clamp(-6.0, -1.0);
    let share = |value: f64| ((value.max(1e-12).log10() - from) / -from).clamp(0.0, 1.0);
    let x = |value: f64| FROM + share(value) * (TO - FROM);
    let ticks: Vec<(f64, String)> = (from as i32..=0)
        .map(|decade| 10f64.powi(decade))
        .map(|value| (share(value), if value < 1e-3 { format!("{value:.0e}") } else { value.to_string() }))
        .collect();
    axis(canvas, (TOP - 8.0, bottom), &ticks, "Jensen-Shannon divergence from the reference, bits (log scale)")?;
    legend(canvas)?;
    for (row, measure) in drift.measures.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        canvas.text(&measure.title, (FROM - 20.0, y), 20.0, INK, Anchor::Right)?;
        canvas.fill((FROM, y - 9.0), (x(measure.chance), y + 9.0), MUTED, 0.25)?;
        let history = x(measure.history);
        canvas.line(&[(history, y - 13.0), (history, y + 13.0)], INK, 3.0)?;
        canvas.marker((x(measure.divergence), y), 8.0, colour(measure.verdict))?;
    }
    Ok(bottom)
}

fn legend(canvas: &Canvas<'_>) -> anyhow::Result<()> {
    let y = 152.0;
    let mut x = LEFT;
    let mut entry = |text: &str, draw: &dyn Fn(f64) -> anyhow::Result<()>| -> anyhow::Result<()> {
        draw(x)?;
        canvas.text(text, (x + 38.0, y), 18.0, INK, Anchor::Left)?;
        x += 38.0 + canvas.width_of(text, 18.0)? + 34.0;
        Ok(())
    };
    for verdict in [Verdict::Stable, Verdict::Watch, Verdict::Refit] {
        entry(&format!("new: {}", verdict.name()), &|x| canvas.marker((x + 14.0, y), 8.0, colour(verdict)))?;
    }
    entry("chance (permuted sessions)", &|x| canvas.fill((x, y - 9.0), (x + 28.0, y + 9.0), MUTED, 0.25))?;
    entry("within the reference, at most", &|x| canvas.line(&[(x + 14.0, y - 12.0), (x + 14.0, y + 12.0)], INK, 3.0))
}

fn templates(canvas: &Canvas<'_>, drift: &Drift, top: f64) -> anyhow::Result<()> {
    let shown = &drift.shifts[..drift.shifts.len().min(TEMPLATES)];
    canvas.bold("Templates whose share of events moved most", (LEFT, top - 46.0), 22.0, INK, Anchor::Left)?;
    if shown.is_empty() {
        return canvas.text("none moved", (LEFT, top), 20.0, MUTED, Anchor::Left);
    }
    let bottom = top + ROW * shown.len() as f64;
    // Shares spread over powers of ten; 0 lies apart on the left.
    let least = shown.iter().flat_map(|t| [t.reference, t.new]).filter(|share| *share > 0.0).fold(1.0, f64::min);
    let from = least.log10().floor().clamp(-6.0, -1.0);
    let place = |share: f64| if share > 0.0 { 0.06 + 0.94 * ((share.log10() - from) / -from).max(0.0) } else { 0.0 };
    let percent = |share: f64| {
        let text = format!("{:.4}", 100.0 * share);
        format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let mut ticks = vec![(0.0, "0".to_owned())];
    ticks.extend((from as i32..=0).map(|power| 10f64.powi(power)).map(|share| (place(share), percent(share))));
    let title = "share of events, log scale (grey: the reference, blue: new sessions)";
    axis(canvas, (top - 8.0, bottom), &ticks, title)?;
    let x = |share: f64| FROM + place(share) * (TO - FROM);
    for (row, template) in shown.iter().enumerate() {
        let y = top + ROW * (row as f64 + 0.5);
        let id = format!("{}  ", template.event_id);
        let room = FROM - 20.0 - LEFT;
        let label = beginning(canvas, &format!("{id}{}", template.text), 17.0, room)?;
        canvas.text(&label, (FROM - 20.0, y), 17.0, INK, Anchor::Right)?;
        let (a, b) = (x(template.reference), x(template.new));
        canvas.line(&[(a, y), (b, y)], MUTED, 3.0)?;
        canvas.marker((a, y), 6.5, MUTED)?;
        canvas.marker((b, y), 8.0, BLUE)?;
    }
    Ok(())
}
