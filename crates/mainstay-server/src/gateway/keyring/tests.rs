//! Operators' changes to keys: kept, passed on, and never undone by a word that comes late.

use super::*;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use mainstay_core::names::TierId;

fn configured() -> Configured {
    Configured { tiers: vec!["pro".into(), "free".into()], ..Configured::default() }
}

fn open(directory: &Path) -> Keyring {
    Keyring::open(Some(directory.to_owned()), configured())
}

fn new(name: &str) -> NewKey {
    NewKey { name: name.into(), tier: "pro".into(), author: "me".into(), ..NewKey::default() }
}

fn old(key: &str) -> OldKey {
    OldKey { key: key.into(), grace_s: 60, ..OldKey::default() }
}

fn lets_in(ring: &Keyring, secret: &str) -> bool {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {secret}")).unwrap();
    headers.insert(AUTHORIZATION, value);
    ring.keys().admit(&headers, None, |_| TierId(0)).is_ok()
}

fn secret(told: &Value) -> String {
    told["key"].as_str().expect("a secret").to_owned()
}

/// All that a ring says of keys.
fn words(ring: &Keyring) -> Vec<Entry> {
    ring.inner().ring.entries().cloned().collect()
}

#[test]
fn a_key_is_shown_once_and_outlives_its_process_without_its_secret() {
    let directory = tempfile::tempdir().unwrap();
    let ring = open(directory.path());
    let key = secret(&ring.create(new("acme")).unwrap());
    assert!(lets_in(&ring, &key) && !lets_in(&ring, "sk-mainstay-other"));
    let kept = std::fs::read_to_string(directory.path().join(KEYRING)).unwrap();
    assert!(!kept.contains(&key) && !ring.page().to_string().contains(&key));
    let page = ring.page();
    assert_eq!(page["keys"][0]["prefix"], key[..18]);
    assert!(page["keys"][0].get("hash").is_none());
    assert!(lets_in(&open(directory.path()), &key));
}

#[test]
fn a_rotated_key_has_both_secrets_for_the_grace_and_a_revoked_one_none() {
    let directory = tempfile::tempdir().unwrap();
    let ring = open(directory.path());
    let first = secret(&ring.create(new("acme")).unwrap());
    let second = secret(&ring.rotate(&old("acme")).unwrap());
    assert!(lets_in(&ring, &first) && lets_in(&ring, &second));
    let third = secret(&ring.rotate(&OldKey { grace_s: 0, ..old("acme") }).unwrap());
    assert!(!lets_in(&ring, &first) && !lets_in(&ring, &second) && lets_in(&ring, &third));
    let told = ring.revoke(&old(&first[..18])).unwrap_err();
    assert!(told.contains("mainstay keys list"), "{told}");
    assert_eq!(ring.revoke(&old(&third[..18])).unwrap()["state"], "revoked");
    assert!(!lets_in(&ring, &third));
    assert!(ring.rotate(&old("acme")).unwrap_err().contains("is revoked"));
    // The door does not open because no valid key is left.
    assert!(!lets_in(&open(directory.path()), "anything"));
    assert!(ring.create(new("acme")).is_ok(), "its name is free again");
}

#[test]
fn a_key_of_the_configuration_can_be_revoked_too() {
    let directory = tempfile::tempdir().unwrap();
    let made = Secret::make().unwrap();
    let terms = Terms::default();
    let key = crate::setup::Key { name: "file".into(), tier: 1, hash: made.hash, terms };
    let configured = Configured { keys: vec![key], ..configured() };
    let ring = Keyring::open(Some(directory.path().to_owned()), configured);
    assert!(lets_in(&ring, &made.text));
    assert!(ring.rotate(&old("file")).unwrap_err().contains("in the configuration"));
    let told = ring.revoke(&old("file")).unwrap();
    assert_eq!((&told["state"], &told["source"]), (&json!("revoked"), &json!("configuration")));
    assert!(!lets_in(&ring, &made.text));
}

#[test]
fn what_one_gateway_does_another_takes_in_whatever_the_order() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (one, other) = (open(one.path()), open(other.path()));
    let key = secret(&one.create(new("acme")).unwrap());
    let made = words(&one);
    other.hear(made.clone());
    other.catch_up();
    assert!(lets_in(&other, &key));
    other.revoke(&old("acme")).unwrap();
    let again = secret(&one.rotate(&old("acme")).unwrap());
    let (ours, theirs) = (words(&one), words(&other));
    for (ring, heard) in [(&one, theirs), (&other, ours)] {
        ring.hear(heard);
        ring.hear(made.clone());
        ring.catch_up();
        assert!(!lets_in(ring, &key) && !lets_in(ring, &again));
    }
    assert_eq!(one.inner().ring.marks(), other.inner().ring.marks());
}

#[test]
fn a_spoilt_keyring_lets_nobody_in_until_another_gateway_tells() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = open(one.path());
    let key = secret(&first.create(new("acme")).unwrap());
    std::fs::write(other.path().join(KEYRING), "[{").unwrap();
    let lost = open(other.path());
    assert!(!lets_in(&lost, &key) && !lets_in(&lost, "anything"));
    assert!(other.path().join(SPOILT).exists());
    lost.hear(words(&first));
    lost.catch_up();
    assert!(lets_in(&lost, &key) && !lets_in(&lost, "anything"));
}

#[test]
fn what_is_wrong_with_a_key_is_said_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let ring = open(directory.path());
    let tier = NewKey { tier: "gold".into(), ..new("a") };
    assert!(ring.create(tier).unwrap_err().contains("there are pro, free"));
    assert!(ring.create(new("")).unwrap_err().contains("--name"));
    assert!(ring.create(new("a\nb")).unwrap_err().contains("not one line"));
    let terms = Terms { concurrency: Some(0), ..Terms::default() };
    assert!(ring.create(NewKey { terms, ..new("a") }).unwrap_err().contains("concurrency"));
    let models = vec!["m".repeat(100); 50];
    let terms = Terms { models, ..Terms::default() };
    assert!(ring.create(NewKey { terms, ..new("a") }).unwrap_err().contains("too much"));
    ring.create(new("a")).unwrap();
    assert!(ring.create(new("a")).unwrap_err().contains("already"));
    let nowhere = Keyring::open(None, configured());
    assert!(nowhere.create(new("a")).unwrap_err().contains("data_dir"));
    assert_eq!(words(&ring).len(), 1);
}

#[test]
fn a_gateway_is_sent_the_parts_that_it_has_not_heard() {
    let directory = tempfile::tempdir().unwrap();
    let ring = open(directory.path());
    let sent: Arc<Mutex<Vec<Message>>> = Arc::default();
    let out = sent.clone();
    ring.join(Box::new(move |_, message| out.lock().unwrap().push(message)));
    ring.create(new("a")).unwrap();
    assert!(matches!(sent.lock().unwrap().as_slice(), [Message::Keys(keys)] if keys.len() == 1));
    let peer = NodeName::new("other").unwrap();
    ring.compare(&peer, &[]);
    assert_eq!(sent.lock().unwrap().len(), 2);
    let marks = ring.inner().ring.marks();
    ring.compare(&peer, &marks);
    ring.hear(words(&ring));
    assert_eq!(sent.lock().unwrap().len(), 2, "nothing new, nothing said");
}
