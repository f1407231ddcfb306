//! Reads a request's body: bounded in bytes, as sent and decompressed, and in time.

use std::io;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::Body;
use hyper::header::CONTENT_ENCODING;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A zstd frame may ask for a window of 8 MiB at most (RFC 8878, 3.1.1.1.2).
const LARGEST_ZSTD_WINDOW_LOG: u32 = 23;

/// Bounds of a body.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes, as sent and decompressed.
    pub bytes: usize,
    /// Longest time it may take.
    pub time: Duration,
}

/// Why a body can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the bound.
    #[error("the body is larger than {0} bytes; send fewer hits at once")]
    TooLarge(usize),
    /// It took too long.
    #[error("the body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// The connection broke.
    #[error("the body broke off")]
    BrokenOff,
    /// The encoding is not known.
    #[error("the content encoding {0:?} is not known; use gzip, deflate, br, zstd or none")]
    UnknownEncoding(String),
    /// It is not what its encoding says.
    #[error("the body is not {encoding}")]
    NotDecodable {
        /// What it should be.
        encoding: String,
        /// What was sent.
        sent: Bytes,
    },
}

/// Reads and decompresses a body.
///
/// # Errors
/// Where a bound is passed, or the body can't be decompressed.
pub async fn read<B>(headers: &HeaderMap, body: B, bounds: Bounds) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(bounds.time, Limited::new(body, bounds.bytes).collect()).await;
    let sent = match collected {
        Err(_) => return Err(BodyError::TooSlow(bounds.time)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(BodyError::TooLarge(bounds.bytes)),
        Ok(Err(_)) => return Err(BodyError::BrokenOff),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    let encoding =
        headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => Ok(sent),
        Some(encoding) => decompress(encoding, &sent, bounds.bytes).await,
    }
}

async fn decompress(encoding: &str, sent: &Bytes, limit: usize) -> Result<Bytes, BodyError> {
    let (body, compressed) = (sent.as_ref(), Compressed { encoding, sent, limit });
    match encoding {
        "gzip" | "x-gzip" => {
            let mut decoder = GzipDecoder::new(body);
            decoder.multiple_members(true);
            compressed.read(decoder, GzipDecoder::get_ref).await
        }
        // "deflate" is the zlib format (RFC 9110, 8.4.1.2), which some clients get wrong and send bare.
        "deflate" => match compressed.read(ZlibDecoder::new(body), ZlibDecoder::get_ref).await {
            Err(BodyError::NotDecodable { .. }) => {
                compressed.read(DeflateDecoder::new(body), DeflateDecoder::get_ref).await
            }
            other => other,
        },
        "br" => compressed.read(BrotliDecoder::new(body), BrotliDecoder::get_ref).await,
        "zstd" => {
            let window = DParameter::window_log_max(LARGEST_ZSTD_WINDOW_LOG);
            let mut decoder = ZstdDecoder::with_params(body, &[window]);
            decoder.multiple_members(true);
            compressed.read(decoder, ZstdDecoder::get_ref).await
        }
        other => Err(BodyError::UnknownEncoding(other.chars().take(40).collect())),
    }
}

/// A body as it was sent.
#[derive(Clone, Copy)]
struct Compressed<'s> {
    encoding: &'s str,
    sent: &'s Bytes,
    /// Most bytes once it is decompressed.
    limit: usize,
}

impl<'s> Compressed<'s> {
    /// Decompresses the whole of it: what a decoder leaves as its `rest` would be lost, were the others taken.
    async fn read<D: AsyncRead + Unpin>(
        self,
        mut decoder: D,
        rest: impl FnOnce(&D) -> &&'s [u8],
    ) -> Result<Bytes, BodyError> {
        let mut decompressed = Vec::new();
        let result: io::Result<usize> = (&mut decoder).take(self.limit as u64 + 1).read_to_end(&mut decompressed).await;
        match result {
            Ok(bytes) if bytes > self.limit => Err(BodyError::TooLarge(self.limit)),
            Ok(_) if rest(&decoder).is_empty() => Ok(decompressed.into()),
            _ => Err(BodyError::NotDecodable { encoding: self.encoding.to_owned(), sent: self.sent.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use http_body_util::Full;
    use tokio::io::{AsyncWrite, AsyncWriteExt};

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 10_000, time: Duration::from_secs(5) };

    async fn received(encoding: &str, sent: Vec<u8>) -> Result<Bytes, BodyError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        read(&headers, Full::from(sent), BOUNDS).await
    }

    macro_rules! compressed {
        ($encoder:ident, $plain:expr) => {{
            let mut encoder = $encoder::new(Vec::new());
            finish(&mut encoder, $plain).await;
            encoder.into_inner()
        }};
    }

    async fn finish(encoder: &mut (impl AsyncWrite + Unpin), plain: &[u8]) {
        encoder.write_all(plain).await.unwrap();
        encoder.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn every_encoding_is_read_and_bounded() {
        let (small, bomb) = (vec![b'a'; 10_000], vec![b'a'; 10_001]);
        for (encoding, fits, bursts) in [
            ("gzip", compressed!(GzipEncoder, &small), compressed!(GzipEncoder, &bomb)),
            ("deflate", compressed!(ZlibEncoder, &small), compressed!(ZlibEncoder, &bomb)),
            ("deflate", compressed!(DeflateEncoder, &small), compressed!(DeflateEncoder, &bomb)),
            ("br", compressed!(BrotliEncoder, &small), compressed!(BrotliEncoder, &bomb)),
            ("zstd", compressed!(ZstdEncoder, &small), compressed!(ZstdEncoder, &bomb)),
            ("identity", small.clone(), bomb.clone()),
        ] {
            assert_eq!(received(encoding, fits).await.unwrap(), small, "{encoding}");
            assert!(matches!(received(encoding, bursts).await, Err(BodyError::TooLarge(10_000))), "{encoding}");
        }
    }

    /// Members one after the other are one file (RFC 1952, section 2.2), and so are frames (RFC 8878, section 3).
    #[tokio::test]
    async fn what_is_compressed_piece_by_piece_is_read_to_its_end_and_bounded() {
        let half = vec![b'a'; 5_000];
        for (encoding, piece, empty) in [
            ("gzip", compressed!(GzipEncoder, &half), compressed!(GzipEncoder, b"")),
            ("zstd", compressed!(ZstdEncoder, &half), compressed!(ZstdEncoder, b"")),
        ] {
            assert_eq!(received(encoding, piece.repeat(2)).await.unwrap(), half.repeat(2), "{encoding}");
            assert_eq!(received(encoding, [&piece[..], &empty].concat()).await.unwrap(), half, "{encoding}");
            assert!(
                matches!(received(encoding, piece.repeat(3)).await, Err(BodyError::TooLarge(10_000))),
                "{encoding}"
            );
        }
    }

    #[tokio::test]
    async fn what_follows_and_is_not_as_it_says_is_refused() {
        let plain = vec![b'a'; 5_000];
        for (encoding, whole) in [
            ("gzip", compressed!(GzipEncoder, &plain)),
            ("deflate", compressed!(ZlibEncoder, &plain)),
            ("deflate", compressed!(DeflateEncoder, &plain)),
            ("br", compressed!(BrotliEncoder, &plain)),
            ("zstd", compressed!(ZstdEncoder, &plain)),
        ] {
            for more in [&b"{"[..], b"\0\0\0\0", b"{\"site\":\"demo\"}", &whole[..whole.len() / 2]] {
                let result = received(encoding, [&whole[..], more].concat()).await;
                assert!(matches!(result, Err(BodyError::NotDecodable { .. })), "{encoding} {more:?}: {result:.200?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_as_it_says_is_refused() {
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            let result = received(encoding, b"{\"site\":\"demo\"}".to_vec()).await;
            assert!(
                matches!(&result, Err(BodyError::NotDecodable { sent, .. }) if sent.len() == 15),
                "{encoding}: {result:?}"
            );
        }
        assert!(matches!(received("rot13", vec![]).await, Err(BodyError::UnknownEncoding(_))));
    }
}
