//! Starts a script as another user or with resource limits.
//!
//! provisiond spawns itself as a launcher. The launcher switches to the user, sets the limits and execs the
//! script.
//!
//! `pre_exec` and the `uid` of `Command` are not used: with them a spawn copies the page tables of the whole
//! worker (`fork`), which takes 50 ms if the worker has grown large.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::unistd::{Gid, Uid, User, execve, setgid, setsid, setuid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{ScriptLimits, barrier::barrier, program};

/// The hidden subcommand of provisiond that calls [`exec`] with its arguments.
pub const SUBCOMMAND: &str = "launch-script";

/// The launcher's exit code if it could not start the script. Its stderr then begins with [`FAILED`].
pub const EXIT_CODE: u8 = 127;
/// Like [`EXIT_CODE`], if a retry cannot help.
pub const EXIT_CODE_LASTING: u8 = 126;
pub const FAILED: &str = "provisiond launch-script: ";

/// Stands for an absent argument.
const NONE: &str = "-";

/// The command that runs `script` as `user` within `limits`. The caller adds the arguments of the script.
pub fn command(launcher: &Path, user: Option<&User>, limits: ScriptLimits, script: &Path) -> Command {
    let number = |limit: Option<u64>| limit.map_or_else(|| NONE.to_owned(), |n| n.to_string());
    let mut command = Command::new(launcher);
    command
        .arg0("provisiond")
        .arg(SUBCOMMAND)
        .arg(user.map_or(NONE, |user| &user.name))
        .arg(number(limits.address_space))
        .arg(number(limits.open_files))
        .arg(number(limits.cpu_seconds))
        .arg(number(limits.processes))
        .arg(script);
    command
}

/// Replaces this process by the script. `args` are the arguments after [`SUBCOMMAND`]. `main` must call this
/// first, while the process has one thread.
///
/// # Errors
/// Returns only if it failed: the reason, for one line on stderr after [`FAILED`], and the exit code.
pub fn exec(args: impl IntoIterator<Item = OsString>) -> (String, u8) {
    match prepare(args.into_iter()) {
        Ok(script) => {
            let error = script.exec_with_retries();
            let code = if program::is_lasting(&error) { EXIT_CODE_LASTING } else { EXIT_CODE };
            (program::explain(Path::new(&script.path), &error), code)
        }
        Err(error) => {
            let code = if error.is::<Barred>() { EXIT_CODE_LASTING } else { EXIT_CODE };
            (format!("{error:#}"), code)
        }
    }
}

/// The user lacks permission for a file or directory that is needed to start the script.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
struct Barred(String, String);

/// The script that replaces the launcher.
struct Script {
    path: OsString,
    args: Vec<OsString>,
    /// The home directory of the user, if the launcher switches to one.
    home: Option<PathBuf>,
}

fn prepare(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<Script> {
    // A new session has no controlling terminal, so a script of another user cannot type into the shell that
    // started provisiond.
    setsid().context("cannot start a session of its own (setsid)")?;
    let user = args.next().context("the user is missing")?;
    for (resource, headroom) in
        [(Resource::As, 0), (Resource::Nofile, 0), (Resource::Cpu, 1), (Resource::Nproc, 0)]
    {
        limit(resource, &args.next().context("a limit is missing")?, headroom)?;
    }
    let path = args.next().context("the script is missing")?;
    let mut home = None;
    if user != OsStr::new(NONE) {
        let user = user.to_str().context("the user's name is not UTF-8")?;
        // The files are listed before the switch, by a user that can read them, and checked after it. Without
        // the check the kernel would start a script that the user may not read, and its interpreter would
        // report that in its own words.
        let files = program::start_files(Path::new(&path), &program::search_path(&[]));
        home = Some(switch_to(&find(user)?)?.dir.clone());
        if let Some(why) = barrier(&files, None) {
            return Err(Barred(Path::new(&path).display().to_string(), why).into());
        }
    }
    Ok(Script { path, args: args.collect(), home })
}

impl Script {
    /// Execs the script, and returns only on failure. It retries for a moment while another process has the
    /// file open for writing.
    fn exec_with_retries(&self) -> io::Error {
        let mut error = self.exec();
        for _ in 1..10 {
            if error.kind() != io::ErrorKind::ExecutableFileBusy {
                break;
            }
            sleep(Duration::from_millis(20));
            error = self.exec();
        }
        error
    }

    /// Execs the script once.
    ///
    /// It does not use `Command::exec`, which is execvp(3) and gives a file that the system cannot start to
    /// `/bin/sh`. A Python file without its `#!` line would run as shell commands, and an empty file would
    /// succeed.
    fn exec(&self) -> io::Error {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let try_exec = || -> io::Result<()> {
            let path = c_string(&self.path)?;
            let args = std::iter::once(&self.path).chain(&self.args).map(|arg| c_string(arg));
            let home = self.home.as_ref().map(|home| (OsString::from("HOME"), home.clone().into()));
            let env = env::vars_os().filter(|(name, _)| home.is_none() || name != "HOME").chain(home.clone());
            let env = env.map(|(name, value)| c_string(&[name.as_os_str(), &value].join(OsStr::new("="))));
            let (args, env) = (args.collect::<io::Result<Vec<_>>>()?, env.collect::<io::Result<Vec<_>>>()?);
            // Rust ignores SIGPIPE, and an ignored signal stays ignored after exec.
            sigpipe::reset();
            match execve(&path, &args, &env)? {}
        };
        try_exec().err().unwrap_or_else(|| io::Error::other("it did not start"))
    }
}

/// The program of this process. On Linux it is the same file, even if an upgrade has replaced it since.
pub fn own_program() -> anyhow::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("provisiond's own path is not known")
}

/// Looks up a user by name or by number.
pub fn find(name: &str) -> anyhow::Result<User> {
    let mut user = User::from_name(name);
    if let (Ok(None), Ok(number)) = (&user, name.parse()) {
        user = User::from_uid(Uid::from_raw(number));
    }
    user.with_context(|| format!("the user {name} could not be looked up"))?
        .ok_or_else(|| anyhow!("there is no user {name}"))
}

/// The groups of `user`.
pub fn groups_of(user: &User) -> anyhow::Result<Vec<Gid>> {
    #[cfg(not(target_vendor = "apple"))]
    {
        let name = std::ffi::CString::new(user.name.as_str())?;
        nix::unistd::getgrouplist(&name, user.gid)
            .with_context(|| format!("the groups of {} could not be looked up", user.name))
    }
    #[cfg(target_vendor = "apple")]
    Ok(vec![user.gid])
}

/// Sets a resource limit, but never above the limit in force.
///
/// The hard limit is higher than the soft limit by `headroom`: for CPU time the process then gets SIGXCPU
/// first, which says why it died.
fn limit(resource: Resource, value: &OsStr, headroom: u64) -> anyhow::Result<()> {
    if value == OsStr::new(NONE) {
        return Ok(());
    }
    let wanted: u64 = value.to_str().and_then(|text| text.parse().ok()).context("a limit is not a number")?;
    let max = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit =
        Rlimit { current: Some(wanted.min(max)), maximum: Some(wanted.saturating_add(headroom).min(max)) };
    setrlimit(resource, limit).with_context(|| format!("the limit {resource:?} = {wanted} could not be set"))
}

/// Switches to `user`. The groups come first, because only root can change them.
fn switch_to(user: &User) -> anyhow::Result<&User> {
    let switch = || -> nix::Result<()> {
        #[cfg(not(target_vendor = "apple"))]
        {
            let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
            nix::unistd::initgroups(&name, user.gid)?;
        }
        setgid(user.gid)?;
        setuid(user.uid)
    };
    match switch() {
        Ok(()) => Ok(user),
        Err(nix::Error::EPERM) => {
            bail!("running as {} is not allowed: script.user needs provisiond to run as root", user.name)
        }
        Err(error) => Err(error).with_context(|| format!("cannot switch to the user {}", user.name)),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::exit};

    use super::*;

    const VARIABLE: &str = "PROVISIOND_TEST_LAUNCH";

    /// Runs this test itself as the launcher of a shell that executes `lines`. Returns its exit code, its
    /// stdout without the lines of the test harness, and its stderr.
    fn launch(
        user: Option<&str>,
        limits: ScriptLimits,
        script: &str,
        lines: &str,
    ) -> (Option<i32>, String, String) {
        let user = user.map(|name| find(name).expect("a user"));
        let command = command(Path::new("unused"), user.as_ref(), limits, Path::new(script));
        let args: Vec<_> = command.get_args().skip(1).map(|arg| arg.to_str().expect("text")).collect();
        let output = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "runner::launch::tests::the_launcher_becomes_the_script", "--nocapture"])
            .env(VARIABLE, format!("{}\n-c\necho; echo begin; {lines}", args.join("\n")))
            .output()
            .expect("it runs");
        let stdout = String::from_utf8(output.stdout).expect("text");
        let stdout = stdout.split_once("begin\n").map_or("", |(_, rest)| rest).to_owned();
        (output.status.code(), stdout, String::from_utf8(output.stderr).expect("text"))
    }

    #[test]
    fn the_launcher_becomes_the_script() {
        if let Ok(args) = env::var(VARIABLE) {
            let (why, code) = exec(args.split('\n').map(OsString::from));
            eprintln!("{FAILED}{why}");
            exit(i32::from(code));
        }
        let limits = ScriptLimits {
            address_space: Some(1 << 30),
            open_files: Some(20),
            cpu_seconds: Some(7),
            processes: Some(5000),
        };
        let lines =
            "ulimit -v; ulimit -n; ulimit -t; grep -c 'processes *5000 *5000' /proc/self/limits; exit 5";
        let (code, stdout, _) = launch(None, limits, "/bin/sh", lines);
        assert_eq!((code, stdout.as_str()), (Some(5), "1048576\n20\n7\n1\n"));

        let (code, _, stderr) = launch(None, ScriptLimits::default(), "/no/such/script", "");
        assert_eq!(code, Some(EXIT_CODE.into()));
        assert!(stderr.contains("provisiond launch-script: /no/such/script: No such file"), "{stderr}");

        let dir = tempfile::tempdir().expect("a directory");
        let put = |name: &str, bytes: &[u8]| {
            let file = dir.path().join(name);
            std::fs::write(&file, bytes).expect("written");
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("allowed");
            file.to_str().expect("text").to_owned()
        };
        let binary = put("binary", b"\x01\0\x02");
        for (bytes, expected) in [
            (&b""[..], "it is empty"),
            (b"exit 0\n", "it has no #! line"),
            (b"\x01\0\x02", "not a program that Linux knows"),
            (format!("#!{binary}\nexit 0\n").as_bytes(), "the interpreter of its #! line"),
        ] {
            let (code, stdout, why) = launch(None, ScriptLimits::default(), &put("script", bytes), "");
            assert_eq!((code, stdout.as_str()), (Some(EXIT_CODE_LASTING.into()), ""), "not by sh: {why}");
            assert!(why.contains(expected), "{why}");
        }

        let lines = "id -un; id -Gn; echo $HOME; kill -PIPE $$";
        let (code, stdout, why) = launch(Some("nobody"), ScriptLimits::default(), "/bin/sh", lines);
        if nix::unistd::geteuid().is_root() {
            assert_eq!((code, stdout.as_str()), (None, "nobody\nnogroup\n/nonexistent\n"), "SIGPIPE ends it");
            let script = put("script", b"#!/bin/sh\n");
            let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(dir.path(), closed).expect("allowed");
            let (code, _, why) = launch(Some("nobody"), ScriptLimits::default(), &script, "");
            assert_eq!(code, Some(EXIT_CODE_LASTING.into()), "only an edit helps: {why}");
            let closed = format!("the user nobody may not search {} (", dir.path().display());
            assert!(why.contains(&closed), "{why}");
        } else {
            assert!(
                code == Some(EXIT_CODE.into()) && why.contains("needs provisiond to run as root"),
                "{why}"
            );
        }
    }
}
