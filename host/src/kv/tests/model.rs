//! The store against a map that does the same slowly.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Set { space: usize, key: usize, length: usize, ttl: u32 },
    Get { space: usize, key: usize },
    Remove { space: usize, key: usize },
    Pass(u64),
    Sweep,
    Grant { space: usize, bytes: usize, entries: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (space, key) = (0..2_usize, 0..7_usize);
    prop_oneof![
        8 => (space.clone(), key.clone(), 0..40_usize, 0..4_u32)
            .prop_map(|(space, key, length, ttl)| Step::Set { space, key, length, ttl }),
        4 => (space.clone(), key.clone()).prop_map(|(space, key)| Step::Get { space, key }),
        2 => (space.clone(), key).prop_map(|(space, key)| Step::Remove { space, key }),
        2 => (0..2_500_u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => (space, 1..160_usize, 1..6_u64).prop_map(|(space, bytes, entries)| Step::Grant { space, bytes, entries }),
        1 => Just(Step::Restart),
    ]
}

/// One space: what is there, expired or not.
#[derive(Default)]
struct Model(BTreeMap<String, (Option<u64>, Vec<u8>)>);

impl Model {
    fn held(&self) -> (u64, u64) {
        let bytes: usize = self.0.iter().map(|(key, (_, value))| key.len() + value.len()).sum();
        (self.0.len() as u64, bytes as u64)
    }

    fn sweep(&mut self, now: u64) {
        self.0.retain(|_, (expires, _)| expires.is_none_or(|at| at > now));
    }

    fn set(&mut self, grant: &StoreGrant, key: &str, value: &[u8], expires: Option<u64>, now: u64) -> bool {
        for swept in [false, true] {
            if swept {
                self.sweep(now);
            }
            let before = self.held();
            let mut next = self.0.clone();
            next.insert(key.to_owned(), (expires, value.to_vec()));
            let next = Model(next);
            let after = next.held();
            let entries = after.0 <= grant.entries || after.0 <= before.0;
            if entries && (after.1 <= grant.bytes as u64 || after.1 <= before.1) {
                *self = next;
                return true;
            }
        }
        false
    }

    fn get(&self, key: &str, now: u64) -> Option<Vec<u8>> {
        self.0.get(key).filter(|(expires, _)| expires.is_none_or(|at| at > now)).map(|(_, value)| value.clone())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn it_does_what_a_map_does(steps in vec(step(), 1..120)) {
        let directory = tempfile::tempdir().unwrap();
        let data = data(directory.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut kv, clock) = kv_on(&data);
            let mut grants = [grant("space-a", 120, 5), grant("space-b", 60, 9)];
            let mut models = [Model::default(), Model::default()];
            for (number, step) in steps.into_iter().enumerate() {
                let (now, name) = (clock.now().0, |key| format!("key-{key}"));
                match step {
                    Step::Set { space, key, length, ttl } => {
                        let (grant, value) = (&grants[space], vec![number as u8; length]);
                        let expires = (ttl > 0).then(|| now + u64::from(ttl) * 1000);
                        let expected = models[space].set(grant, &name(key), &value, expires, now);
                        let outcome = kv.set(grant, name(key), value, ttl).await;
                        prop_assert_eq!(outcome.is_ok(), expected, "{:?}", outcome);
                        prop_assert!(matches!(outcome, Ok(()) | Err(Error::QuotaExceeded)));
                    }
                    Step::Get { space, key } => {
                        let found = kv.get(&grants[space], name(key)).await.unwrap();
                        prop_assert_eq!(found, models[space].get(&name(key), now));
                    }
                    Step::Remove { space, key } => {
                        kv.remove(&grants[space], name(key)).await.unwrap();
                        models[space].0.remove(&name(key));
                    }
                    Step::Pass(millis) => clock.advance(Duration::from_millis(millis)),
                    Step::Sweep => {
                        let before: u64 = models.iter().map(|model| model.held().0).sum();
                        models.iter_mut().for_each(|model| model.sweep(now));
                        let after: u64 = models.iter().map(|model| model.held().0).sum();
                        prop_assert_eq!(kv.sweep().await, before - after);
                    }
                    Step::Grant { space, bytes, entries } => {
                        grants[space] = StoreGrant { bytes, entries, ..grants[space].clone() };
                    }
                    Step::Restart => {
                        let store = Arc::new(SledKv::open(data.database()).unwrap());
                        kv = Kv::new(Handle::current(), store, clock.clone());
                    }
                }
                for (grant, model) in grants.iter().zip(&models) {
                    prop_assert_eq!(held(&kv, &grant.space), model.held());
                }
            }
            // What is left is what was asked for, and a pointer for each that expires.
            clock.advance(Duration::from_secs(10));
            kv.sweep().await;
            models.iter_mut().for_each(|model| model.sweep(clock.now().0));
            let left: u64 = models.iter().map(|model| model.held().0).sum();
            prop_assert_eq!(in_table(&Trees::open(data.database()).unwrap()) as u64, left);
            Ok(())
        })?;
    }
}
