//! What the rows of the fault table have in common: each is asked in several places and ways,
//! every time before a fresh gateway, and afterwards the gateway must be as it was before.

use std::time::{Duration, Instant};

use super::client::{Ask, Mode, Reply};
use super::{Bed, FALLBACK, Layout, PRIMARY, Place};

/// What is asked.
pub const PROMPT: &str = "Which way to the harbour? 港口在哪里?";

/// Both places that have somewhere to go.
pub const ELSEWHERE: [Place; 2] = [Place::Equal, Place::Substitute];

/// Connections to the two sites in the pools of both threads.
const POOLED: usize = 4;
/// What a request may leave in caches and allocators of a debug build.
const GROWN: u64 = 8 << 20;

/// How a request goes from client to upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a stream.
    Stream,
    /// Plain from the client, as a stream to the upstream.
    Plain,
    /// Plain all the way.
    PlainUpstream,
}

/// All ways.
pub const WAYS: [Way; 3] = [Way::Stream, Way::Plain, Way::PlainUpstream];

/// The ways on which the upstream is asked for a stream.
pub const STREAMED: [Way; 2] = [Way::Stream, Way::Plain];

impl Way {
    /// How the client asks.
    pub fn mode(self) -> Mode {
        match self {
            Way::Stream => Mode::Stream,
            Way::Plain | Way::PlainUpstream => Mode::Plain,
        }
    }

    /// Makes `layout` ask its sites in this way.
    fn on(self, layout: Layout) -> Layout {
        match self {
            Way::Stream | Way::Plain => layout,
            Way::PlainUpstream => layout
                .site_line("primary", "stream = false")
                .site_line("fallback", "stream = false"),
        }
    }
}

/// One case of a row, played.
pub struct Case<'a> {
    /// On which bed.
    pub bed: &'a Bed,
    /// What came back.
    pub reply: &'a Reply,
    /// Where the answer could go.
    pub place: Place,
    /// How it was asked.
    pub way: Way,
}

impl Case<'_> {
    /// Asserts how the attempts ended, in order, in the words of `Bed::story`.
    pub async fn story(&self, expected: &[&str]) {
        let told = self.bed.story(self.reply).await;
        assert_eq!(told, expected, "{:?}, {:?}", self.place, self.way);
    }
}

/// Plays a row: asks once in each of `places` and `ways`.
pub async fn each(
    (places, ways): (&[Place], &[Way]),
    layout: impl Fn(Place) -> Layout,
    check: impl AsyncFn(Case<'_>),
) {
    each_asking((places, ways), layout, Ask::chat("chat", PROMPT), check).await;
}

/// The same with another question.
pub async fn each_asking(
    (places, ways): (&[Place], &[Way]),
    layout: impl Fn(Place) -> Layout,
    ask: Ask,
    check: impl AsyncFn(Case<'_>),
) {
    for &place in places {
        for &way in ways {
            let bed = Bed::start(&way.on(layout(place))).await;
            let before = State::warm(&bed).await;
            let reply = bed.send(&ask.clone().mode(way.mode())).await;
            check(Case { bed: &bed, reply: &reply, place, way }).await;
            bed.is_well().await;
            before.is_back(&bed).await;
        }
    }
}

/// Memory and descriptors of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct State {
    memory: u64,
    files: usize,
}

impl State {
    /// Those of a gateway that has answered once: threads run and caches are filled. The fault
    /// server then forgets that call.
    pub async fn warm(bed: &Bed) -> State {
        bed.is_well().await;
        bed.faults.reset(PRIMARY);
        bed.faults.reset(FALLBACK);
        State::of(bed)
    }

    fn of(bed: &Bed) -> State {
        State { memory: bed.gateway.memory(), files: bed.gateway.open_files() }
    }

    /// Asserts that the gateway holds no more than it did, but for pooled connections.
    pub async fn is_back(&self, bed: &Bed) {
        let limit = Instant::now() + Duration::from_secs(2);
        loop {
            let now = State::of(bed);
            if now.files <= self.files + POOLED && now.memory <= self.memory + GROWN {
                return;
            }
            assert!(Instant::now() < limit, "before {self:?}, after {now:?}");
            // waits for: the gateway to see that its clients have closed
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One answer under load.
pub struct Shot {
    /// When it was asked for, since the load began.
    pub at: Duration,
    /// What came back.
    pub reply: Reply,
}

/// Asks `per_second` times a second for so long, whatever comes back, and waits for the answers.
pub async fn load(
    bed: &Bed,
    (per_second, lasting): (f64, Duration),
    ask: impl Fn(usize) -> Ask,
) -> Vec<Shot> {
    let base = format!("{}/v1", bed.gateway.api);
    let started = Instant::now();
    let mut asked = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    for n in 0.. {
        beat.tick().await;
        let at = started.elapsed();
        if at >= lasting {
            break;
        }
        let (ask, base) = (ask(n), base.clone());
        asked.push(tokio::spawn(async move { Shot { at, reply: ask.send(&base).await } }));
    }
    let mut shots = Vec::new();
    for task in asked {
        shots.push(task.await.expect("no panic"));
    }
    shots
}

/// Lines of the gateway's log that hold all of `words`.
pub fn lines(bed: &Bed, words: &[&str]) -> Vec<String> {
    let said = bed.gateway.said();
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    said.lines().filter(has).map(str::to_owned).collect()
}
