//! Imports all of WASI and tries it, as the field `x-behaviour` says; what came of it is in `x-answer` of the response.
//! README.md lists all.
#![allow(missing_docs, reason = "generated plumbing")]

use portico_sdk::{About, After, Diagnostic, NoConfig, Policy, Read, Request, Response, ResponseWrite, Setup, Verdict};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::sockets::network::IpAddressFamily::Ipv4;
use wasip2::{cli, filesystem, random, sockets};

const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MILLISECOND;

struct Waits;

const X_BEHAVIOUR: Read = Waits::ABOUT.read("x-behaviour");
const X_ANSWER: ResponseWrite = Waits::ABOUT.response_write("x-answer");

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Policy for Waits {
    type Config = NoConfig;
    const ABOUT: About = About::new("waits", "1.0.0", "Tries what WASI has.")
        .reads(&["x-behaviour"])
        .response_writes(&["x-answer", "x-after"]);

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let behaviour = request.text(X_BEHAVIOUR).unwrap_or("nothing");
        let answer = time(behaviour).or_else(|| reach(behaviour)).or_else(|| harm(behaviour));
        Verdict::next().set_response(X_ANSWER, answer.unwrap_or_else(|| "nothing".to_owned()))
    }

    fn on_response(&self, _response: &Response) -> After {
        monotonic_clock::subscribe_duration(MILLISECOND).block();
        After::next().set(Waits::ABOUT.response_write("x-after"), "waited")
    }
}

portico_sdk::export!(Waits, response);

fn time(behaviour: &str) -> Option<String> {
    Some(match behaviour {
        "nap" => {
            monotonic_clock::subscribe_duration(20 * MILLISECOND).block();
            "woke".to_owned()
        }
        "naps" => {
            (0..10).for_each(|_| monotonic_clock::subscribe_duration(10 * MILLISECOND).block());
            "woke".to_owned()
        }
        "sleep-an-hour" => {
            monotonic_clock::subscribe_duration(HOUR).block();
            "woke".to_owned()
        }
        "clock" => {
            let now = wall_clock::now();
            format!("{} {}", now.seconds * 1_000 + u64::from(now.nanoseconds / 1_000_000), monotonic_clock::now())
        }
        "random" => format!(
            "{} {} {:?}",
            random::random::get_random_u64(),
            random::insecure::get_insecure_random_u64(),
            random::insecure_seed::insecure_seed()
        ),
        // How many calls of this kind its instance has had.
        "grow" => KEPT.with_borrow_mut(|kept| {
            kept.push(black_box(vec![1; 64 << 10]));
            kept.len().to_string()
        }),
        "remember" => {
            CALLS.set(CALLS.get() + 1);
            CALLS.get().to_string()
        }
        _ => return None,
    })
}

/// What an empty context has nothing of.
fn reach(behaviour: &str) -> Option<String> {
    Some(match behaviour {
        "environment" => format!(
            "{:?} {:?} {:?}",
            cli::environment::get_environment(),
            cli::environment::get_arguments(),
            cli::environment::initial_cwd()
        ),
        "files" => format!("{}", filesystem::preopens::get_directories().len()),
        "input" => format!("{:?}", cli::stdin::get_stdin().blocking_read(64)),
        "tcp" => format!("{:?}", sockets::tcp_create_socket::create_tcp_socket(Ipv4).map(|_| ())),
        "udp" => format!("{:?}", sockets::udp_create_socket::create_udp_socket(Ipv4).map(|_| ())),
        "names" => {
            let network = sockets::instance_network::instance_network();
            format!("{:?}", sockets::ip_name_lookup::resolve_addresses(&network, "localhost").map(|_| ()))
        }
        "terminal" => format!("{}", cli::terminal_stdout::get_terminal_stdout().is_some()),
        _ => return None,
    })
}

fn harm(behaviour: &str) -> Option<String> {
    match behaviour {
        "loop" => loop {
            black_box(());
        },
        "panic" => panic!("as told"),
        "exit" => cli::exit::exit(Err(())),
        "exit-well" => cli::exit::exit(Ok(())),
        // Each wait is short, and there is no end to them.
        "nap-forever" => loop {
            monotonic_clock::subscribe_duration(MILLISECOND).block();
        },
        // Never waits, and is never done.
        "poll-forever" => loop {
            monotonic_clock::subscribe_duration(0).block();
        },
        "hoard" => {
            let held: Vec<_> = (0..100_000).map(|_| monotonic_clock::subscribe_duration(HOUR)).collect();
            return Some(held.len().to_string());
        }
        "words" => {
            let out = cli::stdout::get_stdout();
            for _ in 0..1_000 {
                out.blocking_write_and_flush(b"one line\n").expect("always taken");
            }
            cli::stderr::get_stderr().blocking_write_and_flush(b"without an end").expect("always taken");
        }
        "words-without-end" => {
            let out = cli::stdout::get_stdout();
            for _ in 0..10_000 {
                out.blocking_write_and_flush(&[b'x'; 4096]).expect("always taken");
            }
        }
        "much-random" => {
            return Some(random::random::get_random_bytes(1 << 30).len().to_string());
        }
        "eat-memory" => loop {
            std::mem::forget(black_box(vec![1_u8; 1 << 20]));
        },
        _ => return None,
    }
    Some("done".to_owned())
}
