//! What every database can do for an export.

use std::collections::BTreeMap;

use super::address::Address;
use super::rows::Load;
use super::{postgresql, sqlite};

/// A database that holds exports, each under the key of the action that made it; one of them is the current one.
pub(crate) trait Target {
    /// Returns whether the current export is `key` and complete. Changes nothing.
    fn is_current(&mut self, key: &str) -> anyhow::Result<bool>;

    /// Loads everything and makes it current, in one transaction; exports beyond the newest `keep` (0 = all) go.
    /// An export that is complete already is only made current.
    fn load(&mut self, load: &Load, keep: u32) -> anyhow::Result<Outcome>;
}

/// What a load did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Rows were written.
    Loaded,
    /// They were there; at most the current export changed.
    Present,
}

/// Opens the database of an address for loading.
///
/// # Errors
/// It cannot be reached.
pub(crate) fn open(address: &Address) -> anyhow::Result<Box<dyn Target>> {
    Ok(match address {
        Address::Sqlite(path) => Box::new(sqlite::Sqlite::open(path)?),
        Address::Postgres { config, schema } => Box::new(postgresql::Postgresql::open(config, schema)?),
    })
}

/// Asks the database of an address whether `key` is current, without creating anything.
///
/// # Errors
/// It cannot be reached.
pub(crate) fn is_current(address: &Address, key: &str) -> anyhow::Result<bool> {
    if let Address::Sqlite(path) = address
        && !path.exists()
    {
        return Ok(false);
    }
    open(address)?.is_current(key)
}

/// Resolves and asks; the body of the effect's check.
///
/// # Errors
/// As [`Address::resolve`] and [`is_current`].
pub(crate) fn holds(url: &str, schema: &str, key: &str, env: &BTreeMap<String, String>) -> anyhow::Result<bool> {
    is_current(&Address::resolve(url, schema, env)?, key)
}
