//! What the exit status of a script means.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use humantime::format_duration;
use nix::sys::signal::Signal;

use super::{super::launch, Finished};
use crate::{
    domain::{
        outcome::{FailureKind, Outcome, Response},
        verdict::{Verdict, read_verdict},
    },
    runner::Call,
};

// From sysexits(3).
const DATA_ERROR: i32 = 65;
const TEMPORARY: i32 = 75;
const NO_PERMISSION: i32 = 77;
const CONFIG: i32 = 78;

// From sh(1).
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// A shell adds the signal's number to this.
const KILLED: i32 = 128;

pub fn outcome(call: &Call<'_>, finished: Finished) -> Outcome {
    let status = finished.ended.status;
    let response = Response {
        exit_code: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        stdout: Some(finished.stdout.record()),
        stderr: Some(finished.stderr.record()),
        truncated: finished.stdout.truncated() || finished.stderr.truncated(),
        ..Default::default()
    };
    let failed = |kind, error: String, response| Outcome::failed(kind, error, Some(response));
    let Some(status) = status.filter(|_| !finished.ended.timed_out) else {
        let limit = format_duration(call.timeout);
        return failed(
            FailureKind::Transient,
            format!("did not end within {limit} and was killed"),
            response,
        );
    };
    if let Some((kind, why)) = launch_failure(&response) {
        let error = format!("the script could not be started: {why}");
        return failed(kind, error, response);
    }
    match status.code() {
        Some(0) => succeeded(call, finished, response),
        Some(NO_PERMISSION) if call.answer_limit.is_some() => {
            Outcome::Forbidden { reason: reason(call, &finished), response }
        }
        Some(DATA_ERROR | NO_PERMISSION | CONFIG) => {
            failed(FailureKind::Permanent, describe(status), response)
        }
        _ => failed(FailureKind::Transient, describe(status), response),
    }
}

/// Exit code 0. If a verdict is read from stdout, the answer must be complete.
fn succeeded(call: &Call<'_>, finished: Finished, response: Response) -> Outcome {
    let Some(limit) = call.answer_limit else { return Outcome::Succeeded { response, answer: None } };
    let error = if finished.stdout.ended() {
        match finished.stdout.into_complete().filter(|answer| answer.len() <= limit) {
            Some(answer) => return Outcome::Succeeded { response, answer: Some(answer) },
            None => format!("the answer is larger than {limit} bytes"),
        }
    } else {
        "the answer may be incomplete: a process that the script left running has its stdout open".to_owned()
    };
    Outcome::failed(FailureKind::Permanent, error, Some(response))
}

/// Why a script that ended with 77 forbids the event: the reason in its verdict, else the first line of
/// stdout.
fn reason(call: &Call<'_>, finished: &Finished) -> String {
    let answer = finished.stdout.complete().unwrap_or_default();
    if let Ok(Verdict::Forbid { reason }) = read_verdict(answer, call.event, usize::MAX) {
        return reason;
    }
    let text = String::from_utf8_lossy(answer);
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => line.chars().filter(|c| !c.is_control()).take(500).collect(),
        None => "no reason given".to_owned(),
    }
}

/// The launcher's message on stderr, if it could not start the script.
fn launch_failure(response: &Response) -> Option<(FailureKind, &str)> {
    let kind = match response.exit_code.and_then(|code| u8::try_from(code).ok())? {
        launch::EXIT_CODE => FailureKind::Transient,
        launch::EXIT_CODE_LASTING => FailureKind::Permanent,
        _ => return None,
    };
    let why = response.stderr.as_deref()?.strip_prefix(launch::FAILED)?.lines().next()?;
    Some((kind, why))
}

fn describe(status: ExitStatus) -> String {
    if let Some(number) = status.signal() {
        let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
        return format!("killed by signal {number} ({name}){}", cause(number));
    }
    let code = status.code().unwrap_or_default();
    let hint = match code {
        DATA_ERROR => " (EX_DATAERR)".to_owned(),
        TEMPORARY => " (EX_TEMPFAIL)".to_owned(),
        NO_PERMISSION => " (EX_NOPERM)".to_owned(),
        CONFIG => " (EX_CONFIG)".to_owned(),
        NOT_EXECUTABLE => ", which shells use if a command was found but could not be executed".to_owned(),
        NOT_FOUND => ", which shells and env use if a command was not found: is it installed, and in \
            the PATH of scripts (script.env)?"
            .to_owned(),
        _ => match Signal::try_from(code - KILLED) {
            Ok(signal) => format!(
                ", which shells use if a command was killed by {}{}",
                signal.as_str(),
                cause(signal as i32)
            ),
            Err(_) => String::new(),
        },
    };
    format!("ended with exit code {code}{hint}")
}

/// What usually causes a signal, if that is known.
fn cause(number: i32) -> &'static str {
    match Signal::try_from(number) {
        Ok(Signal::SIGKILL) => ": out of memory? (check the kernel's log and the container's limit)",
        Ok(Signal::SIGTERM) => ": sent by another process, such as a service manager",
        Ok(Signal::SIGXCPU) => ": out of processor time (script.limits.cpu_seconds)",
        Ok(Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGILL | Signal::SIGFPE) => ": a program crashed",
        Ok(Signal::SIGABRT) => ": a program aborted (a failed assertion, or out of memory)",
        _ => "",
    }
}
