"""The state of the sites: how it is written for the model, and what is true of it.

The server writes the same text from real state, each fact being one slot: a single special token.
A site's slot says its status and its number, `[down2]`: whatever the model says of that slot is true
of it, and there is nothing to look up. `[T2]` is the duration until site 2 is back. Trials in which
name and status were two tokens did not learn to join them in the time a small machine has.
"""

import re
from dataclasses import dataclass

STATUSES = ["up", "slow", "full", "down", "drained", "key", "credit"]
MOST_SITES, MOST_MODELS = 8, 4
COUNT, UP, WAITING, RETRY, URL = "[C]", "[N]", "[Q]", "[R]", "[U]"
SLOTS = [f"[{kind}{i + 1}]" for kind in STATUSES + ["T"] for i in range(MOST_SITES)]
SLOTS += [f"[{kind}{i + 1}]" for kind in ("model", "off", "by", "sub") for i in range(MOST_MODELS)]
SLOTS += [COUNT, UP, WAITING, RETRY, URL]
SLOT = re.compile(r"\[(?:[a-zA-Z]+\d|[CNQRU])\]")

MAY_RETURN = ("down", "full", "drained")  # statuses that can carry `back [Tn]`
USABLE = ("up", "slow")
UNUSABLE = ("down", "drained", "key", "credit")
NO_SITES = "no provider key found"

# status: (English, English tail with a time, Chinese, Chinese tail with a time)
SAY = {
    "up": ("is up", "", "正常", ""),
    "slow": ("is slow", "", "很慢", ""),
    "full": ("is full", ", room in about {t}", "已满", ",约 {t} 后有空位"),
    "down": ("is down", ", back in about {t}", "中断", ",约 {t} 后恢复"),
    "drained": ("is drained", ", back in about {t}", "已下线", ",约 {t} 后恢复"),
    "key": ("refuses its key", "", "拒绝了密钥", ""),
    "credit": ("has no credit", "", "余额不足", ""),
}
ADVICE = {
    "key": ("Check its key and start Mainstay again.", "请检查它的密钥并重启 Mainstay。"),
    "credit": ("Top up its account.", "请给它的账户充值。"),
    "drained": ("Its operator took it out of use.", "它被运维人员停用了。"),
}


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
        return f"{self.slot} back {self.time}" if self.has_time else self.slot


@dataclass
class Model:
    number: int
    served: bool  # some site that is up or slow has it
    has_substitute: bool = False

    @property
    def slot(self):
        return f"[{'model' if self.served else 'off'}{self.number}]"

    def line(self):
        by = f" by [by{self.number}]" if self.served else ""
        return self.slot + by + (f" else [sub{self.number}]" if self.has_substitute else "")


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

    def site(self, slot):
        return next(site for site in self.sites if site.slot == slot)

    def signature(self):
        """What makes two states the same story."""
        return "\n".join(site.line() for site in self.sites) + f"\n{self.waiting}"

    # ---- what the server writes

    def text(self):
        if not self.sites:
            return "\n".join([NO_SITES] + [f"url {URL}"] * self.url)
        lines = [f"sites {COUNT} up {UP}"]
        lines += [each.line() for each in self.sites + self.models]
        lines += [f"waiting {WAITING}"] * self.waiting + [f"retry {RETRY}"] * self.needs_retry()
        return "\n".join(lines + [f"url {URL}"] * self.url)


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

    def phrases(self, sites):
        return self.pick("; ", ";").join(map(self.phrase, sites)) + self.pick(".", "。")

    def names(self, slots):
        if self.chinese or len(slots) < 3:
            return self.pick(" and ", "、").join(slots)
        return ", ".join(slots[:-1]) + " and " + slots[-1]

    def tally(self):
        return self.pick(f"{UP} of {COUNT} sites are up.", f"{COUNT} 个站点中 {UP} 个正常。")

    def queue(self):
        if not self.state.waiting:
            return ""
        return self.pick(f" {WAITING} requests are waiting.", f"{WAITING} 个请求在等待。")

    # ---- one method per question; the name is the intent

    def which_down(self):
        bad = self.state.of(*UNUSABLE)
        if bad:
            return self.phrases(bad)
        others = self.state.troubled()
        tail = self.pick(" But ", "但是 ") + self.phrases(others) if others else ""
        return self.pick("No site is down.", "没有站点中断。") + tail

    def all_ok(self):
        bad = self.state.troubled()
        if bad:
            return self.pick("No: ", "不是:") + self.phrases(bad)
        return self.pick(f"Yes: all {COUNT} sites are up.", f"是的,{COUNT} 个站点全部正常。")

    def report(self):
        return self.phrases(self.state.sites) + self.queue()

    def which_up(self):
        good = self.state.of(*USABLE)
        return self.phrases(good) if good else self.when_retry()

    def why_slow(self):
        slow, bad = self.state.of("slow", "full"), self.state.of("down")
        if slow:
            return self.phrases(slow) + self.queue()
        if bad:
            share = self.pick(" Other sites carry its load.", "其他站点在分担它的负载。")
            return self.phrases(bad) + share + self.queue()
        return self.pick("I see no slow site.", "没有看到缓慢的站点。") + self.queue()

    def when_back(self):
        bad = self.state.of("full", *UNUSABLE)
        return self.phrases(bad) if bad else self.pick("No site is down.", "没有站点中断。")

    def when_retry(self):
        if self.state.needs_retry():
            return self.pick(
                f"No site is up. Try again in {RETRY}.", f"没有正常的站点。请 {RETRY} 后重试。"
            )
        first = self.state.of(*USABLE)[0]
        return self.pick("Now: ", "现在就可以:") + self.phrases([first])

    def site_status(self, slot):
        site = self.state.site(slot)
        advice = self.pick(*ADVICE.get(site.status, ("", "")))
        return self.phrases([site]) + (self.pick(" ", "") + advice if advice else "")

    def unknown_site(self):
        known = self.names([site.slot for site in self.state.sites])
        return self.pick(
            f"That is not one of my sites. I know {known}.", f"这不是我的站点。我知道的有 {known}。"
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
        names = self.names([model.slot for model in self.state.models])
        return self.pick(f"The models are {names}.", f"模型有 {names}。")

    def how_many(self):
        return self.tally()

    def waiting(self):
        return self.queue().strip() or self.pick("No request is waiting.", "没有请求在等待。")

    def address(self):
        path = f"{URL}/v1/chat/completions"
        return self.pick(f"Send requests to {path}.", f"请把请求发到 {path}。")
