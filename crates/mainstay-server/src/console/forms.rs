//! What operators fill in: orders, drills, keys; the question whether it is meant; and the door
//! with its login. Plain forms, which need no script.

use super::Documents;
use super::html::{Cell, Html};
use super::live::{is_drilling, list, order_words, site_names, text};
use super::proposal::{LIMITS, Proposal};
use mainstay_core::console::ROWS_MAX;
use serde_json::Value;

/// Where what is filled in goes, to be shown once more.
pub(super) const ASK: &str = "/-/console/ask";
/// Where it goes when it is meant.
pub(super) const DO: &str = "/-/console/do";

/// What is known of who looks at the page.
pub(super) struct Reader<'a> {
    /// As orders and the log have it.
    pub(super) who: &'a str,
    /// What every form of this session sends back.
    pub(super) token: &'a str,
    /// Whether there is a token to log out from.
    pub(super) logged_in: bool,
}

/// Who looks, and a way out.
pub(super) fn greeting(reader: &Reader<'_>, html: &mut Html) {
    html.raw("<div class=\"bar\"><p>You are <strong>").text(reader.who).raw("</strong></p>");
    html.raw(
        "<p><a href=\"/\">Refresh</a> · <a href=\"#act\">Act</a> · <a href=\"#keys\">Keys</a> · ",
    );
    html.raw("<a href=\"#usage\">Usage</a> · <a href=\"/-/\">All documents</a></p>");
    html.raw("<p id=\"fresh\" role=\"status\" class=\"soft\"></p>");
    if reader.logged_in {
        html.raw("<form method=\"post\" action=\"/-/console/logout\">");
        html.hidden("token", reader.token).raw("<button>Log out</button></form>");
    }
    html.raw("</div>\n");
}

/// Orders and drills.
pub(super) fn act(documents: &dyn Documents, reader: &Reader<'_>, html: &mut Html) {
    html.raw("<h2 id=\"act\">Act</h2>\n<p class=\"soft\">Nothing happens before you have seen it ");
    html.raw("once more and confirmed it. Everything ends by itself.</p>\n<div class=\"grid\">\n");
    let view = documents.show("/view").unwrap_or_default();
    let sites = site_names(&view);
    if let Some(orders) = documents.show("/-/orders") {
        order(&sites, reader, html);
        end(list(&orders["orders"]), reader, html);
    }
    if let Some(drill) = documents.show("/-/drill") {
        match is_drilling(&drill) {
            true => stop(&drill, reader, html),
            false => begin(&sites, reader, html),
        }
    }
    html.raw("</div>\n");
}

fn order(sites: &[&str], reader: &Reader<'_>, html: &mut Html) {
    open("Give an order", reader, html);
    html.raw("<label for=\"o-what\">Order</label><select id=\"o-what\" name=\"what\">");
    html.raw("<option value=\"drain\">drain: no new work, what runs is finished</option>");
    html.raw("<option value=\"kill\">kill: no new work, what runs moves at once</option>");
    html.raw("<option value=\"cap\">cap: not more than a share of it</option></select>\n");
    choice(("o-site", "site", "Site"), sites, html);
    input(
        ("o-percent", "percent", "Percent, for a cap"),
        "type=\"number\" min=\"0\" max=\"100\"",
        html,
    );
    input(
        ("o-minutes", "minutes", "For how many minutes"),
        "type=\"number\" min=\"1\" max=\"1440\" value=\"60\" required",
        html,
    );
    input(("o-reason", "reason", "Why"), "maxlength=\"200\" required", html);
    close("Look at it", html);
}

fn end(orders: &[Value], reader: &Reader<'_>, html: &mut Html) {
    if orders.is_empty() {
        return;
    }
    open("End an order", reader, html);
    html.hidden("what", "undrain");
    html.raw("<label for=\"e-order\">Order</label><select id=\"e-order\" name=\"order\">");
    for order in orders.iter().take(ROWS_MAX) {
        html.raw("<option value=\"").whole(text(&order["id"])).raw("\">").text(&order_words(order));
        html.raw(" ").text(order["site"].as_str().unwrap_or("everywhere")).raw(" (");
        html.text(text(&order["reason"])).raw(")</option>");
    }
    html.raw("</select>\n");
    input(("e-reason", "reason", "Why"), "maxlength=\"200\" required", html);
    close("Look at it", html);
}

fn begin(sites: &[&str], reader: &Reader<'_>, html: &mut Html) {
    open("Begin a drill at this gateway", reader, html);
    html.hidden("what", "drill");
    choice(("d-site", "site", "Site"), sites, html);
    let faults = ["down", "blackhole", "slow", "errors", "cut"];
    choice(("d-fault", "fault", "Fault"), &faults, html);
    input(
        ("d-percent", "percent", "Percent of the attempts there"),
        "type=\"number\" min=\"1\" max=\"100\" value=\"5\" required",
        html,
    );
    input(
        ("d-minutes", "minutes", "For how many minutes"),
        "type=\"number\" min=\"1\" max=\"1440\" value=\"2\" required",
        html,
    );
    close("Look at it", html);
}

fn stop(drill: &Value, reader: &Reader<'_>, html: &mut Html) {
    open("A drill is under way", reader, html);
    html.hidden("what", "stop").hidden("drill", &drill["id"].to_string());
    html.raw("<p>").text(text(&drill["how"])).raw(" at ").text(text(&drill["site"])).raw("</p>");
    close("Stop it", html);
}

/// Keys that there are, one that is looked for, and what can be done with them.
pub(super) fn keys(
    documents: &dyn Documents,
    (reader, wanted): (&Reader<'_>, &str),
    html: &mut Html,
) {
    let Some(told) = documents.show("/-/keys") else { return };
    html.raw("<h2 id=\"keys\">Keys</h2>\n");
    html.raw("<form class=\"card\" method=\"get\" action=\"/#keys\"><label for=\"k-key\">Name, ");
    html.raw("tenant or number has in it</label><input id=\"k-key\" name=\"key\" value=\"");
    html.whole(wanted).raw("\"><button>Find</button></form>\n");
    let is_wanted = |key: &&Value| {
        let columns = ["name", "tenant", "id", "prefix"];
        wanted.is_empty() || columns.iter().any(|column| text(&key[*column]).contains(wanted))
    };
    let found: Vec<&Value> = list(&told["keys"]).iter().filter(is_wanted).collect();
    let row = |key: &&Value| {
        let cell = |column: &str| Cell::Text(key[column].as_str().unwrap_or("–").into());
        vec![
            cell("name"),
            Cell::State(text(&key["state"]).into()),
            cell("tier"),
            cell("tenant"),
            cell("prefix"),
            cell("expires"),
            cell("source"),
            cell("author"),
        ]
    };
    let heads = ["Name", "State", "Tier", "Tenant", "Begins with", "Expires", "From", "Made by"];
    let none = ("Callers' keys; no secret is kept", "None is there.");
    html.table(none, &heads, found.iter().map(row)).raw("<div class=\"grid\">\n");
    create(documents, reader, html);
    for (what, title, id) in [
        ("rotate", "Give a key another secret", "k-rotate"),
        ("revoke", "Revoke a key", "k-revoke"),
    ] {
        open(title, reader, html);
        html.hidden("what", what);
        input((id, "key", "Name or number"), "maxlength=\"100\" required", html);
        if what == "rotate" {
            let label = ("k-hours", "hours", "Hours that the old one is let in too");
            input(label, "type=\"number\" min=\"0\" max=\"8760\" value=\"24\"", html);
        }
        close("Look at it", html);
    }
    html.raw("</div>\n");
}

fn create(documents: &dyn Documents, reader: &Reader<'_>, html: &mut Html) {
    open("Create a key", reader, html);
    html.hidden("what", "create");
    input(("c-name", "name", "Name"), "maxlength=\"100\" required", html);
    let tiers = documents.show("/view").unwrap_or_default();
    let tiers: Vec<&str> = list(&tiers["tiers"]).iter().map(text).collect();
    choice(("c-tier", "tier", "Tier"), &tiers, html);
    input(("c-tenant", "tenant", "Tenant"), "maxlength=\"100\"", html);
    html.raw("<details><summary>Bounds</summary>\n");
    input(("c-models", "models", "Models, separated by commas"), "", html);
    input(("c-networks", "networks", "Networks, e.g. 10.0.0.0/8"), "", html);
    input(("c-expires", "expires", "Expires, e.g. 2030-01-31"), "maxlength=\"20\"", html);
    for ((name, label), id) in LIMITS.into_iter().zip(["c-l1", "c-l2", "c-l3", "c-l4", "c-l5"]) {
        input((id, name, label), "inputmode=\"decimal\"", html);
    }
    html.raw("</details>\n");
    close("Look at it", html);
}

/// Whether it is meant.
pub(super) fn question((proposal, number): (&Proposal, u32), reader: &Reader<'_>, html: &mut Html) {
    html.raw("<h1>Do you mean it?</h1>\n<form class=\"card\" method=\"post\" action=\"").raw(DO);
    html.raw("\">\n<h2>").text(&proposal.title).raw("</h2>\n<dl>");
    for (what, value) in &proposal.said {
        html.raw("<dt>").raw(what).raw("</dt><dd>").text(value).raw("</dd>");
    }
    html.raw("<dt>By</dt><dd>").text(reader.who).raw("</dd></dl>\n");
    html.hidden("token", reader.token).hidden("number", &number.to_string());
    if proposal.can_be_much {
        html.raw("<label class=\"one\"><input type=\"checkbox\" name=\"much\" value=\"yes\"> ");
        html.raw("also if more than a third of the capacity is out of service then</label>\n");
    }
    html.raw("<button class=\"grave\">Yes, ").text(&proposal.title).raw("</button>\n");
    html.raw("<p><a href=\"/\">No, go back</a></p></form>\n");
}

/// What came of it.
pub(super) fn outcome(proposal: &Proposal, outcome: &Result<Value, String>, html: &mut Html) {
    match outcome {
        Ok(told) => {
            html.raw("<h1>Done</h1>\n<div class=\"card\" role=\"status\"><p>");
            html.text(&proposal.title);
            if let Some(id) = told["id"].as_str() {
                html.raw(": ").text(id);
            }
            html.raw("</p>\n");
            if let Some(secret) = told["key"].as_str().filter(|_| proposal.has_secret) {
                html.raw("<p>The secret, shown this once. Nothing keeps it; copy it now:</p>");
                html.raw("<p class=\"secret\">").whole(secret).raw("</p>\n");
            }
            html.raw("</div>\n");
        }
        Err(why) => {
            html.raw("<h1>Not done</h1>\n<div class=\"card\" role=\"alert\"><p>");
            html.text(&proposal.title).raw("</p>\n<p>").whole(why).raw("</p>");
            if proposal.can_be_much {
                html.raw("<p class=\"soft\">What takes out much is done where the box is ticked ");
                html.raw("when it is confirmed.</p>");
            }
            html.raw("</div>\n");
        }
    }
    html.raw("<p><a href=\"/\">Back to the console</a></p>\n");
}

/// The login.
pub(super) fn login(why: Option<&'static str>, html: &mut Html) {
    html.raw("<h1>Log in</h1>\n");
    if let Some(why) = why {
        html.raw("<p class=\"card\" role=\"alert\">").raw(why).raw("</p>\n");
    }
    html.raw("<form class=\"card\" method=\"post\" action=\"/-/console/login\">\n");
    html.raw("<label for=\"l-token\">Admin token</label><input id=\"l-token\" name=\"secret\" ");
    html.raw("type=\"password\" autocomplete=\"current-password\" required>\n");
    html.raw("<label for=\"l-name\">Your name, for the record</label><input id=\"l-name\" ");
    html.raw("name=\"name\" maxlength=\"40\" autocomplete=\"username\">\n");
    html.raw("<button>Log in</button></form>\n");
}

/// A page that only says something.
pub(super) fn notice(title: &'static str, text: &'static str, html: &mut Html) {
    html.raw("<h1>").raw(title).raw("</h1>\n<p class=\"card\" role=\"alert\">").raw(text);
    html.raw("</p>\n<p><a href=\"/\">To the console</a></p>\n");
}

fn open(title: &'static str, reader: &Reader<'_>, html: &mut Html) {
    html.raw("<form class=\"card\" method=\"post\" action=\"").raw(ASK).raw("\">\n<h3>");
    html.raw(title).raw("</h3>").hidden("token", reader.token);
}

fn close(button: &'static str, html: &mut Html) {
    html.raw("<button>").raw(button).raw("</button></form>\n");
}

type Named = (&'static str, &'static str, &'static str);

fn input((id, name, label): Named, more: &'static str, html: &mut Html) {
    html.raw("<label for=\"").raw(id).raw("\">").raw(label).raw("</label><input id=\"").raw(id);
    html.raw("\" name=\"").raw(name).raw("\" ").raw(more).raw(">\n");
}

/// One of these; where there are too many for a list, it is typed.
fn choice((id, name, label): Named, values: &[&str], html: &mut Html) {
    if values.len() > ROWS_MAX {
        return input((id, name, label), "required", html);
    }
    html.raw("<label for=\"").raw(id).raw("\">").raw(label).raw("</label><select id=\"").raw(id);
    html.raw("\" name=\"").raw(name).raw("\">");
    for value in values {
        html.raw("<option value=\"").whole(value).raw("\">").text(value).raw("</option>");
    }
    html.raw("</select>\n");
}
