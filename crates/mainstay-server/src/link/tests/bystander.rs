//! While one peer does what no peer should, another is served as if nothing were.

use super::bench::*;
use super::joined::{grant, report};
use crate::link::counters::{End, Lost, Refused};
use crate::link::frame::{BODY_MAX, Head, Kind, Nonsense};
use crate::link::identity::CONTROL;
use crate::link::{Allowance, Message, Settings};
use mainstay_core::rng::Rng;
use std::time::Duration;
use tokio::net::TcpStream;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Conversations of chance.
const SEEDS: u64 = 24;

/// The node `b`, the bystander `c` that is joined to it, and the authority, from which `a` has a
/// certificate to misbehave with.
struct Scene {
    authority: Authority,
    b: Node,
    c: Node,
    nonce: u64,
}

impl Scene {
    async fn new(settings: Settings) -> Scene {
        let authority = Authority::new();
        let identity = authority.identity("b");
        let b =
            Node::start(identity, book(&NAMES, "b"), &[("a", None), ("c", None)], settings, None);
        let b = b.await;
        let peers = [("b", Some(b.address))];
        let identity = authority.identity("c");
        // Only `c` has an address to dial, and its name comes last.
        let quickly = Settings { second_after: Duration::ZERO, ..quick() };
        let c = Node::start(identity, book(&NAMES, "c"), &peers, quickly, None).await;
        b.up("c").await;
        c.up("b").await;
        let mut scene = Scene { authority, b, c, nonce: 0 };
        scene.goes_on().await;
        scene
    }

    async fn greeted(&self) -> Raw {
        Raw::greeted(&self.authority, "a", &self.b, &book(&NAMES, "a")).await
    }

    /// The report of `c` comes and so does its grant, over the connection there was from the start.
    async fn goes_on(&mut self) {
        self.nonce += 1;
        let said = report(1, self.nonce);
        assert!(self.c.link.send(&self.b.name, said.clone()));
        loop {
            // What `a` was let say before it was cut comes as well.
            let (from, message) = self.b.next().await;
            if from == self.c.name {
                assert_eq!(message, said);
                break;
            }
        }
        assert!(self.b.link.send(&self.c.name, grant(1)));
        assert_eq!(self.c.next().await, (self.b.name.clone(), grant(1)));
        let standing = self.b.link.peers().into_iter().find(|peer| peer.name == "c");
        let standing = standing.expect("it is a peer");
        assert!(standing.is_up && standing.last_end.is_none(), "{standing:?}");
    }

    /// Until `a` was cut for `why` so often, `c` is served.
    async fn cut(&mut self, why: End, times: u64) {
        self.served_until(why.word(), move |node| node.link.counters().ends(why) >= times).await;
    }

    async fn refused(&mut self, why: Refused, times: u64) {
        let enough = move |node: &Node| node.link.counters().refusals(why) >= times;
        self.served_until(why.word(), enough).await;
    }

    async fn served_until(&mut self, what: &str, holds: impl Fn(&Node) -> bool) {
        let mut turns = tokio::time::interval(Duration::from_millis(5));
        soon(what, async {
            while !holds(&self.b) {
                self.goes_on().await;
                turns.tick().await;
            }
        })
        .await;
        self.goes_on().await;
    }
}

#[tokio::test]
async fn wrong_certificates_of_one_disturb_no_other() {
    let mut scene = Scene::new(quick()).await;
    let foreign = Authority::new().pair(&["a.mainstay.internal"], 2099);
    let expired = scene.authority.pair(&["a.mainstay.internal"], 2021);
    let mut refusals = 0;
    for pair in [Some(foreign), Some(expired), None] {
        let config = scene.authority.client(pair, CONTROL);
        if let Ok(mut raw) = Raw::with(config, &scene.b).await {
            raw.closed().await;
        }
        refusals += 1;
        scene.refused(Refused::Handshake, refusals).await;
    }
    // Not even who calls itself like the bystander, without being it.
    let pair = Authority::new().pair(&["c.mainstay.internal"], 2099);
    if let Ok(mut raw) = Raw::with(scene.authority.client(Some(pair), CONTROL), &scene.b).await {
        raw.closed().await;
    }
    scene.refused(Refused::Handshake, refusals + 1).await;
    let pair = scene.authority.pair(&["stranger.mainstay.internal"], 2099);
    let mut raw = Raw::with(scene.authority.client(Some(pair), CONTROL), &scene.b).await.unwrap();
    raw.closed().await;
    scene.refused(Refused::Stranger, 1).await;
}

#[tokio::test]
async fn replayed_long_and_unreadable_frames_of_one_disturb_no_other() {
    let mut scene = Scene::new(quick()).await;
    let frame = |length: usize, count: u64| {
        let number = Kind::Beat as u16;
        Head { length, version: 1, number, more: false, count }
    };
    let mut raw = scene.greeted().await;
    raw.frame(frame(0, 2), &[]).await;
    raw.frame(frame(0, 2), &[]).await;
    scene.cut(End::Nonsense(Nonsense::Count), 1).await;
    let mut raw = scene.greeted().await;
    raw.frame(frame(BODY_MAX + 1, 2), &[]).await;
    scene.cut(End::Nonsense(Nonsense::TooLong), 1).await;
    let mut raw = scene.greeted().await;
    raw.say(Kind::Report, &[0xff; 40]).await;
    scene.cut(End::Nonsense(Nonsense::Malformed), 1).await;
    let mut raw = scene.greeted().await;
    raw.say(Kind::Hello, &[]).await;
    scene.cut(End::Nonsense(Nonsense::Unexpected), 1).await;
}

#[tokio::test]
async fn versions_and_messages_of_the_future_of_one_disturb_no_other() {
    let mut scene = Scene::new(quick()).await;
    let mut raw = Raw::connect(&scene.authority, "a", &scene.b).await;
    raw.hello((2, 3)).await;
    scene.cut(End::Nonsense(Nonsense::Version), 1).await;
    // One release ahead, it is understood.
    let mut raw = Raw::connect(&scene.authority, "a", &scene.b).await;
    raw.hello((1, 2)).await;
    raw.say(Kind::Names, &crate::link::wire::encode_names(&book(&NAMES, "a"))).await;
    scene.b.up("a").await;
    let head = |number: u16, count: u64| Head { length: 3, version: 1, number, more: false, count };
    raw.frame(head(999, 2), b"new").await;
    let unknown = |node: &Node| node.link.counters().losses(Lost::UnknownKind) == 1;
    scene.served_until("it is dropped", unknown).await;
    raw.frame(Head { version: 3, ..head(Kind::Beat as u16, 3) }, b"new").await;
    scene.cut(End::Nonsense(Nonsense::Version), 2).await;
}

#[tokio::test]
async fn half_open_dripping_and_mute_connections_of_one_disturb_no_other() {
    let mut scene = Scene::new(quick()).await;
    let mut half_open = scene.greeted().await;
    // A socket that begins no handshake, and one that begins no message.
    let _tcp = TcpStream::connect(scene.b.address).await.unwrap();
    let mut mute = Raw::connect(&scene.authority, "a", &scene.b).await;
    mute.bytes(&[0, 0, 0]).await;
    half_open.bytes(&[0; 4]).await;
    scene.cut(End::Silent, 1).await;
    scene.refused(Refused::Late, 2).await;
}

#[tokio::test]
async fn a_flood_of_one_keeps_no_other_waiting() {
    let allowance = Allowance { rate: 1, burst: 500 };
    let mut scene = Scene::new(Settings { allowance, ..quick() }).await;
    let mut raw = scene.greeted().await;
    for nonce in 0..1000 {
        raw.message(&report(1, nonce)).await;
        if nonce % 250 == 0 {
            scene.goes_on().await;
        }
    }
    let end = End::Nonsense(Nonsense::TooFast);
    until("it is cut", || scene.b.link.counters().ends(end) == 1).await;
    scene.goes_on().await;
}

/// What a peer may say by chance: right frames, broken ones, and bytes.
async fn babble(raw: &mut Raw, rng: &mut Rng) {
    for _ in 0..rng.below(12) {
        match rng.below(5) {
            0 => raw.message(&report(rng.below(4) as u16, rng.bits())).await,
            1 => raw.message(&Message::Fetch(rng.bits())).await,
            2 => {
                let kinds = [
                    Kind::Report,
                    Kind::Digest,
                    Kind::Orders,
                    Kind::Names,
                    Kind::Snapshot,
                    Kind::Summary,
                ];
                let body: Vec<u8> = (0..rng.below(64)).map(|_| rng.bits() as u8).collect();
                raw.say(kinds[rng.below(6) as usize], &body).await;
            }
            3 => {
                let (length, number) = (rng.below(40) as usize, rng.bits() as u16);
                let (version, more) = (rng.below(3) as u16, rng.below(2) == 0);
                let head = Head { length, version, number, more, count: rng.below(6) };
                raw.frame(head, &vec![rng.bits() as u8; length]).await;
            }
            _ => {
                let bytes: Vec<u8> = (0..rng.below(80)).map(|_| rng.bits() as u8).collect();
                raw.bytes(&bytes).await;
            }
        }
    }
}

#[tokio::test]
async fn whatever_one_says_by_chance_disturbs_no_other() {
    let mut scene = Scene::new(quick()).await;
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let mut raw = Raw::connect(&scene.authority, "a", &scene.b).await;
        if rng.below(4) > 0 {
            raw.hello((0, 1)).await;
            raw.say(Kind::Names, &crate::link::wire::encode_names(&book(&NAMES, "a"))).await;
        }
        babble(&mut raw, &mut rng).await;
        scene.goes_on().await;
    }
}
