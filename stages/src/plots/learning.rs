//! A learning curve: what was measured on validation after each round or epoch, and which of them was kept.

use std::path::Path;

use super::Caption;
use super::canvas::{Anchor, BLUE, INK, VERMILION, picture};
use super::frame::{Axis, Corner, Entry, Frame, Mark, SIZE, heading, nothing};
use super::histogram::step;

/// A learning curve.
#[derive(Clone, Debug)]
pub struct Learning {
    /// What learns.
    pub title: &'static str,
    /// What the steps are.
    pub steps: &'static str,
    /// What is measured, and its unit.
    pub measured: &'static str,
    /// The measure after each step.
    pub values: Vec<f64>,
    /// The step whose model was kept, from 1.
    pub kept: usize,
    /// Whether an error is measured, which spreads over powers of ten.
    pub error: bool,
    /// Why there is no curve.
    pub why_not: Option<String>,
}

/// Draws a learning curve.
///
/// # Errors
/// The file cannot be written.
pub fn learning(path: &Path, caption: &Caption, curve: &Learning, key: &str) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, &format!("Learning curve: {}", curve.title), caption)?;
        if curve.values.is_empty() {
            let why = curve.why_not.as_deref().unwrap_or("nothing was measured");
            return nothing(canvas, &format!("no curve: {why}"));
        }
        let log = curve.error && curve.values.iter().all(|&value| value > 0.0);
        let unit = |value: f64| if log { value.log10() } else { value };
        let values: Vec<f64> = curve.values.iter().map(|&value| unit(value)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let pad = ((high - low) * 0.08).max(if log { 0.05 } else { 0.005 });
        // A share does not go beyond 1.
        let (from, to) = (low - pad, if curve.error { high + pad } else { (high + pad).min(1.0) });
        let y = Axis { from, to, ticks: ticks(from, to, log), title: curve.measured };
        let label = |value: f64| {
            let value = if log { 10f64.powf(value) } else { value };
            if value.abs() >= 0.01 { format!("{value:.4}") } else { format!("{value:.2e}") }
        };
        let steps = values.len();
        let (first, last) = (label(values[0]), label(values[steps - 1]));
        canvas.tell(format!("{} over {steps} {}: {first} at first, {last} in the end", curve.measured, curve.steps));
        let every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].into_iter().find(|n| steps / n <= 10).unwrap_or(steps);
        let mut marks: Vec<(f64, String)> =
            (every..=steps).step_by(every).map(|step| (step as f64, step.to_string())).collect();
        if every > 1 {
            marks.insert(0, (1.0, "1".to_owned()));
        }
        let x = Axis { from: 1.0, to: (steps as f64).max(2.0), ticks: marks, title: curve.steps };
        let frame = Frame::new(canvas, x, y)?;
        let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(i, &v)| ((i + 1) as f64, v)).collect();
        canvas.line(&frame.path(points.iter().copied()), BLUE, 3.0)?;
        if steps == 1 {
            canvas.marker(frame.at(1.0, values[0]), 6.0, BLUE)?;
        }
        let kept = curve.kept.clamp(1, steps);
        canvas.line(&[frame.at(kept as f64, from), frame.at(kept as f64, to)], VERMILION, 2.0)?;
        canvas.marker(frame.at(kept as f64, values[kept - 1]), 8.0, VERMILION)?;
        let entries = [
            Entry { mark: Mark::Line(3.0), colour: BLUE, text: "on the validation fold".to_owned() },
            Entry {
                mark: Mark::Disc,
                colour: VERMILION,
                text: format!("kept: {} {}, {}", curve.kept, curve.steps, label(values[kept - 1])),
            },
        ];
        let corner = if curve.error { Corner::UpperRight } else { Corner::LowerRight };
        frame.legend("measured after each step", &entries, corner)?;
        if log {
            let (x, y) = frame.at(1.0, to);
            canvas.text("log scale", (x + 8.0, y + 14.0), 17.0, INK, Anchor::Left)?;
        }
        Ok(())
    })
}

/// Round values within a range of the axis: of 1, 2 and 5 times powers of ten on a logarithmic one.
fn ticks(from: f64, to: f64, log: bool) -> Vec<(f64, String)> {
    if !log {
        let step = step(to - from);
        let places = if step < 1.0 { (-step.log10()).ceil() as usize } else { 0 };
        let first = (from / step).ceil() as i64;
        let values = (first..).map(|i| i as f64 * step).take_while(|value| *value <= to + 1e-9);
        return values.map(|value| (value, format!("{value:.places$}"))).collect();
    }
    let powers = (from.floor() as i32)..=(to.ceil() as i32);
    let values = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|m| (power, m * 10f64.powi(power))));
    values
        .map(|(power, value)| (power, value, value.log10()))
        .filter(|(.., at)| (from..=to).contains(at))
        .map(|(power, value, at)| {
            let places = (-power).max(0) as usize;
            (at, if power < -4 { format!("{value:.0e}") } else { format!("{value:.places$}") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |from, to, log| ticks(from, to, log).into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(labels(0.76, 1.0, false), ["0.80", "0.85", "0.90", "0.95", "1.00"]);
        assert_eq!(labels(-2.05, -0.2, true), ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]);
    }
}
