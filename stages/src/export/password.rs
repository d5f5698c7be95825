//! Where the password of a PostgreSQL user comes from. It is in no key, record or message: only [`postgres::Config`],
//! which hides it, holds it.
//!
//! In this order: the address itself; the variable that the parameter `password_from` names; `LOGWEIR_POSTGRES_PASSWORD`;
//! `PGPASSWORD`; the password file `PGPASSFILE`, else `~/.pgpass`. A variable `NAME` may be given as `NAME_FILE`, the path of
//! a file that holds the value, as container secrets are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use logweir_engine::error::Environment;

/// Reads a variable, or the file that `NAME_FILE` names; without the line end.
///
/// # Errors
/// The file cannot be read.
pub(super) fn variable(name: &str, env: &BTreeMap<String, String>) -> anyhow::Result<Option<String>> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    if let Some(value) = set(name) {
        return Ok(Some(value.clone()));
    }
    let file = format!("{name}_FILE");
    let Some(path) = set(&file) else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .with_context(|| Environment::new(format!("cannot read the file that {file} names, `{path}`")))?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// What is to be found in a password file.
pub(super) struct Wanted<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// What a search for a password found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub password: Option<String>,
    /// Why a password file was not used, for the message when the server refuses.
    pub note: Option<String>,
}

/// Looks for the password of an address that has none.
///
/// # Errors
/// A file named by a variable cannot be read, or `from` names a variable that is not set.
pub(super) fn find(from: Option<&str>, wanted: &Wanted<'_>, env: &BTreeMap<String, String>) -> anyhow::Result<Found> {
    let of = |password| Ok(Found { password: Some(password), note: None });
    if let Some(name) = from {
        let missing =
            || Environment::new(format!("`password_from` names {name}, but neither {name} nor {name}_FILE is set"));
        return of(variable(name, env)?.with_context(missing)?);
    }
    for name in ["LOGWEIR_POSTGRES_PASSWORD", "PGPASSWORD"] {
        if let Some(password) = variable(name, env)? {
            return of(password);
        }
    }
    let Some(path) = password_file(env) else { return Ok(Found::default()) };
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Found::default()) };
    if let Some(note) = too_open(&path) {
        return Ok(Found { password: None, note: Some(note) });
    }
    Ok(Found { password: text.lines().find_map(|line| matching(line, wanted)), note: None })
}

fn password_file(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let named = env.get("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(Path::new(env.get("HOME")?).join(".pgpass")))
}

/// As libpq does, a file that others may read is not used.
#[cfg(unix)]
fn too_open(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let open = path.metadata().ok()?.permissions().mode() & 0o077 != 0;
    open.then(|| format!("the password file {} was not used, because others may read it: chmod 600", path.display()))
}

#[cfg(not(unix))]
fn too_open(_: &Path) -> Option<String> {
    None
}

/// The password of a line `host:port:database:user:password` that fits. `*` fits all; a backslash makes the next
/// character plain. A socket's folder is also named `localhost`.
fn matching(line: &str, wanted: &Wanted<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![(String::new(), false)];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '\\' => {
                fields[last].0.extend(chars.next());
                fields[last].1 = true;
            }
            ':' if fields.len() < 5 => fields.push((String::new(), false)),
            c => fields[last].0.push(c),
        }
    }
    let [host, port, database, user, (password, _)] = <[_; 5]>::try_from(fields).ok()?;
    let fits = |(field, escaped): &(String, bool), value: &str| (field == "*" && !escaped) || field == value;
    let port_text = wanted.port.to_string();
    let local = wanted.host.starts_with('/') && fits(&host, "localhost");
    ((local || fits(&host, wanted.host))
        && fits(&port, &port_text)
        && fits(&database, wanted.database)
        && fits(&user, wanted.user))
    .then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> = Wanted { host: "db", port: 5432, database: "logs", user: "ann" };

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn password(from: Option<&str>, pairs: &[(&str, &str)]) -> Option<String> {
        find(from, &WANTED, &env(pairs)).unwrap().password
    }

    #[test]
    fn variables_come_before_files_and_own_ones_before_those_of_libpq() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "from a file\n").unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(password(None, &[("PGPASSWORD", "a"), ("LOGWEIR_POSTGRES_PASSWORD", "b")]).unwrap(), "b");
        assert_eq!(
            password(None, &[("PGPASSWORD", "a"), ("LOGWEIR_POSTGRES_PASSWORD_FILE", path)]).unwrap(),
            "from a file"
        );
        assert_eq!(password(None, &[("PGPASSWORD", "a")]).unwrap(), "a");
        assert_eq!(password(Some("OWN"), &[("PGPASSWORD", "a"), ("OWN", "c")]).unwrap(), "c");
        assert_eq!(password(Some("OWN"), &[("PGPASSWORD", "a"), ("OWN_FILE", path)]).unwrap(), "from a file");
        assert_eq!(password(None, &[]), None);
        let error = find(Some("OWN"), &WANTED, &env(&[])).unwrap_err();
        assert!(Environment::is_cause_of(&error) && error.to_string().contains("OWN_FILE"), "{error}");
        let error = find(None, &WANTED, &env(&[("PGPASSWORD_FILE", "/nowhere/x")])).unwrap_err();
        assert!(Environment::is_cause_of(&error) && format!("{error:#}").contains("/nowhere/x"), "{error:#}");
    }

    #[cfg(unix)]
    #[test]
    fn a_password_file_is_read_as_libpq_does() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".pgpass");
        std::fs::write(&file, "# all\nother:*:*:*:no\n*:5432:logs:ann:it\\:s \\\\ x:y\n*:*:*:*:last\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        let home = [("HOME", dir.path().to_str().unwrap())];
        assert_eq!(password(None, &home).unwrap(), "it:s \\ x:y");
        assert_eq!(password(None, &[("PGPASSFILE", file.to_str().unwrap())]).unwrap(), "it:s \\ x:y");
        mode(0o644);
        let found = find(None, &WANTED, &env(&home)).unwrap();
        assert!(found.password.is_none() && found.note.unwrap().contains("chmod 600"));
    }

    #[test]
    fn escaped_stars_and_sockets() {
        let socket = Wanted { host: "/tmp/s", ..WANTED };
        assert_eq!(matching("localhost:5432:logs:ann:x", &socket).unwrap(), "x");
        assert_eq!(matching("localhost:5432:logs:ann:x", &WANTED), None);
        assert_eq!(matching("\\*:5432:logs:ann:x", &WANTED), None);
        assert_eq!(matching("db:5432:logs", &WANTED), None);
    }
}
