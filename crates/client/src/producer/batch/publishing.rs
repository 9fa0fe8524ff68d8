//! The task that publishes batches when they are due; it sleeps while nothing is buffered.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use nsq_protocol::TopicName;
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{BatchTarget, Batcher, buffers::Batch};
use crate::sync::lock;

/// Publishes batches until the producer is closed and nothing is left.
pub(super) async fn run(batcher: AbandonOnDrop) {
    let batcher = &batcher.0;
    let mut in_flight: Vec<InFlight> = Vec::new();
    loop {
        let hurry = batcher.waiting_for_room.load(Ordering::Relaxed) > 0;
        let due = lock(&batcher.state).buffers.take_due(Instant::now(), hurry);
        if due.over {
            return;
        }
        for (topic, batch) in due.batches {
            in_flight.push(Box::pin(publish(batcher.target.clone(), topic, batch)));
        }
        select! {
            biased;
            (topic, room) = next_completed(&mut in_flight) => {
                batcher.room.add_permits(room);
                lock(&batcher.state).buffers.complete(&topic);
            }
            () = batcher.wake.notified() => {}
            () = sleep_until_some(due.next_at), if due.next_at.is_some() => {}
        }
    }
}

/// Fails what is buffered however the task ends, even before it has run, so that no publisher waits in vain.
pub(super) struct AbandonOnDrop(pub(super) Arc<Batcher>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.end();
        lock(&self.0.state).buffers.abandon();
    }
}

/// A batch that is being published; resolves with its topic and the room that it gives back.
type InFlight = Pin<Box<dyn Future<Output = (TopicName, usize)> + Send>>;

async fn publish(target: BatchTarget, topic: TopicName, batch: Batch) -> (TopicName, usize) {
    let outcome = target.publish(topic.as_str(), &batch.bodies()).await;
    (topic, batch.settle(&outcome))
}

/// Polls all batches in flight and removes the first that completes.
async fn next_completed(in_flight: &mut Vec<InFlight>) -> (TopicName, usize) {
    poll_fn(|cx| {
        for i in 0..in_flight.len() {
            if let Poll::Ready(completed) = in_flight[i].as_mut().poll(cx) {
                drop(in_flight.swap_remove(i));
                return Poll::Ready(completed);
            }
        }
        Poll::Pending
    })
    .await
}

async fn sleep_until_some(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
