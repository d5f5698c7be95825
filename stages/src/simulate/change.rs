//! What changes while the log goes on, so that what was learnt on its beginning no longer fits its end: anomalies of
//! types not seen before, other habits, other words. Moments are shares of the log's length, 0 to 1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::wording::Message;

/// What changes while the log goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// When each type of anomaly begins to happen: a type with 0.7 is unseen in the first 70 % of the log.
    pub since: Since,
    /// Slow drift, 0 to 10: by the log's end writing takes 1 + `drift` times as long, and replicas are verified that
    /// much more often.
    pub drift: f64,
    /// A new release of the software says some things in other words.
    pub reword: Reword,
}

/// When each type of anomaly begins to happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Since {
    /// As in `mix`.
    pub failed_at_the_beginning: f64,
    /// As in `mix`.
    pub write_exception: f64,
    /// As in `mix`.
    pub empty_packet: f64,
    /// As in `mix`.
    pub receive_exception: f64,
    /// As in `mix`.
    pub replication_timed_out: f64,
    /// As in `mix`.
    pub belongs_to_no_file: f64,
    /// As in `mix`.
    pub redundant_report: f64,
    /// As in `mix`; also the copies that count as normal.
    pub replication: f64,
    /// As in `mix`.
    pub delete_of_a_missing_block: f64,
}

/// Messages in other words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reword {
    /// When the new release is installed.
    pub since: f64,
    /// How many of the messages of healthy sessions it words anew, 0 to 6: served, verified, received, terminating,
    /// stored, deleting, in this order.
    pub messages: u8,
}

impl Default for Reword {
    fn default() -> Self {
        Self { since: 0.7, messages: 0 }
    }
}

impl Reword {
    /// What can be worded anew, in order.
    pub(super) const MESSAGES: [Message; 6] = [
        Message::Served,
        Message::Verified,
        Message::Received,
        Message::Terminating,
        Message::Stored,
        Message::Deleting,
    ];
}

impl Since {
    /// Returns every moment with the name of its type.
    pub(super) fn moments(&self) -> [(&'static str, f64); 9] {
        [
            ("failed_at_the_beginning", self.failed_at_the_beginning),
            ("write_exception", self.write_exception),
            ("empty_packet", self.empty_packet),
            ("receive_exception", self.receive_exception),
            ("replication_timed_out", self.replication_timed_out),
            ("belongs_to_no_file", self.belongs_to_no_file),
            ("redundant_report", self.redundant_report),
            ("replication", self.replication),
            ("delete_of_a_missing_block", self.delete_of_a_missing_block),
        ]
    }

    /// Returns when a fault begins to happen.
    pub(super) fn of(&self, fault: Fault) -> f64 {
        match fault {
            Fault::None => 0.0,
            Fault::Begin => self.failed_at_the_beginning,
            Fault::Write => self.write_exception,
            Fault::Empty => self.empty_packet,
            Fault::Receive => self.receive_exception,
            Fault::NoFile => self.belongs_to_no_file,
            Fault::Redundant => self.redundant_report,
            Fault::Redelete => self.delete_of_a_missing_block,
            Fault::AtOnce | Fault::Slow | Fault::OutageA | Fault::OutageB | Fault::OutageC => self.replication,
        }
    }
}

impl Change {
    /// Returns how many times as long writing takes at a moment.
    pub(super) fn slower(&self, moment: f64) -> f64 {
        1.0 + self.drift * moment.clamp(0.0, 1.0)
    }

    /// Returns whether a message has other words at a moment.
    pub(super) fn rewords(&self, message: Message, moment: f64) -> bool {
        let Reword { since, messages } = self.reword;
        messages > 0 && moment >= since && Reword::MESSAGES[..usize::from(messages)].contains(&message)
    }
}
