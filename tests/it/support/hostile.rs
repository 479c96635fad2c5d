//! Endpoints that do what no endpoint should.

use std::{future::Future, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// Hands every connection to `serve`.
pub async fn raw<F, Served>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Served + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads a request, writes `head`, and then `rest` as often as the other side takes it, every `pause`.
pub async fn endless(head: &'static [u8], rest: &'static [u8], pause: Duration) -> SocketAddr {
    raw(move |mut stream| async move {
        request(&mut stream).await;
        let mut more = stream.write_all(head).await;
        while more.is_ok() {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            more = stream.write_all(rest).await;
        }
    })
    .await
}

/// Reads a request, writes `answer` and closes. The answer has to say so (`connection: close`): else the next request
/// may be sent where nobody reads any more, and ends another way.
pub async fn answering(answer: Vec<u8>) -> SocketAddr {
    let answer = Arc::new(answer);
    raw(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            request(&mut stream).await;
            stream.write_all(&answer).await.ok();
            stream.shutdown().await.ok();
        }
    })
    .await
}

/// A port whose queue of new connections is full: the next one is not even begun. It stays so while
/// what is returned beside it is held.
pub async fn never_accepts() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(1).expect("a queue");
    let address = listener.local_addr().expect("its address");
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    (address, waiting, listener)
}

/// Reads one request, its body included.
pub async fn request<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |n| n.parse().expect("a length")) {
                return;
            }
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// An authority whose certificate lies in a file.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(file: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let issuer = issuer.expect("an authority");
        std::fs::write(file, issuer.pem()).expect("written");
        Self(issuer)
    }

    /// A TLS server with a certificate for `name`, which speaks `protocol`.
    pub async fn server<F, Served>(&self, name: &str, protocol: &str, serve: F) -> SocketAddr
    where
        F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> Served + Send + Sync + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            builder.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let (acceptor, serve) = (TlsAcceptor::from(Arc::new(config)), Arc::new(serve));
        raw(move |stream| {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream).await;
                }
            }
        })
        .await
    }
}

/// Takes all that comes, and says nothing.
pub async fn swallow<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
}
