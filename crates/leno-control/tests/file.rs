//! A watched directory as a set.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use std::fs;
use std::path::Path;

use leno_control::source::file::FileSource;
use leno_model::fault::FaultClass;
use leno_xds::provide::Provide;
use tempfile::TempDir;

use mesh::Mesh;

fn write(directory: &Path, file: &str, service: &str) {
    let text = format!(
        "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {service}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    );
    fs::write(directory.join(file), text).unwrap();
}

fn names(mesh: &Mesh) -> Vec<String> {
    mesh.control.resources().1.iter().map(|entry| entry.resource.key.name.to_string()).collect()
}

async fn source() -> (Mesh, TempDir, FileSource) {
    let (mesh, directory) = (Mesh::new().await, tempfile::tempdir().unwrap());
    let source = FileSource::new(mesh.control.clone(), directory.path());
    (mesh, directory, source)
}

#[tokio::test]
async fn a_directory_is_one_set_with_its_folders() {
    let (mesh, directory, mut source) = source().await;
    fs::create_dir(directory.path().join("team")).unwrap();
    write(directory.path(), "a.yaml", "a");
    write(directory.path(), "team/b.json", "b");
    write(directory.path(), "notes.txt", "not-read");
    write(directory.path(), ".hidden.yaml", "not-read");
    let status = source.sync().await;
    assert_eq!((names(&mesh), status.resources, status.revision), (vec!["a".to_owned(), "b".to_owned()], 2, 1));
    assert_eq!(&*mesh.control.resources().1[1].file, "team/b.json");
}

#[tokio::test]
async fn what_vanishes_from_the_files_is_deleted() {
    let (mesh, directory, mut source) = source().await;
    write(directory.path(), "a.yaml", "a");
    write(directory.path(), "b.yaml", "b");
    source.sync().await;
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    source.sync().await;
    assert_eq!(names(&mesh), ["a"]);
}

#[tokio::test]
async fn an_empty_or_absent_directory_deletes_nothing() {
    let (mesh, directory, mut source) = source().await;
    write(directory.path(), "a.yaml", "a");
    source.sync().await;
    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    let empty = source.sync().await.error.unwrap();
    assert!(empty.ends_with("has no resource any more; what it said before stays in force"), "{empty}");
    fs::remove_dir(directory.path()).unwrap();
    assert!(source.sync().await.error.unwrap().starts_with("read /"));
    assert_eq!(names(&mesh), ["a"]);
}

#[tokio::test]
async fn a_set_with_faults_leaves_the_last_good_one_in_force() {
    let (mesh, directory, mut source) = source().await;
    write(directory.path(), "a.yaml", "a");
    source.sync().await;
    write(directory.path(), "a.yaml", "b");
    write(directory.path(), "bad.yaml", "Bad");
    let status = source.sync().await;
    assert_eq!((status.faults[0].class, &*status.faults[0].file), (FaultClass::InvalidName, "bad.yaml"));
    assert_eq!((names(&mesh), status.revision), (vec!["a".to_owned()], 1));
    fs::remove_file(directory.path().join("bad.yaml")).unwrap();
    assert!(source.sync().await.faults.is_empty());
    assert_eq!(names(&mesh), ["b"]);
}

#[tokio::test]
async fn a_change_is_seen_without_being_asked_for() {
    let (mesh, directory, source) = source().await;
    let mut changes = mesh.control.changes();
    let test = async {
        write(directory.path(), "a.yaml", "a");
        while names(&mesh) != ["a"] {
            changes.changed().await.unwrap();
        }
        write(directory.path(), "b.yaml", "b");
        while names(&mesh) != ["a", "b"] {
            changes.changed().await.unwrap();
        }
    };
    tokio::select! {
        () = source.run() => {}
        () = test => {}
    }
}
