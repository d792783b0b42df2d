//! What vLLM and SGLang tell of their prefix caches: batches in MessagePack, numbered one by one.
//!
//! Older releases send lists whose places have meanings, newer ones maps with names, inside a list
//! or a map (vllm-project/vllm#42892). Both grow: a name or a place that is not known here is
//! passed over. Hashes are integers or bytes.
//!
//! Whoever subscribes (ZeroMQ, PUB and ROUTER) is not here: nobody does yet, since the machine that
//! a site runs by has no view of prefixes to feed.

use rmpv::Value;

/// A batch of changes to one worker's prefix cache, or to that of one of its ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rank, if it says so.
    pub rank: Option<u32>,
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// Events whose names are not known here.
    pub unknown: usize,
}

/// A change to a prefix cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Blocks are there now, each behind the one before it.
    Stored {
        /// Their hashes, in the engine's own way of hashing.
        blocks: Vec<u64>,
        /// The block before the first of them; none at a prompt's beginning.
        parent: Option<u64>,
        /// Their tokens.
        tokens: Vec<u32>,
        /// Tokens of one block.
        block_tokens: u32,
        /// What they lie in, e.g. `GPU`; none in older releases, which knew nothing else.
        medium: Option<String>,
        /// Which of a hybrid cache's groups holds them,
        group: Option<u32>,
        /// and the tokens that it looks back on, if it does not look back on all.
        sliding: Option<u32>,
    },
    /// Blocks are gone.
    Removed {
        /// Their hashes.
        blocks: Vec<u64>,
        /// What they lay in.
        medium: Option<String>,
        /// Which group held them; none if all.
        group: Option<u32>,
    },
    /// All are gone.
    Cleared,
}

/// The places of an event's fields in the form that is a list, behind its name.
const STORED: [&str; 11] = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
];
const REMOVED: [&str; 3] = ["block_hashes", "medium", "group_idx"];
/// The same of a batch.
const BATCH: [&str; 3] = ["ts", "events", "data_parallel_rank"];

impl Batch {
    /// Reads one; none if it is none.
    pub fn read(mut bytes: &[u8]) -> Option<Batch> {
        let whole = rmpv::decode::read_value(&mut bytes).ok()?;
        let fields = Fields::of(&whole, &BATCH, 0)?;
        let mut batch =
            Batch { rank: fields.get("data_parallel_rank").and_then(small), ..Batch::default() };
        for event in fields.get("events")?.as_array()? {
            match change(event) {
                Some(change) => batch.changes.push(change),
                None => batch.unknown += 1,
            }
        }
        Some(batch)
    }
}

fn change(event: &Value) -> Option<Change> {
    let name = match event {
        Value::Array(list) => list.first()?.as_str()?,
        Value::Map(_) => Fields(event, &[], 0).get("type")?.as_str()?,
        _ => return None,
    };
    let text = |fields: &Fields<'_>| Some(fields.get("medium")?.as_str()?.to_owned());
    match name {
        "BlockStored" => {
            let fields = Fields::of(event, &STORED, 1)?;
            let tokens = fields.get("token_ids")?.as_array()?;
            Some(Change::Stored {
                blocks: hashes(fields.get("block_hashes")?)?,
                parent: fields.get("parent_block_hash").and_then(hash),
                tokens: tokens.iter().map(small).collect::<Option<_>>()?,
                block_tokens: fields.get("block_size").and_then(small)?,
                medium: text(&fields),
                group: fields.get("group_idx").and_then(small),
                sliding: fields.get("kv_cache_spec_sliding_window").and_then(small),
            })
        }
        "BlockRemoved" => {
            let fields = Fields::of(event, &REMOVED, 1)?;
            Some(Change::Removed {
                blocks: hashes(fields.get("block_hashes")?)?,
                medium: text(&fields),
                group: fields.get("group_idx").and_then(small),
            })
        }
        "AllBlocksCleared" => Some(Change::Cleared),
        _ => None,
    }
}

/// Fields by name, of a map, or of a list by the places that names have in it.
struct Fields<'a>(&'a Value, &'static [&'static str], usize);

impl<'a> Fields<'a> {
    fn of(value: &'a Value, places: &'static [&'static str], skip: usize) -> Option<Fields<'a>> {
        let is_either = matches!(value, Value::Array(_) | Value::Map(_));
        is_either.then_some(Fields(value, places, skip))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let Fields(value, places, skip) = *self;
        let found = match value {
            Value::Map(map) => {
                map.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, v)| v)
            }
            Value::Array(list) => {
                let at = places.iter().position(|place| *place == name)?;
                list.get(at + skip)
            }
            _ => None,
        };
        found.filter(|value| !value.is_nil())
    }
}

fn small(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn hashes(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(hash).collect()
}

/// A hash as a number: of bytes the last eight, which are as good as any.
fn hash(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => number.as_u64().or_else(|| number.as_i64().map(|n| n as u64)),
        Value::Binary(bytes) => {
            let end = bytes.iter().rev().take(8).rev();
            Some(end.fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
        }
        _ => None,
    }
}

/// Which batch of a worker's comes next: knows what is missing, and when nothing more can be known.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    next: Option<u64>,
    /// What a replay is asked for: all up to this one, which was heard live.
    wanted: Option<u64>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is the next one.
    Apply,
    /// Its like was applied.
    Drop,
    /// Some before it are missing: they are asked for from this number, and it comes with them.
    Replay(u64),
    /// What was known of the worker holds no more: it begins another life, of which this is the
    /// first batch.
    Begin,
}

impl Sequence {
    /// A batch came as it was published. Published numbers only grow while a worker lives.
    pub fn live(&mut self, number: u64) -> Turn {
        match self.next {
            Some(next) if number == next && self.wanted.is_none() => self.apply(number),
            Some(next) if number < next => {
                *self = Sequence::default();
                self.next = Some(number + 1);
                Turn::Begin
            }
            None if number == 0 => self.apply(number),
            // A replay is under way: this one comes with it.
            _ if self.wanted.is_some() => {
                self.wanted = Some(number);
                Turn::Drop
            }
            next => {
                self.wanted = Some(number);
                Turn::Replay(next.unwrap_or(0))
            }
        }
    }

    /// A batch came that was asked for.
    pub fn replayed(&mut self, number: u64) -> Turn {
        let next = self.next.unwrap_or(0);
        if number < next {
            return Turn::Drop;
        }
        if number == next {
            return self.apply(number);
        }
        // Those between are kept no more.
        self.apply(number);
        Turn::Begin
    }

    /// A replay is over. True if something is missing still, and with it all that was known.
    pub fn replay_ended(&mut self) -> bool {
        let Some(wanted) = self.wanted.take() else { return false };
        let is_missing = self.next.is_none_or(|next| next <= wanted);
        if is_missing {
            self.next = Some(wanted + 1);
        }
        is_missing
    }

    fn apply(&mut self, number: u64) -> Turn {
        self.next = Some(number + 1);
        Turn::Apply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmpv::Value as V;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, value).unwrap();
        out
    }

    fn list(values: &[Value]) -> Value {
        V::Array(values.to_vec())
    }

    fn map(fields: &[(&str, Value)]) -> Value {
        V::Map(fields.iter().map(|(name, value)| (V::from(*name), value.clone())).collect())
    }

    fn stored() -> Change {
        Change::Stored {
            blocks: vec![7, 8],
            parent: Some(6),
            tokens: vec![1, 2, 3, 4],
            block_tokens: 2,
            medium: Some("GPU".into()),
            group: None,
            sliding: None,
        }
    }

    fn positional() -> Value {
        let tokens = list(&[1, 2, 3, 4].map(V::from));
        let hashes = list(&[7, 8].map(V::from));
        list(&["BlockStored".into(), hashes, 6.into(), tokens, 2.into(), V::Nil, "GPU".into()])
    }

    fn named() -> Value {
        map(&[
            ("type", "BlockStored".into()),
            ("a_field_of_tomorrow", true.into()),
            ("block_size", 2.into()),
            ("token_ids", list(&[1, 2, 3, 4].map(V::from))),
            ("parent_block_hash", 6.into()),
            ("block_hashes", list(&[7, 8].map(V::from))),
            ("medium", "GPU".into()),
        ])
    }

    #[test]
    fn events_are_read_as_lists_and_as_maps_in_batches_of_either_form() {
        for event in [positional(), named()] {
            let events = list(&[event, list(&["AllBlocksCleared".into()])]);
            let as_list = list(&[1.5.into(), events.clone(), 3.into()]);
            let as_map = map(&[("events", events), ("data_parallel_rank", 3.into())]);
            for batch in [as_list, as_map] {
                let read = Batch::read(&bytes(&batch)).unwrap();
                assert_eq!(read.changes, [stored(), Change::Cleared]);
                assert_eq!((read.rank, read.unknown), (Some(3), 0));
            }
        }
    }

    #[test]
    fn a_place_beyond_the_known_ones_and_an_event_of_another_name_are_passed_over() {
        let V::Array(mut event) = positional() else { panic!() };
        event.resize(14, 99.into());
        let other = list(&["LoadStat".into(), 1.into()]);
        let events = list(&[V::Array(event), other, map(&[("type", "Later".into())])]);
        let read = Batch::read(&bytes(&list(&[1.5.into(), events]))).unwrap();
        assert_eq!((read.changes.len(), read.unknown, read.rank), (1, 2, None));
    }

    #[test]
    fn a_hash_is_a_number_or_bytes() {
        let bytes_32 = V::Binary((0..32).collect());
        let event = list(&["BlockRemoved".into(), list(&[bytes_32, (-1).into(), 5.into()])]);
        let read = Batch::read(&bytes(&list(&[0.0.into(), list(&[event])]))).unwrap();
        let blocks = vec![0x1819_1a1b_1c1d_1e1f, u64::MAX, 5];
        assert_eq!(read.changes, [Change::Removed { blocks, medium: None, group: None }]);
    }

    #[test]
    fn what_is_no_batch_is_none() {
        for wrong in [&b""[..], b"\xc1", b"\x93\x01", &bytes(&5.into()), &bytes(&list(&[]))] {
            assert_eq!(Batch::read(wrong), None);
        }
    }

    #[test]
    fn a_gap_is_asked_for_and_what_comes_live_meanwhile_comes_with_the_replay() {
        let mut sequence = Sequence::default();
        assert_eq!([0, 1].map(|n| sequence.live(n)), [Turn::Apply; 2]);
        assert_eq!(sequence.live(4), Turn::Replay(2));
        assert_eq!(sequence.live(5), Turn::Drop);
        assert_eq!([2, 3, 4, 5].map(|n| sequence.replayed(n)), [Turn::Apply; 4]);
        assert!(!sequence.replay_ended());
        assert_eq!(sequence.live(6), Turn::Apply);
    }

    #[test]
    fn who_comes_late_asks_for_all_and_begins_with_the_oldest_that_is_kept() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.live(20_000), Turn::Replay(0));
        assert_eq!(sequence.replayed(10_000), Turn::Begin);
        assert_eq!(sequence.replayed(10_001), Turn::Apply);
        assert!(sequence.replay_ended(), "it broke off before the one that was heard");
        assert_eq!(sequence.live(20_001), Turn::Apply);
    }

    #[test]
    fn a_number_that_falls_is_another_life() {
        let mut sequence = Sequence::default();
        assert_eq!([0, 1, 2].map(|n| sequence.live(n)), [Turn::Apply; 3]);
        assert_eq!(sequence.live(0), Turn::Begin);
        assert_eq!(sequence.live(1), Turn::Apply);
        assert_eq!(sequence.replayed(0), Turn::Drop, "of an older question");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = Batch::read(&bytes);
        }
    }
}
