//! Random work against the simplest thing that could be right: a list of bodies.

use std::{sync::Arc, time::Duration};

use nsq_log::{
    Append, BatchBuilder, Durability, Options, Read, Retired, Store, TopicLog,
    testing::{FaultyDisk, Stop},
};
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Step {
    Append { lengths: Vec<u16>, defer: bool },
    Read { from: u64, count: u64, bytes: usize },
    Load { from: u64, bytes: usize },
    Release(u64),
    Flush,
    Sync,
    Rest,
    Prepare,
    Retire,
    Restart { clean: bool },
    Full,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![8 => 0..200_u16, 2 => 200..3000_u16, 1 => 3000..40_000_u16];
    let lengths = prop_oneof![3 => prop::collection::vec(length.clone(), 1..2), 2 => prop::collection::vec(length, 1..20)];
    let step = prop_oneof![
        10 => (lengths, any::<bool>()).prop_map(|(lengths, defer)| Step::Append { lengths, defer }),
        8 => (0..300_u64, 0..50_u64, 0..50_000_usize).prop_map(|(from, count, bytes)| Step::Read { from, count, bytes }),
        5 => (0..300_u64, 0..50_000_usize).prop_map(|(from, bytes)| Step::Load { from, bytes }),
        2 => (0..300_u64).prop_map(Step::Release),
        1 => Just(Step::Flush),
        1 => Just(Step::Sync),
        1 => Just(Step::Rest),
        2 => Just(Step::Prepare),
        1 => Just(Step::Retire),
        2 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
        1 => Just(Step::Full),
    ];
    prop::collection::vec(step, 1..60)
}

fn options() -> impl Strategy<Value = Options> {
    let durability =
        prop::sample::select(vec![Durability::Memory, Durability::Log, Durability::Fsync]);
    (durability, 500..100_000_u64, 0..100_usize, 0..200_000_usize).prop_map(
        |(durability, segment_bytes, tail_messages, tail_bytes)| Options {
            durability,
            segment_bytes,
            tail_messages,
            tail_bytes,
            ..Options::default()
        },
    )
}

struct Run {
    disk: FaultyDisk,
    options: Options,
    store: Option<Store>,
    log: Arc<TopicLog>,
    bodies: Vec<Vec<u8>>,
}

impl Run {
    fn new(options: Options) -> Self {
        let disk = disk();
        let opened = open(&disk, options);
        let log = topic(&opened.store);
        Self { disk, options, store: Some(opened.store), log, bodies: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { lengths, defer } => self.append(lengths, *defer),
            Step::Read { from, count, bytes } => self.read(*from, *count, *bytes),
            Step::Load { from, bytes } => self.load(*from, *bytes),
            Step::Release(low) => {
                let (low, before) = ((*low).min(self.log.end()), self.log.first());
                self.log.release(low);
                assert!(self.log.first() == before || self.log.first() <= low);
            }
            Step::Flush => self.log.flush().unwrap(),
            Step::Sync => assert_eq!(self.log.sync().unwrap(), self.log.end()),
            Step::Rest => self.log.rest().unwrap(),
            Step::Prepare => self.log.prepare().unwrap(),
            Step::Retire => self.retire(),
            Step::Restart { clean } => self.restart(*clean),
            Step::Full => self.fail_once(),
        }
        assert_eq!(self.log.end(), self.bodies.len() as u64);
        assert!(self.log.synced() <= self.log.written() && self.log.written() <= self.log.end());
    }

    fn append(&mut self, lengths: &[u16], defer: bool) {
        let mut batch = BatchBuilder::new(Arc::clone(self.store.as_ref().unwrap().pool()));
        let first = self.bodies.len();
        for length in lengths {
            let seq = self.bodies.len();
            let body: Vec<u8> = (0..usize::from(*length)).map(|i| (seq * 31 + i) as u8).collect();
            batch.push(&body);
            self.bodies.push(body);
        }
        let defer = defer.then_some(Duration::from_millis(5));
        let range = self.log.append(&mut batch, Append { timestamp_ns: 1, defer }).unwrap();
        assert_eq!(range, first as u64..self.bodies.len() as u64);
        if self.options.durability != Durability::Memory {
            assert_eq!(self.log.written(), range.end);
        }
    }

    fn compare(&self, slices: &[nsq_log::Slice], from: u64, count: u64, bytes_max: usize) {
        let found = messages(slices);
        assert!(found.keys().copied().eq(from..from + count));
        for (seq, message) in found {
            assert_eq!(message.body, self.bodies[usize::try_from(seq).unwrap()]);
            assert_eq!(self.log.locate(message.id), (seq >= self.log.first()).then_some(seq));
        }
        let bytes: usize = slices.iter().map(|slice| slice.bytes.len()).sum();
        assert!(bytes <= bytes_max || count == 1);
    }

    fn read(&self, from: u64, count: u64, bytes: usize) {
        let mut slices = Vec::new();
        match self.log.read(from..from + count, bytes, &mut slices) {
            Read::Taken(taken) => {
                assert!(taken > 0 || count == 0 || from >= self.log.end());
                self.compare(&slices, from, taken, bytes);
            }
            Read::Cold => assert!(from >= self.log.first() && from < self.log.tail_start()),
            Read::Gone(gone) => assert!(gone <= count && from + gone <= self.log.first()),
        }
    }

    fn load(&self, from: u64, bytes: usize) {
        let Ok(chunk) = self.log.load(from, bytes) else {
            assert!(from >= self.log.written());
            return;
        };
        assert!(chunk.range().contains(&from) && chunk.notices().is_empty());
        let mut slices = Vec::new();
        match chunk.read(from..self.log.end(), bytes, &mut slices) {
            Read::Taken(taken) => self.compare(&slices, from, taken, bytes),
            Read::Gone(gone) => assert_eq!(from + gone, self.log.first()),
            Read::Cold => panic!("{from} is not in the chunk that was loaded for it"),
        }
    }

    fn restart(&mut self, clean: bool) {
        let first = self.log.first();
        let store = self.store.take().unwrap();
        if clean {
            store.close().unwrap();
            drop(store);
        } else {
            self.log.flush().unwrap();
            self.disk = self.disk.restart(Stop::Kill);
        }
        let opened = open(&self.disk, self.options);
        assert_eq!(opened.report, []);
        self.log = recovered(&opened);
        self.store = Some(opened.store);
        assert!(self.log.first() == first || self.bodies.is_empty() || first == self.log.end());
    }

    /// Gives up all messages, of which only a short segment stays.
    fn retire(&mut self) {
        let end = self.log.end();
        let retired = self.log.retire(end, i64::MAX).unwrap();
        self.log.release(end);
        let kept = disk_bytes(&self.disk);
        if retired == Retired::Yes {
            assert!(self.log.first() == end && kept <= 128, "{kept} bytes are kept");
        }
        assert!(kept <= 65 << 10, "{kept} bytes are kept");
    }

    /// A full disk refuses or takes a batch, and leaves no trace of one that it refused.
    fn fail_once(&mut self) {
        self.disk.limit_space(Some(self.disk.used() + 100));
        let mut batch = BatchBuilder::default();
        batch.push(&[9; 500]);
        if self.log.append(&mut batch, Append::default()).is_ok() {
            self.bodies.push(vec![9; 500]);
        } else {
            assert_eq!(batch.count(), 1);
        }
        self.disk.limit_space(None);
        assert!(self.store.as_ref().unwrap().recover_space().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_of_messages(options in options(), steps in steps()) {
        let mut run = Run::new(options);
        steps.iter().for_each(|step| run.step(step));
        let found = read_all(&run.log, 5000);
        assert!(found.keys().copied().eq(run.log.first()..run.log.end()));
        for (seq, message) in found {
            assert_eq!(message.body, run.bodies[usize::try_from(seq).unwrap()]);
        }
    }
}
