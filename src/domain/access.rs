//! Users, roles, passwords and tokens of the console and the REST API.
//!
//! provisiond keeps only hashes of passwords and tokens. A password is hashed with argon2id, which makes guessing
//! slow. A token is random and long, so a fast hash is enough.

use std::{fmt, str::FromStr};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{invisible::is_invisible, text_enum::text_enum};

text_enum! {
    /// The role of a user or token.
    Role {
        /// May read everything and change nothing.
        Viewer = "viewer",
        Operator = "operator",
    }
}

impl Role {
    pub const fn may_change(self) -> bool {
        matches!(self, Self::Operator)
    }
}

/// A text is not a name, hash or token. The error never repeats the text, because it may be almost a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAccess(&'static str);

/// The name of a user or token: 1 to 64 characters, without control and invisible characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(String);

impl AccountName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let is_forbidden = |c: char| c.is_control() || is_invisible(c);
        if (1..=64).contains(&text.chars().count()) && !text.contains(is_forbidden) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidAccess(
            "a name must have 1 to 64 characters, none of them a control or invisible character",
        ))
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An argon2id hash in the PHC format, `$argon2id$v=19$…`.
#[derive(Clone)]
pub struct PasswordHash(phc::PasswordHash);

impl PasswordHash {
    /// Hashes `password`. This takes tens of milliseconds of a processor and 19 MiB, so do not call it on an async
    /// thread.
    ///
    /// # Errors
    /// If the password is longer than the algorithm accepts, which nobody can type.
    pub fn of(password: &str) -> Result<Self, InvalidAccess> {
        let mut salt = [0; 16];
        rand::fill(&mut salt[..]);
        let hashed: Result<phc::PasswordHash, _> =
            Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
        hashed.map(Self).map_err(|_| InvalidAccess("the password cannot be hashed"))
    }

    /// Whether `password` has this hash. Takes as long as [`PasswordHash::of`], or as the parameters of the hash
    /// require.
    pub fn verify(&self, password: &str) -> bool {
        Argon2::default().verify_password(password.as_bytes(), &self.0).is_ok()
    }

    /// A value that changes with the password. A session that began with another password ends.
    pub fn fingerprint(&self) -> Vec<u8> {
        Sha256::digest(self.to_string()).to_vec()
    }
}

impl FromStr for PasswordHash {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = InvalidAccess("password_hash must be the output of provisiond users hash: $argon2id$…");
        let parsed = phc::PasswordHash::new(text.trim()).map_err(|_| invalid)?;
        let is_argon2id =
            parsed.algorithm.as_str() == "argon2id" && parsed.hash.is_some() && parsed.salt.is_some();
        if is_argon2id && argon2::Params::try_from(&parsed).is_ok() {
            return Ok(Self(parsed));
        }
        Err(InvalidAccess(
            "password_hash must be an argon2id hash with its salt: use the output of provisiond users hash",
        ))
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A random secret of 256 bits: a bearer token, a session, or a one-time link.
pub struct RandomToken(String);

impl RandomToken {
    /// The prefix by which people and secret scanners recognise a bearer token.
    const BEARER: &str = "pvd_";

    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes[..]);
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    pub fn generate_bearer() -> Self {
        Self(format!("{}{}", Self::BEARER, Self::generate().0))
    }

    /// The token itself, to be shown to its owner once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

/// The SHA-256 of a token. Its text form is 64 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl FromStr for TokenHash {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = InvalidAccess(
            "token_hash must be the hash that provisiond users token prints: 64 hexadecimal digits",
        );
        let text = text.trim();
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_verifies_its_password_only() {
        let hash = PasswordHash::of("correct horse").expect("hashed");
        let parsed: PasswordHash = hash.to_string().parse().expect("its own text");
        assert!(parsed.verify("correct horse") && !parsed.verify("correct horse "));
        assert!(hash.to_string().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash.to_string(), PasswordHash::of("correct horse").expect("hashed").to_string());
        assert_eq!(format!("{hash:?}"), "***");
        for bad in [
            "",
            "hunter2",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2d$v=19$m=8,t=1,p=1$c29tZXNhbHQ$",
        ] {
            assert!(bad.parse::<PasswordHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hash_matches_its_token_only() {
        let token = RandomToken::generate_bearer();
        let hash: TokenHash = token.hash().to_string().parse().expect("its own text");
        assert!(hash.is(&TokenHash::of(token.expose())));
        assert!(!hash.is(&RandomToken::generate().hash()));
        assert!(token.expose().starts_with("pvd_") && token.expose().len() == 47);
        for bad in ["", "abc", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<TokenHash>().is_err(), "{bad}");
        }
    }
}
