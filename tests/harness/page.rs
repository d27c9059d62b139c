//! What a page of Markdown tells its reader to do, block by block: one parser for all who follow pages word for word.
//!
//! `cargo xtask guests` includes it too. A block that nobody could follow is an error, so that none can be added unseen.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Beside what was made: from what.
pub const FOLLOWED: &str = "followed";

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Of its opening, from 1.
    pub line: usize,
    /// What stands behind the opening backticks: the language, and for who follows pages a word or two more.
    pub info: String,
    /// The title above it.
    pub section: String,
    /// The paragraph before it, as one line; empty where another block or a title stands there.
    pub before: String,
    /// Its lines, each with its end.
    pub text: String,
}

/// A block as somebody follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Of its opening, from 1.
    pub line: usize,
    /// The title above it.
    pub section: String,
    /// What is done with it.
    pub kind: Kind,
    /// Its lines, each with its end.
    pub text: String,
}

/// What is done with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `sh`, or `sh exit=2`: typed into the reader's shell, which ends so.
    Run {
        /// The exit code.
        exit: i32,
    },
    /// `sh build`: makes files from files, in seconds.
    Build,
    /// `sh once`: makes components from files, in minutes; done once by `cargo xtask guests`.
    Once,
    /// `<language> <path>`: a file of the reader's own.
    File {
        /// Relative to the directory in which the page begins.
        path: String,
    },
    /// `<language> add <path>`: added to the end of a file.
    Add {
        /// As above.
        path: String,
    },
    /// Nothing behind the backticks: what the commands before it print.
    Shown,
}

/// All fenced blocks of a page.
pub fn fences(markdown: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut paragraph = Vec::new();
    let mut section = "";
    let mut lines = markdown.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```"));
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            let (info, section, before) = (info.trim().to_owned(), section.to_owned(), paragraph.join(" "));
            fences.push(Fence { line: number + 1, info, section, before, text });
            paragraph.clear();
        } else if line.starts_with('#') {
            section = line.trim_start_matches('#').trim();
            paragraph.clear();
        } else if !line.trim().is_empty() {
            // Only the last paragraph: the one that ends before the next block.
            if number > 0 && markdown.lines().nth(number - 1).is_some_and(|previous| previous.trim().is_empty()) {
                paragraph.clear();
            }
            paragraph.push(line.trim());
        }
    }
    fences
}

/// All blocks of a page that is followed as a whole.
///
/// # Errors
/// The first block that nobody could follow, in a sentence with its line.
pub fn blocks(markdown: &str) -> Result<Vec<Block>, String> {
    // Other ways to write code would not be noticed.
    let mut inside = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside && (line.starts_with("~~~") || line.starts_with("    ") || line.contains("```")) {
            let why = "code is written between lines of three backticks at their beginning, and not as in";
            return Err(format!("{why}: {line}"));
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    for fence in fences(markdown) {
        let kind = kind(&fence).map_err(|why| format!("line {}: {why}", fence.line))?;
        let prints = blocks.last().is_some_and(|last| matches!(last.kind, Kind::Run { .. } | Kind::Build));
        if kind == Kind::Shown && !prints {
            return Err(format!("line {}: it is shown as output, and no command stands before it", fence.line));
        }
        blocks.push(Block { line: fence.line, section: fence.section, kind, text: fence.text });
    }
    Ok(blocks)
}

fn kind(fence: &Fence) -> Result<Kind, String> {
    let words: Vec<&str> = fence.info.split(' ').filter(|word| !word.is_empty()).collect();
    let named = |path: &str| match fence.before.contains(&format!("`{path}`")) {
        true => Ok(path.to_owned()),
        false => Err(format!("the paragraph before it does not tell the reader that it is the file `{path}`")),
    };
    match words[..] {
        [] => Ok(Kind::Shown),
        ["sh"] => Ok(Kind::Run { exit: 0 }),
        ["sh", "build"] => Ok(Kind::Build),
        ["sh", "once"] => Ok(Kind::Once),
        ["sh", exit] => match exit.strip_prefix("exit=").and_then(|code| code.parse().ok()) {
            Some(exit) => Ok(Kind::Run { exit }),
            None => Err(format!("nobody knows how to follow `{}`", fence.info)),
        },
        [_, "add", path] if fence.before.to_lowercase().contains("add") => Ok(Kind::Add { path: named(path)? }),
        [_, "add", path] => Err(format!("the paragraph before it does not tell the reader to add it to `{path}`")),
        [_, path] => Ok(Kind::File { path: named(path)? }),
        _ => Err(format!("nobody knows how to follow `{}`: it is no command, no output and no file", fence.info)),
    }
}

/// What the components of the block `number` are made from: the files of its section, and the commands up to this one.
///
/// What was made is used only where this is still the same.
pub fn made_from(blocks: &[Block], number: usize) -> String {
    let made = |block: &&Block| {
        block.section == blocks[number].section && matches!(block.kind, Kind::Once | Kind::File { .. })
    };
    blocks[..=number].iter().filter(made).map(|block| format!("{:?}\n{}", block.kind, block.text)).collect()
}

/// Where is kept what following the block `number` of the authors' page made: under its section, and how many such it has before.
pub fn made(repository: &Path, blocks: &[Block], number: usize) -> PathBuf {
    let section = &blocks[number].section;
    let before = blocks[..number].iter().filter(|block| block.kind == Kind::Once && block.section == *section).count();
    repository.join("target/portico/author").join(format!("{section} {before}"))
}

/// Where cargo keeps what the pages compile, whatever directory they are followed in.
pub fn cargo_keeps(repository: &Path) -> PathBuf {
    repository.join("target/portico/author/cargo")
}

/// A clone of the repository as a reader has it, made of links, with another program in the place of `target/release/portico`.
///
/// # Errors
/// When a link cannot be made.
pub fn clone(repository: &Path, program: Option<&Path>) -> io::Result<PathBuf> {
    let clone = repository.join("target/portico/clone");
    let release = clone.join("target/release");
    std::fs::create_dir_all(&release)?;
    let link = |from: &Path, to: PathBuf| {
        let stands = || std::fs::read_link(&to).is_ok_and(|present| present == from);
        if stands() {
            return Ok(());
        }
        let _ = std::fs::remove_file(&to);
        match symlink(from, &to) {
            // By another test, at the same moment.
            Err(_) if stands() => Ok(()),
            other => other,
        }
    };
    for entry in std::fs::read_dir(repository)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
            link(&entry.path(), clone.join(name))?;
        }
    }
    link(&repository.join("target/portico"), clone.join("target/portico"))?;
    match program {
        Some(program) => link(program, release.join("portico")).map(|()| clone),
        None => Ok(clone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_block_is_known_by_what_stands_before_it() {
        let page = "# A\nIn `a/b.rs`,\nas here:\n\n```rust a/b.rs\nfn a() {}\n```\n```sh build\ncargo build\n```\n\
                    Add to `c.toml`:\n```toml add c.toml\n[a]\n```\n```sh exit=2\nfalse\n```\n\n```\nno …\n```\n```sh once\npip\n```\n";
        let kinds: Vec<Kind> = blocks(page).unwrap().into_iter().map(|block| block.kind).collect();
        let (path, added) = ("a/b.rs".to_owned(), "c.toml".to_owned());
        let expected = [
            Kind::File { path },
            Kind::Build,
            Kind::Add { path: added },
            Kind::Run { exit: 2 },
            Kind::Shown,
            Kind::Once,
        ];
        assert_eq!(kinds, expected);
        assert_eq!(blocks(page).unwrap()[0].text, "fn a() {}\n");
        assert_eq!(blocks(page).unwrap()[1].line, 8);
    }

    #[test]
    fn what_nobody_could_follow_is_named_with_its_line() {
        for (page, line, why) in [
            ("a\n```rust\nfn a() {}\n```\n", "line 2", "nobody knows"),
            ("`b.rs` is far away.\n\nNot here:\n```rust b.rs\n```\n", "line 4", "does not tell"),
            ("`b.toml`:\n```toml add b.toml\n```\n", "line 2", "to add it"),
            ("Text.\n```\nwords\n```\n", "line 2", "no command stands before"),
            ("```sh quietly\n```\n", "line 1", "nobody knows"),
            ("- one\n  ```sh\n  ls\n  ```\n", "```sh", "not as in"),
            ("Text:\n\n    ls\n", "    ls", "not as in"),
        ] {
            let error = blocks(page).unwrap_err();
            assert!(error.contains(line) && error.contains(why), "{page}: {error}");
        }
    }

    #[test]
    fn what_is_made_depends_on_its_section_and_nothing_after_it() {
        let page = "# O\n`o`:\n```py o\n9\n```\n# A\n`a`:\n```py a\n1\n```\n```sh once\nx\n```\n```sh\ny\n```\n```sh once\nz\n```\n";
        let all = blocks(page).unwrap();
        assert_eq!(made_from(&all, 2), made_from(&blocks(&page.replace('9', "8")).unwrap(), 2));
        assert_eq!(made_from(&all, 2), made_from(&blocks(&page.replace('z', "w").replace('y', "v")).unwrap(), 2));
        assert_ne!(made_from(&all, 2), made_from(&blocks(&page.replace('1', "2")).unwrap(), 2));
        assert_ne!(made_from(&all, 4), made_from(&blocks(&page.replace('z', "w")).unwrap(), 4));
    }
}
