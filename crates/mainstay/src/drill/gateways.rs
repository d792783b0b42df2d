//! The gateways that take part: begun, looked at and stopped together.

use crate::admin_client::{get, post};
use crate::top::sample::View;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Where they are asked, and the drill's name.
pub struct Gateways {
    urls: Vec<String>,
    id: u64,
}

/// What is known of one gateway.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Where it is asked.
    pub url: String,
    /// What it said last of the drill.
    pub state: State,
    /// What it said last of itself.
    pub view: View,
    /// All decisions it told, in their order.
    pub facts: Vec<Told>,
    /// Why it did not answer the last time.
    pub silent: Option<String>,
}

/// What `/-/drill` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct State {
    /// The drill's name.
    pub id: u64,
    /// How it is done, in words.
    pub how: String,
    /// How far it is.
    pub phase: String,
    /// Seconds since it was accepted, before it begins, and until it ends.
    pub since_s: f64,
    /// See `since_s`.
    pub before_s: f64,
    /// See `since_s`.
    pub for_s: f64,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Most of all attempts that may break, in hundredths.
    pub blast_cap: u8,
    /// By tier.
    pub floors: Map<String, Value>,
    /// All attempts while it lasted, and those that were broken.
    pub attempts: u64,
    /// See `attempts`.
    pub broken: u64,
    /// By tier.
    pub tiers: Map<String, Value>,
    /// By second and tier.
    pub seconds: Seconds,
    /// Decisions since it was accepted.
    pub facts: Vec<Told>,
}

/// An end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// Seconds since it was accepted.
    pub at_s: f64,
    /// In a word,
    pub why: String,
    /// and in words.
    pub text: String,
}

/// Requests by the second in which they came.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Seconds {
    /// By second and tier: asked, good, shed, failed, and their cost in thousandths of a unit.
    pub rows: Vec<Vec<[u64; 5]>>,
}

/// A decision.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Seconds since the drill was accepted.
    pub at_s: f64,
    /// Its kind.
    pub fact: String,
    /// In words.
    pub text: String,
}

impl Gateways {
    /// These, for a drill of this name.
    pub fn new(urls: Vec<String>, id: u64) -> Gateways {
        Gateways { urls, id }
    }

    /// Nothing is known yet.
    pub fn unknown(&self) -> Vec<Known> {
        let known = |url: &String| Known { url: url.clone(), ..Known::default() };
        self.urls.iter().map(known).collect()
    }

    /// The sites that there are, if this is none of them.
    ///
    /// # Errors
    /// If a gateway does not answer.
    pub fn site_is_known(&self, site: &str) -> Result<Option<String>, String> {
        for url in &self.urls {
            let view = look::<View>(url, "/view")?;
            if !view.targets.iter().any(|target| target.site == site) {
                // A site stands there once for each of its models.
                let mut sites: Vec<String> = Vec::new();
                for target in view.targets {
                    if !sites.contains(&target.site) {
                        sites.push(target.site);
                    }
                }
                return Ok(Some(sites.join(", ")));
            }
        }
        Ok(None)
    }

    /// Begins it at all of them, or at none.
    ///
    /// # Errors
    /// Who refuses, and why.
    pub fn begin(&self, order: &Value) -> Result<(), String> {
        let order = order.to_string();
        for url in &self.urls {
            let why = match post(url, "/-/drill", &order) {
                Ok((200, _)) => continue,
                Ok((404, _)) => {
                    "it knows no drills; is this the admin listener of a gateway?".into()
                }
                Ok((_, body)) => crate::orders::message(&body),
                Err(error) => error.to_string(),
            };
            self.stop();
            return Err(format!("{url}: {why}"));
        }
        Ok(())
    }

    /// Stops it at all of them.
    pub fn stop(&self) {
        let order = json!({ "id": self.id, "stop": true }).to_string();
        for url in &self.urls {
            if let Err(error) = post(url, "/-/drill", &order) {
                eprintln!("mainstay: {url} does not answer, and ends by itself: {error}");
            }
        }
    }

    /// Looks at all of them.
    pub fn look(&self, all: &mut [Known]) {
        for known in all {
            let seen = look::<State>(&known.url, "/-/drill")
                .and_then(|state| Ok((state, look::<View>(&known.url, "/view")?)));
            match seen {
                Ok((state, view)) if state.id == self.id => known.take(state, view),
                Ok(_) => known.silent = Some("it has no such drill: it was restarted".to_owned()),
                Err(why) => known.silent = Some(why),
            }
        }
    }
}

impl Known {
    fn take(&mut self, mut state: State, view: View) {
        /// Ages are told again with each look, a little different each time.
        const SAME: f64 = 0.005;
        for told in state.facts.drain(..) {
            let is_known =
                |known: &Told| known.text == told.text && (known.at_s - told.at_s).abs() < SAME;
            if !self.facts.iter().any(is_known) {
                self.facts.push(told);
            }
        }
        (self.state, self.view, self.silent) = (state, view, None);
    }

    /// It ended before its time, and not because somebody stopped it.
    pub fn ended_by_itself_early(&self) -> bool {
        let ended = self.state.ended.as_ref();
        ended.is_some_and(|ended| ended.why != "time" && ended.why != "stopped")
    }

    /// Whether the site is used again for all its models, as far as this gateway knows.
    pub fn is_well(&self, site: &str) -> bool {
        let mut there = self.view.targets.iter().filter(|target| target.site == site);
        self.silent.is_some() || there.all(|target| target.state == "up")
    }
}

fn look<T: for<'a> Deserialize<'a>>(url: &str, path: &str) -> Result<T, String> {
    let told = |why: String| format!("cannot ask {url}: {why}; is it running (--admin)?");
    match get(url, path, "application/json") {
        Ok((200, body)) => serde_json::from_str(&body).map_err(|error| told(error.to_string())),
        Ok((status, _)) => Err(told(format!("it says {status} to {path}"))),
        Err(error) => Err(told(error.to_string())),
    }
}
