//! `export-lineage`: the lineage of a run in standard formats.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use logweir_engine::export::Export;
use logweir_engine::spec::Link;
use logweir_engine::store::Store;
use logweir_stages::describe::Tables;

use crate::cli::{ExportFormat, ExportLineageArgs, Global};
use crate::commands::{Outcome, find, limit_polars};
use crate::render::Screen;
use crate::render::diagnostic::Failure;

pub(super) fn export(global: &Global, args: &ExportLineageArgs, screen: &Screen) -> Outcome {
    limit_polars(None);
    let out = std::env::current_dir().unwrap_or_default().join(&args.out);
    let project = find(global)?;
    let bundle = project.bundle(&args.run)?;
    let name = project.root().file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy());
    let store = Store::new(&project.root().join("cache"), &project.root().join("cache/tmp"), Link::Auto);
    let export = Export::new(&bundle, &name, &store, &Tables);
    let text = match args.format {
        ExportFormat::Openlineage => export.openlineage(),
        ExportFormat::Prov => export.prov(),
        ExportFormat::Bundle => export.document() + "\n",
        ExportFormat::RoCrate => {
            in_use(&out)?;
            export.ro_crate(&out, &store, args.copy_up_to)?;
            told(&bundle.run.info.run, &args.out, screen);
            return Ok(0);
        }
    };
    if args.out == Path::new("-") {
        screen.data(&text)?;
        return Ok(0);
    }
    write_whole(&out, &text)?;
    told(&bundle.run.info.run, &args.out, screen);
    Ok(0)
}

fn told(run: &str, out: &Path, screen: &Screen) {
    screen.note(&format!("lineage of run {run} is in {}", out.display()));
}

/// A crate is written into a folder of its own.
fn in_use(out: &Path) -> Result<(), Failure> {
    let used = out.is_file() || fs::read_dir(out).is_ok_and(|mut all| all.next().is_some());
    if used {
        let error = anyhow::anyhow!("{} exists already", out.display());
        return Err(Failure::environment(error).help("name a folder that does not exist or is empty"));
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write_whole(out: &Path, text: &str) -> Result<(), Failure> {
    let mut temp = out.as_os_str().to_owned();
    temp.push(format!(".{}.tmp", std::process::id()));
    let wrote = fs::write(&temp, text).and_then(|()| fs::rename(&temp, out));
    wrote.with_context(|| format!("cannot write {}", out.display())).map_err(|error| {
        let _ = fs::remove_file(&temp);
        Failure::environment(error)
    })
}
