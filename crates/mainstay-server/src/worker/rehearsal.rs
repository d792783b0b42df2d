//! A stand-in for a model, for rehearsals: it writes numbers at a steady pace.
//!
//! What a small model writes is over in a tenth of a second; a large model takes many seconds, and
//! only then is something under way when a site goes. This one writes "1 2 3 …", a number a token,
//! up to the limit that was asked for, and goes on behind any beginning. So whoever reads knows
//! whether a token is missing or doubled. It computes nothing.
//!
//! It counts the turns it was really given and not the clock: a process that is stopped or starved
//! writes as much more slowly, as an engine would.

use crate::embedded::{Counted, Finish, Job, Message, Order, Prompt, Raw, Said, full};
use mainstay_core::worker::{ANSWER_TOKENS, REHEARSED_MAX, TURN};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// The name that its answers carry, and that the configuration names it by.
pub const NAME: &str = "rehearsal";

/// What its thread has.
pub struct Rehearsal {
    inbox: Receiver<Message>,
    stop: Arc<AtomicBool>,
    /// Turns from one token of an answer to the next.
    pace: u32,
    answers: Vec<Answer>,
}

/// An answer under way; all its choices are alike.
struct Answer {
    reply: mpsc::Sender<Said>,
    choices: u32,
    prompt: u64,
    /// The number to write next.
    next: u64,
    /// Tokens written, and how many there will be.
    written: u64,
    limit: u64,
    /// Turns until the next token.
    wait: u32,
    /// What the client did not take yet.
    held: Vec<Said>,
}

impl Rehearsal {
    /// Writes a token of each answer every `gap`.
    pub fn new(inbox: Receiver<Message>, stop: Arc<AtomicBool>, gap: Duration) -> Rehearsal {
        let turns = gap.as_micros() / TURN.as_micros().max(1);
        let pace = u32::try_from(turns).unwrap_or(u32::MAX).max(1);
        Rehearsal { inbox, stop, pace, answers: Vec::new() }
    }

    /// Works until it is stopped.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if self.answers.is_empty() {
                match self.inbox.recv() {
                    Ok(Message::Order(job)) => self.take(*job),
                    Ok(Message::Stop) | Err(_) => return,
                }
            }
            std::thread::sleep(TURN);
            loop {
                match self.inbox.try_recv() {
                    Ok(Message::Order(job)) => self.take(*job),
                    Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.answers.retain_mut(|answer| !answer.turn(self.pace));
        }
    }

    fn take(&mut self, Job { order, reply }: Job) {
        if self.answers.len() >= REHEARSED_MAX {
            let _ = reply.try_send(Said::Failed(full()));
            return;
        }
        let begun = order.prefix.as_deref().map_or(0, |prefix| prefix.split_whitespace().count());
        self.answers.push(Answer {
            reply,
            choices: order.choices(),
            prompt: words(&order),
            next: begun as u64 + 1,
            written: 0,
            limit: order.max_tokens.unwrap_or(ANSWER_TOKENS).into(),
            wait: self.pace,
            held: vec![Said::By(NAME.to_owned())],
        });
    }
}

impl Answer {
    /// A turn has passed; true if the answer is over.
    fn turn(&mut self, pace: u32) -> bool {
        self.wait = self.wait.saturating_sub(1);
        if self.wait == 0 && self.held.is_empty() {
            self.wait = pace;
            self.write();
        }
        while let Some(said) = self.held.pop() {
            match self.reply.try_send(said) {
                Ok(()) => {}
                // A client that does not take is waited for: the next token comes after it did.
                Err(TrySendError::Full(said)) => {
                    self.held.push(said);
                    return false;
                }
                Err(TrySendError::Closed(_)) => return true,
            }
        }
        self.written >= self.limit
    }

    /// What comes next, the last first.
    fn write(&mut self) {
        let text = match self.next {
            1 => String::from("1"),
            next => format!(" {next}"),
        };
        (self.next, self.written) = (self.next + 1, self.written + 1);
        if self.written >= self.limit {
            let completion = self.written * u64::from(self.choices);
            let counted = Counted { prompt: self.prompt, cached: 0, completion };
            for choice in (0..self.choices).rev() {
                let counted = (choice + 1 == self.choices).then_some(counted);
                self.held.push(Said::End(choice, Finish::Length, counted));
            }
        }
        self.held.extend((0..self.choices).rev().map(|choice| Said::Text(choice, text.clone())));
    }
}

/// Words of the prompt: as good a count of its tokens as any.
fn words(order: &Order) -> u64 {
    let count = |text: &str| text.split_whitespace().count() as u64;
    match &order.prompt {
        Prompt::Chat(messages) => {
            let all = messages.as_array().into_iter().flatten();
            all.filter_map(|message| message["content"].as_str()).map(count).sum()
        }
        Prompt::Raw(prompts) => prompts
            .iter()
            .map(|prompt| match prompt {
                Raw::Text(text) => count(text),
                Raw::Tokens(tokens) => tokens.len() as u64,
            })
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Desk, Taste, ToolChoice};

    fn order(prefix: Option<&str>, max_tokens: u32) -> Order {
        Order {
            prompt: Prompt::Raw(vec![Raw::Text("one two".into())]),
            bytes: 7,
            n: 1,
            only_choice: None,
            max_tokens: Some(max_tokens),
            taste: Taste::default(),
            stop: Vec::new(),
            tools: None,
            tool_choice: ToolChoice::May,
            parallel: None,
            form: None,
            scores: None,
            prefix: prefix.map(str::to_owned),
            tenant: 0,
            asked: "chat".into(),
            stands_in: false,
        }
    }

    /// The text of an answer, and whether it had an end.
    fn read(mut said: mpsc::Receiver<Said>) -> (String, bool) {
        let (mut text, mut has_end) = (String::new(), false);
        while let Some(said) = said.blocking_recv() {
            match said {
                Said::Text(_, more) | Said::Scored(_, more, _) => text += &more,
                Said::End(..) => has_end = true,
                Said::Beat | Said::By(_) | Said::Call(..) => {}
                Said::Failed(failure) => panic!("{failure:?}"),
            }
        }
        (text, has_end)
    }

    #[test]
    fn it_counts_and_goes_on_exactly_behind_any_beginning() {
        let (desk, inbox) = Desk::open();
        let stop = Arc::new(AtomicBool::new(false));
        let rehearsal = Rehearsal::new(inbox, stop, TURN);
        let thread = std::thread::spawn(|| rehearsal.run());
        let (whole, has_end) = read(desk.place(order(None, 12)).unwrap());
        assert!(has_end);
        for cut in 1..12 {
            let begun: Vec<&str> = whole.split_inclusive(' ').take(cut).collect();
            let begun = begun.concat();
            let begun = begun.trim_end();
            let rest = read(desk.place(order(Some(begun), 12 - cut as u32)).unwrap());
            assert_eq!((format!("{begun}{}", rest.0), rest.1), (whole.clone(), true));
        }
        desk.stop();
        thread.join().unwrap();
    }
}
