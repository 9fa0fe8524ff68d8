//! Processes that end with the bench, however it ends.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};

use crate::failure::Failure;

/// The hidden subcommand under which this program becomes another one that dies with its parent.
pub(crate) const LEASH: &str = "leash";
/// Stands for the limit of open files that the bench has itself.
const INHERITED: &str = "inherited";

/// A running process, killed on drop.
pub(crate) struct Leashed {
    child: Child,
    pid: Pid,
}

/// Returns the command that runs `program` on a leash; arguments can be added.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn command(program: &Path) -> Result<Command, Failure> {
    command_with_files(program, None)
}

/// Like [`command`], for a program that may open only so many files, if a number is given.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn command_with_files(
    program: &Path,
    open_files: Option<u64>,
) -> Result<Command, Failure> {
    let own = std::env::current_exe().map_err(Failure::io("find the own program"))?;
    let open_files = open_files.map_or_else(|| INHERITED.to_owned(), |files| files.to_string());
    let mut command = Command::new(own);
    command.arg(LEASH).arg(std::process::id().to_string()).arg(open_files).arg(program);
    Ok(command)
}

impl Leashed {
    /// Starts a command made by [`command`].
    ///
    /// Must be called from the main thread: the process is bound to the life of the thread that
    /// starts it.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut running = running();
        let child = command.spawn().map_err(Failure::io("start a process"))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        running.push(pid);
        Ok(Self { child, pid })
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the process, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns how the process ended, if it has.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let mut running = running();
        let status = self.child.try_wait().map_err(Failure::io("look after a process"))?;
        if status.is_some() {
            running.retain(|pid| *pid != self.pid);
        }
        Ok(status)
    }

    /// Kills the process, if it still runs.
    pub(crate) fn end(&mut self) {
        let mut running = running();
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        running.retain(|pid| *pid != self.pid);
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.end();
    }
}

/// Running processes. A process is reaped only while the list is locked, so that no id in it can
/// belong to another process.
fn running() -> MutexGuard<'static, Vec<Pid>> {
    static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every process. None can be started while the returned guard is held.
pub(crate) fn kill_all() -> MutexGuard<'static, Vec<Pid>> {
    let running = running();
    for pid in running.iter() {
        // An error means that it has already ended.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    running
}

/// Becomes the program in `args`, after asking the kernel to kill it when the bench ends. `args`
/// are the bench's process id, the limit of open files, the program, and the program's arguments.
///
/// # Errors
/// Always returns an error, if it returns.
pub(crate) fn become_leashed(args: &[String]) -> Failure {
    let [parent, open_files, program, args @ ..] = args else {
        return Failure::Usage("leash needs a process id, a number of files and a program".into());
    };
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return Failure::os("ask to die with the parent")(errno);
    }
    // The parent may have died before the request.
    if getppid().to_string() != *parent {
        return Failure::Server("the bench is gone".into());
    }
    if let Ok(files) = open_files.parse()
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, files, files)
    {
        return Failure::os("lower the limit of open files")(errno);
    }
    let error = Command::new(program).args(args).exec();
    Failure::io(format!("execute {program}"))(error)
}
