//! `flags.md`: what stands in the access log, in `response_flags` and in `x-leno-reason` when something went wrong.

use std::fmt::Write as _;

use leno_telemetry::flag::{Flag, REASON_FIELD};

use super::{MADE, cell, page};

#[test]
fn the_page_of_flags_is_what_the_code_says() {
    let mut out = format!(
        "# Flags\n\n{MADE}\n\nWhat went wrong with a request or a connection. The flag stands in the access log (`response_flags`) and in metrics; it is Envoy's \
         where Envoy has one, so several reasons may share it. The reason is in the access log as `response_code_details`, and in the field `{REASON_FIELD}` of \
         every answer that a proxy makes itself.\n\n| flag | reason | |\n| --- | --- | --- |\n"
    );
    for flag in Flag::ALL {
        let _ = writeln!(out, "| `{}` | `{}` | {} |", flag.code(), flag.reason(), cell(flag.meaning()));
    }
    page("flags.md", &out);
}
