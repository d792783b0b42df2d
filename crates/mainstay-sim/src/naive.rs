//! The usual set-up, so that passing a scenario means something: health is a bit, overload counts
//! as death, queues are long and forget no one, retries are blind.
//!
//! Its machines speak the words of `mainstay-core`, so a world can be played with either. What
//! they leave out on purpose: tiers, credit, a budget for retries, deadlines in queues, resuming,
//! orders and digests. `tests/naive.rs` shows that they collapse where real systems did.

mod gateway;
mod site;

pub use gateway::NaiveGateway;
pub use site::NaiveSite;

use mainstay_core::time::Duration;

/// Between two checks of each target.
pub const CHECK: Duration = Duration::from_secs(1);
/// Bad checks in a row that take a target out.
pub const BAD_CHECKS: u8 = 3;
/// Good checks in a row that bring it back.
pub const GOOD_CHECKS: u8 = 2;
/// A site whose queue is longer calls itself bad: overload is taken for death.
pub const QUEUE_BAD: Duration = Duration::from_secs(3);
/// A site whose queue is longer refuses.
pub const QUEUE_MAX: Duration = Duration::from_secs(15);
/// Attempts of one request, wherever and however they failed.
pub const TRIES: u8 = 3;
/// An attempt without a first token is given up after this; the site does not stop its work.
pub const TIME_OUT: Duration = Duration::from_secs(5);
/// Pause before the next attempt.
pub const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Pause after a refusal.
pub const PAUSE_REFUSED: Duration = Duration::from_millis(500);
