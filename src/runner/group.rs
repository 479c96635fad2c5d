//! A process that leads its own process group, and the end of the whole group.
//!
//! The group is killed before its leader is reaped. Until then the kernel does not give the leader's id,
//! which is also the id of the group, to another process, so the signal cannot reach an unrelated process.
//! Therefore SIGCHLD and a `waitid` that does not reap show the end of the leader, and the leader is reaped
//! last. [`ProcessTree`] ends the processes that leave the group (`setsid`).

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    signal::unix::{self, SignalKind, signal},
    time::{sleep, timeout},
};

use super::process_tree::ProcessTree;

/// How long to wait for a killed process to end. It ends at once, unless the kernel itself blocks it (such as
/// on a dead NFS server).
const REAP_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a start is tried while another process has the file open for writing: a deployment, or a child
/// between `fork` and `exec`.
const BUSY_TRIES: u32 = 10;
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(20);

/// A process group that this process started. Dropping it kills all of the group; tokio reaps the leader.
pub struct Group {
    leader: Child,
    id: Pid,
    children: unix::Signal,
    reaped: bool,
}

/// How the leader ended.
pub struct Ended {
    /// None if the leader was killed and still has not ended.
    pub status: Option<ExitStatus>,
    pub timed_out: bool,
}

impl Group {
    /// Starts `command`, which leads its own group: from its start, or as soon as the launcher has called
    /// `setsid`.
    pub async fn spawn(command: &mut Command, tree: &ProcessTree) -> io::Result<Self> {
        // Registered before the start, so that no SIGCHLD is missed.
        let children = signal(SignalKind::child())?;
        let mut tries = 1;
        loop {
            match Self::start(command, tree) {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                    tries += 1;
                    sleep(BUSY_RETRY_DELAY).await;
                }
                started => {
                    let (leader, id) = started?;
                    return Ok(Self { leader, id, children, reaped: false });
                }
            }
        }
    }

    fn start(command: &mut Command, tree: &ProcessTree) -> io::Result<(Child, Pid)> {
        let _starting = ProcessTree::starting();
        let leader = command.spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("it has no process id"))?;
        tree.started(id);
        Ok((leader, id))
    }

    /// The leader's pipes. Each can be taken once.
    pub fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.leader.stdin.take(), self.leader.stdout.take(), self.leader.stderr.take())
    }

    /// Waits until the leader ends. After `limit` it sends SIGTERM, and `grace` later SIGKILL. In both cases
    /// nothing is left of the group.
    pub async fn end(&mut self, limit: Duration, grace: Duration) -> Ended {
        let timed_out = timeout(limit, self.leader_ended()).await.is_err();
        if timed_out {
            self.signal(Signal::TERM);
            // SIGKILL follows in any case.
            timeout(grace, self.leader_ended()).await.ok();
        }
        self.signal(Signal::KILL);
        self.reaped = true;
        let status = match self.leader.try_wait() {
            Ok(Some(status)) => Some(status),
            _ => timeout(REAP_TIMEOUT, self.leader.wait()).await.ok().and_then(Result::ok),
        };
        Ended { status, timed_out }
    }

    /// Waits until the leader has ended, without reaping it.
    async fn leader_ended(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while let Ok(None) = waitid(WaitId::Pid(self.id), options) {
            self.children.recv().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // The group does not exist if all of it has ended, or if the launcher has not created it yet.
        if kill_process_group(self.id, signal).is_err() && !self.reaped {
            kill_process(self.id, signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
        }
    }
}
