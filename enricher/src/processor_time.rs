//! What tests hold against a bound where only the work tells a right way from a wrong one.

/// Processor time of this thread so far, hundredths of a second (proc(5), fields 14 and 15).
pub(crate) fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
