//! The reply to a publisher that set `reply_to`, sent at the end of the event's first run.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    event::EventId,
    execution::{Disposition, Status},
    handler::{HandlerId, HandlerName},
    text_enum::text_enum,
};

text_enum! {
    /// The combined verdict of all handlers.
    Answer {
        Allow = "allow",
        Forbid = "forbid",
        /// An `intercept` handler has not answered yet, or not all handlers were called.
        Pending = "pending",
    }
}

/// The body of a reply.
#[derive(Debug, Serialize)]
pub struct Reply {
    pub event_id: EventId,
    pub verdict: Answer,
    /// Why the event is forbidden, or the verdict is pending.
    pub reason: Option<String>,
    /// The event's data, as handlers changed it. Absent if the message is not an event.
    pub data: Option<Box<RawValue>>,
    pub executions: Vec<HandlerResult>,
}

/// The result of one handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandlerResult {
    /// Absent if the result is about the event and not about a handler.
    pub handler: Option<NamedHandler>,
    pub status: Status,
    pub disposition: Disposition,
    pub error: Option<String>,
}

/// The handler of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedHandler {
    pub id: HandlerId,
    pub name: Option<HandlerName>,
}

/// Collects the results of a run for the reply.
#[derive(Debug, Default)]
pub struct ReplyBuilder {
    /// The `intercept` handlers of the plan. Without an answer of each, the verdict is pending.
    must_answer: Vec<HandlerId>,
    results: Vec<HandlerResult>,
    /// Why the verdict is pending even if all handlers have answered.
    pending_reason: Option<String>,
}

impl ReplyBuilder {
    pub fn new(must_answer: Vec<HandlerId>) -> Self {
        Self { must_answer, ..Self::default() }
    }

    pub fn note(&mut self, handler: Option<NamedHandler>, disposition: Disposition, error: Option<&str>) {
        let (status, error) = (disposition.status(), error.map(str::to_owned));
        self.results.push(HandlerResult { handler, status, disposition, error });
    }

    /// Makes the verdict pending, because not all handlers were called.
    pub fn leave_open(&mut self, why: impl Into<String>) {
        self.pending_reason = Some(why.into());
    }

    /// The reply for the event `id`, whose body is now `body`.
    pub fn into_reply(self, id: EventId, body: &[u8]) -> Reply {
        #[derive(Deserialize)]
        struct Envelope {
            data: Box<RawValue>,
        }
        let (verdict, reason) = self.verdict();
        let data = serde_json::from_slice(body).ok().map(|envelope: Envelope| envelope.data);
        Reply { event_id: id, verdict, reason, data, executions: self.results }
    }

    fn verdict(&self) -> (Answer, Option<String>) {
        use Disposition::{DeadLettered, Forbidden, Retrying};
        if let Some(result) = self.results.iter().find(|result| result.disposition == Forbidden) {
            return (Answer::Forbid, result.error.clone());
        }
        let answered = |id: &HandlerId| {
            self.results.iter().any(|result| {
                result.handler.as_ref().is_some_and(|handler| handler.id == *id)
                    && !matches!(result.disposition, Retrying | DeadLettered)
            })
        };
        let unanswered = self.must_answer.iter().find(|id| !answered(id));
        let waiting = unanswered.map(|id| format!("handler {id} has not answered yet"));
        match self.pending_reason.clone().or(waiting) {
            Some(why) => (Answer::Pending, Some(why)),
            None => (Answer::Allow, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Disposition::{DeadLettered, Done, Forbidden, HandlerOff, NoHandler, Retrying};

    #[test]
    fn only_handlers_that_must_answer_decide_the_verdict() {
        for (results, open, verdict, reason) in [
            (&[(Some(1), Done), (Some(2), Done)][..], None, Answer::Allow, None),
            (&[(Some(1), Retrying), (Some(2), Done)], None, Answer::Allow, None),
            (&[(Some(1), Done), (Some(2), HandlerOff)], None, Answer::Allow, None),
            (&[(None, NoHandler)], Some("x"), Answer::Pending, Some("x")),
            (&[(Some(1), Done)], None, Answer::Pending, Some("handler 2 has not answered yet")),
            (&[(Some(2), Retrying)], None, Answer::Pending, Some("handler 2 has not answered yet")),
            (&[(Some(2), DeadLettered)], None, Answer::Pending, Some("handler 2 has not answered yet")),
            (&[(Some(2), Forbidden)], Some("x"), Answer::Forbid, Some("debt")),
        ] {
            let mut builder = ReplyBuilder::new(vec![HandlerId(2)]);
            for (id, disposition) in results {
                let handler = id.map(|id| NamedHandler { id: HandlerId(id), name: None });
                builder.note(handler, *disposition, Some("debt"));
            }
            if let Some(why) = open {
                builder.leave_open(why);
            }
            assert_eq!(builder.verdict(), (verdict, reason.map(str::to_owned)), "{results:?}");
        }
    }

    #[test]
    fn a_reply_has_the_data_as_it_is_now() {
        let id = EventId::from_message_id("e1");
        let reply = ReplyBuilder::default().into_reply(id, br#"{"event":{},"data":{"a": 1},"x":2}"#);
        let json = serde_json::to_string(&reply).expect("JSON");
        let expected = r#"{"event_id":"e1","verdict":"allow","reason":null,"data":{"a": 1},"executions":[]}"#;
        assert_eq!(json, expected);
    }
}
