//! Panics as values and as lines of the log.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use crate::log::{self, Logger};

/// How long a thread that panics waits for its lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(250);

/// Makes every panic a line of the log, in place of the text that Rust writes to stderr and waits for. The lines of its
/// backtrace follow if the environment asks for one.
pub fn log_panics(logger: Logger) {
    set_hook(Box::new(move |panic| {
        let current = thread::current();
        let thread = current.name().unwrap_or("without a name");
        logger.error(format_args!("thread {thread} {panic}"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            for line in backtrace.to_string().lines() {
                logger.error(format_args!("{line}"));
            }
        }
        // The process may be about to abort.
        log::flush_within(FLUSH_MAX);
    }));
}

/// A future whose panic becomes `Err` with the text of the panic.
///
/// Unwind safety is asserted: after a panic the inner future is never polled again, and whatever it shares
/// with others has to cope with a task that ended in the middle, as it has to when a task is dropped.
pub(crate) struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> CatchPanic<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(text_of(&*payload))),
        }
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}
