//! Errors of lapin and the broker without repetition: lapin's errors repeat their message in their causes.

use std::fmt;

use lapin::{ErrorKind, protocol::AMQPError};

const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;

/// An error of lapin, with a readable message.
#[derive(Debug)]
pub(super) struct BrokerError(lapin::Error);

impl BrokerError {
    /// The broker's reply, if this error is one.
    fn reply(&self) -> Option<&AMQPError> {
        match self.0.kind() {
            ErrorKind::ProtocolError(reply) => Some(reply),
            _ => None,
        }
    }
}

impl From<lapin::Error> for BrokerError {
    fn from(error: lapin::Error) -> Self {
        Self(error)
    }
}

impl std::error::Error for BrokerError {}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            ErrorKind::ProtocolError(reply) => fmt_reply(reply, f),
            ErrorKind::IOError(error) => error.fmt(f),
            ErrorKind::MissingHeartbeatError => f.write_str("the broker was silent for over two heartbeats"),
            _ => self.0.fmt(f),
        }
    }
}

fn fmt_reply(reply: &AMQPError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let message = reply.get_message().as_str();
    match reply.get_id() {
        ACCESS_REFUSED if message.contains("Login was refused") => {
            f.write_str("the broker rejects the user or the password in amqp.url")
        }
        NOT_ALLOWED => {
            write!(f, "{message}: does the virtual host in amqp.url exist, and can the user access it?")
        }
        _ => f.write_str(message),
    }
}

/// The broker's reply in `error`, if it is one.
pub(super) fn reply(error: &anyhow::Error) -> Option<&AMQPError> {
    error.downcast_ref::<BrokerError>()?.reply()
}

/// Whether the broker replied 404: the queue or exchange does not exist.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    reply(error).is_some_and(|reply| reply.get_id() == NOT_FOUND)
}
