//! How the scores of each model and the fused one are distributed, by label, on a logarithmic count axis.

use std::path::Path;

use plotters::style::RGBColor;

use super::Caption;
use super::canvas::{Anchor, BLUE, Canvas, INK, MUTED, VERMILION, grouped, picture, short};
use super::frame::{Area, Axis, Frame, SIZE, heading, nothing};

const BINS: usize = 48;
/// Of an axis of powers of ten: where 0 lies, in bins before the first one above 0.
const ZERO: usize = 5;

/// The scores of one model.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Short name.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Scores and labels (`None` = unknown).
    pub values: Vec<(f64, Option<bool>)>,
    /// What is flagged.
    pub threshold: f64,
}

type Class = (Option<bool>, RGBColor, &'static str);
const CLASSES: [Class; 3] =
    [(Some(false), BLUE, "normal"), (None, MUTED, "no label"), (Some(true), VERMILION, "anomalous")];

/// Draws the distribution of scores of up to four models, with their thresholds.
///
/// # Errors
/// The file cannot be written.
pub fn histogram(path: &Path, caption: &Caption, models: &[Scores], key: &str) -> anyhow::Result<()> {
    picture(path, SIZE, Some((key, caption)), |canvas| {
        heading(canvas, "Distribution of the scores", caption)?;
        let shown: Vec<&Scores> = models.iter().filter(|model| !model.values.is_empty()).take(4).collect();
        let Some(first) = shown.first() else {
            return nothing(canvas, "no scores: the test fold is empty");
        };
        legend(canvas, &first.values)?;
        for (i, model) in shown.iter().enumerate() {
            let (column, row) = ((i % 2) as f64, (i / 2) as f64);
            // One model alone has all the room.
            let (wide, high) =
                (if shown.len() > 1 { 540.0 } else { 1200.0 }, if shown.len() > 2 { 285.0 } else { 680.0 });
            let (left, top) = (130.0 + column * 660.0, 220.0 + row * 415.0);
            let area = Area { left, right: left + wide, top, bottom: top + high, letters: 17.0 };
            panel(canvas, model, area)?;
        }
        Ok(())
    })
}

fn legend(canvas: &Canvas<'_>, values: &[(f64, Option<bool>)]) -> anyhow::Result<()> {
    let (mut x, y) = (130.0, 148.0);
    for (class, colour, name) in CLASSES {
        let count = values.iter().filter(|value| value.1 == class).count();
        if count > 0 {
            canvas.fill((x, y - 10.0), (x + 28.0, y + 10.0), colour, 0.6)?;
            let text = format!("{name}  {}", grouped(count as u64));
            canvas.tell(format!("{name}: {} sessions", grouped(count as u64)));
            canvas.text(&text, (x + 40.0, y), 19.0, INK, Anchor::Left)?;
            x += 40.0 + canvas.width_of(&text, 19.0)? + 44.0;
        }
    }
    canvas.line(&[(x + 14.0, y - 13.0), (x + 14.0, y + 13.0)], INK, 2.5)?;
    canvas.text("threshold chosen on validation", (x + 40.0, y), 19.0, INK, Anchor::Left)
}

/// Where scores lie on the axis of a panel.
enum Place {
    /// Evenly from a lowest to a highest score.
    Linear(f64, f64),
    /// Powers of ten from a smallest to a largest exponent; 0 lies apart on the left.
    Powers(f64, f64),
}

impl Place {
    /// Errors and distances are never negative and spread over powers of ten; margins and fused scores do not.
    fn of(model: &Scores) -> Self {
        let scores = || model.values.iter().map(|value| value.0);
        let (low, high) = (scores().fold(f64::INFINITY, f64::min), scores().fold(f64::NEG_INFINITY, f64::max));
        if model.name == "fusion" {
            return Self::Linear(low.min(0.0), high.max(1.0));
        }
        let least = scores().filter(|&score| score > 0.0).fold(f64::INFINITY, f64::min);
        if low >= 0.0 && least.is_finite() && high / least > 100.0 {
            return Self::Powers(least.log10().floor().max(high.log10().ceil() - 9.0), high.log10().ceil());
        }
        // Equal scores lie in the middle.
        let pad = if high - low > 1e-9 { (high - low) * 0.02 } else { (high.abs() * 0.1).max(1.0) };
        Self::Linear(low - pad, high + pad)
    }

    /// Share of the axis.
    fn at(&self, score: f64) -> f64 {
        let share = match *self {
            Self::Linear(low, high) => (score - low) / (high - low),
            Self::Powers(..) if score <= 0.0 => 0.5 / BINS as f64,
            Self::Powers(low, high) => {
                let start = ZERO as f64 / BINS as f64;
                start + (1.0 - start) * ((score.log10() - low) / (high - low)).max(0.0)
            }
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match *self {
            Self::Linear(low, high) => {
                let step = step(high - low);
                let places = if step < 1.0 { (-step.log10()).ceil() as usize } else { 0 };
                let first = (low / step).ceil() as i64;
                (first..)
                    .map(|i| i as f64 * step)
                    .take_while(|value| *value <= high + 1e-9)
                    .map(|value| (self.at(value), format!("{:.places$}", value + 0.0)))
                    .collect()
            }
            Self::Powers(low, high) => {
                let every = (((high - low) / 5.0).ceil() as usize).max(1);
                let label = |power: i32| {
                    if (-3..=4).contains(&power) { (10f64.powi(power)).to_string() } else { format!("1e{power}") }
                };
                let powers = (low as i32..=high as i32).step_by(every);
                let mut ticks = vec![(self.at(0.0), "0".to_owned())];
                ticks.extend(powers.map(|power| (self.at(10f64.powi(power)), label(power))));
                ticks
            }
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides a span into four to ten.
pub(super) fn step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

fn panel(canvas: &Canvas<'_>, model: &Scores, area: Area) -> anyhow::Result<()> {
    let place = Place::of(model);
    let bin = |score: f64| ((place.at(score) * BINS as f64) as usize).min(BINS - 1);
    let counts = CLASSES.map(|(class, ..)| {
        let mut counts = [0u64; BINS];
        model.values.iter().filter(|value| value.1 == class).for_each(|value| counts[bin(value.0)] += 1);
        counts
    });
    // An empty bin lies on the axis, one session a little above it.
    let height = |count: u64| if count == 0 { -0.3 } else { (count as f64).log10() };
    let top = counts.iter().flatten().copied().max().map_or(1.0, height).max(1.0);
    let title = match model.name {
        "lgbm" => "margin, log-odds",
        "ae" => "reconstruction error",
        "profile" => "distance to the nearest benign session",
        _ => "fused score",
    };
    let x = Axis { from: 0.0, to: 1.0, ticks: place.ticks(), title };
    let y = Axis {
        from: -0.3,
        to: top + 0.1,
        ticks: (0..=top.floor() as u32).map(|d| (f64::from(d), grouped(10u64.pow(d)))).collect(),
        title: "sessions (log scale)",
    };
    let frame = Frame::within(canvas, x, y, area)?;
    for ((_, colour, _), counts) in CLASSES.iter().zip(&counts) {
        for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let edge = |i: usize| i as f64 / BINS as f64;
            let (a, b) = (frame.at(edge(i), height(count)), frame.at(edge(i + 1), -0.3));
            canvas.fill((a.0 + 0.75, a.1), (b.0 - 0.75, b.1), *colour, 0.6)?;
        }
    }
    let cut = place.at(model.threshold);
    canvas.line(&[frame.at(cut, -0.3), frame.at(cut, top + 0.1)], INK, 2.5)?;
    let note = format!("threshold {}", short(model.threshold));
    let over = |class| {
        let of_class = model.values.iter().filter(|value| value.1 == class);
        let flagged = of_class.clone().filter(|value| value.0 >= model.threshold).count();
        (flagged, of_class.count())
    };
    let shares = CLASSES.map(|(class, _, name)| (over(class), name));
    let shares = shares.iter().filter(|((_, of), _)| *of > 0).map(|((n, of), name)| format!("{n} of {of} {name}"));
    let shares: Vec<String> = shares.collect();
    canvas.tell(format!("{}: at or above the {note} lie {}", model.title, shares.join(", ")));
    canvas.bold(model.title, (area.left, area.top - 20.0), 20.0, INK, Anchor::Left)?;
    canvas.text(&note, (area.right, area.top - 20.0), 17.0, MUTED, Anchor::Right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_suit_the_scores() {
        let of = |name, scores: &[f64]| {
            let values = scores.iter().map(|&score| (score, None)).collect();
            Place::of(&Scores { name, title: "", values, threshold: 0.0 })
        };
        let labels = |place: &Place| place.ticks().into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(labels(&of("fusion", &[0.4, 0.5])), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&of("lgbm", &[-7.0, 12.0])), ["-5", "0", "5", "10"]);
        assert_eq!(labels(&of("ae", &[0.0, 0.002, 30.0])), ["0", "0.001", "0.01", "0.1", "1", "10", "100"]);
        let powers = of("ae", &[0.0, 0.002, 30.0]);
        assert!(powers.at(0.0) < powers.at(0.001) && (powers.at(100.0) - 1.0).abs() < 1e-12);
        // One score alone still has an axis.
        assert_eq!(labels(&of("profile", &[0.0])), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
    }
}
