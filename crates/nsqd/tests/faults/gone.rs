//! A topic at the moment at which it goes: a log line that waits to be written holds its thread there.

use std::sync::{Arc, Condvar, Mutex};

use nsq_daemon::log::{Level, Logger, Sink};
use nsq_protocol::Command;
use nsqd::World;

use crate::support::{PATIENCE, Received, Server};

/// A log that stops at a line that says `deleting`, until it is let go.
#[derive(Clone, Default)]
struct HeldLog(Arc<(Mutex<Line>, Condvar)>);

#[derive(Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Awaited,
    Held,
    LetGo,
}

impl HeldLog {
    fn wait(&self) {
        let (line, changed) = &*self.0;
        let awaited = |line: &mut Line| *line == Line::Awaited;
        let waited = changed.wait_timeout_while(line.lock().unwrap(), PATIENCE, awaited);
        assert!(!waited.unwrap().1.timed_out(), "nothing was deleted");
    }

    fn let_go(&self) {
        *self.0.0.lock().unwrap() = Line::LetGo;
        self.0.1.notify_all();
    }
}

impl Sink for HeldLog {
    fn write_line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if text.contains("TOPIC(e#ephemeral): deleting") {
            let (state, changed) = &*self.0;
            let mut state = state.lock().unwrap();
            if *state == Line::Awaited {
                *state = Line::Held;
                changed.notify_all();
            }
            drop(changed.wait_while(state, |state| *state == Line::Held).unwrap());
        }
    }
}

#[test]
fn a_publish_to_an_ephemeral_topic_that_is_going_goes_to_the_next_one_of_its_name() {
    let log = HeldLog::default();
    let logger = Logger::with_sink("", Level::Info, log.clone());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::logging_to(logger, World::default(), folder, |_| ());
    server.client().publish("e#ephemeral", b"x");
    server.consumer("e#ephemeral", "c#ephemeral", 0).settle();
    log.wait();
    let mut producers = [server.client(), server.client()];
    for producer in &mut producers {
        producer.send(Command::Pub { topic: "e#ephemeral", body: b"x" });
    }
    // Enough for a publish that does not wait.
    (0..50).for_each(|_| drop(server.stats()));
    log.let_go();
    for producer in &mut producers {
        assert_eq!(producer.receive(), Received::Response("OK".to_owned()));
    }
}
