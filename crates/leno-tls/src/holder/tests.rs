use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct Directory {
    directory: tempfile::TempDir,
    holder: Arc<Holder>,
}

impl Directory {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let holder = Holder::new(Some(directory.path().to_owned()));
        Self { directory, holder }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn names(&self, name: &str) -> Vec<String> {
        self.holder.pair(name).iter().flat_map(|pair| pair.names.iter().map(ToString::to_string)).collect()
    }

    fn problem(&self) -> Option<String> {
        self.holder.statuses().into_iter().next().unwrap().problem
    }
}

fn made(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_pair_stands_beside_others_or_in_a_folder() {
    let directory = Directory::new();
    let (certificate, key) = made("a.test");
    directory.write("flat.crt", &certificate);
    directory.write("flat.key", &key);
    directory.write("folder/tls.crt", &certificate);
    directory.write("folder/tls.key", &key);
    directory.write("folder/ca.crt", &certificate);
    directory.holder.want(&["flat".into(), "folder".into()], &["folder".into()], NOW);
    assert_eq!((directory.names("flat"), directory.names("folder")), (vec!["a.test".into()], vec!["a.test".into()]));
    assert!(directory.holder.bundle("folder").is_some());
}

#[test]
fn a_new_pair_holds_and_a_bad_one_leaves_the_last_good_one() {
    let directory = Directory::new();
    let (certificate, key) = made("a.test");
    directory.write("web.crt", &certificate);
    directory.write("web.key", &key);
    directory.holder.want(&["web".into()], &[], NOW);
    assert_eq!((directory.names("web"), directory.problem()), (vec!["a.test".to_owned()], None));

    let (certificate, key) = made("b.test");
    directory.write("web.crt", &certificate);
    directory.holder.refresh(NOW);
    assert_eq!(directory.problem(), None, "the key may be on its way");
    directory.holder.refresh(NOW);
    assert!(directory.problem().unwrap().contains("not the key of the first certificate"));
    assert_eq!(directory.names("web"), ["a.test"]);

    directory.write("web.key", &key);
    directory.holder.refresh(NOW);
    assert_eq!((directory.names("web"), directory.problem()), (vec!["b.test".to_owned()], None));

    fs::remove_file(directory.directory.path().join("web.key")).unwrap();
    directory.holder.refresh(NOW);
    assert!(directory.problem().unwrap().contains("web.key"));
    assert_eq!(directory.names("web"), ["b.test"]);
}

#[test]
fn a_name_leads_to_no_other_directory() {
    let directory = Directory::new();
    for name in ["../web", "a/b", ".hidden", "", "A"] {
        assert!(!is_name(name), "{name}");
    }
    directory.holder.want(&["../web".into()], &[], NOW);
    assert!(directory.problem().unwrap().contains("lower-case"));
}

#[test]
fn what_nobody_refers_to_is_forgotten() {
    let directory = Directory::new();
    let (certificate, key) = made("a.test");
    directory.write("web.crt", &certificate);
    directory.write("web.key", &key);
    directory.holder.want(&["web".into()], &[], NOW);
    directory.holder.retain(&|_| false, &|_| false);
    assert!(directory.holder.statuses().is_empty() && directory.holder.pair("web").is_none());
}
