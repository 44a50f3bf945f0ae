//! Things that are worth keeping between uses: contexts of a compressor, buffers.

use std::sync::{Mutex, PoisonError};

/// The most idle ones that are kept: there are seldom more threads that pack at one moment.
const MAX_IDLE: usize = 16;
/// The longest buffer that is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// The buffers of all packings.
static BUFFERS: Pool<Vec<u8>> = Pool::new();

/// A bounded stock of idle `T`.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    idle: Mutex<Vec<T>>,
}

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self { idle: Mutex::new(Vec::new()) }
    }

    /// One that is idle. Whoever panics with it, or does not [put](Self::put) it back, ends it.
    pub(crate) fn take(&self) -> Option<T> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps one for the next.
    pub(crate) fn put(&self, item: T) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(item);
        }
    }
}

/// Lends an empty buffer.
pub(crate) fn with_buffer<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFERS.take().unwrap_or_default();
    buffer.clear();
    let result = run(&mut buffer);
    if buffer.capacity() <= LONGEST {
        BUFFERS.put(buffer);
    }
    result
}
