//! Helpers for the tests of both tasks.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{Call, HttpSettings, Runner, RunnerSettings, ScriptLimits, ScriptSettings, http::HttpRunner};
use crate::domain::{
    address::AddressRules,
    event::{Event, EventId},
    handler::{Handler, HandlerId},
    outcome::{Failure, Outcome, Response},
    plan::Attempt,
    secret::SigningSecret,
    task::Task,
};

/// A handler and an event, for one attempt by a runner.
pub struct Trial {
    pub handler: Handler,
    pub event: Event,
    pub secrets: Vec<SigningSecret>,
    pub timeout: Duration,
    pub answer_limit: Option<usize>,
}

impl Trial {
    pub fn new(task: &Value) -> Self {
        let spec = json!({"name": "CRM sync", "event": "clients.update", "task": task});
        Self {
            handler: Handler {
                id: HandlerId(7),
                spec: serde_json::from_value(spec).expect("a handler"),
                signed: false,
                created_at: jiff::Timestamp::UNIX_EPOCH,
                updated_at: jiff::Timestamp::UNIX_EPOCH,
                version: 1,
            },
            event: Event {
                id: EventId::from_message_id("e1"),
                is_identified: true,
                name: "clients.update".parse().expect("a name"),
                object_id: "12".into(),
                dt: jiff::Timestamp::UNIX_EPOCH,
                body: Bytes::from_static(br#"{"event":{},"data":{"id":12}}"#),
            },
            secrets: Vec::new(),
            timeout: Duration::from_secs(20),
            answer_limit: None,
        }
    }

    pub fn http(address: SocketAddr) -> Self {
        Self::new(&json!({"type": "http", "url": format!("http://{address}/hook?key=hidden")}))
    }

    pub async fn run(&self, runner: &Runner) -> Outcome {
        runner.run(&self.call()).await
    }

    /// Runs the attempt with an HTTP runner alone.
    pub async fn run_http(&self, runner: &HttpRunner) -> Outcome {
        let Task::Http { url, headers } = &self.handler.spec.task else { panic!("no HTTP handler") };
        runner.run(&self.call(), url, headers, jiff::Timestamp::now()).await
    }

    fn call(&self) -> Call<'_> {
        Call {
            handler: &self.handler,
            secrets: &self.secrets,
            event: &self.event,
            attempt: Attempt::FIRST.next(),
            timeout: self.timeout,
            answer_limit: self.answer_limit,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            tracestate: Some("a=b"),
        }
    }
}

pub fn script_settings() -> ScriptSettings {
    ScriptSettings {
        roots: Vec::new(),
        owners: Vec::new(),
        env: Vec::new(),
        kill_grace: Duration::from_millis(300),
        user: None,
        limits: ScriptLimits::default(),
    }
}

pub fn runner(script: ScriptSettings) -> Runner {
    rustls::crypto::ring::default_provider().install_default().ok();
    Runner::new(RunnerSettings { http: http_settings(), script }).expect("a runner")
}

/// Settings that deny no address.
pub fn http_settings() -> HttpSettings {
    HttpSettings {
        connect_timeout: Duration::from_secs(1),
        rules: AddressRules::default(),
        ca_file: None,
        client_cert: None,
    }
}

pub fn failure(outcome: Outcome) -> (Failure, Option<Response>) {
    match outcome {
        Outcome::Failed { failure, response } => (failure, response),
        other => panic!("no failure: {other:?}"),
    }
}

pub fn success(outcome: Outcome) -> (Response, Option<Bytes>) {
    match outcome {
        Outcome::Succeeded { response, answer } => (response, answer),
        other => panic!("no success: {other:?}"),
    }
}

/// Waits until `condition`, at most ten seconds.
pub async fn until(label: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {label}"));
}

/// A TCP server that passes every connection to `serve`.
pub async fn server<F, Served>(serve: F) -> SocketAddr
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

/// A server that reads one request on each connection, writes `answer` and closes.
pub async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Bytes = answer.into().into();
    server(move |mut stream| {
        let answer = answer.clone();
        async move {
            request(&mut stream).await;
            stream.write_all(&answer).await.ok();
        }
    })
    .await
}

/// Reads one request with its body. Empty if the client has closed the connection.
pub async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |n| n.parse().expect("a length")) {
                return text.into_owned();
            }
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
}
