//! The invariants of [`Flow`], held against random histories of a consumer.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use proptest::prelude::*;

use super::*;

/// A connection of which the test decides what it has received.
#[derive(Clone)]
struct Fake(Rc<Counters>);

struct Counters {
    id: usize,
    rdy_count_max: u32,
    received: Cell<u64>,
    in_flight: Cell<u64>,
}

impl Subscribed for Fake {
    fn rdy_count_max(&self) -> u32 {
        self.0.rdy_count_max
    }

    fn received(&self) -> u64 {
        self.0.received.get()
    }

    fn in_flight(&self) -> u64 {
        self.0.in_flight.get()
    }

    fn is(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

#[derive(Clone, Debug)]
enum Action {
    Add { rdy_count_max: u32 },
    Remove(prop::sample::Index),
    ChangeMaxInFlight(u32),
    Receive(prop::sample::Index),
    Answer(prop::sample::Index),
    Outcome(Outcome),
    Advance { ms: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let outcome =
        prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Neutral)];
    let rdy_count_max = prop_oneof![1 => Just(0), 2 => 1..4_u32, 4 => Just(2500)];
    prop_oneof![
        3 => rdy_count_max.prop_map(|rdy_count_max| Action::Add { rdy_count_max }),
        1 => any::<prop::sample::Index>().prop_map(Action::Remove),
        2 => (0..12_u32).prop_map(Action::ChangeMaxInFlight),
        3 => any::<prop::sample::Index>().prop_map(Action::Receive),
        3 => any::<prop::sample::Index>().prop_map(Action::Answer),
        2 => outcome.prop_map(Action::Outcome),
        4 => (1..20_000_u64).prop_map(|ms| Action::Advance { ms }),
    ]
}

/// A flow, and what nsqd has been told on each connection.
struct History {
    flow: Flow<Fake>,
    max_in_flight: u32,
    now: Instant,
    step: usize,
    added: usize,
    connections: BTreeMap<usize, Told>,
}

struct Told {
    fake: Fake,
    rdy: u32,
    /// The step in which RDY became 0.
    waiting_since: usize,
}

impl History {
    fn new(max_in_flight: u32) -> Self {
        let config = Config { max_in_flight, ..Config::default() };
        Self {
            flow: Flow::new(&config),
            max_in_flight,
            now: Instant::now(),
            step: 0,
            added: 0,
            connections: BTreeMap::new(),
        }
    }

    /// Lets `action` happen and checks every command that follows.
    fn act(&mut self, action: &Action) {
        self.step += 1;
        match action {
            &Action::Add { rdy_count_max } => self.add(rdy_count_max),
            Action::Remove(index) => {
                if let Some(fake) = self.pick(*index) {
                    self.connections.remove(&fake.0.id);
                    self.flow.remove(&fake, self.now);
                }
            }
            &Action::ChangeMaxInFlight(max_in_flight) => {
                self.max_in_flight = max_in_flight;
                self.flow.change_max_in_flight(max_in_flight, self.now);
            }
            Action::Receive(index) => {
                if let Some(fake) = self.pick(*index) {
                    fake.0.received.update(|received| received + 1);
                    fake.0.in_flight.update(|in_flight| in_flight + 1);
                }
            }
            Action::Answer(index) => {
                if let Some(fake) = self.pick(*index) {
                    fake.0.in_flight.update(|in_flight| in_flight.saturating_sub(1));
                }
            }
            &Action::Outcome(outcome) => drop(self.flow.handle_outcome(outcome, self.now)),
            &Action::Advance { ms } => self.advance(Duration::from_millis(ms)),
        }
        self.take_commands();
    }

    fn add(&mut self, rdy_count_max: u32) {
        let id = self.added;
        self.added += 1;
        let (received, in_flight) = (Cell::new(0), Cell::new(0));
        let fake = Fake(Rc::new(Counters { id, rdy_count_max, received, in_flight }));
        let told = Told { fake: fake.clone(), rdy: 0, waiting_since: self.step };
        self.connections.insert(id, told);
        self.flow.add(fake, self.now);
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.flow.handle_time(self.now);
        if let Some(next) = self.flow.next_time() {
            assert!(next > self.now, "the clock's task must not spin");
        }
    }

    fn pick(&self, index: prop::sample::Index) -> Option<Fake> {
        let fakes: Vec<_> = self.connections.values().map(|told| told.fake.clone()).collect();
        (!fakes.is_empty()).then(|| index.get(&fakes).clone())
    }

    fn budget(&self) -> u32 {
        match self.flow.phase() {
            Phase::Off => self.max_in_flight,
            Phase::Pausing => 0,
            Phase::Trying => self.max_in_flight.min(1),
        }
    }

    fn rdy_sum(&self) -> u32 {
        self.connections.values().map(|told| told.rdy).sum()
    }

    /// Takes all commands as nsqd would, and checks each of them.
    fn take_commands(&mut self) {
        let mut raised = Vec::new();
        while let Some((fake, rdy)) = self.flow.poll_rdy() {
            let told = self.connections.get_mut(&fake.0.id).expect("the connection is there");
            assert_ne!(told.rdy, rdy, "invariant 4: RDY is sent only when it changes");
            assert!(rdy <= fake.0.rdy_count_max);
            let before = std::mem::replace(&mut told.rdy, rdy);
            if rdy == 0 {
                told.waiting_since = self.step;
            }
            if rdy > before {
                assert!(self.rdy_sum() <= self.budget(), "invariant 1: others give first");
            }
            if before == 0 {
                raised.push(fake.0.id);
            }
        }
        self.check_shares();
        self.check_line(&raised);
    }

    /// Invariants 1 and 2: all that may be in flight is given out, and no more.
    fn check_shares(&self) {
        let limits = || self.connections.values().map(|told| told.fake.0.rdy_count_max);
        let connections = u32::try_from(self.connections.len()).unwrap();
        let expected = if self.budget() < connections {
            limits().map(|limit| limit.min(1)).sum::<u32>().min(self.budget())
        } else {
            limits().sum::<u32>().min(self.budget())
        };
        assert_eq!(self.rdy_sum(), expected);
    }

    /// Invariant 3: no connection that still waits has waited longer than one that was `raised`.
    fn check_line(&self, raised: &[usize]) {
        let waits = |told: &&Told| told.rdy == 0 && told.fake.0.rdy_count_max > 0;
        let longest = self.connections.values().filter(waits).map(|told| told.waiting_since).min();
        for told in raised.iter().filter_map(|id| self.connections.get(id)) {
            assert!(longest.is_none_or(|since| told.waiting_since <= since));
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_rdy_keeps_its_invariants(
        max_in_flight in 0..12_u32,
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut history = History::new(max_in_flight);
        for action in &actions {
            history.act(action);
        }
    }

    #[test]
    fn every_connection_gets_its_turn(max_in_flight in 1..5_u32, more in 1..8_u32) {
        let mut history = History::new(max_in_flight);
        for _ in 0..max_in_flight + more {
            history.act(&Action::Add { rdy_count_max: 2500 });
        }
        let mut without: Vec<_> = history.connections.keys().copied().collect();
        // Connections that receive nothing give up their turn when they are found idle.
        for _ in 0..10 * (max_in_flight + more) {
            let next = history.flow.next_time().expect("connections that wait need a clock");
            history.step += 1;
            history.advance(next - history.now);
            history.take_commands();
            without.retain(|id| history.connections[id].rdy == 0);
        }
        prop_assert!(without.is_empty(), "no turn for {without:?}");
    }
}

#[test]
fn a_flow_that_has_nothing_to_rotate_needs_no_clock() {
    let mut history = History::new(10);
    assert_eq!(history.flow.next_time(), None);
    history.act(&Action::Add { rdy_count_max: 2500 });
    history.act(&Action::Add { rdy_count_max: 2500 });
    assert_eq!(history.flow.next_time(), None);
    history.act(&Action::Add { rdy_count_max: 2500 });
    assert!(history.flow.next_time().is_some(), "ten messages over three connections");
}

#[test]
fn connections_that_are_drained_are_told_nothing_more() {
    let mut history = History::new(1);
    history.act(&Action::Add { rdy_count_max: 2500 });
    history.act(&Action::Add { rdy_count_max: 2500 });
    assert_eq!(history.flow.drain().len(), 2);
    assert!(history.flow.poll_rdy().is_none() && history.flow.next_time().is_none());
}
