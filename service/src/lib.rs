//! What every service shares, so that operators find the same things in the same places.
//!
//! * [`options`]: the command line. Each option is also an environment variable, `SERVICE_OPTION`.
//! * [`logs`]: one line per event worth an operator's time, as text or JSON, never a person's data.
//! * [`health`] and [`endpoint`]: `/health`, `/ready` and `/metrics` on a listener of their own.
//! * [`shutdown`]: one token that SIGTERM and SIGINT cancel, and that every loop watches.
//! * [`kafka`]: client settings, and the topics created or checked against the catalogue.
//! * [`producer`]: producers that tell what became of a message.
//! * [`compacted`]: reading a compacted topic from its beginning.
//! * [`privacy`]: what people asked of us about the data on them, and what that means for a hit.
//! * [`sites`]: the sites that hits may come from, from one file that is read again when it changes.
//! * [`stamp`]: how a change of a file is seen.
//! * [`documentation`]: holds a README's lists of options and metrics against the code, for tests.
//!
//! It never changes a hit.

pub mod compacted;
pub mod documentation;
pub mod endpoint;
pub mod health;
pub mod kafka;
pub mod logs;
pub mod options;
pub mod privacy;
pub mod producer;
pub mod shutdown;
pub mod sites;
pub mod stamp;
