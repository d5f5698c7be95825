//! What happens to lines between the nodes and the file: some arrive late, some twice.

use std::collections::BTreeMap;
use std::io::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dice::Dice;

/// Lines that arrive late or twice. Labels do not depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Share of lines that are written twice, the copy up to `late_by` seconds later: 0 to 0.5.
    pub duplicates: f64,
    /// Share of lines that arrive late and stand among later ones: 0 to 0.5.
    pub late: f64,
    /// The most seconds a line is late, 1 to 3,600.
    pub late_by: u32,
}

impl Default for Noise {
    fn default() -> Self {
        Self { duplicates: 0.0, late: 0.0, late_by: 30 }
    }
}

/// Writes lines as they arrive.
pub(super) struct Collector<'a, W> {
    out: &'a mut W,
    noise: &'a Noise,
    dice: Dice,
    /// Lines on their way, by the second after which they arrive.
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Lines written.
    pub(super) lines: u64,
    /// Lines written a second time.
    pub(super) duplicates: u64,
    /// Lines written late.
    pub(super) late: u64,
}

impl<'a, W: Write> Collector<'a, W> {
    /// Starts with nothing on its way. Draws from a stream of its own: what happens is the same with and without noise.
    pub(super) fn new(out: &'a mut W, noise: &'a Noise, seed: u64) -> Self {
        let dice = Dice::new(seed ^ 0x6e6f_6973_6520_2121);
        Self { out, noise, dice, waiting: BTreeMap::new(), lines: 0, duplicates: 0, late: 0 }
    }

    /// Takes a line, its end included, of the second `now`.
    pub(super) fn line(&mut self, now: u64, line: &[u8]) -> std::io::Result<()> {
        let Noise { duplicates, late, late_by } = *self.noise;
        if duplicates > 0.0 && self.dice.chance(duplicates) {
            let arrives = now + u64::from(self.dice.below(late_by + 1));
            self.waiting.entry(arrives).or_default().extend_from_slice(line);
            self.duplicates += 1;
            self.lines += 1;
        }
        self.lines += 1;
        if late > 0.0 && self.dice.chance(late) {
            let arrives = now + 1 + u64::from(self.dice.below(late_by));
            self.waiting.entry(arrives).or_default().extend_from_slice(line);
            self.late += 1;
            return Ok(());
        }
        self.out.write_all(line)
    }

    /// Writes what arrives by the end of a second.
    pub(super) fn end_of(&mut self, now: u64) -> std::io::Result<()> {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() <= now) {
            self.out.write_all(&entry.remove())?;
        }
        Ok(())
    }
}
