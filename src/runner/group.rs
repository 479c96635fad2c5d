//! A process that leads a group of its own, and the end of all of them.
//!
//! The group is killed while its leader is still unreaped: until then the kernel gives the leader's
//! id, which is the group's, to nobody else, and the signal cannot meet a stranger. So the leader's
//! end is watched by SIGCHLD and a look that does not reap, and reaped last. A process that leaves
//! the group (`setsid`) is looked after by its [`ProcessTree`].

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    signal::unix::{self, SignalKind, signal},
    time::{sleep, timeout},
};

use super::process_tree::ProcessTree;

/// A process that was killed is gone at once, unless the kernel itself holds it (a dead NFS server).
const REAP_TIMEOUT: Duration = Duration::from_secs(2);

/// Another process may have the file open for writing for a moment: a deployment, or a fork in between.
const BUSY_TRIES: u32 = 10;
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(20);

/// A process group of ours. When it is dropped all of it is killed; tokio reaps the leader.
pub struct Group {
    leader: Child,
    id: Pid,
    children: unix::Signal,
    reaped: bool,
}

/// How the leader ended.
pub struct Ended {
    /// None: killed, and still not gone.
    pub status: Option<ExitStatus>,
    pub timed_out: bool,
}

impl Group {
    /// Starts `command`, which is, or at once becomes, the leader of a group of its own.
    pub async fn spawn(command: &mut Command, family: &ProcessTree) -> io::Result<Self> {
        // Before the start, so that no end is missed.
        let children = signal(SignalKind::child())?;
        let mut tries = 1;
        loop {
            match Self::start(command, family) {
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

    fn start(command: &mut Command, family: &ProcessTree) -> io::Result<(Child, Pid)> {
        let _starting = ProcessTree::starting();
        let leader = command.spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("it has no process id"))?;
        family.started(id);
        Ok((leader, id))
    }

    /// The leader's pipes; each can be taken once.
    pub fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.leader.stdin.take(), self.leader.stdout.take(), self.leader.stderr.take())
    }

    /// Waits until the leader ends, or after `limit` makes it end: TERM, and `grace` later KILL.
    /// Either way nothing of the group is left.
    pub async fn end(&mut self, limit: Duration, grace: Duration) -> Ended {
        let timed_out = timeout(limit, self.leader_ended()).await.is_err();
        if timed_out {
            self.signal(Signal::TERM);
            // A KILL follows in any case.
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

    /// Waits until the leader has ended; does not reap it.
    async fn leader_ended(&mut self) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while let Ok(None) = waitid(WaitId::Pid(self.id), look) {
            self.children.recv().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // There is no group where all of it has gone, which is what is wanted, or where the leader has not made it yet.
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
