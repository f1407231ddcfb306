//! What a program has used so far, as the kernel counts it (proc(5)).

use std::fs;
use std::ops::Sub;

use anyhow::Context;

/// The kernel counts processor time in hundredths of a second on every architecture that this runs on (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of a process group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// In user and system mode together, seconds.
    pub cpu_seconds: f64,
    /// Most memory that was resident at once (VmHWM), bytes.
    pub peak_bytes: u64,
}

impl Sub for Usage {
    type Output = Self;

    /// What was used between two looks; the peak is that of the later one.
    fn sub(self, earlier: Self) -> Self {
        Self { cpu_seconds: self.cpu_seconds - earlier.cpu_seconds, peak_bytes: self.peak_bytes }
    }
}

/// What the processes of a group have used, threads and all.
pub fn of_group(group: u32) -> anyhow::Result<Usage> {
    let mut usage = Usage::default();
    for entry in fs::read_dir("/proc").context("can't read /proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        // A process may end between being listed and being looked at.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        let Some(seconds) = cpu_seconds(&stat, group) else { continue };
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        usage.cpu_seconds += seconds;
        usage.peak_bytes += peak_bytes(&status);
    }
    Ok(usage)
}

/// The processes of a group.
pub fn processes_of_group(group: u32) -> anyhow::Result<Vec<u32>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").context("can't read /proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if cpu_seconds(&stat, group).is_some() {
            processes.push(process);
        }
    }
    Ok(processes)
}

/// Processor time in a line of /proc/PID/stat, if the process is of that group.
fn cpu_seconds(stat: &str, group: u32) -> Option<f64> {
    // The name of the program stands in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // Counted from 1 in proc(5): state is 3, process group 5, user time 14, system time 15.
    if fields.get(2)?.parse::<u32>().ok()? != group {
        return None;
    }
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

fn peak_bytes(status: &str) -> u64 {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Processors of this machine.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "42 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 4 0 100 1000 200";
        assert_eq!(cpu_seconds(stat, 7), Some(1.75));
        assert_eq!(cpu_seconds(stat, 8), None);
        assert_eq!(peak_bytes("VmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), 2 << 20);
    }

    #[test]
    fn this_test_uses_something() {
        let group = rustix::process::getpgrp();
        let usage = of_group(u32::try_from(group.as_raw_pid()).unwrap()).unwrap();
        assert!(usage.peak_bytes > 100_000, "{usage:?}");
    }
}
