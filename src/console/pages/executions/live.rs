//! The live tail: sends new executions as server-sent events, rendered as rows of the list.

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
            fields::{Errors, Query},
        },
        problem::{FieldError, Problem},
    },
    store::{Cursor, ExecutionFilter},
};

const POLL_INTERVAL: Duration = Duration::from_millis(700);
/// The pause after the database has not answered.
const RETRY_DELAY: Duration = Duration::from_secs(3);
const MAX_ROWS: usize = 200;
/// The longest duration of a stream. The browser then connects and authenticates again.
const MAX_DURATION: Duration = Duration::from_mins(10);
/// In minutes: older rows are not sent. A browser that was asleep for long does not get all rows since then.
const MAX_AGE_MINUTES: i64 = 10;

#[derive(Template)]
#[template(path = "executions/rows.html")]
struct Rows {
    rows: Vec<Row>,
}

/// One stream, and the position up to which it has sent rows.
struct Tail {
    console: Console,
    /// The headers of the request, which authenticate the reader again before each query.
    headers: HeaderMap,
    filter: ExecutionFilter,
    seen: Cursor,
    is_first: bool,
}

/// Streams the rows that are recorded after `from`. After a reconnect it continues after the last event that the
/// browser received (`Last-Event-ID`).
pub async fn live(
    Viewer(_): Viewer,
    State(console): State<Console>,
    Query(query): Query,
    headers: HeaderMap,
) -> Answer {
    let permit = console.live_pages.permit().await?;
    let mut errors = Errors::default();
    let filter = filter(&query.only(&SEARCH.map(|(name, _)| name)), &mut errors);
    if !errors.is_empty() {
        let wrong = errors.all().map(|(name, error)| FieldError::parameter(name, error)).collect();
        return Err(Problem::bad_fields(wrong));
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<Cursor>().ok());
    let from = query.get("from").parse().unwrap_or_else(|_| Timestamp::now());
    let seen = last.unwrap_or(Cursor { at: from, id: Uuid::nil() });
    let oldest = Timestamp::now() - MAX_AGE_MINUTES.minutes();
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
    // Without this header, a proxy that buffers (nginx by default) would deliver nothing before the end of the stream.
    let unbuffered = [("x-accel-buffering", "no")];
    let live = (unbuffered, Sse::new(events).keep_alive(KeepAlive::default()));
    Ok(permit.until_sent(live.into_response()))
}

impl Tail {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut tail| async move {
            let event = tail.next().await?;
            Some((Ok(event), tail))
        })
    }

    /// Waits for the next event. `None`: the session of the reader has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !std::mem::take(&mut self.is_first) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            if !is_still_known(&self.console, &self.headers).await {
                return None;
            }
            let new_rows =
                self.console.store().tail_executions(&self.filter, MAX_ROWS, Some(self.seen)).await;
            match new_rows {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => {
                    if let Some(last) = rows.last() {
                        self.seen = Cursor { at: last.recorded_at, id: last.id };
                    }
                    let page = Rows { rows: rows.iter().map(Row::of).collect() };
                    // A carriage return ends a line of a server-sent event, and has no meaning in HTML.
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
