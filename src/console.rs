//! The console and the REST API: what operators see and do in a browser, and what programs do over HTTP.
//!
//! Both are another way to the same functions: `store` for searches, `dead_letters` and `operations` for what operators
//! do, `runner` for trials. Nothing in here knows SQL or the broker's protocol.
//!
//! **Access** is enforced in one place, `access::guard`, around every route but those of `server::open`: without a session
//! or a token there is no answer, a viewer may send nothing but GET and HEAD, and what changes something and comes with a
//! session's cookie must come from a page of ours. Handlers take an extractor all the same, which says who asks:
//! [`access::Viewer`] to look, [`access::Operator`] to change. What fails is a [`problem::Problem`]: as JSON in the API, as
//! a page elsewhere.
//!
//! **To add a page:** a template in `templates/` that extends `layout.html`, a function in `pages/` that takes a `Viewer` or
//! an `Operator`, `State<Console>`, and gives `pages::Answer`; a line in `pages::routes`. A form is a POST with the hidden
//! field `csrf` (`frame.csrf`); a script sends it as the header `x-csrf-token`. Styles and scripts are files in `assets/`,
//! named in `assets.rs` (the policy allows none inside a page).
//!
//! **To add a route of the API:** a function in `api/` with `#[utoipa::path]`, a line in `api::routes` and one in
//! `api::openapi`.

pub mod access;
mod api;
mod assets;
mod below;
mod drain_body;
mod limited;
mod pages;
mod problem;
mod server;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Account, PublicUrl},
    dead_letters::{DeadLetters, Jobs},
    domain::{
        access::{PasswordHash, TokenHash},
        address::AddressRules,
    },
    operations::Trials,
    runner::ScriptRules,
    status::StatusWatch,
    store::Store,
};

use limited::Limited;
pub use server::run;

/// How the console is configured.
#[derive(Clone, Debug)]
pub struct ConsoleSettings {
    pub listen: SocketAddr,
    /// Where browsers find it, if not at `listen`.
    pub public_url: Option<PublicUrl>,
    pub trusted_proxies: Vec<IpNet>,
    pub users: Vec<Account<PasswordHash>>,
    pub tokens: Vec<Account<TokenHash>>,
    pub session_timeout: Duration,
    /// Where handlers may point.
    pub address_rules: AddressRules,
    /// Which scripts may be run, here.
    pub scripts: ScriptRules,
}

/// What every request has at hand. Clones are the same.
///
/// The parts are behind a trait object for the compiler's sake. Whether a route's future is `Send` depends on whether this
/// is, which it would otherwise prove from every field of every part, some twenty times for each route: a sixth of the time
/// that this crate took to compile, and half of it after a small change.
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

/// The parts of a [`Console`].
pub struct Parts {
    pub settings: ConsoleSettings,
    /// The database, the broker, and what is done with both.
    pub letters: DeadLetters,
    /// Replays that run in this process.
    pub jobs: Jobs,
    pub trials: Trials,
    /// How it goes.
    pub overview: StatusWatch,
    pub access: access::Access,
    pub exports: Limited,
    pub live_pages: Limited,
    /// Answers with a message in whole.
    pub messages: Limited,
    /// Cancelled when the process begins to end: what streams must end too.
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
        &self.letters.store
    }
}
