//! The folder that holds the programs and their data, where a user without rights can run them.
//!
//! Everything is copied: a clone below root's home can be read by nobody else, and no program may leave anything in the tree.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{is_root, output, root, run as run_command, scratch};
use crate::test::cache;

/// The user that programs run as when we are root.
pub(crate) const USER: &str = "leno-interop";

const COPY_DEADLINE: Duration = Duration::from_secs(60);

/// The laid out programs; the folder goes when this does, unless we only look at it from inside.
pub(crate) struct Place {
    folder: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl Place {
    /// Copies programs, virtual environment and this tool.
    pub(crate) fn lay_out() -> Result<Self> {
        let owned = scratch("interop")?;
        let place = Place { folder: owned.path().to_path_buf(), _owned: Some(owned) };
        fs::set_permissions(&place.folder, fs::Permissions::from_mode(0o755))?;
        let copies = [
            (cache().join("bin"), "bin"),
            (cache().join("venv/httpbin"), "venv"),
            (root().join("interop/programs"), "programs"),
            (std::env::current_exe()?, "xtask"),
        ];
        for (from, to) in copies {
            run_command(Command::new("cp").arg("-a").arg(&from).arg(place.folder.join(to)), COPY_DEADLINE)?;
        }
        place.empty_data()?;
        Ok(place)
    }

    /// A place that another process laid out.
    pub(crate) fn of(folder: PathBuf) -> Self {
        Place { folder, _owned: None }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the place, as text.
    pub(crate) fn file(&self, path: &str) -> String {
        self.folder.join(path).display().to_string()
    }

    /// Where what a program prints is kept; a file that only we write.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(name)
    }

    /// A program with the variables that every program here gets, whichever way it is joined to the others.
    pub(crate) fn command(&self, name: &str, words: &[String]) -> Result<Command> {
        let work = self.folder.join("work").join(name);
        fs::create_dir_all(&work)?;
        give(&work)?;
        let (program, arguments) = words.split_first().context("a command without words")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&work).env_clear().envs(self.variables(name));
        Ok(command)
    }

    /// The whole environment of a program.
    pub(crate) fn variables(&self, name: &str) -> [(&'static str, String); 4] {
        let work = self.file(&format!("work/{name}"));
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        [("PATH", path.to_owned()), ("HOME", work.clone()), ("LANG", "C.UTF-8".to_owned()), ("TMPDIR", work)]
    }

    /// Removes what programs have stored, so that the next way starts as this one did.
    pub(crate) fn empty_data(&self) -> Result<()> {
        for folder in ["data", "work", "logs"] {
            let path = self.folder.join(folder);
            if path.exists() {
                fs::remove_dir_all(&path)?;
            }
            fs::create_dir(&path)?;
            give(&path)?;
        }
        Ok(())
    }
}

/// Makes the unprivileged user the owner of a folder.
fn give(folder: &Path) -> Result<()> {
    if is_root() {
        let (user, group) = ids()?;
        chown(folder, Some(user), Some(group))?;
    }
    Ok(())
}

/// Words that make the command behind them run without root's rights; none when there are none to give up.
pub(crate) fn unprivileged() -> Result<Vec<String>> {
    if !is_root() {
        return Ok(Vec::new());
    }
    let (user, group) = ids()?;
    let words =
        ["setpriv", "--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups", "--inh-caps=-all"];
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

fn ids() -> Result<(u32, u32)> {
    let line =
        output(Command::new("getent").args(["passwd", USER])).with_context(|| format!("there is no user {USER}"))?;
    let fields: Vec<&str> = line.trim().split(':').collect();
    Ok((fields.get(2).context(USER)?.parse()?, fields.get(3).context(USER)?.parse()?))
}
