//! Times as text: microseconds since 1970 in UTC to RFC 3339.

use chrono::{DateTime, SecondsFormat};

/// The last microsecond of the year 9999, which is the last one of four digits.
const LAST: i64 = 253_402_300_799_999_999;

/// Returns `2008-11-09T20:35:30Z`; a fraction of a second is written with three or six digits if there is one.
pub fn rfc3339(micros: i64) -> String {
    // Tables have millions of times: the usual ones are written directly.
    if (0..=LAST).contains(&micros) {
        return usual(micros as u64);
    }
    let Some(time) = DateTime::from_timestamp_micros(micros) else { return format!("{micros} us") };
    let format = match micros {
        m if m % 1_000_000 == 0 => SecondsFormat::Secs,
        m if m % 1000 == 0 => SecondsFormat::Millis,
        _ => SecondsFormat::Micros,
    };
    time.to_rfc3339_opts(format, true)
}

/// A time from 1970 to 9999.
fn usual(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in cycles of 400 years (Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (cycle, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * cycle + year_of_cycle + u64::from(month <= 2);
    let mut text = String::with_capacity(27);
    let mut put = |mut number: u64, digits: usize, after: char| {
        let mut places = [b'0'; 6];
        for place in places[..digits].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
        text.extend(places[..digits].iter().map(|&digit| digit as char));
        text.push(after);
    };
    put(year, 4, '-');
    put(month, 2, '-');
    put(day_of_month, 2, 'T');
    put(second / 3600, 2, ':');
    put(second / 60 % 60, 2, ':');
    put(second % 60, 2, if fraction == 0 { 'Z' } else { '.' });
    match fraction {
        0 => {}
        whole if whole % 1000 == 0 => put(whole / 1000, 3, 'Z'),
        _ => put(fraction, 6, 'Z'),
    }
    text
}

/// As [`rfc3339`] without what a file name or a key cannot have: `20081109T203530Z`, `20081109T203530.250Z`.
pub fn compact(micros: i64) -> String {
    rfc3339(micros).replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn usual_times_are_written_as_the_library_writes_them(micros in prop_oneof![0..=LAST, 0..4_102_444_800_000_000i64, (0..LAST / 1_000_000).prop_map(|s| s * 1_000_000), (0..LAST / 1000).prop_map(|ms| ms * 1000)]) {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(rfc3339(micros), time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        }

        #[test]
        fn so_is_every_day(day in 0..2_932_896i64) {
            let micros = day * 86_400_000_000;
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(rfc3339(micros), time.to_rfc3339_opts(SecondsFormat::Secs, true));
        }
    }

    #[test]
    fn fractions_are_written_only_where_there_are_some() {
        assert_eq!(rfc3339(1_226_262_930_000_000), "2008-11-09T20:35:30Z");
        assert_eq!(rfc3339(1_226_262_930_250_000), "2008-11-09T20:35:30.250Z");
        assert_eq!(compact(1_226_262_930_250_000), "20081109T203530.250Z");
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00Z");
        assert_eq!((rfc3339(0), rfc3339(LAST)), ("1970-01-01T00:00:00Z".into(), "9999-12-31T23:59:59.999999Z".into()));
        assert_eq!(rfc3339(LAST + 1), "+10000-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(i64::MAX), "9223372036854775807 us");
    }
}
