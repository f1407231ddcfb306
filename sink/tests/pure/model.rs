//! The protocol of `sink::intents`, every way that it can go: two sinks, two owners in turn, two offsets, and all orders of
//! crashes, rebalances that nobody is told of, lost answers, repeated inserts, and inserts and commits that arrive late.
//! Nothing is ever there twice, nothing is acknowledged that is not there, and wherever it has come to, all lands once
//! nothing fails any more.
//!
//! The ledger and the lists are the sink's own. What is around them is modelled: a group that takes commits from the
//! member of the current generation only, a ClickHouse that remembers the last tokens and may be killed when it has written
//! one down and not the rows, and a network that holds an insert for as long as it likes. The search goes breadth first, so that what it finds is a shortest way.

use std::collections::{HashSet, VecDeque};

use sink::intents::{Range, read};
use sink::ledger::{Commit, Ledger};

/// Most offsets in the partition.
const OFFSETS: usize = 2;
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
    /// Offsets in the partition.
    offsets: i64,
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
    /// How often ClickHouse is killed when it has a token and not the rows.
    kills: u8,
    /// Whether it is asked for rows that it may know by their token only.
    asks: bool,
}

const PROTOCOL: Rules = Rules {
    offsets: OFFSETS as i64,
    window: 99,
    has_lists: true,
    waits_for_the_list: true,
    has_fences: true,
    replays_want_room: false,
    kills: 0,
    asks: true,
};

type Span = (i64, i64);
/// What is inserted, and how often it was found to be missing.
type Token = (Span, u8);
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
    /// Cut and not yet acknowledged.
    open: Vec<Open>,
}

/// A range that a sink has cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Open {
    token: Token,
    sends: u8,
    is_replay: bool,
    /// ClickHouse says to have it, and may have no more than its token.
    is_known: bool,
}

impl Open {
    /// An attempt failed, or there may have been one of somebody else.
    fn is_doubtful(&self) -> bool {
        self.is_replay || self.sends > 1 || self.token.1 > 0
    }
}

/// An insert on its way: from whom, and what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Insert {
    sink: usize,
    generation: u8,
    token: Token,
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
    tokens: VecDeque<Token>,
    kills: u8,
    rows: [u8; OFFSETS],
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
            kills: 0,
            rows: [0; OFFSETS],
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

    fn is_complete(&self, rules: &Rules) -> bool {
        self.committed.as_ref().is_some_and(|commit| commit.offset == rules.offsets)
            && self.rows[..rules.offsets as usize].iter().all(|rows| *rows == 1)
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
                self.ask(sink, owner, &mut steps);
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
            None => (owner.next..rules.offsets.min(owner.next + 2)).map(|last| (owner.next, last)).collect(),
        };
        for span in spans {
            let mut world = self.clone();
            let Some(owner) = &mut world.sinks[sink] else { continue };
            let is_replay = owner.replays.pop_front().is_some();
            owner.ledger.open(Range { epoch: "0".into(), first: span.0, last: span.1 });
            owner.open.push(Open { token: (span, 0), sends: 0, is_replay, is_known: false });
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
        for (place, Open { token, sends, is_known, .. }) in owner.open.iter().enumerate() {
            let (span, _) = token;
            if *is_known || *sends == SENDS || (rules.waits_for_the_list && !owner.ledger.is_listed(span.0)) {
                continue;
            }
            let mut world = self.clone();
            world.network.push(Insert { sink, generation: owner.generation, token: *token });
            // In whatever order they were sent, they may arrive in any.
            world.network.sort_by_key(|insert| (insert.token, insert.generation, insert.sink));
            if let Some(owner) = &mut world.sinks[sink] {
                owner.open[place].sends += 1;
            }
            steps.push((format!("{sink} sends {token:?}"), world));
        }
    }

    /// An insert arrives, and is answered or not.
    fn deliver(&self, rules: &Rules, steps: &mut Steps) {
        for (place, Insert { sink, generation, token }) in self.network.iter().enumerate() {
            let mut unanswered = self.clone();
            unanswered.network.remove(place);
            if !unanswered.tokens.contains(token) {
                unanswered.tokens.push_back(*token);
                if unanswered.tokens.len() > rules.window {
                    unanswered.tokens.pop_front();
                }
                if self.kills < rules.kills {
                    let killed = Self { kills: self.kills + 1, ..unanswered.clone() };
                    steps.push((
                        format!("{sink}'s insert {token:?} arrives, ClickHouse is killed, not answered"),
                        killed,
                    ));
                }
                let ((first, last), _) = *token;
                unanswered.rows[first as usize..=last as usize].iter_mut().for_each(|rows| *rows += 1);
            }
            let mut answered = unanswered.clone();
            if let Some(owner) = answered.sinks[*sink].as_mut().filter(|owner| owner.generation == *generation) {
                owner.hear_of(*token, rules);
                steps.push((format!("{sink}'s insert {token:?} arrives"), answered));
            }
            steps.push((format!("{sink}'s insert {token:?} arrives, not answered"), unanswered));
        }
    }

    /// Looks whether rows are there that ClickHouse says to have. Those that are not are sent again under another token.
    fn ask(&self, sink: usize, owner: &Owner, steps: &mut Steps) {
        for (place, Open { token: ((first, last), _), .. }) in
            owner.open.iter().enumerate().filter(|(_, open)| open.is_known)
        {
            let mut world = self.clone();
            let Some(owner) = &mut world.sinks[sink] else { continue };
            if self.rows[*first as usize..=*last as usize].iter().all(|rows| *rows > 0) {
                owner.open.remove(place);
                owner.ledger.done(*first);
            } else {
                let open = &mut owner.open[place];
                (open.token.1, open.sends, open.is_known) = (open.token.1 + 1, 0, false);
            }
            steps.push((format!("{sink} asks for {first} to {last}"), world));
        }
    }
}

impl Owner {
    /// ClickHouse says to have what was sent.
    fn hear_of(&mut self, token: Token, rules: &Rules) {
        let Some(place) = self.open.iter().position(|open| open.token == token) else { return };
        if rules.asks && self.open[place].is_doubtful() {
            self.open[place].is_known = true;
        } else {
            self.open.remove(place);
            self.ledger.done(token.0.0);
        }
    }
}

impl World {
    /// Whether all lands when nothing fails any more: the owner goes on or, where there is none, another sink is given the
    /// partition, and every answer arrives. `good` has the worlds of which that is known.
    fn ends_well(&self, rules: &Rules, good: &mut HashSet<Self>) -> bool {
        let mut way = Vec::new();
        let mut world = self.clone();
        while !world.is_complete(rules) && !good.contains(&world) {
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
        patient.open.iter_mut().for_each(|open| open.sends = 0);
        let kinds: [&dyn Fn(&mut Steps); 6] = [
            &|steps| self.ask(sink, owner, steps),
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

/// It knows a token then and has no row of it. Tokens are of one range each, so that one offset tells all.
#[test]
fn each_offset_lands_once_though_clickhouse_is_killed() {
    let (rules, mut good) = (Rules { kills: 2, offsets: 1, ..PROTOCOL }, HashSet::new());
    let found = search(&rules, &mut |world| world.fault().or_else(|| stuck(world, &rules, &mut good)));
    println!("{} worlds", found.worlds);
    assert_eq!(found.fault, None);
}

#[test]
fn what_is_not_asked_for_is_lost_with_clickhouse() {
    let way = fails(Rules { kills: 1, asks: false, ..PROTOCOL });
    assert!(way.contains("ClickHouse is killed") && way.ends_with("acknowledged and not there"), "{way}");
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
