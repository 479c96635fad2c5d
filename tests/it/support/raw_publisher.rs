//! A publisher that writes its frames byte by byte, as no client library does.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::address;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// A confirmed channel on a connection as guest.
pub struct RawPublisher(TcpStream);

/// A short string.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("at most 255 bytes")], text].concat()
}

/// A long string, or a table or array with these bytes.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("fewer bytes").to_be_bytes(), bytes].concat()
}

/// An entry of a table.
pub fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&*short(name), &[kind], value].concat()
}

impl RawPublisher {
    pub async fn connect(amqp_url: &str) -> Self {
        let mut stream = TcpStream::connect(address(amqp_url)).await.expect("the broker");
        stream.write_all(b"AMQP\0\0\x09\x01").await.expect("written");
        let mut publisher = Self(stream);
        assert_eq!(publisher.method().await.0, (10, 10), "connection.start");
        let login = [&*long(b""), &*short(b"PLAIN"), &*long(b"\0guest\0guest"), &*short(b"en_US")].concat();
        publisher.call(0, (10, 11), &login).await;
        assert_eq!(publisher.method().await.0, (10, 30), "connection.tune");
        publisher.call(0, (10, 31), &[0x07, 0xff, 0, 2, 0, 0, 0, 0]).await;
        publisher.call(0, (10, 40), &[&*short(b"/"), &[0, 0]].concat()).await;
        assert_eq!(publisher.method().await.0, (10, 41), "connection.open-ok");
        publisher.call(1, (20, 10), &[0]).await;
        assert_eq!(publisher.method().await.0, (20, 11), "channel.open-ok");
        publisher.call(1, (85, 10), &[0]).await;
        assert_eq!(publisher.method().await.0, (85, 11), "confirm.select-ok");
        publisher
    }

    /// Publishes with these properties: their flags, and their bytes.
    ///
    /// # Errors
    /// What the broker said in place of a confirmation.
    pub async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        (flags, properties): (u16, &[u8]),
        body: &[u8],
    ) -> Result<(), String> {
        let publish = [&[0, 0], &*short(exchange.as_bytes()), &*short(routing_key), &[0]].concat();
        self.call(1, (60, 40), &publish).await;
        let size = u64::try_from(body.len()).expect("a size").to_be_bytes();
        let header = [[0, 60, 0, 0].as_slice(), &size, &flags.to_be_bytes(), properties].concat();
        self.write(1, HEADER, &header).await;
        self.write(1, BODY, body).await;
        match self.method().await {
            ((60, 80), _) => Ok(()),
            (method, rest) => Err(format!("{method:?} {}", String::from_utf8_lossy(&rest))),
        }
    }

    async fn call(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.write(channel, METHOD, &payload).await;
    }

    async fn write(&mut self, channel: u16, kind: u8, payload: &[u8]) {
        let frame = [&[kind], channel.to_be_bytes().as_slice(), &long(payload), &[FRAME_END]].concat();
        self.0.write_all(&frame).await.expect("written");
    }

    /// The next method: its class and number, and its arguments.
    async fn method(&mut self) -> ((u16, u16), Vec<u8>) {
        loop {
            let mut head = [0; 7];
            let read = self.0.read_exact(&mut head);
            timeout(Duration::from_secs(20), read).await.expect("an answer in time").expect("an answer");
            let size = u32::from_be_bytes(head[3..].try_into().expect("four bytes"));
            let mut payload = vec![0; size as usize + 1];
            self.0.read_exact(&mut payload).await.expect("a whole frame");
            if head[0] == METHOD {
                let number = |offset: usize| u16::from_be_bytes([payload[offset], payload[offset + 1]]);
                return ((number(0), number(2)), payload[4..].to_vec());
            }
        }
    }
}
