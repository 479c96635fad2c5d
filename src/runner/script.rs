//! The script task: one process group, with the event on its stdin, and with limits on time and output.

mod exit_status;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    env,
    ffi::OsString,
    future::pending,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use nix::unistd::{User, geteuid};
use tokio::{
    io::AsyncWriteExt,
    join,
    process::{ChildStderr, ChildStdin, ChildStdout, Command},
    select,
    time::timeout,
};

use super::{
    Call, ScriptLimits, ScriptSettings,
    group::{Ended, Group},
    launch,
    locate::{NotRunnable, ScriptRules},
    output::Capture,
    process_tree::{CALL_ID, ProcessTree, reap_all},
    program,
    shortage::{is_shortage, not_called},
    working_dir::WorkingDirs,
};
use crate::domain::{
    outcome::{FailureKind, KEPT_BYTES, Outcome},
    task::ScriptPath,
};

/// How long the pipes are read after the group is dead. What the group wrote is in the pipes. Only a process
/// that left the group can still hold a pipe open, and it is about to be killed.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

pub struct ScriptRunner {
    rules: ScriptRules,
    env: Vec<(String, OsString)>,
    kill_grace: Duration,
    launcher: Option<Launcher>,
    dirs: Arc<WorkingDirs>,
}

/// Set if `script.user` or `script.limits` is configured.
struct Launcher {
    program: PathBuf,
    user: Option<User>,
    limits: ScriptLimits,
}

/// The system did not start the file.
#[derive(Debug, thiserror::Error)]
#[error("the system did not start the script")]
struct Unstarted(#[source] io::Error);

/// The script has no working directory. That does not depend on the script.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the working directory of the script")]
struct NoWorkingDir;

/// A script that has ended, with its output.
struct Finished {
    ended: Ended,
    stdout: Capture<ChildStdout>,
    stderr: Capture<ChildStderr>,
}

impl ScriptRunner {
    pub fn new(settings: ScriptSettings) -> anyhow::Result<Self> {
        let ScriptSettings { roots, owners, env, kill_grace, user, limits } = settings;
        let rules = ScriptRules::new(&roots, &owners, user.as_deref())?.with_env(&env);
        let env = environment(&env)?;
        let user = user.map(|name| launch::find(&name)).transpose().context("script.user")?;
        // If this process already runs as that user, it needs no permission to switch to it.
        let user = user.filter(|user| user.uid != geteuid());
        let dirs = WorkingDirs::new(env::temp_dir(), user.clone());
        let needs_launcher = user.is_some() || limits != ScriptLimits::default();
        let launcher =
            needs_launcher.then(|| launch::own_program().map(|program| Launcher { program, user, limits }));
        Ok(Self { rules, env, kill_grace, launcher: launcher.transpose()?, dirs })
    }

    pub async fn run(&self, call: &Call<'_>, path: &ScriptPath, args: &[String]) -> Outcome {
        let script = match self.rules.locate(path) {
            Ok(script) => script,
            Err(error @ NotRunnable::Refused(_)) => {
                return Outcome::failed(FailureKind::Permanent, error.to_string(), None);
            }
            Err(error @ NotRunnable::Unavailable(_)) => {
                return Outcome::failed(FailureKind::Transient, error.to_string(), None);
            }
            Err(error @ NotRunnable::RootGone(_)) => return not_called(&error.to_string()),
        };
        match self.run_file(call, &script, args).await {
            Ok(finished) => exit_status::outcome(call, finished),
            Err(error) => {
                let cause = error.root_cause().downcast_ref::<io::Error>();
                if error.is::<NoWorkingDir>() || cause.is_some_and(is_shortage) {
                    return not_called(&format!("{error:#}"));
                }
                let (why, kind) = match cause {
                    Some(cause) if error.is::<Unstarted>() => {
                        (program::explain(&script, cause), failure_kind(cause))
                    }
                    _ => (format!("{error:#}"), FailureKind::Transient),
                };
                Outcome::failed(kind, format!("the script could not be started: {why}"), None)
            }
        }
    }

    async fn run_file(&self, call: &Call<'_>, script: &Path, args: &[String]) -> anyhow::Result<Finished> {
        let dir = self.dirs.get().context(NoWorkingDir)?;
        let mut command = self.command(call, script, args, dir.path());
        let tree = ProcessTree::begin(dir);
        command.env(CALL_ID, tree.id());
        let mut group = Group::spawn(&mut command, &tree).await.map_err(Unstarted)?;
        let (stdin, stdout, stderr) = group.pipes();
        let mut stdout = Capture::new(stdout, call.answer_limit.unwrap_or(KEPT_BYTES).max(KEPT_BYTES));
        let mut stderr = Capture::new(stderr, KEPT_BYTES);
        let ended = select! {
            ended = group.end(call.timeout, self.kill_grace) => ended,
            never = async {
                join!(feed(stdin, &call.event.body), stdout.drain(), stderr.drain());
                // A script that has closed its pipes may still be at work.
                pending::<Infallible>().await
            } => match never {},
        };
        tree.finish();
        timeout(OUTPUT_DRAIN_TIMEOUT, async { join!(stdout.drain(), stderr.drain()) }).await.ok();
        Ok(Finished { ended, stdout, stderr })
    }

    fn command(&self, call: &Call<'_>, script: &Path, args: &[String], dir: &Path) -> Command {
        let mut command = match &self.launcher {
            None => {
                let mut command = std::process::Command::new(script);
                CommandExt::process_group(&mut command, 0);
                command
            }
            Some(Launcher { program, user, limits }) => {
                launch::command(program, user.as_ref(), *limits, script)
            }
        };
        let event = call.event;
        // An environment cannot contain NUL. With one, the script could never be started.
        let object_id = event.object_id.replace('\0', "\u{FFFD}");
        command
            .args(args)
            .current_dir(dir)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("PROVISIONING_EVENT", event.name.as_str())
            .env("PROVISIONING_EVENT_ID", event.id.as_str())
            .env("PROVISIONING_OBJECT_ID", object_id)
            .env("PROVISIONING_DELIVERY_ID", call.delivery_id())
            .env("PROVISIONING_ATTEMPT", call.attempt.number().to_string())
            .env("PROVISIONING_HANDLER_ID", call.handler.id.to_string())
            .env("PROVISIONING_HANDLER_NAME", call.handler.spec.name.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(traceparent) = call.traceparent {
            command.env("TRACEPARENT", traceparent);
        }
        command.into()
    }
}

impl Drop for ScriptRunner {
    /// The process may be about to end, and what its scripts left running must not outlive it.
    fn drop(&mut self) {
        reap_all(Duration::from_secs(1));
    }
}

/// The environment of every script: a few variables of this process, and those of `script.env`.
fn environment(script_env: &[String]) -> anyhow::Result<Vec<(String, OsString)>> {
    let mut variables = Vec::new();
    for entry in ["PATH", "HOME", "LANG", "TMPDIR"].into_iter().chain(script_env.iter().map(String::as_str)) {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value.into())),
            None => (entry, env::var_os(entry)),
        };
        anyhow::ensure!(
            !name.is_empty() && !entry.contains('\0'),
            "script.env: {name:?} is not the name of a variable; an entry is NAME or NAME=value"
        );
        variables.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(variables)
}

fn failure_kind(error: &io::Error) -> FailureKind {
    if program::is_lasting(error) { FailureKind::Permanent } else { FailureKind::Transient }
}

/// Writes the event to stdin and closes it. A script that does not read all of it has not failed.
async fn feed(stdin: Option<ChildStdin>, body: &[u8]) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(body).await.ok();
    }
}
