//! Finds expired certificates in the configured files.

use std::time::SystemTime;

use super::report::{Finding, State, finding};
use crate::{config::Config, tls};

/// One finding for each expired certificate. A file that cannot be read is reported by the check that uses it.
pub(super) fn expired(config: &Config) -> Vec<Finding> {
    let files = [
        ("http.ca_file", &config.http.ca_file),
        ("amqp.ca_file", &config.amqp.ca_file),
        ("database.ca_file", &config.database.ca_file),
        ("http.client_cert", &config.http.client_cert),
    ];
    let mut findings = Vec::new();
    for (key, path) in files.iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        let certificates = tls::authorities(key, path).unwrap_or_default();
        for expired in tls::expired(&certificates, SystemTime::now()) {
            let message = format!("{key} {}: {expired}; put a renewed one into the file", path.display());
            findings.push(finding("certificates", State::Warning, message));
        }
    }
    findings
}
