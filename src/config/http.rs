//! Section `http`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{
    reader::Reader,
    value::{list, path_or_none, timeout},
};
use crate::domain::{address::AddressRules, handler::Timeout};

/// Settings of HTTP tasks.
#[derive(Clone, Debug)]
pub struct Http {
    /// The default timeout of one attempt; it includes reading the body.
    pub timeout: Timeout,
    /// Timeout for connecting; `timeout` includes this time.
    pub connect_timeout: Duration,
    /// The addresses that handlers may call.
    pub rules: AddressRules,
    /// CA certificates (PEM) that TLS trusts in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, chain and key (PEM), for endpoints that request a certificate.
    pub client_cert: Option<PathBuf>,
}

impl Http {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self {
            timeout: reader.get("http.timeout", timeout)?,
            connect_timeout: reader.get("http.connect_timeout", timeout)?.duration(),
            rules: AddressRules {
                deny: reader.get("http.deny", list(network))?,
                allow: reader.get("http.allow", list(network))?,
            },
            ca_file: reader.get("http.ca_file", path_or_none)?,
            client_cert: reader.get("http.client_cert", path_or_none)?,
        })
    }
}

/// Parses a network, or a single address as a network of one.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        format!("must be networks such as 10.0.0.0/8 or fd00::/8, or addresses, not {text:?}")
    })?;
    if network.trunc() != network {
        return Err(format!(
            "{text} has bits set after its prefix: write {} or {}",
            network.trunc(),
            network.addr()
        ));
    }
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
    {
        return Err(format!(
            "write {text} as {v4}/{prefix}: that also covers the IPv6 forms of these addresses"
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn metadata_is_denied_by_default_and_a_list_may_be_one_text() {
        let load = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            crate::config::load(Some(Path::new("/dev/null")), env)
        };
        let rules = |env| load(env).expect("fine").config.http.rules;
        assert!(rules(&[]).check("169.254.169.254".parse().expect("an address")).is_err());
        let allowed = rules(&[("PROVISIOND_HTTP__ALLOW", "169.254.169.254, fe80::/64")]);
        assert!(allowed.check("169.254.169.254".parse().expect("an address")).is_ok());
        let error = load(&[("PROVISIOND_HTTP__DENY", "10.0.0.1/8")]).expect_err("bits").to_string();
        assert!(error.starts_with("http.deny (environment variable PROVISIOND_HTTP__DENY): "), "{error}");
    }

    #[test]
    fn networks_and_addresses_are_parsed() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            (" 10.1.2.3 ", "10.1.2.3/32"),
            ("fd00:ec2::254", "fd00:ec2::254/128"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).expect(text).to_string(), expected);
        }
        for (bad, expected) in [
            ("", "must be networks such as 10.0.0.0/8"),
            ("crm.example", "not \"crm.example\""),
            ("10.0.0.0/33", "must be networks"),
            ("010.0.0.1", "must be networks"),
            ("10.0.0.1/8", "write 10.0.0.0/8 or 10.0.0.1"),
            ("::ffff:10.0.0.0/104", "as 10.0.0.0/8"),
        ] {
            let error = network(bad).expect_err(bad);
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
