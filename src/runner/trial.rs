//! Test calls: one attempt with a sample event, made at once by this process.
//!
//! Nothing is recorded and nothing is retried. The call, its rules and the evaluation of its answer are those
//! of a worker.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Call, Runner, http::request};
use crate::domain::{
    dead_letter::Reason,
    decide::{Decision, decide},
    event::Event,
    execution::{Disposition, EventRef, HandlerRef, Status},
    handler::{Handler, Mode},
    outcome::{Outcome, Response},
    plan::{Attempt, Created, Plan, Step},
    retry::RetryPolicy,
    secret::SigningSecret,
    task::Task,
    verdict::{Verdict, answer_limit, judge},
};

/// The input of a test call.
pub struct TrialOf<'a> {
    pub handler: &'a Handler,
    pub secrets: &'a [SigningSecret],
    pub event: &'a Event,
    /// Limit for the whole attempt, including reading the answer.
    pub timeout: std::time::Duration,
    /// The retry schedule that a worker would use.
    pub policy: &'a RetryPolicy,
    pub max_event_bytes: usize,
}

/// The result of a test call: what was sent, what was answered, and what a worker would do next.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Trial {
    pub handler: HandlerRef,
    pub event: EventRef,
    pub sent: Sent,
    pub response: Option<Response>,
    pub status: Status,
    pub disposition: Disposition,
    /// Why the call failed, or why the handler forbade the event.
    pub error: Option<String>,
    /// `allow`, `modify` or `forbid`.
    pub verdict: &'static str,
    /// The body for the handlers after this one, if the answer changed it.
    #[schema(value_type = Option<Object>)]
    pub modified: Option<Box<RawValue>>,
    /// The delay after which a worker would retry, such as `5s`.
    pub retry_in: Option<String>,
    /// The reason of the dead letter that a worker would make.
    pub dead_letter: Option<Reason>,
    /// Whether a worker would disable the handler, because the endpoint answered 410.
    pub disables: bool,
    pub started_at: Timestamp,
    pub duration_ms: u64,
}

impl Trial {
    /// The verdict as text for people. Empty if the call failed.
    pub fn verdict_told(&self) -> String {
        match (self.status, self.handler.mode) {
            (Status::Success, Some(Mode::Intercept)) => self.verdict.to_owned(),
            (Status::Success, _) => "allow (mode notify: the answer changes nothing)".to_owned(),
            _ => String::new(),
        }
    }

    /// What a worker would do after this call: `would …`.
    pub fn consequence(&self) -> String {
        let mut text = match (&self.retry_in, self.dead_letter) {
            (Some(after), _) => format!("would retry in {after}"),
            (None, Some(reason)) => format!("would make a dead letter ({reason})"),
            (None, None) if self.verdict == "forbid" => "would not run the handlers after it".to_owned(),
            (None, None) => "would continue with the next handler".to_owned(),
        };
        if self.disables {
            text.push_str(", and disable the handler (410)");
        }
        text
    }
}

/// The request or the command. Header values of the handler are masked, because they may be secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Sent {
    Http {
        method: &'static str,
        url: String,
        headers: BTreeMap<String, String>,
        #[schema(value_type = Object)]
        body: Box<RawValue>,
    },
    Script {
        path: String,
        args: Vec<String>,
        #[schema(value_type = Object)]
        stdin: Box<RawValue>,
    },
}

impl Runner {
    /// Makes the test call.
    ///
    /// # Errors
    /// If the event's body is not JSON; the body of every event is.
    pub async fn try_out(&self, input: TrialOf<'_>) -> serde_json::Result<Trial> {
        let TrialOf { handler, secrets, event, timeout, policy, max_event_bytes } = input;
        let mode = handler.spec.mode;
        let call = Call {
            handler,
            secrets,
            event,
            attempt: Attempt::FIRST,
            timeout,
            answer_limit: answer_limit(mode, max_event_bytes),
            traceparent: None,
            tracestate: None,
        };
        let (started_at, clock) = (Timestamp::now(), Instant::now());
        let outcome = self.run_at(&call, started_at).await;
        let duration = clock.elapsed();
        let (outcome, verdict) = judge(outcome, mode, event, max_event_bytes);
        let step = Step { handler: handler.id, created: Created::default(), attempt: Attempt::FIRST };
        let decision = decide(&outcome, step, &Plan::new([]), handler.spec.on_failure(), policy);
        let disposition = disposition(&decision, &verdict);
        let (retry_in, dead_letter) = match decision {
            Decision::Done => (None, None),
            Decision::Retry { delay, .. } => (Some(humantime::format_duration(delay).to_string()), None),
            Decision::GiveUp { reason, .. } => (None, Some(reason)),
        };
        let disables = matches!(&outcome, Outcome::Failed { failure, .. } if failure.gone);
        let sent = sent(&call, started_at)?;
        let (response, error) = response_and_error(outcome, &verdict);
        let (verdict, modified) = match verdict {
            Verdict::Allow => ("allow", None),
            Verdict::Modify(body) => ("modify", Some(raw(&body)?)),
            Verdict::Forbid { .. } => ("forbid", None),
        };
        Ok(Trial {
            handler: HandlerRef::from(handler),
            event: EventRef::from(event),
            sent,
            response,
            status: disposition.status(),
            disposition,
            error,
            verdict,
            modified,
            retry_in,
            dead_letter,
            disables,
            started_at,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

const fn disposition(decision: &Decision, verdict: &Verdict) -> Disposition {
    match (decision, verdict) {
        (Decision::Done, Verdict::Forbid { .. }) => Disposition::Forbidden,
        (Decision::Done, _) => Disposition::Done,
        (Decision::Retry { .. }, _) => Disposition::Retrying,
        (Decision::GiveUp { .. }, _) => Disposition::DeadLettered,
    }
}

fn response_and_error(outcome: Outcome, verdict: &Verdict) -> (Option<Response>, Option<String>) {
    let reason = match verdict {
        Verdict::Forbid { reason } => Some(reason.clone()),
        Verdict::Allow | Verdict::Modify(_) => None,
    };
    match outcome {
        Outcome::Succeeded { response, .. } | Outcome::Forbidden { response, .. } => (Some(response), reason),
        Outcome::Failed { failure, response } => (response, Some(failure.error)),
        Outcome::PutOff { error, .. } => (None, Some(error)),
    }
}

fn sent(call: &Call<'_>, called_at: Timestamp) -> serde_json::Result<Sent> {
    let body = raw(&call.event.body)?;
    Ok(match &call.handler.spec.task {
        Task::Http { url, headers } => {
            let headers = request::headers(call, headers, called_at.as_second());
            let shown = |value: &http::HeaderValue| match value.to_str() {
                Ok(text) if !value.is_sensitive() => text.to_owned(),
                _ => "***".to_owned(),
            };
            Sent::Http {
                method: "POST",
                url: url.as_str().to_owned(),
                headers: headers.iter().map(|(name, value)| (name.to_string(), shown(value))).collect(),
                body,
            }
        }
        Task::Script { path, args } => {
            Sent::Script { path: path.as_str().to_owned(), args: args.clone(), stdin: body }
        }
    })
}

fn raw(body: &[u8]) -> serde_json::Result<Box<RawValue>> {
    serde_json::from_slice(body)
}
