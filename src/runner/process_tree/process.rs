//! Children of this process that it did not start: what `/proc` says of them.

use std::{fs, io, sync::LazyLock, time::Duration};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use rustix::time::{ClockId, clock_gettime};

/// The variable that tells which call a process belongs to.
pub const CALL_ID: &str = "PROVISIONING_CALL_ID";

/// More of an environment is not looked at: ours comes first.
const ENVIRONMENT: usize = 256 * 1024;

/// A child that was adopted.
pub(super) struct Adopted {
    pub pid: Pid,
    pub group: Pid,
    session: Option<Pid>,
    state: char,
}

/// From now on what its descendants orphan becomes a child of this process.
#[cfg(target_os = "linux")]
pub(super) fn adopt() -> io::Result<()> {
    // What cannot be looked for must not be adopted either: nobody would reap it.
    fs::metadata("/proc/self/stat")?;
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn adopt() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What this thread has taken of a processor.
pub(super) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The children of this process; where the kernel lists them, only those that were adopted (and what the main thread
/// started).
pub(super) fn children() -> Vec<Adopted> {
    // The thread that adopts is the first.
    static LIST: LazyLock<String> = LazyLock::new(|| format!("/proc/self/task/{}/children", getpid()));
    if let Ok(listed) = fs::read_to_string(&*LIST) {
        return listed.split_whitespace().filter_map(look).collect();
    }
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| look(entry.file_name().to_str()?)).collect()
}

/// The process with this id, if it is a child of ours.
fn look(pid: &str) -> Option<Adopted> {
    // Of a process that is just going the kernel says -1.
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw);
    let pid = number(pid)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, brackets and blanks too.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = number(fields.next()?)?;
    let group = number(fields.next()?)?;
    let session = number(fields.next()?);
    (parent == getpid()).then_some(Adopted { pid, group, session, state })
}

/// None where its leader is beyond this container: the kernel then says 0, of which rustix's own `getsid` makes an invalid
/// [`Pid`].
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

    /// The value of [`CALL_ID`] in the environment that it was started with.
    pub(super) fn mark(&self) -> Option<String> {
        use io::Read;
        let mut environment = Vec::new();
        let file = fs::File::open(format!("/proc/{}/environ", self.pid)).ok()?;
        file.take(ENVIRONMENT as u64).read_to_end(&mut environment).ok()?;
        let value =
            |entry: &[u8]| entry.strip_prefix(CALL_ID.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
        environment.split(|byte| *byte == 0).find_map(value).and_then(|value| String::from_utf8(value).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// As in a container that was entered without `setsid`.
    #[test]
    fn the_own_session_may_be_led_from_elsewhere() {
        const INSIDE: &str = "PROVISIOND_TEST_INSIDE";
        if env::var_os(INSIDE).is_some() {
            assert_eq!(own_session(), None);
            println!("inside");
            return;
        }
        let inside = Command::new("unshare")
            .args(["--pid", "--fork"])
            .arg(env::current_exe().expect("this test"))
            .args(["--exact", "--nocapture"])
            .arg("runner::family::process::tests::the_own_session_may_be_led_from_elsewhere")
            .env(INSIDE, "1")
            .output();
        match inside {
            Ok(ran) if ran.status.success() => {
                assert!(String::from_utf8_lossy(&ran.stdout).contains("inside"), "{ran:?}");
            }
            Ok(ran) if ran.stdout.is_empty() => println!("skipped: unshare is not allowed here"),
            Ok(ran) => panic!("{ran:?}"),
            Err(error) => println!("skipped: there is no unshare ({error})"),
        }
    }
}
