//! Folders of this machine.

use std::fs;

use percept_pull::{Error, Outcome, Settings, pull};

use super::hostile::body;
use super::{assert_arrived, index, statuses};

#[test]
fn a_folder_is_copied_with_hashes_and_captions() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, out) = (folder.path().join("tree"), folder.path().join("out"));
    fs::create_dir_all(tree.join("cats")).unwrap();
    let image = body("cat", 5000);
    fs::write(tree.join("cats/1.jpg"), &image).unwrap();
    fs::write(tree.join("cats/1.txt"), "a cat\n").unwrap();
    fs::write(tree.join("empty.bin"), "").unwrap();
    let source = [tree.to_str().unwrap().to_owned()];
    let summary = pull(&source, &out, &Settings::default(), &()).unwrap();
    assert_eq!((summary.samples, summary.arrived(), summary.bytes), (3, 3, 5006));
    let first = &statuses(&out)[0];
    assert_eq!(first.file.as_deref(), Some("tree/cats/1.jpg"));
    assert_arrived(&out, first, &image);
    let entries = index(&out);
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["image"], &entries[0]["caption"]), (&"tree/cats/1.jpg".into(), &"a cat".into()));

    // Again, only what changed is copied.
    fs::write(tree.join("cats/1.txt"), "two cats").unwrap();
    pull(&source, &out, &Settings::default(), &()).unwrap();
    assert_eq!(fs::read_to_string(out.join("tree/cats/1.txt")).unwrap(), "two cats");
    assert_eq!(index(&out)[0]["caption"], "two cats");

    // Content decides, not size and time: here both stay as they are.
    let place = tree.join("cats/1.jpg");
    let time = fs::metadata(&place).unwrap().modified().unwrap();
    let other = body("dog", 5000);
    for _ in 0..2 {
        fs::write(&place, &other).unwrap();
        fs::File::options().write(true).open(&place).unwrap().set_modified(time).unwrap();
        pull(&source, &out, &Settings::default(), &()).unwrap();
        assert_arrived(&out, &statuses(&out)[0], &other);
    }
}

#[cfg(unix)]
#[test]
fn linked_files_share_their_bytes() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let (tree, out) = (folder.path().join("tree"), folder.path().join("out"));
    fs::create_dir(&tree).unwrap();
    let bytes = body("x", 3000);
    fs::write(tree.join("x.jpg"), &bytes).unwrap();
    let settings = Settings { link: true, ..Settings::default() };
    for _ in 0..2 {
        pull(&[tree.to_str().unwrap().to_owned()], &out, &settings, &()).unwrap();
        assert_arrived(&out, &statuses(&out)[0], &bytes);
    }
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(tree.join("x.jpg")), inode(out.join("tree/x.jpg")));
}

#[test]
fn one_file_that_cannot_be_stored_costs_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, out) = (folder.path().join("tree"), folder.path().join("out"));
    fs::create_dir(&tree).unwrap();
    fs::create_dir_all(out.join("tree/a.txt/in the way")).unwrap();
    fs::write(tree.join("a.txt"), "a").unwrap();
    fs::write(tree.join("b.txt"), "b").unwrap();
    pull(&[tree.to_str().unwrap().to_owned()], &out, &Settings::default(), &()).unwrap();
    let statuses = statuses(&out);
    assert_eq!(statuses[0].outcome, Outcome::Invalid);
    assert!(statuses[0].reason.as_ref().unwrap().contains("cannot be stored"), "{:?}", statuses[0]);
    assert_arrived(&out, &statuses[1], b"b");
}

#[test]
fn two_pulls_do_not_work_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, out) = (folder.path().join("tree"), folder.path().join("out"));
    fs::create_dir(&tree).unwrap();
    fs::create_dir_all(out.join(".pull")).unwrap();
    let held = fs::File::create(out.join(".pull/lock")).unwrap();
    held.lock().unwrap();
    let source = [tree.to_str().unwrap().to_owned()];
    assert!(matches!(pull(&source, &out, &Settings::default(), &()), Err(Error::Busy(_))));
    drop(held);
    assert_eq!(pull(&source, &out, &Settings::default(), &()).unwrap().samples, 0);
}

#[test]
fn wrong_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |settings| {
        pull(&[folder.path().to_str().unwrap().to_owned()], &folder.path().join("o"), &settings, &())
    };
    for settings in [
        Settings { threads: 0, ..Settings::default() },
        Settings { rate: Some(0.0), ..Settings::default() },
        Settings { rate: Some(f64::NAN), ..Settings::default() },
        Settings { timeout: std::time::Duration::ZERO, ..Settings::default() },
    ] {
        assert!(matches!(run(settings), Err(Error::Usage(_))));
    }
}
