//! The rules of a stage as a Landlock ruleset. The engine makes it; only the command puts itself under it.

use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{ABI, Access as _, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _};

use super::{DEVICES, Rules};

/// The youngest set of rights that is asked for; an older kernel gives fewer.
const RIGHTS: ABI = ABI::V3;

/// Makes a ruleset; `None` where the kernel has no Landlock.
pub(super) fn ruleset(rules: &Rules) -> Result<Option<OwnedFd>, landlock::RulesetError> {
    let mut set = Ruleset::default().handle_access(AccessFs::from_all(RIGHTS))?.create()?;
    let read = AccessFs::from_read(RIGHTS);
    let all = AccessFs::from_all(RIGHTS);
    let mut allow = |path: &Path, access| -> Result<(), landlock::RulesetError> {
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(RIGHTS) };
        // What is not there needs no rule.
        if let Ok(fd) = PathFd::new(path) {
            (&mut set).add_rule(PathBeneath::new(fd, access))?;
        }
        Ok(())
    };
    for folder in rules.system.iter().chain(&rules.inputs) {
        allow(folder, read)?;
    }
    for folder in &rules.listed {
        allow(folder, AccessFs::ReadDir.into())?;
    }
    for device in DEVICES {
        allow(Path::new(device), read | AccessFs::WriteFile | AccessFs::Truncate)?;
    }
    for output in &rules.outputs {
        // A rule needs something to hold on to: an output that is not there yet opens its folder. What else a command
        // writes there is refused by the tracer alone.
        match output.parent().filter(|_| !output.exists()) {
            Some(parent) => allow(parent, all)?,
            None => allow(output, all)?,
        }
    }
    Ok(set.into())
}
