//! Shows one dead letter with its executions and a preview of its replay.

use serde::Serialize;
use uuid::Uuid;

use super::{DeadLetters, prepare::reused_ids};
use crate::{
    domain::{dead_letter::State, event::EventName, execution::Execution},
    store::{PlannedHandler, StoreError, StoredDeadLetter},
};

/// A dead letter, its executions, and what a replay would run.
#[derive(Debug)]
pub struct Shown {
    pub letter: StoredDeadLetter,
    /// Executions of its handler, or of all handlers if the whole event was given up: the latest hundred,
    /// oldest first.
    pub attempts: Vec<Execution>,
    pub replay: WouldRun,
}

/// What a replay would run now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WouldRun {
    pub handlers: Vec<PlannedHandler>,
    /// Why a replay would be refused; null if it would not.
    pub obstacle: Option<String>,
}

impl DeadLetters {
    /// Reads a dead letter, its executions, and what a replay would run.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn show(&self, id: Uuid) -> Result<Shown, StoreError> {
        let stored = self.store.dead_letter(id).await?;
        let dead_letter = &stored.row.letter;
        let attempts = match &dead_letter.event_id {
            Some(event_id) => self.store.attempts(event_id, dead_letter.handler_id).await?,
            None => Vec::new(),
        };
        let handlers = self.store.planned_handlers(dead_letter).await?;
        let obstacle = self.obstacle(&stored, &handlers);
        Ok(Shown { letter: stored, attempts, replay: WouldRun { handlers, obstacle } })
    }

    fn obstacle(&self, stored: &StoredDeadLetter, handlers: &[PlannedHandler]) -> Option<String> {
        let dead_letter = &stored.row.letter;
        if stored.row.state != State::Open {
            return Some(format!("it is already {}", stored.row.state));
        }
        if dead_letter.event_name.parse::<EventName>().is_err() {
            return Some("its event name is not valid".to_owned());
        }
        let content_type = stored.content_type.as_deref();
        if let Err(why) = super::edited_event(dead_letter, content_type, &stored.body, self.max_event_bytes) {
            return Some(format!("it is not a valid event: {why}"));
        }
        let replaced = handlers.iter().filter(|handler| handler.replaced_by.is_some());
        let replaced: Vec<_> = replaced.map(|handler| handler.id).collect();
        (!handlers.iter().any(|handler| handler.enabled)).then(|| {
            format!(
                "no handler of its plan is enabled for {}{}",
                dead_letter.event_name,
                reused_ids(&replaced)
            )
        })
    }
}
