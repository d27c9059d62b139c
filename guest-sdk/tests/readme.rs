//! Checks that both READMEs show the policy that is built and tested, and that it stays short.

const READMES: [&str; 2] = [include_str!("../README.md"), include_str!("../../README.md")];
const HELLO: &str = include_str!("../examples/hello.rs");

#[test]
fn the_readme_shows_the_example() {
    let code = HELLO.split_once("\n\n").expect("a module line").1;
    assert!(READMES.iter().all(|readme| readme.contains(&format!("```rust\n{code}```"))));
}

#[test]
fn the_example_is_about_fifteen_lines_of_policy() {
    let body = HELLO.split_once("impl Policy").expect("an impl").1;
    let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 15, "{lines}");
}
