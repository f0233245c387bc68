//! `leno demo`: its story, its claims, and that nothing is left behind however it ends.

#![allow(clippy::unwrap_used)]

mod kit;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

use kit::{Leno, leno};
use serde_json::Value;

/// Every claim of the story, in its order.
const CLAIMS: [&str; 14] = [
    "up",
    "retried",
    "canary-0",
    "canary-50",
    "canary-100",
    "survives",
    "mended",
    "refused",
    "unchanged",
    "without-server",
    "back",
    "nothing-lost",
    "failures",
    "clean",
];

fn demo(leno: &Leno, arguments: &[&str]) -> Command {
    let mut command = leno.command(&[&["demo", "--json", "--http-listen", "127.0.0.1:0"], arguments].concat());
    command.env("TMPDIR", leno.path(""));
    command
}

/// Starts it, and reads what it says until this claim.
fn demo_until(leno: &Leno, claim: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = demo(leno, &[]).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while said.read_line(&mut line).unwrap() > 0 {
        if serde_json::from_str::<Value>(&line).unwrap()["claim"] == claim {
            return (child, said);
        }
        line.clear();
    }
    panic!("the demo ended before it claimed {claim}: {:?}", child.wait_with_output());
}

/// How many processes work in a directory that the demo made here.
fn processes_of(place: &Path) -> usize {
    let works_here = |process: std::io::Result<std::fs::DirEntry>| {
        let directory = std::fs::read_link(process.ok()?.path().join("cwd")).ok()?;
        directory.starts_with(place).then_some(directory.file_name()?.to_str()?.starts_with("leno-demo"))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(works_here).filter(|is_demo| *is_demo).count()
}

fn directories_of(place: &Path) -> usize {
    let names = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with("leno-demo")).count()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

#[test]
fn every_claim_of_the_story_holds_and_nothing_is_left() {
    let leno = leno();
    let output = demo(&leno, &["--for", "25s"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.last().unwrap();
    let claims = summary["claims"].as_array().unwrap();
    let broken: Vec<&Value> = claims.iter().filter(|claim| claim["held"] != true).collect();
    assert!(broken.is_empty() && output.status.success(), "{broken:#?}\n{summary:#}");
    let names: Vec<&str> = claims.iter().map(|claim| claim["claim"].as_str().unwrap()).collect();
    assert_eq!(names, CLAIMS);
    assert!(summary["requests"].as_u64().unwrap() > 500 && summary["failures"] == 0, "{summary:#}");
    assert!(text.contains("/login?code="), "no link to the dashboard");
    assert_eq!((processes_of(&leno.path("")), directories_of(&leno.path(""))), (0, 0));
}

#[test]
fn an_interrupt_ends_it_with_a_summary_and_leaves_nothing() {
    let leno = leno();
    let (mut child, said) = demo_until(&leno, "up");
    assert_eq!(processes_of(&leno.path("")), 18);
    signal(&child, rustix::process::Signal::INT);
    let summary: Value = serde_json::from_str(&said.lines().last().unwrap().unwrap()).unwrap();
    let told = ["event", "ended", "complete", "held"].map(|name| summary[name].to_string());
    assert_eq!(told, ["\"summary\"", "\"asked\"", "false", "false"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!((processes_of(&leno.path("")), directories_of(&leno.path(""))), (0, 0));
}

#[test]
fn its_processes_end_with_it_although_it_is_killed() {
    let leno = leno();
    let (mut child, _said) = demo_until(&leno, "up");
    child.kill().unwrap();
    child.wait().unwrap();
    let is_alone = || processes_of(&leno.path("")) == 0;
    // The kernel kills them; how long that takes is its business.
    for _ in 0..1000 {
        if is_alone() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} processes outlive the demo", processes_of(&leno.path("")));
}

#[test]
fn a_port_in_use_is_named_with_the_fix_and_nothing_is_started() {
    let leno = leno();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = leno.run(&["demo", "--http-listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("in use") && ran.err.contains("fix:"), "{}", ran.err);
}
