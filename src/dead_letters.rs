//! What operators do with dead letters: show, replay, discard, export and peek. Replays of executions are the
//! same jobs.
//!
//! The command line and the console call the same functions. These take typed filters, return typed values,
//! report progress to a callback, and print nothing. Plain searches are in `store`.

mod job;
mod jobs;
mod json;
mod peek;
mod prepare;
mod show;
mod watch;

use futures_util::{Stream, stream};

use crate::{
    broker::BrokerSettings,
    store::{DeadLetterFilter, PlanLine, Selection, Store, StoreError, StoredDeadLetter},
};
pub use job::{Progress, Report};
pub use jobs::Jobs;
pub use json::{Body, ExportedLetter, WholeLetter};
pub use peek::{Peeked, Waiting};
pub use prepare::edited_event;
pub use show::{Shown, WouldRun};

/// What the functions on dead letters need.
#[derive(Clone)]
pub struct DeadLetters {
    pub store: Store,
    pub broker: BrokerSettings,
    /// A larger body is not a valid event.
    pub max_event_bytes: usize,
}

impl DeadLetters {
    /// Counts what a replay of `selection` would send, by event type and handler.
    pub async fn plan(&self, selection: &Selection) -> Result<Vec<PlanLine>, StoreError> {
        match selection {
            Selection::Letters(ids) => self.store.plan_these_letters(ids).await,
            Selection::Edited(id, _) => self.store.plan_these_letters(&[*id]).await,
            Selection::LettersBy(filter) => self.store.plan_letters(filter).await,
            Selection::Executions(ids, scope) => self.store.plan_these_executions(ids, *scope).await,
            Selection::ExecutionsBy(filter, scope) => self.store.plan_executions(filter, *scope).await,
        }
    }

    /// All dead letters that match `filter`, newest first, with their bodies. Only one page is in memory at a
    /// time.
    pub fn export(
        &self,
        filter: DeadLetterFilter,
    ) -> impl Stream<Item = Result<StoredDeadLetter, StoreError>> + Send + 'static {
        let state = (self.store.clone(), filter, None, Vec::new().into_iter());
        stream::try_unfold(state, async |(store, filter, after, mut page)| {
            if page.as_slice().is_empty() {
                page = store.export_dead_letters(&filter, after).await?.into_iter();
            }
            let Some(dead_letter) = page.next() else { return Ok(None) };
            let after = Some(dead_letter.row.cursor());
            Ok(Some((dead_letter, (store, filter, after, page))))
        })
    }
}
