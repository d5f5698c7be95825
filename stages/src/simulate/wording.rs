//! The lines themselves: HDFS's own messages (Hadoop, Apache-2.0), one variant for each of its 29 templates and the
//! request to delete a batch of blocks, the only message that names several.

use std::io::Write as _;

/// A message of HDFS. The comments give its number among the 29 templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Message {
    /// A request to delete a batch of blocks; not among the 29 templates.
    AskDelete = 0,
    AlreadyExists = 1,
    Verified,
    Served,
    ServeFailed,
    Receiving,
    ReceivedTransfer,
    WriteFailed,
    ResponderInterrupted,
    Received,
    ResponderFailed,
    Terminating,
    MirrorFailed,
    EmptyPacket,
    ReceiveFailed,
    ChangingOffset,
    Transmitted,
    TransferFailed,
    StartingTransfer,
    Reopen,
    DeleteFailed,
    Deleting,
    Allocate,
    Invalidate,
    NotNeeded,
    AskReplicate,
    Stored,
    Redundant,
    NoFile,
    TimedOut,
}

/// Everything a line may mention besides its time.
pub(super) struct Words<'a> {
    pub(super) thread: u32,
    pub(super) block: i64,
    pub(super) size: u32,
    /// Address of the node that speaks or is spoken of.
    pub(super) node: &'a str,
    /// Address of the other node.
    pub(super) other: &'a str,
    /// A port, responder number, directory number or offset, as the message has it.
    pub(super) number: u32,
    /// Path of the file; only for allocations.
    pub(super) path: &'a str,
    /// Blocks of a batch; only for requests to delete.
    pub(super) batch: &'a [i64],
}

/// What the reader of a broken connection reports.
const BROKEN: [&str; 4] = [
    "java.io.IOException: Connection reset by peer",
    "java.io.EOFException",
    "java.net.SocketTimeoutException: 60000 millis timeout while waiting for channel to be ready for read",
    "java.io.IOException: Broken pipe",
];

impl Message {
    /// Appends thread, level, component and message to a line that holds the time already; no line end.
    /// `reworded`: as a later release of the software says it.
    pub(super) fn write(self, line: &mut Vec<u8>, words: &Words<'_>, reworded: bool) {
        let Words { thread, block, size, node, other, number, path, batch } = *words;
        let broken = BROKEN[number as usize % BROKEN.len()];
        macro_rules! say {
            ($head:literal, $($text:tt)+) => {{
                write!(line, concat!("{} ", $head, ": "), thread).expect("memory takes all");
                write!(line, $($text)+).expect("memory takes all");
            }};
        }
        match self {
            Self::AskDelete => {
                say!("INFO dfs.FSNamesystem", "BLOCK* ask {node}:50010 to delete ");
                for id in batch {
                    write!(line, " blk_{id}").expect("memory takes all");
                }
            }
            Self::Verified if reworded => {
                say!("INFO dfs.DataBlockScanner", "Verified blk_{block} in {} ms", 5 + size % 90);
            }
            Self::Served if reworded => {
                say!("INFO dfs.DataNode$DataXceiver", "Sent block blk_{block} from {node}:50010 to client /{other}");
            }
            Self::Received if reworded => say!(
                "INFO dfs.DataNode$PacketResponder",
                "Block blk_{block} received: {size} bytes from /{node}, checksum ok"
            ),
            Self::Terminating if reworded => {
                say!("INFO dfs.DataNode$PacketResponder", "PacketResponder {number} done with blk_{block}");
            }
            Self::Stored if reworded => say!(
                "INFO dfs.FSNamesystem",
                "BLOCK* NameSystem.addStoredBlock: replica of blk_{block} reported by {node}:50010, {size} bytes"
            ),
            Self::Deleting if reworded => {
                say!("INFO dfs.FSDataset", "Removed replica of blk_{block} from volume {number}");
            }
            Self::AlreadyExists => say!("WARN dfs.DataBlockScanner", "Adding an already existing block blk_{block}"),
            Self::Verified => say!("INFO dfs.DataBlockScanner", "Verification succeeded for blk_{block}"),
            Self::Served => say!("INFO dfs.DataNode$DataXceiver", "{node}:50010 Served block blk_{block} to /{other}"),
            Self::ServeFailed => say!(
                "WARN dfs.DataNode$DataXceiver",
                "{node}:50010:Got exception while serving blk_{block} to /{other}:"
            ),
            Self::Receiving => say!(
                "INFO dfs.DataNode$DataXceiver",
                "Receiving block blk_{block} src: /{node}:{number} dest: /{node}:50010"
            ),
            Self::ReceivedTransfer => say!(
                "INFO dfs.DataNode$DataXceiver",
                "Received block blk_{block} src: /{node}:{number} dest: /{node}:50010 of size {size}"
            ),
            Self::WriteFailed => say!(
                "INFO dfs.DataNode$DataXceiver",
                "writeBlock blk_{block} received exception java.io.IOException: Could not read from stream"
            ),
            Self::ResponderInterrupted => {
                say!(
                    "INFO dfs.DataNode$PacketResponder",
                    "PacketResponder {number} for block blk_{block} Interrupted."
                );
            }
            Self::Received => {
                say!("INFO dfs.DataNode$PacketResponder", "Received block blk_{block} of size {size} from /{node}");
            }
            Self::ResponderFailed => {
                let responder = number % 3;
                say!("WARN dfs.DataNode$PacketResponder", "PacketResponder blk_{block} {responder} Exception {broken}");
            }
            Self::Terminating => {
                say!("INFO dfs.DataNode$PacketResponder", "PacketResponder {number} for block blk_{block} terminating");
            }
            Self::MirrorFailed => say!(
                "INFO dfs.DataNode$BlockReceiver",
                "{node}:50010:Exception writing block blk_{block} to mirror {other}:50010"
            ),
            Self::EmptyPacket => {
                say!("INFO dfs.DataNode$BlockReceiver", "Receiving empty packet for block blk_{block}");
            }
            Self::ReceiveFailed => {
                say!("INFO dfs.DataNode$BlockReceiver", "Exception in receiveBlock for block blk_{block} {broken}");
            }
            Self::ChangingOffset => {
                // One 4-byte checksum for 512 bytes, after a header of 7.
                let meta = number / 128 + 7;
                say!(
                    "INFO dfs.DataNode$BlockReceiver",
                    "Changing block file offset of block blk_{block} from 0 to {number} meta file offset to {meta}"
                );
            }
            Self::Transmitted => {
                say!("INFO dfs.DataNode$DataTransfer", "{node}:50010:Transmitted block blk_{block} to /{other}:50010");
            }
            Self::TransferFailed => say!(
                "WARN dfs.DataNode$DataTransfer",
                "{node}:50010:Failed to transfer blk_{block} to {other}:50010 got {broken}"
            ),
            Self::StartingTransfer => {
                say!(
                    "INFO dfs.DataNode",
                    "{node}:50010 Starting thread to transfer block blk_{block} to {other}:50010"
                );
            }
            Self::Reopen => say!("INFO dfs.FSDataset", "Reopen Block blk_{block}"),
            Self::DeleteFailed => say!(
                "WARN dfs.FSDataset",
                "Unexpected error trying to delete block blk_{block}. BlockInfo not found in volumeMap."
            ),
            Self::Deleting if number == 64 => {
                say!("INFO dfs.FSDataset", "Deleting block blk_{block} file /mnt/hadoop/dfs/data/current/blk_{block}");
            }
            Self::Deleting => say!(
                "INFO dfs.FSDataset",
                "Deleting block blk_{block} file /mnt/hadoop/dfs/data/current/subdir{number}/blk_{block}"
            ),
            Self::Allocate => {
                say!("INFO dfs.FSNamesystem", "BLOCK* NameSystem.allocateBlock: {path}. blk_{block}");
            }
            Self::Invalidate => say!(
                "INFO dfs.FSNamesystem",
                "BLOCK* NameSystem.delete: blk_{block} is added to invalidSet of {node}:50010"
            ),
            Self::NotNeeded => say!(
                "INFO dfs.FSNamesystem",
                "BLOCK* Removing block blk_{block} from neededReplications as it does not belong to any file."
            ),
            Self::AskReplicate => say!(
                "INFO dfs.FSNamesystem",
                "BLOCK* ask {node}:50010 to replicate blk_{block} to datanode(s) {other}:50010"
            ),
            Self::Stored => say!(
                "INFO dfs.FSNamesystem",
                "BLOCK* NameSystem.addStoredBlock: blockMap updated: {node}:50010 is added to blk_{block} size {size}"
            ),
            Self::Redundant => say!(
                "WARN dfs.FSNamesystem",
                "BLOCK* NameSystem.addStoredBlock: Redundant addStoredBlock request received for blk_{block} on {node}:50010 size {size}"
            ),
            Self::NoFile => say!(
                "INFO dfs.FSNamesystem",
                "BLOCK* NameSystem.addStoredBlock: addStoredBlock request received for blk_{block} on {node}:50010 size {size} But it does not belong to any file."
            ),
            Self::TimedOut => say!(
                "WARN dfs.PendingReplicationBlocks$PendingReplicationMonitor",
                "PendingReplicationMonitor timed out block blk_{block}"
            ),
        }
    }
}
