//! Bodies that are refused before they are read to their end.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{World, console::Api};

const MIB: usize = 1 << 20;

/// A connection that sends what it has to send before it looks for an answer, as many clients do.
struct Sender(TcpStream);

impl Sender {
    async fn to(api: &Api) -> Self {
        let address = api.url.strip_prefix("http://").expect("a URL");
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    async fn head(&mut self, token: &str, length: usize, more: &str) {
        let head = format!(
            "POST /api/v1/handlers HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
            content-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
        );
        self.0.write_all(head.as_bytes()).await.expect("sent");
    }

    async fn body(&mut self, length: usize) {
        self.0.write_all(&vec![b' '; length]).await.expect("it is taken to its end");
    }

    /// The head and at least some of the body of what is answered.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert!(self.0.read_buf(&mut answer).await.expect("an answer") > 0, "it is closed");
        }
        String::from_utf8(answer).expect("text")
    }
}

#[blocking_test]
async fn a_request_body_that_is_too_large_gets_the_reason() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let mut sender = Sender::to(&api).await;
    // All over the same connection: it stays open.
    for (token, length, status) in [
        (api.keys.operator.as_str(), 30 * MIB, "413 Payload Too Large"),
        (api.keys.viewer.as_str(), 8 * MIB, "403 Forbidden"),
        ("somebody", 8 * MIB, "401 Unauthorized"),
    ] {
        sender.head(token, length, "").await;
        sender.body(length).await;
        let answer = sender.answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }

    // Who asks before sending is told at once.
    let mut asking = Sender::to(&api).await;
    asking.head("somebody", 30 * MIB, "expect: 100-continue\r\n").await;
    let answer = asking.answer().await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");

    // Who never ends is answered all the same.
    let mut endless = Sender::to(&api).await;
    endless.head("somebody", 1000 * MIB, "").await;
    endless.body(MIB).await;
    let answer = endless.answer().await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    world.keep(api.process);
    world.end().await;
}
