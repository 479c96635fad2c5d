//! How far a host's clock is from the database's.
//!
//! What is deleted, given up or expired goes by the database's: there is one of it, and every process sees the same.

use std::fmt;

use jiff::{SignedDuration, Timestamp, Unit};

/// Clocks that differ by less are as good as the same.
const AGREE: SignedDuration = SignedDuration::from_mins(1);
/// From here on nothing is deleted for its age.
const DISAGREE: SignedDuration = SignedDuration::from_hours(1);

/// By how much a clock is ahead of the database's; negative: behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAhead(pub SignedDuration);

impl ClockAhead {
    pub fn from_millis(millis: i64) -> Self {
        Self(SignedDuration::from_millis(millis))
    }

    pub fn millis(self) -> i64 {
        self.0.as_millis().try_into().unwrap_or(i64::MAX)
    }

    /// One of the two clocks cannot be right, and nobody knows which.
    pub fn is_out_of_all_reason(self) -> bool {
        self.0.abs() > DISAGREE
    }

    /// The difference in words, such as "100 days ahead of the database's clock"; none if there is none to speak of.
    pub fn told(self) -> Option<String> {
        let by = self.0.abs();
        if by <= AGREE {
            return None;
        }
        let seconds = by.as_secs();
        let (size, unit) = match seconds {
            172_800.. => (86_400, "days"),
            7_200.. => (3_600, "hours"),
            120.. => (60, "minutes"),
            _ => (1, "seconds"),
        };
        let count = (seconds + size / 2) / size;
        let which = if self.0.is_negative() { "behind" } else { "ahead of" };
        Some(format!("{count} {unit} {which} the database's clock"))
    }
}

/// For so long nothing is deleted after the database's clock has moved by days: time for somebody to see it.
const DOUBT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The database's clock moved by days between two looks. It was set, then or now it was wrong, and what was recorded may be
/// younger than it seems; or nobody looked for days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    pub before: Timestamp,
    pub after: Timestamp,
}

impl ClockJump {
    /// Until then nothing is deleted for its age.
    pub fn doubted_until(self) -> Timestamp {
        self.after.saturating_add(DOUBT).unwrap_or(Timestamp::MAX)
    }

    /// Whether that is over, by the same clock.
    pub fn is_over(self, now: Timestamp) -> bool {
        now >= self.doubted_until()
    }
}

impl fmt::Display for ClockJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the database's clock went from {} to {} between two looks: nothing is deleted for its age before {}, as it may be \
             younger than it seems (docs/operations.md#the-databases-clock-jumped)",
            whole(self.before),
            whole(self.after),
            whole(self.doubted_until())
        )
    }
}

fn whole(moment: Timestamp) -> Timestamp {
    moment.round(Unit::Second).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_from_a_minute_on() {
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
