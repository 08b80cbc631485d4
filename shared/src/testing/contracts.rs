//! What every implementation of a port must do: one suite per port.
//!
//! Each takes an empty store, fails with a text that says what was broken, and uses no clock and no randomness. Times
//! lie in the year 2100, so that a table with a TTL keeps the items.

use std::error::Error;
use std::fmt::Debug;

use futures_util::future::join_all;

use crate::clock::Timestamp;
use crate::device::{
    Accepted, Auth, CarriedValue, Device, DeviceRecord, Failing, LastWrite, NewSeed, PendingSeed, RegisteredBy,
    Registration, Status, Verdict,
};
use crate::error::StoreError;
use crate::names::{
    AuthId, ClientId, DeviceKey, DeviceName, NameError, Owner, SealedId, SecretVersion, SeedRef, UserName, WriteId,
    seed_name,
};
use crate::otp::{Algorithm, Digits, OtpParameters, Period, Seed, Step};
use crate::policy::Policy;
use crate::ports::operator::{DeviceFilter, DeviceInventory, KeyRingStore, Rotated, SeedInventory, SeedSummary};
use crate::ports::registry::{ActivationStore, Removed};
use crate::ports::{AuthStore, Stored, Written};
use crate::registration::{Activation, StoredSeed};
use crate::sealed::{NewKey, SealedSeed};
use crate::testing::random::SequenceRandom;

/// What a suite found: nothing, or the first promise that was broken.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// What the names of the seeds begin with that [`seed_store_contract`] creates.
pub const SEED_PREFIX: &str = "contract";

/// How many concurrent calls make a race.
const RACERS: u8 = 16;
/// The year 2100, in seconds.
const THEN: u64 = 4_102_444_800;

fn ensure(kept: bool, promise: &str) -> Result<(), String> {
    if kept {
        Ok(())
    } else {
        Err(format!("not so: {promise}"))
    }
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, got {got:?}"))
    }
}

fn key(client: &str, user: &str, device: &str) -> Result<DeviceKey, NameError> {
    Ok(DeviceKey {
        owner: Owner::parse(client)?,
        user: UserName::parse(user)?,
        device: DeviceName::parse(device)?,
    })
}

fn auth_id(number: u8) -> AuthId {
    AuthId::from_random_bytes([number; 16])
}

fn write_id(number: u8) -> WriteId {
    WriteId::from_bytes([number; 16])
}

/// A device as it is registered; each number gives another one.
fn device(number: u64) -> Result<Device, NameError> {
    Ok(Device {
        last_step: Step(THEN / 30),
        ..Device::registered(
            1_000 * number,
            Status::Active,
            SeedRef::new(
                &format!("contract/seed/{number:032x}"),
                "11111111-2222-4333-8444-555555555555",
            )?,
            OtpParameters::default(),
        )
    })
}

/// Devices in which every field has every kind of value that it can have, both ends of its range included.
fn states() -> Result<Vec<Device>, NameError> {
    let expires_at = Timestamp::from_secs(THEN + 300);
    let accepted = |number| Accepted {
        auth_id: auth_id(number),
        write_id: write_id(number + 100),
        expires_at,
    };
    let failing = |number, count| Failing {
        auth_id: auth_id(number),
        count,
    };
    let base = device(1)?;
    let mut states = vec![
        base.clone(),
        Device {
            version: (1 << 63) + 7,
            last_step: Step(THEN / 30 + 1),
            accepted: (1..=3).map(accepted).collect(),
            failing: vec![failing(9, 4), failing(7, 1), failing(8, 5), failing(6, 2)],
            consecutive_failures: 3,
            total_failures: 41,
            not_before: Timestamp::from_millis(THEN * 1_000 + 1),
            budget_at: Timestamp::from_millis(THEN * 1_000 + 999),
            pair_at: Timestamp::from_millis(THEN * 1_000 - 1),
            ..base.clone()
        },
        Device {
            version: 0,
            seed_ref: SeedRef::new(&"n".repeat(512), &"v".repeat(512))?,
            last_step: Step(0),
            ..base.clone()
        },
        Device {
            version: u64::MAX,
            last_step: Step(u64::MAX),
            accepted: vec![Accepted {
                expires_at: Timestamp::from_secs(u64::MAX / 1_000),
                ..accepted(5)
            }],
            failing: vec![failing(5, u32::MAX)],
            consecutive_failures: u32::MAX,
            total_failures: u64::MAX,
            not_before: Timestamp::from_millis(u64::MAX),
            budget_at: Timestamp::from_millis(u64::MAX),
            pair_at: Timestamp::from_millis(u64::MAX),
            ..base.clone()
        },
    ];
    states.extend(Verdict::ALL.into_iter().map(|verdict| {
        let last_write = LastWrite {
            write_id: write_id(0xff),
            auth_id: auth_id(0),
            verdict,
        };
        Device {
            last_write: Some(last_write),
            ..base.clone()
        }
    }));
    let number = || CarriedValue::Number("-1.5".to_owned());
    let carried = [
        ("null", CarriedValue::Null),
        ("flag", CarriedValue::Flag(false)),
        ("number", number()),
        ("text", CarriedValue::Text(String::new())),
        ("bytes", CarriedValue::Bytes(vec![0, 255])),
        (
            "list",
            CarriedValue::List(vec![number(), CarriedValue::List(Vec::new())]),
        ),
        (
            "members",
            CarriedValue::Members([("format".to_owned(), number())].into()),
        ),
    ];
    states.push(Device {
        carried: carried.map(|(name, value)| (name.to_owned(), value)).into(),
        ..base.clone()
    });
    states.extend(Status::ALL.into_iter().map(|status| Device { status, ..base.clone() }));
    states.extend(every_parameters().map(|parameters| Device {
        parameters,
        ..base.clone()
    }));
    Ok(states)
}

fn every_parameters() -> impl Iterator<Item = OtpParameters> {
    Algorithm::ALL.into_iter().flat_map(|algorithm| {
        [Digits::Six, Digits::Eight].into_iter().flat_map(move |digits| {
            [Period::Thirty, Period::Sixty].map(move |period| OtpParameters {
                algorithm,
                digits,
                period,
            })
        })
    })
}

/// Names that a careless key would mix up, or a careless encoding would break. No two are the same device.
fn confusable_keys() -> Result<Vec<DeviceKey>, NameError> {
    let longest_user = "\u{1f511}".repeat(UserName::LONGEST);
    let longest_device = "\u{1f4f1}".repeat(DeviceName::LONGEST);
    let longest_client = "c".repeat(ClientId::LONGEST);
    [
        ("shop", "alice", "phone"),
        ("bank", "alice", "phone"),
        ("shop", "phone", "alice"),
        ("shop", "Alice", "phone"),
        ("shop", "alice", "Phone"),
        ("Shop", "alice", "phone"),
        ("sho", "palice", "phone"),
        ("shop", "alicep", "hone"),
        ("shop", "alice#phone", "x"),
        ("shop", "alice", "phone#x"),
        ("shop", "alice#phone#x", "x"),
        ("shop", "#", "#"),
        ("shop", "##", "#"),
        ("shop", "a/b", "c"),
        ("shop", "a", "b/c"),
        ("shop/a", "b", "c"),
        ("shop", "a b", "c d"),
        ("shop", "a  b", "c d"),
        ("shop", "a%20b", "c+d"),
        ("shop", "a%23b", "c%2Fd"),
        ("shop", "me+tag@example.com", "my device"),
        ("shop", "Jos\u{e9}", "\u{fc}ber"),
        ("shop", "Jose", "uber"),
        ("shop", "\u{fb01}", "\u{212b}ngstr\u{f6}m"),
        ("shop", "fi", "Angstrom"),
        ("shop", "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}", "\u{1f4f1}"),
        ("shop", "\u{1f469}\u{1f469}\u{1f467}", "\u{1f4f1}\u{fe0f}"),
        ("shop", "\u{5d0}\u{5dc}\u{5d9}\u{5e1}", "\u{6a9}\u{6cc}"),
        ("shop", "\"'`\\", "{}[]()$&|;<>"),
        ("shop", "..", "."),
        ("shop", "null", "0"),
        ("shop", "shop#alice", "phone"),
        (&longest_client, &longest_user, &longest_device),
    ]
    .into_iter()
    .map(|(client, user, device)| key(client, user, device))
    .collect()
}

/// What every [`AuthStore`] must do.
///
/// # Errors
/// A text that says which promise was broken, or the store's own error.
pub async fn auth_store_contract(store: &impl AuthStore) -> Outcome {
    same("an auth that was never stored", &store.get(auth_id(1)).await?, &None)?;
    auths_come_back_as_they_were(store).await?;
    an_auth_is_never_overwritten(store).await?;
    one_of_racing_auths_gets_the_id(store).await
}

fn auth(number: u8, key: &DeviceKey, device: &Device) -> Auth {
    Auth {
        id: auth_id(number),
        key: key.clone(),
        issued_at: Timestamp::from_secs(THEN),
        expires_at: Timestamp::from_secs(THEN + 300),
        device: device.clone(),
    }
}

async fn auths_come_back_as_they_were(store: &impl AuthStore) -> Outcome {
    let (states, keys) = (states()?, confusable_keys()?);
    let stored: Vec<_> = (10..)
        .zip(keys.iter().zip(states.iter().cycle()))
        .map(|(number, (key, device))| auth(number, key, device))
        .collect();
    for auth in &stored {
        same("a new auth", &store.create(auth).await?, &Stored::Yes)?;
    }
    for auth in &stored {
        same(
            "an auth that was stored",
            &store.get(auth.id).await?.as_ref(),
            &Some(auth),
        )?;
    }
    Ok(())
}

async fn an_auth_is_never_overwritten(store: &impl AuthStore) -> Outcome {
    let first = auth(2, &key("shop", "alice", "phone")?, &device(1)?);
    same("a new auth", &store.create(&first).await?, &Stored::Yes)?;
    same(
        "the same call again, as after a lost response",
        &store.create(&first).await?,
        &Stored::Yes,
    )?;
    let later = Timestamp::from_secs(THEN + 1);
    for other in [
        Auth {
            key: key("bank", "alice", "phone")?,
            ..first.clone()
        },
        Auth {
            key: key("shop", "bob", "phone")?,
            ..first.clone()
        },
        Auth {
            key: key("shop", "alice", "tablet")?,
            ..first.clone()
        },
        Auth {
            issued_at: later,
            ..first.clone()
        },
    ] {
        same(
            "an auth with an id that is taken",
            &store.create(&other).await?,
            &Stored::Taken,
        )?;
    }
    let changed = Auth {
        expires_at: later,
        device: device(2)?,
        ..first.clone()
    };
    same(
        "an auth of the same client, device and time of issue",
        &store.create(&changed).await?,
        &Stored::Yes,
    )?;
    same(
        "the auth that was there first",
        &store.get(first.id).await?.as_ref(),
        &Some(&first),
    )?;
    Ok(())
}

async fn one_of_racing_auths_gets_the_id(store: &impl AuthStore) -> Outcome {
    let device = device(1)?;
    let racing = (0..RACERS).map(|number| Ok(auth(3, &key("shop", &format!("user {number}"), "phone")?, &device)));
    let racing = racing.collect::<Result<Vec<_>, NameError>>()?;
    let stored = join_all(racing.iter().map(|auth| store.create(auth))).await;
    let winner = only_winner(racing, stored, |_, stored| *stored == Stored::Yes)?;
    same("the auth that won a race", &store.get(auth_id(3)).await?, &Some(winner))?;
    Ok(())
}

/// The one racer whose call succeeded.
fn only_winner<T, R: Debug>(
    racing: Vec<T>,
    results: Vec<Result<R, StoreError>>,
    won: impl Fn(&T, &R) -> bool,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    let results = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut winners: Vec<_> = racing
        .into_iter()
        .zip(&results)
        .filter(|(racer, result)| won(racer, result))
        .collect();
    same("winners of a race", &winners.len(), &1)?;
    winners
        .pop()
        .map(|(winner, _)| winner)
        .ok_or_else(|| "a race without a winner".into())
}

/// What every [`DeviceInventory`] must do, its `DeviceStore` included.
///
/// # Errors
/// A text that says which promise was broken, or the store's own error.
pub async fn device_store_contract(store: &impl DeviceInventory) -> Outcome {
    let key = key("shop", "alice", "phone")?;
    a_write_never_creates_a_device(store, &key).await?;
    a_name_is_registered_once(store, &key).await?;
    devices_come_back_as_they_were_written(store, &key).await?;
    a_write_needs_version_and_seed(store, &key).await?;
    one_of_racing_writes_takes_effect(store, &key).await?;
    a_removed_device_is_gone(store, &key).await?;
    a_device_is_removed_only_as_the_one_that_was_held(store, &key).await?;
    exactly_one_of_racing_registrations_gets_the_name(store, &key).await?;
    a_pending_seed_is_swapped_in_by_one_write(store, &key).await?;
    a_device_that_was_never_active_gets_another_seed_by_one_write(store, &key).await?;
    a_removal_by_seed_needs_the_seed_alone(store, &key).await?;
    a_sealed_seed_is_moved_and_never_written(store, &key).await?;
    a_device_that_was_never_active_changes_between_both_kinds_of_seeds(store, &key).await?;
    sealed_seeds_are_written_over_those_that_were_read(store, &key).await?;
    a_seed_is_moved_unless_another_one_waits(store, &key).await?;
    names_are_kept_apart(store).await?;
    pages_have_every_device_once(store).await
}

fn registration() -> Registration {
    Registration::by_operator(created())
}

fn created() -> Timestamp {
    Timestamp::from_secs(THEN)
}

async fn a_write_never_creates_a_device(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let device = device(1)?;
    same("a device that was never registered", &store.get(key).await?, &None)?;
    let new = Device {
        version: device.version + 1,
        ..device.clone()
    };
    same(
        "a write of it",
        &store.replace(key, &device, &new, Some(created())).await?,
        &Written::No(None),
    )?;
    same("it after that write", &store.get(key).await?, &None)?;
    same("its record", &store.record(key).await?, &None)?;
    same(
        "an offer to it",
        &store.set_pending_seed(key, &device, &pending()?).await?,
        &Written::No(None),
    )?;
    same("it after that offer", &store.get(key).await?, &None)?;
    same("what was removed where nothing is", &store.remove(key).await?, &None)?;
    Ok(())
}

fn pending() -> Result<PendingSeed, NameError> {
    Ok(PendingSeed {
        seed_ref: SeedRef::new("contract/seed/pending", "v")?,
        sealed: None,
        until: Timestamp::from_secs(THEN + 3_600),
    })
}

async fn a_name_is_registered_once(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let (first, second) = (device(1)?, device(2)?);
    same(
        "a new device",
        &store.register(key, &first, &registration()).await?,
        &Stored::Yes,
    )?;
    same(
        "a second one by its name",
        &store.register(key, &second, &registration()).await?,
        &Stored::Taken,
    )?;
    let again = store.register(key, &first, &registration()).await?;
    same(
        "the same registration again, as after a lost response",
        &again,
        &Stored::Yes,
    )?;
    same("the device that was there first", &store.get(key).await?, &Some(first))?;
    Ok(())
}

async fn devices_come_back_as_they_were_written(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let mut held = current(store, key).await?;
    // From every state to the next, and from the last, which has no last write, back to the first.
    let states = states()?;
    for (position, new) in states.iter().chain(states.first()).enumerate() {
        let used_at = (position % 2 == 0).then(created);
        if new.seed_ref != held.seed_ref {
            let pending = PendingSeed {
                seed_ref: new.seed_ref.clone(),
                ..pending()?
            };
            same(
                "an offer",
                &store.set_pending_seed(key, &held, &pending).await?,
                &Written::Yes,
            )?;
            held.version += 1;
        }
        same(
            "a write of what is held",
            &store.replace(key, &held, new, used_at).await?,
            &Written::Yes,
        )?;
        same("a device that was written", &store.get(key).await?.as_ref(), &Some(new))?;
        let refused = store
            .replace(
                key,
                &Device {
                    seed_ref: other_seed()?,
                    ..new.clone()
                },
                &held,
                used_at,
            )
            .await?;
        same(
            "the state that a write failed on",
            &refused,
            &Written::No(Some(Box::new(new.clone()))),
        )?;
        held = new.clone();
    }
    Ok(())
}

fn other_seed() -> Result<SeedRef, NameError> {
    SeedRef::new("contract/seed/other", "v")
}

async fn current(store: &impl DeviceInventory, key: &DeviceKey) -> Result<Device, Box<dyn Error + Send + Sync>> {
    store
        .get(key)
        .await?
        .ok_or_else(|| "a device that was registered is not there".into())
}

async fn a_write_needs_version_and_seed(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let stored = current(store, key).await?;
    let secret = stored.seed_ref.secret().ok_or("the seed is in no secret")?;
    let seed_ref = SeedRef::new(secret.name(), "another-version")?;
    let name = SeedRef::new(&format!("{}0", secret.name()), secret.version())?;
    for held in [
        Device {
            version: stored.version + 1,
            ..stored.clone()
        },
        Device {
            version: stored.version - 1,
            ..stored.clone()
        },
        Device {
            seed_ref,
            ..stored.clone()
        },
        Device {
            seed_ref: name,
            ..stored.clone()
        },
        Device {
            version: stored.version + 1,
            seed_ref: other_seed()?,
            ..stored.clone()
        },
    ] {
        let new = Device {
            version: held.version + 1,
            total_failures: 99,
            ..held.clone()
        };
        let written = store.replace(key, &held, &new, Some(created())).await?;
        same(
            "a write of what is not held any more",
            &written,
            &Written::No(Some(Box::new(stored.clone()))),
        )?;
        same("the device after it", &store.get(key).await?.as_ref(), &Some(&stored))?;
    }
    // The version stands for everything else.
    let held = Device {
        total_failures: 7,
        last_step: Step(1),
        status: Status::Disabled,
        ..stored.clone()
    };
    let new = Device {
        version: stored.version + 1,
        ..stored.clone()
    };
    same(
        "a write of its version and seed",
        &store.replace(key, &held, &new, None).await?,
        &Written::Yes,
    )?;
    let again = store.replace(key, &held, &new, None).await?;
    same("the same write again", &again, &Written::No(Some(Box::new(new))))?;
    Ok(())
}

async fn one_of_racing_writes_takes_effect(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let held = current(store, key).await?;
    let racing: Vec<_> = (0..RACERS)
        .map(|number| Device {
            version: held.version + 1,
            last_write: Some(LastWrite {
                write_id: write_id(number),
                auth_id: auth_id(number),
                verdict: Verdict::Rejected,
            }),
            total_failures: held.total_failures + 1,
            ..held.clone()
        })
        .collect();
    let written = join_all(racing.iter().map(|new| store.replace(key, &held, new, None))).await;
    let refused: Vec<_> = written
        .iter()
        .flatten()
        .filter(|written| **written != Written::Yes)
        .cloned()
        .collect();
    // On a loaded machine an answer is lost now and then, and the SDK's repetition meets the racer's own write.
    let winner = only_winner(racing, written, |new, written| match written {
        Written::Yes => true,
        Written::NotPending => false,
        Written::No(stored) => stored.as_deref() == Some(new),
    })?;
    same(
        "the device that won a race",
        &store.get(key).await?.as_ref(),
        &Some(&winner),
    )?;
    for loser in refused {
        same(
            "the state that a loser failed on",
            &loser,
            &Written::No(Some(Box::new(winner.clone()))),
        )?;
    }
    Ok(())
}

/// The next state of a device, with a seed.
fn next(held: &Device, seed_ref: &SeedRef) -> Device {
    Device {
        version: held.version + 1,
        seed_ref: seed_ref.clone(),
        ..held.clone()
    }
}

fn refused(stored: &Device) -> Written {
    Written::No(Some(Box::new(stored.clone())))
}

async fn a_pending_seed_is_swapped_in_by_one_write(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let held = device(5)?;
    same(
        "a new device",
        &store.register(key, &held, &registration()).await?,
        &Stored::Yes,
    )?;
    let record = DeviceRecord {
        key: key.clone(),
        device: held.clone(),
        pending: None,
        created_at: created(),
        by: RegisteredBy::Operator,
        activate_by: None,
        last_used_at: None,
    };
    same("its record", &store.record(key).await?.as_ref(), &Some(&record))?;
    let unknown = store
        .replace(key, &held, &next(&held, &pending()?.seed_ref), None)
        .await?;
    same("a swap for a seed that is not pending", &unknown, &Written::NotPending)?;
    let offered = an_offer_needs_version_and_seed(store, record).await?;
    a_swap_takes_what_is_pending(store, offered).await
}

async fn an_offer_needs_version_and_seed(
    store: &impl DeviceInventory,
    record: DeviceRecord,
) -> Result<DeviceRecord, Box<dyn Error + Send + Sync>> {
    let (key, held) = (&record.key, &record.device);
    let pending = pending()?;
    let (of_another_version, of_another_seed) = (next(held, &held.seed_ref), next(held, &other_seed()?));
    for stale in [
        of_another_version,
        Device {
            version: held.version,
            ..of_another_seed
        },
    ] {
        let written = store.set_pending_seed(key, &stale, &pending).await?;
        same("an offer to what is not held", &written, &refused(held))?;
    }
    let first = PendingSeed {
        seed_ref: other_seed()?,
        ..pending.clone()
    };
    for what in ["an offer", "the same offer again, as after a lost response"] {
        same(what, &store.set_pending_seed(key, held, &first).await?, &Written::Yes)?;
    }
    let held = next(held, &held.seed_ref);
    same("the device after it", &store.get(key).await?.as_ref(), &Some(&held))?;
    same(
        "a second offer",
        &store.set_pending_seed(key, &held, &pending).await?,
        &Written::Yes,
    )?;
    let offered = DeviceRecord {
        device: next(&held, &held.seed_ref),
        pending: Some(pending),
        ..record.clone()
    };
    same(
        "the record after it",
        &store.record(key).await?.as_ref(),
        &Some(&offered),
    )?;
    Ok(offered)
}

async fn a_swap_takes_what_is_pending(store: &impl DeviceInventory, offered: DeviceRecord) -> Outcome {
    let (key, held, pending) = (&offered.key, &offered.device, pending()?);
    let former = store.replace(key, held, &next(held, &other_seed()?), None).await?;
    same("a swap for what was pending before", &former, &Written::NotPending)?;
    // A sign-in leaves the pending seed as it is.
    let used = next(held, &held.seed_ref);
    same(
        "a write",
        &store.replace(key, held, &used, Some(created())).await?,
        &Written::Yes,
    )?;
    let after = DeviceRecord {
        device: used.clone(),
        last_used_at: Some(created()),
        ..offered.clone()
    };
    same("the record after it", &store.record(key).await?.as_ref(), &Some(&after))?;
    let swapped = next(&used, &pending.seed_ref);
    same(
        "a swap",
        &store.replace(key, &used, &swapped, None).await?,
        &Written::Yes,
    )?;
    let again = store.replace(key, &used, &swapped, None).await?;
    same("the same swap again", &again, &refused(&swapped))?;
    let after = DeviceRecord {
        device: swapped,
        pending: None,
        ..after
    };
    same("the record after it", &store.record(key).await?.as_ref(), &Some(&after))?;
    same("what was removed", &store.remove(key).await?, &Some(after))?;
    Ok(())
}

fn blob(number: u8) -> SealedSeed {
    SealedSeed::from_bytes(vec![SealedSeed::FORMAT, number, 2, 3, 4, 5])
}

fn sealed_ref(number: u8) -> SeedRef {
    SeedRef::Sealed(SealedId::from_random_bytes([number; 16]))
}

async fn current_record(
    store: &impl DeviceInventory,
    key: &DeviceKey,
) -> Result<DeviceRecord, Box<dyn Error + Send + Sync>> {
    Ok(store.record(key).await?.ok_or("the device is gone")?)
}

async fn sealed_seeds_are_written_over_those_that_were_read(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let held = Device {
        seed_ref: sealed_ref(1),
        sealed: Some(blob(1)),
        ..device(8)?
    };
    store.register(key, &held, &registration()).await?;
    let with = |record: &DeviceRecord, own: u8, pending: u8| {
        let mut new = record.clone();
        new.device.sealed = Some(blob(own));
        if let Some(waits) = &mut new.pending {
            waits.sealed = Some(blob(pending));
        }
        new
    };
    let alone = current_record(store, key).await?;
    for what in ["a seed sealed again", "the same call again, as after a lost response"] {
        same(what, &store.reseal(&alone, &with(&alone, 2, 0)).await?, &Written::Yes)?;
    }
    let again = with(&alone, 2, 0);
    same("the record after it", &current_record(store, key).await?, &again)?;
    let stale = store.reseal(&alone, &with(&alone, 3, 0)).await?;
    same(
        "over another blob than the one that was read",
        &stale,
        &refused(&again.device),
    )?;
    let waits = PendingSeed {
        seed_ref: sealed_ref(9),
        sealed: Some(blob(9)),
        ..pending()?
    };
    store.set_pending_seed(key, &again.device, &waits).await?;
    let both = current_record(store, key).await?;
    same("what is pending", &both.pending.as_ref(), &Some(&waits))?;
    let stale = store.reseal(&again, &with(&again, 3, 0)).await?;
    same("while another seed is pending", &stale, &refused(&both.device))?;
    // A sign-in is not in the way.
    let used = next(&both.device, &both.device.seed_ref);
    store.replace(key, &both.device, &used, None).await?;
    let written = store.reseal(&both, &with(&both, 4, 5)).await?;
    same("both seeds sealed again", &written, &Written::Yes)?;
    let both = with(
        &DeviceRecord {
            device: used,
            ..both.clone()
        },
        4,
        5,
    );
    same("the record after it", &current_record(store, key).await?, &both)?;
    let swapped = next(&both.device, &waits.seed_ref);
    store.replace(key, &both.device, &swapped, None).await?;
    let stale = store.reseal(&both, &with(&both, 6, 6)).await?;
    let expected = Device {
        sealed: Some(blob(5)),
        ..swapped
    };
    same("over another seed", &stale, &refused(&expected))?;
    store.remove(key).await?;
    let gone = store.reseal(&both, &with(&both, 6, 6)).await?;
    same("of a device that is gone", &gone, &Written::No(None))?;
    Ok(())
}

async fn a_seed_is_moved_unless_another_one_waits(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let held = device(8)?;
    store.register(key, &held, &registration()).await?;
    let record = current_record(store, key).await?;
    let to_sealed = StoredSeed {
        seed_ref: sealed_ref(3),
        sealed: Some(blob(3)),
    };
    for what in ["a seed moved", "the same call again, as after a lost response"] {
        same(what, &store.move_seed(&record, &to_sealed).await?, &Written::Yes)?;
    }
    let mut expected = record.clone();
    expected.device = Device {
        sealed: to_sealed.sealed,
        ..next(&held, &to_sealed.seed_ref)
    };
    let moved = current_record(store, key).await?;
    same("the record after it", &moved, &expected)?;
    let back = StoredSeed {
        seed_ref: other_seed()?,
        sealed: None,
    };
    let stale = store.move_seed(&record, &back).await?;
    same("of a device that was changed", &stale, &refused(&moved.device))?;
    let used = next(&moved.device, &moved.device.seed_ref);
    store.replace(key, &moved.device, &used, None).await?;
    let stale = store.move_seed(&moved, &back).await?;
    same("of a device that was used", &stale, &refused(&used))?;
    let waits = pending()?;
    store.set_pending_seed(key, &used, &waits).await?;
    let offered = current_record(store, key).await?;
    let unaware = DeviceRecord {
        pending: None,
        ..offered.clone()
    };
    let stale = store.move_seed(&unaware, &back).await?;
    same("while another seed waits", &stale, &refused(&offered.device))?;
    let of_another = DeviceRecord {
        pending: Some(PendingSeed {
            seed_ref: other_seed()?,
            ..waits
        }),
        ..offered.clone()
    };
    let stale = store.move_seed(&of_another, &back).await?;
    same("while yet another seed waits", &stale, &refused(&offered.device))?;
    same(
        "with the one that is known to wait, which is forgotten",
        &store.move_seed(&offered, &back).await?,
        &Written::Yes,
    )?;
    let expected = DeviceRecord {
        device: Device {
            sealed: None,
            ..next(&offered.device, &back.seed_ref)
        },
        pending: None,
        ..offered.clone()
    };
    same("the record after it", &current_record(store, key).await?, &expected)?;
    store.remove(key).await?;
    let gone = store.move_seed(&expected, &to_sealed_again()).await?;
    same("of a device that is gone", &gone, &Written::No(None))?;
    Ok(())
}

fn to_sealed_again() -> StoredSeed {
    StoredSeed {
        seed_ref: sealed_ref(4),
        sealed: Some(blob(4)),
    }
}

/// A sealed seed with a number, and where it is.
fn sealed(number: u8) -> (SeedRef, Option<SealedSeed>) {
    let id = SealedId::from_random_bytes([number; 16]);
    let blob = [SealedSeed::FORMAT, 0, 0, 0, 1, number];
    (SeedRef::Sealed(id), Some(SealedSeed::from_bytes(blob.to_vec())))
}

/// What a verdict or a swap writes: it knows nothing of the blob.
fn next_without_blob(held: &Device, seed_ref: &SeedRef) -> Device {
    Device {
        sealed: None,
        ..next(held, seed_ref)
    }
}

async fn a_sealed_seed_is_moved_and_never_written(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let (first, blob) = sealed(1);
    let mut held = Device {
        seed_ref: first.clone(),
        sealed: blob,
        ..device(8)?
    };
    store.register(key, &held, &registration()).await?;
    same("a sealed device", &store.get(key).await?.as_ref(), &Some(&held))?;
    let written = next_without_blob(&held, &first);
    same(
        "a verdict",
        &store.replace(key, &held, &written, None).await?,
        &Written::Yes,
    )?;
    let kept = Device {
        sealed: held.sealed.clone(),
        ..written
    };
    same(
        "its seed after a verdict",
        &store.get(key).await?.as_ref(),
        &Some(&kept),
    )?;
    held = kept;

    let secret = (other_seed()?, None);
    // From a sealed seed to a sealed one, to a secret, to a secret, and back; each time over one that was pending before.
    for (number, (seed_ref, blob)) in (2..).zip([sealed(2), secret.clone(), (pending()?.seed_ref, None), sealed(3)]) {
        let (former, former_blob) = if number == 3 { sealed(9) } else { secret.clone() };
        for (seed_ref, sealed) in [(former, former_blob), (seed_ref.clone(), blob.clone())] {
            let offered = PendingSeed {
                seed_ref,
                sealed,
                ..pending()?
            };
            same(
                "an offer",
                &store.set_pending_seed(key, &held, &offered).await?,
                &Written::Yes,
            )?;
            held = next(&held, &held.seed_ref);
            let record = store
                .record(key)
                .await?
                .ok_or("a device that was offered a seed is not there")?;
            same("its pending seed", &record.pending, &Some(offered))?;
            same("its own", &record.device, &held)?;
        }
        let swap = next_without_blob(&held, &seed_ref);
        same("a swap", &store.replace(key, &held, &swap, None).await?, &Written::Yes)?;
        held = Device { sealed: blob, ..swap };
        let record = store
            .record(key)
            .await?
            .ok_or("a device that was swapped is not there")?;
        same("its seed after a swap", &record.device, &held)?;
        same("what is pending after a swap", &record.pending, &None)?;
    }
    store.remove(key).await?;
    Ok(())
}

async fn a_device_that_was_never_active_changes_between_both_kinds_of_seeds(
    store: &impl DeviceInventory,
    key: &DeviceKey,
) -> Outcome {
    let mut held = Device {
        status: Status::ActivationRequired,
        ..device(9)?
    };
    store.register(key, &held, &registration()).await?;
    for (seed_ref, sealed) in [sealed(4), sealed(5), (other_seed()?, None)] {
        let new = Device {
            sealed,
            ..next(&held, &seed_ref)
        };
        let written = store.reseed(key, &held, &new, RegisteredBy::Http, None).await?;
        same("another seed", &written, &Written::Yes)?;
        same("the device after it", &store.get(key).await?.as_ref(), &Some(&new))?;
        held = new;
    }
    store.remove(key).await?;
    Ok(())
}

async fn a_device_that_was_never_active_gets_another_seed_by_one_write(
    store: &impl DeviceInventory,
    key: &DeviceKey,
) -> Outcome {
    let held = Device {
        status: Status::ActivationRequired,
        ..device(6)?
    };
    let (early, late) = (Timestamp::from_secs(THEN + 1), Timestamp::from_secs(THEN + 2));
    let unfinished = Registration {
        activate_by: Some(early),
        ..registration()
    };
    store.register(key, &held, &unfinished).await?;
    store.set_pending_seed(key, &held, &pending()?).await?;
    let held = next(&held, &held.seed_ref);
    let new = next(&held, &other_seed()?);
    let stale = Device {
        version: held.version - 1,
        ..held.clone()
    };
    let by = RegisteredBy::Http;
    same(
        "another seed on what is not held any more",
        &store.reseed(key, &stale, &new, by, Some(late)).await?,
        &refused(&held),
    )?;
    for what in ["another seed", "the same again, as after a lost response"] {
        let written = store.reseed(key, &held, &new, by, Some(late)).await?;
        same(what, &written, &Written::Yes)?;
    }
    let record = DeviceRecord {
        key: key.clone(),
        device: new.clone(),
        pending: None,
        created_at: created(),
        by,
        activate_by: Some(late),
        last_used_at: None,
    };
    same(
        "the record after it",
        &store.record(key).await?.as_ref(),
        &Some(&record),
    )?;
    let active = Device {
        status: Status::Active,
        ..next(&new, &new.seed_ref)
    };
    same(
        "its activation",
        &store.replace(key, &new, &active, Some(late)).await?,
        &Written::Yes,
    )?;
    let record = store
        .record(key)
        .await?
        .ok_or("a device that was activated is not there")?;
    same("what is left to activate", &record.activate_by, &None)?;
    Ok(())
}

async fn a_removal_by_seed_needs_the_seed_alone(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let record = store.record(key).await?.ok_or("no device to remove")?;
    let (seed, boxed) = (record.device.seed_ref.clone(), |record: &DeviceRecord| {
        Box::new(record.clone())
    });
    same(
        "a removal by another seed",
        &store.remove_seeded(key, &pending()?.seed_ref).await?,
        &Removed::No(Some(boxed(&record))),
    )?;
    let disabled = DeviceRecord {
        device: Device {
            status: Status::Disabled,
            ..next(&record.device, &seed)
        },
        ..record.clone()
    };
    store.replace(key, &record.device, &disabled.device, None).await?;
    same(
        "a removal of a disabled device",
        &store.remove_seeded(key, &seed).await?,
        &Removed::No(Some(boxed(&disabled))),
    )?;
    let enabled = DeviceRecord {
        device: Device {
            status: Status::Active,
            ..next(&disabled.device, &seed)
        },
        ..record.clone()
    };
    store.replace(key, &disabled.device, &enabled.device, None).await?;
    same(
        "a removal",
        &store.remove_seeded(key, &seed).await?,
        &Removed::Yes(boxed(&enabled)),
    )?;
    same("it again", &store.remove_seeded(key, &seed).await?, &Removed::No(None))?;
    Ok(())
}

/// What every [`ActivationStore`] must do.
///
/// # Errors
/// A text that says which promise was broken, or the store's own error.
pub async fn activation_store_contract(store: &impl ActivationStore) -> Outcome {
    let activation = |number: u8, key: DeviceKey, parameters| -> Result<Activation, NameError> {
        Ok(Activation {
            id: auth_id(number),
            key,
            seed: NewSeed {
                seed_ref: other_seed()?,
                parameters,
            },
            issued_at: Timestamp::from_secs(THEN),
            expires_at: Timestamp::from_secs(THEN + 600),
        })
    };
    same(
        "an activation that was never stored",
        &store.get(auth_id(1)).await?,
        &None,
    )?;
    for (number, (key, parameters)) in (10..).zip(
        confusable_keys()?
            .into_iter()
            .zip(every_parameters().collect::<Vec<_>>().into_iter().cycle()),
    ) {
        let stored = activation(number, key, parameters)?;
        for what in ["an activation", "the same again, as after a lost response"] {
            same(what, &store.create(&stored).await?, &Stored::Yes)?;
        }
        same("an activation", &store.get(stored.id).await?.as_ref(), &Some(&stored))?;
        let other = Activation {
            issued_at: Timestamp::from_secs(THEN + 1),
            ..stored.clone()
        };
        same(
            "one with an id that is taken",
            &store.create(&other).await?,
            &Stored::Taken,
        )?;
    }
    Ok(())
}

/// Every device, page by page.
async fn listed(
    store: &impl DeviceInventory,
    filter: &DeviceFilter,
    most: u16,
) -> Result<Vec<DeviceKey>, Box<dyn Error + Send + Sync>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(filter, after.as_ref(), most).await?;
        ensure(
            page.records.len() <= usize::from(most),
            "no page is longer than was asked for",
        )?;
        for record in page.records {
            all.push(record?.key);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

async fn pages_have_every_device_once(store: &impl DeviceInventory) -> Outcome {
    // A stack may have devices of its own.
    let before = listed(store, &DeviceFilter::All, 1_000).await?.len();
    let mut keys = confusable_keys()?;
    for number in 0..7 {
        keys.push(key("shop", "alice", &format!("phone {number}"))?);
    }
    for (number, key) in (1..).zip(&keys) {
        same(
            "a new device",
            &store.register(key, &device(number)?, &registration()).await?,
            &Stored::Yes,
        )?;
    }
    let (shop, alice) = (Owner::parse("shop")?, UserName::parse("alice")?);
    for (filter, most) in [
        (DeviceFilter::All, 1),
        (DeviceFilter::All, 7),
        (DeviceFilter::All, 1_000),
        (DeviceFilter::Owner(shop.clone()), 3),
        (DeviceFilter::Owner(shop.clone()), 1_000),
        (DeviceFilter::User(shop.clone(), alice.clone()), 1),
        (DeviceFilter::User(shop.clone(), alice.clone()), 4),
        (DeviceFilter::User(shop.clone(), UserName::parse("stranger")?), 4),
        (DeviceFilter::Owner(Owner::parse("sh")?), 4),
    ] {
        let expected = keys.iter().filter(|key| match &filter {
            DeviceFilter::All => true,
            DeviceFilter::Owner(client) => key.owner == *client,
            DeviceFilter::User(client, user) => key.owner == *client && key.user == *user,
        });
        let others = if filter == DeviceFilter::All { before } else { 0 };
        let mut found = listed(store, &filter, most).await?;
        let all = expected.clone().count() + others;
        same("how many devices are on the pages", &found.len(), &all)?;
        for key in expected {
            found.retain(|found| found != key);
        }
        same("those that were not asked for", &found.len(), &others)?;
    }
    for key in &keys {
        store.remove(key).await?;
    }
    let left = listed(store, &DeviceFilter::All, 7).await?.len();
    same("devices that are left", &left, &before)?;
    Ok(())
}

async fn a_removed_device_is_gone(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let former = current(store, key).await?;
    let new = Device {
        version: former.version + 1,
        ..former.clone()
    };
    let removed = store.remove(key).await?.map(|record| (record.key, record.device));
    same("what was removed", &removed, &Some((key.clone(), former.clone())))?;
    same("a removed device", &store.get(key).await?, &None)?;
    same(
        "a write of a removed device",
        &store.replace(key, &former, &new, None).await?,
        &Written::No(None),
    )?;
    store.remove(key).await?;
    // Its successor has another seed, and were it by chance of the same version, that alone keeps its writes out.
    let successor = Device {
        version: former.version,
        ..device(77)?
    };
    same(
        "its successor",
        &store.register(key, &successor, &registration()).await?,
        &Stored::Yes,
    )?;
    let written = store.replace(key, &former, &new, None).await?;
    same(
        "a write of the former device",
        &written,
        &Written::No(Some(Box::new(successor.clone()))),
    )?;
    same("the successor after it", &store.get(key).await?, &Some(successor))?;
    store.remove(key).await?;
    Ok(())
}

async fn a_device_is_removed_only_as_the_one_that_was_held(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let held = device(78)?;
    same(
        "a removal of no device",
        &store.remove_held(key, &held).await?,
        &Written::No(None),
    )?;
    store.register(key, &held, &registration()).await?;
    for other in [
        Device {
            version: held.version + 1,
            ..held.clone()
        },
        Device {
            seed_ref: device(79)?.seed_ref,
            ..held.clone()
        },
    ] {
        let removed = store.remove_held(key, &other).await?;
        let stays = Written::No(Some(Box::new(held.clone())));
        same("a removal of what is another device by now", &removed, &stays)?;
        same("that device", &store.get(key).await?, &Some(held.clone()))?;
    }
    same("a removal", &store.remove_held(key, &held).await?, &Written::Yes)?;
    same("a device that was removed", &store.get(key).await?, &None)?;
    // Its own repeated write.
    same(
        "a second removal",
        &store.remove_held(key, &held).await?,
        &Written::No(None),
    )?;
    Ok(())
}

async fn exactly_one_of_racing_registrations_gets_the_name(store: &impl DeviceInventory, key: &DeviceKey) -> Outcome {
    let racing = (1..=u64::from(RACERS)).map(device).collect::<Result<Vec<_>, _>>()?;
    let new = registration();
    let stored = join_all(racing.iter().map(|device| store.register(key, device, &new))).await;
    let winner = only_winner(racing, stored, |_, stored| *stored == Stored::Yes)?;
    same("the device that won the name", &store.get(key).await?, &Some(winner))?;
    store.remove(key).await?;
    Ok(())
}

async fn names_are_kept_apart(store: &impl DeviceInventory) -> Outcome {
    let keys = confusable_keys()?;
    let devices = (1..)
        .zip(&keys)
        .map(|(number, _)| device(number))
        .collect::<Result<Vec<_>, _>>()?;
    for (key, device) in keys.iter().zip(&devices) {
        same(
            "a device by a confusable name",
            &store.register(key, device, &registration()).await?,
            &Stored::Yes,
        )?;
    }
    // Each is written once; were two names one device, one of them would meet the other's version.
    let policy = Policy::standard();
    for (key, device) in keys.iter().zip(&devices) {
        let written = store
            .replace(key, device, &device.unlocked(created(), &policy), None)
            .await?;
        same("a write by a confusable name", &written, &Written::Yes)?;
    }
    for (removed, (key, device)) in keys.iter().zip(&devices).enumerate() {
        let unlocked = device.unlocked(created(), &policy);
        same(
            "a device among confusable names",
            &store.get(key).await?,
            &Some(unlocked),
        )?;
        store.remove(key).await?;
        let mut left = 0;
        for key in &keys {
            left += usize::from(store.get(key).await?.is_some());
        }
        same("how many devices are left", &left, &(keys.len() - removed - 1))?;
    }
    let composed = key("shop", "Jos\u{e9}", "\u{fc}ber")?;
    let decomposed = key("shop", "Jose\u{301}", "u\u{308}ber")?;
    let device = device(1)?;
    same(
        "a device by a composed name",
        &store.register(&composed, &device, &registration()).await?,
        &Stored::Yes,
    )?;
    same(
        "it by its decomposed name",
        &store.get(&decomposed).await?,
        &Some(device),
    )?;
    store.remove(&decomposed).await?;
    same("it after it was removed by that", &store.get(&composed).await?, &None)?;
    Ok(())
}

/// What every [`SeedInventory`] must do, its `SeedStore` included.
///
/// # Errors
/// A text that says which promise was broken, or the store's own error.
pub async fn seed_store_contract(store: &impl SeedInventory) -> Outcome {
    seeds_come_back_as_they_were(store).await?;
    a_seed_name_is_used_once(store).await?;
    a_missing_seed_is_an_error(store).await?;
    a_seed_for_other_parameters_is_an_error(store).await?;
    seeds_are_listed_and_brought_back(store).await
}

/// What every [`KeyRingStore`] must do. It starts with any ring.
///
/// # Errors
/// A text that says which promise was broken, or the store's own error.
pub async fn key_ring_contract(store: &impl KeyRingStore) -> Outcome {
    let random = SequenceRandom::from_start(1);
    let first = store.read_key_ring().await?;
    same("what is read again", &store.read_key_ring().await?, &first)?;
    let mut earlier = first.clone();
    for _ in 0..3 {
        let Rotated::Yes(key) = store.rotate_key_ring(&earlier, &NewKey::generate(&random)?).await? else {
            return Err("a rotation of the ring that was read is refused".into());
        };
        let rotated = store.read_key_ring().await?;
        same("the key that seals", &rotated.current, &key)?;
        let others: Vec<_> = [earlier.current].into_iter().chain(earlier.previous.clone()).collect();
        same("the keys before it", &rotated.previous, &others)?;
        ensure(
            rotated.version != earlier.version && !others.contains(&key),
            "a rotation adds a key in a new version",
        )?;
        let stale = store.rotate_key_ring(&earlier, &NewKey::generate(&random)?).await?;
        same("a rotation of an earlier ring", &stale, &Rotated::No)?;
        same("the ring after it", &store.read_key_ring().await?, &rotated)?;
        let changed = store.key_ring_changed_at(&rotated).await?;
        ensure(
            changed.is_some_and(|changed| changed >= rotated.created_at),
            "a ring is changed when it becomes current, not before it is created",
        )?;
        let former = store.key_ring_changed_at(&earlier).await?;
        same("when an earlier ring was changed", &former, &None)?;
        earlier = rotated;
    }
    let keys = (0..RACERS).map(|_| NewKey::generate(&random));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let outcomes = join_all(keys.iter().map(|key| store.rotate_key_ring(&earlier, key))).await;
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    let won: Vec<_> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Rotated::Yes(_)))
        .collect();
    let ring = store.read_key_ring().await?;
    same(
        "the rotations of a race that took effect",
        &won,
        &vec![&Rotated::Yes(ring.current)],
    )?;
    let others: Vec<_> = [earlier.current].into_iter().chain(earlier.previous).collect();
    same("the keys before it", &ring.previous, &others)?;
    Ok(())
}

fn name(number: u8) -> String {
    seed_name(SEED_PREFIX, [number; 16])
}

fn holder(secret: &SecretVersion, parameters: OtpParameters) -> Result<Device, NameError> {
    Ok(Device {
        seed_ref: SeedRef::Secret(secret.clone()),
        parameters,
        ..device(1)?
    })
}

/// A seed in a secret is not bound to a device.
fn anyone() -> Result<DeviceKey, NameError> {
    key("contract", "anyone", "phone")
}

async fn read_secret(
    store: &impl SeedInventory,
    secret: &SecretVersion,
) -> Result<Option<Seed>, Box<dyn Error + Send + Sync>> {
    let seed_ref = SeedRef::Secret(secret.clone());
    Ok(store.read(&anyone()?, &seed_ref, None).await?)
}

fn same_seed(what: &str, got: &Seed, expected: &Seed) -> Result<(), String> {
    // The seeds themselves stay out of the text.
    let codes = |seed: &Seed| seed.code(Step(THEN / 30)).reveal().to_owned();
    let equal = got.to_base32() == expected.to_base32() && codes(got) == codes(expected);
    ensure(equal && got.parameters() == expected.parameters(), what)
}

async fn seeds_come_back_as_they_were(store: &impl SeedInventory) -> Outcome {
    let lengths = [10, 16, 20, 32, 33, 64, 128].into_iter().cycle();
    let mut stored = Vec::new();
    for (number, (parameters, length)) in (1..).zip(every_parameters().zip(lengths)) {
        let bytes: Vec<u8> = (0..length)
            .map(|position: u8| position.wrapping_mul(97) ^ number)
            .collect();
        let seed = Seed::from_bytes(&bytes, parameters)?;
        let seed_ref = store.create(&name(number), &seed).await?;
        same("the name of a seed", &seed_ref.name(), &name(number).as_str())?;
        stored.push((holder(&seed_ref, parameters)?, seed));
    }
    let anyone = anyone()?;
    for (device, seed) in &stored {
        let reads = join_all((0..RACERS).map(|_| store.get(&anyone, device))).await;
        for read in reads {
            same_seed("a seed that was stored is read as it was", read?.as_ref(), seed)?;
        }
        same_seed(
            "a seed is the same when it is read again",
            store.get(&anyone, device).await?.as_ref(),
            seed,
        )?;
    }
    Ok(())
}

async fn a_seed_name_is_used_once(store: &impl SeedInventory) -> Outcome {
    let parameters = OtpParameters::default();
    let (first, second) = (
        Seed::from_bytes(&[1; 20], parameters)?,
        Seed::from_bytes(&[2; 20], parameters)?,
    );
    let seed_ref = store.create(&name(101), &first).await?;
    ensure(
        store.create(&name(101), &second).await.is_err(),
        "a name that is taken is an error",
    )?;
    let read = store.get(&anyone()?, &holder(&seed_ref, parameters)?).await?;
    same_seed("the seed that was there first stays", read.as_ref(), &first)?;
    Ok(())
}

async fn a_missing_seed_is_an_error(store: &impl SeedInventory) -> Outcome {
    let parameters = OtpParameters::default();
    let unknown = SecretVersion::new(&name(102), "11111111-2222-4333-8444-555555555555")?;
    ensure(
        store.get(&anyone()?, &holder(&unknown, parameters)?).await.is_err(),
        "a seed that was never stored is an error",
    )?;
    store.remove(&unknown).await?;

    let seed_ref = store
        .create(&name(103), &Seed::from_bytes(&[3; 20], parameters)?)
        .await?;
    let other = SecretVersion::new(seed_ref.name(), "11111111-2222-4333-8444-555555555555")?;
    ensure(
        store.get(&anyone()?, &holder(&other, parameters)?).await.is_err(),
        "an unknown version of a seed is an error",
    )?;
    store.get(&anyone()?, &holder(&seed_ref, parameters)?).await?;

    // Never read before, so that it is in no memory.
    let removed = store
        .create(&name(104), &Seed::from_bytes(&[4; 20], parameters)?)
        .await?;
    store.remove(&removed).await?;
    ensure(
        store.get(&anyone()?, &holder(&removed, parameters)?).await.is_err(),
        "a removed seed is an error",
    )?;
    store.remove(&removed).await?;
    ensure(
        store.get(&anyone()?, &holder(&removed, parameters)?).await.is_err(),
        "a seed that was removed twice is an error",
    )?;
    ensure(
        read_secret(store, &removed).await?.is_none(),
        "a removed seed is not there",
    )?;
    store.purge(&removed).await?;
    ensure(
        read_secret(store, &removed).await?.is_none(),
        "a seed that was removed for good is not there",
    )?;
    ensure(
        read_secret(store, &unknown).await?.is_none(),
        "a seed that was never stored is not there",
    )?;
    ensure(
        read_secret(store, &other).await?.is_none(),
        "an unknown version of a seed is not there",
    )?;
    let of_sixty_seconds = OtpParameters {
        period: Period::Sixty,
        ..parameters
    };
    let seed = Seed::from_bytes(&[6; 20], of_sixty_seconds)?;
    let at_once = store.create(&name(106), &seed).await?;
    let read = read_secret(store, &at_once)
        .await?
        .ok_or("a seed that was stored is not there")?;
    same_seed("a seed is read with its own parameters", &read, &seed)?;
    store.purge(&at_once).await?;
    ensure(
        read_secret(store, &at_once).await?.is_none(),
        "a seed that was removed for good is not there",
    )?;
    store.purge(&at_once).await?;
    ensure(
        store.create(&name(106), &seed).await.is_ok(),
        "the name of a seed that was removed for good is free",
    )?;
    let kept = store.create(&name(107), &seed).await?;
    store.remove(&kept).await?;
    ensure(
        store.create(&name(107), &seed).await.is_err(),
        "the name of a seed that can be recovered is taken",
    )?;
    store.get(&anyone()?, &holder(&seed_ref, parameters)?).await?;
    Ok(())
}

async fn a_seed_for_other_parameters_is_an_error(store: &impl SeedInventory) -> Outcome {
    let parameters = OtpParameters::default();
    let seed_ref = store
        .create(&name(105), &Seed::from_bytes(&[5; 20], parameters)?)
        .await?;
    for read_before in [false, true] {
        for other in every_parameters().filter(|other| *other != parameters) {
            let read = store.get(&anyone()?, &holder(&seed_ref, other)?).await;
            ensure(
                read.is_err(),
                "a seed that is made for other parameters than its device's is an error",
            )?;
        }
        if !read_before {
            store.get(&anyone()?, &holder(&seed_ref, parameters)?).await?;
        }
    }
    Ok(())
}

async fn listed_seeds(store: &impl SeedInventory, prefix: &str) -> Result<Vec<SeedSummary>, StoreError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(prefix, after.as_deref()).await?;
        all.extend(page.seeds);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

async fn seeds_are_listed_and_brought_back(store: &impl SeedInventory) -> Outcome {
    // More than a page of any store: Secrets Manager has at most a hundred on one.
    const MANY: u8 = 120;
    let parameters = OtpParameters::default();
    let prefix = format!("{SEED_PREFIX}/seed/aa");
    let mut created = Vec::new();
    for number in 0..MANY {
        let mut bytes = [0xaa; 16];
        bytes[15] = number;
        let seed = Seed::from_bytes(&[number; 20], parameters)?;
        created.push(store.create(&seed_name(SEED_PREFIX, bytes), &seed).await?);
    }
    let [first, second, ..] = created.as_slice() else {
        return Err("there are no seeds".into());
    };
    store.remove(first).await?;
    store.purge(second).await?;
    let all = listed_seeds(store, &prefix).await?;
    let names = all.iter().map(|listed| listed.name.as_str());
    let expected = created.iter().filter(|seed| *seed != second);
    ensure(
        names.eq(expected.clone().map(SecretVersion::name)),
        "all seeds are listed once, but what is gone for good is not",
    )?;
    for (listed, seed) in all.iter().zip(expected) {
        same("whether a listed seed was removed", &listed.removed, &(seed == first))?;
        let version = seed.version().to_owned();
        same("the versions of a listed seed", &listed.versions, &vec![version])?;
        let described = store.describe(seed.name()).await?;
        same("a seed by its name", &described.as_ref(), &Some(listed))?;
    }
    same(
        "a prefix of none",
        &listed_seeds(store, &format!("{prefix}x")).await?,
        &Vec::new(),
    )?;
    same("a seed that is gone", &store.describe(second.name()).await?, &None)?;
    ensure(
        store.restore(second.name()).await.is_err(),
        "a seed that is gone for good cannot be brought back",
    )?;
    for _ in 0..2 {
        store.restore(first.name()).await?;
        let read = read_secret(store, first).await?;
        ensure(read.is_some(), "a seed that was brought back can be read")?;
    }
    for seed in &created {
        store.purge(seed).await?;
    }
    same("seeds that are left", &listed_seeds(store, &prefix).await?, &Vec::new())?;
    Ok(())
}
