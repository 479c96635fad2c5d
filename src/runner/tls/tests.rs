//! An authority of our own, a name that is not the certificate's, a server that asks who we are.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    domain::outcome::{FailureKind, Outcome},
    runner::{
        HttpSettings, Runner, RunnerSettings, check_http,
        testing::{Trial, failure, http_settings, script_settings, success},
    },
};

/// An authority, and a directory with what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority =
            Self { issuer: issuer.expect("an authority"), dir: tempfile::tempdir().expect("a dir") };
        authority.file("ca.pem", &authority.issuer.pem());
        authority
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for `name`, and its key.
    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// A server with a certificate for `name`, which answers 204; it asks for a certificate of this authority
    /// if `asks`.
    async fn server(&self, name: &str, asks: bool) -> SocketAddr {
        let (certificate, key) = self.signed(name);
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        } else {
            ServerConfig::builder().with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).expect("a pair")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = [0; 4096];
                    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok();
                    }
                });
            }
        });
        address
    }

    fn trusted(&self) -> HttpSettings {
        HttpSettings { ca_file: Some(self.path("ca.pem")), ..http_settings() }
    }
}

async fn call(http: HttpSettings, server: SocketAddr) -> Outcome {
    let runner = Runner::new(RunnerSettings { http, script: script_settings() }).expect("a runner");
    let url = format!("https://localhost:{}/", server.port());
    Trial::new(&json!({"type": "http", "url": url})).run(&runner).await
}

fn transient(outcome: Outcome) -> String {
    let (failure, _) = failure(outcome);
    assert_eq!(failure.kind, FailureKind::Transient);
    failure.error
}

#[tokio::test]
async fn an_own_authority_is_trusted_where_it_is_named() {
    let authority = Authority::new();
    let server = authority.server("localhost", false).await;
    success(call(authority.trusted(), server).await);
    let told = transient(call(http_settings(), server).await);
    assert!(told.starts_with(&format!("no connection to localhost:{}: ", server.port())), "{told}");
    assert!(told.contains("invalid peer certificate: UnknownIssuer"), "{told}");
    // Another authority's certificates are still none of ours.
    let told = transient(call(Authority::new().trusted(), server).await);
    assert!(told.contains("invalid peer certificate"), "{told}");
}

#[tokio::test]
async fn a_certificate_must_be_for_the_name() {
    let authority = Authority::new();
    let server = authority.server("other.example", false).await;
    let told = transient(call(authority.trusted(), server).await);
    assert!(told.contains("not valid for name \"localhost\"") && told.contains("other.example"), "{told}");
}

#[tokio::test]
async fn who_asks_is_shown_the_client_certificate() {
    let authority = Authority::new();
    let server = authority.server("localhost", true).await;
    let told = transient(call(authority.trusted(), server).await);
    assert!(told.contains("CertificateRequired"), "{told}");
    let (certificate, key) = authority.signed("provisiond");
    let pair = authority.file("client.pem", &format!("{certificate}{key}"));
    success(call(HttpSettings { client_cert: Some(pair), ..authority.trusted() }, server).await);
}

#[tokio::test]
async fn an_unusable_file_is_named_with_its_problem() {
    let authority = Authority::new();
    let ((certificate, _), (_, other_key)) = (authority.signed("a"), authority.signed("b"));
    let garbage = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let told = |key: &str, name: &str, text: Option<&str>| {
        let path = text.map_or_else(|| authority.path(name), |text| authority.file(name, text));
        let mut settings = http_settings();
        *(if key == "http.ca_file" { &mut settings.ca_file } else { &mut settings.client_cert }) =
            Some(path.clone());
        let told = format!("{:#}", check_http(&settings).expect_err(name));
        assert!(told.starts_with(&format!("{key} {}", path.display())), "{told}");
        told
    };
    for (key, text, problem) in [
        ("http.ca_file", None, "cannot be read: No such file"),
        ("http.ca_file", Some("no PEM"), "it holds no certificate"),
        ("http.ca_file", Some(garbage), "a certificate that cannot be used"),
        ("http.client_cert", None, "cannot be read: No such file"),
        ("http.client_cert", Some(&*other_key), "it holds no certificate"),
        ("http.client_cert", Some(&*certificate), "no private key"),
        ("http.client_cert", Some(&*format!("{certificate}{other_key}")), "cannot be used together"),
    ] {
        let told = told(key, &problem.replace(' ', "-"), text);
        assert!(told.contains(problem), "{told}");
    }
}
