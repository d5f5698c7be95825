//! The page, embedded: one document, one style sheet, one script.

use std::sync::OnceLock;

use super::answer::Answer;

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/graph.js"),
    include_str!("page/charts.js"),
    include_str!("page/runs.js"),
    include_str!("page/run.js"),
    include_str!("page/metrics.js"),
    include_str!("page/lineage.js"),
    include_str!("page/alerts.js"),
    include_str!("page/compare.js"),
    include_str!("page/live.js"),
    include_str!("page/app.js"),
);

/// A part of the page by its path.
pub(super) fn part(path: &str) -> Option<&'static Answer> {
    static PARTS: OnceLock<[(&str, Answer); 3]> = OnceLock::new();
    let parts = PARTS.get_or_init(|| {
        let make = |kind, text: &str| Answer::new(kind, text.as_bytes().to_vec());
        [
            ("/", make("text/html; charset=utf-8", DOCUMENT)),
            ("/style.css", make("text/css; charset=utf-8", STYLE)),
            ("/app.js", make("text/javascript; charset=utf-8", SCRIPT)),
        ]
    });
    parts.iter().find(|(name, _)| *name == path).map(|(_, answer)| answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_names_no_other_host() {
        let all = DOCUMENT.len() + STYLE.len() + SCRIPT.len();
        assert!(all < 100_000, "{all} bytes");
        for text in [DOCUMENT, STYLE, SCRIPT] {
            for scheme in ["http://", "https://"] {
                let hosts = text.split(scheme).skip(1);
                // The name space of SVG is no address.
                assert!(hosts.into_iter().all(|host| host.starts_with("www.w3.org/")), "another host");
            }
        }
        assert!(!DOCUMENT.contains("style=") && !DOCUMENT.contains("onclick"), "the policy allows neither");
    }
}
