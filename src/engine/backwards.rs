//! Reads the run log backwards, ahead of who asks: a lineage goes back in time, and stages that depend on each other are
//! logged close together.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use crate::fast::FastMap;
use crate::runlog::ActionEntry;

/// How much is read at once; more where a line is longer.
const PIECE: u64 = 128 << 10;
/// So many pieces are kept ready.
const READY: usize = 4;
/// Who skips more of the log than this at once is not following it.
const FAR: u64 = 1 << 20;

/// Actions of one piece of the log, by where they begin.
struct Piece {
    from: u64,
    actions: FastMap<u64, ActionEntry>,
}

/// The actions before a place, piece by piece, parsed on a thread of its own, which ends when this is dropped. Their
/// reasons are left out: no lineage tells them.
pub(crate) struct Backwards {
    pieces: Receiver<Piece>,
    /// The piece that was reached last.
    now: Piece,
}

impl Backwards {
    /// Starts before `end`, which is where a line begins.
    pub(crate) fn start(file: File, mut end: u64) -> Self {
        let (sender, pieces) = sync_channel(READY);
        let from = end;
        thread::spawn(move || {
            while let Some(piece) = piece(&file, end) {
                end = piece.from;
                if sender.send(piece).is_err() {
                    return;
                }
            }
        });
        Self { pieces, now: Piece { from, actions: FastMap::default() } }
    }

    /// Takes the action at a place; `None` where it is not ahead, or was taken.
    pub(crate) fn take(&mut self, at: u64) -> Option<ActionEntry> {
        while at < self.now.from {
            self.now = self.pieces.recv().ok()?;
        }
        self.now.actions.remove(&at)
    }

    /// Returns whether a place is so far back that what lies between is not worth reading.
    pub(crate) fn is_far(&self, at: u64) -> bool {
        at + FAR < self.now.from
    }
}

/// Reads the last piece before `end`; `None` at the start of the log, and where it cannot be read.
fn piece(file: &File, end: u64) -> Option<Piece> {
    let mut len = PIECE;
    let (from, bytes) = loop {
        let start = end.saturating_sub(len);
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        file.read_exact_at(&mut bytes, start).ok()?;
        // From where a line begins; that in which the piece starts belongs to the next one.
        let skipped = if start == 0 { Some(0) } else { memchr::memchr(b'\n', &bytes).map(|at| at + 1) };
        match skipped {
            Some(skipped) if skipped < bytes.len() => break (start + skipped as u64, bytes.split_off(skipped)),
            _ if start == 0 => return None,
            _ => len *= 2,
        }
    };
    let mut actions = FastMap::default();
    let mut begin = 0;
    for line_end in memchr::memchr_iter(b'\n', &bytes) {
        // A run is no action.
        if let Ok(action) = serde_json::from_slice::<ActionEntry>(&bytes[begin..line_end]) {
            actions.insert(from + begin as u64, ActionEntry { reasons: Vec::new(), ..action });
        }
        begin = line_end + 1;
    }
    Some(Piece { from, actions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::tests::action;
    use crate::runlog::{self, Entry, Writer};

    #[test]
    fn every_action_before_a_place_is_met_backwards_also_where_lines_are_longer_than_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = Writer::open(dir.path(), runlog::genesis(), 0).unwrap();
        let mut entries: Vec<_> = (0..1000).map(|n| action(&format!("s{n}"), n)).collect();
        entries[500].warnings = vec!["w".repeat(3 * PIECE as usize)];
        let places: Vec<u64> =
            entries.iter().map(|entry| writer.append(&Entry::Action(Box::new(entry.clone()))).unwrap()).collect();
        let open = || File::open(runlog::path_in(dir.path())).unwrap();
        let mut backwards = Backwards::start(open(), places[900]);
        for (at, entry) in places.iter().zip(&entries).take(900).rev().step_by(3) {
            let entry = ActionEntry { reasons: Vec::new(), ..entry.clone() };
            assert_eq!(backwards.take(*at), Some(entry));
        }
        assert_eq!(backwards.take(places[899]), None, "it was taken");
        assert_eq!(backwards.take(places[950]), None, "it is not before");
        assert!(Backwards::start(open(), u64::MAX).take(0).is_none(), "no such place");
        assert!(Backwards::start(open(), 2 * FAR).is_far(7));
    }
}
