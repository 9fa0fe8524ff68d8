//! Long answers: collected from the registry in slices, made off the runtime, few at a time, and bounded.

use std::{sync::Arc, thread};

use nsq_broker::{
    Time,
    registry::{Place, Registry, Slice},
};
use nsq_daemon::http::{Error, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    directory::{Directory, STEP},
    limit::Limit,
};

/// The largest size of answers that are not counted while clients read them: hardly more than a connection needs anyway.
const UNCOUNTED_BYTES: usize = 64 << 10;

/// The unit in which unread answers are counted.
const UNIT_BYTES: usize = 1 << 10;

/// Makes a long answer when it is its turn.
///
/// # Errors
/// `ANSWER_TOO_BIG` when it is over `--max-answer-size`, and `TOO_MANY_ANSWERS` when clients have yet to read too
/// many others.
pub(super) async fn answer(
    directory: Arc<Directory>,
    make: impl FnOnce(&mut Gather<'_>) -> Result<Vec<u8>, Error> + Send + 'static,
) -> Result<Response, Error> {
    let turn = turn(&directory, &directory.turns.long).await?;
    answer_in_turn(directory, turn, make).await
}

/// As [`answer`], for the longest: one of them at a time, so that the others always have a turn.
pub(super) async fn debug_answer(
    directory: Arc<Directory>,
    make: impl FnOnce(&mut Gather<'_>) -> Result<Vec<u8>, Error> + Send + 'static,
) -> Result<Response, Error> {
    let _only = turn(&directory, &directory.turns.debug).await?;
    answer(directory, make).await
}

async fn turn(
    directory: &Directory,
    turns: &Arc<Semaphore>,
) -> Result<OwnedSemaphorePermit, Error> {
    if let Ok(turn) = Arc::clone(turns).try_acquire_owned() {
        return Ok(turn);
    }
    directory.metrics.reached.count(Limit::Answers, 1);
    Arc::clone(turns).acquire_owned().await.map_err(|_| Error::internal())
}

async fn answer_in_turn(
    directory: Arc<Directory>,
    turn: OwnedSemaphorePermit,
    make: impl FnOnce(&mut Gather<'_>) -> Result<Vec<u8>, Error> + Send + 'static,
) -> Result<Response, Error> {
    let work = move || {
        // Held to the end of the work, even if the client goes away before.
        let _turn = turn;
        let bytes_max = directory.options.answer_bytes_max;
        let mut gather = Gather { directory: &directory, bytes_left: bytes_max };
        let json = make(&mut gather)?;
        if json.len() > bytes_max {
            return Err(gather.too_big());
        }
        Ok(Response::json(counted(&directory, json)?))
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::internal())?
}

/// Counts a long answer among those that are in memory until clients have read them.
fn counted(directory: &Directory, json: Vec<u8>) -> Result<bytes::Bytes, Error> {
    if json.len() <= UNCOUNTED_BYTES {
        return Ok(json.into());
    }
    let units = u32::try_from(json.len().div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    let Ok(room) = Arc::clone(&directory.turns.unread).try_acquire_many_owned(units) else {
        directory.metrics.reached.count(Limit::Answers, 1);
        let line = format_args!("HTTP: clients have not read too many long answers");
        directory.clients_log.warn("refused answers", line);
        return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_ANSWERS"));
    };
    Ok(bytes::Bytes::from_owner(Unread { json, _room: room }))
}

/// An answer, counted until it is sent.
struct Unread {
    json: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// Collects the items of an answer, up to `--max-answer-size`.
pub(super) struct Gather<'a> {
    pub(super) directory: &'a Directory,
    bytes_left: usize,
}

impl Gather<'_> {
    /// Collects all slices, with a pause between two. `bytes` tells how much an item adds to the answer at least.
    pub(super) fn all<T>(
        &mut self,
        bytes: impl Fn(&T) -> usize,
        slice: impl Fn(&Registry, Place, usize, Time) -> Slice<T>,
    ) -> Result<Vec<T>, Error> {
        let (mut items, mut next) = (Vec::new(), Some(Place::default()));
        while let Some(from) = next {
            let part = self.directory.with(|registry, now| slice(registry, from, STEP, now));
            self.take(part.items.iter().map(&bytes).sum())?;
            items.extend(part.items);
            next = part.next;
            if next.is_some() {
                thread::yield_now();
            }
        }
        Ok(items)
    }

    /// Subtracts the size of an item from the bytes left for the answer.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Error> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(self.too_big()),
        }
    }

    fn too_big(&self) -> Error {
        let Directory { metrics, clients_log, options, .. } = self.directory;
        metrics.reached.count(Limit::AnswerSize, 1);
        let max = options.answer_bytes_max;
        let line = format_args!("HTTP: an answer is over --max-answer-size, {max} bytes");
        clients_log.warn("refused answers", line);
        Error::new(StatusCode::SERVICE_UNAVAILABLE, "ANSWER_TOO_BIG")
    }
}

#[cfg(test)]
mod tests {
    use nsq_daemon::log::Logger;

    use super::*;
    use crate::options::Options;

    #[test]
    fn long_answers_that_are_not_read_are_limited_and_short_ones_are_not() {
        let options = Options { answer_bytes_max: 1 << 20, ..Options::default() };
        let directory = Directory::new(options, Logger::discard(), 1, 2);
        let unread: Vec<_> =
            (0..4).map(|_| counted(&directory, vec![b' '; 1 << 20]).unwrap()).collect();
        let error = counted(&directory, vec![b' '; UNCOUNTED_BYTES + 1]).unwrap_err();
        assert_eq!(error.message, "TOO_MANY_ANSWERS");
        assert!(counted(&directory, vec![b' '; UNCOUNTED_BYTES]).is_ok());
        drop(unread);
        assert!(counted(&directory, vec![b' '; 1 << 20]).is_ok());
    }

    #[tokio::test]
    async fn a_long_answer_waits_for_its_turn_and_is_counted() {
        let directory = Arc::new(Directory::new(Options::default(), Logger::discard(), 1, 2));
        let turns = Arc::clone(&directory.turns.long).acquire_many_owned(2).await.unwrap();
        let answer = answer(Arc::clone(&directory), |_| Ok(b"{}".to_vec()));
        tokio::pin!(answer);
        tokio::select! {
            biased;
            _ = &mut answer => panic!("there is no turn"),
            () = std::future::ready(()) => {}
        }
        drop(turns);
        assert_eq!(answer.await.unwrap().body().as_ref(), b"{}");
        let reached = directory.metrics.reached.counts();
        let waited: Vec<_> = reached.filter(|(limit, _)| *limit == Limit::Answers).collect();
        assert_eq!(waited, [(Limit::Answers, 1)]);
    }
}
