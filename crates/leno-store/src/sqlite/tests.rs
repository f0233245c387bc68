#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::*;
use crate::suite::{self, TurnedClock};
use crate::{Op, VALUE_MAX};

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    open_with(path, Options::default())
}

fn open_with(path: &Path, options: Options) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Arc::new(TurnedClock::default()), options)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn sqlite_keeps_the_promises_of_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    suite::run(|clock| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = directory.path().join(format!("{number}.db"));
        async move { Arc::new(SqliteStore::open(&path, clock, Options::default()).unwrap()) as Arc<dyn Store> }
    });
}

#[test]
fn everything_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let before = block_on(async {
        let store = open(&path).unwrap();
        store.put("a", "1".into()).await.unwrap();
        store.put("a", "2".into()).await.unwrap();
        store.delete("a").await.unwrap();
        store.put("b", "3".into()).await.unwrap();
        store.range("", None).await.unwrap()
    });
    block_on(async {
        let store = open(&path).unwrap();
        assert_eq!(store.range("", None).await.unwrap(), before);
        assert_eq!(store.range("", Some(1)).await.unwrap().items[0].value, "1");
        let mut watch = store.watch("", 1).await.unwrap();
        for revision in 1..=4 {
            assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
        }
        assert_eq!(store.put("c", "5".into()).await, Ok(5));
        assert_eq!(watch.next().await.unwrap().unwrap().revision, 5);
    });
}

#[test]
fn a_lease_gets_its_full_duration_anew_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let second = Duration::from_secs(1);
    block_on(async {
        let clock = Arc::new(TurnedClock::default());
        let store = SqliteStore::open(&path, clock.clone(), Options::default()).unwrap();
        let lease = store.lease_grant(10 * second).await.unwrap();
        let put = Op::Put { key: "k".into(), value: "x".into(), lease: Some(lease) };
        store.txn(Txn::new().then(put)).await.unwrap();
        clock.turn(9 * second);
        drop(store);
        let store = SqliteStore::open(&path, clock.clone(), Options::default()).unwrap();
        clock.turn(9 * second);
        store.lease_expire().await.unwrap();
        assert!(store.get("k").await.unwrap().is_some());
        clock.turn(second);
        store.lease_expire().await.unwrap();
        assert_eq!(store.get("k").await, Ok(None));
        assert!(store.lease_grant(second).await.unwrap() > lease);
    });
}

#[test]
fn writes_that_wait_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&directory.path().join("state.db")).unwrap();
        let keys: Vec<String> = (0..500).map(|i| format!("k/{i}")).collect();
        join_all(keys.iter().map(|key| store.put(key, "x".into()))).await;
        let stats = store.stats();
        assert_eq!(stats.writes, 500);
        assert!(stats.commits < 250, "{stats:?}");
    });
}

#[test]
fn a_watch_reads_from_disk_what_memory_has_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&directory.path().join("state.db")).unwrap();
        let keys: Vec<String> = (0..5000).map(|i| format!("k/{}", i % 7)).collect();
        join_all(keys.iter().map(|key| store.put(key, "x".into()))).await;
        let mut watch = store.watch("k/3", 1).await.unwrap();
        let (mut seen, mut last) = (0, 0);
        while seen < keys.iter().filter(|key| *key == "k/3").count() {
            let changes = watch.next().await.unwrap().unwrap();
            assert!(changes.revision > last);
            (seen, last) = (seen + changes.changes.len(), changes.revision);
        }
    });
}

#[test]
fn history_is_compacted_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let options = Options { history_revisions: 50, ..Options::default() };
    block_on(async {
        let store = open_with(&path, options).unwrap();
        for i in 0..200_u32 {
            store.put(if i == 0 { "old" } else { "k" }, i.to_string().into()).await.unwrap();
        }
        assert!(matches!(store.range("", Some(20)).await, Err(Error::Compacted { .. })));
        assert_eq!(store.range("", Some(150)).await.unwrap().items.len(), 2);
        assert!(store.get("old").await.unwrap().is_some());
    });
    let rows: u64 =
        schema::open_reader(&path).unwrap().query_row("SELECT count(*) FROM versions", [], |row| row.get(0)).unwrap();
    assert!(rows <= 102, "{rows}");
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(1000), history_revisions: 1 };
    block_on(async {
        let store = open_with(&directory.path().join("state.db"), options).unwrap();
        store.put("a", "1".into()).await.unwrap();
        let mut watch = store.watch("", 2).await.unwrap();
        let big = || Bytes::from(vec![7; VALUE_MAX]);
        let mut full = 0;
        for i in 0..10 {
            match store.put(&format!("big/{i}"), big()).await {
                Ok(_) => assert_eq!(full, 0),
                Err(Error::DiskFull { .. }) => full += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(full > 0);
        assert_eq!(store.get("a").await.unwrap().unwrap().value, "1");
        assert_eq!(watch.next().await.unwrap().unwrap().revision, 2);
        // Room is made: writes go on by themselves.
        assert!(store.delete("big/0").await.unwrap());
        store.compact(store.range("a", None).await.unwrap().revision).await.unwrap();
        store.put("a", "2".into()).await.unwrap();
    });
}

#[test]
fn a_store_in_use_is_refused_with_the_process_that_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let first = open(&path).unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains(&format!("in use by another leno (process {})", std::process::id())), "{message}");
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_damaged_store_is_refused_with_the_way_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    block_on(async { open(&path).unwrap().put("a", vec![7; 100_000].into()).await.unwrap() });
    let sound = std::fs::read(&path).unwrap();
    let mut torn = sound.clone();
    torn.truncate(sound.len() / 2);
    let mut scribbled = sound.clone();
    scribbled[4096..8192].fill(0xAA);
    for damaged in [torn, scribbled, b"not a database at all, but long enough to be taken for one by its size".to_vec()]
    {
        std::fs::write(&path, damaged).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("leno system restore"), "{error}");
    }
}

#[test]
fn a_newer_schema_is_refused_with_the_version_that_wrote_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    drop(open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 9).unwrap();
    connection.execute("UPDATE meta SET value = '7.3.1' WHERE name = 'written_by'", []).unwrap();
    drop(connection);
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains("schema 9") && message.contains("use leno 7.3.1 or later"), "{message}");
}

#[test]
fn a_file_of_another_program_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(open(&path), Err(OpenError::NotAStore { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_missing_directory_is_refused_with_its_path() {
    let message = open(Path::new("/nonexistent/state.db")).unwrap_err().to_string();
    assert!(message.starts_with("/nonexistent/state.db") && message.contains("directory exists"), "{message}");
}

#[test]
fn a_backup_made_during_writes_can_be_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("state.db"), directory.path().join("backup.db"));
    let at_backup = block_on(async {
        let store = open(&path).unwrap();
        store.put("a", "1".into()).await.unwrap();
        store.backup(&copy).await.unwrap();
        let range = store.range("", None).await.unwrap();
        store.put("a", "2".into()).await.unwrap();
        range
    });
    let restored = restore(&copy, &path).unwrap();
    assert_eq!((restored.backup_revision, restored.revision), (1, 1_000_000_002));
    assert!(restored.previous.unwrap().exists());
    block_on(async {
        let store = open(&path).unwrap();
        assert_eq!(store.range("", None).await.unwrap().items, at_backup.items);
        // Who has seen revision 2 of the lost future is told to read anew.
        let oldest = restored.revision + 1;
        assert_eq!(store.watch("", 3).await.err(), Some(Error::Compacted { asked: 3, oldest }));
        assert_eq!(store.put("b", "3".into()).await, Ok(oldest));
    });
}

#[test]
fn a_restore_of_what_is_no_backup_leaves_the_store_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("state.db"), directory.path().join("backup.db"));
    block_on(async { open(&path).unwrap().put("a", "1".into()).await.unwrap() });
    for content in [&b""[..], b"something else that is not a database, of a decent length"] {
        std::fs::write(&copy, content).unwrap();
        assert!(restore(&copy, &path).is_err());
    }
    assert!(restore(&directory.path().join("none"), &path).is_err());
    let store = open(&path).unwrap();
    assert!(matches!(restore(&copy, &path), Err(RestoreError::Open(OpenError::Locked { .. }))));
    assert!(block_on(store.get("a")).unwrap().is_some());
}

#[test]
fn a_watch_ends_when_the_store_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&directory.path().join("state.db")).unwrap();
        let mut watch = store.watch("", 1).await.unwrap();
        drop(store);
        assert_eq!(watch.next().await, Some(Err(Error::Closed)));
    });
}

/// The writing half of the crash test; does nothing unless that test starts it.
#[test]
fn crash_child() {
    let Ok(path) = std::env::var("LENO_STORE_CRASH_PATH") else { return };
    let store = open(Path::new(&path)).unwrap();
    block_on(async {
        let (_, begin) = last_acknowledged(&store).await;
        for number in begin + 1.. {
            let wide: Vec<String> = (0..4).map(|i| format!("crash/{i}")).collect();
            let both = Txn::new().put("crash/last", number.to_string()).put("crash/same", number.to_string());
            let others = wide.iter().map(|key| store.put(key, number.to_string().into()));
            let (done, others) = tokio::join!(store.txn(both), join_all(others));
            assert!(others.iter().all(Result::is_ok));
            println!("acknowledged {number} {}", done.unwrap().revision);
        }
    });
}

async fn last_acknowledged(store: &SqliteStore) -> (Revision, u64) {
    let value = |kv: Option<KeyValue>| kv.map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse().unwrap());
    let last = store.get("crash/last").await.unwrap();
    assert_eq!(last.as_ref().map(|kv| &kv.value), store.get("crash/same").await.unwrap().as_ref().map(|kv| &kv.value));
    (store.range("", None).await.unwrap().revision, value(last))
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::crash_child", "--nocapture"])
            .env("LENO_STORE_CRASH_PATH", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = |line: &String| line.contains("acknowledged ");
        let wanted = random.usize(1..60);
        let mut last = (&mut lines).map_while(Result::ok).filter(acknowledged).nth(wanted).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts, too.
        for line in lines.map_while(Result::ok).filter(|line| acknowledged(line) && line.split(' ').count() == 3) {
            last = line;
        }
        let numbers: Vec<u64> = last.rsplit(' ').take(2).map(|number| number.parse().unwrap()).collect();
        let (revision, number) = block_on(async { last_acknowledged(&open(&path).unwrap()).await });
        assert!(revision >= numbers[0] && number >= numbers[1], "{last:?}, found {number} at {revision}");
    }
}
