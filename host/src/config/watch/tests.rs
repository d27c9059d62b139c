use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::*;

/// Longer than a notice and the time to settle ever take; reached only by a test that fails.
const LONG: Duration = Duration::from_secs(20);

/// What the file held at each call back; `None` where it was not there.
struct Calls(Receiver<Option<String>>);

impl Calls {
    /// The next change.
    fn one(&self) -> Option<String> {
        self.0.recv_timeout(LONG).expect("a change was told")
    }

    /// Changes up to the one that sees this content: a slow machine may see what lies between, too.
    fn until(&self, content: &str) {
        while self.one().as_deref() != Some(content) {}
    }

    /// Nothing follows. On a slow machine this may pass too early; it never fails without a cause.
    fn none(&self) {
        assert_eq!(self.0.recv_timeout(QUIET * 6), Err(RecvTimeoutError::Timeout), "a change was told that was none");
    }
}

fn watching(path: &Path) -> (Watch, Calls) {
    let (tell, told) = channel();
    let file = path.to_owned();
    let on_change = move || {
        let _ = tell.send(fs::read_to_string(&file).ok());
    };
    (watch(path, on_change).expect("watched"), Calls(told))
}

/// All at once, as a careful program writes.
fn save(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("written");
    fs::rename(&new, path).expect("renamed");
}

#[test]
fn a_file_written_in_place_is_told_when_it_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let (_watch, calls) = watching(&path);
    fs::write(&path, "").expect("truncated");
    fs::write(&path, "a = ").expect("half");
    fs::write(&path, "a = 2").expect("whole");
    calls.until("a = 2");
    calls.none();
}

#[test]
fn the_same_content_and_other_files_are_not_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let (_watch, calls) = watching(&path);
    save(&path, "a = 1");
    fs::write(directory.path().join("other.toml"), "b").expect("written");
    calls.none();
    save(&path, "a = 2");
    calls.until("a = 2");
}

#[test]
fn a_file_renamed_over_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let (_watch, calls) = watching(&path);
    for content in ["a = 2", "a = 3"] {
        save(&path, content);
        assert_eq!(calls.one().as_deref(), Some(content));
    }
    calls.none();
}

#[test]
fn an_editor_that_keeps_a_backup_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let (_watch, calls) = watching(&path);
    fs::rename(&path, directory.path().join("gateway.toml~")).expect("renamed");
    fs::write(&path, "a = 2").expect("written");
    calls.until("a = 2");
    calls.none();
}

#[test]
fn deletion_and_return_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let (_watch, calls) = watching(&path);
    fs::remove_file(&path).expect("removed");
    assert_eq!(calls.one(), None);
    fs::write(&path, "a = 1").expect("written");
    calls.until("a = 1");
}

#[test]
fn a_directory_that_goes_and_comes_is_survived() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory.path().join("etc");
    let path = inner.join("gateway.toml");
    fs::create_dir(&inner).expect("made");
    fs::write(&path, "a = 1").expect("written");
    let (_watch, calls) = watching(&path);
    fs::remove_dir_all(&inner).expect("removed");
    calls.one();
    fs::create_dir(&inner).expect("made");
    fs::write(&path, "a = 2").expect("written");
    calls.until("a = 2");
    fs::write(&path, "a = 3").expect("written");
    calls.until("a = 3");
}

#[test]
fn a_file_that_is_not_there_yet_is_told_when_it_comes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("later/gateway.toml");
    let (_watch, calls) = watching(&path);
    fs::create_dir(directory.path().join("later")).expect("made");
    fs::write(&path, "a = 1").expect("written");
    calls.until("a = 1");
}

#[cfg(unix)]
#[test]
fn a_link_that_is_swapped_as_kubernetes_does_is_told() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (version, content) in [("..1", "a = 1"), ("..2", "a = 2")] {
        fs::create_dir(at(version)).expect("made");
        fs::write(at(version).join("gateway.toml"), content).expect("written");
    }
    symlink("..1", at("..data")).expect("linked");
    symlink("..data/gateway.toml", at("gateway.toml")).expect("linked");
    let (_watch, calls) = watching(&at("gateway.toml"));
    symlink("..2", at("..data_tmp")).expect("linked");
    fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
    fs::remove_dir_all(at("..1")).expect("removed");
    calls.until("a = 2");
    calls.none();
    fs::write(at("..2/gateway.toml"), "a = 3").expect("written behind the link");
    calls.until("a = 3");
}

#[cfg(unix)]
#[test]
fn a_linked_directory_elsewhere_in_the_path_is_followed() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (version, content) in [("one", "a = 1"), ("two", "a = 2")] {
        fs::create_dir_all(at("releases").join(version)).expect("made");
        fs::write(at("releases").join(version).join("gateway.toml"), content).expect("written");
    }
    symlink(at("releases/one"), at("current")).expect("linked");
    let (_watch, calls) = watching(&at("current/gateway.toml"));
    symlink(at("releases/two"), at("next")).expect("linked");
    fs::rename(at("next"), at("current")).expect("swapped");
    calls.until("a = 2");
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_are_no_trouble() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    symlink("b", at("a")).expect("linked");
    symlink("a", at("b")).expect("linked");
    let (_watch, calls) = watching(&at("a"));
    fs::remove_file(at("a")).expect("removed");
    fs::write(at("a"), "x").expect("written");
    calls.until("x");
}

#[test]
fn a_directory_tells_of_its_files_with_the_extension() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("gas.wasm"), "1").expect("written");
    let (tell, told) = channel();
    let file = at("gas.wasm");
    let on_change = move || {
        let _ = tell.send(fs::read_to_string(&file).ok());
    };
    let _watch = watch_directory(directory.path(), "wasm", on_change).expect("watched");
    let calls = Calls(told);
    fs::write(at("notes.txt"), "1").expect("written");
    calls.none();
    save(&at("gas.wasm"), "2");
    assert_eq!(calls.one().as_deref(), Some("2"));
    save(&at("key-auth.wasm"), "1");
    calls.one();
    fs::remove_file(at("gas.wasm")).expect("removed");
    assert_eq!(calls.one(), None);
}

#[test]
fn without_notices_the_slow_look_finds_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let target = Target::File;
    let seen = Seen::look(&path, &target, &Seen::default());
    assert!(seen.is_of(&Stamps::look(&path, &target)));
    fs::write(&path, "a = 22").expect("written");
    assert!(!seen.is_of(&Stamps::look(&path, &target)));
}

#[test]
fn after_a_drop_nobody_is_called() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, "a = 1").expect("written");
    let (watch, calls) = watching(&path);
    drop(watch);
    fs::write(&path, "a = 2").expect("written");
    assert_eq!(calls.0.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "the call back is gone with the watch");
}
