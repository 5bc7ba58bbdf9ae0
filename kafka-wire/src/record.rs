//! Record batches of message format v2 (KIP-98): written at append, read in place. Layer 3. Older formats are
//! read, too (`legacy`).
//!
//! ```text
//! write: BatchBuilder --append…--> wire form --seal--> SealedBatch --write(producer, sequence)--> frame
//! read:  record set --batches--> RawBatch --(verify_crc)--> open --> Records --iter--> RecordRef
//! ```
//!
//! Both ways nothing is allocated per record: `append` encodes into the batch's one buffer, and a
//! `RecordRef` borrows from the bytes that the broker sent (or from what they decompressed to).
//! Everything a peer can send ends in an error, never in a panic or in memory that its lengths ask for.

mod builder;
mod compression;
mod header;
mod legacy;
mod reader;
mod split;
mod varint;
mod view;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, SealedBatch, end_transaction_marker};
pub use compression::Compression;
#[cfg(test)]
pub(crate) use compression::panic_next;
pub use header::{BATCH_HEADER_BYTES, BatchHeader};
pub use reader::{Batches, ControlMarker, RawBatch, batches};
pub use view::{Header, Headers, RecordIter, RecordRef, Records};
