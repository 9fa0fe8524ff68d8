//! The disk queues of the Go nsqd: the files of its topics and channels, read and written.
//!
//! A queue is a list of data files `<queue>.diskqueue.<number>.dat` and a text file `<queue>.diskqueue.meta.dat` with its
//! depth and the positions of reader and writer. The queue of a topic has the topic's name; that of a channel is
//! called `<topic>:<channel>`. A record is
//!
//! ```text
//! 0 length of what follows  4 timestamp  12 attempts  14 id (16 hexadecimal digits)  30 body
//! ```

mod files;
mod meta;
mod queue;
mod records;
mod writer;

pub(crate) use self::{
    files::{find_queues, is_queue_file},
    queue::{Found, Queue},
};
pub use self::{
    queue::Finding,
    writer::{QueueWriter, WrittenQueue},
};

/// Bytes of a record before the part that its length counts.
const LENGTH_BYTES: usize = 4;
/// Bytes of a record before its body, its length included.
const RECORD_HEAD_BYTES: usize = 30;
/// The offset of the id in a record.
const ID_AT: usize = 14;
