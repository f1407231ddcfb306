//! The run itself: what is due is sent, what comes is read, nothing else.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hdrhistogram::Histogram;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::connection::{Connection, InFlight, Progress};
use super::{HitSet, Load, LoadError, Requests};

/// Between two looks at what is due and what has come. A wake-up for each request and each answer would cost more than
/// the rest of it; so every latency is told too long by half of this on average, and by the 50 us that the kernel takes
/// to wake a thread.
const TICK: Duration = Duration::from_micros(100);
/// Events looked at together.
const EVENTS: usize = 256;
/// Longest answer that is read in one piece, bytes.
const BUFFER: usize = 65_536;
/// Latencies above this are counted as this, microseconds.
const LONGEST: u64 = 60_000_000;

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Requests sent, the warm-up's included.
    pub sent: u64,
    /// Hits in them.
    pub hits: u64,
    /// The hits that were answered 2xx.
    pub acknowledged: HitSet,
    /// Requests answered with another status than 2xx.
    pub refused: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// From the time a request was due to its answer, microseconds; without the warm-up.
    pub latency: Histogram<u64>,
    /// How late requests were sent, microseconds: what of the latency is the load's own, or was spent waiting for a
    /// free connection.
    pub lateness: Histogram<u64>,
    /// From the end of the warm-up to the last answer, seconds.
    pub seconds: f64,
    /// Answers 2xx in that time.
    pub measured: u64,
    /// Processor time of this thread in that time, seconds.
    pub cpu_seconds: f64,
}

impl Measured {
    /// Answers 2xx a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.measured as f64 / self.seconds.max(1e-9)
    }

    /// Processor time of the load itself for one request, microseconds.
    #[must_use]
    pub fn own_microseconds(&self) -> f64 {
        self.cpu_seconds * 1e6 / (self.measured.max(1)) as f64
    }
}

struct Run<'a> {
    load: &'a Load,
    requests: &'a mut Requests,
    hits_of_one: u64,
    begun: Instant,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    random: Rng,
    /// When the next request is due, nanoseconds since the run began.
    due: u64,
    open: usize,
    measured: Measured,
}

/// Puts a load on a server. `at_start` is called once, when the warm-up is over.
///
/// # Errors
/// Where connections can't be opened, or the server does not speak HTTP/1.1.
pub fn run(load: &Load, requests: &mut Requests, at_start: impl FnOnce()) -> Result<Measured, LoadError> {
    let mut run = Run::open(load, requests)?;
    let (warm_up, end) = (nanoseconds(load.warm_up), nanoseconds(load.time));
    run.until(warm_up)?;
    at_start();
    let (started, cpu) = (run.now(), cpu_seconds());
    run.until(end)?;
    run.await_last()?;
    run.measured.cpu_seconds = cpu_seconds() - cpu;
    run.measured.seconds = (run.now() - started) as f64 / 1e9;
    run.measured.unanswered += run.open as u64;
    Ok(run.measured)
}

impl<'a> Run<'a> {
    fn open(load: &'a Load, requests: &'a mut Requests) -> Result<Self, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(LoadError::Wait)?;
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3);
        let (Ok(latency), Ok(lateness)) = (histogram(), histogram()) else {
            return Err(LoadError::Wait(rustix::io::Errno::INVAL));
        };
        let measured = Measured {
            sent: 0,
            hits: 0,
            acknowledged: HitSet::default(),
            refused: 0,
            unanswered: 0,
            latency,
            lateness,
            seconds: 0.0,
            measured: 0,
            cpu_seconds: 0.0,
        };
        let mut run = Self {
            load,
            hits_of_one: requests.endpoint().hits(),
            requests,
            begun: Instant::now(),
            epoll,
            connections: Vec::with_capacity(load.connections),
            idle: (0..load.connections).collect(),
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; BUFFER],
            random: Rng::with_seed(load.seed),
            due: 0,
            open: 0,
            measured,
        };
        for index in 0..load.connections {
            let connection = Connection::open(load.address)?;
            run.watch(index, &connection)?;
            run.connections.push(connection);
        }
        run.begun = Instant::now();
        Ok(run)
    }

    fn watch(&self, index: usize, connection: &Connection) -> Result<(), LoadError> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &connection.stream, data, flags).map_err(LoadError::Wait)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.begun.elapsed())
    }

    /// Sends and reads until `end`, nanoseconds since the run began.
    fn until(&mut self, end: u64) -> Result<(), LoadError> {
        loop {
            self.read()?;
            let mut now = self.now();
            while self.due <= now && self.due < end {
                let Some(index) = self.idle.pop_front() else { break };
                self.send(index, now)?;
                now = self.now();
            }
            if now >= end && self.due >= end {
                return Ok(());
            }
            self.sleep(now, self.due.min(end));
        }
    }

    /// Reads until nothing is open, or patience ends.
    fn await_last(&mut self) -> Result<(), LoadError> {
        let end = self.now() + nanoseconds(self.load.patience);
        while self.open > 0 && self.now() < end {
            std::thread::sleep(TICK);
            self.read()?;
        }
        Ok(())
    }

    /// Sleeps for a tick, or until the next request is due where no answer is awaited.
    fn sleep(&self, now: u64, due: u64) {
        let tick = nanoseconds(TICK);
        let long = if self.open == 0 { due.saturating_sub(now).max(tick) } else { tick };
        std::thread::sleep(Duration::from_nanos(long));
    }

    fn send(&mut self, index: usize, now: u64) -> Result<(), LoadError> {
        let intended = self.due;
        // The times between the events of a Poisson process are exponentially distributed.
        let gap = -(1.0 - self.random.f64()).ln() / self.load.rate;
        self.due += (gap * 1e9) as u64;
        let (number, request) = self.requests.take();
        let progress = self.connections[index].send(request, InFlight { number, intended });
        self.open += 1;
        self.measured.sent += 1;
        self.measured.hits += self.hits_of_one;
        if intended >= nanoseconds(self.load.warm_up) {
            self.measured.lateness.saturating_record((now - intended) / 1_000);
        }
        self.note(index, progress)
    }

    /// Reads what has come.
    fn read(&mut self) -> Result<(), LoadError> {
        let mut events = std::mem::take(&mut self.events);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default())) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LoadError::Wait(error)),
            }
            for event in &events {
                let index = event.data.u64() as usize;
                let progress = self.connections[index].proceed(&mut self.buffer)?;
                self.note(index, progress)?;
            }
            if events.len() < EVENTS {
                break;
            }
        }
        self.events = events;
        Ok(())
    }

    fn note(&mut self, index: usize, progress: Progress) -> Result<(), LoadError> {
        match progress {
            Progress::Waiting => Ok(()),
            Progress::Answered(in_flight, answer, accepted) => {
                self.open -= 1;
                self.count(in_flight, answer.status, accepted);
                if answer.closes {
                    return self.reopen(index, true);
                }
                self.idle.push_back(index);
                Ok(())
            }
            Progress::Broken(in_flight) => {
                let lost = usize::from(in_flight.is_some());
                self.open -= lost;
                self.measured.unanswered += lost as u64;
                self.reopen(index, in_flight.is_some())
            }
        }
    }

    fn reopen(&mut self, index: usize, was_busy: bool) -> Result<(), LoadError> {
        let connection = Connection::open(self.load.address)?;
        self.watch(index, &connection)?;
        self.connections[index] = connection;
        if was_busy {
            self.idle.push_back(index);
        }
        Ok(())
    }

    fn count(&mut self, in_flight: InFlight, status: u16, accepted: Option<u64>) {
        let whole = accepted.is_none_or(|accepted| accepted == self.hits_of_one);
        if !(200..300).contains(&status) || !whole {
            self.measured.refused += 1;
            return;
        }
        let first = in_flight.number * self.hits_of_one;
        for sequence in first..first + self.hits_of_one {
            self.measured.acknowledged.insert(sequence);
        }
        if in_flight.intended >= nanoseconds(self.load.warm_up) {
            self.measured.measured += 1;
            self.measured.latency.saturating_record(self.now().saturating_sub(in_flight.intended) / 1_000);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this thread so far, seconds.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
