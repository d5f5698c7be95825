//! How numbers moved from run to run: a small panel for each, with a scale of its own.

use std::path::Path;

use super::canvas::{Anchor, BLUE, Canvas, GRID, INK, MUTED, picture};
use super::vector::vector;

/// One number over the runs.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its value in each run; `None` where it has none.
    pub values: Vec<Option<f64>>,
}

/// Most panels of one picture.
const MOST: usize = 48;
const LEFT: f64 = 40.0;
const TOP: f64 = 130.0;
const WIDE: f64 = 620.0;
const HIGH: f64 = 250.0;
/// Room left of an area for its scale, above it for its title, below it for the runs.
const SCALE: f64 = 110.0;
const TITLE: f64 = 60.0;
const RUNS: f64 = 46.0;

/// Draws the numbers over runs that began at `times` into a `.png` file, or any other as SVG. Beyond 48 numbers it says
/// how many are left out.
///
/// # Errors
/// The file cannot be written.
pub fn history(path: &Path, times: &[String], lines: &[Line]) -> anyhow::Result<()> {
    let shown = &lines[..lines.len().min(MOST)];
    let columns = shown.len().clamp(1, 3);
    let rows = shown.len().div_ceil(columns).max(1);
    let width = (LEFT + WIDE * columns.max(2) as f64 + LEFT) as u32;
    let height = (TOP + HIGH * rows as f64 + 20.0) as u32;
    let draw = |canvas: &Canvas<'_>| {
        canvas.bold("Metrics from run to run", (LEFT, 48.0), 34.0, INK, Anchor::Left)?;
        let runs = if times.len() == 1 { "1 run".to_owned() } else { format!("{} runs", times.len()) };
        let span = match (times.first(), times.last()) {
            (Some(first), Some(last)) if first != last => format!(" · {first} to {last} UTC"),
            (Some(first), _) => format!(" · {first} UTC"),
            _ => String::new(),
        };
        let more = match lines.len() - shown.len() {
            0 => String::new(),
            n => format!(" · {n} more numbers are not shown"),
        };
        let scope = format!("{runs}{span}{more}");
        canvas.name("Metrics from run to run");
        canvas.tell(scope.as_str());
        canvas.text(&scope, (LEFT, 92.0), 21.0, MUTED, Anchor::Left)?;
        for (place, line) in shown.iter().enumerate() {
            let at = (LEFT + WIDE * (place % columns) as f64, TOP + HIGH * (place / columns) as f64);
            panel(canvas, at, line, times)?;
        }
        Ok(())
    };
    if path.extension().is_some_and(|extension| extension == "png") {
        picture(path, (width, height), None, draw)
    } else {
        vector(path, (width, height), draw)
    }
}

fn panel(canvas: &Canvas<'_>, (left, top): (f64, f64), line: &Line, times: &[String]) -> anyhow::Result<()> {
    let (x0, x1) = (left + SCALE, left + WIDE - 40.0);
    let (y0, y1) = (top + HIGH - RUNS, top + TITLE);
    let values: Vec<f64> = line.values.iter().flatten().copied().filter(|value| value.is_finite()).collect();
    let last = line.values.iter().rev().find_map(|value| *value).map(label).unwrap_or_default();
    canvas.bold(&last, (x1, top + 30.0), 21.0, INK, Anchor::Right)?;
    let room = x1 - left - 12.0 - canvas.width_of(&last, 23.0)?;
    canvas.text(&ending(canvas, &line.name, 19.0, room)?, (left + 6.0, top + 30.0), 19.0, INK, Anchor::Left)?;
    if values.is_empty() {
        return canvas.text("no values", ((x0 + x1) / 2.0, (y0 + y1) / 2.0), 19.0, MUTED, Anchor::Centre);
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // One level alone lies in the middle.
    let same = high - low <= 1e-12 * high.abs().max(low.abs());
    let pad = if same { high.abs().max(1.0) * 0.05 } else { (high - low) * 0.12 };
    let (from, to) = (low - pad, high + pad);
    let y = |value: f64| y0 - (value - from) / (to - from) * (y0 - y1);
    let steps = (times.len() - 1).max(1) as f64;
    let x = |run: usize| if times.len() == 1 { (x0 + x1) / 2.0 } else { x0 + run as f64 / steps * (x1 - x0) };
    for value in if same { vec![low] } else { vec![low, high] } {
        canvas.line(&[(x0, y(value)), (x1, y(value))], GRID, 1.0)?;
        canvas.text(&label(value), (x0 - 12.0, y(value)), 17.0, MUTED, Anchor::Right)?;
    }
    canvas.line(&[(x0, y1), (x0, y0), (x1, y0)], MUTED, 1.5)?;
    let day = |time: &String| time.get(5..).unwrap_or(time).to_owned();
    match (times.first(), times.last()) {
        (Some(only), _) if times.len() == 1 => {
            canvas.text(&day(only), ((x0 + x1) / 2.0, y0 + 22.0), 16.0, MUTED, Anchor::Centre)?;
        }
        (Some(first), Some(last)) => {
            canvas.text(&day(first), (x0, y0 + 22.0), 16.0, MUTED, Anchor::Left)?;
            canvas.text(&day(last), (x1, y0 + 22.0), 16.0, MUTED, Anchor::Right)?;
        }
        _ => {}
    }
    // A run without a value is a gap.
    let present = |value: &Option<f64>| value.is_some_and(f64::is_finite);
    let mut run = 0;
    for part in line.values.chunk_by(|a, b| present(a) == present(b)) {
        let points: Vec<(f64, f64)> = part
            .iter()
            .enumerate()
            .filter_map(|(i, value)| Some((x(run + i), y((*value).filter(|v| v.is_finite())?))))
            .collect();
        canvas.line(&points, BLUE, 2.5)?;
        // Discs as long as they do not touch, and for what no line shows.
        if times.len() <= 40 || points.len() == 1 {
            for point in &points {
                canvas.marker(*point, 4.5, BLUE)?;
            }
        }
        run += part.len();
    }
    Ok(())
}

/// A number in few letters.
fn label(value: f64) -> String {
    let size = value.abs();
    if size >= 1e7 || (size > 0.0 && size < 1e-3) {
        return format!("{value:.2e}");
    }
    let places = if size >= 1000.0 { 1 } else { 4 };
    let text = format!("{value:.places$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// As much of a name as fits, from its end: names differ there.
fn ending(canvas: &Canvas<'_>, name: &str, size: f64, room: f64) -> anyhow::Result<String> {
    if canvas.width_of(name, size)? <= room {
        return Ok(name.to_owned());
    }
    let letters: Vec<char> = name.chars().collect();
    for from in 1..letters.len() {
        let text: String = std::iter::once('…').chain(letters[from..].iter().copied()).collect();
        if canvas.width_of(&text, size)? <= room {
            return Ok(text);
        }
    }
    Ok("…".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, n: usize) -> Line {
        let value = |i: usize| (i % 7 != 3).then(|| 0.9 + (i as f64 * 0.7).sin() * 0.02);
        Line { name: name.to_owned(), values: (0..n).map(value).collect() }
    }

    #[test]
    fn any_number_of_runs_and_any_name_gives_a_picture() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("reports/{}/metrics.json#/fusion/average_precision", "deep/".repeat(30));
        for n in [1, 2, 30, 1000] {
            let times: Vec<String> = (0..n).map(|i| format!("2026-11-{:02} 17:14", 1 + i % 28)).collect();
            let constant = Line { name: "constant".into(), values: vec![Some(3.0); n] };
            let none = Line { name: "none".into(), values: vec![None; n] };
            let lines = [line("reports/metrics.json#/fusion/f1", n), line(&long, n), constant, none];
            history(&dir.path().join("h.svg"), &times, &lines).unwrap();
            history(&dir.path().join("h.png"), &times, &lines).unwrap();
            let svg = std::fs::read_to_string(dir.path().join("h.svg")).unwrap();
            assert!(svg.contains("average_precision") && svg.contains("no values") && svg.contains("\n3\n"), "{n}");
        }
        history(&dir.path().join("empty.svg"), &[], &[]).unwrap();
    }
}
