//! Answers of HTTP/1.1 servers (RFC 9112), as far as a load generator has to understand them.

/// An answer's head can't have more headers than this.
const MOST_HEADERS: usize = 32;

/// A whole answer at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status code.
    pub(super) status: u16,
    /// Bytes of head and body.
    pub(super) length: usize,
    /// Where the body starts.
    pub(super) body: usize,
    /// Whether the server closes the connection.
    pub(super) closes: bool,
}

/// The answer at the start of `bytes`; nothing as long as it is not whole.
///
/// # Errors
/// Where it is no answer, or one of unknown length: this reader knows `Content-Length` only.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let body = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not an HTTP answer: {error}")),
    };
    let (mut content_length, mut closes) = (None, false);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            content_length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let length = body + content_length.ok_or("an answer without Content-Length")?;
    let status = response.code.unwrap_or_default();
    Ok((bytes.len() >= length).then_some(Answer { status, length, body, closes }))
}

/// The number in `"accepted":N` of the answer to a batch.
pub(super) fn accepted(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, number) = text.split_once("\"accepted\":")?;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nConnection: close\r\n\r\nGIFHTTP/1.1";
        for end in 0..text.len() - 8 {
            assert_eq!(read(&text[..end]), Ok(None), "{end}");
        }
        let whole = Answer { status: 200, length: text.len() - 8, body: text.len() - 11, closes: true };
        assert_eq!(read(text), Ok(Some(whole)));
        assert!(read(b"SSH-2.0-x\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_batch_tells_how_many_hits_were_accepted() {
        assert_eq!(accepted(br#"{"accepted":99,"rejected":[{"index":3,"reason":"x"}]}"#), Some(99));
        assert_eq!(accepted(b"{}"), None);
    }
}
