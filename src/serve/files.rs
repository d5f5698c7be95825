//! Files of `reports/`, and no others.

use std::path::{Path, PathBuf};

use super::answer::Answer;
use super::data::is_relative;

/// Largest file that is handed out, bytes.
const LARGEST: u64 = 64 << 20;

/// Reports are made of logs: what they hold may run its own script, but as a page of no origin, which can ask nothing here.
const POLICY: &str = "sandbox allow-scripts allow-popups; default-src 'none'; img-src 'self' data:; \
                      style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Reads a file below `reports/` of a project; `None` where there is none, or where a link or a name leads out of it.
pub(super) fn read(root: &Path, name: &str) -> Option<Answer> {
    let path = place(root, name)?;
    path.metadata().ok().filter(|meta| meta.is_file() && meta.len() <= LARGEST)?;
    Some(Answer::new(kind(&path), std::fs::read(&path).ok()?).with_policy(POLICY))
}

fn place(root: &Path, name: &str) -> Option<PathBuf> {
    let hidden = name.split('/').any(|part| part.starts_with('.') || part.is_empty());
    if hidden || !is_relative(name) {
        return None;
    }
    let folder = root.join("reports").canonicalize().ok()?;
    let path = folder.join(name).canonicalize().ok()?;
    path.starts_with(&folder).then_some(path)
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "json" => "application/json",
        "csv" => "text/csv; charset=utf-8",
        "txt" | "md" | "yaml" | "jsonl" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_reports_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("reports/sub")).unwrap();
        for file in ["reports/a.txt", "reports/sub/b.json", "reports/.c", "secret.txt"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.join("secret.txt"), root.join("reports/link.txt")).unwrap();
        for good in ["a.txt", "sub/b.json"] {
            assert!(read(root, good).is_some(), "{good}");
        }
        let long = "x/".repeat(3000);
        for bad in
            ["../secret.txt", "sub/../../secret.txt", "link.txt", ".c", "sub", "", "/a.txt", "sub//b.json", &long]
        {
            assert!(read(root, bad).is_none(), "{bad}");
        }
    }
}
