//! The bootstrap link, which signs in the first user while no user is configured. It works once, and only for someone
//! who can read the log.

use parking_lot::Mutex;

use crate::domain::access::{RandomToken, TokenHash};

pub struct OneTimeLink {
    token: RandomToken,
    /// The hash of the token. The first use takes it.
    unused: Mutex<Option<TokenHash>>,
}

impl OneTimeLink {
    pub const PATH: &str = "/sign-in/once";

    pub fn new() -> Self {
        let token = RandomToken::generate();
        let unused = Mutex::new(Some(token.hash()));
        Self { token, unused }
    }

    pub fn url(&self, base_url: &str) -> String {
        format!("{base_url}{}?token={}", Self::PATH, self.token.expose())
    }

    /// The credential of sessions that begin with this link. Each start of the process has another one: users may be
    /// configured, and removed again, before the next start.
    pub fn credential(&self) -> Vec<u8> {
        self.token.hash().bytes().to_vec()
    }

    /// Whether `token` is right and unused. If so, it is used from now on.
    pub fn use_up(&self, token: &str) -> bool {
        let mut unused = self.unused.lock();
        let right = unused.is_some_and(|hash| hash.is(&TokenHash::of(token)));
        if right {
            *unused = None;
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_works_once() {
        let link = OneTimeLink::new();
        let url = link.url("http://127.0.0.1:8080");
        let token = url.strip_prefix("http://127.0.0.1:8080/sign-in/once?token=").expect("its form");
        assert!(!link.use_up("another") && link.use_up(token) && !link.use_up(token));
    }
}
