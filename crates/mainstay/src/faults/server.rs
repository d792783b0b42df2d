//! Carries connections: reads requests, has them composed into plays, plays them, logs the end.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Profile;
use super::ask::{Api, Ask};
use super::catalog::{Name, behaviors, compose, length_of};
use super::control;
use super::http2;
use super::perform::{Ended, perform};
use super::play::{Pace, Play, Stage, Step, normal};
use super::reply::Answer;
use super::scope::{Arrival, Attempt, Board, Entered, MAIN_SCOPE, Tally, Ticket};
use super::wire::{Conn, Request, Socket};

/// What all connections of a server share.
#[derive(Debug)]
pub struct Shared {
    /// Scopes and their logs.
    pub board: Arc<Board>,
    /// Timings, unless a scope sets its own.
    pub profile: Profile,
    /// The main listener.
    pub address: SocketAddr,
    /// Phases of the flapping port.
    pub flap: watch::Sender<Flap>,
}

/// Phases of the flapping port, in milliseconds; all zero: always up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flap {
    /// How long it refuses.
    pub down_ms: u64,
    /// How long it answers.
    pub up_ms: u64,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which connection.
    pub connection: u64,
    /// Whether it carried a request before.
    pub reused: bool,
    /// HTTP/2.
    pub http2: bool,
}

/// Accepts plain connections until it is dropped.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            connections.spawn(connection(Box::new(tcp), Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection to its end.
pub async fn connection(socket: Box<dyn Socket>, shared: Arc<Shared>) {
    let (number, _open) = shared.board.connect();
    let mut conn = Conn::new(socket);
    if conn.speaks_http2().await.unwrap_or(false) {
        let (socket, inbox) = conn.into_parts();
        return http2::connection(socket, inbox, number, shared).await;
    }
    let mut reused = false;
    while let Ok(Some(request)) = conn.read_request().await {
        let seat = Seat { connection: number, reused, http2: false };
        let (play, ticket) = answer(&shared, &request, seat);
        let mut tally = Tally::default();
        let ended = perform(&mut conn, &play.steps, &mut tally).await;
        if let Some(ticket) = ticket {
            ticket.end(ending(ended, &play), tally);
        }
        if ended == Ended::Whole && play.steps.contains(&Step::VanishIdle) {
            return conn.vanish_idle().await;
        }
        if ended != Ended::Whole || conn.last {
            return;
        }
        reused = true;
    }
}

/// How the log calls the end of `play`.
pub fn ending(ended: Ended, play: &Play) -> &'static str {
    match ended {
        Ended::PeerClosed => "peer_closed",
        Ended::Whole | Ended::Broken if play.good => "served",
        Ended::Whole | Ended::Broken => "fault",
    }
}

/// What is done to `request`, and the ticket of its attempt if it asks a model.
pub fn answer(shared: &Arc<Shared>, request: &Request, seat: Seat) -> (Play, Option<Ticket>) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    if let Some(command) = path.strip_prefix("/control/") {
        return (control::answer(shared, &request.method, command, query), None);
    }
    let (scope, rest) = scope_of(path);
    if rest.starts_with("/trap") {
        return (trapped(shared, scope, request, seat), None);
    }
    if rest.ends_with("/models") {
        return (models(), None);
    }
    if path == "/" {
        let text = super::catalog::list();
        return (Play::reply(200, &[], "text/plain; charset=utf-8", &text), None);
    }
    let Some(api) = Api::of_path(rest) else {
        return (control::error(404, "No such path; try /v1/chat/completions."), None);
    };
    let Some(ask) = Ask::read(api, &request.body) else {
        return (control::error(400, "The body must be a JSON object with a model."), None);
    };
    let name = Name::read(&ask.model);
    let how = Arrival {
        path: rest,
        body: &request.body,
        connection: seat.connection,
        reused: seat.reused,
        has_key: request.has_key(),
        http2: seat.http2,
    };
    let entered = shared.board.enter(scope, &name.base, &ask, how);
    let (stage, ticket) = stage(shared, scope, &name, (ask, entered));
    (compose(&name, &stage), Some(ticket))
}

fn stage(
    shared: &Shared,
    scope: &str,
    name: &Name,
    (ask, entered): (Ask, Entered),
) -> (Stage, Ticket) {
    let Entered { ticket, attempt, conversation_attempt, age, admission, settings } = entered;
    let number = |key: &str| settings.get(key).and_then(|text| text.parse::<f64>().ok());
    let profile = match settings.get("profile").map(String::as_str) {
        Some("full") => Profile::Full,
        Some("fast") => Profile::Fast,
        _ => shared.profile,
    };
    let milliseconds = |key: &str| {
        let value = number(key)?.clamp(0.0, 3_600_000.0);
        Some(std::time::Duration::from_secs_f64(value / 1000.0))
    };
    let normal = normal::pace_of(&name.base, profile);
    let slower = number("first_token_factor").or((name.base == "f52").then_some(5.0));
    let first = milliseconds("first_token_ms").unwrap_or(normal.first);
    let pace = Pace {
        first: first.mul_f64(slower.unwrap_or(1.0).clamp(0.0, 1000.0)),
        gap: milliseconds("token_ms").unwrap_or(normal.gap),
    };
    let length = length_of(name, profile);
    let stage = Stage {
        answer: Answer::of(&ask, name.voice, length, attempt),
        ask,
        voice: name.voice,
        pace,
        profile,
        number: name.number,
        attempt,
        conversation_attempt,
        age,
        admission,
        settings,
        // Another host name for the same listener.
        trap_url: format!("http://localhost:{}/s/{scope}/trap", shared.address.port()),
    };
    (stage, ticket)
}

/// The scope of `path` and the rest of it.
pub fn scope_of(path: &str) -> (&str, &str) {
    let Some(below) = path.strip_prefix("/s/") else { return (MAIN_SCOPE, path) };
    match below.find('/') {
        Some(end) => (&below[..end], &below[end..]),
        None => (below, "/"),
    }
}

/// A redirect was followed: the log gets an attempt with path `/trap`.
fn trapped(shared: &Shared, scope: &str, request: &Request, seat: Seat) -> Play {
    let attempt = Attempt {
        path: "/trap".to_owned(),
        has_key: request.has_key(),
        body_bytes: request.body.len(),
        connection: seat.connection,
        ended: Some("fault"),
        ..Attempt::default()
    };
    shared.board.note(scope, attempt, std::time::Instant::now());
    control::error(404, "The redirect was followed; it should not have been.")
}

fn models() -> Play {
    let list: Vec<_> = behaviors()
        .map(|b| json!({"id": b.name, "object": "model", "created": 0, "owned_by": "mainstay"}))
        .collect();
    Play::json(200, &[], &json!({"object": "list", "data": list}))
}
