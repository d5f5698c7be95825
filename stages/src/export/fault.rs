//! What went wrong at a PostgreSQL server, in words, with what to do about it; and whether it is worth another attempt.

use std::error::Error as _;

use logweir_engine::error::Environment;
use postgres::error::{DbError, SqlState};

use super::address::Server;
use super::watch::{Abandoned, GivenUp};

/// The cause that says most: the server's own words, else the innermost.
pub(super) fn cause(error: &postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", db.message());
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn postgres_in(error: &anyhow::Error) -> Option<&postgres::Error> {
    error.chain().find_map(|e| e.downcast_ref::<postgres::Error>().or_else(|| within_io(e)))
}

/// The writer of COPY hides the library's error in one of input and output.
fn within_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a postgres::Error> {
    error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<postgres::Error>()
}

/// Whether the connection broke or the server went down: a new connection may do better.
pub(super) fn is_lost(error: &anyhow::Error) -> bool {
    postgres_in(error).is_some_and(|error| match error.code() {
        Some(code) => is_down(code),
        None => error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()),
    })
}

/// Whether a server that does not let one in may do so in a moment: it starts, stops, or is not there yet.
pub(super) fn is_starting(error: &postgres::Error) -> bool {
    match error.code() {
        Some(code) => is_down(code),
        None => {
            let refused = |e: &std::io::Error| {
                use std::io::ErrorKind as Kind;
                matches!(
                    e.kind(),
                    Kind::ConnectionRefused | Kind::ConnectionReset | Kind::NotFound | Kind::UnexpectedEof
                )
            };
            error.is_closed() || error.source().and_then(|e| e.downcast_ref()).is_some_and(refused)
        }
    }
}

fn is_down(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
        || code.code().starts_with("08")
}

/// What to do about what the server said; `None`: it is no fault of the environment.
fn advice(db: &DbError) -> Option<&'static str> {
    let code = db.code();
    let special: &[(&SqlState, &str)] = &[
        (&SqlState::DISK_FULL, "the disk of the server is full: make room there, then run again"),
        (&SqlState::TOO_MANY_CONNECTIONS, "the server has no connection left: close some, or raise max_connections"),
        (
            &SqlState::INVALID_PASSWORD,
            "is the password right? LOGWEIR_POSTGRES_PASSWORD, PGPASSWORD and their _FILE forms give one",
        ),
        (&SqlState::INVALID_CATALOG_NAME, "make the database first: createdb"),
        (
            &SqlState::INSUFFICIENT_PRIVILEGE,
            "the user must own the schema, or may create in it: see provisioning/postgres/writer_role.sql",
        ),
        (
            &SqlState::UNDEFINED_TABLE,
            "somebody removed a table that schema_migrations counts: bring it back, or drop the whole schema (or name another \
             one), and all is made and loaded anew",
        ),
        (
            &SqlState::UNDEFINED_COLUMN,
            "somebody changed the tables: drop the schema or name another one, and all is loaded anew",
        ),
        (&SqlState::READ_ONLY_SQL_TRANSACTION, "the server is a standby or read only: name the one that takes writes"),
        (&SqlState::LOCK_NOT_AVAILABLE, "another session holds a lock on the tables for long: end it, then run again"),
        (&SqlState::T_R_DEADLOCK_DETECTED, "another session works on the same tables: run again"),
        (&SqlState::QUERY_CANCELED, "the server cancelled it: an administrator, or its statement_timeout"),
    ];
    if let Some((_, advice)) = special.iter().find(|(known, _)| *known == code) {
        return Some(advice);
    }
    // Classes: connection, authorization, resources, operator, system.
    ["08", "28", "53", "57", "58"]
        .iter()
        .any(|class| code.code().starts_with(class))
        .then_some("see the log of the server")
}

/// Puts a failed load into words: what failed, that nothing was changed, what to do.
pub(super) fn loading(error: anyhow::Error, server: &Server) -> anyhow::Error {
    let place = server.identity();
    let head = format!("cannot load into {place}; nothing was changed there");
    let Some(inner) = postgres_in(&error) else {
        return if error.is::<Abandoned>() { error } else { error.context(head) };
    };
    let (text, state) =
        (cause(inner), inner.code().map(|code| format!(" (SQLSTATE {})", code.code())).unwrap_or_default());
    let told = match inner.as_db_error() {
        Some(db) => advice(db).map(|advice| format!("{head}: {text}{state}; {advice}")),
        None => Some(format!("{head}: the connection was lost: {text}; is the server up? run again")),
    };
    match told {
        Some(told) => error.context(Environment::new(told)),
        None => error.context(format!("{head}: {text}{state}")),
    }
}

/// Puts a connection that did not come about into words.
pub(super) fn connecting(error: &postgres::Error, server: &Server) -> anyhow::Error {
    let text = cause(error);
    let has = |part: &str| text.contains(part);
    let mut advice = match error.as_db_error() {
        Some(db) => advice(db).unwrap_or("see the log of the server").to_owned(),
        None if has("does not support TLS") => {
            "the server offers no encryption: turn it on there (ssl = on), or ask for less with sslmode=prefer".to_owned()
        }
        None if has("UnknownIssuer") || has("BadSignature") => {
            "the certificate of the server is not of the authority that sslrootcert names".to_owned()
        }
        None if has("not valid for name") || has("NotValidForName") => {
            "the certificate of the server is that of another host: connect by a name in its subjectAltName, or check who answers".to_owned()
        }
        None if has("Expired") || has("expired") => "the certificate of the server has expired".to_owned(),
        None if has("CaUsedAsEndEntity") => {
            "the certificate of the server is one of an authority: have that sign another one for the server".to_owned()
        }
        None if has("peer certificate") || has("alert") => "encryption failed: see sslmode, sslrootcert, sslcert".to_owned(),
        None if has("password missing") => {
            "the server wants a password: LOGWEIR_POSTGRES_PASSWORD, PGPASSWORD, their _FILE forms or a password file give one".to_owned()
        }
        None => "is the server running, and does it listen there? LOGWEIR_POSTGRES names the database; unset, scores go to the \
                 SQLite file of pipeline.yaml"
            .to_owned(),
    };
    if let Some(note) = &server.note {
        advice = format!("{advice}; {note}");
    }
    Environment::new(format!("cannot reach {}: {text}; {advice}", server.identity())).into()
}

/// Puts work that was given up into words.
pub(super) fn given_up(why: GivenUp, server: &Server, doing: &str) -> anyhow::Error {
    let place = server.identity();
    match why {
        GivenUp::Silent => Environment::new(format!(
            "cannot {doing} {place}: the server has not answered for {} s; nothing was committed before that. Is it stopped, or \
             the network cut? {} sets another limit in seconds",
            server.patience.as_secs(),
            super::address::PATIENCE
        ))
        .into(),
        GivenUp::Cancelled => anyhow::anyhow!("interrupted"),
        GivenUp::Panicked => anyhow::anyhow!("the export to {place} broke off (a bug)"),
    }
}
