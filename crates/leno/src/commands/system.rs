//! `leno system`: a server's state copied out while it runs, and put back while it does not.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leno_control::audit::Audit;
use leno_model::identity::{Principal, Role};
use leno_model::seam::Clock;
use leno_runtime::SystemClock;
use leno_runtime::guard::Audited;
use leno_store::SqliteStore;
use leno_store::sqlite::{OpenError, Options as SqliteOptions, RestoreError, restore};

use super::failure::{Exit, Failure, Outcome};
use crate::args::{ClientArgs, SystemVerb};
use crate::client::Client;
use crate::output::put;
use crate::settings;

/// Runs the verb.
pub fn run(verb: &SystemVerb) -> Outcome {
    match verb {
        SystemVerb::Backup { file, client } => backup(file, client),
        SystemVerb::Restore { file, data_dir, force } => bring_back(file, data_dir.as_deref(), *force),
    }
}

/// Downloads the state into a new file that only its owner can read: it holds everything but the tokens.
fn backup(path: &Path, args: &ClientArgs) -> Outcome {
    let client = Client::new(args)?;
    let mut file = create(path)?;
    let written = client.download("/api/v1/backup", &mut file).and_then(|length| {
        file.sync_all().map_err(|error| failed(path, &error))?;
        Ok(length)
    });
    match written {
        Ok(length) => put(format_args!("state of {} in {}, {length} bytes\n", client.url(), path.display()))?,
        Err(failure) => {
            // Half a backup is none.
            let _ = std::fs::remove_file(path);
            return Err(failure);
        }
    }
    Ok(Exit::Done)
}

fn create(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(format!("{} exists", path.display()), "name a new file"),
        _ => failed(path, &error),
    })
}

/// Puts the backup in the place of the state, which stays beside it.
fn bring_back(backup: &Path, data_dir: Option<&Path>, force: bool) -> Outcome {
    let data_dir = data_dir.map_or_else(settings::default_data_dir, Path::to_owned);
    let state = settings::state_file(&data_dir);
    File::open(backup).map_err(|error| failed(backup, &error))?;
    if state.exists() && !force {
        let fix = "stop the server and give --force: the state that is there is kept beside it";
        return Err(Failure::new(Exit::Conflict, format!("{} is there", state.display()), fix));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&data_dir).map_err(|error| failed(&data_dir, &error))?;
    let restored = restore(backup, &state).map_err(|error| refused(&error))?;
    record(&state, backup).map_err(|error| {
        let fix = "the state is restored; see whether the disk is full, and start the server";
        Failure::new(Exit::No, format!("the audit log does not have it: {error:#}"), fix)
    })?;
    let previous = |path: PathBuf| format!("; what was there is in {}", path.display());
    let (was, now, kept) = (restored.backup_revision, restored.revision, restored.previous.map(previous));
    put(format_args!(
        "{} is as it was at store revision {was}, and goes on from {now}{}\n",
        state.display(),
        kept.unwrap_or_default()
    ))?;
    Ok(Exit::Done)
}

/// Writes the restoring into the audit log of the state that is restored: no server was there to do it.
fn record(state: &Path, backup: &Path) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Arc::new(SqliteStore::open(state, clock.clone(), SqliteOptions::default())?);
        let who = format!("uid {}", rustix::process::getuid().as_raw());
        let principal = Principal { name: who, role: Role::Admin };
        let audited = Audited::done(Some(principal), "restore", &backup.display().to_string());
        Audit::open(store, clock).await?.try_record(audited).await?;
        Ok(())
    })
}

fn refused(error: &RestoreError) -> Failure {
    let exit = match error {
        RestoreError::Open(OpenError::Locked { .. }) => Exit::Conflict,
        _ => Exit::Usage,
    };
    // What the store says names the fix itself.
    Failure::new(exit, error.to_string(), "")
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()), "check the name, and whether you may read and write there")
}
