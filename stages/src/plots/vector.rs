//! Pictures as SVG: what plotters writes, made short, with a title and a description for those who do not see them.
//!
//! Colours stay attributes (`fill="#1F2328"`), so that the style sheet of a page can turn them for a dark paper.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::canvas::{Canvas, FONT, OVERSAMPLE, svg_of};

/// What a picture tells in words.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub title: String,
    pub sentences: Vec<String>,
}

/// Draws a picture of `width` x `height` pixels and writes it as SVG.
pub(super) fn vector(
    path: &Path,
    size: (u32, u32),
    draw: impl Fn(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    std::fs::write(path, text(size, draw)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Draws a picture as SVG.
pub(super) fn text(
    (width, height): (u32, u32),
    draw: impl Fn(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let (drawn, told) = svg_of((width, height), draw)?;
    let (wide, high) = (width * OVERSAMPLE, height * OVERSAMPLE);
    // Drawn at the scale of the pixels, shown at that of the picture, in letters as wide as those it was laid out with.
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {wide} {high}\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\" role=\"img\">\n"
    );
    if !told.title.is_empty() {
        writeln!(out, "<title>{}</title>\n<desc>{}</desc>", escaped(&told.title), escaped(&sentences(&told)))?;
    }
    out.push_str(&joined(drawn.split_once('\n').map_or("", |(_, rest)| rest)));
    Ok(out)
}

fn sentences(told: &Told) -> String {
    let mut all = String::new();
    for sentence in &told.sentences {
        let end = if sentence.ends_with(['.', ':', '!', '?']) { " " } else { ". " };
        all.push_str(sentence);
        all.push_str(end);
    }
    all.trim_end().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Leaves out what is the default, and joins neighbouring lines of one style: a dashed line is one path.
fn joined(drawn: &str) -> String {
    let mut out = String::with_capacity(drawn.len() / 2);
    let mut open = None;
    for line in drawn.lines() {
        let line = line
            .replace(" opacity=\"1\"", "")
            .replace(" stroke=\"none\"", "")
            .replace(&format!(" font-family=\"{FONT}\""), "");
        let polyline = line
            .strip_prefix("<polyline ")
            .and_then(|rest| rest.strip_suffix(" \"/>"))
            .and_then(|rest| rest.split_once(" points=\""));
        if let Some((style, points)) = polyline {
            if open.as_deref() == Some(style) {
                out.push('M');
            } else {
                close(&mut out, &mut open);
                out.push_str("<path ");
                out.push_str(style);
                out.push_str(" d=\"M");
                open = Some(style.to_owned());
            }
            out.push_str(points);
            continue;
        }
        close(&mut out, &mut open);
        out.push_str(&line);
        out.push('\n');
    }
    close(&mut out, &mut open);
    out
}

fn close(out: &mut String, open: &mut Option<String>) {
    if open.take().is_some() {
        out.push_str("\"/>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::{Anchor, BLUE, INK};
    use super::*;

    #[test]
    fn a_dashed_line_is_one_path_and_words_are_told() {
        let draw = |canvas: &Canvas<'_>| {
            canvas.name("ups & <downs>");
            canvas.tell("one");
            canvas.tell("two.");
            canvas.dashed(&[(10.0, 10.0), (100.0, 10.0)], BLUE, 2.0, (5.0, 5.0))?;
            canvas.text("a < b", (20.0, 30.0), 12.0, INK, Anchor::Left)
        };
        let svg = text((200, 100), draw).unwrap();
        assert!(svg.starts_with(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"200\" height=\"100\" viewBox=\"0 0 400 200\""
        ));
        assert!(svg.contains("<title>ups &amp; &lt;downs&gt;</title>\n<desc>one. two.</desc>"), "{svg}");
        assert_eq!(svg.matches("<path ").count(), 1, "{svg}");
        assert_eq!(svg.matches("M20,20 30,20M40,20 50,20M").count(), 1, "{svg}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
