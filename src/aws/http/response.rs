//! An HTTP/1.1 answer, read as its bytes come (RFC 9112), within bounds.

use zeroize::Zeroizing;

/// The most that status line and headers may have, in bytes.
pub const LARGEST_HEAD: usize = 16 << 10;
/// The most that a body may have, in bytes.
pub const LARGEST_BODY: usize = 64 << 10;
/// The longest line between two chunks.
const LONGEST_LINE: usize = 1 << 10;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with `HTTP/1.` and a status.
    #[error("it does not begin as one")]
    NotHttp,
    /// Something that should be a header.
    #[error("a header without a colon")]
    Header,
    /// The head does not end.
    #[error("its headers are over 16 KiB")]
    LargeHead,
    /// Too much of it.
    #[error("its body is over 64 KiB")]
    LargeBody,
    /// `Content-Length` is no number, or two.
    #[error("its length is no number, or two")]
    Length,
    /// A `Transfer-Encoding` that is not known.
    #[error("its transfer encoding is not known")]
    Encoding,
    /// The frame of a chunk.
    #[error("a chunk has no proper frame")]
    Chunk,
    /// The connection ended before it.
    #[error("the connection was closed before it was whole")]
    CutOff,
}

/// An answer.
pub struct HttpResponse {
    /// "200" and the like.
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

/// What the next bytes are part of.
#[derive(Debug, Clone, Copy)]
enum ReadState {
    Head,
    /// A body, or a chunk of one, of which this much is missing.
    Body(usize),
    ChunkSize,
    Chunk(usize),
    /// The line break behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, up to an empty one.
    Trailer,
    /// All until the connection ends.
    Rest,
}

/// Takes in an answer piece by piece. What is read is never outgrown, so that it can be wiped.
pub struct ResponseReader {
    state: ReadState,
    /// What has come and was not used up.
    raw: Zeroizing<Vec<u8>>,
    /// How much of that is known to have no end of what is looked for.
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
    /// Takes in what has come; at most [`LARGEST_BODY`] bytes at once. Gives the answer once it is whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<HttpResponse>, Malformed> {
        self.raw.extend_from_slice(bytes);
        loop {
            let before = self.raw.len();
            match self.state {
                ReadState::Head => {
                    if !self.could_be_http() {
                        return Err(Malformed::NotHttp);
                    }
                    let Some(head) = self.cut(b"\r\n\r\n", LARGEST_HEAD, Malformed::LargeHead)?
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
                        return Err(Malformed::Chunk);
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
            // Each turn uses something up, until there is nothing more to use.
            if self.raw.len() == before
                || self.raw.is_empty() && !matches!(self.state, ReadState::Body(0))
            {
                return Ok(None);
            }
        }
    }

    /// The connection has ended: the answer, if that is how it was to end.
    ///
    /// # Errors
    /// [`Malformed::CutOff`].
    pub fn end(&mut self) -> Result<HttpResponse, Malformed> {
        match self.state {
            ReadState::Rest => Ok(self.finished()),
            _ => Err(Malformed::CutOff),
        }
    }

    /// Whether what has come begins as an answer does. Who talks something else is not waited for.
    fn could_be_http(&self) -> bool {
        self.raw.iter().zip(b"HTTP/1.").all(|(is, should)| is == should)
    }

    fn finished(&mut self) -> HttpResponse {
        std::mem::replace(&mut self.response, Self::default().response)
    }

    /// What is there of the next `most` bytes goes to the body.
    fn move_on(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = most.min(self.raw.len());
        if self.response.body.len() + count > LARGEST_BODY {
            return Err(Malformed::LargeBody);
        }
        self.response.body.extend_from_slice(self.raw.get(..count).unwrap_or_default());
        self.forget(count);
        Ok(count)
    }

    fn forget(&mut self, count: usize) {
        self.raw.drain(..count);
        self.searched = 0;
    }

    /// What comes before `end`, once that is there; it must be within `most`.
    fn cut(
        &mut self,
        end: &[u8],
        most: usize,
        otherwise: Malformed,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Malformed> {
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

    fn line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Malformed> {
        self.cut(b"\r\n", LONGEST_LINE, Malformed::Chunk)
    }

    /// Reads status and headers, and tells what follows.
    fn head(&mut self, head: &[u8]) -> Result<ReadState, Malformed> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default().strip_prefix("HTTP/1.");
        let status = status.and_then(|rest| rest.split(' ').nth(1));
        let status = status.filter(|s| s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit()));
        let status: u16 = status.and_then(|s| s.parse().ok()).ok_or(Malformed::NotHttp)?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Malformed::Header)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if (100..200).contains(&status) {
            // Only says that the answer is to come.
            return Ok(ReadState::Head);
        }
        let part = what_follows(status, &headers)?;
        self.response.status = status;
        self.response.headers = headers;
        Ok(part)
    }
}

/// What comes behind a head.
fn what_follows(status: u16, headers: &[(String, String)]) -> Result<ReadState, Malformed> {
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
        _ => return Err(Malformed::Encoding),
    }

    let mut lengths = named("content-length");
    let Some(length) = lengths.next() else { return Ok(ReadState::Rest) };
    let is_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    if !is_number || lengths.any(|other| other != length) {
        return Err(Malformed::Length);
    }
    // More digits than a number can have are too large a body all the same.
    match length.parse() {
        Ok(length) if length <= LARGEST_BODY => Ok(ReadState::Body(length)),
        _ => Err(Malformed::LargeBody),
    }
}

/// The size in the line in front of a chunk. What may stand behind it has no meaning here.
fn chunk_size(line: &[u8]) -> Result<usize, Malformed> {
    let size = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    // A sign, which the parser would take, is none of these digits.
    if size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
        return Err(Malformed::Chunk);
    }
    let size = std::str::from_utf8(size).ok();
    size.and_then(|size| usize::from_str_radix(size, 16).ok()).ok_or(Malformed::Chunk)
}
