//! Hang-ups: the reader of an output has gone away.

use std::{future::pending, os::fd::AsFd, thread};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::sync::oneshot;

/// Waits until the other end of `output` is closed, as the reader of a pipe does when it has read enough.
///
/// An output without another end, such as a file, never hangs up. A thread waits, because the descriptor may be shared
/// with other processes: making it non-blocking for the runtime would change it for them too. The thread is left behind
/// if the output outlives the caller's interest.
pub(crate) async fn hung_up(output: impl AsFd + Send + 'static) {
    let (tell, told) = oneshot::channel();
    let watcher = thread::Builder::new().name("hang-up".to_owned()).spawn(move || {
        if wait(&output).is_ok() {
            // The tool may be ending already.
            let _ = tell.send(());
        }
    });
    if watcher.is_err() || told.await.is_err() {
        // A descriptor that cannot be watched is noticed by the next write.
        pending::<()>().await;
    }
}

/// Blocks until `output` reports an error or a hang-up, which are reported without being asked for.
fn wait(output: &impl AsFd) -> Result<(), Errno> {
    loop {
        match poll(&mut [PollFd::new(output, PollFlags::empty())], None) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}
