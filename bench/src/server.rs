//! Server processes: started fresh for each run, measured from outside, gone at the end.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    thread,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    failure::Failure,
    http,
    leash::{self, Leashed},
    limit::Limit,
    scratch::{self, Scratch},
    target::{Kind, Target},
};

/// Bytes of either end of a server's log that are shown when a run fails.
const LOG_END_BYTES: usize = 300;

/// Messages that the memory queue has room for beyond those of the workload.
const MEMORY_QUEUE_MARGIN: usize = 10_000;

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

impl Spec {
    /// Describes the nsqd at `path`.
    ///
    /// # Errors
    /// The system's refusal, for instance when there is no such file.
    pub(crate) fn nsqd(name: &str, path: &str) -> Result<Self, Failure> {
        let program = fs::canonicalize(path).map_err(Failure::io(format!("find {path}")))?;
        Ok(Self::new(name, Kind::Nsqd, program))
    }

    /// Describes the null server, which is this program.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn null() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("find the own program"))?;
        Ok(Self::new("null", Kind::Null, program))
    }

    fn new(name: &str, kind: Kind, program: PathBuf) -> Self {
        let (name, args, host) = (name.to_owned(), Vec::new(), Ipv4Addr::LOCALHOST);
        Self { name, kind, program, args, host }
    }
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
        scratch::remove(&self.directory);
    }
}

/// Returns the flags for a memory queue that holds `messages`.
pub(crate) fn memory_queue_for(messages: usize) -> [String; 2] {
    ["-mem-queue-size".to_owned(), (messages + MEMORY_QUEUE_MARGIN).to_string()]
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
