mod bounds;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::super::{
    Runner, ScriptSettings,
    testing::{Trial, failure, runner, script_settings, success, until},
    working_dir::WorkingDirs,
};
use crate::domain::outcome::{FailureKind, Outcome, Response};

/// A script root and a runner for it. Scripts get the path of a file for notes in `$1`.
struct Root {
    dir: TempDir,
    runner: Runner,
}

impl Root {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ScriptSettings)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut settings = ScriptSettings { roots: vec![dir.path().to_owned()], ..script_settings() };
        change(&mut settings);
        Self { dir, runner: runner(settings) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A handler that runs these lines of shell.
    fn trial(&self, lines: &str) -> Trial {
        fs::write(self.path("script"), format!("#!/bin/sh\n{lines}\n")).expect("written");
        fs::set_permissions(self.path("script"), PermissionsExt::from_mode(0o755)).expect("allowed");
        Trial::new(&json!({"type": "script", "path": "script", "args": [self.path("note"), "b c"]}))
    }

    async fn run(&self, lines: &str) -> Outcome {
        self.trial(lines).run(&self.runner).await
    }
}

fn stdout(response: &Response) -> &str {
    response.stdout.as_deref().expect("a stdout")
}

#[tokio::test]
async fn a_script_gets_its_event_arguments_and_environment() {
    let root = Root::with(|settings| {
        settings.env = vec!["CARGO_MANIFEST_DIR".into(), "CRM=x=y".into(), "NOT_THERE_AT_ALL".into()];
    });
    let mut trial = root.trial(r#"pwd; touch used; cat; echo; echo "$0|$1|$2"; /usr/bin/env; echo err >&2"#);
    trial.event.object_id = "1\u{0}2".into();
    let (response, answer) = success(trial.run(&root.runner).await);
    assert_eq!((response.exit_code, response.truncated, answer), (Some(0), false, None));
    assert_eq!(response.stderr.as_deref(), Some("err\n"));

    let mut lines = stdout(&response).lines();
    let dir = Path::new(lines.next().expect("the directory"));
    assert!(dir.starts_with(std::env::temp_dir()), "{}", dir.display());
    until("its working directory is removed", || !dir.exists()).await;
    assert_eq!(lines.next().map(str::as_bytes), Some(&*trial.event.body));
    let script = root.path("script").canonicalize().expect("its name");
    let args = format!("{}|{}|b c", script.display(), root.path("note").display());
    assert_eq!(lines.next(), Some(args.as_str()));
    let mut names = Vec::new();
    for line in lines {
        let (name, value) = line.split_once('=').expect("NAME=value");
        names.push(name);
        let temporary = std::env::var("TMPDIR").unwrap_or_default();
        let expected = match name {
            "TMPDIR" => &temporary,
            "PROVISIONING_EVENT" => "clients.update",
            "PROVISIONING_EVENT_ID" => "e1",
            "PROVISIONING_OBJECT_ID" => "1\u{FFFD}2",
            "PROVISIONING_DELIVERY_ID" => "e1_7",
            "PROVISIONING_ATTEMPT" => "2",
            "PROVISIONING_HANDLER_ID" => "7",
            "PROVISIONING_HANDLER_NAME" => "CRM sync",
            "PROVISIONING_CALL_ID" if value.len() > 32 => continue,
            "TRACEPARENT" => "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "CARGO_MANIFEST_DIR" => env!("CARGO_MANIFEST_DIR"),
            "CRM" => "x=y",
            // The shell sets the last three itself.
            "PATH" | "HOME" | "LANG" | "PWD" | "SHLVL" | "_" => continue,
            other => panic!("{other} is none of the script's business"),
        };
        assert_eq!(value, expected, "{name}");
    }
    assert!(names.contains(&"PATH") && names.contains(&"PROVISIONING_DELIVERY_ID") && names.contains(&"CRM"));
}

#[tokio::test]
async fn each_exit_status_has_its_meaning() {
    use FailureKind::{Permanent, Transient};
    let root = Root::new();
    for (lines, kind, error) in [
        ("exit 1", Transient, "ended with exit code 1"),
        ("exit 65", Permanent, "ended with exit code 65 (EX_DATAERR)"),
        ("exit 75", Transient, "ended with exit code 75 (EX_TEMPFAIL)"),
        ("exit 77", Permanent, "ended with exit code 77 (EX_NOPERM)"),
        ("exit 78", Permanent, "ended with exit code 78 (EX_CONFIG)"),
        (
            "no-such-command 2>/dev/null",
            Transient,
            "ended with exit code 127, which shells and env use if a command was not found: is it installed, and \
             in the PATH of scripts (script.env)?",
        ),
        (
            "/etc/passwd 2>/dev/null",
            Transient,
            "ended with exit code 126, which shells use if a command was found but could not be executed",
        ),
        ("kill -SEGV $$", Transient, "killed by signal 11 (SIGSEGV): a program crashed"),
        (
            "kill -KILL $$",
            Transient,
            "killed by signal 9 (SIGKILL): out of memory? (check the kernel's log and the container's limit)",
        ),
        (
            "sh -c 'kill -KILL $$'; exit $?",
            Transient,
            "ended with exit code 137, which shells use if a command was killed by SIGKILL: out of memory? (check \
             the kernel's log and the container's limit)",
        ),
        (
            "kill -TERM $$",
            Transient,
            "killed by signal 15 (SIGTERM): sent by another process, such as a service manager",
        ),
        (
            "exit 143",
            Transient,
            "ended with exit code 143, which shells use if a command was killed by SIGTERM: sent by another \
             process, such as a service manager",
        ),
        (
            "echo 'provisiond launch-script: /x: no' >&2; exit 127",
            Transient,
            "the script could not be started: /x: no",
        ),
        (
            "echo 'provisiond launch-script: /x: no' >&2; exit 126",
            Permanent,
            "the script could not be started: /x: no",
        ),
    ] {
        let (failure, response) = failure(root.run(lines).await);
        assert_eq!((failure.kind, failure.error.as_str()), (kind, error));
        let response = response.expect("it ran");
        assert_ne!(response.exit_code.is_some(), response.signal.is_some());
    }
}

#[tokio::test]
async fn an_intercept_script_may_forbid() {
    let root = Root::new();
    for (lines, expected) in [
        ("exit 77", "no reason given"),
        ("echo; echo '  in debt '; echo more; exit 77", "in debt"),
        (r#"echo '{"verdict":"forbid","reason":"limit"}'; exit 77"#, "limit"),
    ] {
        let trial = Trial { answer_limit: Some(1000), ..root.trial(lines) };
        match trial.run(&root.runner).await {
            Outcome::Forbidden { reason, response } => {
                assert_eq!((reason.as_str(), response.exit_code), (expected, Some(77)));
            }
            other => panic!("not forbidden: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_is_complete_or_absent() {
    let root = Root::new();
    let mut trial = Trial { answer_limit: Some(1 << 20), ..root.trial("cat; echo done >&2") };
    trial.event.body = "0123456\n".repeat(1 << 17).into();
    let (response, answer) = success(trial.run(&root.runner).await);
    assert_eq!(answer.as_ref(), Some(&trial.event.body));
    assert!(response.truncated && stdout(&response).contains("bytes left out"));

    for limit in [(1 << 20) - 1, 100] {
        trial.answer_limit = Some(limit);
        let (failure, _) = failure(trial.run(&root.runner).await);
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert_eq!(failure.error, format!("the answer is larger than {limit} bytes"));
    }
}

#[tokio::test]
async fn a_script_that_cannot_be_started_says_why() {
    let root = Root::new();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(root.path(name), bytes).expect("written");
        fs::set_permissions(root.path(name), PermissionsExt::from_mode(0o755)).expect("allowed");
    };
    let failure_of = async |path: &str, runner: &Runner| {
        let (failure, _) = failure(Trial::new(&json!({"type": "script", "path": path})).run(runner).await);
        (failure.kind, failure.error)
    };
    put("text", b"neither program nor script\n");
    put("crlf", b"#!/bin/sh\r\n");
    put("binary", b"\x01\0\x02");
    // The interpreter is no program. execvp(3) would run the script with sh instead.
    put("nested", format!("#!{}\nexit 0\n", root.path("binary").display()).as_bytes());
    put("empty", b"");
    let old = std::time::SystemTime::now() - Duration::from_mins(1);
    fs::File::options().write(true).open(root.path("empty")).and_then(|f| f.set_modified(old)).expect("aged");
    for (name, expected) in [
        ("text", "has no #! line"),
        ("empty", "is empty"),
        ("crlf", "Windows line endings"),
        ("binary", "it is not a program that Linux knows"),
        ("nested", "or the interpreter of its #! line, is not a program for this machine"),
    ] {
        let (kind, error) = failure_of(name, &root.runner).await;
        assert_eq!(kind, FailureKind::Permanent, "{error}");
        assert!(error.starts_with("the script ") && error.contains(expected), "{name}: {error}");
    }
    put("lost", b"#!/no/such/interpreter\n");
    let (kind, error) = failure_of("lost", &root.runner).await;
    assert_eq!(kind, FailureKind::Transient, "{error}");
    assert!(error.contains("\"/no/such/interpreter\" in its #! line, which is not there"), "{error}");
    let (kind, error) = failure_of("nothing", &root.runner).await;
    assert_eq!(kind, FailureKind::Transient, "{error}");
    let (kind, error) = failure_of("/bin/sh", &root.runner).await;
    assert_eq!(kind, FailureKind::Permanent);
    assert!(error.starts_with("the script is refused: /bin/sh"), "{error}");
    let (kind, error) = failure_of("text", &Root::with(|settings| settings.roots.clear()).runner).await;
    assert_eq!(kind, FailureKind::Permanent);
    assert!(error.contains("script.roots is empty"), "{error}");
}

fn is_not_called(outcome: &Outcome, expected: &str) -> bool {
    matches!(outcome, Outcome::PutOff { error, is_failing: false, .. } if error.contains(expected))
}

#[tokio::test]
async fn a_shortage_is_not_a_failure_of_the_script() {
    let mut root = Root::new();
    let trial = root.trial("true");
    let missing = root.path("gone");
    root.runner.scripts.dirs = WorkingDirs::new(missing, None);
    let outcome = trial.run(&root.runner).await;
    assert!(is_not_called(&outcome, "cannot create the working directory of the script: in "), "{outcome:?}");
    let root = Root::new();
    fs::remove_dir(root.dir.path()).expect("it was empty");
    let outcome = trial.run(&root.runner).await;
    assert!(is_not_called(&outcome, "does not exist or is empty: check that it is mounted"), "{outcome:?}");
}

#[tokio::test]
async fn a_line_that_starts_the_script_again_is_not_followed() {
    let root = Root::new();
    for line in ["#!/usr/bin/env", "#!/usr/bin/env -i", "#!/usr/bin/env A=b sh", "#!/usr/bin/timeout 5"] {
        let trial = root.trial("true");
        fs::write(root.path("script"), format!("{line}\n")).expect("written");
        let (failure, response) = failure(trial.run(&root.runner).await);
        assert_eq!((failure.kind, response), (FailureKind::Permanent, None), "{line}");
        assert!(failure.error.contains("as one argument"), "{line}: {}", failure.error);
    }
}

#[tokio::test]
async fn settings_are_refused_with_their_names() {
    let settings_error = |change: fn(&mut ScriptSettings)| {
        let mut settings = script_settings();
        change(&mut settings);
        match super::ScriptRunner::new(settings) {
            Ok(_) => panic!("it is not usable"),
            Err(error) => format!("{error:#}"),
        }
    };
    assert_eq!(
        settings_error(|settings| settings.user = Some("no-such-user".into())),
        "script.user: there is no user no-such-user"
    );
    assert!(settings_error(|settings| settings.env = vec!["=x".into()]).starts_with("script.env: "));
}
