//! What one request publishes, and what became of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::spool::handed::{Fate, Handover};

/// What is published of one request: messages with their keys, in one buffer.
#[derive(Debug, Default)]
pub struct Messages {
    pub(super) buffer: Vec<u8>,
    /// Whether it goes to hits.dead, and where key and value end in the buffer.
    pub(super) entries: Vec<(bool, usize, usize)>,
}

impl Messages {
    /// Whether it goes to hits.dead, key and value of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (bool, &[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|(_, _, end)| *end));
        let parts = |(start, (dead, key_end, end)): (usize, &(bool, usize, usize))| {
            (*dead, &self.buffer[start..*key_end], &self.buffer[*key_end..*end])
        };
        starts.zip(&self.entries).map(parts)
    }
}

/// The hits of one request on their way.
#[derive(Debug)]
pub struct Batch {
    open: AtomicUsize,
    failed: AtomicBool,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

impl Batch {
    pub(super) fn of(messages: usize) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, acknowledged) = oneshot::channel();
        let batch =
            Self { open: AtomicUsize::new(messages), failed: AtomicBool::new(false), done: Mutex::new(Some(done)) };
        (Arc::new(batch), acknowledged)
    }

    pub(super) fn succeeded(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    pub(super) fn is_stored(&self) -> bool {
        self.fate() == Fate::Stored
    }

    /// One message less is open; wakes the request at the last one.
    pub(super) fn settle(&self, succeeded: bool) {
        if !succeeded {
            self.failed.store(true, Ordering::Release);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // The request may have gone away.
            let _ = done.send(());
        }
    }
}

impl Handover for Batch {
    /// Open until all of it is settled, also where some has failed: of the rest there would else be two copies on their way.
    fn fate(&self) -> Fate {
        match self.open.load(Ordering::Acquire) {
            0 if self.succeeded() => Fate::Stored,
            0 => Fate::Failed,
            _ => Fate::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_wakes_its_request_once_when_all_is_settled() {
        let (batch, mut acknowledged) = Batch::of(2);
        batch.settle(false);
        assert!(acknowledged.try_recv().is_err());
        assert_eq!(batch.fate(), Fate::Open, "the other one is on its way");
        batch.settle(true);
        assert!(acknowledged.try_recv().is_ok());
        assert_eq!((batch.succeeded(), batch.fate()), (false, Fate::Failed));
        let (batch, _) = Batch::of(1);
        batch.settle(true);
        assert_eq!(batch.fate(), Fate::Stored);
    }
}
