use super::*;

fn spelt(target: &str) -> Result<String, PathFault> {
    canonical(target.as_bytes(), EscapedSlashes::Refuse).map(|new| new.unwrap_or_else(|| target.to_owned()))
}

#[test]
fn a_canonical_target_stays_where_it_is() {
    for target in [
        "/",
        "/a/b.c/d-e_f~g",
        "/.well-known/acme",
        "/a/...",
        "/a/..b/.c./d..",
        "/a%20b/%C3%A9/%E2%82%AC/%F0%9F%98%80",
        "/%252E%252E/%3B%3F%23%7C",
        "/a;x=1/b;y",
        "/!$&'()*+,;=:@",
        "/a?b=//../%2f%00%zz\\|{}",
        "/?",
        "/a/..b?x",
        "/a?/../b",
    ] {
        assert_eq!(canonical(target.as_bytes(), EscapedSlashes::Refuse), Ok(None), "{target}");
    }
}

#[test]
fn every_spelling_of_a_path_comes_to_one() {
    for (target, wanted) in [
        ("/pub/../admin", "/admin"),
        ("/pub/%2e%2e/admin", "/admin"),
        ("/pub/.%2E/admin", "/admin"),
        ("//admin", "/admin"),
        ("///a////b//", "/a/b/"),
        ("/pub\\..\\admin", "/admin"),
        ("\\admin", "/admin"),
        ("/pub;x/../admin", "/admin"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/a//../b", "/b"),
        ("/%61dmin", "/admin"),
        ("/%7euser", "/~user"),
        ("/a%3bb%c3%a9", "/a%3Bb%C3%A9"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/a|b[c]", "/a%7Cb%5Bc%5D"),
        ("/a/../b?x=/../y", "/b?x=/../y"),
        ("/./;/a", "/;/a"),
        ("/a/..?b", "/?b"),
        ("/a/.?b", "/a/?b"),
        ("/a//?b", "/a/?b"),
    ] {
        assert_eq!(spelt(target).as_deref(), Ok(wanted), "{target}");
    }
}

#[test]
fn what_has_no_one_reading_is_refused() {
    for (target, fault) in [
        ("/a%2fb", PathFault::EscapedSlash),
        ("/pub%2F..%2Fadmin", PathFault::EscapedSlash),
        ("/a%5cb", PathFault::EscapedSlash),
        ("/a%00b", PathFault::EscapedNul),
        ("/a%", PathFault::Escape),
        ("/a%4", PathFault::Escape),
        ("/a%zz", PathFault::Escape),
        ("/a%u002e", PathFault::Escape),
        ("/%c0%af", PathFault::Overlong),
        ("/%C1%9C", PathFault::Overlong),
        ("/%e0%80%af", PathFault::Overlong),
        ("/%f0%80%80%af", PathFault::Overlong),
        ("/%f8%80%80%80%af", PathFault::Overlong),
        ("/%fc%80%80%80%80%af", PathFault::Overlong),
        ("/..", PathFault::AboveRoot),
        ("/../a", PathFault::AboveRoot),
        ("/a/../../b", PathFault::AboveRoot),
        ("/\\..\\a", PathFault::AboveRoot),
        ("/pub/..;/admin", PathFault::DotParameters),
        ("/pub/.;x/admin", PathFault::DotParameters),
        ("/pub/%2e%2e;/admin", PathFault::DotParameters),
        ("/a\"b", PathFault::Character('"')),
        ("/a{b}", PathFault::Character('{')),
        ("/a^b", PathFault::Character('^')),
        ("/a`b", PathFault::Character('`')),
        ("/a<b", PathFault::Character('<')),
        ("a", PathFault::Relative),
        ("", PathFault::Relative),
    ] {
        assert_eq!(spelt(target), Err(fault), "{target}");
    }
    // What is not overlong passes, whatever it is.
    assert_eq!(spelt("/%e0%a4%b9%ff%f0%90%80%80").as_deref(), Ok("/%E0%A4%B9%FF%F0%90%80%80"));
}

#[test]
fn escaped_slashes_are_kept_for_those_who_ask() {
    let kept = |target: &str| canonical(target.as_bytes(), EscapedSlashes::Keep);
    assert_eq!(kept("/@scope%2fname"), Ok(Some("/@scope%2Fname".to_owned())));
    assert_eq!(kept("/a%2Fb%5Cc/../d"), Ok(Some("/d".to_owned())));
    assert_eq!(kept("/a%5Cb/..c%2F"), Ok(None));
    for hidden in ["/pub%2f..%2fadmin", "/pub/..%2fadmin", "/pub/a%5c.", "/%2f..;x"] {
        assert_eq!(kept(hidden), Err(PathFault::EscapedSlash), "{hidden}");
    }
}

#[test]
fn what_is_canonical_stays_canonical() {
    let alphabet = ["/", ".", "a", ";", "%2e", "%41", "\\", "%3b", "%25", "|", "?", "b;c", "%c3%a9"];
    let mut state = 7u64;
    for _ in 0..20_000 {
        let mut target = "/".to_owned();
        for _ in 0..state % 9 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            target.push_str(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        state = state.wrapping_add(target.len() as u64);
        let Ok(once) = spelt(&target) else { continue };
        assert_eq!(canonical(once.as_bytes(), EscapedSlashes::Refuse), Ok(None), "{target} became {once}");
    }
}

#[test]
fn parameters_are_cut_off_each_segment() {
    for (path, wanted) in [
        ("/a;x=1/b", "/a/b"),
        ("/a/b;x;y", "/a/b"),
        ("/;x/admin", "/admin"),
        ("/a/;x", "/a/"),
        ("/;", "/"),
        ("/a;x/", "/a/"),
    ] {
        assert_eq!(without_parameters(path).as_deref(), Some(wanted), "{path}");
    }
    assert_eq!(without_parameters("/a/b"), None);
}

#[test]
fn a_length_without_parameters_is_found_in_the_path_itself() {
    for (path, bare, wanted) in [
        ("/a;x/b;y/c", "/a/b", "/a;x/b"),
        ("/a;x/b", "/a", "/a"),
        ("/;x/a;y", "/a", "/;x/a"),
        ("/a;x", "", ""),
        ("/a;x/b", "/a/b", "/a;x/b"),
    ] {
        assert_eq!(&path[..literal_len(path, bare.len())], wanted, "{path} {bare}");
    }
}
