//! Queries the process on this machine, for health checks where there is no HTTP client.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer of the process that listens on `address`. A status of 503 is an error.
///
/// # Errors
/// If nobody answers; otherwise the problem that the process reports.
pub fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let address = reachable(address);
    let no_answer =
        || format!("no answer from {address} (telemetry.listen): is `provisiond serve` running here?");
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT).with_context(no_answer)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").with_context(no_answer)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(no_answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("the answer of {address} is not HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("503") => bail!("{body}"),
        _ => {
            bail!("{address} answered {:?}: is it another program? (telemetry.listen)", head.lines().next())
        }
    }
}

/// A process that listens on all addresses is reached through the loopback address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
