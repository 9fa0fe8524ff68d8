//! The journal of a topic, which nsqd writes within a moment by itself.

use nsq_log::testing::Stop;

use crate::{machine::Machine, support::eventually};

#[test]
fn what_was_finished_stays_finished_once_the_journal_is_written() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "c", 100);
    server.client().publish_all("t", &["finished", "in flight"]);
    let messages = [consumer.message(), consumer.message()];
    consumer.fin(messages[0].id);
    // Nothing but the time that acknowledgements gather makes nsqd write.
    eventually(|| {
        let channel = machine.channel_after(Stop::Kill, "t", "c");
        channel.is_some_and(|channel| {
            let mut outstanding = channel.outstanding.iter().map(|it| it.range.clone());
            channel.cursor == 2 && outstanding.next() == Some(1..2) && outstanding.next().is_none()
        })
    });
    let server = machine.after(Stop::Kill).start(|_| ());
    let mut consumer = server.consumer("t", "c", 100);
    let again = consumer.message();
    assert_eq!(again.body, b"in flight");
    assert_eq!((again.id, again.timestamp_ns), (messages[1].id, messages[1].timestamp_ns));
    consumer.expect_nothing();
}

#[test]
fn an_ephemeral_channel_does_not_make_its_topic_forget_how_far_it_got() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "tail#ephemeral", 100);
    server.client().publish_all("t", &["1", "2", "3"]);
    consumer.finish_next(3);
    eventually(|| machine.topic_after(Stop::Kill, "t").is_some_and(|topic| topic.fanout == 3));
    let server = machine.after(Stop::Kill).start(|_| ());
    server.client().publish("t", b"4");
    let mut consumer = server.consumer("t", "tail#ephemeral", 100);
    assert_eq!(consumer.message().body, b"4");
    consumer.expect_nothing();
}
