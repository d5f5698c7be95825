//! Times as text: microseconds since 1970 in UTC to RFC 3339.

use chrono::{DateTime, SecondsFormat};

/// Returns `2008-11-09T20:35:30Z`; a fraction of a second is written with three or six digits if there is one.
pub fn rfc3339(micros: i64) -> String {
    let Some(time) = DateTime::from_timestamp_micros(micros) else { return format!("{micros} us") };
    let format = match micros {
        m if m % 1_000_000 == 0 => SecondsFormat::Secs,
        m if m % 1000 == 0 => SecondsFormat::Millis,
        _ => SecondsFormat::Micros,
    };
    time.to_rfc3339_opts(format, true)
}

/// As [`rfc3339`] without what a file name or a key cannot have: `20081109T203530Z`, `20081109T203530.250Z`.
pub fn compact(micros: i64) -> String {
    rfc3339(micros).replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_written_only_where_there_are_some() {
        assert_eq!(rfc3339(1_226_262_930_000_000), "2008-11-09T20:35:30Z");
        assert_eq!(rfc3339(1_226_262_930_250_000), "2008-11-09T20:35:30.250Z");
        assert_eq!(compact(1_226_262_930_250_000), "20081109T203530.250Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(i64::MAX), "9223372036854775807 us");
    }
}
