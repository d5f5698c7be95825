//! Where an export goes: parsing an address, naming it without credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use postgres::config::Host;

use super::{dsn, password, tls};

/// A database to load into.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A file, relative to the project root.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<Server>),
}

/// A PostgreSQL server, with everything needed to connect.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Hosts, user, password (which it never shows), database, limits.
    pub config: postgres::Config,
    /// How the connection is protected.
    pub(super) tls: tls::Options,
    /// Schema of the tables.
    pub schema: String,
    /// How long the server may be silent before it counts as dead.
    pub patience: Duration,
    /// What else to say when the server refuses a password.
    pub note: Option<String>,
}

/// The variable that names a PostgreSQL database (a URL or a libpq string) and may hold a password.
pub(crate) const VARIABLE: &str = "LOGWEIR_POSTGRES";

/// The variable that says how many seconds a server may be silent.
pub(super) const PATIENCE: &str = "LOGWEIR_POSTGRES_TIMEOUT";

/// Where to look for what the environment does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The parameter `url`.
    pub url: &'a str,
    /// The parameter `schema`.
    pub schema: &'a str,
    /// The parameter `password_from`.
    pub password_from: Option<&'a str>,
}

impl Address {
    /// Returns the database to use: that of `LOGWEIR_POSTGRES` when set, else that of the parameter, missing parts
    /// filled in from `PG*` variables.
    ///
    /// # Errors
    /// The address cannot be read, or a file with a password or address.
    pub(crate) fn resolve(place: Place<'_>, env: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let given = password::variable(VARIABLE, env)?;
        match given.as_deref().map(str::trim).filter(|v| !v.is_empty()) {
            // The text may hold a password: it is not repeated.
            Some(given) => Self::postgres(given, place, env, |why| match why {
                None => anyhow!("{VARIABLE} is neither a PostgreSQL URL nor a `host=… dbname=…` string"),
                Some(why) => anyhow!("{VARIABLE}: {why}"),
            }),
            None => match place.url.strip_prefix("sqlite:") {
                Some(path) => Ok(Self::Sqlite(PathBuf::from(path.trim_start_matches("//")))),
                None => Self::postgres(place.url, place, env, |why| match why {
                    None => anyhow!("`{}` is no address of a PostgreSQL database", place.url),
                    Some(why) => anyhow!("`{}`: {why}", place.url),
                }),
            },
        }
    }

    fn postgres(
        text: &str,
        place: Place<'_>,
        env: &BTreeMap<String, String>,
        bad: impl Fn(Option<String>) -> anyhow::Error,
    ) -> anyhow::Result<Self> {
        let parts = dsn::split(text).map_err(|_| bad(None))?;
        let mut config = postgres::Config::from_str(&parts.rest).map_err(|_| bad(None))?;
        let mut tls = tls::Options::read(&parts, env).map_err(|error| bad(Some(error.to_string())))?;
        let var = |name: &str| env.get(name).filter(|v| !v.is_empty());
        if config.get_hosts().is_empty() {
            // A numeric address is also the name that a certificate is held against.
            let numeric: Vec<String> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
            if numeric.is_empty() {
                config.host(var("PGHOST").map_or("localhost", String::as_str));
            }
            for host in numeric {
                config.host(&host);
            }
        }
        if let (true, Some(port)) = (config.get_ports().is_empty(), var("PGPORT")) {
            config.port(port.parse().with_context(|| format!("PGPORT is `{port}`, not a port number"))?);
        }
        if let (None, Some(user)) = (config.get_user(), var("PGUSER")) {
            config.user(user);
        }
        if let (None, Some(database)) = (config.get_dbname(), var("PGDATABASE")) {
            config.dbname(database);
        }
        let Some(user) = config.get_user().map(str::to_owned) else {
            bail!("no user for PostgreSQL: name one in {VARIABLE} (postgresql://USER@HOST/DATABASE) or in PGUSER")
        };
        let mut note = None;
        if config.get_password().is_none() {
            let (hosts, ports) = (hosts(&config), config.get_ports());
            let wanted = password::Wanted {
                host: hosts.first().map_or("", String::as_str),
                port: ports.first().copied().unwrap_or(5432),
                database: config.get_dbname().unwrap_or(&user),
                user: &user,
            };
            let found = password::find(place.password_from, &wanted, env)?;
            note = found.note;
            if let Some(password) = found.password {
                config.password(password);
            }
        }
        let patience = match var(PATIENCE) {
            None => 60,
            Some(text) => {
                let seconds = text.parse::<u64>().ok().filter(|s| (1..=86_400).contains(s));
                seconds
                    .with_context(|| format!("{PATIENCE} is `{text}`: it must be a number of seconds, 1 to 86400"))?
            }
        };
        let patience = Duration::from_secs(patience);
        set_limits(&mut config, patience);
        if config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_))) {
            tls = tls::Options::off();
        }
        tls.apply(&mut config);
        Ok(Self::Postgres(Box::new(Server { config, tls, schema: place.schema.to_owned(), patience, note })))
    }

    /// Names the database for keys and messages: scheme, host, port, database, schema; never credentials.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(server) => server.identity(),
        }
    }
}

impl Server {
    /// As [`Address::identity`].
    pub(crate) fn identity(&self) -> String {
        let hosts = hosts(&self.config);
        let ports = if self.config.get_ports().is_empty() { &[5432][..] } else { self.config.get_ports() };
        let places: Vec<String> = (0..hosts.len())
            .map(|i| format!("{}:{}", hosts[i], ports[if ports.len() == hosts.len() { i } else { 0 }]))
            .collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgresql://{}/{database}?schema={}", places.join(","), self.schema)
    }
}

fn hosts(config: &postgres::Config) -> Vec<String> {
    let name = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    };
    config.get_hosts().iter().map(name).collect()
}

/// A network that goes away is noticed: by sent bytes that nobody confirms, and by probes while nothing is sent.
fn set_limits(config: &mut postgres::Config, patience: Duration) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    if config.get_application_name().is_none() {
        config.application_name("logweir");
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(patience);
    }
    if config.get_keepalives_idle() == Duration::from_secs(2 * 60 * 60) {
        config.keepalives_idle((patience / 2).max(Duration::from_secs(1)));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval((patience / 6).max(Duration::from_secs(1)));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
}

/// Checks an address written in pipeline.yaml, where a password must not stand.
///
/// # Errors
/// It cannot be read, or holds a password.
pub(super) fn check_parameter(url: &str) -> anyhow::Result<()> {
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
    let parts = dsn::split(url);
    let parsed = parts.as_ref().map_err(ToString::to_string).and_then(|parts| {
        // The whole chain: the library's own message says only that it is no address.
        postgres::Config::from_str(&parts.rest).map_err(|e| format!("{:#}", anyhow::Error::from(e)))
    });
    let holds = credentials.is_some_and(|(user, _)| user.contains(':'))
        || lower.contains("password")
        || parsed.as_ref().is_ok_and(|c| c.get_password().is_some());
    ensure!(!holds, "must not hold a password");
    parsed.map_err(|e| anyhow!("cannot be read as an address of a PostgreSQL database: {e}"))?;
    tls::check_mode(parts?.get("sslmode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn place(url: &str) -> Place<'_> {
        Place { url, schema: "public", password_from: None }
    }

    fn identity(url: &str, pairs: &[(&str, &str)]) -> String {
        Address::resolve(place(url), &env(pairs)).unwrap().identity()
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
        let address = Address::resolve(Place { schema: "s", ..place("postgresql://") }, &env(&vars)).unwrap();
        assert_eq!(address.identity(), "postgresql://db:6001/logs?schema=s");
        assert!(!format!("{address:?}").contains("secret"), "{address:?}");
        let Address::Postgres(server) = address else { panic!("not PostgreSQL") };
        assert_eq!(server.config.get_password(), Some(&b"secret"[..]));
        let error = Address::resolve(place("postgresql://db/logs"), &env(&[])).unwrap_err();
        assert!(error.to_string().contains("PGUSER"), "{error}");
    }

    #[test]
    fn a_password_or_nonsense_in_a_parameter_is_refused_without_repeating_it() {
        for url in ["postgres://ann:secret@db/logs", "host=db password=secret", "postgresql://db/logs?password=secret"]
        {
            let error = check_parameter(url).unwrap_err().to_string();
            assert!(error.contains("password") && !error.contains("secret"), "{error}");
        }
        for url in ["mysql://db", "sqlite:", "postgresql://db:port/x", "host=db sslmode=full"] {
            assert!(check_parameter(url).is_err(), "{url}");
        }
        let full = "postgresql://ann@db/logs?sslmode=verify-full&sslrootcert=/etc/ca.pem";
        for url in ["sqlite:data/x.sqlite", "postgresql://ann@db:5433/logs", "host=db user=ann dbname=logs", full] {
            check_parameter(url).unwrap();
        }
    }

    #[test]
    fn an_unreadable_variable_is_not_repeated() {
        for text in ["secret", "postgres://ann:secret@db:port/x", "host=db password=secret sslmode=full"] {
            let error = Address::resolve(place("sqlite:x"), &env(&[(VARIABLE, text)])).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn the_address_may_lie_in_a_file_and_limits_have_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("address");
        std::fs::write(&file, "postgresql://ann:secret@db.example:6000/logs\n").unwrap();
        let given = [("LOGWEIR_POSTGRES_FILE", file.to_str().unwrap())];
        assert_eq!(identity("sqlite:x", &given), "postgresql://db.example:6000/logs?schema=public");
        for text in ["0", "soon", "-1"] {
            let given = [(VARIABLE, "host=db user=ann"), (PATIENCE, text)];
            let error = Address::resolve(place("sqlite:x"), &env(&given)).unwrap_err().to_string();
            assert!(error.contains(PATIENCE) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn sockets_are_not_encrypted_whatever_the_mode() {
        let of = |host: &str| {
            let given = [(VARIABLE, format!("host={host} user=ann sslmode=require"))];
            let given: Vec<(&str, &str)> = given.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let Address::Postgres(server) = Address::resolve(place("sqlite:x"), &env(&given)).unwrap() else {
                panic!("not PostgreSQL")
            };
            server.tls.is_off()
        };
        assert!(of("/tmp/sock") && !of("localhost") && !of("/tmp/sock,localhost"));
    }

    #[test]
    fn a_numeric_address_is_a_host() {
        let given = [(VARIABLE, "hostaddr=10.0.0.7 user=ann dbname=logs")];
        assert_eq!(identity("sqlite:x", &given), "postgresql://10.0.0.7:5432/logs?schema=public");
    }
}
