//! Turns a body into plain text: removes a byte order mark and decompresses.
//!
//! The compression is detected from the first bytes: no JSON begins like that, and headers can get lost.
//! `content_encoding` is used only if the first bytes show no format.

use std::io::{BufRead, Read};

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::parts::Malformed;

const BOM: &[u8] = b"\xef\xbb\xbf";
const GZIP: &[u8] = b"\x1f\x8b";
/// A zlib stream (`deflate` in HTTP and AMQP) with the default window, at any level.
const ZLIB: [&[u8]; 4] = [b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"];
/// First bytes of compression formats that are not supported.
const OTHERS: [(&[u8], &str); 4] =
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x04\x22\x4d\x18", "lz4")];
/// The beginning of JSON in UTF-16, with or without a byte order mark.
const UTF_16: [&[u8]; 4] = [b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{"];

/// `body` decompressed and without a byte order mark.
pub(super) fn plain(body: &Bytes, encoding: Option<&str>, max_bytes: usize) -> Result<Bytes, Malformed> {
    let too_large = |bytes: &str| {
        let limit = format!("at most {max_bytes} are allowed (worker.max_event_bytes)");
        Malformed(format!("the body has {bytes} bytes; {limit}"))
    };
    if body.len() > max_bytes {
        return Err(too_large(&body.len().to_string()));
    }
    let decompressed = decompress(body, encoding, max_bytes)?;
    if decompressed.len() > max_bytes {
        return Err(too_large(&format!("{} compressed and more than {max_bytes} decompressed", body.len())));
    }
    if UTF_16.iter().any(|start| decompressed.starts_with(start)) {
        return Err(Malformed("the body is UTF-16: send JSON in UTF-8".to_owned()));
    }
    Ok(if decompressed.starts_with(BOM) { decompressed.slice(BOM.len()..) } else { decompressed })
}

/// `body` for display: decompressed if the result is text of at most `max_bytes`, else unchanged.
pub fn readable(body: &Bytes, encoding: Option<&str>, max_bytes: usize) -> Bytes {
    match decompress(body, encoding, max_bytes) {
        Ok(text) if text.len() <= max_bytes && std::str::from_utf8(&text).is_ok() => text,
        _ => body.clone(),
    }
}

fn decompress(body: &Bytes, encoding: Option<&str>, max_bytes: usize) -> Result<Bytes, Malformed> {
    let decompressed = if body.starts_with(GZIP) {
        decompress_gzip(body, max_bytes)?
    } else if is_zlib(body) {
        let mut decoder = ZlibDecoder::new(&body[..]);
        let decompressed = read("deflate", &mut decoder, max_bytes)?;
        check_end("deflate", decoder.into_inner(), &decompressed, max_bytes)?
    } else if let Some((_, name)) = OTHERS.iter().find(|(start, _)| body.starts_with(start)) {
        return Err(unsupported(name));
    } else {
        return by_encoding(body, encoding, max_bytes);
    };
    if decompressed.starts_with(GZIP) || is_zlib(&decompressed) {
        return Err(Malformed("the body is compressed twice: compress it once".to_owned()));
    }
    Ok(decompressed)
}

/// A body whose first bytes show no compression is text, unless it does not look like JSON and its `content_encoding`
/// names a compression.
fn by_encoding(body: &Bytes, encoding: Option<&str>, max_bytes: usize) -> Result<Bytes, Malformed> {
    let text = body.strip_prefix(BOM).unwrap_or(body);
    let is_json = text.trim_ascii_start().first().is_none_or(|first| b"{[\"".contains(first));
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        _ if is_json || body.is_empty() => Ok(body.clone()),
        "" | "identity" | "binary" | "utf-8" | "utf8" | "us-ascii" => Ok(body.clone()),
        "deflate" => {
            let mut decoder = DeflateDecoder::new(&body[..]);
            let decompressed = read("deflate", &mut decoder, max_bytes)?;
            check_end("deflate", decoder.into_inner(), &decompressed, max_bytes)
        }
        "gzip" | "x-gzip" => {
            Err(Malformed(format!("content_encoding is {encoding}, but the body is not gzip data")))
        }
        _ => Err(unsupported(&encoding)),
    }
}

fn unsupported(encoding: &str) -> Malformed {
    let encoding: String = encoding.chars().take(60).collect();
    Malformed(format!(
        "the body is encoded with {encoding:?}: only gzip and deflate are supported, applied once"
    ))
}

fn is_zlib(body: &[u8]) -> bool {
    ZLIB.iter().any(|start| body.starts_with(start))
}

/// Decompresses all members of a gzip body. `cat` of two gzip files makes a file with two members.
fn decompress_gzip(body: &[u8], max_bytes: usize) -> Result<Bytes, Malformed> {
    let (mut rest, mut decompressed) = (body, Vec::new());
    while rest.starts_with(GZIP) && decompressed.len() <= max_bytes {
        let mut decoder = GzDecoder::new(rest);
        decompressed.extend_from_slice(&read("gzip", &mut decoder, max_bytes - decompressed.len())?);
        rest = decoder.into_inner();
    }
    check_end("gzip", rest, &decompressed.into(), max_bytes)
}

/// Reads at most one byte more than `max_bytes`.
fn read(compression: &str, from: &mut impl Read, max_bytes: usize) -> Result<Bytes, Malformed> {
    let mut decompressed = Vec::new();
    from.take(max_bytes as u64 + 1).read_to_end(&mut decompressed).map_err(|e| {
        Malformed(format!("the body is compressed ({compression}), but cannot be decompressed: {e}"))
    })?;
    Ok(decompressed.into())
}

/// Fails if bytes follow the end of the compressed data, unless `decompressed` is already too large.
fn check_end(
    compression: &str,
    mut rest: impl BufRead,
    decompressed: &Bytes,
    max_bytes: usize,
) -> Result<Bytes, Malformed> {
    let extra_bytes = rest.fill_buf().map_or(0, <[u8]>::len);
    if extra_bytes > 0 && decompressed.len() <= max_bytes {
        return Err(Malformed(format!(
            "the body is compressed ({compression}), but {extra_bytes} bytes follow its end"
        )));
    }
    Ok(decompressed.clone())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    const TEXT: &[u8] = br#"{"a":"b"}"#;

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

    fn deflate(text: &[u8]) -> Bytes {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("compressed");
        encoder.finish().expect("compressed").into()
    }

    #[test]
    fn byte_order_marks_and_compression_are_removed() {
        let marked = [BOM, TEXT].concat();
        let members = [gzip(&TEXT[..4]), gzip(&TEXT[4..])].concat().into();
        let levels = (0..=9).map(|level| zlib(TEXT, level));
        for body in [Bytes::from_static(TEXT), marked.clone().into(), gzip(TEXT), gzip(&marked), members]
            .into_iter()
            .chain(levels)
        {
            for encoding in [None, Some("gzip"), Some("br"), Some("utf-8")] {
                assert_eq!(plain(&body, encoding, 100).expect("plain"), TEXT, "{body:?}");
            }
        }
        assert_eq!(plain(&deflate(TEXT), Some("Deflate"), 100).expect("plain"), TEXT);
    }

    #[test]
    fn an_error_says_why_a_body_cannot_be_decompressed() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        let bombs = [gzip(&[b' '; 3000]), gzip(&[b' '; 3000])].concat();
        let with_extra_bytes = |body: &Bytes| Bytes::from([&body[..], b"more"].concat());
        for (body, encoding, expected) in [
            (Bytes::from(vec![b' '; 5001]), "", "has 5001 bytes; at most 5000"),
            (bomb, "", "more than 5000 decompressed"),
            (bombs.into(), "", "more than 5000 decompressed"),
            (gzip(b"{}").slice(..10), "", "compressed (gzip), but cannot be decompressed"),
            (Bytes::from_static(b"\x78\x9cnonsense"), "", "compressed (deflate), but cannot be decompressed"),
            (with_extra_bytes(&gzip(TEXT)), "", "(gzip), but 4 bytes follow its end"),
            (with_extra_bytes(&zlib(TEXT, 6)), "", "(deflate), but 4 bytes follow its end"),
            (gzip(&gzip(TEXT)), "gzip, gzip", "compressed twice"),
            (Bytes::from_static(b"\x28\xb5\x2f\xfd$"), "", "encoded with \"zstd\": only gzip and deflate"),
            (Bytes::from_static(b"BZh91AY"), "", "encoded with \"bzip2\""),
            (Bytes::from_static(b"\x0b\x02\x80"), "br", "encoded with \"br\""),
            (Bytes::from_static(b"\x0b\x02\x80"), "Gzip", "is gzip, but the body is not gzip data"),
            (Bytes::from_static(b"\xff\x02\x80"), "deflate", "(deflate), but cannot be decompressed"),
            (Bytes::from_static(b"\xff\xfe{\0}\0"), "", "UTF-16"),
            (Bytes::from_static(b"{\0}\0"), "utf-16", "UTF-16"),
        ] {
            let error = plain(&body, Some(encoding), 5000).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_dead_letter_is_shown_decompressed_if_the_result_is_text() {
        assert_eq!(readable(&gzip(b"not json"), None, 100), b"not json"[..]);
        assert_eq!(readable(&deflate(TEXT), Some("deflate"), 100), TEXT);
        for body in
            [gzip(b"\xff"), gzip(&[b' '; 101]), Bytes::from_static(b"\xff\xfe{\0}\0"), gzip(TEXT).slice(..10)]
        {
            assert_eq!(readable(&body, None, 100), body);
        }
    }
}
