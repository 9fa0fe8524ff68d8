use std::{ops::Range, time::Duration};

use nsq_broker::{ChannelStart, FanOut, Topic, TopicState};

use crate::support::seconds;

fn fan_out(range: Range<u64>) -> Option<FanOut> {
    Some(FanOut { range, deferred: Vec::new() })
}

#[test]
fn the_first_channel_gets_what_waited_and_later_ones_only_what_is_new() {
    let mut topic = Topic::new(0);
    assert_eq!(topic.publish(0..5, None), None);
    assert_eq!((topic.depth(), topic.end(), topic.fanout()), (5, 5, 0));
    assert_eq!(topic.add_channel(), ChannelStart { start: 0, fan_out: fan_out(0..5) });
    assert_eq!(topic.add_channel(), ChannelStart { start: 5, fan_out: None });
    assert_eq!(topic.publish(5..7, None), fan_out(5..7));
    assert_eq!(topic.depth(), 0);
}

#[test]
fn a_topic_that_lost_its_last_channel_holds_its_messages_again() {
    let mut topic = Topic::new(3);
    topic.add_channel();
    topic.add_channel();
    topic.remove_channel();
    assert_eq!(topic.publish(3..4, None), fan_out(3..4));
    topic.remove_channel();
    assert_eq!(topic.publish(4..6, None), None);
    assert_eq!(topic.add_channel(), ChannelStart { start: 4, fan_out: fan_out(4..6) });
}

#[test]
fn a_paused_topic_holds_its_messages() {
    let mut topic = Topic::new(0);
    topic.add_channel();
    topic.pause();
    assert!(topic.is_paused());
    assert_eq!(topic.publish(0..2, None), None);
    assert_eq!(topic.add_channel(), ChannelStart { start: 0, fan_out: None });
    assert_eq!(topic.unpause(), fan_out(0..2));
    assert_eq!(topic.unpause(), None);
    assert!(!topic.is_paused());
}

#[test]
fn a_first_channel_of_a_paused_topic_gets_the_backlog_after_the_pause() {
    let mut topic = Topic::new(0);
    topic.pause();
    topic.publish(0..2, None);
    assert_eq!(topic.add_channel(), ChannelStart { start: 0, fan_out: None });
    assert_eq!(topic.unpause(), fan_out(0..2));
}

#[test]
fn an_emptied_topic_drops_what_waits_and_nothing_else() {
    let mut topic = Topic::new(0);
    topic.publish(0..5, None);
    topic.publish(5..6, Some(seconds(1)));
    topic.publish(8..9, Some(seconds(2)));
    topic.empty();
    assert_eq!(topic.depth(), 0);
    assert_eq!(topic.add_channel(), ChannelStart { start: 6, fan_out: None });
    let deferred = vec![(8..9, seconds(2))];
    assert_eq!(topic.publish(6..8, None), Some(FanOut { range: 6..9, deferred }));
}

#[test]
fn messages_behind_a_gap_wait_until_it_is_filled() {
    let mut topic = Topic::new(0);
    topic.add_channel();
    assert_eq!(topic.publish(5..8, None), None);
    assert_eq!(topic.publish(2..5, None), None);
    assert_eq!(topic.publish(9..10, None), None);
    assert_eq!((topic.end(), topic.depth()), (0, 0));
    assert_eq!(topic.publish(0..2, None), fan_out(0..8));
    assert_eq!(topic.publish(8..9, None), fan_out(8..10));
    assert_eq!(topic.publish(3..9, None), None, "what was published is ignored");
}

#[test]
fn a_delay_starts_with_the_fan_out() {
    let mut topic = Topic::new(0);
    topic.publish(0..1, None);
    topic.publish(1..2, Some(seconds(5)));
    topic.publish(2..3, Some(seconds(5)));
    topic.publish(3..4, Some(Duration::ZERO));
    topic.publish(4..6, Some(seconds(7)));
    let deferred = vec![(1..3, seconds(5)), (4..6, seconds(7))];
    let expected = FanOut { range: 0..6, deferred };
    assert_eq!(topic.add_channel().fan_out, Some(expected));
    assert_eq!(topic.publish(6..7, None), fan_out(6..7));
}

#[test]
fn a_topic_comes_back_as_it_was() {
    let mut topic = Topic::new(10);
    topic.add_channel();
    topic.publish(10..12, None);
    topic.pause();
    topic.publish(12..14, Some(seconds(5)));
    topic.publish(20..21, Some(seconds(5)));
    let state = topic.state();
    let deferred = vec![(12..14, seconds(5))];
    let expected = TopicState { end: 14, fanout: 12, paused: true, channels: 1, deferred };
    assert_eq!(state, expected);
    let mut topic = Topic::recover(state);
    assert_eq!(topic.take_fan_out(), None);
    let deferred = vec![(12..14, seconds(5))];
    assert_eq!(topic.unpause(), Some(FanOut { range: 12..14, deferred }));
}

#[test]
fn a_recovered_topic_hands_its_channels_what_they_have_not_seen() {
    let state = TopicState { end: 9, fanout: 4, paused: false, channels: 2, deferred: Vec::new() };
    let mut topic = Topic::recover(state);
    assert_eq!(topic.take_fan_out(), fan_out(4..9));
    assert_eq!(topic.take_fan_out(), None);
}
