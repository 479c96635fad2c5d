//! Calls over TLS: a CA of our own, a certificate for another name, a server that asks for a client
//! certificate.

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

/// A CA, and a directory for the files with its certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
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

    /// A certificate for `name`, with its key.
    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// Accepts TLS connections with a certificate for `name`, and selects the first of `protocols` that the
    /// client offers.
    pub fn acceptor(&self, name: &str, protocols: &[&str]) -> TlsAcceptor {
        let mut config = config(&self.signed(name));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server with a certificate for `name` that answers 204. If `requires_client_cert` is set, the client
    /// has to present a certificate of this CA.
    async fn server(&self, name: &str, requires_client_cert: bool) -> SocketAddr {
        let (certificate, key) = self.signed(name);
        let builder = if requires_client_cert {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        } else {
            ServerConfig::builder().with_no_client_auth()
        };
        let (chain, key) = read((&certificate, &key));
        serve(builder.with_single_cert(chain, key).expect("a pair")).await
    }

    pub fn trusted(&self) -> HttpSettings {
        HttpSettings { ca_file: Some(self.path("ca.pem")), ..http_settings() }
    }
}

fn read((certificate, key): (&str, &str)) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
    (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"))
}

fn config((certificate, key): &(String, String)) -> ServerConfig {
    let (chain, key) = read((certificate, key));
    ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair")
}

/// Answers 204 to every client whose handshake succeeds.
async fn serve(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
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

/// A self-signed certificate and its key, as `openssl req -x509` makes them: for `names`, valid from the year
/// `from` to the year `to`.
fn self_signed(names: &[&str], from: i32, to: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
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
async fn a_configured_authority_is_trusted() {
    let authority = Authority::new();
    let server = authority.server("localhost", false).await;
    success(call(authority.trusted(), server).await);
    let error = transient(call(http_settings(), server).await);
    assert!(error.starts_with(&format!("no connection to localhost:{}: ", server.port())), "{error}");
    assert!(error.contains("invalid peer certificate: UnknownIssuer"), "{error}");
    // It does not help to trust another CA.
    let error = transient(call(Authority::new().trusted(), server).await);
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_certificate_must_be_for_the_name() {
    let authority = Authority::new();
    let server = authority.server("other.example", false).await;
    let error = transient(call(authority.trusted(), server).await);
    assert!(error.contains("not valid for name \"localhost\"") && error.contains("other.example"), "{error}");
}

#[tokio::test]
async fn the_client_certificate_is_sent_on_request() {
    let authority = Authority::new();
    let server = authority.server("localhost", true).await;
    let error = transient(call(authority.trusted(), server).await);
    assert!(error.contains("CertificateRequired"), "{error}");
    let (certificate, key) = authority.signed("provisiond");
    let pair = authority.file("client.pem", &format!("{certificate}{key}"));
    success(call(HttpSettings { client_cert: Some(pair), ..authority.trusted() }, server).await);
}

#[tokio::test]
async fn an_unusable_file_is_named_with_its_problem() {
    let authority = Authority::new();
    let ((certificate, _), (_, other_key)) = (authority.signed("a"), authority.signed("b"));
    let garbage = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let check_error = |key: &str, name: &str, text: Option<&str>| {
        let path = text.map_or_else(|| authority.path(name), |text| authority.file(name, text));
        let mut settings = http_settings();
        *(if key == "http.ca_file" { &mut settings.ca_file } else { &mut settings.client_cert }) =
            Some(path.clone());
        let error = format!("{:#}", check_http(&settings).expect_err(name));
        assert!(error.starts_with(&format!("{key} {}", path.display())), "{error}");
        error
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
        let error = check_error(key, &problem.replace(' ', "-"), text);
        assert!(error.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn a_configured_self_signed_certificate_is_trusted() {
    let authority = Authority::new();
    let own = self_signed(&["localhost"], 2020, 2090);
    let trusting =
        |pem: &str| HttpSettings { ca_file: Some(authority.file("own.pem", pem)), ..http_settings() };
    let server = serve(config(&own)).await;
    success(call(trusting(&own.0), server).await);
    // Also if other certificates are in the file.
    let several = format!("{}{}", authority.issuer.pem(), own.0);
    success(call(trusting(&several), server).await);

    // Another certificate with the same names is not trusted.
    let error = transient(call(trusting(&self_signed(&["localhost"], 2020, 2090).0), server).await);
    assert!(error.contains("put exactly this certificate into http.ca_file"), "{error}");

    for (names, from, to, advice) in [
        (&["localhost"][..], 2020, 2021, "certificate has expired: renew it"),
        (&["localhost"], 2080, 2090, "certificate is not valid yet: check the clocks"),
        (&["other.example"], 2020, 2090, "use a name of the certificate"),
        (&[], 2020, 2090, "no subjectAltName"),
    ] {
        let own = self_signed(names, from, to);
        let server = serve(config(&own)).await;
        let error = transient(call(trusting(&own.0), server).await);
        assert!(error.contains(advice), "{error}");
    }
    // Certificates signed by it are trusted, as those of any CA. But whoever has only the certificate,
    // without its key, cannot use it.
    let stolen = (own.0.clone(), self_signed(&["localhost"], 2020, 2090).1);
    let (chain, key) = read((&stolen.0, &stolen.1));
    assert!(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).is_err());
}

#[tokio::test]
async fn a_tls_error_says_what_to_do() {
    let authority = Authority::new();
    let server = authority.server("localhost", false).await;
    let error = transient(call(http_settings(), server).await);
    assert!(error.contains("put its CA's certificate into http.ca_file"), "{error}");
    let other = authority.server("other.example", false).await;
    let error = transient(call(authority.trusted(), other).await);
    assert!(error.contains("use a name of the certificate"), "{error}");
    let asking = authority.server("localhost", true).await;
    let error = transient(call(authority.trusted(), asking).await);
    assert!(error.contains("set http.client_cert"), "{error}");

    // Plain HTTP to a port that speaks TLS.
    let runner = Runner::new(RunnerSettings { http: http_settings(), script: script_settings() });
    let plain = Trial::new(&json!({"type": "http", "url": format!("http://{server}/")}));
    let error = transient(plain.run(&runner.expect("a runner")).await);
    assert!(error.contains("if the port speaks TLS, the url must begin with https://"), "{error}");
}

#[tokio::test]
async fn http2_that_is_offered_but_not_spoken_is_reported() {
    let authority = Authority::new();
    let mut config = config(&authority.signed("localhost"));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = transient(call(authority.trusted(), serve(config).await).await);
    assert!(error.contains("HTTP/2 (ALPN)"), "{error}");
}
