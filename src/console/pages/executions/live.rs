//! The live tail: rows as they are recorded, by server-sent events, rendered as the list renders them.

use std::{convert::Infallible, time::Duration};

use askama::Template;
use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use jiff::{Timestamp, ToSpan as _};
use uuid::Uuid;

use super::{
    row::Row,
    search::{SEARCH, filter},
};
use crate::{
    console::{
        Console,
        access::{Viewer, is_still_known},
        pages::{
            Answer,
            fields::{Asked, Errors},
        },
        problem::{FieldError, Problem},
    },
    store::{Cursor, ExecutionFilter},
};

const POLL_INTERVAL: Duration = Duration::from_millis(700);
/// While the database does not answer.
const RETRY_DELAY: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 200;
/// After this the browser connects again, and shows again who it is.
const MAX_DURATION: Duration = Duration::from_mins(10);
/// A browser that was asleep does not get what happened meanwhile.
const OLDEST: i64 = 10;

#[derive(Template)]
#[template(path = "executions/rows.html")]
struct Rows {
    rows: Vec<Row>,
}

/// A reader, and what it has seen.
struct Tail {
    console: Console,
    /// Those of the request: who reads.
    headers: HeaderMap,
    filter: ExecutionFilter,
    seen: Cursor,
    is_first: bool,
}

/// From `from` on; after a lost connection, from the last row that the browser has got.
pub async fn live(
    Viewer(_): Viewer,
    State(console): State<Console>,
    Asked(asked): Asked,
    headers: HeaderMap,
) -> Answer {
    let turn = console.live_pages.turn().await?;
    let mut errors = Errors::default();
    let filter = filter(&asked.only(&SEARCH.map(|(name, _)| name)), &mut errors);
    if !errors.is_empty() {
        let wrong = errors.all().map(|(name, error)| FieldError::parameter(name, error)).collect();
        return Err(Problem::bad_fields(wrong));
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<Cursor>().ok());
    let from = asked.get("from").parse().unwrap_or_else(|_| Timestamp::now());
    let seen = last.unwrap_or(Cursor { at: from, id: Uuid::nil() });
    let oldest = Timestamp::now() - OLDEST.minutes();
    let seen = if seen.at < oldest { Cursor { at: oldest, id: Uuid::nil() } } else { seen };
    let stop = console.stop.clone();
    let tail = Tail { console, headers, filter, seen, is_first: true };
    let end = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(MAX_DURATION) => {}
        }
    };
    let events = tail.events().take_until(end);
    // A proxy that buffers (nginx, unless told otherwise) would deliver nothing before the end.
    let unbuffered = [("x-accel-buffering", "no")];
    let live = (unbuffered, Sse::new(events).keep_alive(KeepAlive::default()));
    Ok(turn.until_sent(live.into_response()))
}

impl Tail {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut tail| async move {
            let event = tail.next().await?;
            Some((Ok(event), tail))
        })
    }

    /// Waits until there is something to tell. None: its reader has signed out.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !std::mem::take(&mut self.is_first) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            if !is_still_known(&self.console, &self.headers).await {
                return None;
            }
            let found = self.console.store().tail_executions(&self.filter, AT_ONCE, Some(self.seen)).await;
            match found {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => {
                    if let Some(last) = rows.last() {
                        self.seen = Cursor { at: last.recorded_at, id: last.id };
                    }
                    let page = Rows { rows: rows.iter().map(Row::of).collect() };
                    // Carriage returns cannot be sent this way, and mean nothing in what is shown.
                    let text = page.render().unwrap_or_default().replace('\r', " ");
                    return Some(Event::default().event("rows").id(self.seen.to_string()).data(text));
                }
                Err(error) => {
                    tracing::debug!(%error, "a live tail waits for the database");
                    tokio::time::sleep(RETRY_DELAY).await;
                    return Some(Event::default().event("problem").data("Waiting for the database"));
                }
            }
        }
    }
}
