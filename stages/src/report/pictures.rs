//! Plots inside the page: as SVG with title and description where the PNG carries that, else the PNG itself.

use anyhow::Context as _;
use logweir_engine::digest::Digest;
use logweir_engine::stage::StageContext;
use serde::Serialize;

use super::{base64, logical};
use crate::plots;

/// Slots of pictures, and what to say of one that has no words of its own.
const SLOTS: [(&str, &str); 9] = [
    ("roc", "ROC curves of all models with their operating points"),
    ("pr", "precision-recall curves of all models with their operating points"),
    ("cm", "confusion matrix of the fused decision"),
    ("histogram", "distribution of the scores by label"),
    ("calibration", "how often sessions of a probability are anomalous"),
    ("recall_by_type", "recall of each type of anomaly by model"),
    ("lgbm_learning", "learning curve of LightGBM"),
    ("ae_learning", "learning curve of the autoencoder"),
    ("drift_plot", "how far new sessions are from the reference"),
];

/// Largest SVG that is put into the page, bytes; of a larger one the pixels are shown.
const LARGEST: usize = 300_000;

/// What a picture of logweir is drawn with; nothing else is put into the page as it is.
const ELEMENTS: [&str; 10] = ["svg", "title", "desc", "rect", "circle", "line", "path", "polyline", "polygon", "text"];

/// A picture inside the page.
#[derive(Clone, Serialize)]
pub(super) struct Picture {
    pub slot: &'static str,
    pub about: &'static str,
    /// The picture as an element of the page; empty where there is only `data`.
    pub svg: String,
    /// The PNG as an address.
    pub data: String,
    /// Logical path.
    pub path: String,
    /// Key of the action that drew it, from the picture itself.
    pub key: String,
    pub digest: String,
}

/// Reads all pictures that the stage was given.
///
/// # Errors
/// One cannot be read, or is no PNG.
pub(super) fn read(cx: &StageContext<'_>) -> anyhow::Result<Vec<Picture>> {
    let given = SLOTS.iter().filter_map(|&(slot, about)| Some((slot, about, cx.optional(slot)?)));
    given
        .map(|(slot, about, path)| {
            let bytes = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
            let no_png = || format!("{} is no PNG", path.display());
            let svg = plots::svg_of_png(&bytes).with_context(no_png)?.and_then(|svg| element(slot, &svg));
            Ok(Picture {
                slot,
                about,
                data: match svg {
                    Some(_) => String::new(),
                    None => format!("data:image/png;base64,{}", base64::encode(&bytes)),
                },
                svg: svg.unwrap_or_default(),
                path: logical(cx, slot).to_owned(),
                key: plots::key_of_png(&bytes).with_context(no_png)?.unwrap_or_default(),
                digest: Digest::of_bytes(&bytes).to_string(),
            })
        })
        .collect()
}

/// An SVG as an element of the page, named by its title and described by its description. `None` for one that is too
/// large, or holds more than shapes and text: whoever can put a picture in place must not thereby write the page.
fn element(slot: &str, svg: &str) -> Option<String> {
    let harmless = svg.len() <= LARGEST
        && svg.split('<').skip(1).all(|tag| {
            let name = tag.trim_start_matches('/');
            let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
            let inside = tag.split('>').next().unwrap_or_default();
            ELEMENTS.contains(&&name[..end]) && !inside.contains(" on") && !inside.contains("href")
        });
    if !harmless || !svg.starts_with("<svg ") {
        return None;
    }
    let named = format!("<svg aria-labelledby=\"{slot}-title\" aria-describedby=\"{slot}-desc\" ");
    let svg = svg
        .replacen("<svg ", &named, 1)
        .replacen("<title>", &format!("<title id=\"{slot}-title\">"), 1)
        .replacen("<desc>", &format!("<desc id=\"{slot}-desc\">"), 1);
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn only_shapes_and_text_become_part_of_the_page() {
        let good = "<svg role=\"img\"><title>t</title><desc>d &lt;script&gt;</desc><path d=\"M0,0\"/></svg>";
        let made = element("roc", good).unwrap();
        assert!(made.starts_with("<svg aria-labelledby=\"roc-title\" aria-describedby=\"roc-desc\" role"), "{made}");
        assert!(made.contains("<title id=\"roc-title\">t<") && made.contains("<desc id=\"roc-desc\">"), "{made}");
        for bad in [
            "<svg><script>1</script></svg>",
            "<svg><rect onload=\"x\"/></svg>",
            "<svg><a href=\"x\">y</a></svg>",
            "<svg><style>*{}</style></svg>",
            "<svg><!-- x --></svg>",
            "<p>",
            &format!("<svg><text>{}</text></svg>", "x".repeat(400_000)),
        ] {
            assert!(element("roc", bad).is_none(), "{}", &bad[..bad.len().min(60)]);
        }
    }
}
