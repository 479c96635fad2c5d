use super::*;

fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 8,
        initial_interval: Duration::from_secs(5),
        multiplier: 5.0,
        max_interval: Duration::from_hours(6),
        jitter: 0.0,
    }
}

#[test]
fn the_default_schedule_is_the_designed_one() {
    let seconds: Vec<u64> = (1..=7).map(|n| policy().delay_after(n, None).as_secs()).collect();
    // 5 s, 25 s, 2 m, 10 m, 52 m, 4.3 h, 6 h, each rounded up to four significant bits.
    assert_eq!(seconds, [5, 26, 128, 640, 3_328, 16_384, 22_528]);
    for (n, s) in [5_u64, 25, 125, 625, 3_125, 15_625, 21_600].into_iter().zip(seconds) {
        assert!(s >= n && s * 8 <= n * 9, "{s} for {n}");
    }
}

#[test]
fn the_longer_of_retry_after_and_schedule_applies() {
    let delay_for = |s| policy().delay_after(1, Some(Duration::from_secs(s))).as_secs();
    assert_eq!((delay_for(3), delay_for(7), delay_for(1_000_000)), (5, 7, 22_528));
}

#[test]
fn jitter_stays_in_its_range() {
    let policy = RetryPolicy { jitter: 0.2, initial_interval: Duration::from_secs(10), ..policy() };
    for _ in 0..200 {
        assert!((8..=12).contains(&policy.delay_after(1, None).as_secs()));
    }
}

#[test]
fn rounding_needs_at_most_four_hops_and_never_shortens() {
    for seconds in (0..5_000).chain([65_535, 65_537, 900_000, 983_040]) {
        let rounded = ladder_delay(Duration::from_secs(seconds)).as_secs();
        assert!(rounded >= seconds && rounded.count_ones() <= 4, "{seconds} → {rounded}");
    }
    assert_eq!(ladder_delay(Duration::from_millis(1)), Duration::from_secs(1));
    assert!(ladder_delay(Duration::MAX) <= MAX_DELAY);
}

#[test]
fn overrides_are_checked_by_key() {
    let parse = |json: &str| serde_json::from_str::<RetryOverrides>(json).map_err(|e| e.to_string());
    assert_eq!(
        parse(r#"{"initial_interval":"10s"}"#).expect("fine").initial_interval,
        Some(Duration::from_secs(10))
    );
    for (json, key) in [
        (r#"{"max_attempts":0}"#, "max_attempts"),
        (r#"{"initial_interval":"20d"}"#, "initial_interval"),
        (r#"{"jitter":1.5}"#, "jitter"),
        (r#"{"tries":3}"#, "tries"),
    ] {
        assert!(parse(json).expect_err(json).contains(key));
    }
}
