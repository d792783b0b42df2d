//! F54: a site that flaps.

use crate::bed::client::Ask;
use crate::bed::{Bed, Layout, Place, millis, normal, whole};
use mainstay::faults::{Flap, Running};
use std::time::Duration;

const PROMPT: &str = "What does the tide bring? 潮水带来什么?";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f54_a_site_that_flaps_is_soon_left_alone_and_nobody_notices() {
    let bed = Bed::start_with(async |faults: &Running| {
        Layout::new(Place::Equal, "f50", "ok").reached_at("primary", &faults.addresses.flap)
    })
    .await;
    bed.faults.flap(Flap { down_ms: 5000, up_ms: 5000 });
    let mut beat = tokio::time::interval(millis(50));
    let mut asked = Vec::new();
    for n in 0..2400 {
        beat.tick().await;
        let prompt = format!("{PROMPT} {n}");
        asked.push((prompt.clone(), bed.ask_soon(Ask::chat("chat", &prompt).stream())));
    }
    let (mut extra, mut longest, mut slow) = (0, Duration::ZERO, 0);
    for (prompt, task) in asked {
        let reply = task.await.expect("no panic");
        whole(&reply, &prompt);
        let attempts: u32 =
            reply.header("x-mainstay-attempts").and_then(|text| text.parse().ok()).expect("it");
        assert!(attempts <= 2, "{attempts} attempts");
        extra += attempts - 1;
        longest = longest.max(reply.took);
        slow += usize::from(reply.took > 2 * normal());
    }
    let said = bed.gateway.said();
    let moves = said.matches("primary/f50 went from ").count();
    println!("2400 requests, {extra} second attempts, {moves} moves, longest {longest:?}");
    assert!(moves <= 6, "{moves} changes of health");
    assert!(slow <= 24, "{slow} of 2400 took longer than a cut and a resume");
}
