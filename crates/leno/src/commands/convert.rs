//! `leno convert`: rules and settings of other products made into resources, and what of them is not carried over.
//!
//! The resources are data, on standard output or in a file; everything else is said on standard error.

use leno_convert::Options;
use leno_model::name::{ServiceName, check_label};

use super::apply::explain;
use super::failure::{Exit, Failure, Outcome};
use super::files::Files;
use crate::args::ConvertArgs;
use crate::output::{count, put, say};

/// Converts the files.
pub fn run(args: ConvertArgs) -> Outcome {
    let files = Files::read(&args.files)?;
    let options = options(&args)?;
    let converted = leno_convert::convert(files.iter(), &options);
    explain(&files, &converted.faults);
    explain(&files, &converted.lost);
    if !converted.faults.is_empty() {
        return Err(Failure::usage("nothing was converted", ""));
    }
    match &args.output {
        Some(path) if converted.resources > 0 => std::fs::write(path, &converted.text).map_err(|error| {
            Failure::usage(format!("{}: {error}", path.display()), "name a file in a directory that you may write to")
        })?,
        Some(_) => {}
        None => put(&converted.text)?,
    }
    let resources = count(converted.resources, "resource");
    match converted.lost.len() {
        0 => {
            say(format_args!("{resources}: everything was carried over"));
            Ok(Exit::Done)
        }
        lost => {
            say(format_args!("{resources}, {}: not everything was carried over", count(lost, "warning")));
            Ok(Exit::No)
        }
    }
}

fn options(args: &ConvertArgs) -> Result<Options, Failure> {
    let wrong = |why: String| Failure::usage(why, "write a name as `cart`, or `cart.shop` with its namespace");
    check_label(&args.namespace).map_err(|error| wrong(format!("--namespace: {error}")))?;
    let service = args.service.as_deref().map(|name| {
        let service = ServiceName::from_host(name, &args.namespace);
        service.ok_or_else(|| wrong(format!("--service: {name:?} is not the name of a service")))
    });
    Ok(Options {
        service: service.transpose()?,
        namespace: args.namespace.clone(),
        mapped: args.mapped.clone(),
        parameters: args.parameters.clone(),
    })
}
