//! The text of a PostgreSQL address (a URL or a libpq string) apart: TLS options are taken out of it, because the
//! library that reads the rest knows three of the six modes and no files.

use anyhow::{anyhow, ensure};

/// Options that this program handles itself.
const OWN: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// An address without TLS options, and these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// What is left: still an address.
    pub rest: String,
    /// Values by name, those of [`OWN`] that were there.
    pub tls: Vec<(&'static str, String)>,
}

impl Parts {
    /// Returns the value of a TLS option.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.tls.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }
}

/// Whether a text is an address written as a URL.
pub(super) fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// Takes an address apart.
///
/// # Errors
/// It is neither a URL nor a list of `name=value`. The message does not repeat the text, which may hold a password.
pub(super) fn split(text: &str) -> anyhow::Result<Parts> {
    let text = text.trim();
    if is_url(text) { of_url(text) } else { of_pairs(text) }
}

fn own(name: &str) -> Option<&'static str> {
    OWN.into_iter().find(|own| *own == name)
}

fn of_url(text: &str) -> anyhow::Result<Parts> {
    let Some((before, query)) = text.split_once('?') else {
        return Ok(Parts { rest: text.to_owned(), tls: Vec::new() });
    };
    let (mut rest, mut tls) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').and_then(|(name, value)| Some((own(name)?, value))) {
            Some((name, value)) => tls.push((name, percent_decoded(value)?)),
            None => rest.push(pair),
        }
    }
    let end = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok(Parts { rest: format!("{before}{end}"), tls })
}

/// Decodes `%2F` and its like.
fn percent_decoded(text: &str) -> anyhow::Result<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                ensure!(bytes[at] != b'%', "`%` in an option is not followed by two hexadecimal digits");
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_err(|_| anyhow!("an option is no UTF-8"))
}

/// `name=value name='va lue'` with backslashes, as libpq reads it.
fn of_pairs(text: &str) -> anyhow::Result<Parts> {
    let bad = || anyhow!("is no list of `name=value`");
    let (mut rest, mut tls) = (Vec::new(), Vec::new());
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(Parts { rest: rest.join(" "), tls });
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') || name.is_empty() {
            return Err(bad());
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next().ok_or_else(bad)?),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err(bad()),
                None => break,
            }
        }
        match own(&name) {
            Some(name) => tls.push((name, value)),
            None => rest.push(format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_options_leave_the_address() {
        let parts = split(
            "postgresql://ann@db:5433/logs?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fetc%2Fca%20x.pem",
        );
        let parts = parts.unwrap();
        assert_eq!(parts.rest, "postgresql://ann@db:5433/logs?connect_timeout=3");
        assert_eq!((parts.get("sslmode"), parts.get("sslrootcert")), (Some("verify-full"), Some("/etc/ca x.pem")));
        assert_eq!(split("postgres://db/logs?sslmode=require").unwrap().rest, "postgres://db/logs");
        let parts = split(r"host=db user = ann password='it\'s \\ x' sslmode=verify-ca sslcert='/a b'").unwrap();
        assert_eq!(parts.rest, r"host='db' user='ann' password='it\'s \\ x'");
        assert_eq!(
            (parts.get("sslmode"), parts.get("sslcert"), parts.get("sslkey")),
            (Some("verify-ca"), Some("/a b"), None)
        );
    }

    #[test]
    fn what_is_left_reads_as_it_was_meant() {
        let parts = split(r"host=/tmp/s password='it\'s \\ x' dbname=logs sslmode=disable").unwrap();
        let config: postgres::Config = parts.rest.parse().unwrap();
        assert_eq!((config.get_password(), config.get_dbname()), (Some(&br"it's \ x"[..]), Some("logs")));
    }

    #[test]
    fn nonsense_is_refused_without_being_repeated() {
        for text in ["secret", "host=db secret", "password='secret", "postgres://db/x?sslrootcert=%zsecret"] {
            let error = split(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
