//! One try at one site: opens it through the site's dialect and reads what comes as a few events.
//!
//! It decides nothing. It can be dropped at any moment, which closes the connection or stops the
//! engine's work within a step.

mod drill;
pub mod engine;
pub mod probe;
pub mod roster;

use crate::dialect::Reply as Refused;
use crate::dialect::event::{Chunk, Endpoint, Event};
use crate::dialect::plain::{self, Plain};
use crate::dialect::reader::Reader;
use crate::dialect::request::{Call, Edit, Outgoing, Relayed, write};
use crate::dialect::{Auth, Dialect};
use crate::embedded::Desk;
use crate::handover;
use crate::setup::Secret;
use crate::telemetry::format_request;
use crate::upstream::{Origin, Outbound, Reply, ReplyBody, SendError};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use mainstay_core::fact::{How, Rung};
use mainstay_core::gateway::Start;
use mainstay_core::gateway::request::Sent;
use mainstay_core::message::{Ack, Refuse};
use mainstay_core::names::{AttemptId, ErrorClass, Failure};
use roster::Roster;
use std::sync::Arc;

/// The most that is read of an error's body (C12).
const ERROR_BODY: usize = 64 * 1024;

/// A plain body larger than this may become as large as one can be; what is reserved for it costs
/// nothing until it is written to.
const BODY_USUAL: usize = 1024 * 1024;

/// A site as attempts reach it.
#[derive(Clone)]
pub enum Site {
    /// A provider account.
    Provider(Arc<Account>),
    /// The embedded engine.
    Engine(Desk),
    /// A site of ours, through its node.
    Node(Arc<Account>),
}

/// A provider account.
pub struct Account {
    /// How it speaks.
    pub dialect: Arc<Dialect>,
    /// Where it is.
    pub origin: Origin,
    /// The base URL, which some dialects change for some requests.
    pub base: String,
    /// Our key there.
    pub key: Option<Secret>,
    /// Whether a client's plain request may go there as a stream.
    pub stream: bool,
    /// What is known of its models' names.
    pub roster: Roster,
}

/// One thing an attempt tells.
#[derive(Debug)]
pub enum Item {
    /// It lives; no token came.
    Life,
    /// A worker of ours is at work on it.
    Beat,
    /// A site of ours took it in.
    Ack(Ack),
    /// A site of ours did not take it in, or hands it back before its first token.
    Refused(Refuse),
    /// Part of the answer.
    Chunk(Chunk),
    /// The whole answer to a plain request.
    Whole(Plain),
    /// It broke.
    Broken(Fault),
    /// It ended as the protocol says it should.
    End,
}

/// How an attempt broke.
#[derive(Debug)]
pub struct Fault {
    /// What it means.
    pub failure: Failure,
    /// How much the upstream can have seen.
    pub sent: Sent,
    /// A pooled connection had been dead already.
    pub stale: bool,
    /// Whether it was the transport that broke after the reply had begun.
    pub cut: bool,
    /// Words for the operator.
    pub alarm: Option<String>,
}

/// What an attempt is to ask.
pub struct Question<'a> {
    /// The client's call.
    pub call: &'a Arc<Call>,
    /// The machine's order.
    pub start: &'a Start,
    /// What was relayed of the choice to be continued.
    pub relayed: Option<Relayed<'a>>,
    /// Whether the client wants a stream.
    pub stream: bool,
    /// The name of its tier.
    pub tier: &'a str,
    /// Whose it is.
    pub tenant: u32,
}

impl Site {
    /// Closes every connection.
    pub async fn shutdown(&self) {
        if let Site::Provider(account) | Site::Node(account) = self {
            account.origin.shutdown().await;
        }
    }
}

/// An attempt under way.
pub struct Attempt {
    source: Source,
    /// What a drill does to it.
    breaking: Option<drill::Breaking>,
}

enum Source {
    Provider(Box<Exchange>),
    Engine(engine::Answer),
    /// It could not even be written down, or is not asked.
    Stillborn(Option<Failure>),
}

/// A request to a provider and its reply.
struct Exchange {
    account: Arc<Account>,
    endpoint: Endpoint,
    /// At a site of ours: which attempt.
    at_node: Option<AttemptId>,
    /// Reads the stream; `None` where a plain reply was asked for.
    reader: Option<Box<Reader>>,
    phase: Phase,
}

enum Phase {
    Opening(BoxFuture<'static, Result<Reply, SendError>>),
    Stream(Box<Reader>, ReplyBody),
    /// The body has ended; the reader may have more to say.
    Rest(Box<Reader>),
    Whole(ReplyBody, BytesMut),
    Refusal {
        status: StatusCode,
        headers: HeaderMap,
        body: ReplyBody,
        read: BytesMut,
        alarm: Option<String>,
    },
    Over,
}

impl Attempt {
    /// Opens an attempt. Nothing is sent before the first `next`.
    pub fn open(site: &Site, question: &Question<'_>) -> Attempt {
        match question.start.broken {
            Some(breakage) => drill::open(site, question, breakage),
            None => Attempt { source: drill::real(site, question), breaking: None },
        }
    }

    /// What it tells next. May be dropped and called again.
    pub async fn next(&mut self) -> Item {
        match &mut self.breaking {
            Some(breaking) => breaking.next(&mut self.source).await,
            None => self.source.next().await,
        }
    }

    /// What it tells next without waiting, if anything.
    pub fn ready(&mut self) -> Option<Item> {
        match &mut self.breaking {
            Some(breaking) => breaking.ready(&mut self.source),
            None => self.source.ready(),
        }
    }

    /// Everything wanted has come: the connection may be kept if the rest comes at once.
    pub fn finish(self) {
        if let Source::Provider(exchange) = self.source
            && let Phase::Stream(_, body) | Phase::Whole(body, _) = exchange.phase
        {
            body.finish();
        }
    }
}

impl Source {
    async fn next(&mut self) -> Item {
        match self {
            Source::Stillborn(failure) => match failure.take() {
                Some(failure) => Item::Broken(Fault::of(failure, Sent::Nothing)),
                None => Item::End,
            },
            Source::Engine(answer) => answer.next().await,
            Source::Provider(exchange) => loop {
                if let Some(item) = exchange.step().await {
                    return exchange.of_node(item);
                }
            },
        }
    }

    fn ready(&mut self) -> Option<Item> {
        match self {
            Source::Provider(exchange) => match &mut exchange.phase {
                Phase::Stream(reader, _) => {
                    reader.next().map(told).map(|item| exchange.of_node(item))
                }
                _ => None,
            },
            Source::Engine(_) | Source::Stillborn(_) => None,
        }
    }
}

impl Fault {
    fn of(failure: Failure, sent: Sent) -> Fault {
        Fault { failure, sent, stale: false, cut: false, alarm: None }
    }

    /// The embedded engine says no, or broke.
    pub fn of_engine(failure: Failure) -> Fault {
        Fault::of(failure, Sent::Maybe)
    }

    fn sending(error: SendError) -> Fault {
        let SendError { failure, sent, stale, alarm } = error;
        Fault { failure, sent, stale, cut: false, alarm }
    }
}

impl Exchange {
    /// What a site of ours means by it: all it says is a sign of its work, and it may take back
    /// its word.
    fn of_node(&self, item: Item) -> Item {
        let Some(attempt) = self.at_node else { return item };
        match item {
            Item::Life => Item::Beat,
            Item::Broken(fault) => {
                let code = fault.failure.code.as_deref().unwrap_or_default();
                match handover::handed_back(code, attempt) {
                    Some(refuse) => Item::Refused(refuse),
                    None => Item::Broken(fault),
                }
            }
            other => other,
        }
    }

    /// One step; `None` if it has nothing to tell yet.
    async fn step(&mut self) -> Option<Item> {
        match &mut self.phase {
            Phase::Opening(send) => {
                let opened = send.await;
                self.open(opened)
            }
            Phase::Stream(reader, body) => {
                if let Some(event) = reader.next() {
                    return Some(told(event));
                }
                match body.next().await {
                    Some(Ok(bytes)) => reader.push(&bytes),
                    Some(Err(error)) => return Some(self.cut(error)),
                    None => {
                        if let Phase::Stream(reader, _) = self.take() {
                            self.phase = Phase::Rest(reader);
                        }
                    }
                }
                None
            }
            Phase::Rest(reader) => Some(reader.finish().map_or(Item::End, told)),
            Phase::Whole(body, whole) => {
                match body.next().await {
                    Some(Ok(bytes)) if whole.len() + bytes.len() > plain::BODY_MAX => {
                        let failure =
                            Failure::ours(ErrorClass::PoisonedStream, "the body is too big");
                        self.take();
                        return Some(Item::Broken(Fault::of(failure, Sent::Maybe)));
                    }
                    Some(Ok(bytes)) => {
                        // Blank lines keep a connection alive while a request queues.
                        let is_blank = whole.is_empty() && bytes.trim_ascii().is_empty();
                        if whole.len() + bytes.len() > BODY_USUAL {
                            // At once instead of by doubling, which would hold it twice.
                            whole.reserve(plain::BODY_MAX - whole.len());
                        }
                        if !is_blank {
                            whole.extend_from_slice(&bytes);
                        }
                        return Some(Item::Life);
                    }
                    Some(Err(error)) => return Some(self.cut(error)),
                    None => {}
                }
                let answer = plain::answer(&self.account.dialect, self.endpoint, whole);
                self.take();
                Some(match answer {
                    Ok(answer) => Item::Whole(answer),
                    Err(failure) => Item::Broken(Fault::of(failure, Sent::Maybe)),
                })
            }
            Phase::Refusal { body, read, .. } => {
                let more = body.next().await;
                if let Some(Ok(bytes)) = more
                    && read.len() < ERROR_BODY
                {
                    let room = ERROR_BODY - read.len();
                    read.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    return None;
                }
                Some(self.refused())
            }
            Phase::Over => Some(Item::End),
        }
    }

    fn open(&mut self, opened: Result<Reply, SendError>) -> Option<Item> {
        let reply = match opened {
            Ok(reply) => reply,
            Err(error) => {
                self.phase = Phase::Over;
                return Some(Item::Broken(Fault::sending(error)));
            }
        };
        let refused = self.at_node.and_then(|at| handover::refused(&reply.headers, at));
        if let Some(refuse) = refused.filter(|_| reply.status != StatusCode::OK) {
            self.phase = Phase::Over;
            return Some(Item::Refused(refuse));
        }
        if reply.status != StatusCode::OK {
            let alarm = reply.redirect();
            let (status, headers) = (reply.status, reply.headers);
            let (body, read) = (reply.body, BytesMut::new());
            self.phase = Phase::Refusal { status, headers, body, read, alarm };
            return None;
        }
        let ack = self.at_node.and_then(|at| handover::acknowledged(&reply.headers, at));
        self.phase = match self.reader.take() {
            Some(reader) => Phase::Stream(reader, reply.body),
            None => Phase::Whole(reply.body, BytesMut::new()),
        };
        Some(ack.map_or(Item::Life, Item::Ack))
    }

    fn refused(&mut self) -> Item {
        let Phase::Refusal { status, headers, read, alarm, .. } = self.take() else {
            return Item::End;
        };
        let reply = Refused { status: status.as_u16(), headers: &headers, body: &read };
        let failure = self.account.dialect.classify(&reply);
        Item::Broken(Fault { alarm, ..Fault::of(failure, Sent::Maybe) })
    }

    fn cut(&mut self, error: SendError) -> Item {
        self.phase = Phase::Over;
        Item::Broken(Fault { cut: true, ..Fault::sending(error) })
    }

    fn take(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Over)
    }
}

fn told(event: Event) -> Item {
    match event {
        Event::Life => Item::Life,
        Event::Chunk(chunk) => Item::Chunk(chunk),
        Event::Failed(failure) => Item::Broken(Fault::of(failure, Sent::Maybe)),
        Event::Done => Item::End,
    }
}

fn order<'a>(question: &Question<'a>) -> engine::Question<'a> {
    let start = question.start;
    let name = format_request(start.attempt.request);
    engine::Question {
        call: question.call,
        relayed: question
            .relayed
            .filter(|_| matches!(start.how, How::Resume(r) if r != Rung::Regenerate)),
        only_choice: start.only_choice,
        tenant: question.tenant,
        stands_in: start.model != question.call.model,
        id: format!("chatcmpl-{}", name.trim_start_matches("req-")),
    }
}

fn provider(account: &Arc<Account>, question: &Question<'_>) -> Source {
    let (call, start) = (question.call, question.start);
    let is_chat = call.endpoint != Endpoint::Embeddings;
    let may_stream = is_chat && account.dialect.streams && (account.stream || question.stream);
    let is_native = start.how == How::Resume(Rung::Native);
    let edit = Edit {
        model: &start.model,
        stream: may_stream,
        only_choice: start.only_choice.is_some(),
        relayed: question.relayed.filter(|_| is_native),
        base: &account.base,
    };
    let written = match write(call, &account.dialect, &edit) {
        Ok(written) => written,
        Err(failure) => return Source::Stillborn(Some(failure)),
    };
    let Outgoing { path, body, headers, .. } = written;
    let mut headers = head(&account.dialect, account.key.as_ref(), headers);
    let open = start.open.as_ref().and_then(|open| handover::offer(open, question.tier));
    headers.extend(open.map(|value| (handover::OPEN, value)));
    let origin = account.origin.clone();
    let send = async move {
        origin.send(Outbound { path: &path, method: Method::POST, headers, body }).await
    };
    let choices = if edit.only_choice { 1 } else { call.choices() };
    let reader = Reader::new(account.dialect.clone(), call.endpoint, choices);
    Source::Provider(Box::new(Exchange {
        account: account.clone(),
        at_node: start.open.map(|open| open.work.attempt),
        endpoint: call.endpoint,
        reader: may_stream.then(|| Box::new(reader)),
        phase: Phase::Opening(Box::pin(send)),
    }))
}

/// The headers of a request in `dialect`: those `written`, and our key.
pub fn head(
    dialect: &Dialect,
    key: Option<&Secret>,
    written: impl IntoIterator<Item = (String, String)>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = written
        .into_iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
        .collect();
    let Some(key) = key else { return headers };
    let (name, value) = match &dialect.auth {
        Auth::Header(name) => (name.parse().ok(), HeaderValue::from_str(key.reveal())),
        Auth::Bearer | Auth::None => {
            (Some(AUTHORIZATION), HeaderValue::from_str(&format!("Bearer {}", key.reveal())))
        }
    };
    if let (Some(name), Ok(mut value)) = (name, value) {
        value.set_sensitive(true);
        headers.push((name, value));
    }
    headers
}
