//! The key a report carries: in a text chunk of a PNG, in a `meta` tag of an HTML page, in the member `provenance` of a
//! JSON document. It survives a change of the other bytes, so it is a claim, not a proof: who shows it says so.

use crate::digest::Digest;

const NAME: &[u8] = b"logweir-key";

/// Returns the key that the bytes of a report carry.
pub fn key(bytes: &[u8]) -> Option<Digest> {
    png(bytes).or_else(|| json(bytes)).or_else(|| html(bytes))
}

/// Text chunks: `tEXt` (name, zero, text) and uncompressed `iTXt` (name, zero, two flags, two more texts).
fn png(bytes: &[u8]) -> Option<Digest> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (data, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let text = data.strip_prefix(NAME).and_then(|data| data.strip_prefix(b"\0"));
        match (kind, text) {
            (b"tEXt", Some(text)) => return digest(text),
            (b"iTXt", Some([0, _, text @ ..])) => return digest(text.rsplit(|byte| *byte == 0).next()?),
            _ => rest = after.get(4..)?,
        }
    }
}

fn json(bytes: &[u8]) -> Option<Digest> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first != b'{' {
        return None;
    }
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    document.pointer("/provenance/key")?.as_str()?.parse().ok()
}

/// A `meta` tag with that name, its attributes in any order and any quotes.
fn html(bytes: &[u8]) -> Option<Digest> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.match_indices("logweir-key").find_map(|(at, _)| {
        let start = text[..at].rfind('<')?;
        let tag = &text[start..start + text[start..].find('>')?];
        if at >= start + tag.len() || !tag.get(1..5)?.eq_ignore_ascii_case("meta") {
            return None;
        }
        let content = tag.split_once("content=")?.1;
        let content = content.trim_start_matches(['"', '\'']);
        let end = content.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(content.len());
        content[..end].parse().ok()
    })
}

fn digest(text: &[u8]) -> Option<Digest> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        [&u32::try_from(data.len()).unwrap().to_be_bytes()[..], kind, data, &[0; 4]].concat()
    }

    #[test]
    fn keys_are_found_wherever_reports_carry_them() {
        let wanted = Digest::of_bytes(b"key");
        let hex = wanted.to_string();
        let png = |chunks: &[Vec<u8>]| [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat()].concat();
        let text = [b"logweir-key\0", hex.as_bytes()].concat();
        let international = [b"logweir-key\0\0\0en\0\0", hex.as_bytes()].concat();
        let other = chunk(b"tEXt", b"Title\0a plot");
        assert_eq!(key(&png(&[chunk(b"IHDR", &[0; 13]), other.clone(), chunk(b"tEXt", &text)])), Some(wanted));
        assert_eq!(key(&png(&[chunk(b"iTXt", &international)])), Some(wanted));
        assert_eq!(key(&png(&[other, chunk(b"IEND", b"")])), None);
        assert_eq!(key(&png(&[chunk(b"tEXt", &text)])[..40]), None, "cut");
        assert_eq!(key(format!("{{\"a\":1,\"provenance\":{{\"key\":\"{hex}\"}}}}").as_bytes()), Some(wanted));
        let page = |tag: &str| key(format!("<html><head><title>x</title>{tag}</head>").as_bytes());
        assert_eq!(page(&format!("<meta name=\"logweir-key\" content=\"{hex}\">")), Some(wanted));
        assert_eq!(page(&format!("<META content='{hex}' name='logweir-key'/>")), Some(wanted));
        assert_eq!(page(&format!("<meta name=logweir-key content={hex}>")), Some(wanted));
        assert_eq!(page(&format!("<p>logweir-key content={hex}</p>")), None);
        assert_eq!(key(b"logweir-key"), None);
    }
}
