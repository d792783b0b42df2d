//! HTTP/1.1 by hand: reads requests, and writes replies that a proper server could not write.
//! Reads all the while it writes or waits, so that the moment the peer hangs up is known.

use std::io;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::perform::{Gone, Line, Next};
use super::play::{Framing, Head, Step};

/// Bounds on a request, against clients under test that run wild.
const HEAD_MAX: usize = 256 * 1024;
const BODY_MAX: usize = 256 * 1024 * 1024;

/// Bytes a peer may send ahead of its turn before they count as a fault of its own.
const AHEAD_MAX: usize = 1024 * 1024;

/// A connection's bytes, plain or in TLS.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// The TCP connection underneath.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without framing.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the connection ends with this request.
    pub fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Whether a key came along.
    pub fn has_key(&self) -> bool {
        ["authorization", "x-api-key", "api-key"].iter().any(|name| self.header(name).is_some())
    }
}

/// One connection.
pub struct Conn {
    socket: Box<dyn Socket>,
    inbox: Vec<u8>,
    framing: Framing,
    /// Whether the peer asked to end the connection after this reply.
    pub last: bool,
}

impl Conn {
    /// A connection on `socket`, which has already sent `inbox`.
    pub fn new(socket: Box<dyn Socket>) -> Conn {
        Conn { socket, inbox: Vec::new(), framing: Framing::UntilClose, last: false }
    }

    /// Whether the peer opens with HTTP/2's preface; reads as far as it takes to tell.
    pub async fn speaks_http2(&mut self) -> io::Result<bool> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0";
        loop {
            let seen = self.inbox.len().min(PREFACE.len());
            if self.inbox[..seen] != PREFACE[..seen] {
                return Ok(false);
            }
            if seen == PREFACE.len() {
                return Ok(true);
            }
            if self.socket.read_buf(&mut self.inbox).await? == 0 {
                return Ok(false);
            }
        }
    }

    /// Gives the socket and what it sent so far to another protocol.
    pub fn into_parts(self) -> (Box<dyn Socket>, Vec<u8>) {
        (self.socket, self.inbox)
    }

    /// The next request; `None` if the peer ends the connection or does not speak HTTP.
    pub async fn read_request(&mut self) -> io::Result<Option<Request>> {
        let Some(head_end) = self.read_head().await? else { return Ok(None) };
        let head: Vec<u8> = self.inbox.drain(..head_end).collect();
        let Some(mut request) = parse_head(&head) else { return Ok(None) };
        if request.header("expect").is_some() {
            self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let length = request.header("content-length").and_then(|text| text.trim().parse().ok());
        request.body = if request.header("transfer-encoding").is_some() {
            self.read_chunks().await?
        } else {
            self.read_exactly(length.unwrap_or(0)).await?
        };
        self.last = request.is_last();
        Ok(Some(request))
    }

    async fn read_head(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(start) = find(&self.inbox, b"\r\n\r\n") {
                return Ok(Some(start + 4));
            }
            if self.inbox.len() > HEAD_MAX || self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        while self.inbox.len() < length {
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.inbox.drain(..length).collect())
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if body.len() + length > BODY_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if length == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.read_exactly(length).await?);
            self.read_line().await?;
        }
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.inbox, b"\r\n") {
                let line: Vec<u8> = self.inbox.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.inbox.len() > HEAD_MAX || self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.socket.read_buf(&mut self.inbox).await
    }

    /// Writes while watching: a peer that hung up is noticed although nothing can be written.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let Conn { socket, inbox, .. } = self;
        let (mut reader, mut writer) = tokio::io::split(socket);
        let writing = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        tokio::pin!(writing);
        loop {
            tokio::select! {
                biased;
                written = &mut writing => return written.map_err(|_| Gone),
                read = reader.read_buf(inbox) => still_there(read, inbox)?,
            }
        }
    }

    async fn watch(&mut self, time: Duration) -> Result<(), Gone> {
        let sleep = tokio::time::sleep(time);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                read = self.socket.read_buf(&mut self.inbox) => still_there(read, &self.inbox)?,
                () = &mut sleep => return Ok(()),
            }
        }
    }

    /// Lets the connection vanish now that its reply is over, until the peer gives up.
    pub async fn vanish_idle(&mut self) {
        let silent = drop_packets(self.socket.tcp());
        debug_assert!(silent.is_ok(), "{silent:?}");
        let _ = self.watch(super::play::bench::FOR_EVER).await;
    }
}

fn still_there(read: io::Result<usize>, inbox: &[u8]) -> Result<(), Gone> {
    match read {
        Ok(0) | Err(_) => Err(Gone),
        Ok(_) if inbox.len() > AHEAD_MAX => Err(Gone),
        Ok(_) => Ok(()),
    }
}

impl Line for Conn {
    async fn head(&mut self, head: &Head) -> Result<(), Gone> {
        self.framing = head.framing;
        let bytes = render(head, self.last);
        self.send(bytes.as_bytes()).await
    }

    async fn body(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.framing != Framing::Chunked {
            return self.send(bytes).await;
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk).await
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.send(bytes).await
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Gone> {
        self.watch(time).await
    }

    async fn end(&mut self) -> Result<(), Gone> {
        match self.framing {
            Framing::Chunked => self.send(b"0\r\n\r\n").await,
            Framing::Length(_) => Ok(()),
            Framing::UntilClose => {
                self.last = true;
                Ok(())
            }
        }
    }

    async fn break_off(&mut self, step: &Step) -> Result<Next, Gone> {
        match step {
            Step::Reset => {
                // Closing with zero linger sends RST instead of FIN.
                let _ = self.socket.tcp().set_zero_linger();
                Ok(Next::Over)
            }
            Step::Vanish(time) => {
                let silent = drop_packets(self.socket.tcp());
                debug_assert!(silent.is_ok(), "{silent:?}");
                self.watch(*time).await?;
                Ok(Next::Over)
            }
            // HTTP/1.1 has no such frame.
            Step::VanishIdle | Step::GoAway { .. } => Ok(Next::Step),
            _ => Ok(Next::Over),
        }
    }
}

/// Makes the kernel drop what arrives on this connection, unacknowledged, as a dead link would.
/// FIN and RST still pass, so that the log can tell when the peer gave up.
#[cfg(target_os = "linux")]
fn drop_packets(tcp: &TcpStream) -> io::Result<()> {
    // LD|B|ABS, JMP|JSET|K and RET|K of linux/bpf_common.h. The packet starts at its TCP header,
    // whose byte 13 holds the flags; FIN is 1 and RST is 4.
    let filter = [
        socket2::SockFilter::new(0x30, 0, 0, 13),
        socket2::SockFilter::new(0x45, 0, 1, 0b101),
        socket2::SockFilter::new(0x06, 0, 0, u32::MAX),
        socket2::SockFilter::new(0x06, 0, 0, 0),
    ];
    socket2::SockRef::from(tcp).attach_filter(&filter)
}

/// Elsewhere the connection only falls silent; the kernel still acknowledges.
#[cfg(not(target_os = "linux"))]
fn drop_packets(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A head as bytes. `Date` is added unless the play brings its own.
fn render(head: &Head, last: bool) -> String {
    let mut text = format!("HTTP/1.1 {} {}\r\n", head.status, reason(head.status));
    if !head.headers.iter().any(|(name, _)| name == "date") {
        text += &format!("date: {}\r\n", httpdate::fmt_http_date(SystemTime::now()));
    }
    for (name, value) in &head.headers {
        text += &format!("{name}: {value}\r\n");
    }
    match head.framing {
        Framing::Chunked => text += "transfer-encoding: chunked\r\n",
        Framing::Length(length) => text += &format!("content-length: {length}\r\n"),
        Framing::UntilClose => text += "connection: close\r\n",
    }
    if last && head.framing != Framing::UntilClose {
        text += "connection: close\r\n";
    }
    text + "\r\n"
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

fn parse_head(head: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let method = first.next()?.to_owned();
    let target = first.next()?.to_owned();
    first.next()?.starts_with("HTTP/1.").then_some(())?;
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Request { method, target, headers, body: Vec::new() })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
