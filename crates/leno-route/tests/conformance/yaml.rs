//! The YAML of a case's first document as JSON values: block and flow collections and scalars, nothing else.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// The only document of a text.
pub(crate) fn read(text: &str) -> Value {
    let mut open: Vec<(Value, Option<String>)> = vec![(Value::Array(vec![]), None)];
    for event in Parser::new_from_str(text) {
        let done = match event.expect("a case is YAML").0 {
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                open.push((Value::Array(vec![]), None));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((Value::Object(Map::new()), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().expect("an end has a start").0,
            _ => continue,
        };
        match open.last_mut().expect("the root stays open") {
            (Value::Array(list), _) => list.push(done),
            (Value::Object(map), key) => match key.take() {
                Some(name) => drop(map.insert(name, done)),
                None => *key = Some(done.as_str().map_or_else(|| done.to_string(), str::to_owned)),
            },
            _ => unreachable!("only collections are open"),
        }
    }
    open[0].0[0].take()
}

fn plain(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .unwrap_or_else(|_| text.into()),
    }
}
