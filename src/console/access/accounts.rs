//! The configured users and tokens, and the check of passwords and tokens.

use anyhow::Context as _;

use super::{Identity, bootstrap_link::OneTimeLink, limiter::Limiter};
use crate::{
    config::Account,
    console::{ConsoleSettings, limited::Limited, problem::Problem},
    domain::access::{PasswordHash, RandomToken, Role, TokenHash},
};

/// How many passwords are hashed at a time. Each takes 19 MiB and tens of milliseconds of CPU.
const MAX_HASHING: usize = 2;

/// The user name of sessions that begin with the bootstrap link.
pub const FIRST_USER: &str = "first start";

/// Who may use the console and the REST API.
pub struct Access {
    users: Vec<Account<PasswordHash>>,
    tokens: Vec<Account<TokenHash>>,
    /// The bootstrap link, while no user is configured.
    first: Option<OneTimeLink>,
    /// A hash to check for an unknown name, so that its refusal takes as long as that of a wrong password.
    nobody: PasswordHash,
    hashing: Limited,
    pub limiter: Limiter,
}

impl Access {
    pub async fn new(settings: &ConsoleSettings) -> anyhow::Result<Self> {
        let hashed = tokio::task::spawn_blocking(|| PasswordHash::of(RandomToken::generate().expose())).await;
        Ok(Self {
            users: settings.console.users.clone(),
            tokens: settings.console.tokens.clone(),
            first: settings.console.users.is_empty().then(OneTimeLink::new),
            nobody: hashed.context("cannot hash a password")??,
            hashing: Limited::new("too many sign-ins are being checked", MAX_HASHING),
            limiter: Limiter::default(),
        })
    }

    /// The url of the bootstrap link, if there is one.
    pub fn first_link(&self, base_url: &str) -> Option<String> {
        self.first.as_ref().map(|first| first.url(base_url))
    }

    pub const fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Uses up the bootstrap link if `token` is its token. Returns the credential for the new session.
    pub fn use_first_link(&self, token: &str) -> Option<Vec<u8>> {
        let first = self.first.as_ref()?;
        first.use_up(token).then(|| first.credential())
    }

    /// A name for the log. Only configured names are logged: other input may be a password, and of any length.
    pub fn loggable<'a>(&self, name: &'a str) -> &'a str {
        if self.users.iter().any(|user| user.name.as_str() == name) { name } else { "(unknown)" }
    }

    /// Checks name and password. Returns the credential for the new session, or `None` if one of the two is wrong.
    pub async fn check_password(&self, name: &str, password: String) -> Result<Option<Vec<u8>>, Problem> {
        let user = self.users.iter().find(|user| user.name.as_str() == name);
        let hash = user.map_or_else(|| self.nobody.clone(), |user| user.hash.clone());
        let permit = self.hashing.permit().await?;
        let checking = tokio::task::spawn_blocking(move || {
            // Hold the permit until hashing ends, even if the client disconnects.
            let _permit = permit;
            hash.verify(&password)
        });
        let right = checking.await.map_err(|_| Problem::internal())?;
        Ok(user.filter(|_| right).map(|user| user.hash.fingerprint()))
    }

    /// The role of a session's user. `None` if the user is not configured any more, or the password has changed.
    pub fn role_of(&self, name: &str, credential: &[u8]) -> Option<Role> {
        if let Some(first) = self.first.as_ref().filter(|_| name == FIRST_USER) {
            return (credential == first.credential()).then_some(Role::Operator);
        }
        let user = self.users.iter().find(|user| user.name.as_str() == name)?;
        (credential == user.hash.fingerprint()).then_some(user.role)
    }

    /// The identity that a token belongs to, if the token is configured.
    pub fn by_token(&self, token: &str) -> Option<Identity> {
        let hash = TokenHash::of(token);
        let known = self.tokens.iter().rfind(|account| account.hash.is(&hash))?;
        Some(Identity { name: known.name.to_string(), role: known.role, csrf: None })
    }
}
