//! Prompt and answer on two workers: who gets them, and what is left of a broken pair.

use super::super::cost::Asked;
use super::super::kv_index::KvIndex;
use super::super::pair::{
    Act, Candidate, Choice, Crew, Form, Half, Next, Pair, State, Step, Terms, choose,
};
use super::*;

const PROMPT: u32 = 6_000;

/// Workers without a leg, and the workers that are there to compute prompts.
fn crew(prefill: u16, decode: u16) -> Crew {
    let mut index = KvIndex::default();
    let worker = |id: u16| (WorkerId(id), Worker::new(H100, (1, index.begin(WorkerId(id)))));
    (0..prefill + decode).map(worker).collect()
}

fn asked() -> Asked {
    Asked { prompt: PROMPT, output: 300 }
}

fn chosen(now: u64, crew: &Crew, prefill: u16, terms: &Terms) -> Option<Choice> {
    let all: Vec<Candidate<'_>> = crew.iter().map(|(id, worker)| (*id, worker, 0)).collect();
    choose(at(now), (&asked(), now), all.split_at(usize::from(prefill)), terms)
}

fn pair(number: u64, crew: &mut Crew, terms: Terms) -> Pair {
    let choice = chosen(1, crew, 1, &terms).expect("both are there");
    Pair::reserve(at(1), (work(number), asked()), &choice, terms, crew).expect("they have room")
}

fn is_empty(crew: &Crew) -> bool {
    crew.values().all(|worker| {
        worker.in_flight() == 0
            && worker.blocks() == 0
            && worker.undone_tokens() == 0
            && worker.batch() == Default::default()
    })
}

fn aborted(acts: &[Act]) -> Vec<Half> {
    let half = |act: &Act| match act {
        Act::Abort { half, .. } => Some(*half),
        _ => None,
    };
    acts.iter().filter_map(half).collect()
}

/// ai-dynamo/dynamo#7836.
#[test]
fn with_one_for_prompts_and_five_for_answers_each_of_the_five_gets_work() {
    let (mut crew, terms) = (crew(1, 5), Terms::default());
    let mut given = [0u32; 6];
    let mut open = Vec::new();
    for number in 0..100 {
        let now = 1 + 150 * number;
        let choice = chosen(now, &crew, 1, &terms).expect("they have room");
        let of = (work(number), asked());
        let mut pair = Pair::reserve(at(now), of, &choice, terms, &mut crew).expect("room");
        given[usize::from(pair.workers().1.0)] += 1;
        let mut acts = Vec::new();
        pair.send(at(now), &mut crew, &mut acts);
        pair.hear(at(now + 120), Step::Prefilled, &mut crew, &mut acts);
        let next = pair.hear(at(now + 140), Step::FirstToken, &mut crew, &mut acts);
        assert_eq!(next, Next::Committed);
        open.push(pair);
        // Single turns: an answer ends after three others have begun.
        if number >= 3 {
            let ended = &open[number as usize - 3];
            let worker = crew.get_mut(&ended.workers().1).expect("it is there");
            assert!(worker.take(at(now + 141), work(number - 3)).is_some());
        }
        assert!(crew.values().all(Worker::is_balanced));
    }
    assert_eq!(given[0], 0);
    assert!(given[1..].iter().all(|many| (15..=25).contains(many)), "{given:?}");
}

#[test]
fn a_pair_is_made_only_where_it_beats_one_worker() {
    let (mut crew, terms) = (crew(1, 1), Terms::default());
    let choice = chosen(1, &crew, 1, &terms).expect("both are idle");
    let whole = |crew: &Crew| {
        let worker = &crew[&WorkerId(1)];
        asked().on(worker, at(1), 0, terms.externality_weight).total
    };
    assert!(!choice.is_worth(Some(whole(&crew))), "a transfer for nothing");
    assert!(choice.is_worth(None));
    // Where many answers are written, a prompt would hold all of them up.
    for number in 10..60 {
        let idle = chosen(1, &crew, 1, &terms).expect("room");
        let mut one =
            Pair::reserve(at(1), (work(number), asked()), &idle, terms, &mut crew).expect("room");
        one.send(at(1), &mut crew, &mut Vec::new());
        one.hear(at(1), Step::Prefilled, &mut crew, &mut Vec::new());
        one.hear(at(1), Step::FirstToken, &mut crew, &mut Vec::new());
    }
    let choice = chosen(1, &crew, 1, &terms).expect("room");
    assert!(choice.is_worth(Some(whole(&crew))), "{choice:?}");
}

/// A pair in a state, and what was told on the way.
fn in_state(state: State, form: Form, crew: &mut Crew) -> Pair {
    let mut pair = pair(1, crew, Terms { form, ..Terms::default() });
    let mut acts = Vec::new();
    if state != State::Reserved {
        pair.send(at(2), crew, &mut acts);
    }
    if state == State::Transfer {
        pair.hear(at(300), Step::Prefilled, crew, &mut acts);
    }
    assert_eq!(pair.state(), state);
    pair
}

/// sgl-project/sglang#31206, #29482; vllm-project/aibrix#2289.
#[test]
fn whichever_half_is_lost_in_whatever_state_the_other_is_taken_back_at_once() {
    for form in [Form::OneByOne, Form::Together] {
        for state in [State::Reserved, State::Prefill, State::Transfer] {
            for half in [Half::Prefill, Half::Decode] {
                let mut crew = crew(1, 1);
                let mut pair = in_state(state, form, &mut crew);
                let is_sent = |half| match (half, form, state) {
                    (_, _, State::Reserved) => false,
                    (Half::Decode, Form::OneByOne, at) => at == State::Transfer,
                    (Half::Decode, Form::Together, _) | (Half::Prefill, ..) => true,
                };
                let (other, mut acts) = match half {
                    Half::Prefill => (Half::Decode, Vec::new()),
                    Half::Decode => (Half::Prefill, Vec::new()),
                };
                let mut next = pair.hear(at(301), Step::Lost(half), &mut crew, &mut acts);
                if next == Next::WantsDecode {
                    next = pair.redirect(at(301), None, &mut crew, &mut acts);
                }
                let case = alloc::format!("{form:?} {state:?} {half:?}: {acts:?}");
                assert_eq!((next, pair.state()), (Next::Again, State::Over), "{case}");
                let expected = if is_sent(other) { alloc::vec![other] } else { Vec::new() };
                assert_eq!(aborted(&acts), expected, "{case}");
                assert!(is_empty(&crew) && crew.values().all(Worker::is_balanced), "{case}");
                let told = |act: &Act| matches!(act, Act::Fact(ScheduleFact::PairAborted { .. }));
                assert_eq!(acts.iter().filter(|act| told(act)).count(), 1, "{case}");
                // What comes late of either half changes nothing.
                for step in [Step::Prefilled, Step::FirstToken, Step::Lost(other), Step::Tick] {
                    assert_eq!(pair.hear(at(900), step, &mut crew, &mut acts), Next::Goes);
                }
                assert!(is_empty(&crew) && pair.deadline().is_none());
            }
        }
    }
}

#[test]
fn in_every_state_a_cancel_or_a_deadline_takes_back_both() {
    for form in [Form::OneByOne, Form::Together] {
        for state in [State::Reserved, State::Prefill, State::Transfer] {
            for is_cancel in [true, false] {
                let mut crew = crew(1, 1);
                let mut pair = in_state(state, form, &mut crew);
                let mut acts = Vec::new();
                let until = pair.deadline().expect("every wait has one");
                let early = until - Duration::from_micros(1);
                assert_eq!(pair.hear(early, Step::Tick, &mut crew, &mut acts), Next::Goes);
                let (step, end) = match is_cancel {
                    true => (Step::Cancelled, Next::Over),
                    false => (Step::Tick, Next::Again),
                };
                assert_eq!(pair.hear(until, step, &mut crew, &mut acts), end);
                let sent = match (form, state) {
                    (_, State::Reserved) => 0,
                    (Form::OneByOne, State::Prefill) => 1,
                    _ => 2,
                };
                assert_eq!(aborted(&acts).len(), sent, "{form:?} {state:?} {acts:?}");
                assert!(is_empty(&crew));
            }
        }
    }
}

/// The breaker of vllm-project/aibrix#2289: of two halves one was sent.
#[test]
fn while_one_worker_is_not_well_neither_half_is_sent() {
    for form in [Form::OneByOne, Form::Together] {
        for broken in [0, 1] {
            for verdict in [Verdict::Suspect, Verdict::Down] {
                let (mut crew, terms) = (crew(1, 1), Terms { form, ..Terms::default() });
                let choice = chosen(1, &crew, 1, &terms).expect("both are well");
                let set = |crew: &mut Crew| {
                    crew.get_mut(&WorkerId(broken)).expect("it is there").verdict = verdict;
                };
                // It broke after it was taken a place at; or before.
                let mut reserved = pair(1, &mut crew, terms);
                set(&mut crew);
                let mut acts = Vec::new();
                assert_eq!(reserved.send(at(2), &mut crew, &mut acts), Next::Again);
                assert!(matches!(acts[..], [Act::Fact(_)]), "{acts:?}");
                assert!(is_empty(&crew));
                assert_eq!(chosen(2, &crew, 1, &terms), None);
                let of = (work(2), asked());
                assert!(Pair::reserve(at(2), of, &choice, terms, &mut crew).is_none());
                assert!(is_empty(&crew), "neither ledger is charged");
            }
        }
    }
}

#[test]
fn who_was_to_answer_and_is_lost_is_replaced_while_the_prompt_is_kept() {
    for state in [State::Prefill, State::Transfer] {
        let mut crew = crew(1, 2);
        let mut pair = in_state(state, Form::OneByOne, &mut crew);
        let (_, first) = pair.workers();
        let (other, mut acts) = (WorkerId(3 - first.0), Vec::new());
        let lost = Step::Lost(Half::Decode);
        assert_eq!(pair.hear(at(310), lost, &mut crew, &mut acts), Next::WantsDecode);
        assert_eq!(pair.redirect(at(310), Some(other), &mut crew, &mut acts), Next::Goes);
        if state == State::Prefill {
            pair.hear(at(320), Step::Prefilled, &mut crew, &mut acts);
        }
        let sent = Act::Send { half: Half::Decode, worker: other, incarnation: 1 };
        assert_eq!(acts, [sent], "the prompt is not computed again");
        assert_eq!(pair.hear(at(340), Step::FirstToken, &mut crew, &mut acts), Next::Committed);
        assert_eq!(crew[&WorkerId(0)].in_flight(), 0, "its blocks are free");
        assert_eq!((crew[&other].in_flight(), crew[&other].batch().decodes), (1, 1));
        assert_eq!(crew[&first].in_flight(), 0);
    }
}

#[test]
fn what_came_from_another_life_of_a_worker_is_not_relayed() {
    for reborn in [0, 1] {
        let mut crew = crew(1, 1);
        let mut pair = in_state(State::Transfer, Form::OneByOne, &mut crew);
        let slot = crew[&WorkerId(reborn)].slot;
        crew.insert(WorkerId(reborn), Worker::new(H100, (2, slot)));
        let mut acts = Vec::new();
        assert_eq!(pair.hear(at(320), Step::FirstToken, &mut crew, &mut acts), Next::Again);
        assert_eq!(aborted(&acts).len(), 2);
        assert!(is_empty(&crew));
    }
}
