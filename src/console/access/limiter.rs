//! Limits tries to sign in, by client address and by user name.
//!
//! A name gets more tries than an address, so that an attacker cannot lock its owner out for long. Memory is bounded:
//! if there are too many entries, those with the oldest windows are removed.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_mins(5);
/// Failures allowed within the window.
const BY_ADDRESS: u32 = 10;
const BY_NAME: u32 = 50;
const MAX_REMEMBERED: usize = 10_000;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Name(String),
}

struct Tries {
    since: Instant,
    failed: u32,
}

/// Recent failures. They are in memory, so each process counts by itself.
#[derive(Default)]
pub struct Limiter(Mutex<HashMap<Key, Tries>>);

impl Limiter {
    /// Counts a try as failed until [`Limiter::forgive`] takes it back. Parallel tries are therefore counted too.
    ///
    /// # Errors
    /// The seconds to wait, if there were too many failures.
    pub fn begin(&self, address: IpAddr, name: &str) -> Result<(), u64> {
        self.begin_at(Instant::now(), address, name)
    }

    fn begin_at(&self, now: Instant, address: IpAddr, name: &str) -> Result<(), u64> {
        let mut tries = self.0.lock();
        if tries.len() >= MAX_REMEMBERED {
            forget(&mut tries, now);
        }
        let keys = keys(address, name);
        for (key, limit) in &keys {
            if let Some(known) = tries.get(key).filter(|known| known.failed >= *limit) {
                let left = WINDOW.saturating_sub(now.duration_since(known.since));
                if !left.is_zero() {
                    return Err(left.as_secs() + 1);
                }
            }
        }
        for (key, _) in keys {
            let known = tries.entry(key).or_insert(Tries { since: now, failed: 0 });
            if now.duration_since(known.since) >= WINDOW {
                *known = Tries { since: now, failed: 0 };
            }
            known.failed += 1;
        }
        Ok(())
    }

    /// Takes back the count of a try whose password was right, or was not checked.
    pub fn forgive(&self, address: IpAddr, name: &str) {
        let mut tries = self.0.lock();
        for (key, _) in keys(address, name) {
            if let Some(known) = tries.get_mut(&key) {
                known.failed = known.failed.saturating_sub(1);
            }
        }
    }
}

/// The keys of a try, with their limits. An IPv6 address counts as its /64 network, as one host has 2^64 addresses.
fn keys(address: IpAddr, name: &str) -> [(Key, u32); 2] {
    let address = match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    };
    // No user name is longer.
    let name = name.chars().take(64).collect();
    [(Key::Address(address), BY_ADDRESS), (Key::Name(name), BY_NAME)]
}

/// Removes entries whose window has ended. If that is not enough, it also removes the older half.
fn forget(tries: &mut HashMap<Key, Tries>, now: Instant) {
    tries.retain(|_, known| now.duration_since(known.since) < WINDOW);
    if tries.len() >= MAX_REMEMBERED {
        let mut times: Vec<Instant> = tries.values().map(|known| known.since).collect();
        let half = times.len() / 2;
        let (_, middle, _) = times.select_nth_unstable(half);
        let middle = *middle;
        tries.retain(|_, known| known.since > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn an_address_is_stopped_and_others_are_not() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..BY_ADDRESS {
            assert_eq!(limiter.begin_at(now, address(1), &format!("user {n}")), Ok(()));
        }
        assert_eq!(limiter.begin_at(now, address(1), "ann"), Err(301));
        assert_eq!(limiter.begin_at(now, address(2), "ann"), Ok(()));
        assert_eq!(limiter.begin_at(now + WINDOW, address(1), "ann"), Ok(()), "after a while it may again");
    }

    #[test]
    fn a_name_is_stopped_wherever_it_is_tried_from() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..BY_NAME {
            assert_eq!(limiter.begin_at(now, address(n), "ann"), Ok(()));
        }
        assert!(limiter.begin_at(now, address(1000), "ann").is_err());
        assert_eq!(limiter.begin_at(now, address(1000), "bob"), Ok(()));
    }

    #[test]
    fn who_knows_the_password_is_never_stopped() {
        let limiter = Limiter::default();
        for _ in 0..100 {
            assert_eq!(limiter.begin(address(1), "ann"), Ok(()));
            limiter.forgive(address(1), "ann");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..30_000_u32 {
            let at = now + Duration::from_millis(u64::from(n));
            let _ = limiter.begin_at(at, address(n), &format!("user {n}"));
        }
        assert!(limiter.0.lock().len() <= MAX_REMEMBERED + 2);
    }

    #[test]
    fn the_addresses_of_one_ipv6_host_are_one() {
        let limiter = Limiter::default();
        for n in 0..BY_ADDRESS {
            let one = format!("2001:db8::{n:x}").parse().expect("an address");
            assert_eq!(limiter.begin(one, &n.to_string()), Ok(()));
        }
        assert!(limiter.begin("2001:db8::ffff".parse().expect("an address"), "x").is_err());
    }
}
