//! The children of this process that it did not start itself, as `/proc` shows them.

use std::{fs, io, sync::LazyLock, time::Duration};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use rustix::time::{ClockId, clock_gettime};

/// The environment variable that identifies the call that a process belongs to.
pub const CALL_ID: &str = "PROVISIONING_CALL_ID";

/// How much of an environment is read. `Command` sorts the variables by name, so [`CALL_ID`] is near the
/// beginning.
const MAX_ENVIRONMENT_BYTES: usize = 256 * 1024;

/// A child that this process adopted.
pub(super) struct Adopted {
    pub pid: Pid,
    pub group: Pid,
    session: Option<Pid>,
    state: char,
}

/// Makes this process adopt the orphans of its descendants from now on.
#[cfg(target_os = "linux")]
pub(super) fn adopt() -> io::Result<()> {
    // Without `/proc`, adopted processes could not be found, and nobody would reap them.
    fs::metadata("/proc/self/stat")?;
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn adopt() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The CPU time that this thread has used.
pub(super) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The children of this process. Where the kernel lists children, these are only the adopted ones, and those
/// that the main thread started.
pub(super) fn children() -> Vec<Adopted> {
    // Orphans become children of the main thread.
    static LIST: LazyLock<String> = LazyLock::new(|| format!("/proc/self/task/{}/children", getpid()));
    if let Ok(listed) = fs::read_to_string(&*LIST) {
        return listed.split_whitespace().filter_map(read_child).collect();
    }
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| read_child(entry.file_name().to_str()?)).collect()
}

/// The process with the id `pid`, if it is a child of this process.
fn read_child(pid: &str) -> Option<Adopted> {
    // The kernel reports -1 for a process that is just ending.
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw);
    let pid = number(pid)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may contain any character, also brackets and blanks.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = number(fields.next()?)?;
    let group = number(fields.next()?)?;
    let session = number(fields.next()?);
    (parent == getpid()).then_some(Adopted { pid, group, session, state })
}

/// The session of this process. None if its leader is outside of this container: the kernel then reports 0,
/// from which rustix's `getsid` makes an invalid [`Pid`].
fn own_session() -> Option<Pid> {
    nix::unistd::getsid(None).ok().and_then(|session| Pid::from_raw(session.as_raw()))
}

impl Adopted {
    pub(super) fn is_dead(&self) -> bool {
        self.state == 'Z'
    }

    pub(super) fn in_other_session(&self) -> bool {
        self.session.is_some() && self.session != own_session()
    }

    pub(super) fn reap(&self) {
        waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
    }

    /// The value of [`CALL_ID`] in the environment that the process was started with.
    pub(super) fn call_id(&self) -> Option<String> {
        use io::Read;
        let mut environment = Vec::new();
        let file = fs::File::open(format!("/proc/{}/environ", self.pid)).ok()?;
        file.take(MAX_ENVIRONMENT_BYTES as u64).read_to_end(&mut environment).ok()?;
        let value =
            |entry: &[u8]| entry.strip_prefix(CALL_ID.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
        environment.split(|byte| *byte == 0).find_map(value).and_then(|value| String::from_utf8(value).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// The session leader is outside, as in a container that was entered without `setsid`.
    #[test]
    fn the_own_session_may_be_led_from_elsewhere() {
        const INSIDE: &str = "PROVISIOND_TEST_INSIDE";
        if env::var_os(INSIDE).is_some() {
            assert_eq!(own_session(), None);
            println!("inside");
            return;
        }
        let result = Command::new("unshare")
            .args(["--pid", "--fork"])
            .arg(env::current_exe().expect("this test"))
            .args(["--exact", "--nocapture"])
            .arg("runner::process_tree::process::tests::the_own_session_may_be_led_from_elsewhere")
            .env(INSIDE, "1")
            .output();
        match result {
            Ok(output) if output.status.success() => {
                assert!(String::from_utf8_lossy(&output.stdout).contains("inside"), "{output:?}");
            }
            Ok(output) if output.stdout.is_empty() => println!("skipped: unshare is not allowed here"),
            Ok(output) => panic!("{output:?}"),
            Err(error) => println!("skipped: there is no unshare ({error})"),
        }
    }
}
