//! Differences between the clocks of hosts and the clock of the database, and jumps of the latter.
//!
//! Whether a record is old enough to be deleted, given up or expired depends on the database's clock, because there
//! is one of it and all processes see the same time.

use std::fmt;

use jiff::{SignedDuration, Timestamp, Unit};

/// A smaller difference is ignored.
const MAX_IGNORED: SignedDuration = SignedDuration::from_mins(1);
/// With a larger difference nothing is deleted because of its age.
const MAX_PLAUSIBLE: SignedDuration = SignedDuration::from_hours(1);

/// How far a clock is ahead of the database's clock; negative if it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAhead(pub SignedDuration);

impl ClockAhead {
    pub fn from_millis(millis: i64) -> Self {
        Self(SignedDuration::from_millis(millis))
    }

    pub fn millis(self) -> i64 {
        self.0.as_millis().try_into().unwrap_or(i64::MAX)
    }

    /// Whether the difference is so large that one of the two clocks must be wrong. It is unknown which one.
    pub fn is_out_of_all_reason(self) -> bool {
        self.0.abs() > MAX_PLAUSIBLE
    }

    /// The difference in words, such as "100 days ahead of the database's clock"; `None` if it is at most a minute.
    pub fn told(self) -> Option<String> {
        let difference = self.0.abs();
        if difference <= MAX_IGNORED {
            return None;
        }
        let seconds = difference.as_secs();
        let (size, unit) = match seconds {
            172_800.. => (86_400, "days"),
            7_200.. => (3_600, "hours"),
            120.. => (60, "minutes"),
            _ => (1, "seconds"),
        };
        let count = (seconds + size / 2) / size;
        let direction = if self.0.is_negative() { "behind" } else { "ahead of" };
        Some(format!("{count} {unit} {direction} the database's clock"))
    }
}

/// How long nothing is deleted after a jump of the database's clock, so that somebody can notice it.
const DELETION_PAUSE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A jump of the database's clock between two checks: back by more than an hour, or forward by more than a day.
/// Either the clock was set or was wrong, so records may be younger than they seem; or nothing checked it for a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    pub before: Timestamp,
    pub after: Timestamp,
}

impl ClockJump {
    /// Nothing is deleted because of its age before this time.
    pub fn doubted_until(self) -> Timestamp {
        self.after.saturating_add(DELETION_PAUSE).unwrap_or(Timestamp::MAX)
    }

    /// Whether that time has passed. `now` is a time of the database's clock.
    pub fn is_over(self, now: Timestamp) -> bool {
        now >= self.doubted_until()
    }
}

impl fmt::Display for ClockJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the database's clock moved from {} to {} between two checks: old records are not deleted \
             before {}, because they may be younger than they seem (docs/operations.md#the-databases-clock-jumped)",
            round_to_second(self.before),
            round_to_second(self.after),
            round_to_second(self.doubted_until())
        )
    }
}

fn round_to_second(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_more_than_a_minute_is_described() {
        for (seconds, expected) in [
            (0, None),
            (60, None),
            (-60, None),
            (61, Some("61 seconds ahead of the database's clock")),
            (-7_199, Some("120 minutes behind the database's clock")),
            (90_000, Some("25 hours ahead of the database's clock")),
            (100 * 86_400 - 1, Some("100 days ahead of the database's clock")),
            (-100 * 86_400, Some("100 days behind the database's clock")),
        ] {
            assert_eq!(ClockAhead(SignedDuration::from_secs(seconds)).told().as_deref(), expected);
        }
        assert!(!ClockAhead::from_millis(3_600_000).is_out_of_all_reason());
        assert!(ClockAhead::from_millis(-3_600_001).is_out_of_all_reason());
    }
}
