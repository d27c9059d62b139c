//! What becomes of the child that stands ready.

use super::*;

/// Longer than anything here takes; reached only by a test that fails.
const LONG: Duration = Duration::from_secs(60);
/// Writes down how it was started, takes a component, and refuses it.
const REFUSES: &str =
    "echo \"$@\" >> \"${0%program}started\"; cat > /dev/null; printf 'portico:R\\4\\0\\0\\0\\0\\0\\0\\0well'";
const OTHER: config::Compile = config::Compile { memory: 512 << 20, ..BOUNDS };

/// A compiler whose program is this script, and how often that was started in which way.
struct Watched {
    compiler: Compiler,
    directory: TempDir,
}

impl Watched {
    fn new(script: &str) -> Self {
        let directory = TempDir::new().unwrap();
        Self { compiler: Compiler::at(program(&directory, script)), directory }
    }

    /// One whose child stands ready for so long.
    fn keeping(script: &str, kept: Duration) -> Self {
        let directory = TempDir::new().unwrap();
        let launcher = Launcher::keeping(program(&directory, script), kept);
        Self { compiler: Compiler { children: Some(launcher), ..Compiler::here() }, directory }
    }

    fn compile(&self, component: &[u8], bounds: config::Compile) {
        let told = self.compiler.compile(component, &Order { bounds, given_up: &|| None });
        assert_eq!(told, Err(CompileError::Invalid("well".into())));
    }

    /// Arguments of each start, one line for each.
    fn started(&self) -> Vec<String> {
        let started = std::fs::read_to_string(self.directory.path().join("started")).unwrap_or_default();
        started.lines().map(str::to_owned).collect()
    }

    fn ready(&self) -> Option<u32> {
        self.compiler.children.as_ref().unwrap().ready()
    }

    /// Has one stand ready, waits until it has written down how it was started, and tells which one it is.
    fn get_ready(&self, bounds: config::Compile) -> u32 {
        let before = self.started().len();
        self.compiler.get_ready(bounds);
        until("one stands ready", || self.ready().is_some() && self.started().len() > before);
        self.ready().unwrap()
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Not even as an entry that waits to be looked at.
fn is_gone(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

#[test]
fn one_stands_ready_serves_once_and_is_replaced() {
    let watched = Watched::new(REFUSES);
    watched.compiler.get_ready(BOUNDS);
    watched.compile(b"one", BOUNDS);
    assert_eq!(watched.started(), ["compile-one 60 268435456"], "none stands ready before something was compiled");
    let first = watched.get_ready(BOUNDS);
    let ahead = "compile-one --ahead 60 268435456";
    assert_eq!(watched.started()[1..], [ahead]);
    // Nothing was compiled since: it is the same.
    watched.compiler.get_ready(BOUNDS);
    watched.compile(b"two", BOUNDS);
    assert_eq!(watched.started().len(), 2, "the one that stood ready was used");
    assert!(is_gone(first) && watched.ready().is_none());
    let second = watched.get_ready(BOUNDS);
    assert_eq!(watched.started()[2..], [ahead]);
    // What nobody waits for has one of its own.
    let order = Order { bounds: BOUNDS, given_up: &|| None };
    assert!(watched.compiler.compile_at_leisure(b"three", &order).is_err());
    assert_eq!(watched.started()[3..], ["compile-one 60 268435456"]);
    assert_eq!(watched.ready(), Some(second));
    drop(watched);
    assert!(is_gone(second), "it ends with whoever could have used it");
}

#[test]
fn one_that_has_ended_is_not_missed() {
    let watched = Watched::new(REFUSES);
    watched.compile(b"one", BOUNDS);
    let killed = watched.get_ready(BOUNDS);
    assert!(Command::new("sh").args(["-c", "kill -KILL \"$0\"", &killed.to_string()]).status().unwrap().success());
    watched.compile(b"two", BOUNDS);
    assert_eq!(watched.started().len(), 3);
    assert!(is_gone(killed));
    // Nobody compiles: it is found all the same, and nothing of it stays.
    let killed = watched.get_ready(BOUNDS);
    assert!(Command::new("sh").args(["-c", "kill -KILL \"$0\"", &killed.to_string()]).status().unwrap().success());
    until("it is found", || is_gone(killed));
    watched.compile(b"three", BOUNDS);
}

#[test]
fn one_that_ends_while_it_is_given_a_component_is_not_missed() {
    // It is there until something comes, and then leaves without having read it.
    let leaves = format!(
        "case \"$2\" in --ahead) echo >> \"${{0%program}}started\"; head -c 1 > /dev/null; exit 3;; esac; {REFUSES}"
    );
    let watched = Watched::new(&leaves);
    watched.compile(b"one", BOUNDS);
    let left = watched.get_ready(BOUNDS);
    // More than a pipe holds.
    watched.compile(&[0; 300_000], BOUNDS);
    assert!(is_gone(left));
    assert_eq!(watched.started().len(), 3);
}

#[test]
fn a_component_that_ends_each_is_tried_no_more_than_twice() {
    let ends = "echo >> \"${0%program}started\"; cat > /dev/null; exit 3";
    let watched = Watched::new(ends);
    let compile = |component: &[u8]| {
        let told = watched.compiler.compile(component, &Order { bounds: BOUNDS, given_up: &|| None });
        assert_eq!(told, Err(CompileError::Died("ended with exit code 3 and no answer".into())));
        watched.started().len()
    };
    assert_eq!(compile(b"one"), 1);
    watched.get_ready(BOUNDS);
    assert_eq!(compile(b"two"), 3);
}

#[test]
fn what_made_one_ready_is_not_held_against_its_component() {
    // One that stands ready has less memory left, and a fault of its own.
    for end in ["echo 'portico: there is no memory left' >&2; exit 1", "kill -SEGV $$"] {
        let lacks = format!(
            "case \"$2\" in --ahead) echo >> \"${{0%program}}started\"; cat > /dev/null; {end};; esac; {REFUSES}"
        );
        let watched = Watched::new(&lacks);
        watched.compile(b"one", BOUNDS);
        watched.get_ready(BOUNDS);
        watched.compile(b"two", BOUNDS);
        assert_eq!(watched.started().len(), 3, "{end}");
    }
    // What takes too much in a child of its own is refused, and that is remembered.
    let watched =
        Watched::new("echo >> \"${0%program}started\"; cat > /dev/null; echo 'there is no memory left' >&2; exit 1");
    let compile = |component: &[u8]| {
        let told = watched.compiler.compile(component, &Order { bounds: BOUNDS, given_up: &|| None });
        assert_eq!(told, Err(CompileError::Memory(BOUNDS.memory)));
        watched.started().len()
    };
    assert_eq!(compile(b"one"), 1);
    watched.get_ready(BOUNDS);
    assert_eq!((compile(b"two"), compile(b"two")), (3, 3));
}

#[test]
fn one_ends_after_its_time_and_the_next_component_starts_its_own() {
    let watched = Watched::keeping(REFUSES, Duration::from_millis(200));
    watched.compile(b"one", BOUNDS);
    let first = watched.get_ready(BOUNDS);
    until("its time is over", || is_gone(first));
    watched.compile(b"two", BOUNDS);
    assert_eq!(watched.started()[2..], ["compile-one 60 268435456"]);
}

#[test]
fn none_stands_ready_for_what_is_not_compiled() {
    let watched = Watched::keeping(REFUSES, Duration::from_millis(200));
    watched.compile(b"one", BOUNDS);
    let first = watched.get_ready(BOUNDS);
    until("its time is over", || is_gone(first) && watched.ready().is_none());
    // It is known what becomes of it.
    watched.compile(b"one", BOUNDS);
    watched.compiler.get_ready(BOUNDS);
    assert!(!watched.compiler.children.as_ref().unwrap().is_ready_soon());
    assert_eq!(watched.started().len(), 2);
}

#[test]
fn one_for_other_bounds_is_of_no_use() {
    let watched = Watched::new(REFUSES);
    watched.compile(b"one", BOUNDS);
    let first = watched.get_ready(BOUNDS);
    watched.compile(b"one", OTHER);
    assert!(is_gone(first));
    assert_eq!(watched.started()[2..], ["compile-one 60 536870912"]);
    // Other bounds are known before anything is compiled within them.
    let second = watched.get_ready(OTHER);
    let third = watched.get_ready(BOUNDS);
    assert!(is_gone(second) && third != second);
    watched.compile(b"two", BOUNDS);
    assert_eq!(watched.started()[3..], ["compile-one --ahead 60 536870912", "compile-one --ahead 60 268435456"]);
}
