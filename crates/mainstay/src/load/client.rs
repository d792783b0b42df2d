//! One user and their library: asks, waits as long as people do, asks again as libraries do, and
//! looks at what comes as a strict reader would.

use super::plan::{Due, Manners, Plan};
use super::tally::{Times, Verdict};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use mainstay_core::rng::Rng;
use mainstay_server::dialect::Dialect;
use mainstay_server::dialect::event::{Endpoint, Event};
use mainstay_server::dialect::reader::Reader;
use mainstay_server::upstream::{Origin, OriginOptions, Outbound, Reply, SendError, Sent};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// A library waits this long before its first retry, twice as long before the next, within
const BACK_OFF: Duration = Duration::from_millis(500);
/// the longest that it honours.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A slow reader takes this long over each piece.
const SLOW: Duration = Duration::from_millis(200);
/// Which header tells the attempts a gateway made.
const ATTEMPTS: &str = "x-mainstay-attempts";
/// And which the site that answers.
const SITE: &str = "x-mainstay-site";

/// The addresses of the service, and what is known of its answers.
pub struct Door {
    origins: Vec<Origin>,
    dialect: Arc<Dialect>,
    /// No more is asked for: who waits to ask again gives up.
    pub over: CancellationToken,
    /// The first whole answer to each prompt, as a hash.
    answers: Mutex<HashMap<(u32, u32), u64>>,
}

/// What became of a user.
#[derive(Clone, Debug)]
pub struct Told {
    /// In one word.
    pub verdict: Verdict,
    /// When what came.
    pub times: Times,
}

/// One user.
pub struct User {
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
    manners: Manners,
    /// Which prompt, and how much was asked for: the same ones have the same answer.
    asked: (u32, u32),
    is_slow: bool,
    /// Leaves after so many pieces.
    leaves_after: Option<u32>,
    rng: Rng,
}

/// How one try ended.
enum Try {
    Good,
    /// With a status, and how long to wait.
    Refused(StatusCode, Option<Duration>),
    /// Nothing had come: the library asks again.
    Lost(Verdict),
    /// Something had come: it cannot.
    Broken(Verdict),
    Left,
}

impl Door {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// An address that is none.
    pub fn open(plan: &Plan) -> Result<Door, String> {
        let options = OriginOptions { ca_file: plan.ca_file.clone(), ..OriginOptions::default() };
        let open = |url: &String| {
            Origin::new(url.trim_end_matches('/'), options.clone())
                .map_err(|why| format!("--url {url}: {why}"))
        };
        let origins = plan.urls.iter().map(open).collect::<Result<_, _>>()?;
        let dialect = Dialect::builtin("openai").ok_or("no dialect")?;
        let (over, answers) = Default::default();
        Ok(Door { origins, dialect, over, answers })
    }

    /// Cuts every connection.
    pub async fn close(&self) {
        for origin in &self.origins {
            origin.shutdown().await;
        }
    }

    /// Whether this text is what others got for the same.
    fn agrees(&self, asked: (u32, u32), hash: u64) -> bool {
        let mut answers = self.answers.lock().expect("no panic under this lock");
        *answers.entry(asked).or_insert(hash) == hash
    }
}

impl User {
    /// One of `class`, whom chance gave `seed`.
    pub fn new(plan: &Plan, class: usize, due: &Due, seed: u64) -> User {
        let mut rng = Rng::new(seed);
        let prompt = rng.below(u64::from(plan.prompts)) as u32;
        let manners = plan.manners;
        let mut body = serde_json::json!({
            "model": plan.model,
            "messages": [{ "role": "user", "content": text(prompt, due.prompt) }],
            "max_tokens": due.output,
            "temperature": 0,
            "stream": manners.stream,
        });
        if let Some(stop) = &plan.stop {
            body["stop"] = stop.as_str().into();
        }
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let key = plan.classes[class].key.as_ref();
        headers.extend(key.and_then(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
            value.set_sensitive(true);
            Some((AUTHORIZATION, value))
        }));
        let leaves = rng.unit() < manners.hang_up;
        User {
            body: Bytes::from(body.to_string()),
            headers,
            manners,
            asked: (prompt, due.output.wrapping_mul(31).wrapping_add(due.prompt)),
            is_slow: rng.unit() < manners.slow,
            leaves_after: leaves.then(|| 1 + rng.below(20) as u32),
            rng,
        }
    }

    /// Asks until there is an answer or the library gives up.
    pub async fn ask(mut self, door: &Door) -> Told {
        let (mut times, began) = (Times::default(), Instant::now());
        let mut at = self.rng.below(door.origins.len() as u64) as usize;
        for number in 0..=self.manners.retries {
            let mut ended = self.once(door, at, &mut times).await;
            // Other addresses of the same name are tried where one cannot be reached at all.
            for _ in 1..door.origins.len() {
                if !matches!(ended, Try::Lost(Verdict::Unreachable)) {
                    break;
                }
                at = (at + 1) % door.origins.len();
                ended = self.once(door, at, &mut times).await;
            }
            times.waited = times.first_at.map(|first| first - began);
            let is_last = number == self.manners.retries;
            let (verdict, wait, may_retry) = match ended {
                Try::Good => return Told { verdict: Verdict::Good, times },
                Try::Left => return Told { verdict: Verdict::Left, times },
                Try::Broken(verdict) => return Told { verdict, times },
                Try::Lost(verdict) => (verdict, None, true),
                Try::Refused(status, wait) => {
                    (Verdict::of_status(status, wait.is_some()), wait, is_retried(status))
                }
            };
            if is_last || !may_retry {
                return Told { verdict, times };
            }
            let own = BACK_OFF * 2u32.pow(number.min(6));
            let own = own.mul_f64(1.0 - 0.25 * self.rng.unit());
            let wait = wait.filter(|wait| *wait <= RETRY_AFTER_MAX).unwrap_or(own);
            tokio::select! {
                biased;
                () = door.over.cancelled() => return Told { verdict, times },
                () = sleep(wait) => {}
            }
            times.retries += 1;
            at = (at + 1) % door.origins.len();
        }
        Told { verdict: Verdict::Failed, times }
    }

    async fn once(&mut self, door: &Door, at: usize, times: &mut Times) -> Try {
        let started = Instant::now();
        times.door = at;
        let patience = started + self.manners.patience;
        let request = Outbound {
            path: "/v1/chat/completions",
            method: Method::POST,
            headers: self.headers.clone(),
            body: self.body.clone(),
        };
        let reply = match timeout_at(patience, door.origins[at].send(request)).await {
            Err(_) => return Try::Lost(Verdict::Impatient),
            Ok(Err(SendError { sent: Sent::Nothing, .. })) => {
                return Try::Lost(Verdict::Unreachable);
            }
            Ok(Err(_)) => return Try::Lost(Verdict::Lost),
            Ok(Ok(reply)) => reply,
        };
        if reply.status != StatusCode::OK {
            times.refusals.push(started.elapsed());
            return Try::Refused(reply.status, retry_after(&reply.headers));
        }
        let header = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok());
        times.attempts = header(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(1);
        times.site = header(SITE).map(str::to_owned);
        match self.manners.stream {
            true => self.read(door, reply, started, times).await,
            false => self.read_whole(reply, started, times).await,
        }
    }

    async fn read_whole(&self, mut reply: Reply, started: Instant, times: &mut Times) -> Try {
        let deadline = started + self.manners.patience + self.manners.gap;
        loop {
            match timeout_at(deadline, reply.body.next()).await {
                Err(_) => return Try::Lost(Verdict::Impatient),
                Ok(Some(Ok(_))) => {
                    times.first_token.get_or_insert(started.elapsed());
                    times.first_at.get_or_insert_with(Instant::now);
                }
                Ok(Some(Err(_))) => return Try::Lost(Verdict::Lost),
                Ok(None) => return Try::Good,
            }
        }
    }

    async fn read(
        &mut self,
        door: &Door,
        reply: Reply,
        started: Instant,
        times: &mut Times,
    ) -> Try {
        let mut body = reply.body;
        let mut reader = Reader::new(door.dialect.clone(), Endpoint::Chat, 1);
        let mut seen = Seen::default();
        let mut last = started;
        times.gap_max = Duration::ZERO;
        loop {
            for event in reader.by_ref() {
                match seen.take(event) {
                    Took::Token => {
                        let now = Instant::now();
                        let gap = now - last;
                        match seen.pieces {
                            1 => {
                                times.first_token = Some(gap);
                                times.first_at = Some(now);
                            }
                            _ => {
                                times.gap_max = times.gap_max.max(gap);
                                times.gaps += gap;
                                times.pieces += 1;
                            }
                        }
                        last = now;
                    }
                    Took::Nothing => {}
                    Took::Whole => return self.judge(door, &seen, times),
                    Took::Error => return broken(&seen, Verdict::ErrorEvent),
                    Took::Malformed => return Try::Broken(Verdict::Malformed),
                }
                if self.leaves_after.is_some_and(|after| seen.pieces >= after) {
                    return Try::Left;
                }
            }
            if self.is_slow {
                sleep(SLOW).await;
            }
            let wait = if seen.pieces == 0 { self.manners.patience } else { self.manners.gap };
            let slack = if self.is_slow { SLOW } else { Duration::ZERO };
            match timeout_at(last + wait + slack, body.next()).await {
                Err(_) if seen.pieces == 0 => return Try::Lost(Verdict::Impatient),
                Err(_) => return Try::Broken(Verdict::Stalled),
                Ok(Some(Ok(bytes))) => reader.push(&bytes),
                Ok(Some(Err(_)) | None) => return broken(&seen, Verdict::Cut),
            }
        }
    }

    fn judge(&self, door: &Door, seen: &Seen, times: &mut Times) -> Try {
        times.differs = !door.agrees(self.asked, seen.hash);
        match seen.finishes == 1 {
            true => Try::Good,
            false => Try::Broken(Verdict::Malformed),
        }
    }
}

/// Without a token a library may ask again; with some the answer is broken.
fn broken(seen: &Seen, verdict: Verdict) -> Try {
    if seen.pieces == 0 { Try::Lost(verdict) } else { Try::Broken(verdict) }
}

/// What a reader has seen of a stream.
#[derive(Default)]
struct Seen {
    pieces: u32,
    finishes: u32,
    /// FNV-1a over the text.
    hash: u64,
}

enum Took {
    Token,
    Nothing,
    Whole,
    Error,
    Malformed,
}

impl Seen {
    fn take(&mut self, event: Event) -> Took {
        let chunk = match event {
            Event::Life => return Took::Nothing,
            Event::Done => return Took::Whole,
            Event::Failed(_) => return Took::Error,
            Event::Chunk(chunk) => chunk,
        };
        let mut has_token = false;
        for delta in &chunk.deltas {
            if delta.choice != 0 || (self.finishes > 0 && delta.tokens() > 0) {
                return Took::Malformed;
            }
            self.finishes += u32::from(delta.finish.is_some());
            has_token |= delta.tokens() > 0;
            for byte in delta.content.bytes() {
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        self.pieces += u32::from(has_token);
        if has_token { Took::Token } else { Took::Nothing }
    }
}

/// What the libraries of OpenAI send again.
fn is_retried(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429) || status.is_server_error()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A prompt of about so many tokens: words, the same for the same number.
fn text(prompt: u32, tokens: u32) -> String {
    const WORDS: [&str; 8] =
        ["river", "seven", "lantern", "quiet", "copper", "window", "harbour", "thread"];
    let mut rng = Rng::new(u64::from(prompt) + 1);
    let mut words = vec![format!("Question {prompt}.")];
    words.extend((3..tokens).map(|_| WORDS[rng.below(8) as usize].to_owned()));
    words.join(" ")
}
