//! `templates.csv` and the map from local to global templates.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::{GlobalTemplates, Template};

/// Reads `templates.csv`, in order of number.
///
/// # Errors
/// The file is missing, malformed, or its numbers do not count up from 0.
pub fn read_templates(path: &Path) -> anyhow::Result<Vec<Template>> {
    let context = || format!("cannot read templates {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(context)?;
    let templates: Vec<Template> = reader.deserialize().collect::<Result<_, _>>().with_context(context)?;
    if let Some((at, t)) = templates.iter().enumerate().find(|(at, t)| *at != t.number as usize) {
        bail!("{}: template number {} stands in row {at}; numbers count up from 0", path.display(), t.number);
    }
    Ok(templates)
}

/// Reads the map of `templates`: the global number of each local template, by part.
///
/// # Errors
/// The file is missing or malformed, or a local template is missing.
pub fn read_map(path: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    #[derive(Deserialize)]
    struct Row {
        part: usize,
        template: usize,
        number: u32,
    }
    let context = || format!("cannot read template map {}", path.display());
    let mut map: Vec<Vec<u32>> = Vec::new();
    for row in csv::Reader::from_path(path).with_context(context)?.deserialize() {
        let row: Row = row.with_context(context)?;
        while map.len() <= row.part {
            map.push(Vec::new());
        }
        if map[row.part].len() != row.template {
            bail!("{}: part {} lacks template {}", path.display(), row.part, map[row.part].len());
        }
        map[row.part].push(row.number);
    }
    Ok(map)
}

/// Writes both.
pub(super) fn write(global: &GlobalTemplates, templates: &Path, map: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", templates.display());
    let mut out = csv::Writer::from_path(templates).with_context(context)?;
    if global.templates.is_empty() {
        out.write_record(["event_id", "number", "count", "text", "source"]).with_context(context)?;
    }
    for template in &global.templates {
        out.serialize(template).with_context(context)?;
    }
    out.flush().with_context(context)?;

    let context = || format!("cannot write {}", map.display());
    let mut out = csv::Writer::from_path(map).with_context(context)?;
    out.write_record(["part", "template", "number"]).with_context(context)?;
    for (part, numbers) in global.map.iter().enumerate() {
        for (local, number) in numbers.iter().enumerate() {
            out.write_record([part.to_string(), local.to_string(), number.to_string()]).with_context(context)?;
        }
    }
    out.flush().with_context(context)
}
