//! The retry schedule: when a failed attempt is tried again.
//!
//! The backoff is that of the `backoff` crate. It has had no release for years, so only this file uses it: it must be
//! easy to replace.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};
use serde::{Deserialize, Serialize};

/// The longest delay of the delay ladder: 2^20 - 1 seconds, twelve days.
pub const MAX_DELAY: Duration = Duration::from_secs((1 << 20) - 1);

/// How often a handler is tried, and how long the delays are.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Number of attempts, including the first.
    pub max_attempts: u32,
    /// Delay between the first attempt and the second.
    pub initial_interval: Duration,
    /// Factor from one interval to the next.
    pub multiplier: f64,
    pub max_interval: Duration,
    /// Random share of each interval, up or down: 0 to below 1.
    pub jitter: f64,
}

/// The retry values of one handler. For an absent value, section `retry` of the configuration applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, try_from = "Unchecked")]
pub struct RetryOverrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,2}(s|m|h)$", example = "5s")]
    pub initial_interval: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub multiplier: Option<f64>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,2}(s|m|h)$", example = "6h")]
    pub max_interval: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, exclusive_maximum = 1)]
    pub jitter: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unchecked {
    max_attempts: Option<u32>,
    #[serde(with = "humantime_serde")]
    initial_interval: Option<Duration>,
    multiplier: Option<f64>,
    #[serde(with = "humantime_serde")]
    max_interval: Option<Duration>,
    jitter: Option<f64>,
}

/// Why a retry value is rejected.
#[derive(Debug, thiserror::Error)]
#[error("retry.{key} must be {allowed}")]
pub struct InvalidRetry {
    pub key: &'static str,
    pub allowed: &'static str,
}

impl RetryPolicy {
    /// Checks the range of each value.
    ///
    /// # Errors
    /// Names the first key whose value is out of range.
    pub fn validate(&self) -> Result<(), InvalidRetry> {
        let second = Duration::from_secs(1);
        let rules = [
            ((1..=100).contains(&self.max_attempts), "max_attempts", "1 to 100"),
            ((second..=MAX_DELAY).contains(&self.initial_interval), "initial_interval", "1s to 12d"),
            ((1.0..=100.0).contains(&self.multiplier), "multiplier", "1 to 100"),
            (
                (self.initial_interval..=MAX_DELAY).contains(&self.max_interval),
                "max_interval",
                "at least retry.initial_interval and at most 12d",
            ),
            ((0.0..1.0).contains(&self.jitter), "jitter", "0 to below 1"),
        ];
        match rules.into_iter().find(|(is_valid, ..)| !is_valid) {
            Some((_, key, allowed)) => Err(InvalidRetry { key, allowed }),
            None => Ok(()),
        }
    }

    /// This policy with a handler's overrides.
    #[must_use]
    pub fn with(&self, overrides: &RetryOverrides) -> Self {
        let initial_interval = overrides.initial_interval.unwrap_or(self.initial_interval);
        Self {
            max_attempts: overrides.max_attempts.unwrap_or(self.max_attempts),
            initial_interval,
            multiplier: overrides.multiplier.unwrap_or(self.multiplier),
            max_interval: overrides.max_interval.unwrap_or(self.max_interval).max(initial_interval),
            jitter: overrides.jitter.unwrap_or(self.jitter),
        }
    }

    /// The time from the first attempt to the last, without jitter and without the duration of attempts.
    pub fn whole_schedule(&self) -> Duration {
        let waits = (1..self.max_attempts).map(|attempt| self.interval_after(attempt));
        Duration::from_secs_f64(waits.sum())
    }

    /// The interval in seconds after the failed attempt number `attempt`, without jitter.
    fn interval_after(&self, attempt: u32) -> f64 {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let interval = self.initial_interval.as_secs_f64() * self.multiplier.powi(exponent);
        interval.min(self.max_interval.as_secs_f64())
    }

    /// The delay after the failed attempt number `attempt`, with jitter, rounded up for the delay ladder.
    /// `requested` is what the handler asked for (`Retry-After`), up to `max_interval`; the longer of the two applies.
    pub fn delay_after(&self, attempt: u32, requested: Option<Duration>) -> Duration {
        let mut schedule = ExponentialBackoff {
            current_interval: Duration::from_secs_f64(self.interval_after(attempt)),
            randomization_factor: self.jitter,
            max_interval: self.max_interval,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let scheduled = schedule.next_backoff().unwrap_or(self.max_interval);
        let requested = requested.unwrap_or_default().min(self.max_interval);
        ladder_delay(scheduled.max(requested))
    }
}

impl RetryOverrides {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<Unchecked> for RetryOverrides {
    type Error = InvalidRetry;

    fn try_from(unchecked: Unchecked) -> Result<Self, Self::Error> {
        let overrides = Self {
            max_attempts: unchecked.max_attempts,
            initial_interval: unchecked.initial_interval,
            multiplier: unchecked.multiplier,
            max_interval: unchecked.max_interval,
            jitter: unchecked.jitter,
        };
        overrides.validate().map(|()| overrides)
    }
}

impl RetryOverrides {
    /// Checks each value that is set.
    ///
    /// # Errors
    /// Names the key that is out of range, as [`RetryPolicy::validate`] does.
    pub fn validate(&self) -> Result<(), InvalidRetry> {
        let lenient = RetryPolicy {
            max_attempts: 1,
            initial_interval: Duration::from_secs(1),
            multiplier: 1.0,
            max_interval: self.initial_interval.unwrap_or(Duration::from_secs(1)),
            jitter: 0.0,
        };
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(lenient.max_attempts),
            initial_interval: self.initial_interval.unwrap_or(lenient.initial_interval),
            multiplier: self.multiplier.unwrap_or(lenient.multiplier),
            max_interval: self.max_interval.unwrap_or(lenient.max_interval),
            jitter: self.jitter.unwrap_or(lenient.jitter),
        }
        .validate()
    }
}

/// Rounds `delay` up to whole seconds with four significant bits. The copy then needs at most four levels of the
/// delay ladder, and is less than 12.5 % late.
pub fn ladder_delay(delay: Duration) -> Duration {
    let round_up = u64::from(delay.subsec_nanos() > 0);
    let seconds = delay.as_secs().saturating_add(round_up).min(MAX_DELAY.as_secs());
    let bits = u64::BITS - seconds.leading_zeros();
    let dropped = bits.saturating_sub(4);
    let rounded = seconds.div_ceil(1 << dropped) << dropped;
    // 2^20 - 1 would round up to 2^20, which the ladder does not have.
    Duration::from_secs(if rounded > MAX_DELAY.as_secs() { 0b1111 << 16 } else { rounded })
}

#[cfg(test)]
mod tests;
