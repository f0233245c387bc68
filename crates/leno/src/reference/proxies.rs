//! `proxies.md`: which programs honour which fields of policies.

use std::fmt::Write as _;

use leno_xds::honour::{Honour, ROWS};

use super::{MADE, cell, page};

#[test]
fn the_page_of_proxies_is_what_the_code_says() {
    let mut out = format!(
        "# Who honours what\n\n{MADE}\n\nleno's proxies honour every field of every policy. Envoys that leno serves, and programs that speak gRPC by xDS \
         without a proxy, honour what they have: here is what they do with each field, and with those below it that have no row. `leno check -f FILES \
         --for envoy --for grpc` says it of policies as they are written, with the place and the fix; `leno check` says it of the proxies that are \
         connected to a server.\n\n| kind | field | Envoy | gRPC without a proxy |\n| --- | --- | --- | --- |\n"
    );
    let says = |honour: Honour| match honour {
        Honour::Whole => "yes".to_owned(),
        Honour::Nearly(instead) => format!("nearly: {instead}"),
        Honour::Not(instead) => format!("no: {instead}"),
        Honour::Beside => "leno's proxy beside each instance does it, whoever calls".to_owned(),
    };
    for row in ROWS {
        let value = row.value.map(|value| format!(": {value}")).unwrap_or_default();
        let (envoy, grpc) = (cell(&says(row.envoy)), cell(&says(row.grpc)));
        let _ = writeln!(out, "| {} | `{}{value}` | {envoy} | {grpc} |", row.kind, row.path);
    }
    page("proxies.md", &out);
}
