//! What the end of a script means.

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
    if let Some(why) = launch_failure(&response) {
        return failed(FailureKind::Transient, format!("the script could not be started: {why}"), response);
    }
    match status.code() {
        Some(0) => succeeded(call, finished, response),
        Some(NO_PERMISSION) if call.answer_limit.is_some() => {
            Outcome::Forbidden { reason: reason(call, &finished), response }
        }
        Some(DATA_ERROR | NO_PERMISSION | CONFIG) => failed(FailureKind::Permanent, words(status), response),
        _ => failed(FailureKind::Transient, words(status), response),
    }
}

/// Exit 0: with an answer to be read from stdout, that has to be there as a whole.
fn succeeded(call: &Call<'_>, finished: Finished, response: Response) -> Outcome {
    let Some(limit) = call.answer_limit else { return Outcome::Succeeded { response, answer: None } };
    let error = if finished.stdout.ended() {
        match finished.stdout.into_whole().filter(|answer| answer.len() <= limit) {
            Some(answer) => return Outcome::Succeeded { response, answer: Some(answer) },
            None => format!("the answer is larger than {limit} bytes"),
        }
    } else {
        "the answer may not be whole: a process that the script left behind holds its stdout".to_owned()
    };
    Outcome::failed(FailureKind::Permanent, error, Some(response))
}

/// Why a script that ended with 77 forbids the event: as its verdict says, or the first line of stdout.
fn reason(call: &Call<'_>, finished: &Finished) -> String {
    let answer = finished.stdout.whole().unwrap_or_default();
    if let Ok(Verdict::Forbid { reason }) = read_verdict(answer, call.event, usize::MAX) {
        return reason;
    }
    let text = String::from_utf8_lossy(answer);
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => line.chars().filter(|c| !c.is_control()).take(500).collect(),
        None => "no reason given".to_owned(),
    }
}

/// What the launcher says on stderr where the script did not come to run.
fn launch_failure(response: &Response) -> Option<&str> {
    response.exit_code.filter(|code| *code == launch::EXIT_CODE)?;
    response.stderr.as_deref()?.strip_prefix(launch::FAILED)?.lines().next()
}

fn words(status: ExitStatus) -> String {
    if let Some(number) = status.signal() {
        let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
        return format!("killed by signal {number} ({name})");
    }
    let code = status.code().unwrap_or_default();
    let name = match code {
        DATA_ERROR => " (EX_DATAERR)",
        TEMPORARY => " (EX_TEMPFAIL)",
        NO_PERMISSION => " (EX_NOPERM)",
        CONFIG => " (EX_CONFIG)",
        _ => "",
    };
    format!("ended with exit code {code}{name}")
}
