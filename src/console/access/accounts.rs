//! The users and tokens that are configured, and the proofs they are held against.

use anyhow::Context as _;

use super::{Identity, bootstrap_link::OneTimeLink, limiter::Limiter};
use crate::{
    config::Account,
    console::{ConsoleSettings, limited::Limited, problem::Problem},
    domain::access::{PasswordHash, RandomToken, Role, TokenHash},
};

/// Passwords that are checked at a time: each takes 19 MiB and tens of milliseconds of a processor.
const AT_A_TIME: usize = 2;

/// Whoever comes by the link that is printed where no user is configured.
pub const FIRST_USER: &str = "first start";

/// Who may come in.
pub struct Access {
    users: Vec<Account<PasswordHash>>,
    tokens: Vec<Account<TokenHash>>,
    /// Present while no user is configured.
    first: Option<OneTimeLink>,
    /// A name that nobody has takes as long to refuse as a wrong password.
    nobody: PasswordHash,
    hashing: Limited,
    pub limiter: Limiter,
}

impl Access {
    pub async fn new(settings: &ConsoleSettings) -> anyhow::Result<Self> {
        let hashed = tokio::task::spawn_blocking(|| PasswordHash::of(RandomToken::generate().expose())).await;
        Ok(Self {
            users: settings.users.clone(),
            tokens: settings.tokens.clone(),
            first: settings.users.is_empty().then(OneTimeLink::new),
            nobody: hashed.context("hashing")??,
            hashing: Limited::new("many sign-ins are being checked", AT_A_TIME),
            limiter: Limiter::default(),
        })
    }

    /// The link that lets the first one in.
    pub fn first_link(&self, at: &str) -> Option<String> {
        self.first.as_ref().map(|first| first.url(at))
    }

    pub const fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether `token` is that of the link, which is then used up. What a session is begun with.
    pub fn use_first_link(&self, token: &str) -> Option<Vec<u8>> {
        let first = self.first.as_ref()?;
        first.use_up(token).then(|| first.credential())
    }

    /// The name of a user, for the log. What else is typed there may be a password, and of any length.
    pub fn loggable<'a>(&self, name: &'a str) -> &'a str {
        if self.users.iter().any(|user| user.name.as_str() == name) { name } else { "(unknown)" }
    }

    /// Whether there is such a user with such a password. What a session is begun with.
    pub async fn check_password(&self, name: &str, password: String) -> Result<Option<Vec<u8>>, Problem> {
        let user = self.users.iter().find(|user| user.name.as_str() == name);
        let hash = user.map_or_else(|| self.nobody.clone(), |user| user.hash.clone());
        let turn = self.hashing.turn().await?;
        let checking = tokio::task::spawn_blocking(move || {
            // Held until it is done, also if whoever asked has gone.
            let _turn = turn;
            hash.verify(&password)
        });
        let right = checking.await.map_err(|_| Problem::internal())?;
        Ok(user.filter(|_| right).map(|user| user.hash.fingerprint()))
    }

    /// The role of who began a session with `credential`, if they may still come in.
    pub fn role_of(&self, name: &str, credential: &[u8]) -> Option<Role> {
        if let Some(first) = self.first.as_ref().filter(|_| name == FIRST_USER) {
            return (credential == first.credential()).then_some(Role::Operator);
        }
        let user = self.users.iter().find(|user| user.name.as_str() == name)?;
        (credential == user.hash.fingerprint()).then_some(user.role)
    }

    /// Whose token it is, if it is one of ours.
    pub fn by_token(&self, token: &str) -> Option<Identity> {
        let hash = TokenHash::of(token);
        let known = self.tokens.iter().rfind(|account| account.hash.is(&hash))?;
        Some(Identity { name: known.name.to_string(), role: known.role, csrf: None })
    }
}
