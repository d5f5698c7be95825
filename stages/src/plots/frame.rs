//! Axes: a title block, a plotting area with ticks and grid, a legend.

use super::Caption;
use super::canvas::{Anchor, Canvas, GRID, INK, MUTED, PAPER};
use plotters::style::RGBColor;

/// Size of every picture, pixels.
pub(super) const SIZE: (u32, u32) = (1400, 1040);
const LEFT: f64 = 130.0;
const RIGHT: f64 = 1360.0;
const TOP: f64 = 150.0;
const BOTTOM: f64 = 930.0;

/// Where a plotting area lies, pixels.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// Size of the letters of ticks; titles of axes are a little larger.
    pub letters: f64,
}

/// The whole picture.
pub(super) const WHOLE: Area = Area { left: LEFT, right: RIGHT, top: TOP, bottom: BOTTOM, letters: 21.0 };

/// An axis: its range in data units, the marked places, what it measures.
pub(super) struct Axis {
    pub from: f64,
    pub to: f64,
    /// Place and label.
    pub ticks: Vec<(f64, String)>,
    pub title: &'static str,
}

impl Axis {
    /// A share from 0 to 1 in tenths.
    pub(super) fn share(title: &'static str) -> Self {
        let ticks = (0..=5).map(|i| (f64::from(i) / 5.0, format!("{:.1}", f64::from(i) / 5.0))).collect();
        Self { from: 0.0, to: 1.0, ticks, title }
    }
}

/// A plotting area with linear axes (a logarithmic one takes logarithms as its data units).
pub(super) struct Frame<'c, 'a> {
    pub canvas: &'c Canvas<'a>,
    x: Axis,
    y: Axis,
    area: Area,
}

/// Writes the title and the line that says what data this is. Simulated data are marked a second time.
pub(super) fn heading(canvas: &Canvas<'_>, title: &str, caption: &Caption) -> anyhow::Result<()> {
    canvas.name(title);
    canvas.tell(caption.line());
    canvas.bold(title, (LEFT, 48.0), 34.0, INK, Anchor::Left)?;
    canvas.text(&caption.line(), (LEFT, 96.0), 21.0, MUTED, Anchor::Left)?;
    if caption.simulated {
        let tag = "SIMULATED DATA";
        let wide = canvas.width_of(tag, 20.0)?;
        canvas.fill((RIGHT - wide - 48.0, 26.0), (RIGHT, 70.0), SIMULATED, 1.0)?;
        canvas.bold(tag, (RIGHT - 18.0, 48.0), 20.0, PAPER, Anchor::Right)?;
    }
    Ok(())
}

/// The tag of simulated data.
pub(super) const SIMULATED: RGBColor = RGBColor(0x9a, 0x34, 0x12);

/// Says why there is nothing to show.
pub(super) fn nothing(canvas: &Canvas<'_>, why: &str) -> anyhow::Result<()> {
    canvas.tell(why);
    canvas.text(why, ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0), 28.0, MUTED, Anchor::Centre)
}

impl<'c, 'a> Frame<'c, 'a> {
    /// Draws axes, grid and labels over the whole picture.
    pub(super) fn new(canvas: &'c Canvas<'a>, x: Axis, y: Axis) -> anyhow::Result<Self> {
        Self::within(canvas, x, y, WHOLE)
    }

    /// Draws axes, grid and labels in part of the picture.
    pub(super) fn within(canvas: &'c Canvas<'a>, x: Axis, y: Axis, area: Area) -> anyhow::Result<Self> {
        let Area { left, right, top, bottom, letters } = area;
        let frame = Self { canvas, x, y, area };
        for (place, label) in &frame.x.ticks {
            let at = frame.at(*place, frame.y.from).0;
            canvas.line(&[(at, top), (at, bottom)], GRID, 1.0)?;
            canvas.line(&[(at, bottom), (at, bottom + 8.0)], MUTED, 1.5)?;
            canvas.text(label, (at, bottom + 7.0 + letters), letters, INK, Anchor::Centre)?;
        }
        for (place, label) in &frame.y.ticks {
            let at = frame.at(frame.x.from, *place).1;
            canvas.line(&[(left, at), (right, at)], GRID, 1.0)?;
            canvas.line(&[(left - 8.0, at), (left, at)], MUTED, 1.5)?;
            canvas.text(label, (left - 16.0, at), letters, INK, Anchor::Right)?;
        }
        canvas.line(&[(left, top), (left, bottom), (right, bottom)], MUTED, 1.5)?;
        let title = letters + 3.0;
        canvas.text(
            frame.x.title,
            (f64::midpoint(left, right), bottom + 4.0 + 3.0 * title),
            title,
            INK,
            Anchor::Centre,
        )?;
        // Left of the widest tick.
        let mut wide = 0.0_f64;
        for (_, label) in &frame.y.ticks {
            wide = wide.max(canvas.width_of(label, letters)?);
        }
        let aside = left - (4.1 * letters).max(16.0 + wide + title);
        canvas.upwards(frame.y.title, (aside, f64::midpoint(top, bottom)), title, INK)?;
        Ok(frame)
    }

    /// Returns where a point of the data lies, kept inside the area.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, axis: &Axis| ((value - axis.from) / (axis.to - axis.from)).clamp(0.0, 1.0);
        let Area { left, right, top, bottom, .. } = self.area;
        (left + share(x, &self.x) * (right - left), bottom - share(y, &self.y) * (bottom - top))
    }

    /// Returns where points of the data lie; those less than a tenth of a pixel from the one before are left out.
    pub(super) fn path(&self, points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
        let mut path: Vec<(f64, f64)> = Vec::new();
        let mut last = None;
        for (x, y) in points {
            let at = self.at(x, y);
            if path.last().is_none_or(|before| (before.0 - at.0).abs() + (before.1 - at.1).abs() > 0.1) {
                path.push(at);
            }
            last = Some(at);
        }
        if path.last() != last.as_ref() {
            path.extend(last);
        }
        path
    }

    /// Draws a legend in a corner of the area.
    pub(super) fn legend(&self, title: &str, entries: &[Entry], corner: Corner) -> anyhow::Result<()> {
        const ROW: f64 = 38.0;
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        self.canvas.tell(format!("{title}: {}", texts.join("; ")));
        let mut wide = self.canvas.width_of(title, 21.0)?;
        for entry in entries {
            wide = wide.max(76.0 + self.canvas.width_of(&entry.text, 21.0)?);
        }
        let Area { left: start, right: end, top: above, bottom: below, .. } = self.area;
        let high = ROW * (entries.len() + 1) as f64 + 20.0;
        let left = match corner {
            Corner::LowerRight | Corner::UpperRight => end - wide - 64.0,
            Corner::LowerLeft | Corner::UpperLeft => start + 24.0,
        };
        let top = match corner {
            Corner::UpperRight | Corner::UpperLeft => above + 12.0,
            Corner::LowerRight | Corner::LowerLeft => below - high - 24.0,
        };
        let (right, bottom) = (left + wide + 40.0, top + high);
        self.canvas.fill((left, top), (right, bottom), PAPER, 1.0)?;
        let rim = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        self.canvas.line(&rim, GRID, 1.5)?;
        self.canvas.text(title, (left + 20.0, top + 30.0), 21.0, MUTED, Anchor::Left)?;
        for (row, entry) in entries.iter().enumerate() {
            let y = top + 30.0 + ROW * (row + 1) as f64;
            let ends = [(left + 20.0, y), (left + 76.0, y)];
            match entry.mark {
                Mark::Line(width) => self.canvas.line(&ends, entry.colour, width)?,
                Mark::Dashes => self.canvas.dashed(&ends, entry.colour, 2.5, DASHES)?,
                Mark::Disc => self.canvas.marker((left + 48.0, y), 8.0, entry.colour)?,
            }
            self.canvas.text(&entry.text, (left + 92.0, y), 21.0, INK, Anchor::Left)?;
        }
        Ok(())
    }
}

/// Dashes of baselines.
pub(super) const DASHES: (f64, f64) = (10.0, 8.0);

/// Where a legend stands.
#[derive(Clone, Copy)]
pub(super) enum Corner {
    LowerRight,
    LowerLeft,
    UpperLeft,
    UpperRight,
}

/// What a legend entry shows.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// A line of this width.
    Line(f64),
    Dashes,
    Disc,
}

/// A row of a legend.
pub(super) struct Entry {
    pub mark: Mark,
    pub colour: RGBColor,
    pub text: String,
}
