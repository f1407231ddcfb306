//! How long everything takes, and what is tried.

use crate::requests::Times;
use crate::{Command, Options};

/// Starting and stopping of servers, reading and writing of topics, waiting for what is on its way: of the time that a
/// load lasts, about so much comes on top.
const AROUND: f64 = 1.4;

/// How long everything takes, and what is tried.
#[derive(Debug)]
pub struct Plan {
    pub collector: Vec<String>,
    pub times: Times,
    /// Hits that wait for enricher and sink.
    pub hits: usize,
    pub rounds: usize,
    /// Where the search begins, hits a second, and how long each of its steps takes, seconds.
    pub first_rate: f64,
    pub step: u64,
    /// How long the stages' latency is measured, seconds.
    pub paced: u64,
    /// Partner records that the enricher holds when its memory is measured.
    pub partners: usize,
    pub quick: bool,
}

impl Plan {
    pub fn new(options: &Options) -> Self {
        let usual = Self::usual(options);
        Self { hits: options.hits.unwrap_or(usual.hits), ..usual }
    }

    fn usual(Options { quick, collector_option, .. }: &Options) -> Self {
        let (collector, quick) = (collector_option.clone(), *quick);
        if quick {
            let times = Times { rounds: 1, round: 1, step: 1 };
            let (hits, rounds, first_rate, step, paced, partners) = (5_000, 1, 1_000.0, 4, 2, 5_000);
            return Self { collector, times, hits, rounds, first_rate, step, paced, partners, quick };
        }
        let times = Times { rounds: 5, round: 6, step: 4 };
        let (hits, rounds, first_rate, step, paced, partners) = (400_000, 3, 6_000.0, 15, 15, 1_000_000);
        Self { collector, times, hits, rounds, first_rate, step, paced, partners, quick }
    }

    pub fn collector_options(&self) -> Vec<&str> {
        self.collector.iter().map(String::as_str).collect()
    }

    /// What will be done, and about how long it takes.
    pub fn told(&self, command: &Command) -> String {
        let parts = self.parts(command);
        let mut text = String::from("What is measured, and for how long, about:\n");
        for (name, seconds) in &parts {
            text += &format!("  {:>5.1} min  {name}\n", seconds / 60.0);
        }
        let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        text + &format!("  {:>5.1} min  all of it\n", all / 60.0)
    }

    /// Seconds of each part.
    fn parts(&self, command: &Command) -> Vec<(&'static str, f64)> {
        let Times { rounds, round, step } = self.times;
        let requests = rounds as u64 * 2 * (round + 2) + 16 * (step + 2) + 60;
        let stages = self.rounds as f64 * self.hits as f64 * (2.0 * 3.0 + 3.0) * 1e-5 + self.paced as f64 * 2.0 + 60.0;
        let search = 8.0 * (self.step as f64 + 6.0);
        let path = |seconds: u64, is_given: bool| if is_given { seconds as f64 } else { search + seconds as f64 * 1.5 };
        let requests = ("requests: nginx, collector, batches, many connections", requests as f64);
        let stages = ("stages: enricher, sink, floors, latency, partner records", stages * AROUND);
        let profile = ("profiles", 90.0);
        let whole = |seconds, is_given| ("the whole path", path(seconds, is_given) * AROUND);
        match command {
            Command::Requests => vec![requests],
            Command::Stages => vec![requests, stages],
            Command::Path(options) => vec![whole(options.seconds, options.rate.is_some())],
            Command::Profile => vec![profile],
            Command::All(all) => vec![requests, stages, whole(all.path.seconds, all.path.rate.is_some()), profile],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn of_half_an_hour_eleven_minutes_are_left_for_building_and_for_behaviour() {
        let options = Options::parse_from(["bench", "all"]);
        let seconds: f64 = Plan::new(&options).parts(&options.command).iter().map(|(_, seconds)| seconds).sum();
        assert!(seconds < 19.0 * 60.0, "{seconds}");
    }
}
