//! Processes that end when the bench does, however that happens.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};

use crate::failure::Failure;

/// The hidden subcommand under which this program becomes another one that dies with its parent.
pub(crate) const LEASH: &str = "leash";

/// A running process; it is killed when this value goes.
pub(crate) struct Leashed {
    child: Child,
    pid: Pid,
}

/// Makes the command that runs `program` on a leash; arguments can be added.
///
/// # Errors
/// The system's refusal to say what this program is.
pub(crate) fn command(program: &Path) -> Result<Command, Failure> {
    let own = std::env::current_exe().map_err(Failure::io("find the own program"))?;
    let mut command = Command::new(own);
    command.arg(LEASH).arg(std::process::id().to_string()).arg(program);
    Ok(command)
}

impl Leashed {
    /// Starts what [`command`] has made.
    ///
    /// Must be called from the main thread: the process is bound to the life of the thread that
    /// starts it.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut running = running();
        let child = command.spawn().map_err(Failure::io("start a process"))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        running.push(pid);
        Ok(Self { child, pid })
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The process, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    /// The system's refusal.
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
        // Errors mean that it is gone already, which is what is wanted.
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

/// Processes that run. One is taken off the list only while the list is locked and before its id
/// can be given to another process.
fn running() -> MutexGuard<'static, Vec<Pid>> {
    static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every process; none can be started while the returned value lives.
pub(crate) fn kill_all() -> MutexGuard<'static, Vec<Pid>> {
    let running = running();
    for pid in running.iter() {
        // An error means that it is gone already.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    running
}

/// Becomes the program in `args`, after asking the kernel to kill it when the bench ends, however
/// that happens. `args` are the bench's process id, the program and the program's arguments.
///
/// # Errors
/// Always, if it returns at all.
pub(crate) fn become_leashed(args: &[String]) -> Failure {
    let [parent, program, args @ ..] = args else {
        return Failure::Usage("leash needs a process id and a program".into());
    };
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return Failure::os("ask to die with the parent")(errno);
    }
    // The parent may have died before it was asked for.
    if getppid().to_string() != *parent {
        return Failure::Server("the bench is gone".into());
    }
    let error = Command::new(program).args(args).exec();
    Failure::io(format!("execute {program}"))(error)
}
