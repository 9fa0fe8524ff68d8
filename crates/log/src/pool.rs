//! Recycled buffers, so that steady publishing does not make the kernel clear fresh pages.
//!
//! A batch is encoded into a buffer from the pool, the buffer becomes part of the memory tail without a copy,
//! and returns here when the last reader drops it. Buffers that are not needed for a while are freed.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::lock;

/// Capacity of the smallest class; each class doubles it.
const CLASS_BYTES_MIN: usize = 16 << 10;
/// 16 KiB to 8 MiB.
const CLASS_COUNT: usize = 10;

/// The unused buffers of one size.
#[derive(Debug, Default)]
struct Class {
    /// The last one is used next, so that the first ones may not be needed at all.
    buffers: Vec<Buffer>,
    /// The smallest number of buffers since the last trim: so many were not needed.
    spare: usize,
}

impl Class {
    fn pop(&mut self) -> Option<Buffer> {
        let buffer = self.buffers.pop();
        self.spare = self.spare.min(self.buffers.len());
        buffer
    }

    fn take_spare(&mut self) -> Vec<Buffer> {
        let spare = self.buffers.drain(..self.spare).collect();
        self.spare = self.buffers.len();
        spare
    }
}

/// A pool of byte buffers in classes of doubling size, with a bound on its unused bytes.
pub struct Pool {
    classes: [Mutex<Class>; CLASS_COUNT],
    free_bytes: AtomicUsize,
    free_bytes_max: usize,
}

impl Pool {
    /// A pool that keeps at most `free_bytes_max` bytes for later use.
    pub fn new(free_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            classes: Default::default(),
            free_bytes: AtomicUsize::new(0),
            free_bytes_max,
        })
    }

    /// Unused bytes in the pool.
    pub fn free_bytes(&self) -> usize {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// A buffer with room for about `bytes`. It still holds the bytes of its last use, so that a file can be read into
    /// it without filling it with zeros first.
    pub(crate) fn take(&self, bytes: usize) -> Buffer {
        let wanted = class_that_holds(bytes);
        // The next class up is better than fresh pages, and wastes at most three quarters.
        for class in self.classes.iter().skip(wanted).take(2) {
            if let Some(buffer) = lock(class).pop() {
                self.free_bytes.fetch_sub(buffer.footprint(), Ordering::Relaxed);
                return buffer;
            }
        }
        Buffer { bytes: Vec::with_capacity(CLASS_BYTES_MIN << wanted), ends: Vec::new() }
    }

    /// Takes a buffer back, or frees it if it is of an odd size or the pool is full.
    pub(crate) fn give(&self, mut buffer: Buffer) {
        let footprint = buffer.footprint();
        let Some(class) = class_of(buffer.bytes.capacity()) else { return };
        if self.free_bytes.load(Ordering::Relaxed) + footprint > self.free_bytes_max {
            return;
        }
        buffer.ends.clear();
        self.free_bytes.fetch_add(footprint, Ordering::Relaxed);
        lock(&self.classes[class]).buffers.push(buffer);
    }

    /// Frees the buffers that have not been needed since the last call.
    pub fn trim(&self) {
        for class in &self.classes {
            let spare = lock(class).take_spare();
            let bytes = spare.iter().map(Buffer::footprint).sum();
            self.free_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Default for Pool {
    /// An empty pool that keeps nothing.
    fn default() -> Self {
        Self { classes: Default::default(), free_bytes: AtomicUsize::new(0), free_bytes_max: 0 }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free_bytes", &self.free_bytes()).finish_non_exhaustive()
    }
}

/// The smallest class whose buffers hold `bytes`; the largest one when none does.
fn class_that_holds(bytes: usize) -> usize {
    (0..CLASS_COUNT).find(|class| CLASS_BYTES_MIN << class >= bytes).unwrap_or(CLASS_COUNT - 1)
}

/// The largest class that a buffer of this capacity can serve.
fn class_of(capacity: usize) -> Option<usize> {
    if capacity >= CLASS_BYTES_MIN << CLASS_COUNT {
        return None;
    }
    (0..CLASS_COUNT).rev().find(|class| CLASS_BYTES_MIN << class <= capacity)
}

/// Bytes of a batch and where its messages end; kept together so that both are recycled.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
}

impl Buffer {
    fn footprint(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// A filled buffer that returns to its pool when dropped.
pub(crate) struct Pooled {
    buffer: Buffer,
    pool: Arc<Pool>,
}

impl Pooled {
    pub(crate) fn new(buffer: Buffer, pool: Arc<Pool>) -> Self {
        Self { buffer, pool }
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_used_again() {
        let pool = Pool::new(1 << 20);
        let mut buffer = pool.take(40_000);
        buffer.bytes.push(1);
        let address = buffer.bytes.as_ptr();
        drop(Pooled::new(buffer, Arc::clone(&pool)));
        assert_eq!(pool.free_bytes(), 64 << 10);
        let buffer = pool.take(40_000);
        assert_eq!(buffer.bytes.as_ptr(), address);
        assert_eq!(pool.free_bytes(), 0);
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_bound() {
        let pool = Pool::new(40 << 10);
        let buffers: Vec<_> = (0..4).map(|_| pool.take(1)).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.free_bytes(), 32 << 10);
    }

    #[test]
    fn buffers_that_are_not_needed_are_freed_by_the_second_trim() {
        let pool = Pool::new(usize::MAX);
        let buffers: Vec<_> = (0..4).map(|_| pool.take(1)).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        pool.trim();
        assert_eq!(pool.free_bytes(), 64 << 10, "they were in use a moment ago");
        let buffer = pool.take(1);
        pool.give(buffer);
        pool.trim();
        assert_eq!(pool.free_bytes(), 16 << 10, "one is in use now and then");
        pool.trim();
        assert_eq!(pool.free_bytes(), 0);
    }

    #[test]
    fn buffers_of_odd_sizes_are_freed() {
        let pool = Pool::new(usize::MAX);
        pool.give(Buffer { bytes: Vec::with_capacity(100), ends: Vec::new() });
        pool.give(Buffer { bytes: Vec::with_capacity(32 << 20), ends: Vec::new() });
        assert_eq!(pool.free_bytes(), 0);
    }
}
