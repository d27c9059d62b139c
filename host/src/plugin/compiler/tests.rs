//! What becomes of an order when the program in the compiler's place is another one.

use super::launch::threads;
use super::*;
use std::cell::Cell;
use std::process::{Command, Stdio};
use tempfile::TempDir;

mod ahead;

const BOUNDS: config::Compile = config::Compile { time: Duration::from_secs(60), memory: 256 << 20 };

fn order(program: &str) -> CompileError {
    ordered(Path::new(program), BOUNDS, &|| None).expect_err("no compiler")
}

fn ordered(
    program: &Path,
    bounds: config::Compile,
    given_up: &dyn Fn() -> Option<&'static str>,
) -> Result<Vec<u8>, CompileError> {
    // More than a pipe holds.
    Compiler::at(program.to_owned()).compile(&[0; 200_000], &Order { bounds, given_up })
}

/// A program. Another process writes it: a file that this one has open for writing could not be started, as a child of
/// another test may hold it for a moment.
fn program(directory: &TempDir, script: &str) -> PathBuf {
    let path = directory.path().join("program");
    let mut writer = Command::new("sh");
    writer.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(&path).stdin(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    path
}

fn scripted(script: &str) -> CompileError {
    let directory = TempDir::new().unwrap();
    ordered(&program(&directory, script), BOUNDS, &|| None).expect_err("no compiler")
}

#[test]
fn a_program_that_is_no_compiler_is_told_as_what_it_does() {
    assert_eq!(order("/bin/true"), CompileError::Died("ended with exit code 0 and no answer".into()));
    assert_eq!(order("/bin/false"), CompileError::Died("ended with exit code 1 and no answer".into()));
    assert_eq!(order("/bin/echo"), CompileError::Nonsense);
    // One that never ends talks to nobody.
    assert_eq!(order("/usr/bin/yes"), CompileError::Nonsense);
    let told = order("/nowhere/portico").to_string();
    assert!(
        told.starts_with("it could not be compiled: the compiler's process cannot be started: No such file"),
        "{told}"
    );
}

#[test]
fn the_end_of_a_child_says_why() {
    assert_eq!(scripted("kill -KILL $$"), CompileError::Died("was ended by signal 9".into()));
    assert_eq!(scripted("kill -XCPU $$"), CompileError::Time(BOUNDS.time));
    assert_eq!(scripted("kill -SEGV $$"), CompileError::Crashed(11));
    assert_eq!(
        scripted("echo 'memory allocation of 512 bytes failed' >&2; kill -ABRT $$"),
        CompileError::Memory(BOUNDS.memory)
    );
    assert_eq!(scripted("echo 'portico: there is no memory left' >&2; exit 1"), CompileError::Memory(BOUNDS.memory));
    // However much it says, nothing waits for it to be read.
    assert_eq!(
        scripted("yes | head -c 300000 >&2; exit 7"),
        CompileError::Died("ended with exit code 7 and no answer".into())
    );
    assert_eq!(scripted("printf 'portico:C'"), CompileError::Nonsense);
    assert_eq!(scripted("printf 'portico:C\\377\\377\\377\\377\\0\\0\\0\\0'"), CompileError::Code);
}

#[test]
fn nobody_waits_for_a_child_for_longer_than_its_result_is_wanted() {
    let directory = TempDir::new().unwrap();
    let sleeper = program(&directory, "echo $$ > \"${0%program}id\"; exec sleep 600");
    let ended = || {
        let id = std::fs::read_to_string(directory.path().join("id")).unwrap();
        !Path::new("/proc").join(id.trim()).exists()
    };
    let short = config::Compile { time: Duration::from_millis(100), ..BOUNDS };
    assert_eq!(ordered(&sleeper, short, &|| None), Err(CompileError::Slow(short.time * WALL)));
    assert!(ended());
    let looks = Cell::new(0);
    let given_up = || {
        looks.set(looks.get() + 1);
        (looks.get() > 2).then_some("enough")
    };
    assert_eq!(ordered(&sleeper, BOUNDS, &given_up), Err(CompileError::GivenUp("enough")));
    assert!(ended());
}

#[test]
fn a_child_has_nothing_of_ours() {
    let directory = TempDir::new().unwrap();
    let spy = program(
        &directory,
        "here=\"${0%program}\"; tr '\\0' '\\n' < /proc/$$/environ > \"${here}environment\"\n\
         echo \"$@\" > \"${here}arguments\"; pwd > \"${here}place\"; cut -d' ' -f1,5 /proc/$$/stat > \"${here}group\"",
    );
    assert!(ordered(&spy, BOUNDS, &|| None).is_err());
    let told = |what: &str| std::fs::read_to_string(directory.path().join(what)).unwrap();
    assert_eq!(told("environment"), format!("MIMALLOC_ARENA_EAGER_COMMIT=0\nRAYON_NUM_THREADS={}\n", threads()));
    assert_eq!(told("arguments"), "compile-one 60 268435456\n");
    assert_eq!(told("place"), "/\n");
    let group = told("group");
    let (own, of) = group.trim().split_once(' ').unwrap();
    assert_eq!(own, of, "a group of its own");
}

#[test]
fn what_went_beyond_is_not_tried_again_within_the_same_bounds() {
    let directory = TempDir::new().unwrap();
    let counting = program(&directory, "echo >> \"${0%program}times\"; kill -XCPU $$");
    let compiler = Compiler::at(counting);
    let times = || std::fs::read_to_string(directory.path().join("times")).unwrap().len();
    let compile = |component: &[u8], bounds: config::Compile| {
        let told = compiler.compile(component, &Order { bounds, given_up: &|| None });
        assert_eq!(told, Err(CompileError::Time(bounds.time)));
        times()
    };
    assert_eq!((compile(b"one", BOUNDS), compile(b"one", BOUNDS)), (1, 1));
    assert_eq!(compile(b"two", BOUNDS), 2);
    let other = config::Compile { memory: 512 << 20, ..BOUNDS };
    assert_eq!((compile(b"one", other), compile(b"one", BOUNDS)), (3, 3));
    compiler.forget();
    assert_eq!(compile(b"one", BOUNDS), 4);
}

#[test]
fn what_ends_the_compiler_by_its_own_fault_is_not_tried_again_and_what_was_ended_is() {
    for (signal, told, times) in
        [("ABRT", CompileError::Crashed(6), 1), ("KILL", CompileError::Died("was ended by signal 9".into()), 2)]
    {
        let directory = TempDir::new().unwrap();
        let compiler =
            Compiler::at(program(&directory, &format!("echo >> \"${{0%program}}times\"; kill -{signal} $$")));
        for _ in 0..2 {
            assert_eq!(compiler.compile(b"one", &Order { bounds: BOUNDS, given_up: &|| None }), Err(told.clone()));
        }
        assert_eq!(std::fs::read_to_string(directory.path().join("times")).unwrap().len(), times, "{signal}");
    }
}

#[test]
fn each_reason_is_one_sentence() {
    for (error, told) in [
        (
            CompileError::Time(Duration::from_secs(120)),
            "it takes longer than 120s to compile; make it smaller, or allow more",
        ),
        (
            CompileError::Memory(1 << 30),
            "it takes more than 1024 MiB of memory to compile; make it smaller, or allow more",
        ),
        (CompileError::Code, "its machine code is larger than 512 MiB; make it smaller"),
        (
            CompileError::Crashed(11),
            "it could not be compiled: the compiler's process was ended by signal 11, and would be again; ",
        ),
    ] {
        assert!(error.to_string().starts_with(told), "{error}");
    }
}
