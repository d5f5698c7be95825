//! The engine knows files, digests, commands and parameters, and no word of what stages compute.

use std::path::Path;

#[test]
fn the_engine_has_no_word_of_the_domain() {
    // Written in two halves, so that this file does not name them either.
    let words = [("hd", "fs"), ("tf", "idf"), ("sess", "ion"), ("anom", "al"), ("light", "gbm"), ("auto", "encoder")];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                read += 1;
                let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
                for (a, b) in words {
                    assert!(!text.contains(&format!("{a}{b}")), "{} says `{a}{b}`", path.display());
                }
            }
        }
    }
    assert!(read > 30, "only {read} files");
}
