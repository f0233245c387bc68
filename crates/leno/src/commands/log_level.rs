//! `leno log-level`: what a running role logs, shown or changed without a restart.

use serde_json::{Value, json};

use super::failure::{Exit, Failure, Outcome};
use crate::args::LogLevelArgs;
use crate::client::Client;
use crate::output::{clean, put, structured, text_at};

/// Shows or changes the filter of the server, or of a proxy by its admin address.
pub fn run(args: &LogLevelArgs) -> Outcome {
    let answer = match args.admin {
        Some(address) => json!({ "filter": of_proxy(&Client::of_admin(address)?, args.filter.as_deref())?.trim() }),
        None => of_server(&Client::new(&args.client)?, args.filter.as_deref())?,
    };
    match structured(args.client.output, &answer) {
        Some(text) => put(text)?,
        None => put(format_args!("{}\n", clean(&text_at(&answer, "/filter"))))?,
    }
    Ok(Exit::Done)
}

fn of_server(client: &Client, filter: Option<&str>) -> Result<Value, Failure> {
    match filter {
        Some(filter) => client.put("/api/v1/log-level", &json!({ "filter": filter })),
        None => client.get("/api/v1/log-level"),
    }
}

/// A proxy's admin listener speaks plain text, for `curl -X PUT -d debug`.
fn of_proxy(client: &Client, filter: Option<&str>) -> Result<String, Failure> {
    match filter {
        Some(filter) => client.put_text("/log-level", filter),
        None => client.get_text("/log-level"),
    }
}
