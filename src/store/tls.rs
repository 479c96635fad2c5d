//! TLS to PostgreSQL: off, or with verification of the server's certificate and name.
//!
//! The modes of libpq in between (`prefer`, `allow`) are rejected because they protect against nobody.

mod connector;

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::tls::{self, Roots};

pub(super) use connector::Connector;

const CA_FILE: &str = "database.ca_file";

/// The TLS settings in a URL. tokio-postgres understands only some of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UrlTls {
    /// The URL without `sslmode` and `sslrootcert`.
    pub url: String,
    pub required: bool,
    pub ca_file: Option<PathBuf>,
}

/// Removes `sslmode` and `sslrootcert` from a URL or a `key=value` string.
pub(super) fn take_from_url(url: &str) -> anyhow::Result<UrlTls> {
    let (head, pairs, separator) = match url.split_once('?') {
        Some((head, query)) if url.contains("://") => (Some(head), query, '&'),
        _ if url.contains("://") => (Some(url), "", '&'),
        _ => (None, url, ' '),
    };
    let mut required = None;
    let mut ca_file = None;
    let mut kept = Vec::new();
    for pair in pairs.split(separator) {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => required = Some(verifies(mode)?),
            Some(("sslrootcert", path)) => ca_file = Some(PathBuf::from(path)),
            _ if pair.is_empty() => {}
            _ => kept.push(pair),
        }
    }
    let kept = kept.join(&separator.to_string());
    let url = match head {
        Some(head) if kept.is_empty() => head.to_owned(),
        Some(head) => format!("{head}?{kept}"),
        None => kept,
    };
    Ok(UrlTls { url, required: required.unwrap_or(ca_file.is_some()), ca_file })
}

fn verifies(mode: &str) -> anyhow::Result<bool> {
    match mode {
        "disable" => Ok(false),
        // libpq verifies less for `require` and `verify-ca`. provisiond always verifies everything.
        "require" | "verify-ca" | "verify-full" => Ok(true),
        _ => bail!("sslmode={mode} is not supported: use verify-full (TLS, verified) or disable (no TLS)"),
    }
}

/// A connector that trusts the certificates of `ca_file`, or those of the system.
pub(super) fn verifying(ca_file: Option<&Path>) -> anyhow::Result<Connector> {
    let builder = match ca_file {
        Some(path) => tls::config(tls::authorities(CA_FILE, path)?, Roots::Own),
        None => tls::config(Vec::new(), Roots::System),
    };
    Ok(Connector::new(builder?.with_no_client_auth()))
}

/// A connector for connections without TLS, which never use it.
pub(super) fn unused() -> anyhow::Result<Connector> {
    tls::without_trust().map(Connector::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_taken_out_of_the_url() {
        for (input, url, required, ca) in [
            ("postgres://u@h/d", "postgres://u@h/d", false, None),
            ("postgres://u@h/d?sslmode=verify-full", "postgres://u@h/d", true, None),
            (
                "postgres://u@h/d?a=1&sslmode=require&sslrootcert=/ca.pem&b=2",
                "postgres://u@h/d?a=1&b=2",
                true,
                Some("/ca.pem"),
            ),
            ("postgres://u@h/d?sslrootcert=/ca.pem", "postgres://u@h/d", true, Some("/ca.pem")),
            ("postgres://u@h/d?sslmode=disable&sslrootcert=/c", "postgres://u@h/d", false, Some("/c")),
            ("host=h sslmode=verify-full user=u", "host=h user=u", true, None),
        ] {
            let expected = UrlTls { url: url.into(), required, ca_file: ca.map(PathBuf::from) };
            assert_eq!(take_from_url(input).expect(input), expected);
        }
        assert!(take_from_url("postgres://h/d?sslmode=prefer").is_err());
    }

    #[test]
    fn a_ca_file_must_hold_a_certificate() {
        let empty = tempfile::NamedTempFile::new().expect("a file");
        let error = |path: &Path| verifying(Some(path)).err().expect("refused");
        assert!(format!("{:#}", error(empty.path())).contains("holds no certificate"));
        assert!(error(Path::new("/nowhere.pem")).to_string().contains("/nowhere.pem cannot be read"));
    }
}
