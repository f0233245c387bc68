use super::*;

/// 2026-11-22T00:00:00Z.
const NOW: u64 = 1_795_305_600_000;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn control(value: &str) -> CacheControl {
    CacheControl::of(&Fields::from_iter([("cache-control", value)]))
}

fn request(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(Method::Get, "cart", "/");
    head.fields = fields.iter().copied().collect();
    head
}

fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    head.fields = fields.iter().copied().collect();
    head
}

/// The terms of an answer with these fields to a request with those.
fn terms(asked: &[(&str, &str)], told: &[(&str, &str)]) -> Option<Terms> {
    Terms::of(&request(asked), &response(200, told), NOW, Duration::ZERO)
}

fn kept(told: &str) -> Terms {
    terms(&[], &[("cache-control", told)]).unwrap()
}

#[test]
fn directives_are_read_in_any_case_and_what_is_no_number_is_none_at_all() {
    let read = control("Max-Age=60, s-maxage=\"5\", PUBLIC ,, must-revalidate");
    assert_eq!((read.max_age, read.s_maxage, read.public, read.must_revalidate), (Some(60), Some(5), true, true));
    for bad in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=x"] {
        assert_eq!(control(bad).max_age, Some(0), "{bad}");
    }
    assert_eq!(control("max-age=99999999999999999999").max_age, Some(SECONDS_MAX));
    assert_eq!(control("max-age=60, max-age=10").max_age, Some(10), "the stricter one");
    assert!(control("private=\"set-cookie\"").private && control("proxy-revalidate").must_revalidate);
    let quoted = control("x=\"a, max-age=9, \\\" no-store\", max-age=1");
    assert_eq!((quoted.max_age, quoted.no_store), (Some(1), false), "what is quoted is nobody's directive");
    assert_eq!((control("max-stale").max_stale, control("max-stale=5").max_stale), (Some(SECONDS_MAX), Some(5)));
}

#[test]
fn what_may_not_be_kept_is_not() {
    let some = [("cache-control", "max-age=60")];
    assert!(terms(&[], &some).is_some());
    for told in ["no-store", "private", "private, max-age=60", "max-age=60, no-store"] {
        assert_eq!(terms(&[], &[("cache-control", told)]), None, "{told}");
    }
    assert_eq!(terms(&[("cache-control", "no-store")], &some), None);
    for field in [("set-cookie", "a=b"), ("vary", "accept, *"), ("content-range", "bytes 0-1/2")] {
        assert_eq!(terms(&[], &[some[0], field]), None, "{field:?}");
    }
    for status in [206, 302, 304, 500, 503] {
        assert_eq!(Terms::of(&request(&[]), &response(status, &some), NOW, s(0)), None, "{status}");
    }
    let mut post = request(&[]);
    post.method = Method::Post;
    assert_eq!(Terms::of(&post, &response(200, &some), NOW, s(0)), None);
}

#[test]
fn an_answer_to_somebody_is_kept_for_all_only_where_it_says_so() {
    let named = [("authorization", "Bearer a")];
    assert_eq!(terms(&named, &[("cache-control", "max-age=60")]), None);
    for told in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
        assert!(terms(&named, &[("cache-control", told)]).is_some(), "{told}");
    }
    assert!(kept("max-age=60, public").is_for_all && !kept("max-age=60").is_for_all);
}

#[test]
fn an_answer_is_good_for_as_long_as_it_says_for_shared_caches_first() {
    let of = |told: &[(&str, &str)]| terms(&[], told).unwrap().lifetime;
    assert_eq!(of(&[("cache-control", "max-age=60, s-maxage=5")]), s(5));
    let (date, expires) = (("date", "Sun, 22 Nov 2026 00:00:00 GMT"), ("expires", "Sun, 22 Nov 2026 00:01:00 GMT"));
    assert_eq!(of(&[date, expires]), s(60));
    assert_eq!(of(&[date, expires, ("cache-control", "max-age=5")]), s(5));
    assert_eq!(of(&[date, ("expires", "0")]), s(0));
    assert_eq!(of(&[("last-modified", "Sun, 22 Nov 2020 00:00:00 GMT")]), s(0), "nothing is guessed");
}

#[test]
fn an_answer_is_as_old_as_its_date_or_what_was_said_of_it() {
    let of = |told: &[(&str, &str)], took| Terms::of(&request(&[]), &response(200, told), NOW, took).unwrap().age;
    assert_eq!(of(&[("date", "Sat, 21 Nov 2026 23:59:50 GMT")], s(0)), s(10));
    assert_eq!(of(&[("age", "30")], s(2)), s(32));
    assert_eq!(of(&[("date", "Sun, 22 Nov 2026 00:01:00 GMT")], s(0)), s(0), "a clock that is ahead");
}

#[test]
fn a_request_says_how_fresh_what_it_takes_has_to_be() {
    let (terms, any) = (kept("max-age=60"), CacheControl::default());
    assert_eq!(terms.verdict(&any, s(59)), Verdict::Fresh);
    assert_eq!(terms.verdict(&any, s(60)), Verdict::Stale(s(0)));
    assert_eq!(terms.verdict(&control("no-cache"), s(0)), Verdict::Validate);
    assert_eq!(terms.verdict(&control("max-age=10"), s(11)), Verdict::Validate);
    assert_eq!(terms.verdict(&control("min-fresh=10"), s(51)), Verdict::Validate);
    assert_eq!(terms.verdict(&control("max-stale=10"), s(70)), Verdict::Fresh);
    assert_eq!(terms.verdict(&control("max-stale=10"), s(71)), Verdict::Stale(s(11)));
    for strict in ["max-age=60, must-revalidate", "s-maxage=60"] {
        assert_eq!(kept(strict).verdict(&control("max-stale"), s(61)), Verdict::Validate, "{strict}");
    }
    assert_eq!(kept("max-age=60, no-cache").verdict(&any, s(0)), Verdict::Validate);
    let old = CacheControl::of_request(&Fields::from_iter([("pragma", "no-cache")]));
    assert_eq!(terms.verdict(&old, s(0)), Verdict::Validate);
}

#[test]
fn what_is_stale_stands_in_as_long_as_may_be_and_never_where_it_forbids_that() {
    assert!(kept("max-age=60").stands_in(s(90), s(30)));
    assert!(!kept("max-age=60").stands_in(s(91), s(30)));
    assert!(kept("max-age=60, must-revalidate").stands_in(s(59), s(0)));
    assert!(!kept("max-age=60, must-revalidate").stands_in(s(61), s(30)));
    assert!(!kept("max-age=60, no-cache").stands_in(s(1), s(30)));
}

#[test]
fn a_client_that_has_what_is_kept_is_told_so() {
    let kept = Fields::from_iter([("etag", "\"a\""), ("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT")]);
    let is = |name, value| is_not_modified(&Fields::from_iter([(name, value)]), &kept);
    assert!(is("if-none-match", "\"b\", W/\"a\"") && is("if-none-match", "*") && !is("if-none-match", "\"b\""));
    assert!(is("if-modified-since", "Sun, 22 Nov 2026 00:00:00 GMT"));
    assert!(!is("if-modified-since", "Sat, 21 Nov 2026 00:00:00 GMT") && !is("if-modified-since", "x"));
    let both = Fields::from_iter([("if-none-match", "\"b\""), ("if-modified-since", "Sun, 22 Nov 2026 00:00:00 GMT")]);
    assert!(!is_not_modified(&both, &kept), "tags come before dates");
}

#[test]
fn a_date_is_read_in_its_three_forms_and_in_no_other() {
    let expected = Some(784_111_777_000);
    for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        assert_eq!(parse_date(date.as_bytes()), expected, "{date}");
    }
    assert_eq!(parse_date(b"Sun, 22 Nov 2026 00:00:00 GMT"), Some(NOW));
    assert_eq!(parse_date(b"Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000_000));
    for bad in [
        "",
        "0",
        "-1",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994",
        "Mon, 01 Jan 1900 00:00:00 GMT",
        "Sun Nov",
    ] {
        assert_eq!(parse_date(bad.as_bytes()), None, "{bad}");
    }
}
