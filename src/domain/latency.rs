//! Durations counted in buckets, from which percentiles are computed.
//!
//! There are eight buckets for each power of ten, so a percentile is right within a sixth. All durations of a minute
//! fit into a few rows. Bucket counts can be added up; percentiles cannot.

use std::collections::BTreeMap;

/// The last bucket begins at about half an hour, and no attempt takes that long.
pub const LAST_BUCKET: u16 = 50;
const BUCKETS_PER_DECADE: f64 = 8.0;

/// Counts of durations by bucket. The bucket is `floor(8 * log10(milliseconds + 1))`.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    buckets: BTreeMap<u16, u64>,
    count: u64,
}

impl Durations {
    pub fn add(&mut self, bucket: u16, count: u64) {
        *self.buckets.entry(bucket.min(LAST_BUCKET)).or_default() += count;
        self.count += count;
    }

    /// The duration in milliseconds that this share of the durations does not exceed. `None` if there are no
    /// durations.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn percentile(&self, fraction: f64) -> Option<f64> {
        let target = fraction * self.count as f64;
        let mut below = 0.0;
        for (bucket, count) in &self.buckets {
            let count = *count as f64;
            if count > 0.0 && below + count >= target {
                let (from, to) = (lower_bound(*bucket), lower_bound(bucket + 1));
                let milliseconds = from + (to - from) * ((target - below) / count).clamp(0.0, 1.0);
                return Some((milliseconds * 10.0).round() / 10.0);
            }
            below += count;
        }
        None
    }
}

fn lower_bound(bucket: u16) -> f64 {
    10_f64.powf(f64::from(bucket) / BUCKETS_PER_DECADE) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes the bucket as the database does.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn bucket(milliseconds: u32) -> u16 {
        (BUCKETS_PER_DECADE * f64::from(milliseconds + 1).log10()).floor() as u16
    }

    #[test]
    fn percentiles_are_right_within_a_sixth() {
        let mut durations = Durations::default();
        assert_eq!(durations.percentile(0.5), None);
        for milliseconds in 1..=10_000 {
            durations.add(bucket(milliseconds), 1);
        }
        for (fraction, expected) in [(0.5, 5000.0), (0.95, 9500.0), (0.99, 9900.0), (0.01, 100.0)] {
            let actual = durations.percentile(fraction).expect("some");
            assert!((actual / expected - 1.0).abs() < 0.17, "{fraction}: {actual}, not {expected}");
        }
    }

    #[test]
    fn extremes_have_a_place() {
        let mut durations = Durations::default();
        durations.add(bucket(0), 1);
        assert!(durations.percentile(0.99).expect("one") < 1.0);
        durations.add(bucket(600_000), 100);
        durations.add(u16::MAX, 1);
        assert!(durations.percentile(0.5).expect("some") > 500_000.0);
    }
}
