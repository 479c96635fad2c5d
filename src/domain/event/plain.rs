//! The text in a body: behind a byte order mark, or compressed, as some publishers send it.
//!
//! What it is compressed with is seen from its first bytes: no JSON begins like that, and headers get lost on the way.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};

use super::parts::Malformed;

const BOM: &[u8] = b"\xef\xbb\xbf";
const GZIP: &[u8] = b"\x1f\x8b";
/// A zlib stream (`deflate` in HTTP and AMQP) with the usual window, whatever its level.
const ZLIB: [&[u8]; 4] = [b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"];

/// `body` as it was before it was compressed, and without a byte order mark.
pub(super) fn plain(body: &Bytes, max_bytes: usize) -> Result<Bytes, Malformed> {
    let too_large = |bytes: &str| {
        let most = format!("at most {max_bytes} are allowed (worker.max_event_bytes)");
        Malformed(format!("the body has {bytes} bytes; {most}"))
    };
    if body.len() > max_bytes {
        return Err(too_large(&body.len().to_string()));
    }
    let limit = max_bytes as u64 + 1;
    let expanded = if body.starts_with(GZIP) {
        expand("gzip", GzDecoder::new(&body[..]).take(limit))?
    } else if ZLIB.iter().any(|start| body.starts_with(start)) {
        expand("deflate", ZlibDecoder::new(&body[..]).take(limit))?
    } else {
        body.clone()
    };
    if expanded.len() > max_bytes {
        return Err(too_large(&format!("{} compressed, and more than {max_bytes} expanded,", body.len())));
    }
    Ok(if expanded.starts_with(BOM) { expanded.slice(BOM.len()..) } else { expanded })
}

fn expand(how: &str, mut from: impl Read) -> Result<Bytes, Malformed> {
    let mut expanded = Vec::new();
    from.read_to_end(&mut expanded)
        .map_err(|e| Malformed(format!("the body is compressed ({how}), and cannot be expanded: {e}")))?;
    Ok(expanded.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn gzip(text: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("compressed");
        encoder.finish().expect("compressed").into()
    }

    fn zlib(text: &[u8], level: u32) -> Bytes {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(text).expect("compressed");
        encoder.finish().expect("compressed").into()
    }

    #[test]
    fn the_text_is_found_behind_marks_and_compression() {
        let text = br#"{"a":"b"}"#;
        let marked = [BOM, text].concat();
        let levels = (0..=9).map(|level| zlib(text, level));
        for body in [Bytes::from_static(text), marked.clone().into(), gzip(text), gzip(&marked)]
            .into_iter()
            .chain(levels)
        {
            assert_eq!(plain(&body, 100).expect("plain"), text[..], "{body:?}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_told() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        for (body, told) in [
            (Bytes::from(vec![b' '; 5001]), "has 5001 bytes; at most 5000"),
            (bomb, "more than 5000 expanded"),
            (gzip(b"{}").slice(..10), "compressed (gzip), and cannot be expanded"),
            (Bytes::from_static(b"\x78\x9cnonsense"), "compressed (deflate), and cannot be expanded"),
        ] {
            let error = plain(&body, 5000).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
