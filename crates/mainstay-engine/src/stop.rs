//! Watches an answer's text for stop strings, also across the joints of tokens.
//!
//! Text that could be the beginning of a stop string is held back until it is known not to be one.

/// More stop strings, or longer ones, than any client has reason for.
const STOPS_MAX: usize = 64;
const STOP_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, Default)]
pub struct StopFilter {
    stops: Vec<String>,
    held: String,
}

/// What may be handed out, and whether the answer ends here.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    Text(String),
    /// The text before the stop string.
    Stop(String),
}

impl StopFilter {
    pub fn new(stops: Vec<String>) -> Result<StopFilter, &'static str> {
        if stops.len() > STOPS_MAX || stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
            return Err("at most 64 stop strings of at most 4096 bytes");
        }
        if stops.iter().any(String::is_empty) {
            return Err("a stop string must not be empty");
        }
        Ok(StopFilter { stops, held: String::new() })
    }

    pub fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(at);
            return Passed::Stop(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, when the answer ends without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`. It begins where the stop
/// string does, so with a whole character.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let ends = |length: &usize| text.as_bytes().ends_with(&stop.as_bytes()[..*length]);
    (1..=longest).rev().find(ends).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops = stops.iter().map(|stop| stop.to_string()).collect();
        let mut filter = StopFilter::new(stops).unwrap();
        let mut out = String::new();
        for piece in pieces {
            match filter.push(piece) {
                Passed::Text(text) => out += &text,
                Passed::Stop(text) => return (out + &text, true),
            }
        }
        (out + &filter.finish(), false)
    }

    #[test]
    fn a_stop_string_is_found_across_joints_and_never_shown() {
        assert_eq!(run(&["###"], &["ab#", "#", "#cd"]), ("ab".into(), true));
        assert_eq!(run(&["###"], &["ab#", "#c", "#"]), ("ab##c#".into(), false));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
        assert_eq!(run(&["xyz", "b"], &["abc"]), ("a".into(), true));
        assert_eq!(run(&["éé"], &["é", "è", "é", "é"]), ("éè".into(), true));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), false));
    }

    #[test]
    fn text_that_cannot_begin_a_stop_string_is_not_held_back() {
        let mut filter = StopFilter::new(vec!["stop".into()]).unwrap();
        assert_eq!(filter.push("go st"), Passed::Text("go ".into()));
        assert_eq!(filter.push("and"), Passed::Text("stand".into()));
    }
}
