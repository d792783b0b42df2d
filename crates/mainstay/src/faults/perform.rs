//! Plays steps on a line, whatever the line is: HTTP/1.1 or a stream of HTTP/2.

use std::future::Future;
use std::time::Duration;

use super::play::{Head, Step};
use super::scope::Tally;

/// The peer hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// How a play ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Properly; the connection may carry more.
    Whole,
    /// We broke the connection.
    Broken,
    /// The peer hung up.
    PeerClosed,
}

/// Where steps are played. Every call watches the peer and returns `Gone` as soon as it hung up.
pub trait Line: Send {
    /// Sends a status line and headers.
    fn head(&mut self, head: &Head) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Sends body bytes.
    fn body(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Sends bytes outside all framing, where that exists.
    fn raw(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Sends nothing for a while.
    fn wait(&mut self, time: Duration) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Ends the body properly.
    fn end(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Does what breaks the connection or concerns it as a whole.
    fn break_off(&mut self, step: &Step) -> impl Future<Output = Result<Next, Gone>> + Send;
}

/// Whether a play goes on after a step that concerns the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Step,
    /// It is over.
    Over,
}

/// Plays `steps` to their end, or until the peer hangs up.
pub async fn perform<L: Line>(line: &mut L, steps: &[Step], tally: &mut Tally) -> Ended {
    let mut whole = false;
    for step in steps {
        match one(line, step, tally).await {
            Ok(Next::Step) => whole |= matches!(step, Step::End),
            Ok(Next::Over) => return Ended::Broken,
            Err(Gone) => return Ended::PeerClosed,
        }
    }
    if whole { Ended::Whole } else { Ended::Broken }
}

async fn one<L: Line>(line: &mut L, step: &Step, tally: &mut Tally) -> Result<Next, Gone> {
    match step {
        Step::Repeat(inner, gap, times) => {
            for _ in 0..*times {
                if !gap.is_zero() {
                    line.wait(*gap).await?;
                }
                simple(line, inner, tally).await?;
            }
            Ok(Next::Step)
        }
        step => simple(line, step, tally).await,
    }
}

async fn simple<L: Line>(line: &mut L, step: &Step, tally: &mut Tally) -> Result<Next, Gone> {
    match step {
        Step::Head(head) => line.head(head).await?,
        Step::Body(bytes, tokens) => {
            line.body(bytes).await?;
            tally.bytes += bytes.len() as u64;
            tally.tokens += *tokens as u64;
        }
        Step::Raw(bytes) => line.raw(bytes).await?,
        Step::Wait(time) => line.wait(*time).await?,
        Step::End => line.end().await?,
        Step::Repeat(..) => {}
        step => return line.break_off(step).await,
    }
    Ok(Next::Step)
}
