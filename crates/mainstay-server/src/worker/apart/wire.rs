//! Lines between this process and the engine's: JSON, each whole in its line. Both ends are the
//! same program, so nothing here outlives it.

use crate::embedded::{Order, Said};
use serde::{Deserialize, Serialize};

/// What the engine's process is told.
#[derive(Debug, Deserialize, Serialize)]
pub enum Told {
    /// Work, under a number.
    Order(u64, Box<Order>),
    /// So much more of what was said of it was taken.
    Taken(u64, usize),
    /// Nobody wants it any more.
    Left(u64),
}

/// What it says: of which order, and what.
pub type Heard = (u64, Said);

/// A line; nothing for what cannot be written, which is no word of ours.
pub fn line(words: &impl Serialize) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(words).ok()?;
    line.push(b'\n');
    Some(line)
}

/// What a line told the engine's process.
pub fn told(line: &str) -> Option<Told> {
    serde_json::from_str(line).ok()
}

/// What a line of the engine's process says.
pub fn heard(line: &str) -> Option<Heard> {
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{
        Called, Counted, Finish, Form, Prompt, Raw, Scored, Taste, ToolChoice, Word,
    };
    use mainstay_core::names::{ErrorClass, Failure};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let order = Order {
            prompt: Prompt::Raw(vec![Raw::Text("a\nb".into()), Raw::Tokens(vec![1, 2])]),
            bytes: 3,
            n: 2,
            only_choice: Some(1),
            max_tokens: None,
            taste: Taste { top_p: Some(0.1), bias: vec![(7, -3.3)], ..Taste::default() },
            stop: vec!["\n".into()],
            tools: Some(json!([{ "type": "function" }])),
            tool_choice: ToolChoice::Must(Some("weather".into())),
            parallel: None,
            form: Some(Form::Regex("[a-z]+".into())),
            scores: Some(2),
            prefix: Some("一".into()),
            tenant: 4,
            asked: "chat".into(),
            stands_in: true,
        };
        let line = line(&Told::Order(9, Box::new(order.clone()))).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let Some(Told::Order(9, again)) = told(std::str::from_utf8(&line).unwrap()) else {
            panic!("no order")
        };
        assert_eq!(format!("{again:?}"), format!("{order:?}"));
    }

    #[test]
    fn what_is_said_arrives_as_it_was_said() {
        let word = |logprob| Word { bytes: vec![255, 10], logprob };
        let top = vec![word(f32::NEG_INFINITY), word(-0.1)];
        let failure = Failure {
            code: Some("context_length_exceeded".into()),
            retry_after: Some(Duration::from_millis(1500)),
            limit: Some(8),
            ..Failure::ours(ErrorClass::Overload, "full")
        };
        for said in [
            Said::Beat,
            Said::By("tiny".into()),
            Said::Text(1, "a\nb".into()),
            Said::Scored(0, "x".into(), vec![Scored { token: word(-1.5), top }]),
            Said::Call(0, Called { name: "weather".into(), arguments: "{}".into() }),
            Said::End(0, Finish::Calls, Some(Counted { prompt: 1, cached: 2, completion: 3 })),
            Said::Failed(failure),
        ] {
            let line = line(&(3u64, &said)).unwrap();
            assert_eq!(heard(std::str::from_utf8(&line).unwrap()), Some((3, said)));
        }
        assert_eq!(heard("{\"Text\""), None);
    }
}
