//! HTTP/2 by hand (RFC 9113), as much as it takes to answer requests and to break them with
//! exact frames: a GOAWAY that covers a stream or does not, RST_STREAM with any code (F43).
//!
//! Left out on purpose: priorities, push, header compression of replies, limits on peers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::perform::{Gone, Line, Next, perform};
use super::play::{Head, Step};
use super::scope::Tally;
use super::server::{Seat, Shared, answer, ending};
use super::wire::{Request, Socket};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const PREFACE_LEN: usize = 24;
const FIRST_WINDOW: usize = 65_535;
const FRAME_MAX: usize = 16_384;

/// Frames waiting for the socket; streams wait when it is full.
const OUTBOX: usize = 64;

const CANCEL: u32 = 8;
const INTERNAL_ERROR: u32 = 2;

/// Carries an HTTP/2 connection whose first bytes are `inbox`.
pub async fn connection(socket: Box<dyn Socket>, inbox: Vec<u8>, number: u64, shared: Arc<Shared>) {
    let (reader, mut writer) = tokio::io::split(socket);
    let (outbox, mut frames) = mpsc::channel::<Vec<u8>>(OUTBOX);
    let (over, mut is_over) = watch::channel(false);
    let writing = tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                frame = frames.recv() => match frame {
                    Some(bytes) if writer.write_all(&bytes).await.is_ok() => {}
                    _ => return,
                },
                () = raised(&mut is_over) => {
                    let _ = writer.shutdown().await;
                    return;
                }
            }
        }
    });
    let mut session = Session {
        reader,
        inbox,
        outbox,
        over,
        window: Arc::new(Semaphore::new(FIRST_WINDOW)),
        stream_window: FIRST_WINDOW,
        streams: HashMap::new(),
        tasks: JoinSet::new(),
        decoder: loona_hpack::Decoder::new(),
        seat: Seat { connection: number, reused: false, http2: true },
        shared,
    };
    let _ = session.carry().await;
    for stream in session.streams.values() {
        stream.gone.send_replace(true);
    }
    // Streams end by themselves once they know; their attempts are then in the log.
    while session.tasks.join_next().await.is_some() {}
    session.over.send_replace(true);
    drop(session);
    let _ = writing.await;
}

struct Session {
    reader: ReadHalf<Box<dyn Socket>>,
    inbox: Vec<u8>,
    outbox: mpsc::Sender<Vec<u8>>,
    over: watch::Sender<bool>,
    window: Arc<Semaphore>,
    stream_window: usize,
    streams: HashMap<u32, Stream>,
    tasks: JoinSet<()>,
    decoder: loona_hpack::Decoder<'static>,
    seat: Seat,
    shared: Arc<Shared>,
}

/// A request that is arriving or being answered.
struct Stream {
    request: Request,
    block: Vec<u8>,
    window: Arc<Semaphore>,
    gone: watch::Sender<bool>,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Session {
    /// Reads frames until either side ends the connection.
    async fn carry(&mut self) -> Result<(), Gone> {
        while self.inbox.len() < PREFACE_LEN {
            self.more().await?;
        }
        self.inbox.drain(..PREFACE_LEN);
        self.put(frame(SETTINGS, 0, 0, &[])).await?;
        // A large window for requests, so that no body has to wait for updates.
        self.put(frame(WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes())).await?;
        loop {
            let frame = self.next_frame().await?;
            self.take(frame).await?;
            while self.tasks.try_join_next().is_some() {}
        }
    }

    async fn more(&mut self) -> Result<(), Gone> {
        let mut is_over = self.over.subscribe();
        tokio::select! {
            read = self.reader.read_buf(&mut self.inbox) => match read {
                Ok(count) if count > 0 => Ok(()),
                _ => Err(Gone),
            },
            () = raised(&mut is_over) => Err(Gone),
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, Gone> {
        while self.inbox.len() < 9 {
            self.more().await?;
        }
        let head: [u8; 9] = self.inbox[..9].try_into().expect("nine bytes");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        while self.inbox.len() < 9 + length {
            self.more().await?;
        }
        let payload = self.inbox[9..9 + length].to_vec();
        self.inbox.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.outbox.send(bytes).await.map_err(|_| Gone)
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Gone> {
        match frame.kind {
            HEADERS => {
                let stream = self.open(frame.stream);
                stream.block.extend_from_slice(unpadded(&frame));
                self.headers(&frame)
            }
            CONTINUATION => {
                let Some(stream) = self.streams.get_mut(&frame.stream) else { return Err(Gone) };
                stream.block.extend_from_slice(&frame.payload);
                self.headers(&frame)
            }
            DATA => self.data(&frame).await,
            SETTINGS if frame.flags & ACK == 0 => self.settings(&frame).await,
            PING if frame.flags & ACK == 0 => {
                self.put(self::frame(PING, ACK, 0, &frame.payload)).await
            }
            WINDOW_UPDATE => {
                self.update(&frame);
                Ok(())
            }
            RST_STREAM => {
                if let Some(stream) = self.streams.remove(&frame.stream) {
                    stream.gone.send_replace(true);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, id: u32) -> &mut Stream {
        let window = self.stream_window;
        self.streams.entry(id).or_insert_with(|| Stream {
            request: Request {
                method: String::new(),
                target: String::new(),
                headers: Vec::new(),
                body: Vec::new(),
            },
            block: Vec::new(),
            window: Arc::new(Semaphore::new(window)),
            gone: watch::Sender::new(false),
        })
    }

    /// Decodes a complete header block. A request without a body starts here.
    fn headers(&mut self, frame: &Frame) -> Result<(), Gone> {
        let Session { streams, decoder, .. } = self;
        let Some(stream) = streams.get_mut(&frame.stream) else { return Ok(()) };
        if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
            stream.request.headers.push((":end".to_owned(), String::new()));
        }
        if frame.flags & END_HEADERS == 0 {
            return Ok(());
        }
        let block = std::mem::take(&mut stream.block);
        for (name, value) in decoder.decode(&block).map_err(|_| Gone)? {
            let name = String::from_utf8_lossy(&name).into_owned();
            let value = String::from_utf8_lossy(&value).into_owned();
            match name.as_str() {
                ":method" => stream.request.method = value,
                ":path" => stream.request.target = value,
                _ => stream.request.headers.push((name, value)),
            }
        }
        if stream.request.header(":end").is_some() {
            self.start(frame.stream);
        }
        Ok(())
    }

    async fn data(&mut self, frame: &Frame) -> Result<(), Gone> {
        if !frame.payload.is_empty() {
            let count = (frame.payload.len() as u32).to_be_bytes();
            self.put(self::frame(WINDOW_UPDATE, 0, 0, &count)).await?;
            self.put(self::frame(WINDOW_UPDATE, 0, frame.stream, &count)).await?;
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else { return Ok(()) };
        stream.request.body.extend_from_slice(unpadded(frame));
        if frame.flags & END_STREAM != 0 {
            self.start(frame.stream);
        }
        Ok(())
    }

    async fn settings(&mut self, frame: &Frame) -> Result<(), Gone> {
        for setting in frame.payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            // SETTINGS_INITIAL_WINDOW_SIZE; streams that are open already only ever grow here.
            if u16::from_be_bytes([setting[0], setting[1]]) == 4 {
                let grown = (value as usize).saturating_sub(self.stream_window);
                self.streams.values().for_each(|stream| stream.window.add_permits(grown));
                self.stream_window = value as usize;
            }
        }
        self.put(self::frame(SETTINGS, ACK, 0, &[])).await
    }

    fn update(&mut self, frame: &Frame) {
        let Ok(bytes) = <[u8; 4]>::try_from(frame.payload.as_slice()) else { return };
        let count = (u32::from_be_bytes(bytes) & 0x7fff_ffff) as usize;
        if frame.stream == 0 {
            self.window.add_permits(count);
        } else if let Some(stream) = self.streams.get(&frame.stream) {
            stream.window.add_permits(count);
        }
    }

    /// Answers a request that has arrived whole.
    fn start(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let request = stream.request.clone();
        let (play, ticket) = answer(&self.shared, &request, self.seat);
        self.seat.reused = true;
        let mut line = StreamLine {
            id,
            outbox: self.outbox.clone(),
            over: self.over.clone(),
            gone: stream.gone.subscribe(),
            window: Arc::clone(&stream.window),
            connection_window: Arc::clone(&self.window),
            leaving: false,
        };
        self.tasks.spawn(async move {
            let mut tally = Tally::default();
            let ended = perform(&mut line, &play.steps, &mut tally).await;
            if let Some(ticket) = ticket {
                ticket.end(ending(ended, &play), tally);
            }
            if line.leaving {
                // The frames go out before the end of the connection does.
                tokio::time::sleep(Duration::from_millis(20)).await;
                line.over.send_replace(true);
            }
        });
    }
}

/// One stream, being answered.
struct StreamLine {
    id: u32,
    outbox: mpsc::Sender<Vec<u8>>,
    over: watch::Sender<bool>,
    gone: watch::Receiver<bool>,
    window: Arc<Semaphore>,
    connection_window: Arc<Semaphore>,
    leaving: bool,
}

impl StreamLine {
    async fn put(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = raised(&mut self.gone) => Err(Gone),
            sent = self.outbox.send(bytes) => sent.map_err(|_| Gone),
        }
    }

    async fn acquire(&mut self, count: usize) -> Result<(), Gone> {
        let count = count as u32;
        let both = async {
            self.window.acquire_many(count).await.map_err(|_| Gone)?.forget();
            self.connection_window.acquire_many(count).await.map_err(|_| Gone)?.forget();
            Ok(())
        };
        tokio::select! {
            biased;
            () = raised(&mut self.gone) => Err(Gone),
            acquired = both => acquired,
        }
    }
}

impl Line for StreamLine {
    async fn head(&mut self, head: &Head) -> Result<(), Gone> {
        let mut block = Vec::new();
        literal(&mut block, ":status", &head.status.to_string());
        for (name, value) in &head.headers {
            literal(&mut block, name, value);
        }
        self.put(frame(HEADERS, END_HEADERS, self.id, &block)).await
    }

    async fn body(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        for part in bytes.chunks(FRAME_MAX) {
            self.acquire(part.len()).await?;
            self.put(frame(DATA, 0, self.id, part)).await?;
        }
        Ok(())
    }

    /// There is nothing outside the framing here.
    async fn raw(&mut self, _: &[u8]) -> Result<(), Gone> {
        Ok(())
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = raised(&mut self.gone) => Err(Gone),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.put(frame(DATA, END_STREAM, self.id, &[])).await
    }

    async fn break_off(&mut self, step: &Step) -> Result<Next, Gone> {
        let code = match step {
            Step::GoAway { code, covers } => {
                let last = if *covers { self.id } else { self.id.saturating_sub(2) };
                let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
                self.put(frame(GOAWAY, 0, 0, &payload)).await?;
                self.leaving = true;
                return Ok(Next::Step);
            }
            Step::Close if self.leaving => return Ok(Next::Over),
            Step::VanishIdle => return Ok(Next::Step),
            Step::Vanish(time) => {
                self.wait(*time).await?;
                return Ok(Next::Over);
            }
            Step::ResetStream(code) => *code,
            Step::Reset => CANCEL,
            _ => INTERNAL_ERROR,
        };
        self.put(frame(RST_STREAM, 0, self.id, &code.to_be_bytes())).await?;
        Ok(Next::Over)
    }
}

/// Waits for a flag to be raised, or for the end of the one who could.
async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header field as a literal without indexing (RFC 7541 §6.2.2), strings without Huffman code.
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        let length = text.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend_from_slice(text.as_bytes());
    }
}

/// The payload without padding and priority.
fn unpadded(frame: &Frame) -> &[u8] {
    let mut payload = frame.payload.as_slice();
    if frame.flags & PADDED != 0 {
        let Some((padding, rest)) = payload.split_first() else { return &[] };
        payload = &rest[..rest.len().saturating_sub(*padding as usize)];
    }
    if frame.kind == HEADERS && frame.flags & PRIORITY != 0 {
        payload = payload.get(5..).unwrap_or_default();
    }
    payload
}
