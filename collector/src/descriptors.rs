//! How many files and sockets the process may have open: connections are kept from taking all of them, as the spool, whose hour
//! it is when many clients wait, needs some as well.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What the spool, Kafka's client, the metrics' listener, the sites file and the runtime have open at once, and more.
const RESERVED: u64 = 100;

/// How many connections there may be at once, `wanted` at most. The limit of open files is first raised as far as it may be.
#[must_use]
pub fn connections(wanted: usize) -> usize {
    let connections = within(raised(), wanted);
    if connections < wanted {
        tracing::warn!(
            connections,
            wanted,
            "fewer connections than --connections says; raise the limit of open files (ulimit -n, LimitNOFILE)"
        );
    }
    connections
}

/// The limit of open files after it was raised as far as the process may; none where there is none.
fn raised() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused, what was allowed before still is.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

fn within(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let room = limit.saturating_sub(RESERVED).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        for (limit, wanted, expected) in
            [(None, 20_000, 20_000), (Some(1024), 20_000, 924), (Some(1024), 500, 500), (Some(64), 20_000, 1)]
        {
            assert_eq!(within(limit, wanted), expected, "{limit:?}");
        }
    }
}
