//! Passwords in texts that others read: found, refused, and masked where the text is shown.

use std::ops::Range;

/// Returns the first password in a text: the one of `scheme://user:password@host` or of `password=...`.
///
/// A `${...}` or `$VARIABLE` in its place is no password but where one comes from.
pub(super) fn password_in(text: &str) -> Option<Range<usize>> {
    in_url(text).or_else(|| in_query(text))
}

/// Returns the password of the first URL that has one.
fn in_url(text: &str) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let start = from + at + 3;
        from = start;
        if !text[..start - 3].ends_with(|c: char| c.is_ascii_alphanumeric()) {
            continue;
        }
        let end = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | ',');
        let authority = &text[start..start + text[start..].find(end).unwrap_or(text.len() - start)];
        let Some((user, _host)) = authority.rsplit_once('@') else { continue };
        if let Some((name, password)) = user.split_once(':')
            && !password.is_empty()
            && !password.starts_with('$')
        {
            let begin = start + name.len() + 1;
            return Some(begin..begin + password.len());
        }
    }
    None
}

fn in_query(text: &str) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(at) = text[from..].find("password=") {
        let start = from + at + "password=".len();
        let before = text[..from + at].chars().next_back();
        from = start;
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-') {
            continue;
        }
        let end = |c: char| c.is_whitespace() || matches!(c, '&' | '"' | ',' | ';');
        let length = text[start..].find(end).unwrap_or(text.len() - start);
        if length > 0 && !text[start..].starts_with('$') {
            return Some(start..start + length);
        }
    }
    None
}

/// Returns the text with every password replaced by as many `*` as it has bytes, so that places stay the same.
pub(super) fn masked(text: &str) -> String {
    let mut out = text.to_owned();
    for find in [in_url, in_query] {
        let mut from = 0;
        while let Some(found) = find(&out[from..]) {
            let range = from + found.start..from + found.end;
            out.replace_range(range.clone(), &"*".repeat(range.len()));
            from = range.end;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        password_in(text).map(|range| &text[range])
    }

    #[test]
    fn passwords_of_urls_and_connection_strings_are_found() {
        assert_eq!(found("postgres://me:secret@db:5432/x"), Some("secret"));
        assert_eq!(found("load https://a/b then postgres://me:p:w@db"), Some("p:w"));
        assert_eq!(found("host=db password=secret user=me"), Some("secret"));
        assert_eq!(found("postgres://db/x?user=me&password=secret&x=1"), Some("secret"));
    }

    #[test]
    fn what_only_names_a_source_of_one_is_not() {
        for text in [
            "postgres://me@db/x",
            "postgres://me:$PW@db",
            "postgres://me:${env.PW}@db",
            "a://b:c",
            "password=$PW",
            "no_password=1",
            "x:y@z",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn masking_keeps_every_offset() {
        assert_eq!(
            masked("u: postgres://me:secret@db, v: mysql://a:b@c"),
            "u: postgres://me:******@db, v: mysql://a:*@c"
        );
    }
}
