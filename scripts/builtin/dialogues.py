"""Seeded dialogues: a state of the sites, questions about it, and the one right answer to each.

Two splits that never meet: a state belongs to the held-out split if the hash of its story says so,
a wording if its template is marked. `dialogue(rng, …)` is deterministic in its generator.
"""

import functools
import random
import re
import zlib
from dataclasses import dataclass

import answers
import outside
import questions
from state import MAY_RETURN, SLOT, STATUSES, USABLE, Model, Site, Speaker, State

MIXED = [36, 12, 12, 18, 6, 8, 8]  # how often a site has each of STATUSES
CHINESE_SHARE = 0.25
HELD_OUT_STATES = 10  # one story in ten is never trained on
LIVED_SHARE = 0.25  # dialogues whose earlier answers hold values, as a client sends them back


@dataclass
class Turn:
    intent: str
    question: str
    answer: str


@dataclass
class Dialogue:
    system: str | None
    turns: list
    state: State | None
    chinese: bool
    values: dict  # what earlier answers show in place of slots; empty: the slots

    def messages(self):
        """Messages as the model reads them; answers that hold values are not to be learned."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        for turn in self.turns:
            system.append({"role": "user", "content": turn.question})
            shown = turn.answer if turn is self.turns[-1] else self.lived(turn.answer)
            learn = shown == turn.answer
            system.append({"role": "assistant", "content": shown, "learn": learn})
        return system

    def lived(self, text):
        """As a client sends it back; what the guide says, the server turns into slots again."""
        if not self.values:
            return text
        if self.state and self.state.sites:
            spelled = lambda slot: self.state.spelled(slot[1], self.chinese)  # noqa: E731
            text = re.sub(r"\[list:(\w+)\]", spelled, text)
        return SLOT.sub(lambda slot: self.values.get(slot[0][1:-1].rstrip("12345678"), slot[0]), text)


# ---- states


def is_held_out(state):
    return zlib.crc32(state.signature().encode()) % HELD_OUT_STATES == 0


def draw_state(rng, held_out):
    """A state of the wanted split with one to eight sites."""
    while True:
        state = any_state(rng)
        if is_held_out(state) == held_out:
            return state


def any_state(rng):
    count = rng.choices(range(1, 9), [12, 18, 20, 18, 12, 8, 6, 6])[0]
    story = rng.choices(["mixed", "all up", "none up"], [74, 10, 16])[0]
    weights = {"mixed": MIXED, "all up": [1] + [0] * 6, "none up": [0, 0, 3, 6, 1, 2, 2]}[story]
    sites = [
        Site(number, status, status in MAY_RETURN and rng.random() < 0.75)
        for number, status in enumerate(rng.choices(STATUSES, weights, k=count), 1)
    ]
    is_served = 0.85 if any(site.status in USABLE for site in sites) else 0.0
    models = [
        Model(number + 1, rng.random() < is_served, rng.random() < 0.4)
        for number in range(rng.choices(range(5), [8, 38, 28, 18, 8])[0])
    ]
    return State(sites, models, waiting=rng.random() < 0.4, url=rng.random() < 0.9)


def drawn_values(rng):
    """Values by the kind of a slot; names of sites and models come back as slots."""
    time = f"{rng.randint(1, 59)} {rng.choice(['s', 'min', 'h'])}"
    count = str(rng.randint(2, 400))
    address = f"http://127.0.0.1:{rng.choice([8080, 8000, 9000])}"
    return {"T": time, "R": time, "C": count[0], "N": count[0], "Q": count, "U": address}


# ---- questions


def expand(template, rng):
    """Resolve `{a|b}` from the inside out."""
    while match := re.search(r"\{([^{}]*)\}", template):
        template = (
            template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
        )
    return " ".join(template.split())


def expansions(template):
    """All that `expand` can make of a template."""
    match = re.search(r"\{([^{}]*)\}", template)
    if not match:
        return {plain(template)}
    before, after = template[: match.start()], template[match.end() :]
    return set().union(*(expansions(before + each + after) for each in match[1].split("|")))


def plain(text):
    """Two questions are the same if this of them is."""
    return " ".join(text.lower().split()).rstrip("?!.,。? ")


@functools.cache
def held_out_questions():
    """Every held-out question about this service: none of them is ever trained on."""
    templates = [
        text
        for intents in (questions.STATE, questions.FIXED)
        for tongues in intents.values()
        for text in tongues[0] + tongues[1]
    ]
    held_out = (expansions(text.lstrip("~")) for text in templates if text.startswith("~"))
    return set().union(*held_out)


def wording(intent, rng, language, held_out):
    """A template of the intent and of the split, expanded."""
    templates = (questions.STATE.get(intent) or questions.FIXED[intent])[language]
    wanted = [text.lstrip("~") for text in templates if text.startswith("~") == held_out]
    while True:
        text = expand(rng.choice(wanted), rng)
        if held_out or plain(text) not in held_out_questions():
            return text


BEFORE = [
    "hi, ",
    "hey, ",
    "ok, ",
    "so ",
    "and ",
    "quick question: ",
    "excuse me, ",
    "please tell me: ",
    "hello, ",
    "um, ",
    "ok so ",
]
AFTER = [" please", " thanks", ", please", "??", "?!", " ...", "!", " asap", " pls", ", thank you", " ???"]
AROUND = [
    "can you tell me {}", "could you tell me {}", "do you know {}", "I want to know {}",
    "I'd like to know {}", "tell me {}", "any idea {}", "my question is {}", "please say {}",
    "I was wondering {}", "help: {}", "one question, {}", "my boss asks: {}", "{} I need to know",
    "{} I am on call", "{} we are in production", "it is urgent, {}", "sorry to ask, {}",
]  # fmt: skip
BEFORE_CHINESE = ["请问", "你好,", "那么", "请告诉我", "麻烦问一下,", "我想知道", "帮我看看", "老板问", "急:", "想问下"]
SMALL_WORDS = set("a an the is are do does i my to of please now me you it in for will be any".split())
SHORT = {
    "you": "u", "are": "r", "please": "pls", "what is": "whats", "do not": "dont", "cannot": "cant",
    "provider": "prov", "providers": "provs", "with": "w/", "and": "&", "because": "cuz",
    "message": "msg", "request": "req", "requests": "reqs", "config": "cfg", "why": "y",
}  # fmt: skip


def roughen(text, rng, language):
    """What fingers do to a sentence: politeness, haste, case, punctuation, slips."""
    if language:
        text = rng.choice(BEFORE_CHINESE) + text if rng.random() < 0.12 else text
        return text + rng.choice(["", "?", "?", "。", "", "!", "??"])
    if rng.random() < 0.12:
        text = hasty(text, rng)
    draw = rng.random()
    if draw < 0.15:
        text = rng.choice(BEFORE) + text
    elif draw < 0.25:
        text = rng.choice(AROUND).format(text)
    text += rng.choice(AFTER) if rng.random() < 0.12 else rng.choice(["", "?", "?"])
    for chance in (0.18, 0.05):
        text = slip(text, rng) if rng.random() < chance else text
    style = rng.random()
    if style < 0.4:
        text = text[:1].upper() + text[1:]
    elif style < 0.6:
        text = text.lower() if "[" not in text else text
    elif style < 0.63 and "[" not in text:
        text = text.upper()
    return text


def hasty(text, rng):
    """Without some of the small words, or with some of them short."""
    if rng.random() < 0.4:
        for long, short in SHORT.items():
            text = re.sub(rf"\b{long}\b", short, text)
        return text
    words = text.split()
    kept = [word for word in words if word.lower() not in SMALL_WORDS or rng.random() < 0.35]
    return " ".join(kept) if len(kept) > 1 else text


def slip(text, rng):
    """One letter lost, doubled or swapped with its neighbour; never inside a slot."""
    whole = SLOT.sub(lambda slot: "[" * len(slot[0]), text)
    places = [i for i in range(len(text) - 1) if (whole[i] + whole[i + 1]).isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    return rng.choice(
        [
            text[:i] + text[i + 1 :],
            text[:i] + text[i] + text[i:],
            text[:i] + text[i + 1] + text[i] + text[i + 2 :],
        ]
    )


# ---- turns


def draw_intent(rng, state, state_share):
    """A third of what is not about the state is out of scope."""
    if rng.random() < (state_share if state and state.sites else 0.2):
        return rng.choices(list(questions.STATE), [4, 3, 3, 3, 3, 3, 3, 5, 2, 3, 2, 2, 2, 2])[0]
    return "outside" if rng.random() < 0.3 else rng.choice(list(questions.FIXED))


def turn(rng, state, intent, language, held_out):
    """One question and its answer, or nothing if the intent does not fit the state."""
    if intent == "outside":
        text = outside.fill(expand(outside.template(rng, language, held_out), rng), rng, held_out)
        text = text.replace("@S", site_name(rng, state, held_out))
        return Turn(intent, roughen(text, rng, language), answers.REFUSE[language])
    text = wording(intent, rng, language, held_out)
    if intent in questions.FIXED:
        text = text.replace("@E", rng.choice(questions.CODES[held_out]))
        if rng.random() < 0.5:  # the server puts slots in place of the names it knows
            text = NAMED.sub(lambda name: site_name(rng, state, held_out, name[0]), text)
        return Turn(intent, roughen(text, rng, language), answers.FIXED[intent][language])
    filled, argument = address(rng, state, intent, text, held_out)
    if filled is None:
        return None
    return Turn(intent, roughen(filled, rng, language), answer(state, intent, argument, language))


NAMED = re.compile("(?i)(deepseek|qwen|dashscope|kimi)(?![_-])")


def site_name(rng, state, held_out, otherwise=None):
    """How a site is called in a question: by its slot, or by a name where the server knows none."""
    if state and state.sites:
        return rng.choice(state.sites).slot
    return otherwise or rng.choice(questions.UNKNOWN[held_out] + ["deepseek", "qwen", "kimi"])


def address(rng, state, intent, text, held_out):
    """The question with its site or model named, and that name."""
    known = state is not None and bool(state.sites)
    if intent == "unknown_site":
        return text.replace("@X", rng.choice(questions.UNKNOWN[held_out])), None
    if intent == "site_status":
        # without sites the server has no slot to put in: the name stays as typed
        slot = rng.choice(state.sites).slot if known else None
        return text.replace("@P", slot or site_name(rng, state, held_out)), slot
    if intent == "model_by":
        if not known or not state.models:
            return None, None
        slot = rng.choice(state.models).slot
        return text.replace("@M", slot), slot
    return text, None


def answer(state, intent, argument, language):
    if state is None:
        return answers.NO_STATE[language]
    if not state.sites and intent != "address":
        return answers.NO_KEY[language]
    if intent == "address" and not state.url:
        return answers.FIXED["listen"][language]
    speaker = Speaker(state, language)
    return getattr(speaker, intent)(*([argument] if argument else []))


FOLLOW_UP = (
    ["and @P?", "and @P", "what about @P then?", "@P too?", "ok and @P?"],
    ["那 @P 呢?", "@P 呢"],
)
AGAIN = (
    [
        "and when will it be back?",
        "when is it back?",
        "why?",
        "when will it work again?",
        "is it still so?",
    ],
    ["什么时候恢复?", "它什么时候好?", "为什么?"],
)


def follow_up(rng, state, previous, language):
    """A short question that only the previous one makes clear."""
    slot = SLOT.search(previous.question)[0]
    text = rng.choice(AGAIN[language])
    if rng.random() < 0.6:
        slot = rng.choice(state.sites).slot
        text = rng.choice(FOLLOW_UP[language]).replace("@P", slot)
    return Turn("follow_up", text, Speaker(state, language).site_status(slot))


def dialogue(
    rng, held_out_state=False, held_out_wording=False, turns=None, intent=None, state_share=0.45
):
    """One dialogue; `intent` fixes what its only question is about."""
    kind = rng.random()
    state = draw_state(rng, held_out_state)
    if intent not in questions.STATE:
        if kind < 0.14:
            state = State([], [], url=rng.random() < 0.9)
        elif kind < 0.18:
            state = None
    system = state.text() if state else None
    language = int(rng.random() < CHINESE_SHARE)
    values = drawn_values(rng) if rng.random() < LIVED_SHARE else {}
    result = Dialogue(system, [], state, bool(language), values)
    count = turns or rng.choices([1, 2, 3, 4, 5, 8, 12], [29, 20, 18, 16, 10, 4, 3])[0]
    while len(result.turns) < count:
        previous = result.turns[-1] if result.turns else None
        after_site = (
            previous
            and previous.intent in ("site_status", "follow_up")
            and SLOT.search(previous.question)
        )
        if after_site and state and state.sites and rng.random() < 0.3:
            result.turns.append(follow_up(rng, state, previous, language))
            continue
        wanted = intent or draw_intent(rng, state, state_share)
        if (
            previous
            and previous.intent in ("site_status", "follow_up", "unknown_site")
            and wanted == "when_back"
        ):
            continue
        made = turn(rng, state, wanted, language, held_out_wording)
        if made:
            result.turns.append(made)
        elif intent:  # it does not fit this state, and never will
            return dialogue(rng, held_out_state, held_out_wording, turns, intent)
    return result


def stream(seed, count, **options):
    """`count` dialogues; the same for the same seed."""
    rng = random.Random(seed)
    return [dialogue(rng, **options) for _ in range(count)]


if __name__ == "__main__":
    for shown in stream(1, 6) + stream(2, 3, held_out_state=True, held_out_wording=True):
        print("-" * 60, shown.system, sep="\n")
        for each in shown.turns:
            print(f"  ({each.intent}) {each.question}\n      {each.answer}")
