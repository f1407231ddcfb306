//! The protocol of `sink::intents`, every way that it can go: two sinks, two owners in turn, two offsets, and all orders of
//! crashes, rebalances that nobody is told of, lost answers, repeated inserts, and inserts and commits that arrive late.
//! Nothing is ever there twice, nothing is acknowledged that is not there, and wherever it has come to, all lands once
//! nothing fails any more.
//!
//! The ledger and the lists are the sink's own. What is around them is modelled: a group that takes commits from the
//! member of the current generation only, a ClickHouse that remembers the last tokens, and a network that holds an
//! insert for as long as it likes. The search goes breadth first, so that what it finds is a shortest way.

use std::collections::{HashSet, VecDeque};

use sink::intents::{Range, read};
use sink::ledger::{Commit, Ledger};

/// Offsets in the partition.
const OFFSETS: i64 = 2;
/// Times that a partition is assigned, that a sink crashes, and that one range is sent by one owner.
const ASSIGNMENTS: u8 = 2;
const SENDS: u8 = 2;
/// Ranges that a list may have.
const MOST_RANGES: usize = 2;
/// Steps after which all has landed, where nothing fails any more.
const PATIENCE: usize = 50;

/// What is searched.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Tokens that ClickHouse remembers.
    window: usize,
    /// Whether commits list what is on its way.
    has_lists: bool,
    /// Whether inserts wait until they are listed.
    waits_for_the_list: bool,
    /// Whether the broker refuses commits of earlier generations.
    has_fences: bool,
    /// Whether what is made again waits for room in the list, as what is new does.
    replays_want_room: bool,
}

const PROTOCOL: Rules =
    Rules { window: 99, has_lists: true, waits_for_the_list: true, has_fences: true, replays_want_room: false };

type Span = (i64, i64);
/// What may happen next, and how it is then.
type Steps = Vec<(String, World)>;

/// What a sink knows from the moment that the partition was assigned to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owner {
    generation: u8,
    ledger: Ledger,
    /// Listed by an earlier owner and not yet read again.
    replays: VecDeque<Span>,
    next: i64,
    /// Cut and not yet acknowledged by ClickHouse, and how often each was sent.
    open: Vec<(Span, u8)>,
}

/// An insert on its way: from whom, and what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Insert {
    sink: usize,
    generation: u8,
    span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    generation: u8,
    committed: Option<Commit>,
    sinks: [Option<Owner>; 2],
    /// Each sink's commit that is on its way to the broker, and of which generation. A later one of the same sink is not
    /// overtaken by it.
    commits: [Option<(u8, Commit)>; 2],
    network: Vec<Insert>,
    tokens: VecDeque<Span>,
    rows: [u8; OFFSETS as usize],
}

impl World {
    fn new() -> Self {
        Self {
            generation: 0,
            committed: None,
            sinks: [None, None],
            commits: [None, None],
            network: Vec::new(),
            tokens: VecDeque::new(),
            rows: [0; OFFSETS as usize],
        }
    }

    /// What must hold at any time.
    fn fault(&self) -> Option<String> {
        if let Some(offset) = self.rows.iter().position(|rows| *rows > 1) {
            return Some(format!("offset {offset} is there twice"));
        }
        let acknowledged = self.committed.as_ref().map_or(0, |commit| commit.offset);
        let missing = (0..acknowledged).find(|offset| self.rows[*offset as usize] == 0)?;
        Some(format!("offset {missing} is acknowledged and not there"))
    }

    fn is_complete(&self) -> bool {
        self.committed.as_ref().is_some_and(|commit| commit.offset == OFFSETS) && self.rows == [1; OFFSETS as usize]
    }

    /// All that may happen next.
    fn steps(&self, rules: &Rules) -> Vec<(String, Self)> {
        let mut steps = Vec::new();
        for sink in 0..2 {
            self.assign(sink, rules, &mut steps);
            if let Some(owner) = &self.sinks[sink] {
                self.crash(sink, &mut steps);
                self.cut(sink, owner, rules, &mut steps);
                self.commit(sink, owner, &mut steps);
                self.send(sink, owner, rules, &mut steps);
            }
            self.answer(sink, rules, &mut steps);
        }
        self.deliver(rules, &mut steps);
        steps
    }

    /// The group gives the partition to a sink. Whoever had it is not told.
    fn assign(&self, sink: usize, rules: &Rules, steps: &mut Steps) {
        if self.generation == ASSIGNMENTS || self.sinks[sink].is_some() {
            return;
        }
        let mut world = self.clone();
        world.generation += 1;
        let committed = world.committed.clone().filter(|commit| rules.has_lists || commit.offset >= 0);
        let listed = committed.as_ref().map_or(Vec::new(), |commit| read(&commit.metadata).unwrap());
        let listed = if rules.has_lists { listed } else { Vec::new() };
        let offset = committed.map(|commit| commit.offset);
        world.sinks[sink] = Some(Owner {
            generation: world.generation,
            replays: listed.iter().map(|range| (range.first, range.last)).collect(),
            ledger: Ledger::resumed(offset, listed),
            next: offset.unwrap_or(0),
            open: Vec::new(),
        });
        steps.push((format!("{sink} is assigned the partition"), world));
    }

    /// It forgets everything; what it sent is still on its way.
    fn crash(&self, sink: usize, steps: &mut Steps) {
        let mut world = self.clone();
        world.sinks[sink] = None;
        steps.push((format!("{sink} crashes"), world));
    }

    fn cut(&self, sink: usize, owner: &Owner, rules: &Rules, steps: &mut Steps) {
        let wants_room = owner.replays.is_empty() || rules.replays_want_room;
        if wants_room && owner.ledger.ranges() >= MOST_RANGES {
            return;
        }
        // What was listed is cut as it was, everything else anywhere.
        let spans: Vec<Span> = match owner.replays.front() {
            Some(span) => vec![*span],
            None => (owner.next..OFFSETS.min(owner.next + 2)).map(|last| (owner.next, last)).collect(),
        };
        for span in spans {
            let mut world = self.clone();
            let Some(owner) = &mut world.sinks[sink] else { continue };
            owner.replays.pop_front();
            owner.ledger.open(Range { epoch: "0".into(), first: span.0, last: span.1 });
            owner.open.push((span, 0));
            owner.next = span.1 + 1;
            steps.push((format!("{sink} cuts {span:?}"), world));
        }
    }

    /// A commit leaves for the broker. One that was sent before and did not arrive never will.
    fn commit(&self, sink: usize, owner: &Owner, steps: &mut Steps) {
        let Some(commit) = owner.ledger.to_commit() else { return };
        let sent = Some((owner.generation, commit));
        if self.commits[sink] == sent {
            return;
        }
        let mut world = self.clone();
        world.commits[sink] = sent;
        steps.push((format!("{sink} commits {:?}", world.commits[sink]), world));
    }

    /// The broker takes a commit or refuses it, and the answer arrives or is lost.
    fn answer(&self, sink: usize, rules: &Rules, steps: &mut Steps) {
        let mut unanswered = self.clone();
        let Some((generation, commit)) = unanswered.commits[sink].take() else { return };
        let waits = |owner: &&mut Owner| owner.generation == generation;
        if rules.has_fences && generation != self.generation {
            if unanswered.sinks[sink].as_mut().filter(waits).is_some() {
                unanswered.sinks[sink] = None;
            }
            steps.push((format!("{sink} is told that the partition is another's"), unanswered));
            return;
        }
        unanswered.committed = Some(commit.clone());
        let mut answered = unanswered.clone();
        if let Some(owner) = answered.sinks[sink].as_mut().filter(waits) {
            // It repeats what it has not heard of, and so hears of nothing else.
            if owner.ledger.to_commit().as_ref() == Some(&commit) {
                owner.ledger.commit_succeeded(commit.clone());
                steps.push((format!("{sink}'s commit of {commit:?} arrives"), answered));
            }
        }
        steps.push((format!("{sink}'s commit of {commit:?} arrives, not answered"), unanswered));
    }

    fn send(&self, sink: usize, owner: &Owner, rules: &Rules, steps: &mut Steps) {
        for (place, (span, sends)) in owner.open.iter().enumerate() {
            if *sends == SENDS || (rules.waits_for_the_list && !owner.ledger.is_listed(span.0)) {
                continue;
            }
            let mut world = self.clone();
            world.network.push(Insert { sink, generation: owner.generation, span: *span });
            // In whatever order they were sent, they may arrive in any.
            world.network.sort_by_key(|insert| (insert.span, insert.generation, insert.sink));
            if let Some(owner) = &mut world.sinks[sink] {
                owner.open[place].1 += 1;
            }
            steps.push((format!("{sink} sends {span:?}"), world));
        }
    }

    /// An insert arrives, and is answered or not.
    fn deliver(&self, rules: &Rules, steps: &mut Steps) {
        for (place, Insert { sink, generation, span }) in self.network.iter().enumerate() {
            let mut unanswered = self.clone();
            unanswered.network.remove(place);
            if !unanswered.tokens.contains(span) {
                unanswered.tokens.push_back(*span);
                if unanswered.tokens.len() > rules.window {
                    unanswered.tokens.pop_front();
                }
                (span.0..=span.1).for_each(|offset| unanswered.rows[offset as usize] += 1);
            }
            let mut answered = unanswered.clone();
            if let Some(owner) = answered.sinks[*sink].as_mut().filter(|owner| owner.generation == *generation) {
                owner.open.retain(|(open, _)| open != span);
                owner.ledger.done(span.0);
                steps.push((format!("{sink}'s insert {span:?} arrives"), answered));
            }
            steps.push((format!("{sink}'s insert {span:?} arrives, not answered"), unanswered));
        }
    }
}

impl World {
    /// Whether all lands when nothing fails any more: the owner goes on or, where there is none, another sink is given the
    /// partition, and every answer arrives. `good` has the worlds of which that is known.
    fn ends_well(&self, rules: &Rules, good: &mut HashSet<Self>) -> bool {
        let mut way = Vec::new();
        let mut world = self.clone();
        while !world.is_complete() && !good.contains(&world) {
            let Some(next) = world.next_without_failure(rules).filter(|_| way.len() < PATIENCE) else { return false };
            way.push(std::mem::replace(&mut world, next));
        }
        good.extend(way);
        true
    }

    fn next_without_failure(&self, rules: &Rules) -> Option<Self> {
        let owner = |sink: &usize| self.sinks[*sink].as_ref().is_some_and(|owner| owner.generation == self.generation);
        let Some(sink) = (0..2).find(owner) else {
            let mut free = self.clone();
            free.sinks = [None, None];
            free.commits = [None, None];
            // Kafka gives the partition away as often as it takes.
            free.generation = 0;
            let (mut steps, generation) = (Vec::new(), self.generation + 1);
            free.assign(0, rules, &mut steps);
            let (_, mut assigned) = steps.pop()?;
            assigned.generation = generation;
            assigned.sinks[0].as_mut()?.generation = generation;
            return Some(assigned);
        };
        let owner = self.sinks[sink].as_ref()?;
        // It sends each range as often as it takes.
        let mut patient = owner.clone();
        patient.open.iter_mut().for_each(|(_, sends)| *sends = 0);
        let kinds: [&dyn Fn(&mut Steps); 5] = [
            &|steps| self.deliver(rules, steps),
            &|steps| self.answer(sink, rules, steps),
            &|steps| self.commit(sink, owner, steps),
            &|steps| self.cut(sink, owner, rules, steps),
            &|steps| self.send(sink, &patient, rules, steps),
        ];
        let is_its =
            |(step, _): &(String, Self)| step.starts_with(&sink.to_string()) && !step.ends_with("not answered");
        kinds.iter().find_map(|kind| {
            let mut steps = Vec::new();
            kind(&mut steps);
            steps.into_iter().find(is_its).map(|(_, world)| world)
        })
    }
}

#[derive(Debug)]
struct Found {
    worlds: usize,
    /// The shortest way to a fault.
    fault: Option<Vec<String>>,
}

/// What is asked of each world.
type Question<'a> = &'a mut dyn FnMut(&World) -> Option<String>;

/// Goes through all worlds, until one has a fault.
fn search(rules: &Rules, question: Question<'_>) -> Found {
    let (mut seen, mut ways) = (HashSet::from([World::new()]), vec![(0, String::new())]);
    let mut queue = VecDeque::from([(0, World::new())]);
    while let Some((number, world)) = queue.pop_front() {
        if let Some(fault) = question(&world) {
            let mut way = vec![fault];
            let mut at = number;
            while at != 0 {
                let (before, step): &(usize, String) = &ways[at];
                way.push(step.clone());
                at = *before;
            }
            way.reverse();
            return Found { worlds: seen.len(), fault: Some(way) };
        }
        for (step, next) in world.steps(rules) {
            if seen.insert(next.clone()) {
                ways.push((number, step));
                queue.push_back((ways.len() - 1, next));
            }
        }
    }
    Found { worlds: seen.len(), fault: None }
}

/// Asked where nothing is on its way: every other world comes to such a one, as what is on its way arrives.
fn stuck(world: &World, rules: &Rules, good: &mut HashSet<World>) -> Option<String> {
    let is_quiet = world.network.is_empty() && world.commits == [None, None];
    (is_quiet && !world.ends_well(rules, good)).then(|| "it goes no further".to_owned())
}

#[test]
fn each_offset_lands_once_whatever_happened() {
    let started = std::time::Instant::now();
    let mut good = HashSet::new();
    let found = search(&PROTOCOL, &mut |world| world.fault().or_else(|| stuck(world, &PROTOCOL, &mut good)));
    println!("{} worlds in {:?}", found.worlds, started.elapsed());
    assert_eq!(found.fault, None);
    assert!(found.worlds > 10_000, "{}", found.worlds);
}

fn fails(rules: Rules) -> String {
    told(search(&rules, &mut |world| world.fault()))
}

fn told(found: Found) -> String {
    let way = found.fault.expect("a rule that can be left out is none");
    println!("{way:#?}");
    way.join("; ")
}

#[test]
fn a_window_that_is_too_small_lets_a_late_insert_in_again() {
    let way = fails(Rules { window: 1, ..PROTOCOL });
    assert!(way.ends_with("is there twice"), "{way}");
}

#[test]
fn without_lists_the_next_owner_cuts_elsewhere() {
    let way = fails(Rules { has_lists: false, ..PROTOCOL });
    assert!(way.ends_with("is there twice") && way.contains("cuts (0, 1)"), "{way}");
}

#[test]
fn an_insert_that_does_not_wait_for_its_list_is_doubled() {
    let way = fails(Rules { waits_for_the_list: false, ..PROTOCOL });
    assert!(way.ends_with("is there twice"), "{way}");
}

#[test]
fn a_broker_that_takes_commits_of_earlier_owners_breaks_it() {
    let way = fails(Rules { has_fences: false, ..PROTOCOL });
    assert!(way.ends_with("is there twice") || way.ends_with("not there"), "{way}");
}

#[test]
fn where_what_is_made_again_waits_for_room_a_full_list_is_the_end() {
    let (rules, mut good) = (Rules { replays_want_room: true, ..PROTOCOL }, HashSet::new());
    let way = told(search(&rules, &mut |world| stuck(world, &rules, &mut good)));
    assert!(way.ends_with("it goes no further"), "{way}");
}
