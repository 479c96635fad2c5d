//! A process that serves the console, and a client of its API.

use std::{
    io::Write as _,
    process::{ExitStatus, Stdio},
};

use reqwest::{Client, Method, RequestBuilder, header::HeaderMap, redirect::Policy};
use serde_json::{Value, json};

use super::{Process, World, eventually};

pub const PASSWORD: &str = "correct horse battery";

/// What lets somebody in, and what to configure for it.
pub struct Keys {
    pub operator: String,
    pub viewer: String,
}

impl Keys {
    /// Configures the users `ann` (operator) and `vic` (viewer), and a token of each role.
    pub fn configure(world: &mut World) -> Self {
        let users =
            [("ann", "operator"), ("vic", "viewer")].map(|(name, role)| user(world, name, role, PASSWORD));
        let mut shown = Vec::new();
        let tokens = ["operator", "viewer"].map(|role| {
            let made = world.json(&["users", "token", "--name", &format!("{role} program"), "--role", role]);
            shown.push(made["token"].as_str().expect("a token").to_owned());
            made
        });
        let tokens = tokens.map(|made| entry(&made, "token_hash"));
        world.set("console.users", &format!("[{}]", users.join(", ")));
        world.set("console.tokens", &format!("[{}]", tokens.join(", ")));
        let [operator, viewer] = shown.try_into().expect("two");
        Self { operator, viewer }
    }
}

/// As it stands in the configuration.
fn entry(made: &Value, hash: &str) -> String {
    format!("{{name = {}, role = {}, {hash} = {}}}", made["name"], made["role"], made[hash])
}

/// A user of the configuration.
pub fn user(world: &World, name: &str, role: &str, password: &str) -> String {
    let mut child = world
        .command()
        .args(["users", "hash", "--name", name, "--role", role, "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    writeln!(child.stdin.take().expect("a pipe"), "{password}").expect("written");
    let output = child.wait_with_output().expect("its end");
    entry(&serde_json::from_slice(&output.stdout).expect("JSON"), "password_hash")
}

/// A console that runs, and who asks it.
pub struct Api {
    pub process: Process,
    /// Without a slash at its end.
    pub url: String,
    pub client: Client,
    pub keys: Keys,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// What was given, if the status is this one.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The pointers and parameters that a problem names.
    pub fn named(&self) -> Vec<String> {
        let problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], self.status);
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|e| e["pointer"].as_str().or(e["parameter"].as_str()).expect("a place").to_owned())
            .collect()
    }
}

impl Api {
    /// Starts a console with users and tokens.
    pub async fn start(world: &mut World) -> Self {
        let keys = Keys::configure(world);
        Self::with(world, keys).await
    }

    /// Starts another, with what is configured already.
    pub async fn with(world: &World, keys: Keys) -> Self {
        let process = world.spawn(&["--roles", "console"]);
        Self::of(process, keys).await
    }

    /// Of a process that was started in a way of its own.
    pub async fn of(process: Process, keys: Keys) -> Self {
        let url = listening(&process).await;
        Self { process, url, client: client(), keys }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().expect("a method");
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request of the API, by an operator.
    pub fn api(&self, method: &str, path: &str) -> RequestBuilder {
        self.request(method, &format!("/api/v1{path}")).bearer_auth(&self.keys.operator)
    }

    pub async fn get(&self, path: &str) -> Value {
        answer(self.api("GET", path)).await.expect(200)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.api("POST", path).json(body)).await
    }

    pub async fn handler(&self, name: &str, url: &str) -> Value {
        let body = json!({"name": name, "event": "clients.create", "task": {"type": "http", "url": url}});
        self.post("/handlers", &body).await.expect(201)
    }

    /// The cookie and the CSRF token of a user who signs in.
    pub async fn sign_in(&self, name: &str) -> (String, String) {
        let form = [("name", name), ("password", PASSWORD)];
        let signed_in = self.request("POST", "/sign-in").header("sec-fetch-site", "same-origin");
        let signed_in = answer(signed_in.form(&form)).await;
        assert_eq!(signed_in.status, 303, "{}", signed_in.text);
        let cookie = signed_in.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        let csrf = self.csrf(&cookie).await;
        (cookie, csrf)
    }

    /// As a page of that session holds it.
    pub async fn csrf(&self, cookie: &str) -> String {
        let page = answer(self.request("GET", "/handlers").header("cookie", cookie)).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let (_, after) = page.text.split_once("name=\"csrf\" value=\"").expect("a form");
        after.split('"').next().expect("a value").to_owned()
    }

    pub async fn end(mut self) -> ExitStatus {
        self.process.terminate().await
    }
}

pub fn client() -> Client {
    // An error only says that it is installed already; nothing here is called over TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client")
}

/// Where a process listens, as its log says.
pub async fn listening(process: &Process) -> String {
    let mut url = None;
    eventually("the console listens", || {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("the console listens"));
        url = line.and_then(|line| serde_json::from_str::<Value>(line).ok()).map(|line| line["url"].clone());
        let found = url.is_some();
        async move { found }
    })
    .await;
    url.expect("found").as_str().expect("a text").to_owned()
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a body");
    Answer { status, headers, text }
}
