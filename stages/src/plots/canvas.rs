//! Pixels, fonts and PNG files. Units are those of the finished picture; drawing happens at twice the size and is
//! averaged down, which smooths every edge alike. A PNG of a stage carries the same picture as SVG in a text chunk
//! (`vector`), so that a page shows sharp lines and letters that can be read out, and one file stays one artifact.

use std::cell::RefCell;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontDesc;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Caption;
use super::vector::{self, Told};

/// How many drawn pixels make one of the picture, in each direction.
pub(super) const OVERSAMPLE: u32 = 2;
/// Keyword of the PNG text chunk that holds the key of the action that drew a picture.
const KEY_CHUNK: &str = "logweir-key";
/// Keyword of the one that holds the picture as SVG.
const SVG_CHUNK: &str = "logweir-svg";
pub(super) const FONT: &str = "logweir sans";

/// Ink and lines.
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub(super) const MUTED: RGBColor = RGBColor(0x5b, 0x63, 0x6d);
pub(super) const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Colours that stay apart for colour-blind eyes (Okabe & Ito 2008).
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(super) const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
pub(super) const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
pub(super) const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// Where a text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    /// By the middle of its left edge.
    Left,
    /// By its centre.
    Centre,
    /// By the middle of its right edge.
    Right,
}

/// A picture being drawn.
pub(super) struct Canvas<'a> {
    area: Area<'a>,
    told: RefCell<Told>,
}

/// What it is drawn on.
enum Area<'a> {
    Pixels(DrawingArea<BitMapBackend<'a>, Shift>),
    Vector(DrawingArea<SVGBackend<'a>, Shift>),
}

/// Draws on either.
macro_rules! on {
    ($canvas:expr, $area:ident => $draw:expr) => {
        match &$canvas.area {
            Area::Pixels($area) => drawn($draw),
            Area::Vector($area) => drawn($draw),
        }
    };
}

/// Draws a picture of `width` x `height` pixels as SVG, at the scale of the pixels, and returns what it tells in words.
pub(super) fn svg_of(
    (width, height): (u32, u32),
    draw: impl Fn(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<(String, Told)> {
    load_fonts()?;
    let mut text = String::new();
    let told = {
        let size = (width * OVERSAMPLE, height * OVERSAMPLE);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&PAPER).map_err(|e| anyhow!("cannot draw: {e}"))?;
        let canvas = Canvas { area: Area::Vector(area), told: RefCell::default() };
        draw(&canvas)?;
        canvas.told.into_inner()
    };
    Ok((text, told))
}

/// Draws a picture of `width` x `height` pixels and writes it as PNG. What a stage draws has its `origin`, key and
/// caption, in text chunks; a picture over many runs has no single one.
pub(super) fn picture(
    path: &Path,
    (width, height): (u32, u32),
    origin: Option<(&str, &Caption)>,
    draw: impl Fn(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    load_fonts()?;
    let (wide, high) = (width * OVERSAMPLE, height * OVERSAMPLE);
    let mut pixels = vec![0xffu8; (wide * high * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area();
        area.fill(&PAPER).map_err(|e| anyhow!("cannot draw: {e}"))?;
        draw(&Canvas { area: Area::Pixels(area), told: RefCell::default() })?;
    }
    let small = shrink(&pixels, width as usize, height as usize);
    let svg = origin.map(|_| vector::text((width, height), &draw)).transpose()?;
    write_png(path, (width, height), &small, origin.zip(svg))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Averages each block of drawn pixels.
fn shrink(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let k = OVERSAMPLE as usize;
    let mut out = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0u32;
                for dy in 0..k {
                    for dx in 0..k {
                        sum += u32::from(pixels[((y * k + dy) * width * k + x * k + dx) * 3 + channel]);
                    }
                }
                let area = OVERSAMPLE * OVERSAMPLE;
                out.push(u8::try_from((sum + area / 2) / area).expect("an average of bytes is a byte"));
            }
        }
    }
    out
}

fn write_png(
    path: &Path,
    (width, height): (u32, u32),
    pixels: &[u8],
    origin: Option<((&str, &Caption), String)>,
) -> anyhow::Result<()> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    if let Some(((key, caption), _)) = &origin {
        encoder.add_text_chunk(KEY_CHUNK.to_owned(), (*key).to_owned())?;
        encoder.add_text_chunk("logweir-stage".to_owned(), caption.stage.clone())?;
    }
    encoder.add_text_chunk("Software".to_owned(), "logweir".to_owned())?;
    if let Some(((_, caption), _)) = &origin {
        // International text: the name of the data may be in any script.
        encoder.add_itxt_chunk("Description".to_owned(), caption.line())?;
    }
    let mut writer = encoder.write_header()?;
    if let Some((_, svg)) = origin {
        let mut chunk = png::text_metadata::ITXtChunk::new(SVG_CHUNK, svg);
        chunk.compressed = true;
        writer.write_text_chunk(&chunk)?;
    }
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(())
}

/// Returns the key that a PNG of a stage carries, if it has one.
///
/// # Errors
/// The bytes are no PNG.
pub(crate) fn key_of_png(bytes: &[u8]) -> anyhow::Result<Option<String>> {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    let texts = &reader.info().uncompressed_latin1_text;
    Ok(texts.iter().find(|text| text.keyword == KEY_CHUNK).map(|text| text.text.clone()))
}

/// Returns the SVG that a PNG of a stage carries, if it has one.
///
/// # Errors
/// The bytes are no PNG.
pub(crate) fn svg_of_png(bytes: &[u8]) -> anyhow::Result<Option<String>> {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    let found = reader.info().utf8_text.iter().find(|text| text.keyword == SVG_CHUNK);
    Ok(found.map(png::text_metadata::ITXtChunk::get_text).transpose()?)
}

fn load_fonts() -> anyhow::Result<()> {
    static LOADED: OnceLock<bool> = OnceLock::new();
    let loaded = *LOADED.get_or_init(|| {
        let regular = include_bytes!("../../assets/DejaVuSans.ttf");
        let bold = include_bytes!("../../assets/DejaVuSans-Bold.ttf");
        plotters::style::register_font(FONT, FontStyle::Normal, regular).is_ok()
            && plotters::style::register_font(FONT, FontStyle::Bold, bold).is_ok()
    });
    anyhow::ensure!(loaded, "the embedded font cannot be read");
    Ok(())
}

fn scale(x: f64) -> i32 {
    (x * f64::from(OVERSAMPLE)).round() as i32
}

fn point((x, y): (f64, f64)) -> (i32, i32) {
    (scale(x), scale(y))
}

/// Writes a number with a comma every three digits.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes a number with four decimals, a small one with three significant digits, the smallest there is as above 0.
pub(super) fn short(x: f64) -> String {
    if x > 0.0 && x < f64::MIN_POSITIVE {
        return "just above 0".to_owned();
    }
    if x == 0.0 || x.abs() >= 0.01 { format!("{x:.4}") } else { format!("{x:.2e}") }
}

fn drawn<T, E: std::fmt::Display>(result: Result<T, E>) -> anyhow::Result<()> {
    result.map(drop).map_err(|e| anyhow!("cannot draw: {e}"))
}

impl Canvas<'_> {
    /// Names the picture, for those who do not see it.
    pub(super) fn name(&self, title: &str) {
        title.clone_into(&mut self.told.borrow_mut().title);
    }

    /// Tells in a sentence or two what can be seen.
    pub(super) fn tell(&self, text: impl Into<String>) {
        self.told.borrow_mut().sentences.push(text.into());
    }

    /// Writes text of `size` pixels.
    pub(super) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
    ) -> anyhow::Result<()> {
        self.styled(text, at, size, colour, anchor, FontStyle::Normal, FontTransform::None)
    }

    /// Writes bold text of `size` pixels.
    pub(super) fn bold(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
    ) -> anyhow::Result<()> {
        self.styled(text, at, size, colour, anchor, FontStyle::Bold, FontTransform::None)
    }

    /// Writes text that reads upwards, centred.
    pub(super) fn upwards(&self, text: &str, at: (f64, f64), size: f64, colour: RGBColor) -> anyhow::Result<()> {
        self.styled(text, at, size, colour, Anchor::Centre, FontStyle::Normal, FontTransform::Rotate270)
    }

    #[expect(clippy::too_many_arguments, reason = "private: the three public ways to write text name their few")]
    fn styled(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
        style: FontStyle,
        transform: FontTransform,
    ) -> anyhow::Result<()> {
        let horizontal = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Centre => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let font = FontDesc::new(FontFamily::Name(FONT), size * f64::from(OVERSAMPLE), style).transform(transform);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        // The box of a line of text is centred; its letters sit a little higher than that.
        on!(self, area => area.draw_text(text, &style, point((at.0, at.1 + 0.09 * size))))
    }

    /// Returns the width of text of `size` pixels.
    pub(super) fn width_of(&self, text: &str, size: f64) -> anyhow::Result<f64> {
        let font = FontDesc::new(FontFamily::Name(FONT), size * f64::from(OVERSAMPLE), FontStyle::Normal);
        let style = TextStyle::from(font);
        let wide = match &self.area {
            Area::Pixels(area) => area.estimate_text_size(text, &style).map_err(|e| anyhow!("cannot draw: {e}"))?,
            Area::Vector(area) => area.estimate_text_size(text, &style).map_err(|e| anyhow!("cannot draw: {e}"))?,
        };
        Ok(f64::from(wide.0) / f64::from(OVERSAMPLE))
    }

    /// Draws a polyline of `width` pixels.
    pub(super) fn line(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> anyhow::Result<()> {
        let mut path: Vec<(i32, i32)> = points.iter().copied().map(point).collect();
        path.dedup();
        if path.len() < 2 {
            return Ok(());
        }
        let style = colour.stroke_width(u32::try_from(scale(width).max(1)).unwrap_or(1));
        on!(self, area => area.draw(&PathElement::new(path.clone(), style)))
    }

    /// Draws a dashed polyline: `on` pixels drawn, `off` left out.
    pub(super) fn dashed(
        &self,
        points: &[(f64, f64)],
        colour: RGBColor,
        width: f64,
        (on, off): (f64, f64),
    ) -> anyhow::Result<()> {
        let mut dash: Vec<(f64, f64)> = Vec::new();
        let mut walked = 0.0;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            let mut at = 0.0;
            while at < length {
                let phase = walked % (on + off);
                let visible = phase < on;
                let step = (if visible { on - phase } else { on + off - phase }).max(1e-6).min(length - at);
                let place = |d: f64| (x0 + (x1 - x0) * d / length, y0 + (y1 - y0) * d / length);
                if visible {
                    if dash.is_empty() {
                        dash.push(place(at));
                    }
                    dash.push(place(at + step));
                } else if !dash.is_empty() {
                    self.line(&std::mem::take(&mut dash), colour, width)?;
                }
                at += step;
                walked += step;
            }
        }
        self.line(&dash, colour, width)
    }

    /// Fills a rectangle given by two corners.
    pub(super) fn fill(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor, opacity: f64) -> anyhow::Result<()> {
        on!(self, area => area.draw(&Rectangle::new([point(from), point(to)], colour.mix(opacity).filled())))
    }

    /// Draws a disc with a light rim, so that it shows on a line of the same colour.
    pub(super) fn marker(&self, at: (f64, f64), radius: f64, colour: RGBColor) -> anyhow::Result<()> {
        on!(self, area => area.draw(&Circle::new(point(at), scale(radius + 3.0), PAPER.filled())))?;
        on!(self, area => area.draw(&Circle::new(point(at), scale(radius), colour.filled())))
    }
}
