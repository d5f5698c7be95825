//! What a session counts as: normal or anomalous, and of which type.

use super::Block;
use crate::simulate::faults::Fault;
use crate::simulate::wording::Message;

impl Block {
    fn logged(&self, message: Message) -> bool {
        self.seen & (1 << message as u32) != 0
    }

    /// Returns whether the block's session counts as anomalous: decided by what was logged of it before the log ended.
    pub(in crate::simulate) fn is_anomaly(&self) -> bool {
        use Message as M;
        let broken = [M::EmptyPacket, M::ReceiveFailed, M::ResponderFailed, M::ResponderInterrupted, M::TimedOut];
        if self.fault == Fault::Begin || broken.iter().any(|&m| self.logged(m)) {
            return true;
        }
        if [M::WriteFailed, M::NoFile, M::Redundant].iter().any(|&m| self.logged(m)) {
            return true;
        }
        // Copies are a fault only in hindsight: of data sets that live on they count as normal operation.
        let copied = self.logged(M::AskReplicate) || self.logged(M::StartingTransfer);
        (copied && self.logged(M::Invalidate)) || (self.logged(M::DeleteFailed) && !self.excused)
    }

    /// Returns the type of an anomalous session, by what was logged; first match wins.
    pub(in crate::simulate) fn kind(&self) -> &'static str {
        use Message as M;
        let any = |messages: &[M]| messages.iter().any(|&m| self.logged(m));
        if self.seen & !(1 << M::Receiving as u32 | 1 << M::Allocate as u32) == 0 {
            "failed_at_the_beginning"
        } else if any(&[M::WriteFailed]) && !any(&[M::Stored]) {
            "write_exception"
        } else if any(&[M::EmptyPacket]) {
            "empty_packet"
        } else if any(&[M::ReceiveFailed, M::ResponderFailed, M::ResponderInterrupted]) {
            "receive_exception"
        } else if any(&[M::TimedOut]) {
            "replication_timed_out"
        } else if any(&[M::NoFile]) {
            "belongs_to_no_file"
        } else if any(&[M::Redundant]) {
            "redundant_report"
        } else if any(&[M::StartingTransfer, M::AskReplicate]) {
            "replication"
        } else if any(&[M::DeleteFailed]) {
            "delete_of_a_missing_block"
        } else {
            "other"
        }
    }

    /// Returns whether the session was still open when the log ended: written or being written, and not deleted.
    pub(in crate::simulate) fn is_open(&self) -> bool {
        !self.logged(Message::Invalidate) && !matches!(self.fault, Fault::Begin | Fault::Write)
    }
}
