use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A circuit after one attempt a second (true: it failed), and the time of the last one.
fn after(attempts: &[bool]) -> (Circuit, Instant) {
    let (mut circuit, mut now) = (Circuit::new(1), Instant::now());
    for failed in attempts {
        now += SECOND;
        circuit.record(1, false, failed.then_some("answered 503"), now);
    }
    (circuit, now)
}

#[test]
fn a_circuit_opens_if_seven_of_ten_attempts_fail() {
    for (attempts, rejected) in [
        ([true; 9].as_slice(), false),
        (&[true, true, true, false, false, false, true, true, true, true], true),
        (&[false, true, true, true, false, false, true, false, true, true], false),
        (&[false; 40], false),
    ] {
        let (mut circuit, now) = after(attempts);
        assert_eq!(circuit.admit(now).is_err(), rejected, "{attempts:?}");
    }
    let old = [[true; 9].as_slice(), &[false; 61], &[true; 5]].concat();
    assert!(after(&old).0.admit(after(&old).1).is_ok(), "what was more than a minute ago does not count");
}

#[test]
fn one_probe_decides() {
    let (mut circuit, opened) = after(&[true; 10]);
    let rejected = circuit.admit(opened + SECOND).expect_err("open");
    assert_eq!(rejected.wait + SECOND, OPEN_INTERVAL);
    assert_eq!(rejected.error, "circuit open; the last failure: answered 503");

    let later = opened + OPEN_INTERVAL;
    assert_eq!(circuit.admit(later), Ok(true), "a probe");
    assert!(circuit.admit(later).is_err(), "and only one");
    assert_eq!(circuit.record(1, false, None, later), None, "what began before it opened decides nothing");
    assert_eq!(circuit.record(1, true, Some("no answer"), later), None);
    assert_eq!(circuit.admit(later).expect_err("open again").wait, OPEN_INTERVAL);

    let later = later + OPEN_INTERVAL;
    assert_eq!(circuit.admit(later), Ok(true));
    assert_eq!(circuit.record(1, true, None, later), Some(Change::Closed));
    assert_eq!(circuit.admit(later), Ok(false), "closed, and its failures are forgotten");
}

#[test]
fn many_attempts_are_judged_by_the_latest() {
    let (mut circuit, mut now) = (Circuit::new(1), Instant::now());
    for _ in 0..5000 {
        now += Duration::from_millis(5);
        circuit.record(1, false, None, now);
    }
    let opened_after =
        (1..MAX_ATTEMPTS).find(|_| circuit.record(1, false, Some("no"), now) == Some(Change::Opened));
    assert_eq!(opened_after, Some(700));
}

#[test]
fn a_changed_handler_gets_a_new_circuit() {
    let breakers = Breakers::default();
    let fail = |version| {
        let is_probe = breakers.update(HandlerId(1), version, |circuit| circuit.admit(Instant::now()));
        if let Ok(is_probe) = is_probe {
            Permit { breakers: &breakers, handler: HandlerId(1), version, is_probe }.failed("no");
        }
        is_probe.is_ok()
    };
    assert!((0..10).all(|_| fail(1)));
    assert!(!fail(1));
    assert!(fail(2), "the mended one is called");
    // A late result of the old version does not count for the new version.
    Permit { breakers: &breakers, handler: HandlerId(1), version: 1, is_probe: true }.failed("no");
    assert!(fail(2));
}
