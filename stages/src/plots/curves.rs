//! ROC and precision-recall curves of all models, with the operating point of each and a baseline.
//!
//! Useful false-positive rates are far below a hundredth, so the ROC plot has a logarithmic axis; rates of exactly 0,
//! which it cannot show, lie on its left edge in a band of their own. Curves are drawn in the order of the models,
//! thick ones first, so that curves on top of each other all stay visible.

use std::path::Path;

use plotters::style::RGBColor;

use super::canvas::{BLUE, GREEN, GRID, INK, MUTED, ORANGE, VERMILION, picture};
use super::frame::{Axis, Corner, DASHES, Entry, Frame, Mark, SIZE, heading, nothing};
use super::{Caption, Curve};
use crate::support::metrics::Step;

/// Colour and width of a model's curve.
pub(super) fn style(name: &str) -> (RGBColor, f64) {
    match name {
        "lgbm" => (BLUE, 11.0),
        "ae" => (ORANGE, 8.0),
        "profile" => (GREEN, 5.5),
        _ => (VERMILION, 3.0),
    }
}

/// A number and its interval, for a legend.
fn with_interval(value: Option<(f64, Option<[f64; 2]>)>) -> String {
    match value {
        Some((value, Some([low, high]))) => format!("{value:.4}  [{low:.4}, {high:.4}]"),
        Some((value, None)) => format!("{value:.4}"),
        None => "n/a".to_owned(),
    }
}

/// Anomalous and normal sessions in all.
fn totals(curves: &[Curve]) -> Option<(f64, f64)> {
    let last = curves.first()?.steps.last()?;
    (last.tp > 0.0 && last.fp > 0.0).then_some((last.tp, last.fp))
}

const NO_CLASSES: &str = "no curve: the test fold needs labelled sessions of both classes";

/// Draws ROC curves.
///
/// # Errors
/// The file cannot be written.
pub fn roc(path: &Path, caption: &Caption, curves: &[Curve], key: &str) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "ROC: anomalies found against false alarms", caption)?;
        let Some((positives, negatives)) = totals(curves) else { return nothing(canvas, NO_CLASSES) };
        // One false alarm is the smallest rate above 0; the band left of it shows 0.
        let smallest = -negatives.log10();
        let from = smallest - 0.35;
        let mut ticks = vec![(from, "0".to_owned())];
        let decades = (smallest.ceil() as i32)..=0;
        ticks.extend(decades.map(|d| (f64::from(d), percent(10f64.powi(d)))));
        let x =
            Axis { from, to: 0.0, ticks, title: "false-positive rate (share of normal sessions flagged, log scale)" };
        let mut y = Axis::share("true-positive rate (share of anomalies flagged)");
        y.to = 1.02;
        let frame = Frame::new(canvas, x, y)?;
        let band = [frame.at(from, 1.02), frame.at(smallest - 0.12, 0.0)];
        canvas.fill(band[0], band[1], GRID, 0.45)?;
        let log = |rate: f64| if rate > 0.0 { rate.log10() } else { from };

        let chance = (0..=200).map(|i| from + (0.0 - from) * f64::from(i) / 200.0).map(|x| (x, 10f64.powf(x)));
        canvas.dashed(&frame.path(chance), MUTED, 2.5, DASHES)?;
        for curve in curves {
            let (colour, width) = style(curve.name);
            canvas.line(&frame.path(roc_points(&curve.steps, positives, negatives, log)), colour, width)?;
        }
        for curve in curves {
            let at = frame.at(log(curve.operating.fp / negatives), curve.operating.tp / positives);
            canvas.marker(at, if curve.name == "fusion" { 9.0 } else { 7.0 }, style(curve.name).0)?;
        }
        let mut entries: Vec<Entry> = curves
            .iter()
            .map(|curve| Entry {
                mark: Mark::Line(style(curve.name).1),
                colour: style(curve.name).0,
                text: format!("{}  {}", curve.title, with_interval(curve.roc_auc)),
            })
            .collect();
        entries.push(Entry { mark: Mark::Dashes, colour: MUTED, text: "chance  0.5".to_owned() });
        entries.push(Entry { mark: Mark::Disc, colour: INK, text: "at the threshold chosen on validation".to_owned() });
        frame.legend("area under the curve  [95 % interval]", &entries, Corner::LowerRight)
    })
}

/// A ROC curve in the units of the plot. Straight stretches (ties) are straight on linear axes only: they are divided.
fn roc_points(steps: &[Step], positives: f64, negatives: f64, log: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut points = vec![(log(0.0), 0.0)];
    let mut before = (0.0, 0.0);
    for step in steps {
        let after = (step.fp / negatives, step.tp / positives);
        let pieces = if step.fp - before.0 * negatives > 1.5 && after.1 > before.1 { 40 } else { 1 };
        for piece in 1..=pieces {
            let share = f64::from(piece) / f64::from(pieces);
            // Geometric spacing puts the divisions where a logarithmic axis needs them.
            let start = before.0.max(0.5 / negatives);
            let x = if pieces == 1 { after.0 } else { start * (after.0 / start).powf(share) };
            let along = if after.0 > before.0 { ((x - before.0) / (after.0 - before.0)).clamp(0.0, 1.0) } else { 1.0 };
            points.push((log(x), before.1 + (after.1 - before.1) * along));
        }
        before = after;
    }
    points
}

fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Draws precision-recall curves.
///
/// # Errors
/// The file cannot be written.
pub fn precision_recall(path: &Path, caption: &Caption, curves: &[Curve], key: &str) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "Precision against recall", caption)?;
        let Some((positives, negatives)) = totals(curves) else { return nothing(canvas, NO_CLASSES) };
        let mut y = Axis::share("precision (share of flagged sessions that are anomalous)");
        y.to = 1.02;
        let mut x = Axis::share("recall (share of anomalies flagged)");
        x.to = 1.01;
        let frame = Frame::new(canvas, x, y)?;
        for f1 in [0.2, 0.4, 0.6, 0.8, 0.9] {
            let curve = (1..=200)
                .map(|i| f64::from(i) / 200.0)
                .filter(|r| 2.0 * r - f1 > 0.0)
                .map(|r| (r, f1 * r / (2.0 * r - f1)));
            let curve: Vec<(f64, f64)> = curve.filter(|&(_, p)| p <= 1.0).collect();
            canvas.dashed(&frame.path(curve), GRID, 2.0, (4.0, 5.0))?;
            let (right, label) = (frame.at(0.985, f1 * 0.985 / (2.0 * 0.985 - f1)), format!("F1 {f1}"));
            canvas.text(&label, (right.0, right.1 - 12.0), 15.0, MUTED, super::canvas::Anchor::Right)?;
        }
        let prevalence = positives / (positives + negatives);
        canvas.dashed(&frame.path([(0.0, prevalence), (1.0, prevalence)]), MUTED, 2.5, DASHES)?;
        for curve in curves {
            let (colour, width) = style(curve.name);
            canvas.line(&frame.path(pr_points(&curve.steps, positives)), colour, width)?;
        }
        for curve in curves {
            let point = &curve.operating;
            if point.tp + point.fp > 0.0 {
                let at = frame.at(point.tp / positives, point.tp / (point.tp + point.fp));
                canvas.marker(at, if curve.name == "fusion" { 9.0 } else { 7.0 }, style(curve.name).0)?;
            }
        }
        let mut entries: Vec<Entry> = curves
            .iter()
            .map(|curve| Entry {
                mark: Mark::Line(style(curve.name).1),
                colour: style(curve.name).0,
                text: format!("{}  {}", curve.title, with_interval(curve.average_precision)),
            })
            .collect();
        let baseline = format!("chance: prevalence  {prevalence:.4}");
        entries.push(Entry { mark: Mark::Dashes, colour: MUTED, text: baseline });
        entries.push(Entry { mark: Mark::Disc, colour: INK, text: "at the threshold chosen on validation".to_owned() });
        frame.legend("average precision  [95 % interval]", &entries, Corner::LowerLeft)
    })
}

/// A precision-recall curve as steps: up to a recall, the precision of the operating point that reaches it. The area
/// below is the average precision.
fn pr_points(steps: &[Step], positives: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut recall = 0.0;
    for step in steps {
        let after = step.tp / positives;
        if after > recall {
            let precision = step.tp / (step.tp + step.fp);
            points.push((recall, precision));
            points.push((after, precision));
            recall = after;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_recall_curve_has_the_area_of_the_average_precision() {
        let steps = crate::support::metrics::steps(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true], &[]);
        let points = pr_points(&steps, 2.0);
        let area: f64 = points.windows(2).map(|p| (p[1].0 - p[0].0) * p[0].1).sum();
        assert!((area - 0.833_333_333_333).abs() < 1e-9);
    }

    #[test]
    fn ties_are_straight_on_linear_axes() {
        let steps = [Step { threshold: 1.0, tp: 1.0, fp: 0.0 }, Step { threshold: 0.0, tp: 2.0, fp: 100.0 }];
        for (x, y) in roc_points(&steps, 2.0, 100.0, |x| x).into_iter().skip(2) {
            assert!((y - (0.5 + 0.5 * x)).abs() < 1e-9, "({x}, {y})");
        }
    }

    #[test]
    fn percentages_are_short() {
        assert_eq!([1.0, 0.1, 0.0001].map(percent), ["100 %", "10 %", "0.01 %"]);
    }
}
