//! A client that believes nothing: raw HTTP/1.1 on a socket, the time of every event, and whether
//! the body was ended properly. It can leave early and read slowly.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// One event of a stream, or one comment.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the request was sent.
    pub at: Duration,
    /// The `event:` field.
    pub name: Option<String>,
    /// The `data:` field, or what stands behind the colon of a comment.
    pub data: String,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status; 0 if none came.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// When the head was complete, since the request was sent.
    pub head_at: Duration,
    /// The body without framing.
    pub body: Vec<u8>,
    /// Events with data, in order.
    pub events: Vec<Event>,
    /// Comments, in order.
    pub comments: Vec<Event>,
    /// Whether the body ended as its framing promised.
    pub terminated: bool,
    /// Whether the connection ended by a reset.
    pub reset: bool,
    /// From the request to the end.
    pub took: Duration,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its JSON.
    pub body: Value,
    path: String,
    headers: Vec<(String, String)>,
    leave_after: Option<usize>,
    bytes_per_second: Option<usize>,
    slow_for: Duration,
    patience: Duration,
}

impl Ask {
    /// A chat request with one user message.
    pub fn chat(model: &str, prompt: &str) -> Ask {
        let messages = json!([{"role": "user", "content": prompt}]);
        Ask {
            body: json!({"model": model, "messages": messages}),
            path: "/chat/completions".to_owned(),
            headers: Vec::new(),
            leave_after: None,
            bytes_per_second: None,
            slow_for: Duration::MAX,
            patience: Duration::from_secs(30),
        }
    }

    /// As a stream, with usage asked for.
    pub fn stream(self) -> Ask {
        self.with("stream", json!(true)).with("stream_options", json!({"include_usage": true}))
    }

    /// As a stream or plain.
    pub fn mode(self, mode: Mode) -> Ask {
        match mode {
            Mode::Stream => self.stream(),
            Mode::Plain => self,
        }
    }

    /// With another field in the body.
    pub fn with(mut self, key: &str, value: Value) -> Ask {
        self.body[key] = value;
        self
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// To another path below the base URL, e.g. `/responses`.
    pub fn to(mut self, path: &str) -> Ask {
        self.path = path.to_owned();
        self
    }

    /// Hangs up after so many events.
    pub fn leaving_after(mut self, events: usize) -> Ask {
        self.leave_after = Some(events);
        self
    }

    /// Reads no faster than this.
    pub fn reading_at(mut self, bytes_per_second: usize) -> Ask {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Reads slowly for so long only, then as fast as it can.
    pub fn slow_for(mut self, time: Duration) -> Ask {
        self.slow_for = time;
        self
    }

    /// Gives up after so long.
    pub fn patient_for(mut self, patience: Duration) -> Ask {
        self.patience = patience;
        self
    }

    /// Sends it to a base URL such as `http://127.0.0.1:8080/v1` and reads to the end.
    pub async fn send(&self, base: &str) -> Reply {
        let (host, prefix) = split(base);
        let body = self.body.to_string();
        let mut head = format!(
            "POST {prefix}{} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n",
            self.path,
            body.len()
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.exchange(host, (head + "\r\n" + &body).into_bytes()).await
    }

    /// A slow reader's kernel must not read ahead for it.
    async fn connect(&self, host: &str) -> TcpStream {
        if self.bytes_per_second.is_none() {
            return TcpStream::connect(host).await.expect("connect");
        }
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        socket.connect(host.parse().expect("an address")).await.expect("connect")
    }

    async fn exchange(&self, host: &str, request: Vec<u8>) -> Reply {
        let mut tcp = self.connect(host).await;
        let started = Instant::now();
        tcp.write_all(&request).await.expect("send the request");
        let mut reading = Reading::new(started);
        let limit = started + self.patience;
        let size = self.bytes_per_second.map_or(65_536, |rate| (rate / 10).max(1));
        let mut buffer = vec![0; size];
        while !reading.is_over() {
            let read = tokio::time::timeout_at(limit.into(), tcp.read(&mut buffer)).await;
            match read {
                Ok(Ok(0)) => {
                    reading.end();
                    break;
                }
                Ok(Ok(count)) => reading.take(&buffer[..count]),
                Ok(Err(_)) => {
                    reading.reply.reset = true;
                    break;
                }
                Err(_) => break,
            }
            if self.leave_after.is_some_and(|most| reading.reply.events.len() >= most) {
                break;
            }
            if self.bytes_per_second.is_some() && started.elapsed() >= self.slow_for {
                buffer.resize(65_536, 0);
            } else if self.bytes_per_second.is_some() {
                // waits for: the next tenth of a second's share of bytes
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        reading.reply.took = started.elapsed();
        reading.reply
    }
}

/// Whether an answer comes in events or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In events.
    Stream,
    /// At once.
    Plain,
}

/// A plain GET, e.g. of the metrics.
pub async fn get(url: &str) -> Reply {
    request("GET", url, "").await
}

/// A GET that asks for JSON.
pub async fn get_json(url: &str) -> Reply {
    request("GET", url, "accept: application/json\r\n").await
}

/// A POST without a body, e.g. to the fault server's control interface.
pub async fn post(url: &str) -> Reply {
    request("POST", url, "content-length: 0\r\n").await
}

async fn request(method: &str, url: &str, headers: &str) -> Reply {
    let (host, path) = split(url);
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    Ask::chat("", "").exchange(host, request.into_bytes()).await
}

fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").expect("a plain URL");
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

/// A reply that is arriving.
struct Reading {
    started: Instant,
    pending: Vec<u8>,
    framing: Option<Framing>,
    /// Start of the event that is arriving, in the body.
    event_start: usize,
    reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Chunked,
    Length(usize),
    UntilClose,
}

impl Reading {
    fn new(started: Instant) -> Reading {
        let reply = Reply::default();
        Reading { started, pending: Vec::new(), framing: None, event_start: 0, reply }
    }

    fn is_over(&self) -> bool {
        self.reply.terminated
    }

    /// The peer closed.
    fn end(&mut self) {
        self.reply.terminated |= self.framing == Some(Framing::UntilClose);
    }

    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        if self.framing.is_none() && !self.head() {
            return;
        }
        match self.framing {
            Some(Framing::Chunked) => while self.chunk() {},
            Some(Framing::Length(length)) => {
                self.reply.body.append(&mut self.pending);
                self.reply.terminated = self.reply.body.len() >= length;
            }
            Some(Framing::UntilClose) => self.reply.body.append(&mut self.pending),
            None => {}
        }
        self.events();
    }

    /// Reads the head once it is there.
    fn head(&mut self) -> bool {
        let Some(end) = find(&self.pending, b"\r\n\r\n") else { return false };
        let head: Vec<u8> = self.pending.drain(..end + 4).collect();
        let text = String::from_utf8(head).expect("a head in UTF-8");
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        self.reply.status = status.and_then(|text| text.parse().ok()).expect("a status line");
        self.reply.headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        self.reply.head_at = self.started.elapsed();
        let length = self.reply.header("content-length").and_then(|text| text.parse().ok());
        self.framing = Some(match (self.reply.header("transfer-encoding"), length) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::UntilClose,
        });
        true
    }

    /// Moves one whole chunk into the body, and what there is of an unfinished one.
    fn chunk(&mut self) -> bool {
        let Some(line) = find(&self.pending, b"\r\n") else { return false };
        let digits = std::str::from_utf8(&self.pending[..line]).expect("a chunk length");
        let length = usize::from_str_radix(digits.trim(), 16).expect("a chunk length");
        let end = line + 2 + length;
        if self.pending.len() < end + 2 {
            return false;
        }
        assert_eq!(&self.pending[end..end + 2], b"\r\n", "a chunk ends with a line end");
        self.reply.body.extend_from_slice(&self.pending[line + 2..end]);
        self.pending.drain(..end + 2);
        self.reply.terminated = length == 0;
        length > 0
    }

    /// Reads the events that are complete in the body.
    fn events(&mut self) {
        if !self.reply.header("content-type").is_some_and(|kind| kind.contains("event-stream")) {
            return;
        }
        let at = self.started.elapsed();
        loop {
            let rest = &self.reply.body[self.event_start..];
            let wide = find(rest, b"\r\n\r\n").map(|end| (end, 4));
            let narrow = find(rest, b"\n\n").map(|end| (end, 2));
            let Some((end, gap)) = wide.into_iter().chain(narrow).min() else { return };
            let text = String::from_utf8(rest[..end].to_vec()).expect("an event in UTF-8");
            self.event_start += end + gap;
            self.event(at, &text);
        }
    }

    fn event(&mut self, at: Duration, text: &str) {
        let mut name = None;
        let mut data: Option<String> = None;
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => {
                    let data = value.to_owned();
                    self.reply.comments.push(Event { at, name: None, data });
                }
                "event" => name = Some(value.to_owned()),
                "data" => data = Some(data.map_or(String::new(), |d| d + "\n") + value),
                _ => {}
            }
        }
        if let Some(data) = data {
            self.reply.events.push(Event { at, name, data });
        }
    }
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The events that are JSON; a plain body as the only one.
    pub fn chunks(&self) -> Vec<Value> {
        if self.events.is_empty() {
            return vec![self.json()];
        }
        self.events.iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect()
    }

    /// The text of choice 0.
    pub fn text(&self) -> String {
        self.text_of(0)
    }

    /// The text of a choice.
    pub fn text_of(&self, choice: u64) -> String {
        self.of_choice(choice)
            .iter()
            .map(|c| {
                let delta = c["delta"]["content"].as_str();
                delta.or(c["message"]["content"].as_str()).or(c["text"].as_str()).unwrap_or("")
            })
            .collect()
    }

    /// The thinking that came along.
    pub fn reasoning(&self) -> String {
        self.of_choice(0)
            .iter()
            .map(|c| {
                let delta = c["delta"]["reasoning_content"].as_str();
                delta.or(c["message"]["reasoning_content"].as_str()).unwrap_or("")
            })
            .collect()
    }

    /// The finish reason of a choice.
    pub fn finish_of(&self, choice: u64) -> Option<String> {
        let reasons = self.of_choice(choice);
        reasons.iter().rev().find_map(|c| c["finish_reason"].as_str().map(str::to_owned))
    }

    /// The finish reason of choice 0.
    pub fn finish(&self) -> Option<String> {
        self.finish_of(0)
    }

    fn of_choice(&self, choice: u64) -> Vec<Value> {
        let chunks = self.chunks();
        let choices = chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
        choices.filter(|c| c["index"].as_u64() == Some(choice)).cloned().collect()
    }

    /// The usage, null if none came.
    pub fn usage(&self) -> Value {
        let chunks = self.chunks();
        chunks.iter().map(|c| c["usage"].clone()).find(|u| u.is_object()).unwrap_or(Value::Null)
    }

    /// The error, null if none came.
    pub fn error(&self) -> Value {
        let chunks = self.chunks();
        chunks.iter().map(|c| c["error"].clone()).find(|e| !e.is_null()).unwrap_or(Value::Null)
    }

    /// The models that the chunks name, in order of appearance.
    pub fn models(&self) -> Vec<String> {
        let mut models: Vec<String> =
            self.chunks().iter().filter_map(|c| c["model"].as_str().map(str::to_owned)).collect();
        models.dedup();
        models
    }

    /// Name and arguments of the tool calls, by index.
    pub fn calls(&self) -> Vec<(String, String)> {
        let mut calls: Vec<(String, String)> = Vec::new();
        for choice in self.of_choice(0) {
            let pieces = choice["delta"]["tool_calls"].as_array().cloned();
            let whole = choice["message"]["tool_calls"].as_array().cloned();
            for (i, call) in pieces.or(whole).unwrap_or_default().iter().enumerate() {
                let index = call["index"].as_u64().map_or(i, |index| index as usize);
                calls.resize(calls.len().max(index + 1), Default::default());
                calls[index].0 += call["function"]["name"].as_str().unwrap_or("");
                calls[index].1 += call["function"]["arguments"].as_str().unwrap_or("");
            }
        }
        calls
    }

    /// Whether `[DONE]` came, and nothing behind it.
    pub fn is_done(&self) -> bool {
        self.events.last().is_some_and(|event| event.data == "[DONE]")
    }

    /// When the first event with content came.
    pub fn first_content_at(&self) -> Option<Duration> {
        let has_content = |event: &&Event| {
            let value: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
            value["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty())
        };
        self.events.iter().find(has_content).map(|event| event.at)
    }

    /// The longest silence between two events.
    pub fn longest_gap(&self) -> Duration {
        let gaps = self.events.windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or_default()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
