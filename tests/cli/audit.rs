//! The report page in a real browser. Without Chromium on the machine these tests say so and pass.

use std::path::Path;
use std::process::Command;

use crate::support::{Project, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");

/// What clicks every number and stage of a page and leaves what it saw as the text of an element.
const CLICKS: &str = r#"<script>
(() => {
  const panel = document.getElementById("audit"), body = document.getElementById("audit-body");
  const wrong = [];
  const numbers = [...document.querySelectorAll("button[data-origin]")];
  for (const number of numbers) {
    number.click();
    const { origin, exact, plus } = number.dataset;
    const text = body.textContent;
    const want = [origin, plus, exact, "logweir lineage"].filter((part) => part);
    if (panel.hidden || !want.every((part) => text.includes(part))) wrong.push(origin);
    if (!body.querySelector("ol li")) wrong.push("no stages for " + origin);
  }
  const stages = [...document.querySelectorAll(".graph g[data-id]")];
  for (const stage of stages) {
    stage.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    const named = document.getElementById("audit-title").textContent;
    if (!named.includes(stage.querySelector("text").textContent)) wrong.push("stage " + stage.dataset.id);
  }
  const last = stages[stages.length - 1];
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  const closed = panel.hidden && document.activeElement === last;
  const seen = document.createElement("div");
  seen.textContent = "SEEN " + JSON.stringify({ numbers: numbers.length, stages: stages.length, closed, wrong }) + " END";
  document.body.append(seen);
})();
</script>"#;

/// The document of a page after its scripts ran; `None` without a browser.
fn rendered(page: &Path) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let browser = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
        let data = format!("--user-data-dir={}", profile.path().display());
        let url = format!("file://{}", page.display());
        Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", &data, "--dump-dom", &url])
            .output()
            .ok()
    });
    Some(String::from_utf8_lossy(&browser?.stdout).into_owned())
}

#[test]
fn a_click_on_any_number_of_the_page_shows_where_it_came_from() {
    let project = Project::new(PIPELINE);
    let run = ["--profile", "demo", "--set", "stages.simulate.with.sessions=1500", "run", "-q", "report"];
    said(&project.command(&run).output().unwrap()).ok();
    let page = project.path("reports/index.html");
    let Some(as_is) = rendered(&page) else {
        eprintln!("skipped: no Chromium on this machine");
        return;
    };
    assert!(as_is.contains("<html lang=\"en\" class=\"live\">"), "the page's own rule keeps its script from running");
    let text = project.read("reports/index.html");
    let rule = regex::Regex::new("<meta http-equiv=\"Content-Security-Policy\"[^>]*>").unwrap();
    assert!(rule.is_match(&text));
    // With the rule in place a script that is not the page's own does not run.
    let foreign = text.replace("</html>", &format!("{CLICKS}</html>"));
    project.write("foreign.html", &foreign);
    assert!(!rendered(&project.path("foreign.html")).unwrap().contains("SEEN {"));
    project.write("clicked.html", &rule.replace(&foreign, ""));
    let clicked = rendered(&project.path("clicked.html")).unwrap();
    let seen = clicked.split("SEEN {").nth(1).and_then(|rest| rest.split(" END").next()).expect("the clicks ran");
    let seen: serde_json::Value = serde_json::from_str(&format!("{{{seen}")).unwrap();
    assert!(seen["numbers"].as_u64().unwrap() > 150, "{seen}");
    assert!(seen["stages"].as_u64().unwrap() >= 12, "{seen}");
    assert_eq!(seen["wrong"], serde_json::json!([]));
    assert_eq!(seen["closed"], true);
}
