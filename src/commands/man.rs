//! `man`: manual pages, made from the same definitions as `--help`.

use std::fs;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{Cli, ManArgs};
use crate::commands::Outcome;
use crate::render::Screen;
use crate::render::diagnostic::Failure;

pub(super) fn man(args: &ManArgs, screen: &Screen) -> Outcome {
    let command = Cli::command();
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        let made = clap_mangen::Man::new(command).render(&mut page);
        made.map_err(|e| Failure::bug(e.to_string()))?;
        screen.data(&String::from_utf8_lossy(&page))?;
        return Ok(0);
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write manual pages to `{}`", folder.display()))
        .map_err(|error| Failure::environment(error).help("choose a folder you may write to"))?;
    screen.note(&format!("written; read one with: man {}/logweir.1", folder.display()));
    Ok(0)
}
