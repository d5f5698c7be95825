//! Where an export goes: parsing an address, naming it without credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use postgres::config::Host;

/// A database to load into.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A file, relative to the project root.
    Sqlite(PathBuf),
    /// A server, with everything needed to connect.
    Postgres { config: Box<postgres::Config>, schema: String },
}

/// The variable that names a PostgreSQL database (a URL or a libpq string) and may hold a password.
pub(crate) const VARIABLE: &str = "LOGWEIR_POSTGRES";

impl Address {
    /// Returns the database to use: that of `LOGWEIR_POSTGRES` when set, else that of the parameter, missing parts
    /// filled in from `PG*` variables.
    ///
    /// # Errors
    /// The address cannot be read.
    pub(crate) fn resolve(url: &str, schema: &str, env: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        match env.get(VARIABLE).map(|v| v.trim()).filter(|v| !v.is_empty()) {
            Some(given) => {
                let config = postgres_config(given).map_err(|_| {
                    // The text may hold a password: it is not repeated.
                    anyhow!("{VARIABLE} is neither a PostgreSQL URL nor a `host=… dbname=…` string")
                })?;
                Self::postgres(config, schema, env)
            }
            None => match url.strip_prefix("sqlite:") {
                Some(path) => Ok(Self::Sqlite(PathBuf::from(path.trim_start_matches("//")))),
                None => Self::postgres(postgres_config(url)?, schema, env),
            },
        }
    }

    fn postgres(mut config: postgres::Config, schema: &str, env: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let var = |name: &str| env.get(name).filter(|v| !v.is_empty());
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(var("PGHOST").map_or("localhost", String::as_str));
        }
        if let (true, Some(port)) = (config.get_ports().is_empty(), var("PGPORT")) {
            config.port(port.parse().with_context(|| format!("PGPORT is `{port}`, not a port number"))?);
        }
        if let (None, Some(user)) = (config.get_user(), var("PGUSER")) {
            config.user(user);
        }
        if let (None, Some(password)) = (config.get_password(), var("PGPASSWORD")) {
            config.password(password);
        }
        if let (None, Some(database)) = (config.get_dbname(), var("PGDATABASE")) {
            config.dbname(database);
        }
        ensure!(
            config.get_user().is_some(),
            "no user for PostgreSQL: name one in {VARIABLE} (postgresql://USER@HOST/DATABASE) or in PGUSER"
        );
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("logweir");
        }
        Ok(Self::Postgres { config: Box::new(config), schema: schema.to_owned() })
    }

    /// Names the database for keys and messages: scheme, host, port, database, schema; never credentials.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres { config, schema } => {
                let hosts: Vec<String> = if config.get_hosts().is_empty() {
                    config.get_hostaddrs().iter().map(ToString::to_string).collect()
                } else {
                    let name = |host: &Host| match host {
                        Host::Tcp(name) => name.clone(),
                        #[cfg(unix)]
                        Host::Unix(path) => path.display().to_string(),
                    };
                    config.get_hosts().iter().map(name).collect()
                };
                let ports = if config.get_ports().is_empty() { &[5432][..] } else { config.get_ports() };
                let places: Vec<String> = (0..hosts.len())
                    .map(|i| format!("{}:{}", hosts[i], ports[if ports.len() == hosts.len() { i } else { 0 }]))
                    .collect();
                let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
                format!("postgresql://{}/{database}?schema={schema}", places.join(","))
            }
        }
    }
}

fn postgres_config(text: &str) -> anyhow::Result<postgres::Config> {
    let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    ensure!(url || text.contains('='), "`{text}` is no address of a database");
    postgres::Config::from_str(text).map_err(|e| anyhow!("`{text}` is no address of a PostgreSQL database: {e}"))
}

/// Checks an address written in pipeline.yaml, where a password must not stand.
///
/// # Errors
/// It cannot be read, or holds a password.
pub(crate) fn check_parameter(url: &str) -> anyhow::Result<()> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        ensure!(
            !path.trim_start_matches("//").is_empty(),
            "`sqlite:` needs a path, for instance `sqlite:data/logweir.sqlite`"
        );
        return Ok(());
    }
    if !url.contains('=') && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        bail!("must be `sqlite:PATH` or `postgresql://USER@HOST:PORT/DATABASE`");
    }
    // A password is looked for in the text too, so that one in an address that cannot be read is not printed either.
    let credentials = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()?.rsplit_once('@'));
    let lower = url.to_ascii_lowercase();
    let parsed = postgres::Config::from_str(url);
    let holds = credentials.is_some_and(|(user, _)| user.contains(':'))
        || lower.contains("password")
        || parsed.as_ref().is_ok_and(|c| c.get_password().is_some());
    ensure!(!holds, "must not hold a password");
    parsed.map(drop).map_err(|e| anyhow!("cannot be read as an address of a PostgreSQL database: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn identity(url: &str, pairs: &[(&str, &str)]) -> String {
        Address::resolve(url, "public", &env(pairs)).unwrap().identity()
    }

    #[test]
    fn the_variable_wins_over_the_parameter_and_no_credentials_show() {
        assert_eq!(identity("sqlite:data/x.sqlite", &[]), "sqlite:data/x.sqlite");
        let given = [(VARIABLE, "postgresql://ann:secret@db.example:6000/logs")];
        assert_eq!(identity("sqlite:data/x.sqlite", &given), "postgresql://db.example:6000/logs?schema=public");
        let given = [(VARIABLE, "host=/tmp/sock port=7 user=ann password=secret dbname=logs")];
        assert_eq!(identity("sqlite:x", &given), "postgresql:///tmp/sock:7/logs?schema=public");
        assert_eq!(identity("sqlite:x", &[(VARIABLE, " ")]), "sqlite:x");
    }

    #[test]
    fn libpq_variables_fill_in_what_the_address_leaves_out() {
        let vars =
            [("PGHOST", "db"), ("PGPORT", "6001"), ("PGUSER", "ann"), ("PGPASSWORD", "secret"), ("PGDATABASE", "logs")];
        let address = Address::resolve("postgresql://", "s", &env(&vars)).unwrap();
        assert_eq!(address.identity(), "postgresql://db:6001/logs?schema=s");
        let Address::Postgres { config, .. } = address else { panic!("not PostgreSQL") };
        assert_eq!(config.get_password(), Some(&b"secret"[..]));
        let error = Address::resolve("postgresql://db/logs", "s", &env(&[])).unwrap_err();
        assert!(error.to_string().contains("PGUSER"), "{error}");
    }

    #[test]
    fn a_password_or_nonsense_in_a_parameter_is_refused_without_repeating_it() {
        for url in ["postgres://ann:secret@db/logs", "host=db password=secret", "postgresql://db/logs?password=secret"]
        {
            let error = check_parameter(url).unwrap_err().to_string();
            assert!(error.contains("password") && !error.contains("secret"), "{error}");
        }
        for url in ["mysql://db", "sqlite:", "postgresql://db:port/x"] {
            assert!(check_parameter(url).is_err(), "{url}");
        }
        for url in ["sqlite:data/x.sqlite", "postgresql://ann@db:5433/logs", "host=db user=ann dbname=logs"] {
            check_parameter(url).unwrap();
        }
    }

    #[test]
    fn an_unreadable_variable_is_not_repeated() {
        let error = Address::resolve("sqlite:x", "s", &env(&[(VARIABLE, "secret")])).unwrap_err();
        assert!(!error.to_string().contains("`secret`"), "{error}");
    }
}
