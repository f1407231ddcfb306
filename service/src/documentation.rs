//! Holds a README against the code, in tests: what it lists exists, and what exists is listed.
//!
//! A README lists options as `` `--option` `` and metrics as `` `service_metric_name` `` in the first cell of a table
//! row.

use std::collections::BTreeSet;

/// Names in back quotes at the start of a table row that begin with `start`.
fn listed(readme: &str, start: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let rest = line.trim_start().strip_prefix("| `")?;
        let name = rest.split(['`', ' ', '=']).next()?;
        name.starts_with(start).then(|| name.to_owned())
    };
    readme.lines().filter_map(name).collect()
}

fn compare(what: &str, listed: &BTreeSet<String>, existing: &BTreeSet<String>) -> Result<(), String> {
    let missing: Vec<_> = existing.difference(listed).collect();
    let invented: Vec<_> = listed.difference(existing).collect();
    if missing.is_empty() && invented.is_empty() && !existing.is_empty() {
        return Ok(());
    }
    Err(format!("{what}: not in the README: {missing:?}; in the README but not in the code: {invented:?}"))
}

fn long_options(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_long());
    let mut names: BTreeSet<String> = own.map(|name| format!("--{name}")).collect();
    names.extend(command.get_subcommands().flat_map(long_options));
    names.remove("--help");
    names.remove("--version");
    names
}

/// Checks that the README lists exactly the options of a command and its subcommands.
///
/// # Errors
/// Names what is missing or invented.
pub fn check_options(readme: &str, command: &clap::Command) -> Result<(), String> {
    compare("options", &listed(readme, "--"), &long_options(command))
}

/// Checks that the README lists exactly the metrics of a registry whose names begin with `start`. A metric with labels
/// shows up in the registry only once it has a value, so the caller gives each one first.
///
/// # Errors
/// Names what is missing or invented.
pub fn check_metrics(readme: &str, registry: &prometheus::Registry, start: &str) -> Result<(), String> {
    let existing = registry.gather().iter().map(|family| family.name().to_owned()).collect();
    compare("metrics", &listed(readme, start), &existing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_invented_is_named() {
        let command =
            clap::Command::new("x").arg(clap::Arg::new("a").long("alpha")).arg(clap::Arg::new("b").long("beta"));
        assert_eq!(check_options("| `--alpha` | a |\n| `--beta NUMBER` | b |", &command), Ok(()));
        let error = check_options("| `--alpha` | a |\n| `--gamma` | c |", &command).unwrap_err();
        assert!(error.contains("not in the README: [\"--beta\"]") && error.contains("[\"--gamma\"]"), "{error}");
    }
}
