//! The algorithms of a certificate: names, hash functions, key sizes.

use x509_cert::{
    Certificate,
    der::{
        Decode, Reader, SliceReader, TagMode, TagNumber,
        asn1::{ObjectIdentifier, UintRef},
    },
    spki::AlgorithmIdentifierOwned,
};

const RSA: &str = "1.2.840.113549.1.1.1";

/// The size of an RSA key in bits. None for another key.
pub(super) fn rsa_bits(certificate: &[u8]) -> Option<usize> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate.subject_public_key_info;
    if key.algorithm.oid.to_string() != RSA {
        return None;
    }
    let mut reader = SliceReader::new(key.subject_public_key.as_bytes()?).ok()?;
    let bytes = reader.sequence(|inner| {
        let modulus = UintRef::decode(inner)?;
        UintRef::decode(inner)?;
        Ok(modulus.as_bytes().len())
    });
    Some(8 * bytes.ok()?)
}

/// The size of the hash function of a certificate's signature in bits, for a channel binding.
///
/// It is that of SHA-256 for MD5 and SHA-1. None if the signature has no hash function of its own (such as
/// Ed25519), or an unknown one.
pub fn hash_bits(certificate: &[u8]) -> Option<u16> {
    let algorithm = Certificate::from_der(certificate).ok()?.signature_algorithm;
    match algorithm.oid.to_string().as_str() {
        // md5WithRSA, sha1WithRSA, ecdsa-with-SHA1, sha256WithRSA, ecdsa-with-SHA256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => Some(256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(512),
        "1.2.840.113549.1.1.10" => pss_hash(&algorithm),
        _ => None,
    }
}

/// The hash function of RSASSA-PSS. It is the first of the algorithm's parameters; without it, it is SHA-1.
fn pss_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<u16> {
    let parameters = algorithm.parameters.as_ref()?;
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let hash: Option<AlgorithmIdentifierOwned> =
        reader.context_specific(TagNumber::N0, TagMode::Explicit).ok()?;
    match hash.map(|hash| hash.oid.to_string()).as_deref() {
        None | Some("1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1") => Some(256),
        Some("2.16.840.1.101.3.4.2.2") => Some(384),
        Some("2.16.840.1.101.3.4.2.3") => Some(512),
        Some(_) => None,
    }
}

/// The name of a signature algorithm. `id` is the content of its DER encoding.
pub(super) fn name_of(id: &[u8]) -> String {
    let oid = match id {
        [6, length, rest @ ..] => {
            rest.get(..usize::from(*length)).and_then(|oid| ObjectIdentifier::from_bytes(oid).ok())
        }
        _ => None,
    };
    let Some(oid) = oid.map(|oid| oid.to_string()) else { return "an unknown algorithm".to_owned() };
    let name = match oid.as_str() {
        "1.2.840.113549.1.1.2" => "RSA and MD2",
        "1.2.840.113549.1.1.4" => "RSA and MD5",
        "1.2.840.113549.1.1.5" => "RSA and SHA-1",
        "1.2.840.113549.1.1.14" => "RSA and SHA-224",
        "1.2.840.113549.1.1.15" => "RSA and SHA-512/224",
        "1.2.840.113549.1.1.16" => "RSA and SHA-512/256",
        "1.2.840.113549.1.1.10" => "RSA-PSS and a salt that is not as long as its hash",
        "1.2.840.10045.4.1" => "ECDSA and SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA and SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA and SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA and SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA and SHA-512",
        "2.16.840.1.101.3.4.3.9"
        | "2.16.840.1.101.3.4.3.10"
        | "2.16.840.1.101.3.4.3.11"
        | "2.16.840.1.101.3.4.3.12" => "ECDSA and SHA-3",
        "2.16.840.1.101.3.4.3.13"
        | "2.16.840.1.101.3.4.3.14"
        | "2.16.840.1.101.3.4.3.15"
        | "2.16.840.1.101.3.4.3.16" => "RSA and SHA-3",
        "1.3.101.113" => "Ed448",
        "1.2.840.10040.4.3" | "2.16.840.1.101.3.4.3.1" | "2.16.840.1.101.3.4.3.2" => "DSA",
        other => return format!("the algorithm {other}"),
    };
    name.to_owned()
}
