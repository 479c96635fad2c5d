//! `amqps://`: the broker behind a server that ends TLS, with a certificate of an authority of our own.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{Endpoint, World, address, envelope, eventually};

/// A certificate authority, as the file that `amqp.ca_file` names.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn write(&self, world: &World) -> String {
        let path = world.dir.path().join(format!("ca-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&path, self.0.pem()).unwrap();
        path.display().to_string()
    }

    /// Ends TLS as `localhost`, and passes everything on to `target`.
    async fn terminate(&self, target: SocketAddr) -> SocketAddr {
        rustls::crypto::ring::default_provider().install_default().ok();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.0).unwrap().der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut near) = acceptor.accept(near).await else { return };
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        address
    }
}

#[blocking_test]
async fn events_flow_over_tls_to_a_broker_of_a_trusted_authority() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let authority = Authority::new("ours");
    let broker = address(&world.amqp_url);
    let port = authority.terminate(broker).await.port();
    let url = |host: &str| {
        let url = world.amqp_url.replace("amqp://", "amqps://");
        url.replace(&broker.to_string(), &format!("{host}:{port}"))
    };
    let (right, other_name) = (url("localhost"), url("127.0.0.1"));
    let publish = ["publish", "clients.create", "--object-id", "1"];

    // A body of many TLS records and AMQP frames.
    let text = "x".repeat(700_000);
    world.set("amqp.url", &right);
    world.set("amqp.ca_file", &authority.write(&world));
    world.serve().await;
    world.run(&publish).assert_done();
    let body = envelope("clients.create", 2, &json!({ "text": text }));
    world.broker.publish("clients.create", Some("large"), body.as_bytes()).await;
    world.wait_for_executions(2, &["--status", "success"]).await;
    eventually("both reached the handler", || async {
        endpoint.calls().iter().any(|call| call.body == body.as_bytes())
    })
    .await;

    let other = Authority::new("another");
    for (url, ca_file, said) in [
        (&right, &other.write(&world), "put its CA's certificate into amqp.ca_file"),
        (&other_name, &authority.write(&world), "certificate not valid for name \"127.0.0.1\""),
    ] {
        world.set("amqp.url", url);
        world.set("amqp.ca_file", ca_file);
        world.run(&publish).assert_failed(1, said);
    }
    // TLS where there is none, and none where there is TLS.
    world.set("amqp.ca_file", &authority.write(&world));
    let plain = world.amqp_url.replace("amqp://", "amqps://");
    world.set("amqp.url", &plain);
    world.run(&publish).assert_failed(1, "the broker does not speak TLS on this port");
    world.set("amqp.ca_file", "");
    world.set("amqp.url", &right.replace("amqps://", "amqp://"));
    world.run(&publish).assert_failed(1, "amqp.url must begin with amqps://");

    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2021, 1, 2);
    let old = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    world.set("http.ca_file", &Authority(old).write(&world));
    let checked = world.run(&["check"]).stdout();
    assert!(checked.contains("certificates") && checked.contains("expired on 2021-01-02"), "{checked}");
    world.set("http.ca_file", "");

    let garbage = world.dir.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    world.set("amqp.url", &right);
    world.set("amqp.ca_file", &garbage.display().to_string());
    world.run(&publish).assert_failed(1, "holds a certificate that cannot be used");
    world.end().await;
}
