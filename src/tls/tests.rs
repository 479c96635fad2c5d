//! Connects to servers with certificates made by openssl, and checks the errors.

use std::{
    io::{BufRead, BufReader, ErrorKind},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Peer, Roots, authorities, config, explained};

/// `openssl s_server`, killed at the end of its test.
struct Server {
    dir: TempDir,
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A directory with a key and a self-signed certificate for localhost, made with `options`.
fn certificate(options: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let request = ["req", "-x509", "-nodes", "-subj", "/CN=localhost", "-keyout", "key", "-out", "cert"];
    let name = ["-addext", "subjectAltName=DNS:localhost"];
    openssl(dir.path(), &[&request[..], &name, options].concat());
    dir
}

impl Server {
    fn new(dir: TempDir, options: &[&str]) -> Self {
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert", "-key", "key"])
            .args(options)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let ready = |line: std::io::Result<String>| line.ok()?.strip_prefix("ACCEPT ")?.parse().ok();
        let address = output.lines().find_map(ready).expect("an address");
        Self { dir, process, address }
    }

    /// The error of a connection that trusts only the file `trusted`. None if it succeeds.
    async fn connect_error(&self, trusted: &str, peer: &Peer) -> Option<String> {
        let own = authorities(peer.ca_file, &self.dir.path().join(trusted)).expect("certificates");
        connect(self.address, own, peer).await
    }
}

async fn connect(address: SocketAddr, own: Vec<CertificateDer<'static>>, peer: &Peer) -> Option<String> {
    let config = config(own, Roots::Own).expect("a configuration").with_no_client_auth();
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
        Ok(stream) => stream,
        Err(error) => return Some(explained(error, peer).to_string()),
    };
    // With TLS 1.3 a server refuses a client only after the client has completed its handshake.
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut byte);
    match tokio::time::timeout(std::time::Duration::from_millis(300), read).await {
        Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => Some(explained(error, peer).to_string()),
        _ => None,
    }
}

const LEAF: [&str; 2] = ["-addext", "basicConstraints=critical,CA:FALSE"];
/// Lets openssl use what it considers too weak.
const WEAK: [&str; 2] = ["-cipher", "DEFAULT:@SECLEVEL=0"];

#[tokio::test]
async fn a_self_signed_ca_certificate_is_accepted_where_it_is_trusted() {
    let server = Server::new(certificate(&["-newkey", "rsa:2048"]), &[]);
    assert_eq!(server.connect_error("cert", &Peer::DATABASE).await, None);
    let other = certificate(&["-newkey", "rsa:2048"]);
    let own = authorities("database.ca_file", &other.path().join("cert")).expect("certificates");
    let error = connect(server.address, own, &Peer::DATABASE).await.expect("another certificate");
    assert!(error.contains("put exactly this certificate into database.ca_file"), "{error}");
}

#[tokio::test]
async fn an_error_names_the_problem_of_a_certificate() {
    let curve = |name| ["-newkey", "ec", "-pkeyopt", name];
    let (p521, k256) = (curve("ec_paramgen_curve:P-521"), curve("ec_paramgen_curve:secp256k1"));
    for (options, expected) in [
        (
            &["-newkey", "rsa:2048", "-sha1"][..],
            "is signed with RSA and SHA-1; give the broker a certificate",
        ),
        (&["-newkey", "rsa:2048", "-md5"], "is signed with RSA and MD5"),
        (&["-newkey", "rsa:2048", "-sha3-256"], "is signed with RSA and SHA-3"),
        (&["-newkey", "rsa:1024"], "an RSA key of 1024 bits; such a key is too short"),
        (&p521, "P-521"),
        (&k256, "secp256k1"),
        (&["-newkey", "ed448"], "Ed448"),
        (&["-newkey", "rsa:2048", "-addext", "1.2.3.4=critical,DER:05:00"], "marked as critical"),
    ] {
        let server = Server::new(certificate(&[options, &LEAF].concat()), &WEAK);
        let error =
            server.connect_error("cert", &Peer::BROKER).await.unwrap_or_else(|| panic!("{options:?}"));
        assert!(error.contains(expected) && error.contains("the broker"), "{options:?}: {error}");
        assert!(!error.contains('['), "{options:?}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_without_extensions_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config"), "[req]\ndistinguished_name = name\n[name]\n").expect("written");
    let help = Command::new("openssl").args(["req", "-help"]).output().expect("openssl");
    let help = [help.stdout, help.stderr].concat();
    // Without extensions in its configuration, OpenSSL made version 1; newer ones have to be asked for it.
    let version_1 = if String::from_utf8_lossy(&help).contains("-x509v1") { "-x509v1" } else { "-x509" };
    let request = ["req", version_1, "-config", "config", "-nodes", "-newkey", "rsa:2048"];
    let names = ["-subj", "/CN=localhost", "-keyout", "key", "-out", "cert"];
    openssl(dir.path(), &[request.as_slice(), &names].concat());
    let error = Server::new(dir, &[]).connect_error("cert", &Peer::DATABASE).await.expect("refused");
    assert!(error.contains("X.509 version 1: renew it as version 3"), "{error}");
}

#[tokio::test]
async fn an_error_names_the_causes_of_a_failed_handshake() {
    let rsa_certificate = || certificate(&["-newkey", "rsa:2048"]);
    for (options, expected) in [
        (&["-tls1_2", "-Verify", "1"][..], "asks for a client certificate (set http.client_cert)"),
        (&["-tls1_3", "-Verify", "1"], "asks for a client certificate: set http.client_cert"),
        (&["-curves", "P-521"], "none of the curves X25519, P-256 and P-384"),
        (&["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"], "no ECDHE cipher"),
        (&["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"], "no ECDHE cipher"),
        (&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"], "too old: provisiond speaks TLS 1.2 and 1.3"),
    ] {
        let error = Server::new(rsa_certificate(), options).connect_error("cert", &Peer::ENDPOINT).await;
        let error = error.unwrap_or_else(|| panic!("{options:?}"));
        assert!(error.contains(expected), "{options:?}: {error}");
    }
}
