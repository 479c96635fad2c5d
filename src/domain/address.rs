//! The rules that decide which addresses handlers may call.
//!
//! A rule is a network. An address in `deny` is rejected unless it is also in `allow`; all other addresses may be
//! called. An IPv6 address can carry an IPv4 address, and some networks route it to that one. Both are checked, and
//! each must pass.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// The networks of `http.deny` and `http.allow`.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    pub deny: Vec<IpNet>,
    /// Overrides `deny`.
    pub allow: Vec<IpNet>,
}

/// A denied address, and the rule that denies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    pub address: IpAddr,
    /// The address that matches the rule: `address` itself, or the IPv4 address that it carries.
    pub judged: IpAddr,
    pub rule: IpNet,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.judged != self.address {
            write!(f, ", which leads to {},", self.judged)?;
        }
        write!(f, " is denied by {} (http.deny; http.allow can permit it)", self.rule)
    }
}

impl AddressRules {
    /// Checks whether handlers may call `address`.
    ///
    /// # Errors
    /// Names the first rule that denies `address`.
    pub fn check(&self, address: IpAddr) -> Result<(), Denied> {
        let embedded = match address {
            IpAddr::V4(_) => [None; 2],
            IpAddr::V6(address) => embedded_ipv4(address),
        };
        for judged in std::iter::once(address).chain(embedded.into_iter().flatten().map(IpAddr::V4)) {
            let find_rule = |rules: &[IpNet]| rules.iter().find(|rule| rule.contains(&judged)).copied();
            if let Some(rule) = find_rule(&self.deny)
                && find_rule(&self.allow).is_none()
            {
                return Err(Denied { address, judged, rule });
            }
        }
        Ok(())
    }
}

/// The IPv4 addresses that an IPv6 address may lead to: one in its last 32 bits, one after its prefix.
fn embedded_ipv4(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    let segments = address.segments();
    let tail = match segments {
        // :: and ::1 carry no IPv4 address.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible, -mapped and -translated; NAT64 (RFC 6052); ISATAP (RFC 5214) with any prefix.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => v4(high, low),
        // Teredo (RFC 4380): the address of the client, with inverted bits.
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => None,
    };
    let head = match segments {
        // 6to4 (RFC 3056); Teredo's server.
        [0x2002, high, low, ..] | [0x2001, 0, high, low, ..] => v4(high, low),
        _ => None,
    };
    [tail, head]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(deny: &[&str], allow: &[&str]) -> AddressRules {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a network")).collect();
        AddressRules { deny: nets(deny), allow: nets(allow) }
    }

    fn denied(rules: &AddressRules, address: &str) -> Option<String> {
        rules.check(address.parse().expect("an address")).err().map(|denied| denied.to_string())
    }

    #[test]
    fn an_embedded_address_is_checked_too() {
        let rules = rules(&["169.254.0.0/16"], &[]);
        for address in [
            "::ffff:169.254.1.2",
            "::169.254.1.2",
            "::ffff:0:169.254.1.2",
            "64:ff9b::169.254.1.2",
            "2002:a9fe:0102::1",
            "2001:0:a9fe:0102::1",
            "2001:0:1:2:0:0:5601:fefd",
            "2001:db8::5efe:169.254.1.2",
            "2001:db8::200:5efe:169.254.1.2",
            "2002:a9fe:0102::5efe:1.1.1.1",
        ] {
            let error = denied(&rules, address).unwrap_or_else(|| panic!("{address} passed"));
            assert!(
                error.contains(", which leads to 169.254.1.2, is denied by 169.254.0.0/16 (http.deny"),
                "{error}"
            );
        }
        for address in ["::ffff:169.253.1.2", "2001:db8::169.254.1.2", "::1", "::", "64:ff9b:2::a9fe:102"] {
            assert_eq!(denied(&rules, address), None, "{address}");
        }
    }

    #[test]
    fn allow_overrides_deny_and_every_embedded_address_is_checked() {
        let rules = rules(&["169.254.0.0/16", "fe80::/10", "::ffff:0:0/96"], &["169.254.7.0/24", "::/0"]);
        assert_eq!(denied(&rules, "169.254.7.8"), None);
        assert_eq!(denied(&rules, "::ffff:169.254.7.8"), None);
        assert_eq!(denied(&rules, "fe80::1"), None);
        assert!(denied(&rules, "::ffff:169.254.8.8").is_some_and(|error| error.contains("169.254.0.0/16")));
        let error = denied(&rules, "169.254.8.8").expect("denied");
        assert_eq!(error, "169.254.8.8 is denied by 169.254.0.0/16 (http.deny; http.allow can permit it)");
    }
}
