//! Follows a page of the documentation word for word, as a reader would: its files, its commands, its outputs.
//!
//! Nothing on the page is skipped or put in other words: what differs from a reader's machine stands in `stand`, and nowhere else.

use crate::harness::page::{self, Block, Kind};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// For one block of commands: a policy is compiled, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(300);
/// Until what a gateway takes up by itself can be seen.
const SOON: Duration = Duration::from_secs(240);
/// Commands that only look: they are asked again until they show what the page shows, as a reader would.
const LOOKS: [&str; 5] = ["curl -s ", "portico plugin list", "portico plugin history", "grep ", "ls "];

/// Where the reader stands: an empty directory, a clone of the repository with all of it built, an address.
struct Stand {
    /// For what the walk itself keeps.
    own: tempfile::TempDir,
    /// Where the page begins.
    directory: tempfile::TempDir,
    clone: PathBuf,
    /// The page as it is shown, and as it is here.
    shown: Vec<Block>,
    blocks: Vec<Block>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root").to_owned()
}

/// All that differs from a reader's machine. `PORTICO` names a clone in which the program that is tested is the one in
/// `target/release`. The gateway keeps the documented ports, on an address of this walk's own, so that walks and whatever else
/// runs on the machine do not meet.
fn stand(name: &str, number: u32) -> Stand {
    let page = fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let id = std::process::id();
    let blocks = |text: &str| page::blocks(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let address = format!("127.{}.{}.{}", 100 + number, id >> 8 & 0xff, id & 0xff);
    Stand {
        own: tempfile::TempDir::new().unwrap(),
        directory: tempfile::TempDir::new().unwrap(),
        clone: page::clone(&repository(), Some(Path::new(env!("CARGO_BIN_EXE_portico")))).expect("a clone"),
        shown: blocks(&page),
        blocks: blocks(&page.replace("127.0.0.1", &address)),
    }
}

/// Follows a page from top to bottom; panics with all that was not as it says.
pub fn follow(name: &str, number: u32) {
    let stand = stand(name, number);
    let mut terminal = Terminal::open(&stand);
    let mut differs = Vec::new();
    for (at, block) in stand.blocks.iter().enumerate() {
        let place = format!("{name}:{}", block.line);
        let path = |path: &String| {
            let path = stand.directory.path().join(path);
            fs::create_dir_all(path.parent().expect("it is below the directory")).expect("a directory");
            path
        };
        match &block.kind {
            Kind::File { path: file } => fs::write(path(file), &block.text).expect("a file"),
            Kind::Add { path: file } => {
                let mut file = fs::OpenOptions::new().append(true).open(path(file));
                let file = file.as_mut().unwrap_or_else(|error| panic!("{place}: nothing to add to: {error}"));
                file.write_all(format!("\n{}", block.text).as_bytes()).expect("written");
            }
            Kind::Once => take_what_was_made(&stand.shown, at, stand.directory.path(), &place),
            Kind::Run { .. } | Kind::Build => {
                let shown = stand.blocks.get(at + 1).filter(|next| next.kind == Kind::Shown);
                let begun = Instant::now();
                differs.extend(terminal.type_in(block, shown, &place));
                println!("{place}: after {:.1} s", begun.elapsed().as_secs_f64());
            }
            Kind::Shown => {}
        }
    }
    assert!(differs.is_empty(), "{}", differs.join("\n\n"));
}

/// What `cargo xtask guests` made by following this block, if it followed this very text.
fn take_what_was_made(blocks: &[Block], at: usize, directory: &Path, place: &str) {
    let made = page::made(&repository(), blocks, at);
    let from = fs::read_to_string(made.join(page::FOLLOWED)).unwrap_or_default();
    assert!(from == page::made_from(blocks, at), "{place}: this was not followed yet; run `cargo xtask guests`");
    for entry in fs::read_dir(&made).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            fs::copy(&path, directory.join(path.file_name().expect("a name"))).expect("a component");
        }
    }
}

/// One shell for the whole page, so that directories, variables and programs in the background stay.
struct Terminal {
    shell: Child,
    input: ChildStdin,
    ended: Receiver<String>,
    own: PathBuf,
    directory: PathBuf,
}

impl Terminal {
    fn open(stand: &Stand) -> Self {
        let mut shell = Command::new("sh");
        shell.current_dir(stand.directory.path()).env("PORTICO", &stand.clone);
        // What a terminal of its own does not have; and nothing stands between this machine and itself.
        let cargo = ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"];
        for variable in ["PORTICO_ADMIN_TOKEN", "PORTICO_LOG", "http_proxy", "all_proxy"].iter().chain(&cargo) {
            shell.env_remove(variable);
        }
        // What the page compiles is compiled once: cargo keeps it here.
        shell.env("CARGO_BUILD_BUILD_DIR", page::cargo_keeps(&repository()));
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().expect("a shell");
        let mut input = shell.stdin.take().expect("an input");
        let output = BufReader::new(shell.stdout.take().expect("an output"));
        let (tell, ended) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let [own, directory] = [&stand.own, &stand.directory].map(|directory| directory.path().to_owned());
        // With the shell ends what it started, also where this process is ended: its input is closed then.
        input.write_all(b"trap 'kill -9 0' EXIT\n").expect("an input");
        Self { shell, input, ended, own, directory }
    }

    /// Types a block in; what was not as it says.
    fn type_in(&mut self, block: &Block, shown: Option<&Block>, place: &str) -> Option<String> {
        let exit = if let Kind::Run { exit } = block.kind { exit } else { 0 };
        let looks = block.text.lines().all(|line| LOOKS.iter().any(|look| line.starts_with(look)));
        let begun = Instant::now();
        loop {
            let (ended, said) = self.run(&block.text, looks || exit != 0);
            let as_shown = shown.is_none_or(|shown| matches(&shown.text, &said));
            if ended == Some(exit) && as_shown {
                return None;
            }
            if looks && begun.elapsed() < SOON {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let how = match ended {
                Some(code) => format!("it ended with {code} and not with {exit}"),
                None => format!("a command of it failed, or it took longer than {PATIENCE:?}"),
            };
            assert!(ended == Some(exit), "{place}: {how}:\n{}\n{said}\n{}", block.text, self.log());
            let shown = shown.map_or("", |shown| &shown.text);
            let differs = format!("{place}: the page shows\n{shown}\nand it was\n{said}");
            // What did not come in all that time does not come: each later look would wait for as long, and in vain.
            assert!(!looks, "{differs}\n{}", self.log());
            return Some(differs);
        }
    }

    /// What the page's gateway has to say, where it keeps a log.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).map_or_else(|_| String::new(), |log| format!("its log:\n{log}"))
    }

    /// The exit code, if it ended at all; and what it said, on both streams. What only looks, or is to fail, does so in a shell of
    /// its own; any other command that fails ends this one.
    fn run(&mut self, script: &str, apart: bool) -> (Option<i32>, String) {
        let (file, said) = (self.own.join("typed"), self.own.join("said"));
        fs::write(&file, script).expect("a file");
        let (file, output) = (file.display(), said.display());
        let line = match apart {
            false => format!("set -e; . '{file}' >'{output}' 2>&1 </dev/null; echo 0\n"),
            true => format!("set +e; (set -e; . '{file}') >'{output}' 2>&1 </dev/null; echo $?\n"),
        };
        let typed = self.input.write_all(line.as_bytes()).and_then(|()| self.input.flush());
        let ended = typed.ok().and_then(|()| self.ended.recv_timeout(PATIENCE).ok()).and_then(|code| code.parse().ok());
        (ended, fs::read_to_string(&said).unwrap_or_default())
    }
}

impl Drop for Terminal {
    /// With all that it started.
    fn drop(&mut self) {
        // The shell is waited for last: until then its number is nobody else's.
        let _ = Command::new("sh").args(["-c", "kill -9 \"-$0\"", &self.shell.id().to_string()]).status();
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Whether what came is what a page shows: `…` stands for anything within a line, and alone on a line for any number of lines;
/// blanks count as one, since columns are as wide as what stands in them.
fn matches(shown: &str, came: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    lines_match(&lines(shown.trim_end()), &lines(came.trim_end()))
}

fn lines_match(shown: &[String], came: &[String]) -> bool {
    match shown {
        [] => came.is_empty(),
        [first, rest @ ..] if first == "…" => (0..=came.len()).any(|skipped| lines_match(rest, &came[skipped..])),
        [first, rest @ ..] => {
            came.split_first().is_some_and(|(line, after)| line_matches(first, line) && lines_match(rest, after))
        }
    }
}

fn line_matches(shown: &str, came: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else { return shown == came };
    let Some(rest) = came.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| line_matches(after, &rest[at..]))
}

#[test]
fn what_came_is_compared_by_a_stated_rule() {
    for (shown, came) in [
        ("a\nb\n", "a\nb"),
        ("a  b", "a   b  "),
        ("id: …", "id: req_1"),
        ("x-… : …", "x-request-id : 1"),
        ("one\n…\nfour", "one\ntwo\nthree\nfour"),
        ("one\n…", "one"),
        ("", ""),
    ] {
        assert!(matches(shown, came), "{shown:?} {came:?}");
    }
    for (shown, came) in [
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("ab", "a b"),
        ("id: … c", "id: 1 d"),
        ("one\n…\nfour", "one\ntwo"),
        ("one …", "one two\nthree"),
        ("", "a"),
    ] {
        assert!(!matches(shown, came), "{shown:?} {came:?}");
    }
}
