//! What many keys cost: how long a start takes, what a look-up takes beside few and beside all of them, and the memory of a key in use.
//!
//! `PORTICO_KEYS` says how many (20,000 where it says nothing; ten million take 6 GB of disk), `PORTICO_KEYS_AT` where. They are put into
//! the store past its transactions, in the same trees and form. Each start is a process of its own: this program again. Fails when a
//! start takes too long, a key too much memory, or a look-up longer than beside few.

use portico::audit::SledAudit;
use portico::clock::{Clock, Millis};
use portico::config::SecretSource;
use portico::credential::{Credential, Issuer, Keyring};
use portico::data::DataDirectory;
use portico::id::{KeyId, OrgId};
use portico::key::{Digested, Kept, Key, Mode, Pepper, Peppers, Scopes, SledKeys, Terms};
use portico::outbox::SledOutbox;
use portico::seal::Vault;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW: Millis = Millis(1_800_000_000_000);
/// Keys of one org.
const OF_AN_ORG: u64 = 1_000;
/// Keys that are looked up in turn, beside few and beside many others.
const ASKED: u64 = 1_000;
/// Keys in memory: the default of `keys.hot`.
const HOT: u64 = 1_000_000;
const ROUNDS: usize = 101;
const MOST_START: Duration = Duration::from_secs(10);
const MOST_BYTES: f64 = 200.0;
/// A look-up beside many, to one beside few; the machine's own noise is within.
const MOST_RATIO: f64 = 1.25;

struct Stand {
    keys: SledKeys,
    issuer: Arc<Issuer>,
    ring: Keyring,
    pepper: Pepper,
    _data: DataDirectory,
}

fn secret(number: u64) -> String {
    format!("sk_live_bench_of_many_keys_{number:020}")
}

fn kept(number: u64, pepper: &Pepper) -> Kept {
    let org = OrgId::from_number(u128::from(NOW.0) << 80 | u128::from(number / OF_AN_ORG));
    // As many that are made one after another: in the order of time, by chance within a millisecond.
    let chance = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let id = KeyId::from_number(u128::from(NOW.0 + number / 4) << 80 | chance);
    let terms = Terms { name: "ci".into(), mode: Mode::Live, networks: [].into(), expires: None };
    let key = Arc::new(Key::new(id, org, terms, Scopes::new(["connect", "pay"])));
    let secret =
        Digested { digest: pepper.digest(secret(number).as_bytes()), pepper: pepper.version(), last_four: *b"0000" };
    Kept { key, name: "ci".into(), created: NOW, secret, previous: None, rotated: None, maker: None }
}

fn field(number: u64) -> String {
    format!("Bearer {}", secret(number))
}

/// Resident memory in bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

/// Opens what is there, as a start of the gateway does, and says how long that took.
async fn open(place: &Path) -> Stand {
    let begun = Instant::now();
    let data = DataDirectory::open(&place.join("data")).expect("a data directory");
    let database = begun.elapsed();
    let vault = Arc::new(Vault::open(&SecretSource::File(place.join("master.key")), &data).expect("a vault"));
    let clock = Clock::manual(NOW);
    let audit = SledAudit::open(data.database(), &vault, NOW).expect("an audit log");
    let outbox = SledOutbox::open(data.database()).expect("an outbox");
    let keys = SledKeys::open(data.database(), audit, outbox).expect("keys");
    let peppers = Peppers::new(vault).all().expect("a pepper");
    let (pepper, ring) = (peppers[0].clone(), Keyring::with_room(peppers, HOT));
    let store = Arc::new(keys.clone());
    let issuer = Issuer::open_in(Some(data.path().to_owned()), store, ring.clone(), clock).await.expect("a desk");
    let all = begun.elapsed();
    println!(
        "{:62} {:>9.3} s ({:.3} s of it the database)",
        "  from opening to serving",
        all.as_secs_f64(),
        database.as_secs_f64()
    );
    println!("{:62} {:>9.1} MB", "  resident memory then", resident() / 1e6);
    Stand { keys, issuer: Arc::new(issuer), ring, pepper, _data: data }
}

/// Puts so many keys into the store.
async fn fill(place: &Path, count: u64) {
    let stand = open(place).await;
    let begun = Instant::now();
    let pepper = stand.pepper.clone();
    let filled = stand.keys.fill(count, move |number| kept(number, &pepper));
    filled.expect("a store that takes keys");
    println!("{:62} {:>9.1} s", format!("  {count} keys put into the store"), begun.elapsed().as_secs_f64());
}

/// What a start costs, then what look-ups do.
async fn measure(place: &Path, count: u64) -> bool {
    let begun = Instant::now();
    let stand = open(place).await;
    let start = begun.elapsed();
    tokio::spawn(stand.issuer.clone().answer());
    let resolve = async |number: u64| {
        let field = field(number);
        stand.ring.resolve([field.as_bytes()], HERE, NOW).await.expect("a store that answers")
    };
    let begun = Instant::now();
    for number in 0..ASKED {
        let at = number * (count / ASKED);
        assert!(matches!(resolve(at).await, Credential::Valid(_)), "key {at}");
    }
    println!(
        "{:62} {:>9.1} µs",
        "  the first look-up of a key, from the store",
        begun.elapsed().as_secs_f64() * 1e6 / ASKED as f64
    );
    let begun = Instant::now();
    for number in 0..100_000 {
        assert!(matches!(resolve(count + number).await, Credential::Unknown), "a forged key");
    }
    println!("{:62} {:>9.3} µs", "  a forged key", begun.elapsed().as_secs_f64() * 1e6 / 1e5);
    println!("{:62} {:>9}", "  of 100,000 of these, looked up in the store", stand.ring.figures().look_ups.nobody);

    // The same keys are asked for, beside none and beside a million others in memory.
    let alone = look_ups(&stand.ring, count).await;
    for number in 0..HOT - ASKED {
        stand.ring.add(&kept(1_000_000_000 + number, &stand.pepper));
    }
    let beside = look_ups(&stand.ring, count).await;
    println!("{:62} {alone:>9.3} µs", format!("  a hot key, {ASKED} in memory of {count}"));
    println!("{:62} {beside:>9.3} µs", format!("  a hot key, {} in memory of {count}", HOT));
    let few = Keyring::new(vec![stand.pepper.clone()]);
    for number in 0..ASKED {
        few.add(&kept(number * (count / ASKED), &stand.pepper));
    }
    let few = look_ups(&few, count).await;
    println!("{:62} {few:>9.3} µs", format!("  a hot key, of {ASKED} in all"));
    println!("{:62} {:>9.2}; {:.2}", "  both to that", alone / few, beside / few);
    let mut holds = true;
    for (missed, what) in [
        (start > MOST_START, format!("a start takes more than {MOST_START:?}")),
        (alone / few > MOST_RATIO, format!("a look-up takes more than {MOST_RATIO} of one beside few")),
    ] {
        if missed {
            eprintln!("missed: {what}");
            holds = false;
        }
    }
    holds
}

/// What a key in use takes: in a process that has let go of nothing before.
fn memory() -> bool {
    let pepper = Pepper::new(1, &[1; 32]);
    let ring = Keyring::with_room(vec![pepper.clone()], HOT);
    let before = resident();
    (0..HOT).for_each(|number| drop(ring.add(&kept(number, &pepper))));
    let bytes = (resident() - before) / HOT as f64;
    println!("{:62} {bytes:>9.1} bytes", format!("  a hot key, of {HOT}, by what is resident"));
    if bytes > MOST_BYTES {
        eprintln!("missed: a hot key takes more than {MOST_BYTES} bytes");
    }
    bytes <= MOST_BYTES
}

/// Microseconds of one look-up: those of the quickest of many rounds, in which nothing else wanted the processor.
async fn look_ups(ring: &Keyring, count: u64) -> f64 {
    let fields: Vec<String> = (0..ASKED).map(|number| field(number * (count / ASKED))).collect();
    let mut quickest = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..20 {
            for field in &fields {
                let found = ring.resolve([field.as_bytes()], HERE, NOW).await;
                assert!(matches!(found, Ok(Credential::Valid(_))));
            }
        }
        quickest = quickest.min(begun.elapsed().as_secs_f64() * 1e6 / (20 * ASKED) as f64);
    }
    quickest
}

/// This program again, as a process of its own.
fn again(what: &str, place: &Path, count: u64) -> bool {
    println!("{what}");
    let program = std::env::current_exe().expect("a program");
    let ended = Command::new(program).args([what, &place.display().to_string(), &count.to_string()]).status();
    ended.expect("a process").success()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    if let [what, place, count] = &arguments[..]
        && let Ok(count) = count.parse()
    {
        let place = PathBuf::from(place);
        let holds = match &**what {
            "fill" => {
                runtime.block_on(fill(&place, count));
                true
            }
            "first start" | "start without a filter" => {
                // The filter is made and written, and what the database has to go through at a first start is gone through.
                runtime
                    .block_on(async { open(&place).await.issuer.tend_filter().await.expect("a filter that is kept") });
                true
            }
            "memory" => memory(),
            _ => runtime.block_on(measure(&place, count)),
        };
        return if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let count = std::env::var("PORTICO_KEYS").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let within = std::env::var_os("PORTICO_KEYS_AT").map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::tempdir_in(within).expect("a directory");
    let holds = again("memory", place.path(), count)
        && again("fill", place.path(), count)
        && again("first start", place.path(), count)
        && again("start", place.path(), count);
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
