//! The link that lets the first one in, while no user is configured: it works once, and only for who can read the log.

use parking_lot::Mutex;

use crate::domain::access::{RandomToken, TokenHash};

pub struct OneTimeLink {
    token: RandomToken,
    /// Taken by the first who comes with it.
    unused: Mutex<Option<TokenHash>>,
}

impl OneTimeLink {
    pub const PATH: &str = "/sign-in/once";

    pub fn new() -> Self {
        let token = RandomToken::generate();
        let unused = Mutex::new(Some(token.hash()));
        Self { token, unused }
    }

    pub fn url(&self, at: &str) -> String {
        format!("{at}{}?token={}", Self::PATH, self.token.expose())
    }

    /// What a session by this link is begun with. Of this start of the process alone: users may be configured, and taken
    /// away again, before the next.
    pub fn credential(&self) -> Vec<u8> {
        self.token.hash().bytes().to_vec()
    }

    /// Whether `token` is this one, and nobody used it before.
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
