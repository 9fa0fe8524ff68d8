//! A bounded queue of log lines for a reader that may be slow or stuck. One thread writes them, so that no other thread
//! waits for the reader. Lines that do not fit are dropped, counted and reported.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// The bytes that may wait to be written: ten thousand lines or so.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// The capacity that an empty queue keeps.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Lines are written in pieces of this size, which pipes take as a whole: those of two processes do not mix.
const WRITE_BYTES: usize = 4096;
/// The pause before a reader that is not ready is tried again. Only a stderr that another process has made
/// non-blocking asks for it.
const NOT_READY_PAUSE: Duration = Duration::from_millis(10);

/// Makes the line that reports how many were dropped.
pub(super) type Report = Box<dyn Fn(u64) -> String + Send>;

/// The lines that wait to be written.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that came after those in `lines` and did not fit.
    refused: u64,
    /// The writer has written everything and waits to be woken.
    is_idle: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.refused == 0
    }
}

impl Queue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn start(out: impl Write + Send + 'static, report: Report) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let writing = Arc::clone(&queue);
        let write = move || writing.write_all_to(LineWriter { out, is_torn: false }, &report);
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(queue)
    }

    /// Takes one whole line, or drops it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        // Once a line was refused, the report about it comes before any further one.
        if state.refused > 0 || state.lines.len() + line.len() > QUEUE_BYTES_MAX {
            state.refused += 1;
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        state.lines.extend_from_slice(line);
        // A burst wakes the writer once.
        if mem::take(&mut state.is_idle) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// The lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Waits until everything is written, or for so long. Returns whether everything is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let is_busy = |state: &mut State| !(state.is_idle && state.is_empty());
        let waited = self.drained.wait_timeout_while(self.lock(), within, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn write_all_to(&self, mut out: LineWriter<impl Write>, report: &Report) {
        let mut lines = Vec::new();
        // Lines lost by failed writes that were not reported yet.
        let mut lost = 0;
        loop {
            let refused = self.take(&mut lines);
            if lost > 0 && out.write(report(lost).as_bytes()).is_ok() {
                lost = 0;
            }
            if let Err(unwritten) = out.write(&lines) {
                self.dropped.fetch_add(unwritten.0, Relaxed);
                lost += unwritten.0;
            }
            let is_reported =
                refused == 0 || (lost == 0 && out.write(report(refused).as_bytes()).is_ok());
            if !is_reported {
                lost += refused;
            }
            lines.clear();
            lines.shrink_to(KEPT_BYTES_MAX);
        }
    }

    /// Waits for lines and takes them. Returns how many were refused after them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        while state.is_empty() {
            state.is_idle = true;
            self.drained.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_idle = false;
        mem::swap(&mut state.lines, lines);
        mem::take(&mut state.refused)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of lines that could not be written.
struct Unwritten(u64);

/// Writes whole lines.
struct LineWriter<W> {
    out: W,
    /// The last write has failed within a line.
    is_torn: bool,
}

impl<W: Write> LineWriter<W> {
    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.is_torn && self.write_piece(b"\n").is_ok() {
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece_bytes(rest));
            if let Err(written) = self.write_piece(piece) {
                let begins_line = written == 0 || rest[written - 1] == b'\n';
                self.is_torn |= !begins_line;
                let unwritten = rest[written..].iter().filter(|byte| **byte == b'\n');
                return Err(Unwritten(unwritten.count() as u64));
            }
            rest = after;
        }
        Ok(())
    }

    /// Writes all bytes, or returns how many were written before it failed.
    fn write_piece(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => return Err(written),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(NOT_READY_PAUSE);
                }
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

/// The bytes of the whole lines at the front that make up one piece; of one line if it is longer.
fn piece_bytes(lines: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let within = &lines[..lines.len().min(WRITE_BYTES)];
    let last = within.iter().rposition(is_end);
    last.or_else(|| lines.iter().position(is_end)).map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Far more than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A reader that blocks on each write until the test has sent its result. The test receives every piece written.
    struct Reader {
        pieces: mpsc::Sender<String>,
        results: mpsc::Receiver<io::Result<usize>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A test that has ended leaves the thread behind.
            let _ = self.pieces.send(String::from_utf8_lossy(bytes).into_owned());
            let result = self.results.recv().unwrap_or(Ok(usize::MAX));
            result.map(|count| count.min(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        queue: Arc<Queue>,
        pieces: mpsc::Receiver<String>,
        results: mpsc::Sender<io::Result<usize>>,
    }

    impl Test {
        fn start() -> Self {
            let (pieces, got) = mpsc::channel();
            let (allow, results) = mpsc::channel();
            let report: Report = Box::new(|count| format!("{count} dropped\n"));
            let queue = Queue::start(Reader { pieces, results }, report).unwrap();
            Self { queue, pieces: got, results: allow }
        }

        /// The next piece, of which the reader then takes everything.
        fn next(&self) -> String {
            self.next_with(Ok(usize::MAX))
        }

        fn next_with(&self, result: io::Result<usize>) -> String {
            let piece = self.pieces.recv_timeout(PATIENCE).unwrap();
            self.results.send(result).unwrap();
            piece
        }
    }

    #[test]
    fn lines_are_written_in_order_and_several_at_a_time() {
        let test = Test::start();
        test.queue.push(b"1\n");
        let first = test.pieces.recv_timeout(PATIENCE).unwrap();
        test.queue.push(b"2\n");
        test.queue.push(b"3\n");
        test.results.send(Ok(usize::MAX)).unwrap();
        assert_eq!((first.as_str(), test.next().as_str()), ("1\n", "2\n3\n"));
        assert!(test.queue.flush(PATIENCE));
        assert_eq!(test.queue.dropped(), 0);
    }

    #[test]
    fn a_stuck_reader_costs_lines_that_are_counted_and_reported_in_their_place() {
        let test = Test::start();
        test.queue.push(b"first\n");
        let stuck = test.pieces.recv_timeout(PATIENCE).unwrap();
        assert_eq!(stuck, "first\n");
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..1024 + 7 {
            test.queue.push(&line);
        }
        // It would fit, and would hide that others before it are missing.
        test.queue.push(b"short\n");
        assert_eq!(test.queue.dropped(), 8);
        assert!(!test.queue.flush(Duration::ZERO));
        test.results.send(Ok(usize::MAX)).unwrap();
        for _ in 0..256 {
            assert_eq!(test.next(), String::from_utf8(line.repeat(4)).unwrap());
        }
        assert_eq!(test.next(), "8 dropped\n");
        test.queue.push(b"works\n");
        assert_eq!(test.next(), "works\n");
        assert!(test.queue.flush(PATIENCE));
        assert_eq!(test.queue.dropped(), 8);
    }

    #[test]
    fn a_piece_ends_where_a_line_ends() {
        let test = Test::start();
        test.queue.push(b"1\n");
        test.pieces.recv_timeout(PATIENCE).unwrap();
        let (half, long) = ("h".repeat(WRITE_BYTES / 2), "l".repeat(WRITE_BYTES * 2));
        for line in [&half, &half, &long, "end"] {
            test.queue.push(format!("{line}\n").as_bytes());
        }
        test.results.send(Ok(usize::MAX)).unwrap();
        for piece in [&half, &half, &long, "end"] {
            assert_eq!(test.next(), format!("{piece}\n"));
        }
    }

    #[test]
    fn a_failed_write_is_reported_once_writing_works_and_leaves_no_torn_line() {
        let test = Test::start();
        test.queue.push(b"abc\n");
        assert_eq!(test.next_with(Ok(2)), "abc\n");
        assert_eq!(test.next_with(Err(io::ErrorKind::StorageFull.into())), "c\n");
        assert!(test.queue.flush(PATIENCE));
        assert_eq!(test.queue.dropped(), 1);
        test.queue.push(b"def\n");
        assert_eq!(test.next(), "\n");
        assert_eq!(test.next(), "1 dropped\n");
        assert_eq!(test.next(), "def\n");
        assert!(test.queue.flush(PATIENCE));
        assert_eq!(test.queue.dropped(), 1);
    }

    #[test]
    fn a_reader_that_is_not_ready_is_tried_again() {
        let test = Test::start();
        test.queue.push(b"abc\n");
        assert_eq!(test.next_with(Err(io::ErrorKind::WouldBlock.into())), "abc\n");
        assert_eq!(test.next_with(Err(io::ErrorKind::Interrupted.into())), "abc\n");
        assert_eq!(test.next(), "abc\n");
        assert!(test.queue.flush(PATIENCE));
        assert_eq!(test.queue.dropped(), 0);
    }
}
