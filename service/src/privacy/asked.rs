//! What people asked of us, as the threads of a stage share it.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::directives::Directives;

/// The directives, and whether these are all of them: not before the topic was read to its end, nor while it has one that
/// can't be carried out.
#[derive(Debug, Default)]
pub struct Asked {
    directives: RwLock<Directives>,
    is_all_known: watch::Sender<bool>,
}

impl Asked {
    /// Nothing is known yet. The directives tell by which keys people will be.
    #[must_use]
    pub fn new(directives: Directives) -> Self {
        Self { directives: RwLock::new(directives), is_all_known: watch::Sender::default() }
    }

    /// What is known.
    pub fn directives(&self) -> RwLockReadGuard<'_, Directives> {
        self.directives.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directives_mut(&self) -> RwLockWriteGuard<'_, Directives> {
        self.directives.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all directives are known. While they are not, a hit that passes can't be called back.
    #[must_use]
    pub fn is_all_known(&self) -> bool {
        *self.is_all_known.borrow()
    }

    /// Waits until all directives are known.
    pub async fn until_all_is_known(&self) {
        // The sender lives as long as this does.
        drop(self.is_all_known.subscribe().wait_for(|is_known| *is_known).await);
    }

    pub(super) fn tell(&self, is_all_known: bool) {
        self.is_all_known.send_if_modified(|known| std::mem::replace(known, is_all_known) != is_all_known);
    }
}
