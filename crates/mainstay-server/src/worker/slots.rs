//! The built-in model speaks in slots: single tokens that stand for every fact.
//!
//! It was trained on states written with slots and answers with slots, so it cannot invent a name
//! or a number. A site's slot carries its state, `[down2]`, and what is known of several sites is
//! one slot, `[list:bad]`, so that there is nothing to look up. Here the real state is written in
//! that form (`slots.json` beside the weights describes it), names in the client's text become
//! slots, and slots in the answer become names, times, commands and lines of configuration again.

use super::words::{Language, duration};
use mainstay_core::gateway::outlook::{Condition, Outlook, SiteState};
use mainstay_engine::builtin;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// What the model was trained with.
const SITES: usize = 8;
const MODELS: usize = 4;
/// Kinds of slots with a number, and how many there are of each.
const NUMBERED: [(&str, usize); 12] = [
    ("up", SITES),
    ("slow", SITES),
    ("full", SITES),
    ("down", SITES),
    ("drained", SITES),
    ("key", SITES),
    ("credit", SITES),
    ("T", SITES),
    ("model", MODELS),
    ("off", MODELS),
    ("by", MODELS),
    ("sub", MODELS),
];
/// What is told of several sites or models at once.
const LISTS: [&str; 7] = ["all", "names", "good", "bad", "trouble", "slow", "models"];
/// No slot is longer.
const SLOT_MAX: usize = 20;

/// What the slots of commands and lines of configuration stand for, the longest text first.
pub fn guide() -> &'static [(String, String)] {
    static GUIDE: OnceLock<Vec<(String, String)>> = OnceLock::new();
    GUIDE.get_or_init(|| {
        let texts: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(builtin::guide()).unwrap_or_default();
        let text = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut guide: Vec<_> = texts.into_iter().map(|(slot, it)| (slot, text(it))).collect();
        guide.sort_by_key(|(_, text)| std::cmp::Reverse(text.len()));
        guide
    })
}

/// One state in the model's words, and what its slots stand for.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The system message.
    pub system: String,
    /// The sites in it.
    pub sites: Vec<Shown>,
    values: Arc<Vec<(String, String)>>,
    /// Names as clients write them, the longest first, and their slots.
    names: Vec<(String, String)>,
}

/// A site as the model sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its slot.
    pub slot: String,
    /// How it is.
    pub condition: Condition,
    /// The slot of the time that is told of it.
    pub time: Option<String>,
}

/// Puts values in the place of slots while an answer comes in pieces.
#[derive(Clone, Debug)]
pub struct Filler {
    values: Arc<Vec<(String, String)>>,
    held: String,
}

/// Every slot that stands for some of the state: those that stand for nothing are forbidden.
pub fn all() -> impl Iterator<Item = String> {
    let numbered = NUMBERED
        .iter()
        .flat_map(|(kind, count)| (1..=*count).map(move |number| format!("[{kind}{number}]")));
    let lists = LISTS.iter().map(|list| format!("[list:{list}]"));
    numbered.chain(lists).chain(["[C]", "[N]", "[Q]", "[R]", "[U]"].map(str::to_owned))
}

/// The kind of slot that stands for a site in this condition.
pub fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Up | Condition::Recovering => "up",
        Condition::Slow => "slow",
        Condition::Drained => "drained",
        Condition::Full => "full",
        Condition::Down => "down",
        Condition::KeyRefused => "key",
        Condition::NoCredit => "credit",
    }
}

impl Scene {
    /// `outlook` as the model reads it; `url` is the API's address without a path.
    pub fn of(outlook: &Outlook, url: Option<&str>, language: Language) -> Scene {
        let mut writer = Writer { language, ..Writer::default() };
        if outlook.sites.is_empty() {
            writer.say("no provider key found");
            writer.line();
        } else {
            writer.state(outlook);
        }
        if let Some(url) = url {
            writer.value("[U]", url);
            writer.say("[U]");
        }
        writer.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let Writer { text, sites, values, names, .. } = writer;
        let system = text.trim_end().to_owned();
        Scene { system, sites, values: Arc::new(values), names }
    }

    /// The slots that stand for something.
    pub fn slots(&self) -> BTreeSet<&str> {
        self.values.iter().map(|(slot, _)| slot.as_str()).collect()
    }

    /// A client's text without anything that could pass for a slot or a role marker, and with slots
    /// in the place of the names of this state.
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.replace("<|", "< |");
        for slot in all().chain(guide().iter().map(|(slot, _)| slot.clone())) {
            if text.contains(&slot) {
                text = text.replace(&slot, &format!("({})", &slot[1..slot.len() - 1]));
            }
        }
        for (name, slot) in &self.names {
            text = replace_word(&text, name, slot);
        }
        text
    }

    /// An earlier answer, in which the guide's texts are slots again too.
    pub fn hide_answer(&self, text: &str) -> String {
        let hidden = self.hide(text);
        guide().iter().fold(hidden, |text, (slot, quoted)| text.replace(quoted, slot))
    }

    /// What fills the slots of an answer.
    pub fn filler(&self) -> Filler {
        Filler { values: self.values.clone(), held: String::new() }
    }
}

impl Filler {
    /// Takes the next piece; returns what is certain.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        for (slot, value) in self.values.iter().chain(guide()) {
            if self.held.contains(slot.as_str()) {
                self.held = self.held.replace(slot.as_str(), value);
            }
        }
        // What may become a slot is kept until it is one or is none.
        let open = self.held.rfind('[').filter(|at| {
            let rest = &self.held[*at..];
            rest.len() < SLOT_MAX && !rest.contains(']')
        });
        let rest = self.held.split_off(open.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// The rest.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[derive(Default)]
struct Writer {
    language: Language,
    text: String,
    sites: Vec<Shown>,
    values: Vec<(String, String)>,
    names: Vec<(String, String)>,
}

impl Writer {
    fn state(&mut self, outlook: &Outlook) {
        let mut sites: Vec<(usize, &SiteState)> = outlook.sites.iter().enumerate().collect();
        if sites.len() > SITES {
            sites.sort_by_key(|(_, site)| std::cmp::Reverse(site.condition));
            sites.truncate(SITES);
        }
        let up = sites.iter().filter(|(_, site)| site.condition.answers()).count();
        self.value("[C]", &sites.len().to_string());
        self.value("[N]", &up.to_string());
        self.say("sites[C][N]");
        let shown: Vec<&SiteState> = sites.iter().map(|(_, site)| *site).collect();
        self.lists(&shown, outlook);
        self.line();
        for (number, site) in (1..).zip(shown) {
            self.site(number, site);
        }
        self.line();
        self.models(outlook, &sites);
        self.line();
        if outlook.waiting > 0 {
            self.value("[Q]", &outlook.waiting.to_string());
            self.say("[Q]");
        }
        if let Some(retry) = outlook.retry {
            let retry = duration(retry, self.language);
            self.value("[R]", &retry);
            self.say("[R]");
        }
    }

    /// What is told of several at once. A list with nothing in it has no slot.
    fn lists(&mut self, sites: &[&SiteState], outlook: &Outlook) {
        let language = self.language;
        let of = |wanted: fn(Condition) -> bool| {
            let held = sites.iter().filter(|site| wanted(site.condition));
            let phrases: Vec<String> = held.map(|site| phrase(site, language)).collect();
            phrases.join(language.pick("; ", ";"))
        };
        let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        let models: Vec<&str> = outlook.models.iter().map(|model| model.name.as_str()).collect();
        let is_gone = |it: Condition| !it.answers() && it != Condition::Full;
        let texts = [
            of(|_| true),
            list(&names, language),
            of(Condition::answers),
            of(is_gone),
            of(|it| !matches!(it, Condition::Up | Condition::Recovering)),
            of(|it| matches!(it, Condition::Slow | Condition::Full)),
            list(&models, language),
        ];
        for (name, text) in LISTS.iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
            let slot = format!("[list:{name}]");
            self.value(&slot, &text);
            self.say(&slot);
        }
    }

    fn site(&mut self, number: usize, site: &SiteState) {
        let slot = format!("[{}{number}]", word(site.condition));
        self.value(&slot, &site.name);
        self.names.push((site.name.clone(), slot.clone()));
        let mut shown = Shown { slot: slot.clone(), condition: site.condition, time: None };
        self.say(&slot);
        if let Some(again) = site.again.filter(|_| !site.condition.answers()) {
            let time = format!("[T{number}]");
            self.value(&time, &duration(again, self.language));
            self.say(&time);
            shown.time = Some(time);
        }
        self.sites.push(shown);
    }

    fn models(&mut self, outlook: &Outlook, sites: &[(usize, &SiteState)]) {
        for (number, model) in (1..).zip(outlook.models.iter().take(MODELS)) {
            let is_shown = |by: &&usize| sites.iter().any(|(at, _)| at == *by);
            let by = model.by.iter().filter(is_shown).map(|by| outlook.sites[*by].name.as_str());
            let by: Vec<&str> = by.collect();
            let kind = if by.is_empty() { "off" } else { "model" };
            let slot = format!("[{kind}{number}]");
            self.value(&slot, &model.name);
            self.say(&slot);
            // A site and a model of one name: people mean the site.
            if !self.names.iter().any(|(site, _)| site.eq_ignore_ascii_case(&model.name)) {
                self.names.push((model.name.clone(), slot));
            }
            if !by.is_empty() {
                let slot = format!("[by{number}]");
                self.value(&slot, &list(&by, self.language));
                self.say(&slot);
            }
            if let Some(substitute) = &model.substitute {
                let slot = format!("[sub{number}]");
                self.value(&slot, substitute);
                self.say(&slot);
            }
        }
    }

    fn value(&mut self, slot: &str, value: &str) {
        self.values.push((slot.to_owned(), value.to_owned()));
    }

    fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The line is over, if there is anything in it.
    fn line(&mut self) {
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

/// How one site is, in the words that the model has for one.
fn phrase(site: &SiteState, language: Language) -> String {
    let (english, chinese) = saying(site.condition);
    let mut text = format!("{} {}", site.name, language.pick(english, chinese));
    if let Some(again) = site.again.filter(|_| !site.condition.answers()) {
        let (english, chinese) = tail(site.condition);
        let again = duration(again, language);
        let _ = match language {
            Language::English => write!(text, ", {english} {again}"),
            Language::Chinese => write!(text, ",约 {again}{chinese}"),
        };
    }
    text
}

/// What is said of a site in this condition, in both languages.
pub fn saying(condition: Condition) -> (&'static str, &'static str) {
    match condition {
        Condition::Up | Condition::Recovering => ("is up", "正常"),
        Condition::Slow => ("is slow", "很慢"),
        Condition::Full => ("is full", "已满"),
        Condition::Down => ("is down", "中断"),
        Condition::Drained => ("is drained", "已下线"),
        Condition::KeyRefused => ("refuses its key", "拒绝了密钥"),
        Condition::NoCredit => ("has no credit", "余额不足"),
    }
}

/// What is said of the time that is known of it.
pub fn tail(condition: Condition) -> (&'static str, &'static str) {
    match condition {
        Condition::Full => ("room in about", "后有空位"),
        Condition::Drained => ("back in about", "后恢复"),
        _ => ("asked again in about", "后再问"),
    }
}

/// Names as people list them.
fn list(names: &[&str], language: Language) -> String {
    match (names, language) {
        ([first @ .., last], Language::English) if !first.is_empty() => {
            format!("{} and {last}", first.join(", "))
        }
        (names, _) => names.join("、"),
    }
}

/// `text` with `slot` for every `name` in it that stands as a word of its own, in any case.
fn replace_word(text: &str, name: &str, slot: &str) -> String {
    if name.is_empty() {
        return text.to_owned();
    }
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    let (small, wanted) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut search = 0;
    while let Some(found) = small[search..].find(&wanted) {
        let (start, end) = (search + found, search + found + wanted.len());
        let before = text[..start].chars().next_back().is_some_and(is_part);
        let after = text[end..].chars().next().is_some_and(is_part);
        if !before && !after {
            out.push_str(&text[from..start]);
            out.push_str(slot);
            from = end;
        }
        search = end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::gateway::outlook::ModelState;
    use std::time::Duration;

    fn site(name: &str, condition: Condition, again: Option<u64>) -> SiteState {
        SiteState { name: name.into(), condition, again: again.map(Duration::from_secs) }
    }

    fn outlook() -> Outlook {
        Outlook {
            sites: vec![
                site("deepseek", Condition::Down, Some(20)),
                site("dashscope", Condition::Full, Some(40)),
                site("openai", Condition::KeyRefused, Some(60)),
            ],
            models: vec![ModelState {
                name: "chat".into(),
                by: vec![],
                substitute: Some("qwen-max".into()),
            }],
            waiting: 3,
            retry: Some(Duration::from_secs(20)),
        }
    }

    #[test]
    fn a_state_is_written_as_the_model_learned_it() {
        let scene = Scene::of(&outlook(), Some("http://127.0.0.1:8080"), Language::English);
        let lines = [
            "sites[C][N][list:all][list:names][list:bad][list:trouble][list:slow][list:models]",
            "[down1][T1][full2][T2][key3][T3]",
            "[off1][sub1]",
            "[Q][R][U]",
        ];
        assert_eq!(scene.system, lines.join("\n"));
        let empty = Scene::of(&Outlook::default(), None, Language::English);
        assert_eq!(empty.system, "no provider key found");
    }

    #[test]
    fn lists_say_how_each_site_is_in_the_language_of_the_question() {
        let said = |list: &str, language| Scene::of(&outlook(), None, language).filler().push(list);
        assert_eq!(
            said("[list:bad].", Language::English),
            "deepseek is down, asked again in about 20 s; openai refuses its key, asked again in \
             about 60 s."
        );
        let slow = said("[list:slow]。", Language::Chinese);
        assert_eq!(slow, "dashscope 已满,约 40 秒后有空位。");
        assert_eq!(said("[list:names]", Language::English), "deepseek, dashscope and openai");
    }

    #[test]
    fn more_sites_than_slots_show_the_worst_first() {
        let mut many = Outlook::default();
        many.sites.extend((0..9).map(|n| site(&format!("s{n}"), Condition::Up, None)));
        many.sites.push(site("bad", Condition::Down, None));
        let by = vec![0, 1, 9];
        many.models.push(ModelState { name: "chat".into(), by, substitute: None });
        let scene = Scene::of(&many, None, Language::English);
        assert!(scene.system.contains("\n[down1][up2]"), "{}", scene.system);
        assert!(scene.system.ends_with("[up8]\n[model1][by1]"), "{}", scene.system);
        assert_eq!(scene.hide("Bad"), "[down1]");
        assert_eq!(scene.filler().push("[by1]."), "s0, s1 and bad.");
    }

    #[test]
    fn what_the_guide_says_is_a_slot_to_the_model_and_text_to_the_client() {
        let scene = Scene::of(&Outlook::default(), None, Language::English);
        let answer = "Put this into [word:file]:\n[toml:site]\nThen run `[run:serve]`.";
        let text = scene.filler().push(answer);
        assert!(
            text.contains("[[site]]\nname = \"deepseek\"") && !text.contains("[toml"),
            "{text}"
        );
        assert_eq!(scene.hide_answer(&text), answer);
        assert_eq!(scene.hide("[run:serve]"), "(run:serve)");
        assert!(guide().iter().all(|(slot, _)| slot.len() <= SLOT_MAX));
    }

    #[test]
    fn names_become_slots_and_nothing_else_passes_for_one() {
        let scene = Scene::of(&outlook(), None, Language::English);
        let hidden = scene.hide("is DeepSeek down? [down1] <|user|>");
        assert_eq!(hidden, "is [down1] down? (down1) < |user|>");
        assert_eq!(scene.hide("deepseek-v3 and openai."), "deepseek-v3 and [key3].");
        assert_eq!(scene.hide("问 deepseek?chat"), "问 [down1]?[off1]");
    }

    #[test]
    fn slots_are_filled_wherever_the_stream_is_cut() {
        let scene = Scene::of(&outlook(), None, Language::English);
        let text = "[down1] is down; [full2] is full, room in [T2]. `[run:top]` [see here] [up9";
        let whole =
            "deepseek is down; dashscope is full, room in 40 s. `mainstay top` [see here] [up9";
        for cut in 0..text.len() {
            let mut filler = scene.filler();
            let (a, b) = (filler.push(&text[..cut]), filler.push(&text[cut..]));
            assert_eq!(a.clone() + &b + &filler.finish(), whole, "{cut}");
            assert!(!a.contains("[down"), "{cut}: {a}");
        }
    }
}
