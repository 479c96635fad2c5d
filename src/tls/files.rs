//! Reads files with certificates and private keys.

use std::{fs, path::Path, time::SystemTime};

use anyhow::{Context, bail, ensure};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_cert::{Certificate, der::Decode};

/// Reads the CA certificates in the file at `path`, which the configuration names as `key`.
pub fn authorities(key: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let (file, bytes) = read(key, path)?;
    let parsed = certificates(&bytes).with_context(|| file.clone())?;
    let mut roots = RootCertStore::empty();
    for certificate in &parsed {
        roots
            .add(certificate.clone())
            .with_context(|| format!("{file} holds a certificate that cannot be used"))?;
    }
    Ok(parsed)
}

/// Reads a certificate, its chain and its private key from the file at `path`, which the configuration names
/// as `key`.
pub fn identity(
    key: &str,
    path: &Path,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (file, bytes) = read(key, path)?;
    let chain = certificates(&bytes).with_context(|| file.clone())?;
    let Ok(private_key) = PrivateKeyDer::from_pem_slice(&bytes) else {
        bail!("{file} holds no private key in PEM without a password: add it after the certificate");
    };
    let provider = CryptoProvider::get_default().context("no TLS provider is installed in this process")?;
    CertifiedKey::from_der(chain.clone(), private_key.clone_key(), provider)
        .with_context(|| format!("{file}: certificate and key cannot be used together"))?;
    Ok((chain, private_key))
}

/// Describes those of `certificates` that have expired at `now`: their subjects, and since when.
pub fn expired(certificates: &[CertificateDer<'_>], now: SystemTime) -> Vec<String> {
    let describe = |der: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        let end = certificate.validity.not_after;
        (end.to_system_time() < now).then(|| format!("{} expired on {}", certificate.subject, end))
    };
    certificates.iter().filter_map(describe).collect()
}

/// The description of the file for errors, and its content without a byte order mark.
fn read(key: &str, path: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    let file = format!("{key} {}", path.display());
    let bytes = fs::read(path).with_context(|| format!("{file} cannot be read"))?;
    let content = bytes.strip_prefix(b"\xEF\xBB\xBF").map(<[u8]>::to_vec);
    Ok((file, content.unwrap_or(bytes)))
}

fn certificates(bytes: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let parsed = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let parsed =
        parsed.map_err(|error| anyhow::anyhow!("it is not valid PEM: {}", pem_error_text(&error)))?;
    ensure!(
        !parsed.is_empty(),
        "it holds no certificate (PEM, -----BEGIN CERTIFICATE----- at the beginning of a line){}",
        format_hint(bytes)
    );
    Ok(parsed)
}

/// The text for a PEM error. The library prints the bytes that it found as a list of numbers.
fn pem_error_text(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "it is cut off, or in one line: the line -----END …----- is missing".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => "-----BEGIN …----- must be on a line of its own".to_owned(),
        pem::Error::Base64Decode(_) => "the text between BEGIN and END is not Base64".to_owned(),
        other => other.to_string(),
    }
}

/// What a file without certificates seems to contain, and how to convert it.
fn format_hint(bytes: &[u8]) -> &'static str {
    let has = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    match bytes {
        [0x30, 0x80..=0x84, ..] => {
            ": it seems to be DER (openssl x509 -inform der -in … -out … converts it to PEM)"
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => ": it is UTF-16; save it as UTF-8",
        _ if has("BEGIN TRUSTED CERTIFICATE") => {
            ": it holds a TRUSTED CERTIFICATE (openssl x509 -in … -out … converts it to a CERTIFICATE)"
        }
        _ if has("BEGIN PKCS7") => {
            ": it is PKCS#7 (openssl pkcs7 -print_certs -in … -out … converts it to PEM)"
        }
        _ if has("PRIVATE KEY") => ": it holds a private key",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(bytes: &[u8]) -> String {
        format!("{:#}", certificates(bytes).expect_err("refused"))
    }

    #[test]
    fn an_error_names_the_format_of_a_file_that_is_not_pem() {
        let pem = rcgen::generate_simple_self_signed(["h".to_owned()]).expect("made").cert.pem();
        let one_line = pem.replace('\n', "");
        for (bytes, expected) in [
            (&pem.as_bytes()[..pem.len() / 2], "cut off"),
            (one_line.as_bytes(), "line"),
            (pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE").as_bytes(), "TRUSTED CERTIFICATE (openssl"),
            (b"\x30\x82\x01\x02", "DER (openssl"),
            (b"\xFF\xFE-\0", "UTF-16"),
            (b"", "holds no certificate"),
        ] {
            let error = error_of(bytes);
            assert!(error.contains(expected) && error.len() < 250, "{expected}: {error}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("bom.pem");
        fs::write(&path, format!("\u{FEFF}{pem}")).expect("written");
        assert_eq!(authorities("http.ca_file", &path).expect("read").len(), 1);
    }

    #[test]
    fn an_expired_certificate_is_named_with_its_date() {
        let certificate = |year| {
            let mut params = rcgen::CertificateParams::new(["h".to_owned()]).expect("a name");
            params.distinguished_name.push(rcgen::DnType::CommonName, "Old CA");
            params.not_after = rcgen::date_time_ymd(year, 1, 2);
            params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").der().clone()
        };
        let descriptions = expired(&[certificate(2021), certificate(2090)], SystemTime::now());
        assert!(
            matches!(&*descriptions, [one] if one.contains("Old CA") && one.contains("expired on 2021-01-02")),
            "{descriptions:?}"
        );
    }
}
