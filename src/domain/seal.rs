//! Encryption of secrets in the database. A prefix marks encrypted values; without a key they are stored unencrypted.
//!
//! The cipher is XChaCha20-Poly1305 with a random nonce of 24 bytes, which is practically never used twice. The owner
//! of a secret is authenticated with it, so a value that is copied to another handler cannot be decrypted there.

use std::str::FromStr;

use base64::{Engine, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

/// The prefix of an encrypted value.
pub const MARK: &str = "enc:v1:";

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// A key of 32 bytes, written as base64. `Debug` never prints it.
#[derive(Clone, Debug)]
pub struct SealingKey(SecretSlice<u8>);

/// A text is not a key. The error never repeats the text, because it may be almost a key.
#[derive(Debug, thiserror::Error)]
#[error("must be the base64 of 32 random bytes, as `openssl rand -base64 32` prints it")]
pub struct InvalidKey;

/// Why a secret cannot be encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is encrypted and no key is set: set secrets.key")]
    NoKey,
    #[error(
        "it cannot be decrypted: it was encrypted with another key (not in secrets.key or secrets.previous_keys), or it was changed"
    )]
    NotOpened,
    #[error("it cannot be encrypted")]
    NotSealed,
}

/// The keys: encrypts with the current one, decrypts with the current and the previous ones.
#[derive(Clone, Debug, Default)]
pub struct Seals {
    current: Option<SealingKey>,
    previous: Vec<SealingKey>,
}

/// A decrypted secret.
#[derive(Debug)]
pub struct Opened {
    pub text: SecretString,
    /// Whether the stored form is up to date: encrypted with the current key, or in clear if there is no key.
    pub is_current: bool,
}

pub fn is_sealed(stored: &str) -> bool {
    stored.starts_with(MARK)
}

impl Seals {
    /// Without `current`, new secrets are stored unencrypted.
    pub fn new(current: Option<SealingKey>, previous: Vec<SealingKey>) -> Self {
        Self { current, previous }
    }

    /// Whether new secrets are encrypted.
    pub const fn has_key(&self) -> bool {
        self.current.is_some()
    }

    /// Encrypts `plain` for `owner`. Without a key it returns `plain`.
    pub fn seal(&self, owner: &str, plain: &str) -> Result<String, SealError> {
        let Some(key) = &self.current else { return Ok(plain.to_owned()) };
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce);
        let payload = Payload { msg: plain.as_bytes(), aad: owner.as_bytes() };
        let sealed = key.cipher()?.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| SealError::NotSealed)?;
        Ok(format!("{MARK}{}", BASE64_STANDARD.encode([&nonce[..], &sealed].concat())))
    }

    /// Decrypts `stored` for `owner`. A value in clear is returned as it is.
    pub fn open(&self, owner: &str, stored: &str) -> Result<Opened, SealError> {
        let Some(sealed) = stored.strip_prefix(MARK) else {
            return Ok(Opened { text: stored.into(), is_current: self.current.is_none() });
        };
        let sealed = BASE64_STANDARD.decode(sealed).map_err(|_| SealError::NotOpened)?;
        let keys = self.current.iter().map(|key| (key, true));
        let keys = keys.chain(self.previous.iter().map(|key| (key, false)));
        let mut why = SealError::NoKey;
        for (key, is_current) in keys {
            match key.open(owner, &sealed) {
                Ok(text) => return Ok(Opened { text, is_current }),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

impl SealingKey {
    fn cipher(&self) -> Result<XChaCha20Poly1305, SealError> {
        let key: [u8; KEY_BYTES] = self.0.expose_secret().try_into().map_err(|_| SealError::NotSealed)?;
        Ok(XChaCha20Poly1305::new(&Key::from(key)))
    }

    fn open(&self, owner: &str, sealed: &[u8]) -> Result<SecretString, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::NotOpened)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let plain = self.cipher()?.decrypt(&XNonce::from(*nonce), payload);
        let plain = plain.map_err(|_| SealError::NotOpened)?;
        String::from_utf8(plain).map(SecretString::from).map_err(|_| SealError::NotOpened)
    }
}

impl FromStr for SealingKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = BASE64_STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
        if key.len() == KEY_BYTES { Ok(Self(key.into())) } else { Err(InvalidKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        BASE64_STANDARD.encode([byte; KEY_BYTES]).parse().expect("a key")
    }

    #[test]
    fn a_sealed_secret_opens_with_its_key_and_for_its_owner_only() {
        let seals = Seals::new(Some(key(1)), Vec::new());
        let sealed = seals.seal("handler 7", "whsec_b2xk").expect("sealed");
        assert!(is_sealed(&sealed) && !sealed.contains("whsec"));
        assert_ne!(seals.seal("handler 7", "whsec_b2xk").expect("sealed"), sealed, "each has its nonce");
        let opened = seals.open("handler 7", &sealed).expect("opened");
        assert_eq!((opened.text.expose_secret(), opened.is_current), ("whsec_b2xk", true));
        assert!(!format!("{opened:?}{seals:?}").contains("whsec"));

        assert_eq!(seals.open("handler 8", &sealed).err(), Some(SealError::NotOpened));
        let truncated = sealed.get(..sealed.len() - 4).expect("longer");
        for damaged in [truncated, "enc:v1:", "enc:v1:%", "enc:v1:AAAA"] {
            assert_eq!(seals.open("handler 7", damaged).err(), Some(SealError::NotOpened), "{damaged}");
        }
        let other = Seals::new(Some(key(2)), vec![key(3)]);
        assert_eq!(other.open("handler 7", &sealed).err(), Some(SealError::NotOpened));
        assert_eq!(Seals::default().open("handler 7", &sealed).err(), Some(SealError::NoKey));
    }

    #[test]
    fn previous_keys_open_and_do_not_seal() {
        let sealed = Seals::new(Some(key(1)), Vec::new()).seal("a", "b").expect("sealed");
        let rotated = Seals::new(Some(key(2)), vec![key(3), key(1)]);
        let opened = rotated.open("a", &sealed).expect("opened");
        assert_eq!((opened.text.expose_secret(), opened.is_current), ("b", false));
        let again = rotated.seal("a", "b").expect("sealed");
        assert!(Seals::new(Some(key(1)), vec![key(3)]).open("a", &again).is_err());
    }

    #[test]
    fn without_a_key_secrets_are_stored_as_they_are() {
        let none = Seals::default();
        assert_eq!(none.seal("a", "whsec_x").expect("as it is"), "whsec_x");
        assert!(none.open("a", "whsec_x").expect("as it is").is_current);
        let with = Seals::new(Some(key(1)), Vec::new());
        assert!(!with.open("a", "whsec_x").expect("in clear").is_current);
    }

    #[test]
    fn a_key_is_32_bytes() {
        for bad in ["", "x", &BASE64_STANDARD.encode([1; 31]), &BASE64_STANDARD.encode([1; 33])] {
            let error = bad.parse::<SealingKey>().expect_err(bad).to_string();
            assert!(error.contains("openssl rand -base64 32"), "{error}");
        }
        assert!(format!(" {}\n", BASE64_STANDARD.encode([1; 32])).parse::<SealingKey>().is_ok());
    }
}
