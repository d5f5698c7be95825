//! Reading logs: files of any size, plain or compressed, cut into chunks of whole lines that are parsed in parallel.
//!
//! | module | owns |
//! |---|---|
//! | [`read`] | bytes: plain, `.gz` and `.zst` files as chunks of whole lines |
//! | [`mod@format`] | line formats: timestamp, level, component, message |
//! | [`entries`] | what depends on the lines before: the year, entries of several lines |
//! | [`session`] | session keys of a line |
//! | [`mask`] | the form of a message: its text with variables replaced by typed wildcards |
//! | [`shape`] | messages of a known form, recognised without masking |
//! | [`given`] | templates that the user brings |
//! | [`intern`] | numbers for byte strings, in order of first appearance |
//! | [`keys`] | numbers for session keys |
//! | [`lanes`] | bytes looked at side by side |
//! | [`head`] | beginnings of lines, recognised by the lines before |
//! | [`parser`] | lines of a chunk to columns |
//! | [`texts`] | values of wildcards |
//! | [`rows`] | columns of a chunk, of a file |
//! | [`scan`] | a file from bytes to rows, in parallel |
//!
//! Invariant: what comes out does not depend on how many threads worked or where a file was cut. Numbers are given in
//! order of first appearance in the file when chunks are merged; what else depends on the neighbours of a line is settled
//! there too, or chunks are cut so that those are together ([`entries`]).

pub mod entries;
pub mod format;
pub mod given;
pub mod head;
pub mod intern;
pub mod keys;
pub mod lanes;
pub mod mask;
pub mod parser;
pub mod read;
pub mod rows;
pub mod scan;
pub mod session;
pub mod shape;
pub mod texts;

/// Compiles a regular expression that works on bytes: `.` also matches what is no UTF-8. A pattern with classes that need
/// Unicode is compiled so, and then stops at such bytes.
///
/// # Errors
/// The pattern is no regular expression.
pub fn byte_regex(pattern: &str) -> Result<regex::bytes::Regex, String> {
    let bytes = regex::bytes::RegexBuilder::new(pattern).unicode(false).build();
    bytes.or_else(|_| regex::bytes::Regex::new(pattern)).map_err(|e| e.to_string())
}
