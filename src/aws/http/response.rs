//! An HTTP/1.1 answer, read as its bytes come (RFC 9112), within bounds. No socket is known here.

use zeroize::Zeroizing;

/// The most that status line and headers may have, in bytes.
pub const LARGEST_HEAD: usize = 16 << 10;
/// The most that a body may have, in bytes.
pub const LARGEST_BODY: usize = 64 << 10;
/// The longest line between two chunks.
const LONGEST_LINE: usize = 1 << 10;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It does not begin with `HTTP/1.` and a status.
    #[error("it does not begin as one")]
    NotHttp,
    /// A line that should be a header has no colon.
    #[error("a header without a colon")]
    Header,
    /// The head is too long.
    #[error("its headers are over 16 KiB")]
    LargeHead,
    /// The body is too long.
    #[error("its body is over 64 KiB")]
    LargeBody,
    /// `Content-Length` is no number, or there are two that differ.
    #[error("its length is no number, or two")]
    Length,
    /// An unknown `Transfer-Encoding`.
    #[error("its transfer encoding is not known")]
    Encoding,
    /// A chunk without its size or its end.
    #[error("a chunk has no proper frame")]
    Chunk,
    /// The connection ended too early.
    #[error("the connection was closed before it was whole")]
    CutOff,
}

pub struct HttpResponse {
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; it may hold secrets.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

impl HttpResponse {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, as far as it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }
}

/// What the next bytes belong to.
#[derive(Debug, Clone, Copy)]
enum ReadState {
    Head,
    /// A body, and how many bytes of it are still to come.
    Body(usize),
    ChunkSize,
    /// The data of a chunk, likewise.
    Chunk(usize),
    /// The line break behind a chunk.
    ChunkEnd,
    /// The lines behind the last chunk, up to an empty one.
    Trailer,
    /// All bytes until the connection ends.
    Rest,
}

/// Takes in an answer piece by piece. No buffer of it grows, so that all are wiped.
pub struct ResponseReader {
    state: ReadState,
    /// What has come and is not used up.
    raw: Zeroizing<Vec<u8>>,
    /// How many bytes at the front of these are known not to hold the end that is looked for.
    searched: usize,
    response: HttpResponse,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self {
            state: ReadState::Head,
            raw: Zeroizing::new(Vec::with_capacity(LARGEST_HEAD + LARGEST_BODY)),
            searched: 0,
            response: HttpResponse {
                status: 0,
                headers: Vec::new(),
                body: Zeroizing::new(Vec::with_capacity(LARGEST_BODY)),
            },
        }
    }
}

impl ResponseReader {
    /// Takes in what has come, at most [`LARGEST_BODY`] bytes at once. Returns the answer once it is whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<HttpResponse>, ResponseError> {
        self.raw.extend_from_slice(bytes);
        loop {
            let before = self.raw.len();
            match self.state {
                ReadState::Head => {
                    if !self.could_be_http() {
                        return Err(ResponseError::NotHttp);
                    }
                    let Some(head) =
                        self.cut(b"\r\n\r\n", LARGEST_HEAD, ResponseError::LargeHead)?
                    else {
                        return Ok(None);
                    };
                    self.state = self.head(&head)?;
                }
                ReadState::Body(missing) => {
                    let missing = missing - self.move_on(missing)?;
                    self.state = ReadState::Body(missing);
                    if missing == 0 {
                        return Ok(Some(self.finished()));
                    }
                }
                ReadState::ChunkSize => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    self.state = match chunk_size(&line)? {
                        0 => ReadState::Trailer,
                        size => ReadState::Chunk(size),
                    };
                }
                ReadState::Chunk(missing) => {
                    let missing = missing - self.move_on(missing)?;
                    self.state =
                        if missing == 0 { ReadState::ChunkEnd } else { ReadState::Chunk(missing) };
                }
                ReadState::ChunkEnd => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(ResponseError::Chunk);
                    }
                    self.state = ReadState::ChunkSize;
                }
                ReadState::Trailer => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if line.is_empty() {
                        return Ok(Some(self.finished()));
                    }
                }
                ReadState::Rest => {
                    self.move_on(usize::MAX)?;
                }
            }

            // Each turn must use up bytes. If it did not, or none are left, more have to come.
            if self.raw.len() == before
                || self.raw.is_empty() && !matches!(self.state, ReadState::Body(0))
            {
                return Ok(None);
            }
        }
    }

    /// The answer, if the end of the connection is also the end of the answer.
    ///
    /// # Errors
    /// [`ResponseError::CutOff`].
    pub fn end(&mut self) -> Result<HttpResponse, ResponseError> {
        match self.state {
            ReadState::Rest => Ok(self.finished()),
            _ => Err(ResponseError::CutOff),
        }
    }

    /// Whether what has come begins as an answer does. If not, no more of it is waited for.
    fn could_be_http(&self) -> bool {
        self.raw.iter().zip(b"HTTP/1.").all(|(is, should)| is == should)
    }

    fn finished(&mut self) -> HttpResponse {
        std::mem::replace(&mut self.response, Self::default().response)
    }

    /// Moves up to `most` bytes to the body, and returns how many.
    fn move_on(&mut self, most: usize) -> Result<usize, ResponseError> {
        let count = most.min(self.raw.len());
        if self.response.body.len() + count > LARGEST_BODY {
            return Err(ResponseError::LargeBody);
        }
        self.response.body.extend_from_slice(self.raw.get(..count).unwrap_or_default());
        self.forget(count);
        Ok(count)
    }

    fn forget(&mut self, count: usize) {
        self.raw.drain(..count);
        self.searched = 0;
    }

    /// Takes what comes before `end`, once `end` is there. It must come within `most` bytes, or the error is
    /// `otherwise`.
    fn cut(
        &mut self,
        end: &[u8],
        most: usize,
        otherwise: ResponseError,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ResponseError> {
        let mut windows = self.raw.windows(end.len()).take(most + 1).skip(self.searched);

        match windows.position(|window| window == end) {
            Some(place) => {
                let place = self.searched + place;
                let cut = Zeroizing::new(self.raw.get(..place).unwrap_or_default().to_vec());
                self.forget(place + end.len());
                Ok(Some(cut))
            }
            None if self.raw.len() > most => Err(otherwise),
            None => {
                self.searched = (self.raw.len() + 1).saturating_sub(end.len());
                Ok(None)
            }
        }
    }

    fn line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, ResponseError> {
        self.cut(b"\r\n", LONGEST_LINE, ResponseError::Chunk)
    }

    /// Reads status and headers, and returns what follows them.
    fn head(&mut self, head: &[u8]) -> Result<ReadState, ResponseError> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default().strip_prefix("HTTP/1.");
        let status = status.and_then(|rest| rest.split(' ').nth(1));
        let status = status.filter(|s| s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit()));
        let status: u16 = status.and_then(|s| s.parse().ok()).ok_or(ResponseError::NotHttp)?;

        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(ResponseError::Header)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }

        if (100..200).contains(&status) {
            // The answer is interim: the real one is still to come.
            return Ok(ReadState::Head);
        }

        let next = what_follows(status, &headers)?;
        self.response.status = status;
        self.response.headers = headers;
        Ok(next)
    }
}

/// How the bytes behind a head are framed.
fn what_follows(status: u16, headers: &[(String, String)]) -> Result<ReadState, ResponseError> {
    let named = |name: &'static str| {
        headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    if status == 204 || status == 304 {
        return Ok(ReadState::Body(0));
    }

    let encodings: Vec<&str> = named("transfer-encoding").collect();
    match &encodings[..] {
        [] => {}
        [one] if one.eq_ignore_ascii_case("chunked") => return Ok(ReadState::ChunkSize),
        _ => return Err(ResponseError::Encoding),
    }

    let mut lengths = named("content-length");
    let Some(length) = lengths.next() else { return Ok(ReadState::Rest) };
    let is_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    if !is_number || lengths.any(|other| other != length) {
        return Err(ResponseError::Length);
    }

    // A number with too many digits also means a body that is too large.
    match length.parse() {
        Ok(length) if length <= LARGEST_BODY => Ok(ReadState::Body(length)),
        _ => Err(ResponseError::LargeBody),
    }
}

/// The size in the line in front of a chunk. What may stand behind it has no meaning here.
fn chunk_size(line: &[u8]) -> Result<usize, ResponseError> {
    let size = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    // The number parser alone would also accept a sign.
    if size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
        return Err(ResponseError::Chunk);
    }

    let size = std::str::from_utf8(size).ok();
    size.and_then(|size| usize::from_str_radix(size, 16).ok()).ok_or(ResponseError::Chunk)
}
