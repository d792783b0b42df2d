//! The engine in a process of its own, seen from this one: it is started when it is first wanted,
//! told what the engine's thread is told, and when it ends, whatever ended it, its answers break
//! off and the next request starts another.
//!
//! The process is this program once more (`mainstay engine`). A line of JSON on its standard input
//! is an order, a line on its standard output what is said of one. It ends when its input does, so
//! with this process, however that ends. Nobody waits for it: lines to it are written by a thread
//! of their own, lines from it are read by another, and of each answer no more is on its way than
//! its client takes.

pub mod inside;
mod wire;

use super::engine_thread::{Surroundings, answer_otherwise};
use super::request::Request;
use crate::embedded::{Job, Message, Order, full};
use crate::setup::{Device, EngineModel, Precision};
use mainstay_core::names::{ErrorClass, Failure};
use mainstay_core::worker::{LIVED, LOOK_AGAIN, ORDERS_MAX, restart_after};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use wire::{Heard, Told};

/// The running program, also after its file was replaced.
const PROGRAM: &str = "/proc/self/exe";

/// How the process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    arguments: Vec<OsString>,
}

impl Launch {
    /// For this model.
    pub fn new(path: &Path, weights: Precision, device: Device) -> Launch {
        let weights = match weights {
            Precision::Stored => "stored",
            Precision::Q8 => "q8",
            Precision::Q4 => "q4",
        };
        let device = match device {
            Device::Cpu => String::from("cpu"),
            Device::Cuda(number) => format!("cuda:{number}"),
        };
        let options = ["engine", "--weights", weights, "--device", &device].map(OsString::from);
        let path = path.as_os_str().to_owned();
        Launch { arguments: options.into_iter().chain([path]).collect() }
    }
}

/// The model that the process is told to run; nothing if the words are none of [`Launch`]'s.
pub fn model(path: &Path, weights: &str, device: &str) -> Option<EngineModel> {
    let weights = match weights {
        "stored" => Precision::Stored,
        "q8" => Precision::Q8,
        "q4" => Precision::Q4,
        _ => return None,
    };
    let device = match device.strip_prefix("cuda:") {
        Some(number) => Device::Cuda(number.parse().ok()?),
        None => Some(Device::Cpu).filter(|_| device == "cpu")?,
    };
    Some(EngineModel::Files(path.to_owned(), weights, device))
}

/// What this process knows of the other.
pub struct Apart {
    launch: Launch,
    around: Surroundings,
    events: (SyncSender<Event>, Receiver<Event>),
    requests: BTreeMap<u64, Request>,
    last: u64,
    process: Option<Process>,
    /// Processes so far, by which lines of an old one are told apart.
    started: u64,
    /// Ends in a row, each soon after the start.
    deaths: u32,
    /// Not before this is another started.
    again: Option<Instant>,
}

struct Process {
    child: Child,
    lines: Sender<Vec<u8>>,
    since: Instant,
}

enum Event {
    Message(Message),
    Heard(u64, Heard),
    /// The process of this number says nothing more.
    Ended(u64),
}

impl Apart {
    /// Nothing is started yet.
    pub fn new(launch: Launch, around: Surroundings) -> Apart {
        Apart {
            launch,
            around,
            events: sync_channel(ORDERS_MAX),
            requests: BTreeMap::new(),
            last: 0,
            process: None,
            started: 0,
            deaths: 0,
            again: None,
        }
    }

    /// Works until it is stopped; the process ends with it.
    pub fn run(mut self, inbox: Receiver<Message>, stop: &AtomicBool) {
        let events = self.events.0.clone();
        let door = std::thread::Builder::new().name("engine-door".into());
        let carry = move || {
            while let Ok(message) = inbox.recv() {
                if events.send(Event::Message(message)).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Message(Message::Stop));
        };
        if let Err(error) = door.spawn(carry) {
            tracing::error!(%error, "the engine's door cannot open");
            return;
        }
        while !stop.load(Ordering::Relaxed) && self.listen() {
            self.hand_over();
        }
        self.end();
    }

    /// Hears what there is; false at the end.
    fn listen(&mut self) -> bool {
        let first = match self.requests.is_empty() {
            true => self.events.1.recv().map_err(|_| RecvTimeoutError::Disconnected),
            // Clients leave, or take again, without a word.
            false => self.events.1.recv_timeout(LOOK_AGAIN),
        };
        let mut next = match first {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(event) = next {
            match event {
                Event::Message(Message::Stop) => return false,
                Event::Message(Message::Order(job)) => self.take(*job),
                Event::Heard(of, (id, said)) if of == self.started => {
                    if let Some(request) = self.requests.get_mut(&id) {
                        request.pass_on(said);
                    }
                }
                Event::Ended(of) if of == self.started => self.ended(),
                Event::Heard(..) | Event::Ended(_) => {}
            }
            next = self.events.1.try_recv().ok();
        }
        true
    }

    fn take(&mut self, job: Job) {
        let mut request = Request::new(job);
        if let Err(failure) = self.order(&request.order) {
            answer_otherwise(&mut request, &self.around, failure);
        }
        self.requests.insert(self.last, request);
    }

    /// Hands an order to the process, which is started if there is none.
    fn order(&mut self, order: &Order) -> Result<(), Failure> {
        self.last += 1;
        if self.requests.len() >= ORDERS_MAX {
            return Err(full());
        }
        self.start()?;
        self.tell(&Told::Order(self.last, Box::new(order.clone())));
        Ok(())
    }

    /// Sees to it that there is a process.
    fn start(&mut self) -> Result<(), Failure> {
        if self.process.is_some() {
            return Ok(());
        }
        let left = self.again.map_or(Duration::ZERO, |again| again - Instant::now().min(again));
        if !left.is_zero() {
            let what = "the embedded engine's process ended and is not started again at once";
            let failure = Failure::ours(ErrorClass::Overload, what);
            return Err(Failure { retry_after: Some(left), ..failure });
        }
        self.started += 1;
        match process(&self.launch, (self.started, &self.events.0)) {
            Ok(process) => {
                let id = process.child.id();
                tracing::info!(model = self.around.name, process = id, "the engine's process runs");
                self.process = Some(process);
                Ok(())
            }
            Err(error) => {
                self.deaths = self.deaths.saturating_add(1);
                self.again = Some(Instant::now() + restart_after(self.deaths.saturating_add(1)));
                let what = format!("the embedded engine's process cannot be started: {error}");
                Err(Failure::ours(ErrorClass::Transient, what))
            }
        }
    }

    fn tell(&self, told: &Told) {
        let Some(process) = &self.process else { return };
        // What cannot be told any more is told by the process's end.
        if let Some(line) = wire::line(told) {
            let _ = process.lines.send(line);
        }
    }

    /// Hands over what clients take, says so to the process, and forgets who is done.
    fn hand_over(&mut self) {
        let mut told = Vec::new();
        self.requests.retain(|id, request| {
            let taken = request.hand_over();
            if request.is_done() {
                told.push(Told::Left(*id));
                return false;
            }
            if taken > 0 {
                told.push(Told::Taken(*id, taken));
            }
            true
        });
        told.iter().for_each(|told| self.tell(told));
    }

    /// The process ended: so do the answers that it wrote.
    fn ended(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.child.kill();
        let status = process.child.wait().map_or_else(|error| error.to_string(), |s| s.to_string());
        self.deaths = match process.since.elapsed() >= LIVED {
            true => 1,
            false => self.deaths.saturating_add(1),
        };
        let after = restart_after(self.deaths);
        self.again = Some(Instant::now() + after);
        let (model, again) = (&self.around.name, after.as_secs());
        tracing::warn!(model, status, again, "the embedded engine's process ended");
        let what = format!("the embedded engine's process ended ({status}); try again");
        let failure = Failure::ours(ErrorClass::Transient, what);
        for request in self.requests.values_mut() {
            answer_otherwise(request, &self.around, failure.clone());
        }
    }

    /// Takes the process down with this thread.
    fn end(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.child.kill();
        let _ = process.child.wait();
    }
}

/// Starts a process, and the threads that write to it and read from it.
fn process(
    launch: &Launch,
    (number, events): (u64, &SyncSender<Event>),
) -> std::io::Result<Process> {
    let mut child = Command::new(PROGRAM)
        .args(&launch.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What a terminal sends to stop us is not for it: answers finish first.
        .process_group(0)
        .spawn()?;
    let (lines, written) = channel();
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let process = Process { child, lines, since: Instant::now() };
    let events = events.clone();
    let threads = input.zip(output).map(|(input, output)| {
        let writer = std::thread::Builder::new().name("engine-tell".into());
        let reader = std::thread::Builder::new().name("engine-hear".into());
        writer.spawn(move || write(input, &written))?;
        reader.spawn(move || {
            read(output, number, &events);
            let _ = events.send(Event::Ended(number));
        })
    });
    match threads {
        Some(Ok(_)) => Ok(process),
        Some(Err(error)) => Err(error),
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

fn write(mut input: ChildStdin, lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        if input.write_all(&line).is_err() {
            return;
        }
    }
}

/// Reads until the end, or until something comes that is no line of ours.
fn read(output: ChildStdout, number: u64, events: &SyncSender<Event>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let Some(heard) = wire::heard(&line) else {
            return tracing::error!("the embedded engine's process says what is no word");
        };
        if events.send(Event::Heard(number, heard)).is_err() {
            return;
        }
    }
}
