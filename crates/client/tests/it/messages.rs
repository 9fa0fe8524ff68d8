//! Handlers, and the answers to their messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use nsq_client::{Delay, Event, Message, MessageId, OnDrop};
use tokio::{sync::mpsc, time::Instant};

use crate::support::{
    Nsqd, Peer, connect, consumer, fail, fin, message_frame, ok, quick, req, soon, touch,
    with_hands,
};

#[tokio::test]
async fn success_finishes_and_failure_requeues_with_a_delay_that_grows_up_to_its_cap() {
    // M01
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1)
        .config(nsq_client::Config { max_attempts: 0, ..quick(1) })
        .handler(
            async |message: Message| {
                if message.attempts() == 1 { Ok(()) } else { Err("not the first") }
            },
        )
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    for (attempts, answer) in [
        (1, fin(7)),
        (3, req(7, 270_000)),
        (9, req(7, 810_000)),
        (10, req(7, 900_000)),
        (65_535, req(7, 900_000)),
        (0, req(7, 0)),
    ] {
        peer.message(7, attempts).await;
        peer.said(&[&answer]).await;
    }
}

#[tokio::test]
async fn an_answer_given_in_the_handler_is_the_only_one() {
    // M02, M11
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(1), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    for result in [Ok(()), Err("late")] {
        peer.message(1, 1).await;
        let hand = soon(hands.recv()).await.unwrap();
        hand.message.finish();
        hand.result.send(result).unwrap();
        peer.said(&[&fin(1)]).await;
        peer.message(2, 1).await;
        let hand = soon(hands.recv()).await.unwrap();
        hand.message.requeue(Duration::from_micros(1500));
        hand.result.send(result).unwrap();
        peer.said(&[&req(2, 2)]).await; // W03
        peer.says_nothing().await;
    }
}

#[tokio::test]
async fn a_message_kept_beyond_its_handler_is_answered_by_the_handlers_result() {
    // M02, M04
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(2), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2).await;
    let kept = soon(hands.recv()).await.unwrap();
    kept.result.send(Ok(())).unwrap();
    peer.said(&["RDY 2", &fin(1)]).await;
    kept.message.touch();
    kept.message.requeue(Delay::Auto);
    soon(hands.recv()).await.unwrap().end(Err("failed"));
    peer.said(&[&req(2, 90_000)]).await;
}

#[tokio::test]
async fn a_message_that_was_taken_over_is_answered_by_its_owner_only() {
    // M03
    let nsqd = Nsqd::start().await;
    let (take, mut taken) = mpsc::unbounded_channel();
    let consumer = consumer(3)
        .handler(move |message: Message| {
            let take = take.clone();
            async move {
                message.disable_auto_response();
                let result = if message.attempts() == 1 { Ok(()) } else { Err("failed") };
                take.send(message).unwrap();
                result
            }
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    peer.message(2, 2).await;
    peer.message(3, 1).await;
    peer.said(&["RDY 3"]).await;
    let mut next = async || soon(taken.recv()).await.unwrap();
    let (one, two, three) = (next().await, next().await, next().await);
    peer.says_nothing().await;
    two.finish();
    peer.said(&[&fin(2)]).await;
    one.touch();
    one.requeue(Duration::ZERO);
    peer.said(&[&touch(1), &req(1, 0)]).await; // M05
    drop(three);
    peer.said(&[&req(3, 90_000)]).await;
}

#[tokio::test]
async fn touch_asks_for_more_time() {
    // M04
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(1), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    let hand = soon(hands.recv()).await.unwrap();
    hand.message.touch();
    hand.message.touch();
    peer.said(&["RDY 1", &touch(1), &touch(1)]).await;
    hand.end(Ok(()));
    peer.said(&[&fin(1)]).await;
}

#[tokio::test]
async fn a_message_with_too_many_attempts_is_given_up_after_its_hook_is_through() {
    // M06, trace 10
    let nsqd = Nsqd::start().await;
    let (give_up, mut given_up) = mpsc::unbounded_channel();
    let (builder, mut hands) = with_hands(consumer(2), 1);
    let consumer = builder
        .on_give_up(move |message: Message| {
            let give_up = give_up.clone();
            async move {
                let (through, wait) = tokio::sync::oneshot::channel::<()>();
                give_up.send((message.attempts(), through)).unwrap();
                wait.await.unwrap();
            }
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 5).await;
    soon(hands.recv()).await.unwrap().end(Ok(()));
    peer.said(&["RDY 2", &fin(1)]).await;
    peer.message(2, 6).await;
    let (attempts, through) = soon(given_up.recv()).await.unwrap();
    assert_eq!(attempts, 6);
    peer.says_nothing().await;
    through.send(()).unwrap();
    peer.said(&[&fin(2)]).await;
    assert!(given_up.try_recv().is_err() && hands.try_recv().is_err());
    assert_eq!(consumer.stats().messages_given_up, 1);
}

#[tokio::test]
async fn a_message_given_up_without_a_hook_is_finished_unless_attempts_are_unlimited() {
    // M06
    for (max_attempts, answer) in [(5, fin(1)), (0, req(1, 540_000))] {
        let nsqd = Nsqd::start().await;
        let config = nsq_client::Config { max_attempts, ..quick(1) };
        let consumer = consumer(1).config(config).handler(fail).build().unwrap();
        let mut peer = connect(&consumer, &nsqd).await;
        peer.message(1, 6).await;
        peer.said(&["RDY 1", &answer]).await;
    }
}

#[tokio::test]
async fn a_hook_that_panics_does_not_lose_the_message() {
    let nsqd = Nsqd::start().await;
    let consumer =
        consumer(1).handler(ok).on_give_up(async |_| panic!("on purpose")).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 6).await;
    peer.said(&["RDY 1", &req(1, 540_000)]).await;
}

#[tokio::test]
async fn as_many_messages_are_handled_at_once_as_there_are_handlers() {
    // M07
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(10), 3);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=10).await;
    peer.said(&["RDY 10"]).await;
    let mut busy = Vec::new();
    for answered in 0..10 {
        while busy.len() < 3 && answered + busy.len() < 10 {
            busy.push(soon(hands.recv()).await.unwrap());
        }
        peer.says_nothing().await;
        assert!(hands.try_recv().is_err(), "more than three at once");
        let done: crate::support::InHand = busy.remove(0);
        let answer = fin(done.message.id().to_u64().unwrap());
        done.end(Ok(()));
        peer.said(&[&answer]).await;
    }
}

#[tokio::test]
async fn a_slow_message_does_not_hold_up_those_behind_it() {
    // M07: the worker that was fast so far has taken many ahead.
    let nsqd = Nsqd::start().await;
    let (slow, slowed) = tokio::sync::watch::channel(true);
    let consumer = consumer(2000)
        .concurrent_handlers(2, move |message: Message| {
            let mut slowed = slowed.clone();
            async move {
                if message.body() == "900" {
                    slowed.wait_for(|slow| !slow).await.unwrap();
                }
                Ok::<_, &str>(())
            }
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2000).await;
    peer.said(&["RDY 2000"]).await;
    let mut finished = Vec::new();
    while finished.len() < 1999 {
        finished.push(peer.command().await.unwrap());
    }
    assert!(!finished.contains(&fin(900)));
    slow.send(false).unwrap();
    peer.said(&[&fin(900)]).await;
}

#[tokio::test]
async fn different_handlers_share_the_messages() {
    // M08
    let nsqd = Nsqd::start().await;
    let (builder, mut first) = with_hands(consumer(2), 1);
    let (builder, mut second) = with_hands(builder, 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2).await;
    let (first, second) = (soon(first.recv()).await.unwrap(), soon(second.recv()).await.unwrap());
    let mut ids = [first.message.id(), second.message.id()];
    ids.sort();
    assert_eq!(ids, [MessageId::from_u64(1), MessageId::from_u64(2)]);
    first.end(Ok(()));
    second.end(Ok(()));
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_message_only() {
    // M09
    let nsqd = Nsqd::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let consumer = consumer(3)
        .handler(move |_: Message| {
            // The first panics before it returns a future, the second inside the future.
            let call = counted.fetch_add(1, Ordering::Relaxed);
            assert_ne!(call, 0, "on purpose");
            async move {
                tokio::task::yield_now().await;
                assert_ne!(call, 1, "on purpose");
                Ok::<_, &str>(())
            }
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=3).await;
    peer.said(&["RDY 3", &req(1, 90_000), &req(2, 90_000), &fin(3)]).await;
    assert_eq!(consumer.stats().handler_panics, 2);
}

#[tokio::test]
async fn a_dropped_message_is_treated_as_the_policy_says() {
    // M10
    for (policy, answer) in [
        (None, Some(req(1, 90_000))),
        (Some(OnDrop::Requeue(Delay::After(Duration::from_millis(5)))), Some(req(1, 5))),
        (Some(OnDrop::Finish), Some(fin(1))),
        (Some(OnDrop::LetTimeout), None),
    ] {
        let nsqd = Nsqd::start().await;
        let builder = match policy {
            Some(policy) => consumer(1).on_drop(policy),
            None => consumer(1),
        };
        let mut messages = builder.into_stream().unwrap();
        let mut peer = connect(messages.consumer(), &nsqd).await;
        peer.message(1, 1).await;
        drop(soon(messages.recv()).await.unwrap());
        peer.said(&["RDY 1"]).await;
        match answer {
            Some(answer) => peer.said(&[&answer]).await,
            None => peer.says_nothing().await,
        }
    }
}

#[tokio::test]
async fn a_message_tells_what_it_is_and_where_it_came_from() {
    // M14
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(1).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.raw(&message_frame(0xabc, 3, b"body")).await;
    let message = soon(messages.recv()).await.unwrap();
    assert_eq!(message.id().to_string(), "0000000000000abc");
    assert_eq!(&message.body()[..], b"body");
    assert_eq!(message.attempts(), 3);
    assert_eq!(message.timestamp_ns(), 1_000);
    assert_eq!(message.timestamp(), SystemTime::UNIX_EPOCH + Duration::from_micros(1));
    assert_eq!(message.nsqd_address(), nsqd.address());
    let shown = format!("{message:?}");
    assert!(shown.contains("body_bytes: 4") && !shown.contains("b\""), "{shown}");
    message.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_answered_once_under_load() {
    let nsqds = [Nsqd::start().await, Nsqd::start().await];
    let handled = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&handled);
    let consumer = consumer(200)
        .concurrent_handlers(8, move |message: Message| {
            let counted = Arc::clone(&counted);
            async move {
                if message.attempts().is_multiple_of(2) {
                    tokio::task::yield_now().await;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                if message.attempts() == 3 { Err("failed") } else { Ok(()) }
            }
        })
        .build()
        .unwrap();
    let mut tasks = Vec::new();
    for nsqd in nsqds {
        let mut peer = connect(&consumer, &nsqd).await;
        tasks.push(tokio::spawn(async move {
            let mut answered = vec![0; 5000];
            let mut open = 0;
            for number in 0..5000 {
                peer.message(number, u16::try_from(number % 4).unwrap()).await;
                open += 1;
                while open > 50 || (number == 4999 && open > 0) {
                    let command = peer.command().await.unwrap();
                    let mut words = command.split(' ');
                    match words.next().unwrap() {
                        "RDY" => {}
                        word => {
                            let id = usize::from_str_radix(words.next().unwrap(), 16).unwrap();
                            assert_eq!(word == "REQ", id % 4 == 3, "{command}");
                            answered[id] += 1;
                            open -= 1;
                        }
                    }
                }
            }
            assert!(answered.iter().all(|&times| times == 1));
        }));
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
    assert_eq!(handled.load(Ordering::Relaxed), 10_000);
}

/// Connects `messages` to an nsqd whose answer to IDENTIFY is `identify`, with its timeouts.
async fn connect_with(messages: &nsq_client::Messages, nsqd: &Nsqd, identify: &[u8]) -> Peer {
    let connecting = messages.consumer().connect_to_nsqd(nsqd.address());
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        peer.respond(identify).await;
        peer.said(&["SUB t c"]).await;
        peer.respond(b"OK").await;
        peer.said(&["RDY 1"]).await;
        peer
    };
    let (connected, peer) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
    peer
}

#[tokio::test]
async fn a_message_knows_how_long_nsqd_waits_for_its_answer() {
    // M12
    let seconds = Duration::from_secs;
    for (identify, asked, wait) in [
        (&br#"{"msg_timeout":20000,"max_msg_timeout":30000}"#[..], seconds(0), seconds(20)),
        (b"OK", seconds(7), seconds(7)),
        (b"OK", seconds(0), seconds(60)),
    ] {
        let nsqd = Nsqd::start().await;
        let config = nsq_client::Config { msg_timeout: asked, ..quick(1) };
        let mut messages = consumer(1).config(config).into_stream().unwrap();
        let mut peer = connect_with(&messages, &nsqd, identify).await;
        let before = Instant::now();
        peer.message(1, 1).await;
        let message = soon(messages.recv()).await.unwrap();
        let deadline = message.deadline();
        // To the millisecond, and early rather than late.
        let earliest = before + wait - Duration::from_millis(1);
        assert!(deadline >= earliest && deadline <= Instant::now() + wait, "{wait:?}");
        assert!(message.time_left() <= wait && message.time_left() > wait - seconds(1));
        message.finish();
    }
}

#[tokio::test]
async fn touching_moves_the_deadline_but_not_beyond_what_nsqd_allows() {
    // M12
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(1).into_stream().unwrap();
    let identify = br#"{"msg_timeout":1000,"max_msg_timeout":1020}"#;
    let mut peer = connect_with(&messages, &nsqd, identify).await;
    peer.message(1, 1).await;
    let message = soon(messages.recv()).await.unwrap();
    let first = message.deadline();
    while message.deadline() == first {
        message.touch();
        peer.said(&[&touch(1)]).await;
    }
    soon(async {
        while message.deadline() < first + Duration::from_millis(20) {
            message.touch();
            peer.said(&[&touch(1)]).await;
        }
    })
    .await;
    for _ in 0..20 {
        message.touch();
        peer.said(&[&touch(1)]).await;
    }
    assert_eq!(message.deadline(), first + Duration::from_millis(20));
    message.finish();
}

#[tokio::test]
async fn a_message_is_touched_while_work_on_it_goes_on() {
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(1).into_stream().unwrap();
    let identify = br#"{"msg_timeout":40,"max_msg_timeout":10000}"#;
    let mut peer = connect_with(&messages, &nsqd, identify).await;
    peer.message(1, 1).await;
    let message = soon(messages.recv()).await.unwrap();
    let work = async {
        peer.said(&[&touch(1), &touch(1), &touch(1)]).await;
        "done"
    };
    assert_eq!(soon(message.touch_while(work)).await, "done");
    message.finish();
    peer.said(&[&fin(1)]).await;
}

#[tokio::test]
async fn touching_ends_when_it_helps_no_more() {
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(1).into_stream().unwrap();
    let identify = br#"{"msg_timeout":40,"max_msg_timeout":40}"#;
    let mut peer = connect_with(&messages, &nsqd, identify).await;
    peer.message(1, 1).await;
    let message = soon(messages.recv()).await.unwrap();
    let work = async {
        while !message.time_left().is_zero() {
            tokio::task::yield_now().await;
        }
    };
    soon(message.touch_while(work)).await;
    assert_eq!(message.time_left(), Duration::ZERO);
    peer.says_nothing().await;
    message.finish();
    peer.said(&[&fin(1)]).await;
}

#[tokio::test]
async fn refused_answers_and_messages_given_up_are_events() {
    // M13, T02
    let nsqd = Nsqd::start().await;
    let consumer = consumer(2).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    let mut events = consumer.events();
    peer.message(1, 9).await;
    peer.said(&["RDY 2", &fin(1)]).await;
    let event = soon(events.recv()).await.unwrap();
    let Event::GaveUp { nsqd: from, id, attempts: 9 } = event else { panic!("{event:?}") };
    assert_eq!((from.as_str(), id), (nsqd.address(), MessageId::from_u64(1)));
    peer.error("E_FIN_FAILED FIN 0000000000000001 failed ID not in flight").await;
    let event = soon(events.recv()).await.unwrap();
    let Event::AnswerRefused { error, .. } = event else { panic!("{event:?}") };
    assert!(error.text().contains("0000000000000001"));
    drop(peer);
    let event = soon(events.recv()).await.unwrap();
    assert!(matches!(event, Event::Disconnected { .. }), "{event:?}");
    drop(consumer);
    soon(async { while events.recv().await.is_some() {} }).await;
}
