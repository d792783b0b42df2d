//! What an operator filled in, as a change of the operator's door: read once, shown, and done when
//! it is confirmed. What a change means and whether it may be, decides who takes it.

use super::html::time;
use crate::setup::date;
use serde_json::{Map, Value, json};

/// The fields of a form.
pub(super) type Fields = [(String, String)];

/// A change that is about to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What it is, in a few words for the page and the log.
    pub title: String,
    /// Where it goes, and what is sent there.
    pub path: &'static str,
    /// See `path`.
    pub body: Value,
    /// What else is said of it, with names that are markup of ours.
    pub said: Vec<(&'static str, String)>,
    /// Whether it may take out so much that it has to be said once more.
    pub can_be_much: bool,
    /// Whether what comes back has a secret that is shown once.
    pub has_secret: bool,
}

impl Proposal {
    /// What `fields` ask for, by `who`. `number` names a drill.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(fields: &Fields, (who, number): (&str, u64)) -> Result<Proposal, String> {
        match field(fields, "what") {
            verb @ ("drain" | "kill" | "cap") => order(fields, verb, who),
            "undrain" => end(fields, who),
            "drill" => drill(fields, number),
            "stop" => stop(fields),
            "create" => create(fields, who),
            "revoke" => old(fields, "revoke", who),
            "rotate" => old(fields, "rotate", who),
            other => Err(format!("nothing is called `{other}` here")),
        }
    }
}

/// A field, or nothing.
pub(super) fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.iter().find(|(each, _)| each == name).map_or("", |(_, value)| value.trim())
}

fn order(fields: &Fields, verb: &str, who: &str) -> Result<Proposal, String> {
    let (site, reason) = (needed(fields, "site")?, needed(fields, "reason")?);
    let life = minutes(fields)?;
    let percent = match verb {
        "cap" => Some(whole(fields, "percent", "a cap needs a percentage from 0 to 100")?),
        _ => None,
    };
    let at = percent.map_or(String::new(), |percent| format!(" at {percent} %"));
    let what = match verb {
        "drain" => "no new work there; what runs is finished, or moves",
        "kill" => "no new work there; what runs moves at once",
        _ => "not more than this much of it is used",
    };
    Ok(Proposal {
        title: format!("{verb} {site}{at} for {}", time(life as f64)),
        path: "/-/order",
        body: json!({
            "verb": verb, "site": site, "percent": percent, "reason": reason, "life_s": life,
            "author": who,
        }),
        said: vec![
            ("What happens", what.into()),
            ("Ends by itself", format!("after {}", time(life as f64))),
            ("Why", reason.into()),
        ],
        can_be_much: true,
        has_secret: false,
    })
}

fn end(fields: &Fields, who: &str) -> Result<Proposal, String> {
    let (ends, reason) = (needed(fields, "order")?, needed(fields, "reason")?);
    Ok(Proposal {
        title: format!("end order {ends}"),
        path: "/-/order",
        body: json!({
            "verb": "undrain", "ends": ends, "reason": reason, "author": who,
            // It outlives what it ends, whatever is said here.
            "life_s": 3600,
        }),
        said: vec![("Why", reason.into())],
        can_be_much: false,
        has_secret: false,
    })
}

fn drill(fields: &Fields, number: u64) -> Result<Proposal, String> {
    let (site, fault) = (needed(fields, "site")?, needed(fields, "fault")?);
    let percent = whole(fields, "percent", "say which share of the attempts, in percent")?;
    let lasts = minutes(fields)?;
    Ok(Proposal {
        title: format!("drill {fault} at {site}, {percent} % for {}", time(lasts as f64)),
        path: "/-/drill",
        body: json!({
            "id": number, "site": site, "fault": fault, "percent": percent,
            "for_ms": lasts * 1000, "before_ms": 0,
        }),
        said: vec![
            (
                "What happens",
                "this gateway breaks this share of its attempts there, for real".into(),
            ),
            ("Stops by itself", "at the end of its time, and sooner where it does harm".into()),
        ],
        can_be_much: false,
        has_secret: false,
    })
}

fn stop(fields: &Fields) -> Result<Proposal, String> {
    let id: u64 = needed(fields, "drill")?.parse().map_err(|_| "which drill?")?;
    Ok(Proposal {
        title: "stop the drill".into(),
        path: "/-/drill",
        body: json!({ "id": id, "stop": true }),
        said: Vec::new(),
        can_be_much: false,
        has_secret: false,
    })
}

fn create(fields: &Fields, who: &str) -> Result<Proposal, String> {
    let (name, tier) = (needed(fields, "name")?, needed(fields, "tier")?);
    let mut body = Map::new();
    let mut said = Vec::new();
    for (key, value) in [("name", name), ("tier", tier), ("author", who)] {
        body.insert(key.into(), json!(value));
    }
    said.push(("Tier", String::from(tier)));
    if let tenant @ [_, ..] = field(fields, "tenant").as_bytes() {
        let tenant = String::from_utf8_lossy(tenant);
        body.insert("tenant".into(), json!(tenant));
        said.push(("Tenant", tenant.into_owned()));
    }
    for (key, title) in [("models", "Models"), ("networks", "Networks")] {
        let parts: Vec<&str> = field(fields, key).split([',', ' ']).collect();
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            said.push((title, parts.join(", ")));
            body.insert(key.into(), json!(parts));
        }
    }
    let expires = field(fields, "expires");
    if !expires.is_empty() {
        body.insert("expires".into(), json!(date(expires)?));
        said.push(("Expires", expires.into()));
    }
    for (key, title) in LIMITS {
        let text = field(fields, key);
        if text.is_empty() {
            continue;
        }
        let number: Value = match key.starts_with("budget") {
            true => text.parse::<f64>().map_or(Value::Null, |money| json!(money)),
            false => text.parse::<u64>().map_or(Value::Null, |number| json!(number)),
        };
        if number.is_null() {
            return Err(format!("{title}: `{text}` is no number"));
        }
        body.insert(key.into(), number);
        said.push((title, text.into()));
    }
    Ok(Proposal {
        title: format!("create the key {name}"),
        path: "/-/keys/create",
        body: Value::Object(body),
        said,
        can_be_much: false,
        has_secret: true,
    })
}

/// What a key may use, and what that is called.
pub(super) const LIMITS: [(&str, &str); 5] = [
    ("requests_per_minute", "Requests a minute"),
    ("tokens_per_minute", "Tokens a minute"),
    ("concurrency", "Requests at once"),
    ("budget_per_day", "Budget a day"),
    ("budget_per_month", "Budget a month"),
];

fn old(fields: &Fields, verb: &'static str, who: &str) -> Result<Proposal, String> {
    let key = needed(fields, "key")?;
    let mut body = json!({ "key": key, "author": who });
    let (path, what) = match verb {
        "revoke" => ("/-/keys/revoke", String::from("it is never let in again, anywhere")),
        _ => {
            let hours = match field(fields, "hours") {
                "" => 0,
                _ => whole(fields, "hours", "for how many hours is the old secret let in too?")?,
            };
            body["grace_s"] = json!(hours * 3600);
            ("/-/keys/rotate", format!("it gets another secret; the old one ends in {hours} h"))
        }
    };
    Ok(Proposal {
        title: format!("{verb} the key {key}"),
        path,
        body,
        said: vec![("What happens", what)],
        can_be_much: false,
        has_secret: verb == "rotate",
    })
}

fn needed<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a str, String> {
    Some(field(fields, name))
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("`{name}` is empty; fill it in"))
}

fn whole(fields: &Fields, name: &str, what: &str) -> Result<u64, String> {
    // More than this is no number of anything here, and would not be multiplied in peace.
    field(fields, name).parse().ok().filter(|number| *number < 1 << 32).ok_or_else(|| what.into())
}

/// In seconds. Everything ends.
fn minutes(fields: &Fields) -> Result<u64, String> {
    let minutes = whole(fields, "minutes", "for how many minutes?")?;
    if minutes == 0 {
        Err("it needs an end; give it a minute or more".into())
    } else {
        Ok(minutes * 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Proposal, String> {
        Proposal::read(&crate::http::form(text.as_bytes()), ("console:alice", 7))
    }

    #[test]
    fn an_order_has_a_site_an_end_and_a_reason() {
        let drain = read("what=drain&site=fra&minutes=30&reason=disk+%3Cbad%3E").unwrap();
        assert_eq!((drain.path, drain.title.as_str()), ("/-/order", "drain fra for 30 min"));
        assert_eq!(drain.body["life_s"], 1800);
        assert_eq!(drain.body["author"], "console:alice");
        assert_eq!(drain.body["reason"], "disk <bad>");
        let cap = read("what=cap&site=fra&minutes=1&percent=40&reason=x").unwrap();
        assert_eq!(cap.body["percent"], 40);
        for (wrong, why) in [
            ("what=drain&site=fra&minutes=0&reason=x", "needs an end"),
            ("what=drain&site=fra&minutes=99999999999999999999&reason=x", "how many minutes"),
            ("what=drain&site=fra&minutes=5&reason=+", "`reason` is empty"),
            ("what=kill&minutes=5&reason=x", "`site` is empty"),
            ("what=cap&site=fra&minutes=1&reason=x", "a percentage"),
            ("what=undrain&reason=x", "`order` is empty"),
            ("what=burn", "nothing is called `burn`"),
            ("", "nothing is called ``"),
        ] {
            let said = read(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn keys_and_drills_are_asked_for_as_the_door_takes_them() {
        let made = read(
            "what=create&name=a&tier=pro&models=m,+n&expires=2030-01-01&concurrency=3\
             &budget_per_day=1.5&tenant=&tokens_per_minute=",
        );
        let made = made.unwrap();
        assert!(made.has_secret);
        let expected = json!({
            "name": "a", "tier": "pro", "author": "console:alice", "models": ["m", "n"],
            "expires": 1_893_456_000, "concurrency": 3, "budget_per_day": 1.5,
        });
        assert_eq!(made.body, expected);
        assert!(
            read("what=create&name=a&tier=pro&concurrency=-1").unwrap_err().contains("at once")
        );
        assert!(read("what=create&name=a&tier=pro&expires=soon").unwrap_err().contains("no date"));
        assert_eq!(read("what=rotate&key=a&hours=2").unwrap().body["grace_s"], 7200);
        assert_eq!(read("what=revoke&key=a").unwrap().path, "/-/keys/revoke");
        let drill = read("what=drill&site=a&fault=slow&percent=5&minutes=2").unwrap();
        assert_eq!((&drill.body["id"], &drill.body["for_ms"]), (&json!(7), &json!(120_000)));
        assert_eq!(read("what=stop&drill=7").unwrap().body, json!({ "id": 7, "stop": true }));
    }
}
