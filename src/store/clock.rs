//! The database's clock, which decides what is deleted for its age.

use std::time::Instant;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{Result, Store, StoreError, session::Session};
use crate::domain::clock::ClockAhead;

impl Store {
    /// What time it is there.
    pub async fn moment(&self) -> Result<Timestamp> {
        moment(&mut self.session().await?).await
    }

    /// How far this host's clock is ahead of the database's.
    pub async fn clock_ahead(&self) -> Result<ClockAhead> {
        let mut session = self.session().await?;
        let (asked_at, asked) = (Timestamp::now(), Instant::now());
        let there = moment(&mut session).await?;
        let here = asked_at.saturating_add(asked.elapsed() / 2).unwrap_or(asked_at);
        Ok(ClockAhead(here.duration_since(there)))
    }
}

/// The UTC day, by the database's clock.
pub(super) async fn today(session: &mut Session) -> Result<Date> {
    Ok(moment(session).await?.to_zoned(TimeZone::UTC).date())
}

pub(super) async fn moment(session: &mut Session) -> Result<Timestamp> {
    let row = session.query_opt("SELECT clock_timestamp()", &[]).await?;
    let row = row.ok_or_else(|| StoreError::other("the database does not say what time it is"))?;
    Ok(row.try_get(0)?)
}
