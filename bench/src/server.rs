//! Server processes: started fresh for each run, measured from outside, gone at the end.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal},
};

use crate::{
    failure::Failure,
    http,
    leash::{self, Leashed},
    limit::Limit,
    target::{Kind, Target},
};

/// Bytes of either end of a server's log that are shown when a run fails.
const LOG_END_BYTES: usize = 300;

/// A server to compare, as the command line names it.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The heading of its column.
    pub(crate) name: String,
    /// What kind of server it is.
    pub(crate) kind: Kind,
    /// The program; for the null server this program itself.
    pub(crate) program: PathBuf,
    /// Flags in addition to those of the workload.
    pub(crate) args: Vec<String>,
    /// The address it listens on for protocol V2: loopback, or unspecified for all of `127.0.0.0/8`.
    pub(crate) host: Ipv4Addr,
}

/// The directory that holds the data of the servers, removed at the end.
pub(crate) struct Scratch {
    root: PathBuf,
    runs: u64,
}

impl Scratch {
    /// Makes a directory of its own below `parent`.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn create(parent: &Path) -> Result<Self, Failure> {
        let root = parent.join(format!("nsq-bench-{}", std::process::id()));
        fs::create_dir_all(&root).map_err(Failure::io(format!("create {}", root.display())))?;
        Ok(Self { root, runs: 0 })
    }

    /// Removes everything and ends the program when it is interrupted, servers first.
    ///
    /// Must be called before any thread is started, since it blocks the signals for all of them.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn clean_up_when_interrupted(&self) -> Result<(), Failure> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().map_err(Failure::os("block signals"))?;
        let root = self.root.clone();
        thread::spawn(move || {
            let signal = signals.wait();
            let _held = leash::kill_all();
            remove(&root);
            end(128 + signal.map_or(0, |signal| signal as i32))
        });
        Ok(())
    }

    /// Makes another directory in it.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn next(&mut self) -> Result<PathBuf, Failure> {
        self.runs += 1;
        let directory = self.root.join(self.runs.to_string());
        fs::create_dir(&directory)
            .map_err(Failure::io(format!("create {}", directory.display())))?;
        Ok(directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// A killed server may still be creating files for a moment, so removal is tried again.
fn remove(directory: &Path) {
    for _ in 0..50 {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

#[expect(clippy::exit, reason = "an interrupted benchmark has no caller to return to")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}

/// A running server; it is killed and its data removed when this value goes.
pub(crate) struct Server {
    process: Leashed,
    directory: PathBuf,
    /// Where it is and what can be measured.
    pub(crate) target: Target,
}

impl Server {
    /// Starts a server with a data directory of its own on free ports and waits until it answers.
    ///
    /// Must be called from the main thread: the server is bound to the life of the thread that
    /// starts it.
    ///
    /// # Errors
    /// [`Failure::Server`] with the end of its log when it does not come up.
    pub(crate) fn start(
        spec: &Spec,
        workload_args: &[String],
        scratch: &mut Scratch,
        limit: &Limit,
    ) -> Result<Self, Failure> {
        let directory = scratch.next()?;
        let mut server = Self::spawn(spec, workload_args, directory)?;
        match server.await_ready(limit) {
            Ok(()) => Ok(server),
            Err(failure) => {
                Err(Failure::Server(format!("it did not come up: {failure}{}", server.log_ends())))
            }
        }
    }

    fn spawn(spec: &Spec, workload_args: &[String], directory: PathBuf) -> Result<Self, Failure> {
        let data = directory.join("data");
        fs::create_dir(&data).map_err(Failure::io(format!("create {}", data.display())))?;
        let [listen, http] = free_addresses(spec.host).map_err(Failure::io("find free ports"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port()));
        let log = |name| File::create(directory.join(name)).map_err(Failure::io("create a log"));
        let mut command = leash::command(&spec.program)?;
        match spec.kind {
            Kind::Null => {
                command.args(["null", "--address"]).arg(address.to_string());
            }
            Kind::Nsqd => {
                command.args(["-tcp-address", &listen.to_string()]);
                command.args(["-http-address", &http.to_string()]);
                command.arg("-data-path").arg(&data).arg("-log-level=warn");
                command.args(workload_args).args(&spec.args);
            }
        }
        command.stdin(Stdio::null()).stdout(log("stdout")?).stderr(log("stderr")?);
        let process = Leashed::start(&mut command)?;
        let target = Target {
            kind: spec.kind,
            address,
            http: (spec.kind == Kind::Nsqd).then_some(http),
            pid: Some(process.pid()),
            data: (spec.kind == Kind::Nsqd).then_some(data),
        };
        Ok(Self { process, directory, target })
    }

    fn await_ready(&mut self, limit: &Limit) -> Result<(), Failure> {
        loop {
            if let Some(status) = self.process.exited()? {
                return Err(Failure::Exited(status));
            }
            let answers = TcpStream::connect(self.target.address).is_ok()
                && self.target.http.is_none_or(|at| http::request(at, "GET", "/ping").is_ok());
            if answers {
                return Ok(());
            }
            limit.check("waiting for the server to come up")?;
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns how the server's log begins and ends, in words to append to a failure.
    pub(crate) fn log_ends(&self) -> String {
        let read = |name| fs::read(self.directory.join(name)).unwrap_or_default();
        let log = [read("stdout"), read("stderr")].concat();
        let log = String::from_utf8_lossy(&log);
        ends(&log).map_or_else(String::new, |text| format!("; its log: {text}"))
    }
}

/// Shortens a log to one line with its beginning and its end; `None` when nothing is in it.
pub(crate) fn ends(log: &str) -> Option<String> {
    let text = log.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = |at| text.floor_char_boundary(at);
    if text.is_empty() {
        None
    } else if text.len() <= 2 * LOG_END_BYTES {
        Some(text)
    } else {
        let (begin, end) = (cut(LOG_END_BYTES), cut(text.len() - LOG_END_BYTES));
        Some(format!("{} [...] {}", &text[..begin], &text[end..]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.end();
        remove(&self.directory);
    }
}

fn free_addresses(host: Ipv4Addr) -> io::Result<[SocketAddr; 2]> {
    let listen = |host| TcpListener::bind((host, 0));
    let (one, two) = (listen(host)?, listen(Ipv4Addr::LOCALHOST)?);
    Ok([one.local_addr()?, two.local_addr()?])
}

/// Allows this process, and so the servers, as many open files as the system lets it.
///
/// # Errors
/// The system's refusal.
pub(crate) fn raise_open_files() -> Result<(), Failure> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .map_err(Failure::os("raise the limit of open files"))
}
