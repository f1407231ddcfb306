//! Whether a service is ready, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The conditions under which a service is ready: each is met, or not for a reason. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

impl Health {
    /// A service that is ready once all of `conditions` are met; none is yet.
    #[must_use]
    pub fn waiting_for(conditions: &[&'static str]) -> Self {
        let starting = conditions.iter().map(|name| (*name, Err("starting".to_owned()))).collect();
        Self(Arc::new(Mutex::new(starting)))
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a condition is met.
    pub fn met(&self, condition: &'static str) {
        self.conditions().insert(condition, Ok(()));
    }

    /// Says that a condition is not met, and why.
    pub fn unmet(&self, condition: &'static str, reason: impl Into<String>) {
        self.conditions().insert(condition, Err(reason.into()));
    }

    /// Nothing when ready; else what is not met, a `condition: reason` each.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let named = |(name, state): (&&str, &Result<(), String>)| {
            state.as_ref().err().map(|reason| format!("{name}: {reason}"))
        };
        self.conditions().iter().filter_map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_condition_is_met() {
        let health = Health::waiting_for(&["broker", "sites"]);
        assert_eq!(health.obstacles(), ["broker: starting", "sites: starting"]);
        health.met("broker");
        health.met("sites");
        assert!(health.obstacles().is_empty());
        health.clone().unmet("broker", "no answer");
        assert_eq!(health.obstacles(), ["broker: no answer"]);
    }
}
