use super::*;

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().copied().collect()
}

#[test]
fn names_are_found_in_any_case_and_kept_as_spelt() {
    let f = fields(&[("X-One", "1"), ("x-Two", "2"), ("X-ONE", "3")]);
    assert_eq!(f.get("x-one"), Some(&b"1"[..]));
    assert_eq!(f.get_all("X-one").collect::<Vec<_>>(), [b"1", b"3"]);
    assert_eq!(f.iter().map(|(n, _)| n).collect::<Vec<_>>(), [b"X-One", b"x-Two", b"X-ONE"]);
}

#[test]
fn set_keeps_the_first_place_and_spelling_and_drops_the_others() {
    let mut f = fields(&[("A", "1"), ("X-One", "1"), ("x-one", "2"), ("B", "3")]);
    assert!(f.set("x-one", "new"));
    assert_eq!(f, fields(&[("A", "1"), ("X-One", "new"), ("B", "3")]));
}

#[test]
fn no_value_ends_a_line_and_no_name_is_anything_but_a_token() {
    let mut f = Fields::new();
    assert!(f.append("a", " x\r\nEvil: 1\0 "));
    assert_eq!(f.get("a"), Some(&b"x  Evil: 1"[..]));
    assert!(!f.append("a b", "1") && !f.append("", "1") && !f.append("a:", "1"));
    assert_eq!(f.len(), 1);
}

#[test]
fn fields_of_one_connection_are_stripped_with_what_connection_names() {
    let mut f = fields(&[
        ("Connection", "keep-alive, X-Drop"),
        ("Keep-Alive", "timeout=5"),
        ("X-Drop", "1"),
        ("TE", "trailers, gzip"),
        ("Transfer-Encoding", "chunked"),
        ("X-Keep", "1"),
        ("Upgrade", "websocket"),
        ("HTTP2-Settings", "AAA"),
    ]);
    f.strip_hop_by_hop(Upgrades::Drop).unwrap();
    assert_eq!(f, fields(&[("X-Keep", "1"), ("te", "trailers")]));
}

#[test]
fn an_upgrade_is_kept_when_asked_for_but_never_h2c() {
    let mut f = fields(&[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c, websocket")]);
    f.strip_hop_by_hop(Upgrades::Keep).unwrap();
    assert_eq!(f, fields(&[("Connection", "Upgrade"), ("Upgrade", "websocket")]));
    let mut f = fields(&[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "A")]);
    f.strip_hop_by_hop(Upgrades::Keep).unwrap();
    assert!(f.is_empty());
}

#[test]
fn connection_may_not_name_what_others_rely_upon() {
    for name in ["Host", "authorization", "X-Leno-Source", "traceparent", "X-Forwarded-For"] {
        let mut f = fields(&[("Connection", &format!("close, {name}")), (name, "1")]);
        assert_eq!(f.strip_hop_by_hop(Upgrades::Drop), Err(ProtectedNominated), "{name}");
    }
}

#[test]
fn underscores_are_found_in_names_alone() {
    let with = |name: &str, value: &str| [(name, value)].into_iter().collect::<Fields>().has_underscored_names();
    assert!(with("X_User_Id", "1") && with("_", "") && !with("X-User-Id", "a_b") && !with("X-A", ""));
}
