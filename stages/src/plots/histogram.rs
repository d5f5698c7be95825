//! How the fused score is distributed, by label, on a logarithmic count axis.

use std::path::Path;

use super::Caption;
use super::canvas::{BLUE, INK, MUTED, VERMILION, grouped, picture, short};
use super::frame::{Axis, Corner, Entry, Frame, Mark, SIZE, heading, nothing};

const BINS: usize = 60;

/// Draws the distribution of scores and their labels (`None` = unknown), with the threshold.
///
/// # Errors
/// The file cannot be written.
pub fn histogram(
    path: &Path,
    caption: &Caption,
    scores: &[(f64, Option<bool>)],
    threshold: f64,
    key: &str,
) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "Distribution of the fused score", caption)?;
        if scores.is_empty() {
            return nothing(canvas, "no scores: the test fold is empty");
        }
        let low = scores.iter().map(|s| s.0).fold(f64::INFINITY, f64::min).min(0.0);
        let high = scores.iter().map(|s| s.0).fold(f64::NEG_INFINITY, f64::max).max(1.0);
        let bin = |score: f64| (((score - low) / (high - low) * BINS as f64) as usize).min(BINS - 1);
        let classes = [(Some(false), BLUE, "normal"), (None, MUTED, "no label"), (Some(true), VERMILION, "anomalous")];
        let counts = classes.map(|(class, ..)| {
            let mut counts = [0u64; BINS];
            scores.iter().filter(|s| s.1 == class).for_each(|s| counts[bin(s.0)] += 1);
            counts
        });
        // An empty bin lies on the axis, one session a little above it.
        let height = |count: u64| if count == 0 { -0.3 } else { (count as f64).log10() };
        let top = counts.iter().flatten().copied().max().map_or(1.0, height).max(1.0);
        let ticks = |n: u32| (0..=n).map(|d| (f64::from(d), grouped(10u64.pow(d)))).collect();
        let x = Axis {
            from: low,
            to: high,
            ticks: (0..=5).map(|i| low + (high - low) * f64::from(i) / 5.0).map(|v| (v, format!("{v:.1}"))).collect(),
            title: "fused score",
        };
        let y = Axis { from: -0.3, to: top + 0.1, ticks: ticks(top.floor() as u32), title: "sessions (log scale)" };
        let frame = Frame::new(canvas, x, y)?;
        for ((_, colour, _), counts) in classes.iter().zip(&counts) {
            for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let edge = |i: usize| low + (high - low) * i as f64 / BINS as f64;
                let (a, b) = (frame.at(edge(i), height(count)), frame.at(edge(i + 1), -0.3));
                canvas.fill((a.0 + 1.0, a.1), (b.0 - 1.0, b.1), *colour, 0.6)?;
            }
        }
        canvas.line(&[frame.at(threshold, -0.3), frame.at(threshold, top + 0.1)], INK, 2.5)?;
        let mut entries: Vec<Entry> = (classes.iter().zip(&counts))
            .map(|((_, colour, name), counts)| (counts.iter().sum::<u64>(), colour, name))
            .filter(|(n, ..)| *n > 0)
            .map(|(n, colour, name)| Entry {
                mark: Mark::Box,
                colour: *colour,
                text: format!("{name}  {}", grouped(n)),
            })
            .collect();
        entries.push(Entry { mark: Mark::Line(2.5), colour: INK, text: format!("threshold  {}", short(threshold)) });
        frame.legend("sessions", &entries, Corner::UpperRight)
    })
}
