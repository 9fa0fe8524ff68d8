//! The store held against a naive model, and its memory.

use std::collections::{BTreeMap, VecDeque};

use proptest::{collection::vec, prelude::*};

use super::*;

/// One message as the model keeps it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Message {
    attempts: u16,
    due: Option<Time>,
    changed: bool,
}

#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, Message>,
    ready: VecDeque<u64>,
}

#[derive(Clone, Debug)]
enum Operation {
    /// Puts `len` messages from the nearest free place on aside; ready at once without `due`.
    Put {
        from: u64,
        len: u64,
        attempts: u16,
        due: Option<u64>,
        changed: bool,
    },
    /// Puts messages aside one by one, each `step` after the one before, with due times of their own.
    PutMany {
        from: u64,
        count: u64,
        step: u64,
        due: u64,
    },
    TakeReady {
        count: u64,
    },
    Expire {
        now: u64,
    },
    TakeChanged,
}

fn operation() -> impl Strategy<Value = Operation> {
    let from = || 0..3_000_u64;
    let put = (from(), 1..5_u64, 0..2_u16, proptest::option::of(0..50_u64), any::<bool>());
    prop_oneof![
        8 => put.prop_map(|(from, len, attempts, due, changed)| Operation::Put {
            from, len, attempts, due, changed
        }),
        2 => (from(), 1..400_u64, 1..4_u64, 0..50_u64)
            .prop_map(|(from, count, step, due)| Operation::PutMany { from, count, step, due }),
        4 => (1..200_u64).prop_map(|count| Operation::TakeReady { count }),
        3 => (0..60_u64).prop_map(|now| Operation::Expire { now }),
        1 => Just(Operation::TakeChanged),
    ]
}

/// The store and its model, side by side.
#[derive(Default)]
struct Pair {
    aside: Aside,
    model: Model,
}

impl Pair {
    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Put { from, len, attempts, due, changed } => {
                let free = (from..from + len).take_while(|seq| !self.holds(*seq));
                let to = from + free.count() as u64;
                self.put(Run { from, to, attempts, changed }, due.map(Time));
            }
            Operation::PutMany { from, count, step, due } => {
                for seq in (0..count).map(|at| from + at * step) {
                    if !self.holds(seq) {
                        let run = Run { from: seq, to: seq + 1, attempts: 0, changed: true };
                        self.put(run, Some(Time(due + seq % 7)));
                    }
                }
            }
            Operation::TakeReady { count } => self.take_ready(count),
            Operation::Expire { now } => self.expire(Time(now)),
            Operation::TakeChanged => self.take_changed(),
        }
    }

    fn holds(&self, seq: u64) -> bool {
        self.model.messages.contains_key(&seq)
    }

    fn put(&mut self, run: Run, due: Option<Time>) {
        match due {
            Some(due) => self.aside.defer(run, due),
            None => self.aside.push_ready(run),
        }
        let Run { from, to, attempts, changed } = run;
        for seq in from..to {
            self.model.messages.insert(seq, Message { attempts, due, changed });
            if due.is_none() {
                self.model.ready.push_back(seq);
            }
        }
    }

    fn take_ready(&mut self, count: u64) {
        let Some(run) = self.aside.front_ready() else {
            return assert!(self.model.ready.is_empty());
        };
        let count = count.min(run.len());
        self.aside.take_ready(count);
        for seq in run.from..run.from + count {
            assert_eq!(self.model.ready.pop_front(), Some(seq));
            let message = self.model.messages.remove(&seq).unwrap();
            assert_eq!((message.attempts, message.due), (run.attempts, None));
        }
    }

    fn expire(&mut self, now: Time) {
        while self.aside.expire_next(now) {}
        let messages = self.model.messages.iter();
        let due = messages.filter_map(|(&seq, it)| Some((it.due.filter(|due| *due <= now)?, seq)));
        // In the order of becoming due.
        for (_, seq) in due.collect::<BTreeSet<_>>() {
            let message = self.model.messages.get_mut(&seq).unwrap();
            (message.due, message.changed) = (None, true);
            self.model.ready.push_back(seq);
        }
    }

    fn take_changed(&mut self) {
        let mut told = BTreeMap::new();
        let mut last = 0;
        self.aside.take_changed(|it| {
            assert!(last <= it.range.start, "reported out of order");
            last = it.range.end;
            told.extend(it.range.clone().map(|seq| (seq, (it.attempts, it.due))));
        });
        for (seq, message) in &mut self.model.messages {
            let told = told.remove(seq);
            assert!(told.is_some() || !message.changed, "{seq} was not told");
            assert!(told.is_none_or(|told| told == (message.attempts, message.due)));
            message.changed = false;
        }
        assert!(told.is_empty(), "messages were told that are not there: {told:?}");
    }

    fn check(&self) {
        let (aside, model) = (&self.aside, &self.model);
        let mut shown = Vec::new();
        for Outstanding { range, attempts, due } in aside.iter() {
            shown.extend(range.map(|seq| (seq, attempts, due)));
        }
        let expected = model.messages.iter().map(|(&seq, it)| (seq, it.attempts, it.due));
        assert!(expected.eq(shown.iter().copied()), "{shown:?}");
        assert_eq!(aside.first(), model.messages.keys().next().copied());
        let ready = |below| model.ready.iter().filter(|seq| **seq < below).count() as u64;
        assert_eq!(aside.ready(), ready(u64::MAX));
        assert_eq!(aside.deferred(), model.messages.len() as u64 - aside.ready());
        for seq in [0, 1, 777, 1_500, 5_000] {
            assert_eq!(aside.ready_below(seq), ready(seq));
        }
        assert_eq!(aside.next_due(), model.messages.values().filter_map(|it| it.due).min());
        assert_eq!(aside.front_ready().map(|run| run.from), model.ready.front().copied());
        assert!(aside.has_changed() || !model.messages.values().any(|it| it.changed));
        self.check_invariants();
    }

    fn check_invariants(&self) {
        let aside = &self.aside;
        for (key, chunk) in &aside.chunks {
            let first = chunk.entries().first().unwrap();
            assert!(*key <= first.from && chunk.len() <= CHUNK_ENTRIES_MAX);
            assert!(chunk.entries().iter().all(|entry| aside.key_of(entry.from) == *key));
        }
        let summary = |(&key, chunk): (&u64, &Chunk)| (key, chunk.summary());
        let summaries: Vec<_> = aside.chunks.iter().map(summary).collect();
        let due: BTreeSet<_> =
            summaries.iter().filter_map(|(key, it)| Some((it.next_due?, *key))).collect();
        assert_eq!(aside.due, due);
        let changed: BTreeSet<_> =
            summaries.iter().filter(|(_, it)| it.changed).map(|(key, _)| *key).collect();
        assert_eq!(aside.changed, changed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_behaves_as_its_model(operations in vec(operation(), 1..60)) {
        let mut pair = Pair::default();
        for operation in &operations {
            pair.apply(operation);
            pair.check();
        }
        pair.expire(Time(100));
        while !pair.model.ready.is_empty() {
            pair.take_ready(u64::MAX);
        }
        pair.check();
        prop_assert!(pair.aside.chunks.is_empty());
    }
}

/// The memory of a tree with items of `bytes`, if its nodes are no more than half full.
fn tree_bytes(items: usize, bytes: usize) -> usize {
    items * (2 * bytes + 8)
}

impl Aside {
    /// The memory in use, rounded up.
    fn heap_bytes(&self) -> usize {
        const ALLOCATION_BYTES: usize = 16;
        let entries: usize =
            self.chunks.values().map(|it| it.capacity_bytes() + ALLOCATION_BYTES).sum();
        entries
            + tree_bytes(self.chunks.len(), size_of::<(u64, Chunk)>())
            + tree_bytes(self.due.len(), size_of::<(Time, u64)>())
            + tree_bytes(self.changed.len(), size_of::<u64>())
            + self.ready.capacity() * size_of::<u64>()
    }
}

/// The numbers below `count`, each once, in an order without a pattern.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    assert!(count.is_power_of_two());
    (0..count).map(move |at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count)
}

const COUNT: u64 = 1 << 14;
const MESSAGE_BYTES_MAX: usize = 64;

fn filled(order: impl Iterator<Item = u64>) -> Aside {
    let mut aside = Aside::default();
    for (at, seq) in order.enumerate() {
        let due = Time((at as u64).wrapping_mul(7_919) % COUNT);
        aside.defer(Run { from: seq, to: seq + 1, attempts: 0, changed: true }, due);
    }
    aside
}

fn check_cost(aside: &Aside, messages: u64) {
    let bytes = aside.heap_bytes();
    let allowed = usize::try_from(messages).unwrap() * MESSAGE_BYTES_MAX + (4 << 10);
    assert!(bytes <= allowed, "{messages} messages take {bytes} bytes");
}

#[test]
fn a_message_put_aside_costs_at_most_64_bytes() {
    for mut aside in [filled(0..COUNT), filled((0..COUNT).rev()), filled(scattered(COUNT))] {
        check_cost(&aside, COUNT);
        // As they become due they stay where they are, in an order that lets none be joined.
        while aside.expire_next(Time(COUNT)) {}
        assert_eq!(aside.ready(), COUNT);
        check_cost(&aside, COUNT);
    }
}

#[test]
fn memory_comes_back_as_messages_leave() {
    for mut aside in [filled(0..COUNT), filled(scattered(COUNT))] {
        while aside.expire_next(Time(COUNT)) {}
        for left in (0..COUNT).rev() {
            aside.take_ready(1);
            if left.is_power_of_two() {
                check_cost(&aside, left);
            }
        }
        assert!(aside.chunks.is_empty() && aside.due.is_empty() && aside.changed.is_empty());
    }
}

#[test]
fn messages_put_aside_at_once_are_one_entry() {
    let mut aside = Aside::default();
    for from in (0..10_000).step_by(10) {
        aside.defer(Run { from, to: from + 10, attempts: 1, changed: true }, Time(5));
    }
    assert_eq!(aside.entry_count(), 1);
    let long = Run { from: 20_000, to: 20_000 + (5 << 32), attempts: 1, changed: true };
    aside.defer(long, Time(4));
    assert_eq!(aside.deferred(), 10_000 + long.len());
    assert!(aside.expire_next(Time(4)));
    assert_eq!(aside.front_ready().map(|run| run.from), Some(20_000));
}
