//! The console and the REST API: web pages for operators, and JSON over HTTP for programs.
//!
//! Both call the same functions as the command line: `store` to search, `dead_letters` to replay, and `operations` to
//! change the catalogue, publish events and make test calls. There is no SQL and no AMQP in this module.
//!
//! **Access** is checked in one place, `access::guard`. It wraps every route except `/healthz`, assets and signing in
//! and out. It rejects requests without a valid session or token, and it accepts only GET and HEAD from viewers. A
//! write that is authenticated by a session cookie must come from a page of this console. Each route function also
//! takes an extractor with the identity of the caller: [`access::Viewer`] to read, [`access::Operator`] to write. An
//! error is a [`problem::Problem`]: JSON in the API, a page elsewhere.
//!
//! **To add a page:** write a template in `templates/` that extends `layout.html`, and a function in `pages/` that
//! takes a `Viewer` or an `Operator` and a `State<Console>`, and returns a `pages::Answer`. Add its route to
//! `pages::routes`, or to the `routes` function of the file that `pages::routes` merges. A form is a POST with the
//! hidden field `csrf` (`frame.csrf()`); a script can send the same value in the header `x-csrf-token`. Styles and
//! scripts are files in `assets/`, listed in `assets.rs`; the `Content-Security-Policy` forbids them inside a page.
//!
//! **To add a route of the API:** write a function in `api/` with `#[utoipa::path]`, and name it in `routes!` in the
//! `routes` function of its file. `api::routes` merges these functions and derives the `OpenAPI` document from them.

pub mod access;
mod api;
mod assets;
mod below;
mod drain_body;
mod limited;
mod pages;
mod problem;
mod server;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    config,
    dead_letters::{DeadLetters, Jobs},
    domain::address::AddressRules,
    operations::Trials,
    runner::ScriptRules,
    status::StatusWatch,
    store::Store,
};

use limited::Limited;
pub use server::run;

/// What the console is started with.
#[derive(Clone, Debug)]
pub struct ConsoleSettings {
    pub console: config::Console,
    /// Rules for the addresses that handlers may call.
    pub address_rules: AddressRules,
    /// Rules for the scripts that may run on this machine.
    pub scripts: ScriptRules,
}

/// The state that all requests share. A clone refers to the same state.
///
/// The trait object saves compile time. The compiler must prove for each route that its future is `Send`, and therefore
/// that this type is. With a plain struct it proved this from every nested field, about twenty times for each route.
/// That was a sixth of the time to compile this crate, and half of it after a small change.
#[derive(Clone)]
pub struct Console(Arc<dyn HasParts>);

trait HasParts: Send + Sync {
    fn parts(&self) -> &Parts;
}

impl HasParts for Parts {
    fn parts(&self) -> &Parts {
        self
    }
}

/// The fields of a [`Console`].
pub struct Parts {
    pub settings: ConsoleSettings,
    /// The database, the broker, and the operations on dead letters that need both.
    pub dead_letters: DeadLetters,
    /// The replay jobs that run in this process.
    pub jobs: Jobs,
    pub trials: Trials,
    /// The status of the installation: counts, processes, queues.
    pub status: StatusWatch,
    pub access: access::Access,
    pub exports: Limited,
    pub live_pages: Limited,
    /// Limits the requests that load a whole message.
    pub messages: Limited,
    /// Cancelled when the process starts to shut down. Streams must end then.
    pub stop: CancellationToken,
}

impl std::ops::Deref for Console {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        self.0.parts()
    }
}

impl Console {
    pub fn store(&self) -> &Store {
        &self.dead_letters.store
    }
}
