//! The answer that works even if the engine does not: what this gateway knows of its sites.
//!
//! No model writes it. It says so, names every site with its state, and says what to do: come back,
//! mend a key, or add a site where there is none.

use super::words::{Language, duration};
use mainstay_core::gateway::outlook::{Condition, Outlook, SiteState};

/// The model's name that such an answer carries.
pub const NAME: &str = "status";
/// More sites than this are counted, the worst are listed.
const LISTED: usize = 12;

/// The state of every site in words, for who asked for the model `asked`; `url` is the API's
/// address without a path.
pub fn text(outlook: &Outlook, asked: &str, url: Option<&str>, language: Language) -> String {
    let mut text = language
        .pick(
            "No language model is at work here: this is Mainstay's own report of its sites.\n",
            "此处没有语言模型在工作：这是 Mainstay 自己的站点状态报告。\n",
        )
        .to_owned();
    if outlook.sites.is_empty() {
        text.push_str(&none(language));
    } else {
        sites(outlook, language, &mut text);
        advice(outlook, asked, language, &mut text);
    }
    if let Some(url) = url {
        text.push_str(language.pick("\nThe API is at ", "\nAPI 地址："));
        text.push_str(url);
        text.push_str(language.pick("/v1.", "/v1。"));
    }
    text
}

/// `text` in the pieces in which it is streamed: words, or single Chinese characters.
pub fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = vec![String::new()];
    for c in text.chars() {
        if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
        if c == ' ' || c == '\n' || !c.is_ascii() {
            pieces.push(String::new());
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn none(language: Language) -> String {
    let (english, chinese) = (
        "\nNo provider is configured. Set a provider's key and start again, for example:\n\n  \
         DEEPSEEK_API_KEY=... mainstay\n\nor name sites in a file: \
         mainstay serve --config mainstay.toml\n",
        "\n还没有配置任何提供商。请设置一个提供商的密钥后重新启动，例如：\n\n  \
         DEEPSEEK_API_KEY=... mainstay\n\n或在文件中写明站点：\
         mainstay serve --config mainstay.toml\n",
    );
    language.pick(english, chinese).to_owned()
}

fn sites(outlook: &Outlook, language: Language, text: &mut String) {
    let count = outlook.sites.len();
    let up = outlook.sites.iter().filter(|site| site.condition.answers()).count();
    text.push_str(&match language {
        Language::English => format!("\n{up} of {count} sites can answer.\n"),
        Language::Chinese => format!("\n{count} 个站点中有 {up} 个可以回答。\n"),
    });
    let mut sites: Vec<&SiteState> = outlook.sites.iter().collect();
    if count > LISTED {
        sites.sort_by_key(|site| std::cmp::Reverse(site.condition));
    }
    for site in sites.iter().take(LISTED) {
        text.push_str(&format!("- {}\n", line(site, language)));
    }
    if let Some(more) = count.checked_sub(LISTED).filter(|more| *more > 0) {
        text.push_str(&match language {
            Language::English => format!("- and {more} more\n"),
            Language::Chinese => format!("- 另有 {more} 个\n"),
        });
    }
}

fn line(site: &SiteState, language: Language) -> String {
    let state = match site.condition {
        Condition::Up => language.pick("up", "运行正常"),
        Condition::Slow => language.pick("slow", "很慢"),
        Condition::Recovering => language.pick("recovering", "正在恢复"),
        Condition::Drained => language.pick("drained: taken out of use", "已下线：被停用"),
        Condition::Full => language.pick("full: throttled or overloaded", "已满：限流或过载"),
        Condition::NoCredit => language.pick("no credit: top up its account", "余额不足：请充值"),
        Condition::KeyRefused => {
            language.pick("refuses its key: check the key", "拒绝了密钥：请检查密钥")
        }
        Condition::Down => language.pick("down: it does not answer", "中断：没有应答"),
    };
    let again = site.again.map(|again| duration(again, language));
    let tail = match (again, language) {
        (None, _) => String::new(),
        (Some(again), Language::English) => format!("; asked again in {again}"),
        (Some(again), Language::Chinese) => format!("；{again}后再试"),
    };
    format!("{}{}{state}{tail}", site.name, language.pick(": ", "："))
}

fn advice(outlook: &Outlook, asked: &str, language: Language, text: &mut String) {
    let model = outlook.models.iter().find(|model| model.name == asked);
    if model.is_some_and(|model| model.by.is_empty()) {
        text.push_str(&match language {
            Language::English => format!("\nNo site can answer {asked} now.\n"),
            Language::Chinese => format!("\n现在没有站点能回答 {asked}。\n"),
        });
    }
    if let Some(retry) = outlook.retry.map(|retry| duration(retry, language)) {
        text.push_str(&match language {
            Language::English => format!("\nTry again in about {retry}.\n"),
            Language::Chinese => format!("\n请约 {retry}后重试。\n"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::gateway::outlook::ModelState;
    use std::time::Duration;

    fn outlook() -> Outlook {
        let again = Some(Duration::from_secs(25));
        let site = |name: &str, condition, again| SiteState { name: name.into(), condition, again };
        Outlook {
            sites: vec![
                site("deepseek", Condition::Down, again),
                site("dashscope", Condition::NoCredit, None),
            ],
            retry: again,
            ..Outlook::default()
        }
    }

    #[test]
    fn every_site_is_named_with_its_state_and_a_time() {
        let by_none = ModelState { name: "chat".into(), by: vec![], substitute: None };
        let outlook = Outlook { models: vec![by_none], ..outlook() };
        let text = text(&outlook, "chat", Some("http://127.0.0.1:8080"), Language::English);
        assert!(text.contains("No site can answer chat now."));
        assert!(text.contains("0 of 2 sites can answer"), "{text}");
        assert!(text.contains("- deepseek: down: it does not answer; asked again in 25 s"));
        assert!(text.contains("- dashscope: no credit"));
        assert!(text.contains("Try again in about 25 s."));
    }

    #[test]
    fn without_a_site_it_says_how_to_add_one() {
        let text = text(&Outlook::default(), "chat", None, Language::of("哪些站点中断了?"));
        assert!(text.contains("还没有配置") && text.contains("DEEPSEEK_API_KEY"), "{text}");
    }

    #[test]
    fn pieces_are_the_text() {
        for language in [Language::English, Language::Chinese] {
            let text = text(&outlook(), "chat", None, language);
            let pieces = pieces(&text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.len() > 20);
        }
    }
}
