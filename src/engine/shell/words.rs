//! Commands that need no shell: one program with plain words. Bash would do nothing but start the program in its own
//! place, so it is started directly; everything else is left to bash.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Builtins and reserved words of bash (`compgen -bk`) that could be the first word of a command made of plain words.
const OF_BASH: &[&str] = &[
    ".",
    ":",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "false",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
];

/// Variables that bash itself takes note of or sets: with one of them declared, bash is wanted.
const READ_BY_BASH: &[&str] = &[
    "CDPATH",
    "CHILD_MAX",
    "COLUMNS",
    "COMP_WORDBREAKS",
    "DIRSTACK",
    "ENV",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "EXECIGNORE",
    "FUNCNAME",
    "FUNCNEST",
    "GLOBIGNORE",
    "GROUPS",
    "HISTCMD",
    "HOME",
    "HOSTNAME",
    "HOSTTYPE",
    "IFS",
    "LANG",
    "LINENO",
    "LINES",
    "MACHTYPE",
    "OLDPWD",
    "OPTARG",
    "OPTERR",
    "OPTIND",
    "OSTYPE",
    "PATH",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "PPID",
    "PS4",
    "PWD",
    "RANDOM",
    "SECONDS",
    "SHELL",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "TMPDIR",
    "TZ",
    "UID",
    "_",
];

/// Returns the words of a command that bash would take as they are, without expanding or redirecting anything.
pub(super) fn plain(command: &str) -> Option<Vec<String>> {
    let command = command.trim_matches([' ', '\t', '\n']);
    let first = command.split([' ', '\t']).next()?;
    let name = |c: char| c.is_ascii_alphanumeric() || "_-./+".contains(c);
    if first.is_empty() || !first.chars().all(name) || OF_BASH.contains(&first) {
        return None;
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '\\' if rest.as_str().starts_with('\'') => {
                rest.next();
                word.get_or_insert_default().push('\'');
            }
            c if c.is_ascii_alphanumeric() || "_-./:=+,@%^".contains(c) => word.get_or_insert_default().push(c),
            _ => return None,
        }
    }
    words.extend(word);
    Some(words)
}

/// Returns whether bash would hand these variables on untouched and do nothing else because of them.
pub(super) fn harmless(env: &BTreeMap<String, String>) -> bool {
    env.keys().all(|name| {
        let identifier =
            name.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()));
        let bash = name.starts_with("BASH") || name.starts_with("LC_") || READ_BY_BASH.contains(&name.as_str());
        identifier && !name.is_empty() && !bash
    })
}

/// Finds a program as bash does; `None` also where only bash can tell (a relative folder on the PATH).
pub(super) fn found(name: &str, path: &str, root: &Path) -> Option<PathBuf> {
    let runs = |file: &Path| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return runs(&root.join(name)).then(|| PathBuf::from(name));
    }
    for folder in path.split(':') {
        if !folder.starts_with('/') {
            return None;
        }
        let file = Path::new(folder).join(name);
        if runs(&file) {
            return Some(file);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_program_with_plain_words_is_plain() {
        let words = |command| plain(command).map(|words| words.join("|"));
        assert_eq!(words("cp a/b.txt out/c\n").as_deref(), Some("cp|a/b.txt|out/c"));
        assert_eq!(words(r"cp 'a b' 'it'\''s' --x=1,2 ''").as_deref(), Some("cp|a b|it's|--x=1,2|"));
        for command in [
            "",
            "cd x",
            "true",
            "A=1 cp a b",
            "cp a b; rm c",
            "cp a b\nrm c",
            "cp *.txt b",
            "cp a > b",
            "cp ~ b",
            "cp $A b",
            "cp 'a b",
            "! cp a b",
            "cp a b &",
            "cp a b # c",
            "cp {a,b} c",
            "\"cp\" a b",
            "cp a\\ b c",
            "'cp' a b",
            "cp ü b",
            "%1",
            "time cp a b",
            "cp a `b`",
            "cp [a] b",
            "(cp a b)",
        ] {
            assert_eq!(words(command), None, "{command}");
        }
    }

    #[test]
    fn a_variable_that_bash_reads_asks_for_bash() {
        let env = |name: &str| BTreeMap::from([(name.to_owned(), "x".to_owned())]);
        assert!(harmless(&env("FLAG")) && harmless(&env("A1")));
        for name in ["BASH_ENV", "LC_ALL", "IFS", "1A", "a-b", "BASH_FUNC_f%%", "SHLVL", ""] {
            assert!(!harmless(&env(name)), "{name}");
        }
    }
}
