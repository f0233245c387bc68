//! The process of Java in which the libraries are.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running `interop/programs/libraries/driver`; ended when it is dropped.
pub(crate) struct Jvm {
    child: Child,
    steps: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

// === impl Jvm ===

impl Jvm {
    /// None where the jars are not, which is said aloud.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin");
        let (jars, driver) = (jars(&bin.join("jars")), bin.join("libraries"));
        if jars.is_empty() || !driver.join("Driver.class").exists() {
            skip(test, "the jars of the libraries are not there: `cargo xtask install --for interop` fetches them");
            return None;
        }
        let path: Vec<String> = std::iter::once(driver).chain(jars).map(|path| path.display().to_string()).collect();
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dproject.name=leno"]);
        command.arg(format!("-Dcsp.sentinel.log.dir={}", env!("CARGO_TARGET_TMPDIR")));
        command.arg("-cp").arg(path.join(":")).arg("Start");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (steps, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, steps, answers })
    }

    /// Takes a step; the words of its answer.
    pub(crate) fn step(&mut self, step: &str) -> (String, String) {
        self.steps.as_mut().unwrap().write_all(format!("{step}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer = line.trim_end().split_once(' ');
        let (answer, state) =
            answer.unwrap_or_else(|| panic!("the driver broke at {step:?}; feed it by hand to see why"));
        (answer.to_owned(), state.to_owned())
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.steps.take());
        let _ = self.child.wait();
    }
}

fn jars(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "jar")).collect()
}

/// Says aloud, and to who counts skips, what did not run.
fn skip(test: &str, why: &str) {
    if let Some(file) = std::env::var_os("LENO_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
    let _ = writeln!(std::io::stdout(), "SKIPPED: {test}: {why}");
}
