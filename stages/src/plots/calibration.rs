//! Reliability: how often sessions to which the supervised model gives a probability are anomalous, and how many
//! sessions that speaks of.

use std::path::Path;

use super::Caption;
use super::canvas::{Anchor, BLUE, INK, MUTED, grouped, picture};
use super::frame::{Area, Axis, Corner, DASHES, Entry, Frame, Mark, SIZE, heading, nothing};

const BINS: usize = 10;

/// A bin of probabilities.
#[derive(Clone, Debug, Default, PartialEq)]
struct Bin {
    count: u64,
    anomalous: u64,
    /// Sum of probabilities.
    sum: f64,
}

/// Draws the reliability of probabilities with their labels, and the number of sessions in each tenth. `interval` gives
/// the 95 % interval of so many of so many.
///
/// # Errors
/// The file cannot be written.
pub fn calibration(
    path: &Path,
    caption: &Caption,
    probabilities: &[(f64, bool)],
    interval: impl Fn(u64, u64) -> Option<[f64; 2]>,
    key: &str,
) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "Calibration of the supervised probability", caption)?;
        if probabilities.is_empty() {
            return nothing(canvas, "no curve: there is no supervised model, or the test fold has no labelled session");
        }
        let bins = binned(probabilities);
        let upper = Area { left: 130.0, right: 1360.0, top: 150.0, bottom: 650.0, letters: 20.0 };
        let frame = Frame::within(
            canvas,
            Axis { title: "", ..Axis::share("") },
            Axis { from: -0.02, to: 1.02, ..Axis::share("share that is anomalous") },
            upper,
        )?;
        canvas.dashed(&frame.path([(0.0, 0.0), (1.0, 1.0)]), MUTED, 2.5, DASHES)?;
        let filled: Vec<&Bin> = bins.iter().filter(|bin| bin.count > 0).collect();
        let place = |bin: &Bin| (bin.sum / bin.count as f64, bin.anomalous as f64 / bin.count as f64);
        canvas.line(&frame.path(filled.iter().map(|bin| place(bin))), BLUE, 2.5)?;
        for bin in &filled {
            let (p, share) = place(bin);
            canvas
                .tell(format!("of {} sessions with a mean probability of {p:.3}, {share:.3} are anomalous", bin.count));
            if let Some([low, high]) = interval(bin.anomalous, bin.count) {
                canvas.line(&[frame.at(p, low), frame.at(p, high)], BLUE, 2.5)?;
                for end in [low, high] {
                    let (x, y) = frame.at(p, end);
                    canvas.line(&[(x - 7.0, y), (x + 7.0, y)], BLUE, 2.5)?;
                }
            }
            canvas.marker(frame.at(p, share), 7.5, BLUE)?;
        }
        let (brier, error) = (brier(probabilities), expected_error(&bins));
        let entries = [
            Entry { mark: Mark::Disc, colour: BLUE, text: "sessions of a tenth, with 95 % interval".to_owned() },
            Entry { mark: Mark::Dashes, colour: MUTED, text: "perfectly calibrated".to_owned() },
        ];
        let title = format!("Brier score {brier:.4} · expected calibration error {error:.4}");
        frame.legend(&title, &entries, Corner::UpperLeft)?;

        let height = |count: u64| if count == 0 { -0.3 } else { (count as f64).log10() };
        let top = bins.iter().map(|bin| height(bin.count)).fold(1.0, f64::max).ceil();
        let lower = Area { left: 130.0, right: 1360.0, top: 720.0, bottom: 930.0, letters: 20.0 };
        let frame = Frame::within(
            canvas,
            Axis::share("calibrated probability of LightGBM"),
            Axis {
                from: -0.3,
                to: top + 0.25,
                ticks: (0..=top as u32).step_by(2).map(|d| (f64::from(d), grouped(10u64.pow(d)))).collect(),
                title: "sessions (log scale)",
            },
            lower,
        )?;
        for (i, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            let edge = |i: usize| i as f64 / BINS as f64;
            let (a, b) = (frame.at(edge(i), height(bin.count)), frame.at(edge(i + 1), -0.3));
            canvas.fill((a.0 + 2.0, a.1), (b.0 - 2.0, b.1), BLUE, 0.55)?;
            let middle = (f64::midpoint(a.0, b.0), a.1 - 14.0);
            canvas.text(&grouped(bin.count), middle, 18.0, INK, Anchor::Centre)?;
        }
        Ok(())
    })
}

fn binned(probabilities: &[(f64, bool)]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for &(p, anomalous) in probabilities {
        let bin = &mut bins[((p * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.anomalous += u64::from(anomalous);
        bin.sum += p;
    }
    bins
}

/// The mean squared difference between probability and label.
fn brier(probabilities: &[(f64, bool)]) -> f64 {
    let squares = probabilities.iter().map(|&(p, anomalous)| (p - f64::from(u8::from(anomalous))).powi(2));
    squares.sum::<f64>() / probabilities.len() as f64
}

/// The mean difference between the probability and the share of a bin, by the sessions in it.
fn expected_error(bins: &[Bin]) -> f64 {
    let all: u64 = bins.iter().map(|bin| bin.count).sum();
    bins.iter().map(|bin| (bin.sum - bin.anomalous as f64).abs()).sum::<f64>() / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_as_computed_by_hand() {
        let rows = [(0.0, false), (0.05, true), (0.55, true), (1.0, true)];
        let bins = binned(&rows);
        assert_eq!(bins[0], Bin { count: 2, anomalous: 1, sum: 0.05 });
        assert_eq!((bins[5].count, bins[9].count), (1, 1));
        assert!((brier(&rows) - (0.95_f64.powi(2) + 0.45_f64.powi(2)) / 4.0).abs() < 1e-12);
        assert!((expected_error(&bins) - (0.95 + 0.45) / 4.0).abs() < 1e-12);
    }
}
