//! Whether a browser sends a change for a page of another site, whose reader may not know of it.

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};

/// Whether a page of another site sent this. Who is no browser says neither, and is believed.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => !["same-origin", "none"].contains(&site),
        None => text(ORIGIN).is_some_and(|origin| {
            let host = origin.split_once("://").map_or(origin, |(_, host)| host);
            text(HOST) != Some(host)
        }),
    }
}

/// Whether a browser sent this, for a name that anybody may have pointed at this machine.
pub fn is_rebound(headers: &HeaderMap) -> bool {
    let browser = [ORIGIN, HeaderName::from_static("sec-fetch-site")];
    if !browser.iter().any(|name| headers.contains_key(name)) {
        return false;
    }
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host: Option<http::uri::Authority> = host.parse().ok();
    host.is_none_or(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name != "localhost" && name.parse::<std::net::IpAddr>().is_err()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let named = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().expect("a value"))
        };
        all.iter().map(named).collect()
    }

    #[test]
    fn a_page_of_another_site_is_foreign_and_a_program_is_not() {
        assert!(!is_foreign(&headers(&[])));
        assert!(!is_foreign(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(is_foreign(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(!is_foreign(&headers(&[("origin", "https://a.example"), ("host", "a.example")])));
        assert!(is_foreign(&headers(&[("origin", "https://b.example"), ("host", "a.example")])));
        assert!(is_foreign(&headers(&[("origin", "null"), ("host", "a.example")])));
    }

    #[test]
    fn a_name_that_leads_here_is_not_believed_of_a_browser() {
        for sent in [("origin", "http://x"), ("sec-fetch-site", "same-origin")] {
            for host in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "192.0.2.1"] {
                assert!(!is_rebound(&headers(&[("host", host), sent])), "{host}");
            }
            assert!(is_rebound(&headers(&[("host", "evil.example:8081"), sent])));
        }
        assert!(!is_rebound(&headers(&[("host", "admin.internal:8081")])), "no browser");
    }
}
