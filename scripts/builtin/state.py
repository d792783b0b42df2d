"""The state of the sites: how it is written for the model, and what is true of it.

The server writes the same text from real state, each fact being one slot: a single special token.
A site's slot says its status and its number, `[down2]`, and what is known of several sites is one
slot too: `[list:bad]` stands for "deepseek is down; kimi refuses its key". So the model has nothing
to look up and no list to copy: whatever it says of a slot is true of it. Trials in which name and
status were two tokens, and later ones in which the model wrote the lists itself, did not learn it in
the time a small machine has.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

# What the model may quote and must not misspell: slots of commands and lines of configuration.
GUIDE_FILE = Path(__file__).parents[2] / "crates/mainstay-engine/builtin/guide.json"
GUIDE = json.loads(GUIDE_FILE.read_text())

STATUSES = ["up", "slow", "full", "down", "drained", "key", "credit"]
MOST_SITES, MOST_MODELS = 8, 4
COUNT, UP, WAITING, RETRY, URL = "[C]", "[N]", "[Q]", "[R]", "[U]"
LISTS = ("all", "names", "good", "bad", "trouble", "slow", "models")
SLOTS = [f"[{kind}{i + 1}]" for kind in STATUSES + ["T"] for i in range(MOST_SITES)]
SLOTS += [f"[{kind}{i + 1}]" for kind in ("model", "off", "by", "sub") for i in range(MOST_MODELS)]
SLOTS += [f"[list:{name}]" for name in LISTS] + [COUNT, UP, WAITING, RETRY, URL]
SLOTS += GUIDE  # these stand for the same text in every state
SLOT = re.compile(r"\[(?:[a-z]+:[a-z0-9_]+|[a-zA-Z]+\d|[CNQRU])\]")

# statuses of which `again [Tn]` may be known
MAY_RETURN = ("down", "full", "drained", "key", "credit")
USABLE = ("up", "slow")
UNUSABLE = ("down", "drained", "key", "credit")
NO_SITES = "no provider key found"

# status: (English, English tail with a time, Chinese, Chinese tail with a time)
AGAIN = (", asked again in about {t}", ",约 {t}后再问")
SAY = {
    "up": ("is up", "", "正常", ""),
    "slow": ("is slow", "", "很慢", ""),
    "full": ("is full", ", room in about {t}", "已满", ",约 {t}后有空位"),
    "down": ("is down", AGAIN[0], "中断", AGAIN[1]),
    "drained": ("is drained", ", back in about {t}", "已下线", ",约 {t}后恢复"),
    "key": ("refuses its key", AGAIN[0], "拒绝了密钥", AGAIN[1]),
    "credit": ("has no credit", AGAIN[0], "余额不足", AGAIN[1]),
}
ADVICE = {
    "key": ("Check its key.", "请检查它的密钥。"),
    "credit": ("Top up its account.", "请给它的账户充值。"),
    "drained": ("Its operator took it out of use.", "它被运维人员停用了。"),
}
BY_ITSELF = ("Mainstay asks again by itself.", "Mainstay 会自动再问。")


@dataclass
class Site:
    number: int
    status: str
    has_time: bool = False

    @property
    def slot(self):
        return f"[{self.status}{self.number}]"

    @property
    def time(self):
        return f"[T{self.number}]"

    def line(self):
        return f"{self.slot}{self.time}" if self.has_time else self.slot


@dataclass
class Model:
    number: int
    served: bool  # some site that is up or slow has it
    has_substitute: bool = False

    @property
    def slot(self):
        return f"[{'model' if self.served else 'off'}{self.number}]"

    def line(self):
        by = f"[by{self.number}]" if self.served else ""
        return self.slot + by + (f"[sub{self.number}]" if self.has_substitute else "")


@dataclass
class State:
    sites: list
    models: list
    waiting: bool = False
    url: bool = True

    # ---- what is true of it

    def of(self, *statuses):
        return [site for site in self.sites if site.status in statuses]

    def troubled(self):
        return [site for site in self.sites if site.status != "up"]

    def needs_retry(self):
        return not self.of(*USABLE)

    def has(self, name):
        """Whether there is anything that the list could hold."""
        held = {
            "all": self.sites,
            "names": self.sites,
            "good": self.of(*USABLE),
            "bad": self.of(*UNUSABLE),
            "trouble": self.troubled(),
            "slow": self.of("slow", "full"),
            "models": self.models,
        }
        return bool(held[name])

    def site(self, slot):
        return next(site for site in self.sites if site.slot == slot)

    def signature(self):
        """What makes two states the same story."""
        return "\n".join(site.line() for site in self.sites) + f"\n{self.waiting}"

    # ---- what the server writes

    def text(self):
        """Few tokens: nearly all is said by which slots there are."""
        url = [URL] * self.url
        if not self.sites:
            return "\n".join([NO_SITES, *url])
        lists = [f"[list:{name}]" for name in LISTS if self.has(name)]
        rest = [WAITING] * self.waiting + [RETRY] * self.needs_retry() + url
        lines = [[f"sites{COUNT}{UP}", *lists], [each.line() for each in self.sites]]
        lines += [[each.line() for each in self.models], rest]
        return "\n".join("".join(line) for line in lines if line)

    # ---- what the server puts in the place of lists

    def spelled(self, name, chinese):
        """A list in words, of which the names are slots again when a client sends it back."""
        speaker = Speaker(self, int(chinese))
        held = {
            "all": self.sites,
            "good": self.of(*USABLE),
            "bad": self.of(*UNUSABLE),
            "trouble": self.troubled(),
            "slow": self.of("slow", "full"),
        }
        if name in held:
            return speaker.pick("; ", ";").join(map(speaker.phrase, held[name]))
        return speaker.names([each.slot for each in (self.sites if name == "names" else self.models)])


class Speaker:
    """Answers in one language (0 English, 1 Chinese) from one state."""

    def __init__(self, state, language):
        self.state, self.chinese = state, language == 1

    def pick(self, english, chinese):
        return chinese if self.chinese else english

    def phrase(self, site):
        english, english_tail, chinese, chinese_tail = SAY[site.status]
        tail = self.pick(english_tail, chinese_tail).format(t=site.time) if site.has_time else ""
        return f"{site.slot} {self.pick(english, chinese)}{tail}"

    def names(self, slots):
        if self.chinese or len(slots) < 3:
            return self.pick(" and ", "、").join(slots)
        return ", ".join(slots[:-1]) + " and " + slots[-1]

    def listed(self, name):
        return f"[list:{name}]" + self.pick(".", "。")

    def tally(self):
        return self.pick(f"{UP} of {COUNT} sites are up.", f"{COUNT} 个站点中 {UP} 个正常。")

    def queue(self):
        if not self.state.waiting:
            return ""
        return self.pick(f" {WAITING} requests are waiting.", f"{WAITING} 个请求在等待。")

    # ---- one method per question; the name is the intent

    def which_down(self):
        if self.state.has("bad"):
            return self.listed("bad")
        tail = self.pick(" But ", "但是 ") + self.listed("trouble")
        none = self.pick("No site is down.", "没有站点中断。")
        return none + (tail if self.state.has("trouble") else "")

    def all_ok(self):
        if self.state.has("trouble"):
            return self.pick("No: ", "不是:") + self.listed("trouble")
        return self.pick(f"Yes: all {COUNT} sites are up.", f"是的,{COUNT} 个站点全部正常。")

    def report(self):
        return self.listed("all") + self.queue()

    def which_up(self):
        return self.listed("good") if self.state.has("good") else self.when_retry()

    def why_slow(self):
        if self.state.has("slow"):
            return self.listed("slow") + self.queue()
        if self.state.has("good") and self.state.has("bad"):
            share = self.pick(" Other sites carry the load.", "其他站点在分担负载。")
            return self.listed("bad") + share + self.queue()
        if self.state.has("bad"):
            return self.when_retry()
        return self.pick("I see no slow site.", "没有看到缓慢的站点。") + self.queue()

    def when_back(self):
        if self.state.has("trouble"):
            return self.listed("trouble") + self.pick(" ", "") + self.pick(*BY_ITSELF)
        return self.pick("No site is down.", "没有站点中断。")

    def when_retry(self):
        if self.state.needs_retry():
            return self.pick(
                f"No site is up. Try again in {RETRY}.", f"没有正常的站点。请 {RETRY}后重试。"
            )
        return self.pick("Now: ", "现在就可以:") + self.listed("good")

    def site_status(self, slot):
        site = self.state.site(slot)
        advice = self.pick(*ADVICE.get(site.status, ("", "")))
        end = self.pick(".", "。")
        return self.phrase(site) + end + (self.pick(" ", "") + advice if advice else "")

    def unknown_site(self):
        return self.pick(
            "That is not one of my sites. I know [list:names].",
            "这不是我的站点。我知道的有 [list:names]。",
        )

    def model_by(self, slot):
        model = next(model for model in self.state.models if model.slot == slot)
        by, substitute = f"[by{model.number}]", f"[sub{model.number}]"
        if model.served:
            text = self.pick(f"{slot} is answered by {by}.", f"{slot} 由 {by} 回答。")
        else:
            text = self.pick(f"No site can answer {slot} now.", f"现在没有站点能回答 {slot}。")
        if model.has_substitute:
            text += self.pick(f" Its substitute is {substitute}.", f"替代模型是 {substitute}。")
        return text

    def which_models(self):
        if not self.state.models:
            return self.pick("No model is set up.", "还没有设置模型。")
        return self.pick("The models are [list:models].", "模型有 [list:models]。")

    def how_many(self):
        return self.tally()

    def waiting(self):
        return self.queue().strip() or self.pick("No request is waiting.", "没有请求在等待。")

    def address(self):
        path = f"{URL}/v1/chat/completions"
        return self.pick(f"Send requests to {path}.", f"请把请求发到 {path}。")
