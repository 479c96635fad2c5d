//! The secret that signs requests, as in the Standard Webhooks specification.

use std::str::FromStr;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

/// Accepts base64 without padding, because other tools create such secrets.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key of 24 to 64 bytes, written as `whsec_<base64>`. `Debug` never prints it.
#[derive(Clone, Debug)]
pub struct SigningSecret(SecretSlice<u8>);

/// A text is not a signing secret. The error never repeats the text, because it may be almost one.
#[derive(Debug, thiserror::Error)]
#[error("a signing secret must be whsec_ and the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

impl SigningSecret {
    const PREFIX: &str = "whsec_";

    /// A new secret of 32 random bytes.
    pub fn generate() -> Self {
        let mut key = vec![0; 32];
        rand::fill(&mut key[..]);
        Self(key.into())
    }

    /// The text form, which `FromStr` reads. Show it to its owner once.
    pub fn expose(&self) -> String {
        format!("{}{}", Self::PREFIX, BASE64_STANDARD.encode(self.0.expose_secret()))
    }

    /// The text form, to be stored in the database.
    pub fn stored(&self) -> SecretString {
        SecretString::from(self.expose())
    }

    /// The signature `v1,<base64>` of one message: HMAC-SHA256 over `id.timestamp.body`.
    pub fn sign(&self, id: &str, unix_seconds: i64, body: &[u8]) -> String {
        // An HMAC key may have any length, so this never fails.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()) else {
            return String::new();
        };
        mac.update(format!("{id}.{unix_seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl FromStr for SigningSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let base64 = text.trim().strip_prefix(Self::PREFIX).ok_or(InvalidSecret)?;
        let key = LENIENT.decode(base64).map_err(|_| InvalidSecret)?;
        if (24..=64).contains(&key.len()) { Ok(Self(key.into())) } else { Err(InvalidSecret) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_standard_webhooks_libraries_do() {
        let secret: SigningSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret");
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_generated_secret_survives_its_text_and_stays_out_of_debug() {
        let secret = SigningSecret::generate();
        let text = secret.expose();
        let parsed: SigningSecret = text.parse().expect("its own text");
        assert_eq!(parsed.sign("a", 1, b"b"), secret.sign("a", 1, b"b"));
        assert_ne!(SigningSecret::generate().expose(), text);
        assert!(!format!("{secret:?}").contains(&text[6..20]));
        let unpadded: SigningSecret = text.trim_end_matches('=').parse().expect("without padding");
        assert_eq!(unpadded.expose(), text);
    }

    #[test]
    fn an_invalid_secret_is_rejected() {
        let secret_of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        assert!(
            secret_of(24).parse::<SigningSecret>().is_ok() && secret_of(64).parse::<SigningSecret>().is_ok()
        );
        for bad in
            ["", "whsec_", "whsec_*", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &secret_of(23), &secret_of(65)]
        {
            assert!(bad.parse::<SigningSecret>().is_err(), "{bad:?}");
        }
    }
}
